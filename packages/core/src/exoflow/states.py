"""What can be told of a workflow without running it."""

from enum import StrEnum
from typing import Any

import attrs

__all__ = ["TaskInfo", "TaskState", "WorkflowDetail", "WorkflowInfo", "WorkflowStatus"]


class WorkflowStatus(StrEnum):
    """Where a workflow stands."""

    RUNNING = "running"
    """A live controller has it."""
    RESUMABLE = "resumable"
    """Its controller is gone; `exoflow.resume` goes on."""
    NEEDS_ATTENTION = "needs_attention"
    """A person must say what became of an effect: `exoflow.settle`, then resume."""
    ROLLING_BACK = "rolling_back"
    """It failed or was cancelled, and not every undo is recorded yet; resuming goes on with them."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will run any more."""
        return self in (WorkflowStatus.SUCCEEDED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)


class TaskState(StrEnum):
    """Where a task stands, as far as the journal knows."""

    WAITING = "waiting"
    """Nothing is recorded of it; it may be running."""
    STARTED = "started"
    """An intent is recorded, no end."""
    RECORDED = "recorded"
    """It ran, but its value was not kept."""
    UNRECORDED = "unrecorded"
    """It ran, and the workflow has succeeded; no record of it was needed."""
    COMMITTED = "committed"
    FAILED = "failed"
    UNDONE = "undone"
    CONTINUED = "continued"
    """It returned a continuation."""


@attrs.frozen(kw_only=True)
class WorkflowInfo:
    """One line of `exoflow list`. Times are seconds since the epoch, UTC."""

    workflow_id: str
    name: str
    status: WorkflowStatus
    created_at: float
    ended_at: float | None = None
    metadata: dict[str, Any] = attrs.field(factory=dict)
    problem: str | None = None
    """Why it failed or needs attention."""


@attrs.frozen(kw_only=True)
class TaskInfo:
    """One task of `exoflow show`."""

    task_id: str
    state: TaskState
    depends_on: tuple[str, ...] = ()
    effects: str = "none"
    checkpoint: str = "sync"
    number: int = 0
    """How many incarnations are known; 0 before the first."""
    ended_at: float | None = None
    seconds: float | None = None
    stored_bytes: int | None = None
    parent: str | None = None
    """The task whose continuation made this one."""


@attrs.frozen(kw_only=True)
class WorkflowDetail:
    """A workflow with its tasks in topological order."""

    info: WorkflowInfo
    tasks: tuple[TaskInfo, ...]
