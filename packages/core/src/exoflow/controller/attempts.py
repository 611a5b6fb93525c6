"""Attempts in the hands of executors: which there are, how they are stopped, and when nothing of one runs any more."""

from collections.abc import Callable, Iterator

from exoflow.controller.run import WorkflowRun
from exoflow.controller.runtime import Timer
from exoflow.engine import events as ev
from exoflow.engine.node_state import NodeState
from exoflow.executors.contract import Call, Executor, Services
from exoflow.tasks.policy import Effects

__all__ = ["Attempts"]

_ENDS = (ev.Finished, ev.Failed, ev.Ended)


class Attempts:
    """Gives calls to executors, and keeps the books.

    Args:
        services: What every executor is given.
        make_executor: Opens an executor by name.
        default: The executor of tasks that name none.
    """

    def __init__(self, services: Services, make_executor: Callable[[str, Services], Executor], default: str) -> None:
        self._services, self._make_executor, self._default = services, make_executor, default
        self._executors: dict[str, Executor] = {}
        self._timers: dict[str, Timer] = {}
        self.outstanding: dict[str, tuple[WorkflowRun, NodeState]] = {}
        """Those an executor has, and has not said to have ended."""
        self.lingering: dict[str, tuple[WorkflowRun, NodeState]] = {}
        """Those that were given up and still run, of tasks whose effect must not meet its own undo or a second one."""

    def __bool__(self) -> bool:
        """Whether anything runs."""
        return bool(self.outstanding or self.lingering)

    def __iter__(self) -> Iterator[tuple[WorkflowRun, NodeState]]:
        """Yield the workflow and the node of each."""
        return iter((*self.outstanding.values(), *self.lingering.values()))

    @property
    def names(self) -> list[str]:
        """Their ids, sorted."""
        return sorted({*self.outstanding, *self.lingering})

    @property
    def inline(self) -> bool:
        """Whether there is an executor that runs tasks in the controller's turn."""
        return any(executor.inline for executor in self._executors.values())

    def runs_of(self, run: WorkflowRun) -> bool:
        """Whether anything of *run* runs."""
        return any(owner is run for owner, _ in self)

    def start(self, run: WorkflowRun, node: NodeState, call: Call) -> None:
        """Give *call* to the executor of *node*.

        Raises:
            ExoFlowError: There is no such executor, or it cannot be opened.
            Exception: It broke its promise not to raise.
        """
        self.outstanding[call.attempt] = run, node
        name = self._executor_of(node)
        executor = self._executors.get(name)
        if executor is None:
            executor = self._executors[name] = self._make_executor(name, self._services)
        executor.start(call)

    def limit(self, attempt: str, timer: Timer) -> None:
        """Let *timer* be cancelled with the attempt's first report."""
        self._timers[attempt] = timer

    def expire(self, attempt: str) -> bool:
        """Whether the attempt's timer comes before its first report."""
        return self._timers.pop(attempt, None) is not None

    def stop(self, node: NodeState, attempt: str) -> None:
        """Have an attempt stopped if that is possible; its executor answers with `Ended` when it has ended."""
        executor = self._executors.get(self._executor_of(node))
        if executor is not None:
            executor.stop(attempt)

    def stop_all(self, *effects: Effects) -> None:
        """Stop every attempt of tasks with such effects."""
        for attempt, (_, node) in list(self.outstanding.items()):
            if node.effects in effects:
                self.stop(node, attempt)

    def reported(self, attempt: str, event: ev.Event) -> NodeState | None:
        """Note what an executor, or somebody else, says of an attempt.

        Returns:
            Its node, if this is the first report of a call that was given to an executor.
        """
        known = self.outstanding.pop(attempt, None)
        if known is not None and type(event) is ev.Failed and not event.ended and _must_have_ended(known[1]):
            self.lingering[attempt] = known
        if self.lingering and isinstance(event, _ENDS) and (type(event) is not ev.Failed or event.ended):
            self.lingering.pop(attempt, None)
        if self._timers:
            timer = self._timers.pop(attempt, None)
            if timer is not None:
                timer.cancel()
        return known[1] if known is not None else None

    def close(self) -> None:
        """Close every executor."""
        for executor in self._executors.values():
            executor.close()

    def _executor_of(self, node: NodeState) -> str:
        policy = node.spec.task.policy
        return policy.executor or ("process" if policy.isolation else self._default)


def _must_have_ended(node: NodeState) -> bool:
    """Whether nobody may go on with the workflow while an attempt of *node* runs somewhere."""
    return node.effects in (Effects.ROLLBACK, Effects.ONCE) and not node.spec.task.policy.fences
