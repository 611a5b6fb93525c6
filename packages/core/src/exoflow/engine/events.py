"""What the engine is told, and what it asks for.

Events go into `WorkflowState.handle`; commands come out. Every event of an attempt names it: one for an attempt that is
not current is dropped by the machine, so no executor and no driver needs to know which answers are late.
Values and payloads pass through unseen.
"""

from typing import Any, TypeAlias

import attrs

from exoflow.graph.dag import Dag
from exoflow.values import Live, Payload

__all__ = [
    "Answer",
    "Arm",
    "Armed",
    "AttemptEvent",
    "Cancelled",
    "Command",
    "Commit",
    "CommitFailed",
    "Committed",
    "Discard",
    "Ended",
    "Event",
    "Failed",
    "Finished",
    "Fired",
    "Listen",
    "Persist",
    "Persisted",
    "Received",
    "Resolve",
    "Resolved",
    "Run",
    "Stop",
    "Undo",
    "UndoFailed",
    "Undone",
]

# --- events -------------------------------------------------------------------------------------------------------


@attrs.define
class Finished:
    """An attempt returned.

    `value` is what it returned (None for a continuation). `payload` is the same made durable, when the executor has
    done that already; an attempt under ``async`` may report it later, as `Persisted`.
    """

    attempt: str
    value: Live | Payload | None
    payload: Payload | None = None
    continuation: Dag | None = None
    seconds: float = 0.0
    worth_keeping: bool = True
    """For ``auto``: storing the value took less time than computing it."""


@attrs.define
class Failed:
    """An attempt raised, or was lost.

    `system`: its process died, not the task's own fault. `ended`: nothing of it runs any more; False for a thread past
    its timeout, which an `Ended` follows if it can ever be known.
    """

    attempt: str
    error: BaseException
    system: bool = False
    ended: bool = True
    seconds: float = 0.0


@attrs.define
class Ended:
    """An attempt that was stopped or abandoned runs no more."""

    attempt: str


@attrs.define
class Persisted:
    """The outcome of an attempt is durable in the store; no record names it yet."""

    attempt: str
    payload: Payload


@attrs.define
class CommitFailed:
    """The outcome of an attempt cannot be made durable, for good."""

    attempt: str
    error: BaseException


@attrs.define
class Committed:
    """The first *count* commands of kind `Commit` since the last such event are durable."""

    count: int = 1


@attrs.define
class Undone:
    """The undo of an attempt returned."""

    attempt: str


@attrs.define
class UndoFailed:
    """The undo or resolve of an attempt raised."""

    attempt: str
    error: BaseException


@attrs.define
class Resolved:
    """What ``resolve`` said of an attempt of a ``once`` task.

    `happened` is True with a `value`, False, or None when it does not know either.
    """

    attempt: str
    happened: bool | None
    value: Live | Payload | None = None
    payload: Payload | None = None


@attrs.define
class Armed:
    """A timer's deadline has been chosen: seconds since the epoch, UTC."""

    attempt: str
    deadline: float


@attrs.define
class Fired:
    """A timer's moment has come."""

    attempt: str


@attrs.define
class Received:
    """A message for a waiting node; `key` is the object to delete once the record is durable."""

    attempt: str
    key: str
    payload: Payload


@attrs.define
class Cancelled:
    """Somebody asked for the workflow to end."""

    key: str | None = None


Event: TypeAlias = (
    Finished
    | Failed
    | Ended
    | Persisted
    | CommitFailed
    | Committed
    | Undone
    | UndoFailed
    | Resolved
    | Armed
    | Fired
    | Received
    | Cancelled
)
AttemptEvent: TypeAlias = Finished | Failed | Ended | Persisted | CommitFailed | Undone | UndoFailed | Resolved
"""What an executor reports."""

# --- commands -----------------------------------------------------------------------------------------------------


@attrs.define
class Run:
    """Start an attempt of a task on the values its dependencies hold."""

    node: Any
    attempt: str


@attrs.define
class Commit:
    """Append a record; answered by `Committed`."""

    record: Any


@attrs.define
class Persist:
    """Make the held value of an incarnation durable; answered by `Persisted` or `CommitFailed`."""

    node: Any
    attempt: str


@attrs.define
class Undo:
    """Call the undo function of an attempt, with what its intent recorded."""

    node: Any
    attempt: str
    payload: Payload | None


@attrs.define
class Resolve:
    """Ask what became of an attempt."""

    node: Any
    attempt: str
    key: str


@attrs.define
class Discard:
    """Delete a message; the record that took it is durable."""

    key: str


@attrs.define
class Stop:
    """Stop an attempt if that is possible; answered by `Ended` or `Failed`."""

    attempt: str


@attrs.define
class Arm:
    """Report `Fired` at a moment.

    That is *delay_s* from now (a retry, with jitter), or *deadline*; or, when neither is given, as the node's arguments
    say, after answering `Armed`.
    """

    attempt: str
    delay_s: float | None = None
    jitter: float = 0.0
    deadline: float | None = None
    node: Any = None


@attrs.define
class Listen:
    """Report the first unclaimed message of the event this node waits for, as `Received`.

    Where the node has a timeout, first report `Armed` (unless the *deadline* is known already), then `Fired` in time.
    """

    node: Any
    attempt: str
    deadline: float | None = None


@attrs.define
class Answer:
    """Tell whoever waits how the workflow ended. Durable already."""

    status: str
    node: Any = None
    error: BaseException | None = None


Command: TypeAlias = Run | Commit | Persist | Undo | Resolve | Discard | Stop | Arm | Listen | Answer
