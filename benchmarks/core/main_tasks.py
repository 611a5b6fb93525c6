"""A task of ``__main__``, which is stored by value, and the same task of a module, which is stored by name."""

import gc
import time

from benchmarks.core import workloads
from benchmarks.core.workers import serve

import exoflow


@exoflow.task
def one_of_main(number: int) -> int:
    return number


def at_once(folder: str, count: int, of_main: bool) -> dict[str, float]:
    """Workflows of one task, all started together."""
    task = one_of_main if of_main else workloads.one
    with exoflow.Engine(f"file://{folder}") as engine:
        engine.run(task.bind(7))
        gc.collect()
        begun = time.perf_counter()
        results = [handle.result() for handle in engine.start_many([task.bind(number) for number in range(count)])]
        ended = time.perf_counter()
    assert results == [*range(count)]
    return {"seconds": ended - begun}


if __name__ == "__main__":
    serve({"at_once": at_once})
