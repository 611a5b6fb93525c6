"""Where a run can be made to fail on purpose.

A failure point is a place in the engine's driver at which the world may end, be late, or answer wrongly. With no
injector installed or asked for, the driver holds None instead of a function to call, and the points cost nothing.
What fails, when and how is data: see `exoflow.failures.injectors`.
"""

from enum import StrEnum
from typing import Final, Protocol

__all__ = ["TASK_POINTS", "FailurePoint", "Injector", "Reach", "SimulatedCrash"]


class FailurePoint(StrEnum):
    """Every place a controller can be made to die at."""

    BEFORE_RUN = "before_run"
    """An attempt is about to start; its intent, if it has one, is durable."""
    AFTER_RUN_BEFORE_RECORD = "after_run_before_record"
    """An attempt has ended; no record of that is durable."""
    AFTER_RECORD = "after_record"
    """The record of an outcome is durable; nobody has been told."""
    DURING_BLOB_WRITE = "during_blob_write"
    """A blob is written in part."""
    BEFORE_FLUSH = "before_flush"
    """A batch of records is about to be sent to the store."""
    AFTER_FLUSH = "after_flush"
    """A batch of records is durable; the engine has not been told."""
    ON_CLAIM = "on_claim"
    """The claim of a workflow id has been won or lost, and not yet acted on."""
    ON_SEAL = "on_seal"
    """Another journal has been sealed; its workflows are not yet adopted."""
    BEFORE_UNDO = "before_undo"
    """An undo is about to be called."""
    AFTER_UNDO = "after_undo"
    """An undo has returned; no record of that is durable."""
    BEFORE_RESOLVE = "before_resolve"
    """A resolve is about to be called."""
    AFTER_RESOLVE = "after_resolve"
    """A resolve has answered; no record of that is durable."""
    BEFORE_ANSWER = "before_answer"
    """The end of a workflow is durable; its caller has not been told."""


TASK_POINTS: Final = frozenset(
    {
        FailurePoint.BEFORE_RUN,
        FailurePoint.AFTER_RUN_BEFORE_RECORD,
        FailurePoint.AFTER_RECORD,
        FailurePoint.DURING_BLOB_WRITE,
        FailurePoint.BEFORE_UNDO,
        FailurePoint.AFTER_UNDO,
        FailurePoint.BEFORE_RESOLVE,
        FailurePoint.AFTER_RESOLVE,
    }
)
"""The points that are reached on behalf of one task, and name it. At the others ``task_id`` is empty."""


class SimulatedCrash(BaseException):
    """The controller dies here. Not an `Exception`, because no handler may survive it.

    Whatever catches `BaseException` (an executor running a task's code, a ``finally`` that writes) must let through
    what has a true `exoflow_simulated_crash`, and must write nothing more: after a crash a process does no tidying up.
    """

    exoflow_simulated_crash: Final = True

    def __init__(self, point: FailurePoint, task_id: str = "") -> None:
        self.point, self.task_id = point, task_id
        super().__init__(point, task_id)

    def __str__(self) -> str:
        return f"simulated crash at {self.point}" + (f" of task {self.task_id!r}" if self.task_id else "")


class Reach(Protocol):
    """What the driver calls at a failure point, when there is anything to call."""

    def __call__(
        self, point: FailurePoint, *, workflow_id: str = "", task_id: str = "", attempt: str = "", number: int = 0
    ) -> None:
        """Return, or make the failure happen; see `Injector.reach`."""
        ...


class Injector(Protocol):
    """Makes failures happen. Belongs to one engine; may be reached from several threads."""

    def reach(
        self, point: FailurePoint, *, workflow_id: str = "", task_id: str = "", attempt: str = "", number: int = 0
    ) -> None:
        """Return at once, return late, kill a process, or raise.

        Args:
            point: Where the driver is.
            workflow_id: Empty where the point concerns all workflows together, such as a flush.
            task_id: As its DAG names it, also within a continuation. Empty at points outside `TASK_POINTS`.
            attempt: The attempt's id, where there is one.
            number: The incarnation as people count it, from 1; 0 where there is none.

        Raises:
            SimulatedCrash: The controller dies: it stops as it is and writes nothing more.
            TaskLostError: At `FailurePoint.BEFORE_RUN` and `FailurePoint.AFTER_RUN_BEFORE_RECORD`: the attempt's process
                died, a system failure.
            Exception: At `FailurePoint.BEFORE_RUN` and `FailurePoint.AFTER_RUN_BEFORE_RECORD`: the task's own error.
        """
        ...
