"""What surrounds one workflow: executors, a log that forgets what was not flushed, an outside that forgets nothing.

Everything can be made to happen here, one step at a time, by hand (`play`) or by chance (`chance`). Whatever happens is
held against the promises: some when it happens (`promises`), the others once the workflow has been answered.
"""

from collections.abc import Callable
from typing import Any

import attrs

import exoflow.engine.events as ev
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.restoring import restore
from exoflow.engine.run import persistence_of
from exoflow.engine.state import WorkflowState
from exoflow.errors import TaskLostError, TaskTimeoutError
from exoflow.executors.contract import Persistence
from exoflow.graph.dag import Dag, compile_dag
from exoflow.graph.node import Node
from exoflow.journal.records import Intent, Outcome, Settlement, Submission, UndoRecord, decode, encode
from exoflow.recovery.history import History
from exoflow.recovery.plan import RecoveryPlan
from exoflow.tasks.policy import Effects
from exoflow.values import Live
from simulation import promises
from simulation.dags import NotHappenedError, of_version
from simulation.oracle import Aftermath, Seen
from simulation.values import Made, Vault

__all__ = ["Outside", "Start", "TaskError", "World"]


class TaskError(Exception):
    """What a task raises."""


@attrs.define(eq=False)
class Start:
    """An attempt, as the world saw it."""

    attempt: str
    task_id: str
    effects: Effects
    fences: bool
    key: str
    inputs: tuple[Made, ...]
    reads: tuple[str, ...]
    life: int
    fingerprint: str
    running: bool = True
    """Something of it may still act: it runs, or runs on past its timeout."""
    abandoned: bool = False
    happened: bool = False
    undone: bool = False
    refused: bool = False
    """The receiver lets nothing of it in any more."""
    failed: bool = False
    """It was reported as failed or lost."""


@attrs.define(eq=False)
class Outside:
    """What no crash undoes."""

    starts: dict[str, Start] = attrs.field(factory=dict)
    inbox: dict[str, tuple[str, Any]] = attrs.field(factory=dict)
    """Message to its event's name and payload, until it is deleted."""
    sent: int = 0
    told: tuple[str, Any] | None = None
    """The answer somebody was given."""

    def copy(self) -> "Outside":
        """Return the same, to go on in another way."""
        starts = {attempt: attrs.evolve(start) for attempt, start in self.starts.items()}
        return Outside(starts, dict(self.inbox), self.sent, self.told)


class World:
    """One workflow from its submission to its answer.

    Args:
        root: What to run.
        strict: Also compare every start and every restored state with what brute force says; slow for large DAGs.
    """

    def __init__(self, root: Node | Dag, *, strict: bool = True) -> None:
        self.submitted = root if isinstance(root, Dag) else compile_dag(root)
        self.strict = strict
        self.versions: dict[str, str] = {}
        """The code that is installed, by task name, where it is not what was submitted."""
        self.accepted = False
        """Whether somebody accepted that code changed."""
        self.vault = Vault()
        self.outside = Outside()
        self.made: dict[str, Made] = {}
        """Incarnation to its value."""
        self.seen: dict[str, Seen] = {}
        self.growths: dict[int, Dag] = {}
        """What tasks decided to go on with, by the number of the value that stands for the decision."""
        self.deadlines: dict[str, tuple[float, tuple[Made, ...]]] = {}
        self.log: list[Any] = []
        self.lives = 0
        self.clock = 0.0
        self.needless_waits = 0
        self.forced = 0
        self.on_flush: Callable[[], None] | None = None
        self._aftermaths: dict[tuple[int, int, int], Aftermath] = {}
        self.plan: RecoveryPlan | None = None

    # --- lives ----------------------------------------------------------------------------------------------------

    @property
    def dag(self) -> Dag:
        """The DAG with the code that is installed now."""
        return of_version(self.submitted, self.versions)

    def _new_life(self) -> str:
        self.lives += 1
        self.buffer: list[Any] = []
        self.in_flight: list[Any] | None = None
        self.answer: ev.Answer | None = None
        self.taken: set[str] = set()
        self.persistence: dict[str, Persistence] = {}
        self.running: dict[str, NodeState] = {}
        """Attempts that executors have, and that nobody gave up."""
        self.abandoned: dict[str, NodeState] = {}
        self.stopping: set[str] = set()
        self.persisting: list[tuple[str, Any]] = []
        self.undoing: list[tuple[NodeState, str]] = []
        self.resolving: list[tuple[NodeState, str]] = []
        self.timers: list[tuple[str, NodeState | None, float | None]] = []
        self.listening: list[tuple[str, NodeState]] = []
        self.discarded: set[str] = set()
        self.ran: set[str] = set()
        """Tasks an attempt of which was started in this life."""
        self._aftermaths.clear()
        return f"j{self.lives}.1"

    def begin(self) -> None:
        """Submit the workflow."""
        prefix = self._new_life()
        fingerprints = {
            s.task.qualified_name: s.task.fingerprint
            for s in self.dag.nodes
            if s.task.policy.deterministic and s.task.kind == "task"
        }
        self.state = WorkflowState(self.dag, workflow_id="w", generation=1, prefix=prefix)
        self._obey(self.state.begin(Submission("w", 1, "", "", 0.0, {}, fingerprints), self.clock))

    def crash(self, *, landed: bool = False, happen: Callable[[str], bool] = lambda attempt: False) -> None:
        """Let the controller die, with everything that ran in it.

        Args:
            landed: Whether the flush under way reached the store.
            happen: Says of an attempt that had not reported whether it had its effect.
        """
        if self.in_flight is not None and landed:
            self.log += [decode(memoryview(encode(r))) for r in self.in_flight]
        for start in self.outside.starts.values():
            if start.running:
                self._act(start, happen(start.attempt))
                start.running = False
        self.in_flight, self.buffer = None, []

    def resume(self) -> None:
        """Go on from what the log says, or submit again if it says nothing."""
        if not self.log:
            self.begin()
            return
        prefix = self._new_life()
        history, decoded = self.history()
        promises.restating_changes_nothing(History.of(self.log))
        self.state, self.plan = restore(
            self.dag, history, decoded, prefix=prefix, accept_code_change=self.accepted
        )
        self.taken.update(o.message for o in history.outcomes.values() if o.message)
        if self.strict:
            promises.the_plan_is_the_largest_cut(self)
            promises.a_restored_state_is_what_its_records_say(self)
        self._obey(self.state.go_on(self.clock))

    def history(self) -> tuple[History, dict[str, Any]]:
        """Return what the log says, restated as an heir would find it."""
        history = History.of(History.of(self.log).records())
        decoded = {
            o.incarnation: self.thaw(o.payload)
            for o in history.outcomes.values()
            if o.what in ("continuation", "error") and o.payload is not None
        }
        return history, decoded

    def thaw(self, value: Any) -> Any:
        """Return what a value stands for, in today's code."""
        found = self.vault.thaw(value)
        return of_version(found, self.versions) if isinstance(found, Dag) else found

    # --- the log --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what was logged."""
        assert self.in_flight is None
        assert self.buffer
        self.in_flight, self.buffer = self.buffer, []

    def flushed(self) -> None:
        """The flush is durable."""
        assert self.in_flight is not None
        if self.on_flush is not None:
            self.on_flush()
        self.log += [decode(memoryview(encode(r))) for r in self.in_flight]
        count, self.in_flight = len(self.in_flight), None
        self._tell(ev.Committed(count))

    def _portable(self, record: Any) -> Any:
        if isinstance(record, Intent):
            return attrs.evolve(record, payload=self.vault.payload(("undo", self.inputs(self.state.nodes[record.task_id]))))
        value = getattr(record, "payload", None)
        return attrs.evolve(record, payload=self.vault.payload(value.value)) if isinstance(value, Live) else record

    def aftermath(self, *, landed: bool = False, logged: bool = False) -> Aftermath:
        """Return what a crash would leave now: of what is durable, or also of what is on its way, or logged at all."""
        more = len(self.in_flight or ()) if landed or logged else 0
        most = len(self.buffer) if logged else 0
        key = (len(self.log), more, most)
        found = self._aftermaths.get(key)
        if found is None:
            self._aftermaths.clear()
            records = [*self.log, *((self.in_flight or []) if more else []), *(self.buffer if most else [])]
            found = self._aftermaths[key] = Aftermath(self.dag, records, lambda o: self.thaw(o.payload))
        return found

    # --- commands -------------------------------------------------------------------------------------------------

    def _tell(self, event: ev.Event) -> None:
        self.clock += 1.0
        attempt = getattr(event, "attempt", None)
        node = self.state.node_of(attempt) if attempt is not None else None
        if node is not None and type(event) is not ev.Armed and not node.finished:
            self._expect(node, event)
        commands = self.state.handle(event, self.clock)
        if node is not None and node.finished:
            self._note(node)
        self._obey(commands)
        if self.strict and self.state.ended is None:
            promises.nobody_waits_needlessly(self)
            promises.counters_are_right(self)

    def _expect(self, node: NodeState, event: Any) -> None:
        """Remember what the value will be, should this event become the node's outcome."""
        if isinstance(event, ev.Failed):
            self._outcome_to_be = self.vault.make(node.task_id, f"error {event.attempt}", self.inputs(node))
        elif isinstance(event, ev.Fired):
            self._outcome_to_be = self.vault.make(node.task_id, "fired", self.inputs(node))

    def _note(self, node: NodeState) -> None:
        name = node.incarnation
        if name in self.made and not node.keep_incarnation:
            return
        made = self._value_of(node)
        known = self.made.setdefault(name, made)
        promises.kept(known is made, f"incarnation {name} of {node} has two values")
        reads = tuple(read.incarnation for read in node.reads)
        deterministic = bool(node.spec.task.policy.deterministic) and node.what != "caught" and not node.catch
        self.seen.setdefault(name, Seen(node.task_id, reads, deterministic))

    def _value_of(self, node: NodeState) -> Made:
        start = self.outside.starts.get(node.attempt)
        if node.what in ("caught", "fired"):
            if node.what == "caught":
                error = self._raised[node.attempt] if node.attempt in self._raised else self._last_raised[node.task_id]
                return error
            return self.vault.make(node.task_id, "fired", self.inputs(node))
        if node.what == "message":
            return self.vault.make(node.task_id, f"message {self._messages[node.attempt]}", self.inputs(node))
        assert start is not None
        return self._returns(start)

    _raised: dict[str, Made] = {}
    _last_raised: dict[str, Made] = {}
    _messages: dict[str, str] = {}
