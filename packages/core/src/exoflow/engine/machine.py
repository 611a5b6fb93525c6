"""What one workflow's state machine holds, and its log: what the layers above it share.

The machine is one class in layers, a module each: `keeping`, `starting`, `ending`, `finishing`, `failing`, and `state` on top,
where events come in. A layer calls what lies below it; the few calls upwards are declared here.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from exoflow.engine import events as ev
from exoflow.engine.growth import Growth
from exoflow.engine.node_state import NodeState
from exoflow.graph.dag import Dag
from exoflow.tasks.policy import Effects

__all__ = ["INTENDED", "Machine"]

INTENDED = (Effects.ROLLBACK, Effects.ONCE)
"""Effects before which an intent is recorded."""


class Machine:
    """What the layers share.

    Args:
        dag: What to run.
        workflow_id: Its id.
        generation: How often the id has been used before, plus one; part of idempotency keys.
        prefix: Attempts are named ``<prefix>.<counter>``; a prefix is never used for two states.
    """

    def __init__(self, dag: Dag, *, workflow_id: str, generation: int, prefix: str) -> None:
        self.workflow_id = workflow_id
        self.generation = generation
        self.ended: str | None = None
        """``succeeded``, ``failed`` or ``cancelled`` once that is in the log; ``attention`` when it stopped."""
        self.error: BaseException | None = None
        self._prefix = prefix
        self._counter = 0
        self.now = 0.0
        self._out: list[ev.Command] = []
        self._todo: deque[tuple[Callable[[NodeState], None], NodeState]] = deque()
        self._by_attempt: dict[str, NodeState] = {}
        self._logged = 0
        self._acked = 0
        self._acks: deque[tuple[Callable[[NodeState], None] | None, Any]] = deque()
        self._at_position: dict[int, list[NodeState]] = {}
        self._parked: dict[NodeState, None] = {}
        self._running = 0
        self._persisting = 0
        self._waiting_outside = 0
        """Sleeps and waits: running, but not for long-run progress of anything else."""
        self.to_undo: dict[str, tuple[NodeState, Any]] = {}
        """Attempts of rollback tasks that are in the world, in the order of their intents, with those."""
        self._undoing: str | None = None
        self._rolled_back = False
        self._answered = False
        self._abandoned: set[str] = set()
        """Attempts of idempotent tasks that were given up and may still act."""
        self._cancel_key: str | None = None
        self._end_position = 0
        self._attention = False
        self._base = 1
        self.superseded = 0
        """How many of the last entries of `to_undo` recovery must undo before anything starts."""
        self.failed: tuple[NodeState, BaseException] | None = None
        """A task whose recorded outcome is an error nobody catches."""
        self.unresolved: list[NodeState] = []
        """Once tasks of which recovery knows an intent and no end: whether they happened is asked first."""
        self.unended: list[tuple[NodeState, str]] = []
        """Attempts that may still run where nobody hears of them, with their nodes: a person is asked before anything else."""
        self.unasked: dict[NodeState, None] = {}
        """Those that will be asked about when what they read has been made again, by other code than before."""
        self.growth = Growth(dag)
        self.nodes = self.growth.nodes
        self.result_node = self.growth.root
        self._answer_node: NodeState | None = None

    def key_of(self, node: NodeState) -> str:
        """The idempotency key of a node's current attempt."""
        if node.effects is Effects.ROLLBACK:
            return node.attempt
        key = f"{self.workflow_id}/{self.generation}/{node.task_id}"
        if node.effects is Effects.ONCE and node.spec.task.policy.fences:
            # Where resolve makes the receiver refuse a key for good, the next attempt needs another one.
            return f"{key}/{node.attempt}"
        return key

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing is on its way to the store."""
        return not (self._running or self._persisting or self._acks)

    # --- the log ------------------------------------------------------------------------------------------------

    def _log(self, record: Any, action: Callable[[Any], None] | None, node: Any) -> None:
        self._logged += 1
        self._acks.append((action, node))
        self._out.append(ev.Commit(record))

    # --- calls upwards ------------------------------------------------------------------------------------------

    def _await_settled(self, node: NodeState) -> None:
        raise NotImplementedError

    def _outcome_durable(self, node: NodeState) -> None:
        raise NotImplementedError

    def _succeed(self, node: NodeState) -> None:
        raise NotImplementedError

    def _clear_up(self, node: NodeState) -> None:
        raise NotImplementedError
