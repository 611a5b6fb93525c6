"""What the machine takes for what nobody can do without: the disk, the hop to another thread, the interpreter.

Every ratio is formed with these, measured in turn with what is compared, because machines are noisy.
"""

import asyncio
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from statistics import fmean, median
from threading import Thread
from typing import Any

from benchmarks.core.workers import ROOT

__all__ = ["HOPS", "describe", "fdatasync", "hop_asyncio", "hop_future", "hop_queue", "loop_speed", "start_of_python"]

_LINE = b"x" * 200


def fdatasync(path: Path, count: int) -> dict[str, float]:
    """Append 200 bytes and make them durable, *count* times; seconds for one."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    took = []
    try:
        for _ in range(count):
            begun = time.perf_counter()
            os.write(fd, _LINE)
            os.fdatasync(fd)
            took.append(time.perf_counter() - begun)
    finally:
        os.close(fd)
        path.unlink()
    return {"mean_s": fmean(took), "median_s": median(took), "worst_s": max(took)}


def hop_future(count: int) -> float:
    """``ThreadPoolExecutor.submit(f).result()``: seconds for one. What "a bare hop to a thread and back" means here."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        begun = time.perf_counter()
        for _ in range(count):
            pool.submit(int).result()
        return (time.perf_counter() - begun) / count


def hop_queue(count: int) -> float:
    """An item through one `SimpleQueue` to a thread, and back through another: seconds for both."""
    there: SimpleQueue[int | None] = SimpleQueue()
    back: SimpleQueue[int] = SimpleQueue()

    def work() -> None:
        while (item := there.get()) is not None:
            back.put(item)

    thread = Thread(target=work)
    thread.start()
    begun = time.perf_counter()
    for number in range(count):
        there.put(number)
        back.get()
    took = (time.perf_counter() - begun) / count
    there.put(None)
    thread.join()
    return took


def hop_asyncio(count: int) -> float:
    """``await loop.run_in_executor(pool, f)``: seconds for one."""

    async def hops() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, int)
            begun = time.perf_counter()
            for _ in range(count):
                await loop.run_in_executor(pool, int)
            return (time.perf_counter() - begun) / count

    return asyncio.run(hops())


HOPS: dict[str, Callable[[int], float]] = {
    "submit().result()": hop_future, "SimpleQueue there and back": hop_queue, "run_in_executor": hop_asyncio
}  # fmt: skip


def loop_speed(count: int = 1_000_000) -> float:
    """Seconds for *count* turns of an empty loop: how fast this machine is at this moment."""
    begun = time.perf_counter()
    for _ in range(count):
        pass
    return time.perf_counter() - begun


def start_of_python(env: dict[str, str], code: str) -> float:
    """Seconds from starting an interpreter to its end."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=ROOT)
    return time.perf_counter() - begun


def describe(folder: Path) -> dict[str, Any]:
    """Return what a figure is worthless without: machine, disk, versions, revision, command."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.core", *sys.argv[1:]]),
        "revision": _git("rev-parse", "HEAD"),
        "modified": sorted(line[3:] for line in _git("status", "--porcelain").splitlines()),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "load": os.getloadavg(),
        "file_system": _file_system(folder),
        "python": platform.python_version(),
        "versions": {
            name: _version(name) for name in ("exoflow-core", "exoflow-storage", "numpy", "attrs", "cloudpickle")
        },
    }


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.rstrip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _file_system(folder: Path) -> str:
    """Return type and device of the file system that holds *folder*."""
    best, found = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        device, point, kind, *_ = line.split()
        inside = f"{folder.resolve()}/".startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, f"{kind} on {device}"
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
