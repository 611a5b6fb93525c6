"""DBOS Transact, measured with the same work. Run by an interpreter that has it, which needs nothing of ours.

The ways to run many workflows at once are those of its documentation; the fastest of them counts.
"""

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from benchmarks.core.workers import serve
from dbos import DBOS  # type: ignore[import-not-found, unused-ignore] # of the peer's environment alone


@DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
def step(number: int) -> int:
    return number + 1


@DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
def chained(length: int) -> int:
    number = 0
    for _ in range(length):
        number = step(number)
    return number


@DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
def single(number: int) -> int:
    result: int = step(number)
    return result


@DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
async def step_async(number: int) -> int:
    return number + 1


@DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
async def single_async(number: int) -> int:
    result: int = await step_async(number)
    return result


def launch(url: str, journal_mode: str | None = None) -> dict[str, Any]:
    """Open a database.

    Args:
        url: Of SQLAlchemy.
        journal_mode: Of SQLite, set before DBOS sees the file, in which it persists; as DBOS leaves it when None.

    Returns:
        What decides when a commit is durable.
    """
    if journal_mode is not None:
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
        connection.close()
    DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR", "enable_otlp": False})
    DBOS.launch()
    assert single(6) == 7
    return {"version": version("dbos"), "sqlite": sqlite3.sqlite_version, "settings": _settings(url)}


def _settings(url: str) -> dict[str, Any]:
    if not url.startswith("sqlite"):
        return {}
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))  # as DBOS opens its own: it sets neither of these
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    }  # fmt: skip
    connection.close()
    return found


def chain(length: int) -> dict[str, float]:
    """One workflow of many steps, one after the other."""
    begun = time.perf_counter()
    assert chained(length) == length
    return {"seconds": time.perf_counter() - begun}


def one_by_one(count: int) -> dict[str, float]:
    """Workflows of one step, each started when the one before has ended."""
    begun = time.perf_counter()
    for number in range(count):
        assert single(number) == number + 1
    return {"seconds": time.perf_counter() - begun}


def at_once(count: int, how: str) -> dict[str, float]:
    """Workflows of one step, all started together.

    Args:
        count: How many.
        how: ``start_workflow`` and then each result; ``gather`` coroutines; or *n* ``threads``, each at one after the other.
    """
    begun = time.perf_counter()
    if how == "start_workflow":
        handles = [DBOS.start_workflow(single, number) for number in range(count)]
        results = [handle.get_result() for handle in handles]
    elif how == "gather":

        async def gather() -> list[int]:
            return list(await asyncio.gather(*[single_async(number) for number in range(count)]))

        results = asyncio.run(gather())
    else:
        with ThreadPoolExecutor(int(how.split()[0])) as pool:
            results = list(pool.map(single, range(count)))
    assert results == [*range(1, count + 1)]
    return {"seconds": time.perf_counter() - begun}


if __name__ == "__main__":
    serve({"launch": launch, "chain": chain, "one_by_one": one_by_one, "at_once": at_once})
    DBOS.destroy()
