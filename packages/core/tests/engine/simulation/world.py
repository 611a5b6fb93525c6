"""What surrounds one workflow: executors, a log that forgets what was not flushed, an outside that forgets nothing.

Everything can be made to happen here one step at a time, by hand (`play`) or by chance (`chance`). Whatever happens is
held against the promises: some when it happens, the others once the workflow has been answered.
"""

from collections.abc import Callable
from typing import Any

import attrs

import exoflow.engine.events as ev
from exoflow.controller.run import persistence_of
from exoflow.engine.node_state import NodeState
from exoflow.engine.restoring import restore
from exoflow.engine.state import WorkflowState
from exoflow.errors import TaskLostError, TaskTimeoutError
from exoflow.executors.contract import Persistence
from exoflow.graph.dag import Dag, compile_dag
from exoflow.graph.node import Node
from exoflow.journal.records import End, Intent, Outcome, Settlement, Submission, TimerArmed, UndoRecord, decode, encode
from exoflow.recovery.history import History
from exoflow.recovery.plan import RecoveryPlan
from exoflow.tasks.policy import Effects, TaskPolicy
from exoflow.values import Live, Payload

from . import promises
from .dags import NotHappenedError, of_version
from .oracle import Aftermath, Seen
from .values import Made, Vault

__all__ = ["Outside", "Start", "TaskError", "World"]


class TaskError(Exception):
    """What a task raises."""


@attrs.define(eq=False)
class Start:
    """An attempt, as the world saw it."""

    attempt: str
    task_id: str
    name: str
    """By what made it: the same when a deterministic task goes on with the same again, under another id."""
    policy: TaskPolicy
    key: str
    inputs: tuple[Made, ...]
    reads: tuple[str, ...]
    life: int
    fingerprint: str
    running: bool = True
    """Something of it may still act: it runs, or runs on past its timeout."""
    happened: bool = False
    undone: bool = False
    refused: bool = False
    """The receiver lets nothing of it in any more."""
    ruled_out: bool = False
    """It was said that it did not happen: by `resolve`, by its exception, or by a person."""
    failed: bool = False

    @property
    def effects(self) -> Effects:
        return self.policy.effects

    @property
    def stands(self) -> bool:
        """Whether its effect is in the world."""
        return self.happened and not self.undone


@attrs.define(eq=False)
class Outside:
    """What no crash undoes."""

    starts: dict[str, Start] = attrs.field(factory=dict)
    inbox: dict[str, str] = attrs.field(factory=dict)
    """Message to its event's name, until it is deleted."""
    sent: int = 0
    sent_to: dict[str, int] = attrs.field(factory=dict)
    """How many messages were sent, by event."""
    told: list[tuple[str, Any]] = attrs.field(factory=list)
    """Every answer somebody was given."""

    def copy(self) -> "Outside":
        """Return the same, to go on in another way."""
        starts = {attempt: attrs.evolve(start) for attempt, start in self.starts.items()}
        return Outside(starts, dict(self.inbox), self.sent, dict(self.sent_to), list(self.told))


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
        self.refused = 0
        """How often recovery stopped because code had changed."""
        self.refused_in_vain = 0
        self.vault = Vault()
        self.outside = Outside()
        self.made: dict[str, Made] = {}
        """Incarnation to its value."""
        self.seen: dict[str, Seen] = {}
        self.growths: dict[int, Dag] = {}
        """What tasks decided to go on with, by the number of the value that stands for the decision."""
        self.deadlines: dict[str, tuple[Made, ...]] = {}
        """What the deadline of a sleep was computed from."""
        self.log: list[Any] = []
        self.lives = 0
        self.clock = 0.0
        self.needless_waits = 0
        self.at_the_end: dict[str, str] = {}
        """What each task had come to when the end was logged."""
        self.before_flush: Callable[[], None] | None = None
        self.plan: RecoveryPlan | None = None
        self.state: WorkflowState
        self._aftermaths: dict[tuple[int, int, int], Aftermath] = {}

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
        self.inputs_of: dict[str, tuple[Made, ...]] = {}
        self.coming: dict[str, Made] = {}
        """Attempt to what it will have made, should the machine believe it."""
        self.persistence: dict[str, Persistence] = {}
        self.running: dict[str, NodeState] = {}
        """Attempts that executors have."""
        self.abandoned: dict[str, NodeState] = {}
        """Those past their timeout, which run on."""
        self.stopping: list[str] = []
        self.uploads: list[tuple[str, Any]] = []
        """Outcomes on their way to the store, each with its attempt."""
        self.undoing: list[tuple[NodeState, str]] = []
        self.resolving: list[tuple[NodeState, str, str]] = []
        self.retrying: list[str] = []
        self.sleeping: dict[str, NodeState] = {}
        self.listening: dict[str, NodeState] = {}
        self.unarmed: list[str] = []
        """Timers of which the driver has not said yet when they will fire."""
        self.ran: set[str] = set()
        """Tasks of which an attempt was started in this life."""
        self.plan = None
        self._aftermaths.clear()
        return f"j{self.lives}.1"

    def begin(self) -> None:
        """Submit the workflow."""
        prefix = self._new_life()
        fingerprints = {
            spec.task.qualified_name: spec.task.fingerprint
            for spec in self.dag.nodes
            if spec.task.policy.deterministic and spec.task.kind == "task"
        }
        self.state = WorkflowState(self.dag, workflow_id="w", generation=1, prefix=prefix)
        self._obey(self.state.begin(Submission("w", 1, "", "", 0.0, {}, fingerprints), self.clock))

    def crash(self, *, landed: bool = False, happen: Callable[[Start], bool] = lambda start: False) -> None:
        """Let the controller die, with everything that ran in it.

        Args:
            landed: Whether the flush under way reached the store.
            happen: Says of an attempt that had not reported whether it had its effect.
        """
        if self.in_flight is not None and landed:
            self._append(self.in_flight)
        for start in self.outside.starts.values():
            if start.running:
                self._end(start, happened=happen(start))
        self.in_flight, self.buffer = None, []

    def resume(self) -> None:
        """Go on from what the log says, or submit again if it says nothing."""
        if not self.log:
            self.begin()
            return
        prefix = self._new_life()
        self._forget()
        promises.restating_changes_nothing(History.of(self.log))
        history, decoded = self.history()
        self.state, self.plan = restore(self.dag, history, decoded, prefix=prefix, accept_code_change=self.accepted)
        self.taken.update(o.message for o in history.outcomes.values() if o.message)
        if self.strict and self.state.ended != "succeeded":
            promises.the_plan_is_the_largest_cut(self)
            promises.a_restored_state_is_what_its_records_say(self)
            promises.counters_are_right(self)
        self._obey(self.state.go_on(self.clock))

    def branch(self, log: list[Any], outside: Outside) -> "World":
        """Return a world that has just crashed with no more than *log* durable, and *outside* around it."""
        other = World(self.submitted, strict=self.strict)
        other.made, other.seen = self.made, self.seen
        other.vault, other.growths = self.vault, self.growths
        other.deadlines, other.clock = dict(self.deadlines), self.clock
        other.log, other.outside, other.lives = list(log), outside.copy(), self.lives + 1000
        other.in_flight, other.buffer, other.at_the_end = None, [], self.at_the_end
        return other

    def _forget(self) -> None:
        """What no record told of is lost. Its name may come again, for another value: nobody has seen the first."""
        known = {record.incarnation for record in self.log if isinstance(record, Outcome)}
        self.made = {name: made for name, made in self.made.items() if name in known}
        self.seen = {name: seen for name, seen in self.seen.items() if name in known}

    def history(self) -> tuple[History, dict[str, Any]]:
        """Return what the log says, restated as an heir would find it."""
        history = History.of(History.of(self.log).records())
        decoded = {
            outcome.incarnation: self.thaw(outcome.payload)
            for outcome in history.outcomes.values()
            if outcome.what in ("continuation", "error") and outcome.payload is not None
        }
        return history, decoded

    def thaw(self, value: Live | Payload) -> Any:
        """Return what a value stands for, in today's code."""
        found = self.vault.thaw(value)
        return of_version(found, self.versions) if isinstance(found, Dag) else found

    # --- the log --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what was logged."""
        assert self.in_flight is None
        self.in_flight, self.buffer = self.buffer, []

    def flushed(self) -> None:
        """The flush is durable."""
        assert self.in_flight is not None
        if self.before_flush is not None:
            self.before_flush()
        self._append(self.in_flight)
        count, self.in_flight = len(self.in_flight), None
        self.tell(ev.Committed(count))

    def _append(self, records: list[Any]) -> None:
        self.log += [decode(memoryview(encode(record))) for record in records]

    def _portable(self, record: Any) -> Any:
        if isinstance(record, Intent):
            self.inputs_of[record.attempt] = inputs = self.inputs(self.state.nodes[record.task_id])
            return attrs.evolve(record, payload=self.vault.payload(inputs))
        value = getattr(record, "payload", None)
        return attrs.evolve(record, payload=self.vault.payload(value.value)) if isinstance(value, Live) else record

    def aftermath(self, *, landed: bool = False, logged: bool = False) -> Aftermath:
        """Return what a crash would leave: of what is durable now, or also of what is on its way, or logged at all."""
        more = len(self.in_flight or ()) if landed or logged else 0
        most = len(self.buffer) if logged else 0
        key = (len(self.log), more, most)
        found = self._aftermaths.get(key)
        if found is None:
            records = [*self.log, *((self.in_flight or []) if more else []), *(self.buffer if most else [])]
            found = self._aftermaths[key] = Aftermath(self.dag, records, lambda o: self.thaw(o.payload))
        return found

    # --- events ---------------------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        """Let the machine know, and do what it asks for."""
        self.clock += 1.0
        self._aftermaths.clear()
        attempt = getattr(event, "attempt", None)
        node = self.state.node_of(attempt) if attempt is not None else None
        commands = self.state.handle(event, self.clock)
        if node is not None and node.finished and node.incarnation not in self.made:
            self._note(node)
        elif node is not None and node.finished and node.keep_incarnation:
            promises.kept(self.made[node.incarnation] is self._made_by(node), f"{node.incarnation} came out otherwise")
        self._obey(commands)
        if self.strict and self.state.ended is None:
            promises.nobody_waits_needlessly(self)
            promises.counters_are_right(self)

    def _note(self, node: NodeState) -> None:
        self.made[node.incarnation] = self._made_by(node)
        deterministic = bool(node.spec.task.policy.deterministic) and node.what != "caught" and not node.catch
        reads = tuple(read.incarnation for read in node.reads)
        self.seen[node.incarnation] = Seen(node.task_id, reads, deterministic)

    def _made_by(self, node: NodeState) -> Made:
        if node.what == "caught":
            made: Made | None = getattr(node.awaited_error, "made", None)
            return made or self.vault.make(self._name(node), f"error {node.attempt}", self.inputs_of[node.attempt])
        return self.coming[node.attempt]

    def _name(self, node: NodeState) -> str:
        if node.parent is None:
            return node.task_id
        return f"{self.made[node.parent.incarnation].number}/{node.task_id.rpartition('/')[2]}"

    def inputs(self, node: NodeState) -> tuple[Made, ...]:
        """Return what a node is given: the decision that made it, and the values of what it depends on."""
        found = [] if node.parent is None else [self.made[node.parent.incarnation]]
        for before in node.deps[: len(node.spec.deps)]:
            provider = before.provider or before
            promises.kept(provider.value is not None, f"{node} is given the value of {provider}, which was released")
            made = self.made[provider.incarnation]
            value = self.thaw(provider.value)
            if isinstance(value, Made):
                promises.kept(value is made, f"{node} is given another value of {provider} than it had")
            found.append(made)
        return tuple(found)

    def returns(self, start: Start) -> Made:
        """Return what an attempt returns."""
        nonce = start.fingerprint if start.policy.deterministic else start.attempt
        return self.vault.make(start.name, nonce, start.inputs)

    def finish(
        self, attempt: str, *, stored: bool = True, worth_keeping: bool = True, continuation: Dag | None = None
    ) -> None:
        """An attempt returns.

        Args:
            attempt: Which; it may run on past its timeout.
            stored: Whether its outcome is stored as fast as it returns; under ``async`` it may take longer.
            worth_keeping: For ``auto``.
            continuation: What it returns instead of a value.
        """
        node = self.running.pop(attempt, None) or self.abandoned.pop(attempt)
        start = self.outside.starts[attempt]
        self._end(start, happened=True)
        made = self.coming[attempt] = self.returns(start)
        outcome: Any = made
        if continuation is not None:
            outcome = self.growths.setdefault(made.number, continuation)
            continuation = of_version(outcome, self.versions)
        persistence = self.persistence[attempt]
        payload = None
        if (
            persistence is Persistence.BEFORE
            or (persistence is Persistence.AFTER and stored)
            or (persistence is Persistence.MEASURED and worth_keeping and stored)
        ):
            payload = self.vault.payload(outcome)
        elif persistence is Persistence.AFTER or (persistence is Persistence.MEASURED and worth_keeping):
            self.uploads.append((attempt, outcome))
        value = None if continuation is not None else Live(made)
        self.tell(ev.Finished(attempt, value, payload, continuation, worth_keeping=worth_keeping))
        if node.finished and node.incarnation not in self.made:
            self._note(node)

    def cannot_store(self, attempt: str) -> None:
        """An attempt returns something that cannot be stored, where it must be before it is told."""
        self.running.pop(attempt)
        start = self.outside.starts[attempt]
        self._end(start, happened=True)
        self.coming[attempt] = made = self.returns(start)
        self.tell(ev.Finished(attempt, Live(made)))
        self.tell(ev.CommitFailed(attempt, TaskError("cannot be stored")))

    def fail(self, attempt: str, *, happened: bool = False, lost: bool = False, not_happened: bool = False) -> None:
        """An attempt raises, or its process is lost.

        Args:
            attempt: Which.
            happened: Whether it had its effect before.
            lost: The process died.
            not_happened: It raises what its task declared to mean that nothing happened.
        """
        node = self.running.pop(attempt, None) or self.abandoned.pop(attempt)
        start = self.outside.starts[attempt]
        self._end(start, happened=happened and not not_happened)
        start.failed, start.ruled_out = True, start.ruled_out or not_happened
        error: Any = NotHappenedError() if not_happened else TaskError(attempt)
        if lost:
            error = TaskLostError(node.task_id, "sim")
        error.made = self.vault.make(self._name(node), f"error {attempt}", start.inputs)
        self.tell(ev.Failed(attempt, error, system=lost))

    def time_out(self, attempt: str, *, queued: bool = False) -> None:
        """An attempt runs past its timeout, and on; or was *queued* all the time and is dropped."""
        node = self.running.pop(attempt)
        start = self.outside.starts[attempt]
        start.failed = True
        error: Any = TaskTimeoutError(node.task_id, 1.0)
        error.made = self.vault.make(self._name(node), f"error {attempt}", start.inputs)
        if queued:
            self._end(start, happened=False)
            self.tell(ev.Ended(attempt))
        else:
            self.abandoned[attempt] = node
        self.tell(ev.Failed(attempt, error, ended=False))

    def ended(self, attempt: str, *, happened: bool = False) -> None:
        """An attempt that was stopped or abandoned is over, and says nothing but that."""
        self.running.pop(attempt, None)
        self.abandoned.pop(attempt, None)
        self._end(self.outside.starts[attempt], happened=happened)
        self.outside.starts[attempt].failed = True
        self.tell(ev.Ended(attempt))

    def _end(self, start: Start, *, happened: bool) -> None:
        start.running = False
        if happened and not start.refused and start.effects is not Effects.NONE:
            start.happened = True

    def uploaded(self, upload: tuple[str, Any], *, fails: bool = False) -> None:
        """An outcome, one of `uploads`, is in the store, or never will be."""
        self.uploads.remove(upload)
        if fails:
            self.tell(ev.CommitFailed(upload[0], TaskError("cannot be stored")))
        else:
            self.tell(ev.Persisted(upload[0], self.vault.payload(upload[1])))

    def undone(self, attempt: str, *, fails: bool = False) -> None:
        """An undo function returns, or raises."""
        self.undoing = [u for u in self.undoing if u[1] != attempt]
        start = self.outside.starts.get(attempt)
        if fails:
            self.tell(ev.UndoFailed(attempt, TaskError("cannot be undone")))
            return
        if start is not None:
            start.undone = True
            start.refused = start.refused or start.policy.fences
        self.tell(ev.Undone(attempt))

    def resolved(self, attempt: str, *, unknown: bool = False, fails: bool = False) -> None:
        """A resolve function says what it finds, or that it does not know, or raises."""
        asked = next(r for r in self.resolving if r[1] == attempt)
        self.resolving.remove(asked)
        node, _, key = asked
        if fails:
            self.tell(ev.UndoFailed(attempt, TaskError("cannot be resolved")))
            return
        if unknown:
            self.tell(ev.Resolved(attempt, None))
            return
        start = self.outside.starts.get(attempt)
        found = next((s for s in self.outside.starts.values() if s.key == key and s.happened), None)
        if found is None:
            if start is not None:
                start.ruled_out = True
                start.refused = start.refused or start.policy.fences
            self.tell(ev.Resolved(attempt, False))
            return
        made = self.coming[attempt] = self.returns(found)
        self.tell(ev.Resolved(attempt, True, Live(made), self.vault.payload(made)))
        if node.finished and node.incarnation not in self.made:
            self._note(node)

    def retry(self, attempt: str) -> None:
        """The pause before a retry is over."""
        self.retrying.remove(attempt)
        self.tell(ev.Fired(attempt))

    def armed(self, attempt: str) -> None:
        """The driver says when a timer will fire."""
        self.unarmed.remove(attempt)
        node = self.sleeping.get(attempt) or self.listening.get(attempt)
        if node is not None:
            self.deadlines[node.task_id] = self.inputs_of[attempt]
        self.tell(ev.Armed(attempt, self.clock + 5.0))
        if node is not None and self.state.ended is None:
            logged = (*self.log, *(self.in_flight or ()), *self.buffer)
            told = any(isinstance(r, TimerArmed) and r.task_id == node.task_id for r in logged)
            promises.kept(told, f"the deadline of {node} is recorded nowhere")

    def fired(self, attempt: str) -> None:
        """A sleep is over, or a wait for a message takes too long."""
        node = self.sleeping.pop(attempt, None) or self.listening.pop(attempt)
        self.coming[attempt] = self.vault.make(self._name(node), "fired", self.inputs_of[attempt])
        self.tell(ev.Fired(attempt))

    def send(self, event: str) -> None:
        """Somebody sends a message."""
        self.outside.sent += 1
        self.outside.sent_to[event] = self.outside.sent_to.get(event, 0) + 1
        self.outside.inbox[f"{event}/{self.outside.sent}"] = event

    def messages(self, attempt: str) -> list[str]:
        """Return the messages that a listening node could be given."""
        event = self.listening[attempt].spec.args[0]
        return [key for key, name in self.outside.inbox.items() if name == event and key not in self.taken]

    def receive(self, attempt: str, key: str) -> None:
        """The driver gives a message to a node."""
        node = self.listening.pop(attempt)
        self.taken.add(key)
        made = self.coming[attempt] = self.vault.make(self._name(node), f"message {key}", self.inputs_of[attempt])
        self.tell(ev.Received(attempt, key, self.vault.payload(made)))

    def cancel(self) -> None:
        """Somebody asks for the end."""
        self.outside.inbox.setdefault("cancel/1", "cancel")
        self.tell(ev.Cancelled("cancel/1"))

    def settle(self) -> None:
        """A person looks at the world and says what became of the effect that nobody else could tell."""
        history = History.of(self.log)
        assert history.attention is not None
        intent = history.intents[history.attention.attempt]
        start = self.outside.starts.get(intent.attempt)
        record: Any
        if intent.key == intent.attempt:
            if start is not None:
                start.undone = True
            record = UndoRecord("w", intent.task_id, intent.attempt)
        else:
            found = next((s for s in self.outside.starts.values() if s.key == intent.key and s.happened), None)
            if found is not None:
                made = self.returns(found)
                self.made.setdefault(intent.attempt, made)
                self.seen.setdefault(intent.attempt, Seen(intent.task_id, intent.reads, False))
                record = Outcome(
                    "w", intent.task_id, intent.attempt, intent.attempt, intent.reads, "value", True, "", 1,
                    0.0, 0.0, "", self.vault.payload(made),
                )  # fmt: skip
            else:
                if start is not None:
                    start.ruled_out = True
                record = Settlement("w", intent.task_id, intent.attempt, False)
        self._append([record])

    # --- commands -------------------------------------------------------------------------------------------------

    def _obey(self, commands: list[ev.Command]) -> None:
        for command in commands:
            _CARRY_OUT[type(command)](self, command)

    def _run(self, command: ev.Run) -> None:
        node, attempt = command.node, command.attempt
        task = node.spec.task
        start = Start(
            attempt, node.task_id, self._name(node), task.policy, self.state.key_of(node), self.inputs(node),
            tuple(read.incarnation for read in node.reads), self.lives, task.fingerprint,
        )  # fmt: skip
        promises.a_start_is_safe(self, node, start)
        self.inputs_of[attempt] = start.inputs
        self.outside.starts[attempt] = start
        self.persistence[attempt] = persistence_of(node)
        self.running[attempt] = node
        self.ran.add(node.task_id)

    def _commit(self, command: ev.Commit) -> None:
        self._aftermaths.clear()
        if isinstance(command.record, End):
            self.at_the_end = {
                task_id: node.what if node.finished else "again" if node.keep_incarnation else ""
                for task_id, node in self.state.nodes.items()
            }
        record = command.record
        if self.state.ended in (None, "attention") and getattr(record, "what", "") in ("caught", "error"):
            promises.a_failure_is_final(self.state.nodes[record.task_id])
        self.buffer.append(self._portable(command.record))

    def _persist(self, command: ev.Persist) -> None:
        promises.kept(command.node.value is not None, f"{command.node} was released before it could be stored")
        self.uploads.append((command.attempt, self.vault.thaw(command.node.value)))

    def _undo(self, command: ev.Undo) -> None:
        intent: Any = command.payload
        given = self.inputs_of.get(command.attempt)
        if given is None:
            given = self.vault.thaw(intent.payload)
        promises.an_undo_is_due(self, command, given)
        self.undoing.append((command.node, command.attempt))

    def _resolve(self, command: ev.Resolve) -> None:
        start = self.outside.starts.get(command.attempt)
        promises.kept(
            start is None or not start.running or start.policy.fences, f"{command.attempt} is resolved while it runs"
        )
        self.resolving.append((command.node, command.attempt, command.key))

    def _discard(self, command: ev.Discard) -> None:
        promises.a_discard_is_safe(self, command.key)
        self.outside.inbox.pop(command.key, None)

    def _stop(self, command: ev.Stop) -> None:
        if command.attempt in self.running:
            self.stopping.append(command.attempt)

    def _arm(self, command: ev.Arm) -> None:
        if command.delay_s is not None:
            self.retrying.append(command.attempt)
            return
        self._wait(command.node, command.attempt, command.deadline)
        self.sleeping[command.attempt] = command.node

    def _listen(self, command: ev.Listen) -> None:
        self.listening[command.attempt] = command.node
        timed = "timeout_s" in command.node.spec.kwargs
        self._wait(command.node, command.attempt, command.deadline if timed else 0.0)

    def _wait(self, node: NodeState, attempt: str, deadline: float | None) -> None:
        promises.a_wait_is_safe(self, node)
        self.inputs_of[attempt] = inputs = self.inputs(node)
        if deadline is None:
            self.unarmed.append(attempt)
        else:
            known = [r.deadline for r in self.log if isinstance(r, TimerArmed) and r.task_id == node.task_id]
            promises.kept(not deadline or deadline in known, f"{node} is to wait until {deadline}, not {known}")
        if deadline:
            before = self.deadlines[node.task_id]
            promises.kept(before == inputs or self.accepted, f"{node} sleeps as long as a lost {before} said")

    def _answer(self, command: ev.Answer) -> None:
        promises.kept(self.answer is None, "answered twice")
        self.answer = command
        if command.status == "attention":
            return
        value = None
        if command.status == "succeeded":
            value = self.thaw(command.node.value or command.node.payload)
            if isinstance(value, tuple):
                value = value[1].made
            ran_here = self.made.get(command.node.incarnation) if self.plan is None else None
            promises.kept(ran_here is None or ran_here is value, "the answer is not the result")
        ends = [r for r in self.log if isinstance(r, End)]
        promises.kept(bool(ends) and ends[0].status == command.status, f"{command.status} is told, and not durable")
        self.outside.told.append((command.status, value))


_CARRY_OUT: dict[type, Callable[[World, Any], None]] = {
    ev.Run: World._run,
    ev.Commit: World._commit,
    ev.Persist: World._persist,
    ev.Undo: World._undo,
    ev.Resolve: World._resolve,
    ev.Discard: World._discard,
    ev.Stop: World._stop,
    ev.Arm: World._arm,
    ev.Listen: World._listen,
    ev.Answer: World._answer,
}
