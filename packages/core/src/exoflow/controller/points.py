"""The failure points of a controller's turns. Only made when somebody injects failures."""

from exoflow.controller.run import WorkflowRun
from exoflow.engine import events as ev
from exoflow.engine.node_state import NodeState
from exoflow.errors import TaskLostError
from exoflow.failures.points import FailurePoint, Reach

__all__ = ["Points", "failure_of"]

_BEHIND: dict[type, FailurePoint] = {ev.Undone: FailurePoint.AFTER_UNDO, ev.Resolved: FailurePoint.AFTER_RESOLVE}


class Points:
    """Calls the injectors where a task's attempt is at a failure point.

    Args:
        reach: What to call.
    """

    def __init__(self, reach: Reach) -> None:
        self.reach = reach

    def at(self, point: FailurePoint, run: WorkflowRun, node: NodeState, attempt: str) -> None:
        """Return, or make the failure happen.

        Raises:
            SimulatedCrash: See `Injector.reach`, also for other exceptions.
        """
        # A node of a continuation by its name in that, as who wrote it knows it; its full id names an attempt.
        name = node.spec.task_id
        self.reach(point, workflow_id=run.workflow_id, task_id=name, attempt=attempt, number=node.number)

    def behind(self, run: WorkflowRun, node: NodeState, event: ev.AttemptEvent) -> ev.AttemptEvent:
        """Return what to make of a report: *event*, or the failure that is injected behind the call."""
        point = _BEHIND.get(type(event), FailurePoint.AFTER_RUN_BEFORE_RECORD)
        try:
            self.at(point, run, node, event.attempt)
        except Exception as error:
            return failure_of(event.attempt, error) if point is FailurePoint.AFTER_RUN_BEFORE_RECORD else event
        return event


def failure_of(attempt: str, error: Exception) -> ev.Failed:
    """Return the report of an attempt that was made to fail with *error*."""
    return ev.Failed(attempt, error, system=isinstance(error, TaskLostError))
