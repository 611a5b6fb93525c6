"""What this distribution tells the plugin manager. It imports nothing else before somebody asks for it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from exoflow.plugins import hookimpl

if TYPE_CHECKING:
    from exoflow.executors.contract import Executor, Services
    from exoflow.plugins.hookspecs import ExecutorFactory, StoreOpener
    from exoflow.stores.contract import ObjectStore


@hookimpl
def exoflow_object_stores() -> "Mapping[str, StoreOpener]":
    """``sqlite://``: everything in one file."""
    return {"sqlite": open_sqlite}


@hookimpl
def exoflow_executors() -> "Mapping[str, ExecutorFactory]":
    """``tagged``: threads, and at most so many at once for each tag."""
    return {"tagged": make_tagged}


def open_sqlite(url: str) -> "ObjectStore":
    """Open ``sqlite:///absolute/path.db`` or ``sqlite://./relative/path.db``."""
    from exoflow_example.sqlite_store import SqliteStore

    return SqliteStore.open(url)


def make_tagged(
    services: "Services", *, limits: Mapping[str, float] | None = None, max_workers: int | None = None
) -> "Executor":
    """Make an executor that runs at most ``limits[tag]`` (1 unless told) of the tasks with a tag at once."""
    from exoflow_example.tagged_executor import TaggedExecutor

    return TaggedExecutor(services, limits=limits or {}, workers=max_workers or 32)
