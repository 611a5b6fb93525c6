"""Telling observers what happens. Only made when there is somebody to tell."""

import logging
import time
from collections.abc import Sequence

from exoflow.controller.run import WorkflowRun
from exoflow.engine import events as ev
from exoflow.engine.node_state import NodeState
from exoflow.plugins.observing import Happening, Moment, Observer

__all__ = ["Teller"]

log = logging.getLogger(__name__)

_MOMENTS: dict[type, Moment] = {
    ev.Finished: Moment.TASK_FINISHED,
    ev.Failed: Moment.TASK_FAILED,
    ev.Undone: Moment.TASK_UNDONE,
}


class Teller:
    """Turns what the driver sees into happenings.

    Args:
        observers: Whom to tell. One that raises is logged, and told the next thing all the same.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def started(self, run: WorkflowRun) -> None:
        """A workflow begins here, new or recovered; what recovery found done is told with it."""
        self.tell(Moment.WORKFLOW_STARTED, run)
        for node in run.state.nodes.values():
            if node.finished:
                self.tell(Moment.TASK_LOADED, run, node)

    def event(self, run: WorkflowRun, event: ev.Event) -> None:
        """An executor reported something; to be called before the engine takes it."""
        moment = _MOMENTS.get(type(event))
        node = run.state.node_of(event.attempt) if moment is not None else None  # type: ignore[union-attr]
        if moment is not None and node is not None:
            self.tell(moment, run, node, problem=repr(event.error) if isinstance(event, ev.Failed) else "")

    def tell(self, moment: Moment, run: WorkflowRun, node: NodeState | None = None, *, problem: str = "") -> None:
        """Tell every observer."""
        happening = Happening(
            moment=moment,
            workflow_id=run.workflow_id,
            at=time.time(),
            task_id=node.task_id if node is not None else "",
            attempt=node.attempt if node is not None else "",
            number=node.number if node is not None else 0,
            tasks_total=len(run.state.nodes),
            problem=problem,
        )
        for observer in self._observers:
            try:
                observer.observe(happening)
            except Exception:
                log.exception("observer %r raised; it is told the next thing all the same", observer)
