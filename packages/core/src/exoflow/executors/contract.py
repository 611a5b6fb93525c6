"""The contract between the engine's driver and what runs a task's code.

An executor turns calls into reports. It makes outcomes durable itself, because it has them: the driver is told
where the bytes are, not given them. It knows nothing of workflows, recovery or retries, and may report late, or
twice: every report names its attempt, and the engine drops what is not current.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from exoflow.engine.events import AttemptEvent
from exoflow.stores.contract import ObjectStore
from exoflow.values import Codec, Value

__all__ = ["Call", "CallKind", "Executor", "Persistence", "Report", "Services"]


class Persistence(enum.Enum):
    """What an executor does with an outcome."""

    NONE = "none"
    """Report the value; store nothing."""

    BEFORE = "before"
    """Make it durable, then report it, with its payload (``sync``)."""

    AFTER = "after"
    """Take the snapshot, report the value, then make it durable and report `Persisted` (``async``).
    When the encoded value is small enough to lie in the record, report once, with the payload. A snapshot is a copy:
    whoever reads the value from now on may change it, arrays included, and what becomes durable does not change."""

    MEASURED = "measured"
    """As AFTER if storing promises to take less time than computing took (`Finished.worth_keeping`), else NONE (``auto``).
    A value that cannot be encoded is not worth keeping."""


class CallKind(enum.Enum):
    """What is being called."""

    TASK = "task"
    """The task's function: reports `Finished`, `Failed`, and `Persisted` or `CommitFailed`."""
    UNDO = "undo"
    """Its undo function: reports `Undone` or `UndoFailed`. The one input, if there is one, is its ``(args, kwargs)``."""
    RESOLVE = "resolve"
    """Its resolve function, called with the key: reports `Resolved` or `UndoFailed`. A value that it knows is treated as
    the task's own result would have been, and is durable when it is reported unless persistence is NONE."""


@attrs.define(eq=False)
class Call:
    """One attempt, complete: an executor needs nothing else to run it."""

    kind: CallKind
    attempt: str
    workflow_id: str
    task_id: str
    number: int
    """The incarnation as people count it, from 1."""
    key: str
    """The idempotency key."""
    task: Any
    """The `exoflow.tasks.task.Task`; its policy says isolation, resources, timeout, catch_exceptions."""
    args: tuple[Any, ...]
    """Template: `exoflow.graph.dag.fill` puts `inputs` where `Upstream` stands."""
    kwargs: dict[str, Any]
    inputs: Sequence[Value]
    persistence: Persistence
    blob_key: str
    """Where a large outcome goes: a key never used before."""


Report = Callable[[AttemptEvent], None]
"""Takes what became of a call, from any thread, in any order; returns at once."""


@attrs.frozen
class Services:
    """What an executor is given when it is opened."""

    store: ObjectStore
    codec: Codec
    report: Report
    lifeline: int | None = None
    """A descriptor to be left open in every process of this machine that runs calls: while it is open anywhere, nobody
    takes the controller's workflows over."""
    lend: Report | None = None
    """As `report`, for the last thing a worker thread does with a call. The driver may use the thread for what follows
    from the report, and start further calls from it, which saves waking another thread."""


class Executor(Protocol):
    """Runs calls. Its methods are called by one thread at a time, not always the same one."""

    name: str
    inline: bool
    """Whether `start` itself runs the call of a function, and has reported its end when it returns. Coroutines run
    elsewhere in any executor, and a large outcome under AFTER may be `Persisted` later."""

    def start(self, call: Call) -> None:
        """Run *call*, now or when there is room, and report.

        A returned `exoflow.graph.node.Node` (inside `exoflow.continuation` or bare) is compiled and reported as a
        continuation. An exception of the task, `SystemExit` included, is reported as `Failed`; the death of its
        process as `Failed(system=True)`, as is an input that cannot be read; a value that cannot be stored as
        `CommitFailed`, after `Finished`. Neither raises. Reported errors survive a pickle and end no process, see
        `exoflow.executors.portable`. Where values cannot travel without being encoded, one that cannot be is reported
        as `Failed`, unless its readers would have waited for its commit.

        A simulated crash is no outcome. It goes through `start` where the call runs in it; from other threads it is
        reported as it is, in `Failed(system=True, ended=False)`, `UndoFailed` or `CommitFailed`, for the driver to raise.
        """
        ...

    def stop(self, attempt: str) -> None:
        """Stop an attempt if that is possible, and report `Ended` once nothing of it runs any more.

        An attempt that has not begun is dropped. A coroutine is cancelled; a process is killed; a thread goes on, and its
        end is reported when it comes. Its outcome is not reported any more, and nothing is after `Ended`. Every call is
        answered, also for an attempt that has ended long ago, and perhaps before it returns.
        """
        ...

    def close(self) -> None:
        """Stop what can be stopped, wait for nothing that cannot, and let go of threads and processes.

        Nothing is reported any more. Closing twice is harmless.
        """
        ...
