"""What `import exoflow` offers as functions: each does what the method of `Engine` of that name does.

They share one engine for each combination of storage and executor, opened when first asked for and closed with the process.
The engine itself is imported with the first of them: a module that only declares tasks, and every worker process
that only runs them, pays for neither the journal nor an event loop.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exoflow.api.engine import Engine
    from exoflow.api.handle import Handle
    from exoflow.graph.node import Node
    from exoflow.journal.garbage import GarbageReport
    from exoflow.states import WorkflowDetail, WorkflowInfo, WorkflowStatus

__all__ = [
    "cancel", "delete", "engine", "fork", "gc", "list", "result", "resume", "resume_all", "run", "send_event",
    "settle", "show", "start", "start_many", "status",
]  # fmt: skip

_engines: dict[tuple[str, str], Engine] = {}
"""By the URL of the store, which is absolute, and the name of the executor."""
_asked: dict[tuple[str, str, str], Engine] = {}
"""The same by how they were asked for, and in which folder."""
_lock = threading.Lock()


def engine(storage: str | os.PathLike[str] | None = None, executor: str = "thread") -> Engine:
    """Return the engine the functions of this module use.

    Args:
        storage: A URL or a path; ``EXOFLOW_STORAGE`` when None, and without that ``memory://``.
        executor: The name of an executor.
    """
    from exoflow.api.engine import Engine

    url = os.fspath(storage) if storage is not None else os.environ.get("EXOFLOW_STORAGE") or "memory://"
    # What is relative is so to the folder that is current now. Storages in memory are in none.
    where = "" if url.startswith("memory:") else os.getcwd()  # noqa: PTH109
    with _lock:
        found = _asked.get((url, executor, where))
        if found is None:
            made = Engine(url, executor)
            found = _asked[url, executor, where] = _engines.setdefault((made.store.url, executor), made)
            if found is not made:
                made.close()
        return found


def _forget_engines() -> None:
    """A forked child has none of the threads that its parent's engines live by: it opens engines of its own."""
    global _lock
    _lock = threading.Lock()
    _engines.clear()
    _asked.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_engines)


@atexit.register
def _close_engines() -> None:
    with _lock:
        engines = [*_engines.values()]
        _engines.clear()
        _asked.clear()
    for one in engines:
        one.close()


def run(
    node: Node,
    *,
    workflow_id: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    executor: str = "thread",
) -> Any:
    """Run a workflow and return its result; see `Engine.run`."""
    return engine(storage, executor).run(node, workflow_id=workflow_id, inputs=inputs, metadata=metadata, name=name)


def start(
    node: Node,
    *,
    workflow_id: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    executor: str = "thread",
) -> Handle:
    """Start a workflow and return its handle; see `Engine.start`."""
    return engine(storage, executor).start(node, workflow_id=workflow_id, inputs=inputs, metadata=metadata, name=name)


def start_many(
    nodes: Iterable[Node],
    *,
    metadata: Mapping[str, Any] | None = None,
    name: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    executor: str = "thread",
) -> list_[Handle]:
    """Start many workflows together; see `Engine.start_many`."""
    return engine(storage, executor).start_many(nodes, metadata=metadata, name=name)


def resume(
    workflow_id: str,
    *,
    accept_code_change: bool = False,
    storage: str | os.PathLike[str] | None = None,
    executor: str = "thread",
) -> Handle:
    """Go on with a workflow; see `Engine.resume`."""
    return engine(storage, executor).resume(workflow_id, accept_code_change=accept_code_change)


def resume_all(*, storage: str | os.PathLike[str] | None = None, executor: str = "thread") -> list_[Handle]:
    """Go on with every workflow that can be resumed; see `Engine.resume_all`."""
    return engine(storage, executor).resume_all()


def result(workflow_id: str, timeout_s: float | None = None, *, storage: str | os.PathLike[str] | None = None) -> Any:
    """Return the result of a workflow; see `Engine.result`."""
    return engine(storage).result(workflow_id, timeout_s)


def status(workflow_id: str, *, storage: str | os.PathLike[str] | None = None) -> WorkflowStatus:
    """Return where a workflow stands; see `Engine.status`."""
    return engine(storage).status(workflow_id)


def show(workflow_id: str, *, storage: str | os.PathLike[str] | None = None) -> WorkflowDetail:
    """Return a workflow with its tasks; see `Engine.show`."""
    return engine(storage).show(workflow_id)


def cancel(workflow_id: str, *, storage: str | os.PathLike[str] | None = None) -> None:
    """Ask for a workflow to end; see `Engine.cancel`."""
    engine(storage).cancel(workflow_id)


def delete(workflow_id: str, *, storage: str | os.PathLike[str] | None = None) -> None:
    """Remove a workflow that has ended; see `Engine.delete`."""
    engine(storage).delete(workflow_id)


def fork(
    workflow_id: str,
    from_task: str,
    *,
    new_id: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    executor: str = "thread",
) -> Handle:
    """Run a copy of a workflow from one of its tasks on; see `Engine.fork`."""
    return engine(storage, executor).fork(workflow_id, from_task, new_id=new_id)


def send_event(
    workflow_id: str,
    event: str,
    payload: Any = None,
    *,
    message_id: str | None = None,
    storage: str | os.PathLike[str] | None = None,
) -> None:
    """Send a message to a workflow; see `Engine.send_event`."""
    engine(storage).send_event(workflow_id, event, payload, message_id=message_id)


def settle(
    workflow_id: str,
    task_id: str,
    *,
    happened: bool,
    value: Any = None,
    storage: str | os.PathLike[str] | None = None,
) -> None:
    """Say what became of an effect; see `Engine.settle`."""
    engine(storage).settle(workflow_id, task_id, happened=happened, value=value)


def gc(*, older_than_s: float = 30 * 86400.0, storage: str | os.PathLike[str] | None = None) -> GarbageReport:
    """Remove what is finished and old; see `Engine.gc`."""
    return engine(storage).gc(older_than_s=older_than_s)


list_ = list


def list(  # noqa: A001 - the name users meet: exoflow.list()
    status: WorkflowStatus | str | None = None, *, storage: str | os.PathLike[str] | None = None
) -> list_[WorkflowInfo]:
    """Return every workflow the store knows; see `Engine.list`."""
    return engine(storage).list(status)
