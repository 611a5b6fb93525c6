"""ExoFlow, measured: one function for each kind of work. Run as a process by `benchmarks.core.workers`.

Each function opens an engine in a folder of its own, runs one workflow to warm it up, and then times what a user would
write, from `bind` to the result. Results are checked.
"""

import gc
import time
from pathlib import Path
from typing import Any

from benchmarks.core import workloads
from benchmarks.core.workers import serve

import exoflow


def _engine(folder: str, executor: str) -> exoflow.Engine:
    engine = exoflow.Engine(f"file://{folder}", executor)
    assert engine.run(workloads.one.bind(7)) == 7
    gc.collect()
    return engine


def chain(folder: str, executor: str, mode: str, length: int) -> dict[str, float]:
    """A chain of tasks."""
    with _engine(folder, executor) as engine:
        busy, begun = time.process_time(), time.perf_counter()
        node = workloads.chain(workloads.STEPS[mode], length)
        bound = time.perf_counter()
        result = engine.run(node)
        ended = time.perf_counter()
        busy = time.process_time() - busy
    assert result == length, result
    return {"seconds": ended - begun, "bind_s": bound - begun, "cpu_s": busy}


def continuations(folder: str, executor: str, length: int) -> dict[str, float]:
    """A task that goes on as another one, again and again."""
    with _engine(folder, executor) as engine:
        begun = time.perf_counter()
        result = engine.run(workloads.count_down.bind(length))
        ended = time.perf_counter()
    assert result == 0, result
    return {"seconds": ended - begun, "peak_rss_bytes": workloads.peak_rss_bytes()}


def one_by_one(folder: str, executor: str, count: int) -> dict[str, float]:
    """Workflows of one task, each started when the one before has ended."""
    with _engine(folder, executor) as engine:
        begun = time.perf_counter()
        for number in range(count):
            assert engine.run(workloads.one.bind(number)) == number
        return {"seconds": time.perf_counter() - begun}


def at_once(folder: str, executor: str, count: int) -> dict[str, float]:
    """Workflows of one task, all started together."""
    with _engine(folder, executor) as engine:
        busy, begun = time.process_time(), time.perf_counter()
        handles = engine.start_many([workloads.one.bind(number) for number in range(count)])
        accepted = time.perf_counter()
        results = [handle.result() for handle in handles]
        ended = time.perf_counter()
        busy = time.process_time() - busy
    assert results == [*range(count)]
    return {"seconds": ended - begun, "accepted_s": accepted - begun, "cpu_s": busy}


def wide(folder: str, executor: str, width: int) -> dict[str, float]:
    """One workflow of many tasks side by side."""
    with _engine(folder, executor) as engine:
        busy, begun = time.process_time(), time.perf_counter()
        node = workloads.wide(width)
        bound = time.perf_counter()
        handle = engine.start(node)
        accepted = time.perf_counter()
        result = handle.result()
        ended = time.perf_counter()
        busy = time.process_time() - busy
    assert result == width * (width - 1) // 2
    return {
        "seconds": ended - begun, "bind_s": bound - begun, "start_s": accepted - bound, "cpu_s": busy,
        "peak_rss_bytes": workloads.peak_rss_bytes(),
    }  # fmt: skip


def wide_to_be_killed(folder: str, executor: str, width: int, workflow_id: str, marker: str) -> None:
    """The same; whoever asked kills this process when *marker* is there."""
    exoflow.Engine(f"file://{folder}", executor).run(workloads.wide(width, marker), workflow_id=workflow_id)


def resume(folder: str, executor: str, width: int, workflow_id: str) -> dict[str, float]:
    """Go on after that."""
    with exoflow.Engine(f"file://{folder}", executor) as engine:
        begun = time.perf_counter()
        handle = engine.resume(workflow_id)
        result = handle.result()
        ended = time.perf_counter()
    assert result == width * (width - 1) // 2
    first = workloads.seen.started
    assert first is not None
    return {
        "seconds": ended - begun, "first_task_s": first - begun, "ran": workloads.seen.ran,
        "peak_rss_bytes": workloads.peak_rss_bytes(),
    }  # fmt: skip


def array(folder: str, executor: str, mode: str, size_bytes: int) -> dict[str, Any]:
    """A NumPy array from one task to the next."""
    import numpy as np

    assert np.arange(1).size  # numpy's own memory is not the array's
    with _engine(folder, executor) as engine:
        before = workloads.peak_rss_bytes()
        same, last = engine.run(workloads.consume.bind(workloads.PRODUCERS[mode].bind(size_bytes)))
    assert last == size_bytes // 8 - 1
    return {
        "seconds": workloads.seen.consumed - workloads.seen.produced, "same": same,
        "peak_rss_bytes": workloads.peak_rss_bytes(), "rss_before_bytes": before,
    }  # fmt: skip


def bare_write(path: str, size_bytes: int) -> dict[str, float]:
    """What the disk takes for the same array: write and fsync, nothing else."""
    import os

    import numpy as np

    view = np.arange(size_bytes // 8, dtype=np.float64).data.cast("B")
    begun = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    position = 0
    while position < size_bytes:
        position += os.write(fd, view[position:])
    os.fsync(fd)
    ended = time.perf_counter()
    os.close(fd)
    Path(path).unlink()
    return {"seconds": ended - begun}


if __name__ == "__main__":
    serve(
        {
            function.__name__: function
            for function in (
                chain,
                continuations,
                one_by_one,
                at_once,
                wide,
                wide_to_be_killed,
                resume,
                array,
                bare_write,
            )
        }
    )
