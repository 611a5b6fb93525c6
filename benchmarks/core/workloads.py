"""The tasks that are measured: as small as a task can be, so that what remains is the engine.

They lie in a module of their own because tasks of ``__main__`` are stored by value, which is slower.
"""

import os
import time
from pathlib import Path
from typing import Any

import exoflow

__all__ = ["PRODUCERS", "STEPS", "chain", "consume", "count_down", "one", "peak_rss_bytes", "seen", "wide"]


class _Seen:
    """What tasks leave behind for the process they ran in; times are of `time.perf_counter`."""

    started: float | None = None
    ran = 0
    address = 0
    produced = 0.0
    consumed = 0.0


seen = _Seen()


@exoflow.task
def step_sync(number: int) -> int:
    return number + 1


@exoflow.task(effects="none", deterministic=True, checkpoint="async")
def step_async(number: int) -> int:
    return number + 1


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def step_skip(number: int) -> int:
    return number + 1


@exoflow.task(effects="none", checkpoint="async")
def step_async_random(number: int) -> int:
    return number + 1


@exoflow.task(effects="none", checkpoint="skip")
def step_skip_random(number: int) -> int:
    return number + 1


STEPS = {
    "sync": step_sync,
    "async": step_async,
    "skip": step_skip,
    "async, nondeterministic": step_async_random,
    "skip, nondeterministic": step_skip_random,
}


def chain(step: exoflow.Task[Any, Any], length: int) -> exoflow.Node:
    """Bind a chain of *length* calls, whose result is its length."""
    node: Any = 0
    for _ in range(length):
        node = step.bind(node)
    assert isinstance(node, exoflow.Node)
    return node


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def count_down(number: int) -> exoflow.Node | int:
    """Return another call of itself instead of a value, until nothing is left."""
    return exoflow.continuation(count_down.bind(number - 1)) if number else 0


@exoflow.task
def one(number: int) -> int:
    return number


@exoflow.task
def leaf(number: int) -> int:
    if seen.started is None:
        seen.started = time.perf_counter()
    seen.ran += 1
    return number


@exoflow.task
def leaf_that_tells(number: int, marker: str) -> int:
    Path(marker).touch()
    return number


@exoflow.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


def wide(width: int, marker: str | None = None) -> exoflow.Node:
    """Bind *width* calls that know nothing of each other, and one that adds them up.

    Args:
        width: How many.
        marker: A file that the one in the middle makes.
    """
    leaves = [leaf.bind(number) for number in range(width)]
    if marker is not None:
        leaves[width // 2] = leaf_that_tells.bind(width // 2, marker)
    return total.bind(leaves)


def _array(size_bytes: int) -> Any:
    import numpy as np

    array = np.arange(size_bytes // 8, dtype=np.float64)
    seen.address = array.ctypes.data
    seen.produced = time.perf_counter()
    return array


@exoflow.task(effects="none", checkpoint="sync")
def produce_sync(size_bytes: int) -> Any:
    return _array(size_bytes)


@exoflow.task(effects="none", checkpoint="skip")
def produce_skip(size_bytes: int) -> Any:
    return _array(size_bytes)


PRODUCERS = {"sync": produce_sync, "skip": produce_skip}


@exoflow.task(effects="none", checkpoint="skip")
def consume(array: Any) -> tuple[bool, float]:
    """Return whether the array is the very one that was produced, and something of its contents."""
    seen.consumed = time.perf_counter()
    return array.ctypes.data == seen.address, float(array[-1])


def peak_rss_bytes() -> int:
    """Return the most memory this process has had resident; unlike ``ru_maxrss``, nothing of whoever started it."""
    for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell the peak of a process' memory")
