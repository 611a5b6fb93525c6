"""What observers are told: progress, logs, traces and metrics are made of it."""

from enum import StrEnum
from typing import Protocol

import attrs

__all__ = ["Happening", "Moment", "Observer"]


class Moment(StrEnum):
    """What happened to a workflow or a task."""

    WORKFLOW_STARTED = "workflow_started"
    WORKFLOW_ENDED = "workflow_ended"
    TASK_LOADED = "task_loaded"
    """Recovery found its outcome in the store; it does not run."""
    TASK_STARTED = "task_started"
    """The first attempt of a task that is known of."""
    TASK_FINISHED = "task_finished"
    TASK_COMMITTED = "task_committed"
    TASK_FAILED = "task_failed"
    """An attempt failed; another may follow."""
    TASK_RETRIED = "task_retried"
    """A further attempt starts, told instead of TASK_STARTED: after a failure, or after a crash that left a trace of
    an earlier one."""
    TASK_UNDONE = "task_undone"


@attrs.frozen(kw_only=True)
class Happening:
    """One thing that happened. `at` is in seconds since the epoch, UTC."""

    moment: Moment
    workflow_id: str
    at: float
    task_id: str = ""
    attempt: str = ""
    number: int = 0
    tasks_total: int = 0
    """Tasks the workflow has so far; with WORKFLOW_STARTED and continuations."""
    problem: str = ""


class Observer(Protocol):
    """Watches. Called on the driver's thread: it must be quick, and an exception of its own is logged, not passed on."""

    def observe(self, happening: Happening) -> None:
        """Take note of *happening*."""
        ...
