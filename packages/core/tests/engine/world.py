"""A world for the pure engine: virtual executors, a log that forgets what was not flushed, crashes at any moment.

A value is its whole provenance, ``(task, nonce, inputs)``: a deterministic task has no nonce, so two values are equal
exactly when nobody could tell them apart. One incarnation of each task must explain the answer and every effect.
"""

import pickle
import random
from collections import Counter
from typing import Any

import exoflow.engine.events as ev
from exoflow.engine.node_state import NodeState
from exoflow.engine.restoring import restore
from exoflow.engine.state import WorkflowState
from exoflow.errors import TaskLostError
from exoflow.graph.dag import Dag, Upstream, compile_dag, fill
from exoflow.graph.node import Node
from exoflow.journal.records import Intent, Outcome, Submission, WorkflowRecord, decode, encode
from exoflow.recovery.history import History
from exoflow.tasks.policy import Checkpoint, Effects
from exoflow.tasks.task import Task, task
from exoflow.values import Live, Payload

_BIG = 1 << 40


def payload(value: Any) -> Payload:
    data = pickle.dumps(value)
    return Payload("sim", (len(data),), data)


def thaw(value: Any) -> Any:
    if isinstance(value, Live):
        return value.value
    return pickle.loads(value.data)


class World:
    """One workflow from its submission to its answer, through crashes.

    Args:
        root: The DAG. A task's function is never called; `behave` says what happens.
        seed: Of every choice.
        crashes: How many times the controller dies.
        failures: The chance that an attempt raises.
        losses: The chance that an attempt's process dies.
    """

    def __init__(
        self, root: Node, seed: int, *, crashes: int = 2, failures: float = 0.0, losses: float = 0.0, cancel: float = 0.0
    ) -> None:
        self.random = random.Random(seed)
        self.dag = compile_dag(root)
        self.crashes, self.failures, self.losses, self.cancel = crashes, failures, losses, cancel
        self.log: list[WorkflowRecord] = []
        self.lives = 0
        self.effects: list[tuple[str, str, str, Any]] = []
        """Every effect that happened: task, attempt, key, inputs."""
        self.undone: set[str] = set()
        self.runs: Counter[str] = Counter()
        self.committed_runs = 0
        """Runs of tasks whose committed outcome counted when they started: work done again without need."""
        self.answer: ev.Answer | None = None
        self.value: Any = None
        self.once_attempts: dict[str, str] = {}
        self.steps = 0

    def run(self) -> "World":
        while self.answer is None:
            self._live()
        return self

    # --- one life -----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        self.lives += 1
        prefix = f"j{self.lives}.1"
        self.pending: list[tuple[str, Any]] = []
        self.buffer: list[WorkflowRecord] = []
        self.in_flight: list[WorkflowRecord] | None = None
        self.started: dict[str, NodeState] = {}
        if not self.log:
            self.state = WorkflowState(self.dag, workflow_id="w", generation=1, prefix=prefix)
            self._obey(self.state.begin(Submission("w", 1, "", "", 0.0, {}, {}), 0.0))
        else:
            history = History.of(self.log)
            again = History.of(history.records())
            assert History.of(again.records()).records() == again.records(), "restating is a fixpoint"
            decoded = {
                o.incarnation: thaw(o.payload)
                for o in history.outcomes.values()
                if o.what in ("continuation", "error") and o.payload
            }
            self.state, self.plan = restore(self.dag, again, decoded, prefix=prefix)
            self._obey(self.state.go_on(0.0))
        while self.answer is None:
            if not self._step():
                return

    def _step(self) -> bool:
        self.steps += 1
        assert self.steps < 20_000, "no progress"
        choices: list[tuple[str, Any]] = list(self.pending)
        if self.buffer and self.in_flight is None:
            choices.append(("flush", None))
        if self.in_flight is not None:
            choices.append(("flushed", None))
        if not choices:
            stuck = [n for n in self.state.nodes.values() if not n.finished]
            raise AssertionError(f"deadlock: {stuck} parked={list(self.state._parked)} ended={self.state.ended}")
        if self.crashes and self.random.random() < 0.04:
            self.crashes -= 1
            self._crash()
            return False
        if self.cancel and self.random.random() < self.cancel:
            self.cancel = 0.0
            self._obey(self.state.handle(ev.Cancelled(), 0.0))
            return True
        choice = self.random.choice(choices)
        if choice in self.pending:
            self.pending.remove(choice)
        kind, what = choice
        if kind == "flush":
            self.in_flight, self.buffer = self.buffer, []
        elif kind == "flushed":
            assert self.in_flight is not None
            self.log += [decode(memoryview(encode(self._portable(r)))) for r in self.in_flight]
            count, self.in_flight = len(self.in_flight), None
            self._obey(self.state.handle(ev.Committed(count), 0.0))
        else:
            getattr(self, "_do_" + kind)(what)
        return True

    def _crash(self) -> None:
        # A flush under way may have landed or not; attempts may have had their effect or not.
        if self.in_flight is not None and self.random.random() < 0.5:
            self.log += [decode(memoryview(encode(self._portable(r)))) for r in self.in_flight]
        for attempt, node in self.started.items():
            if self.random.random() < 0.5:
                self._happen(node, attempt)

    def _portable(self, record: Any) -> Any:
        import attrs

        value = getattr(record, "payload", None)
        if isinstance(record, Intent) and value is None:
            return attrs.evolve(record, payload=payload("undo"))
        return attrs.evolve(record, payload=payload(value.value)) if isinstance(value, Live) else record

    # --- commands -----------------------------------------------------------------------------------------------

    def _obey(self, commands: list[ev.Command]) -> None:
        for command in commands:
            if isinstance(command, ev.Run):
                assert self.state.ended is None
                self._check_start(command.node)
                self.started[command.attempt] = command.node
                self.pending.append(("outcome", command.attempt))
            elif isinstance(command, ev.Commit):
                self.buffer.append(command.record)
            elif isinstance(command, ev.Persist):
                assert command.node.value is not None
                self.pending.append(("persisted", (command.attempt, command.node.value)))
            elif isinstance(command, ev.Undo):
                self.pending.append(("undo", (command.node, command.attempt)))
            elif isinstance(command, ev.Resolve):
                self.pending.append(("resolve", (command.node, command.attempt)))
            elif isinstance(command, ev.Arm):
                self.pending.append(("fire", command.attempt))
            elif isinstance(command, ev.Stop):
                if command.attempt in self.started:
                    self.pending.append(("stopped", command.attempt))
            elif isinstance(command, ev.Answer):
                self.answer = command
                if command.status == "succeeded":
                    self.value = thaw(command.node.value or command.node.payload)

    def _check_start(self, node: NodeState) -> None:
        if node.effects is Effects.ONCE:
            assert node.task_id not in self.once_attempts or self._did_not_happen(node), f"{node} once, twice"
            self.once_attempts[node.task_id] = node.attempt

    def _did_not_happen(self, node: NodeState) -> bool:
        return not any(t == node.task_id for t, _, _, _ in self.effects)

    def _inputs(self, node: NodeState) -> Any:
        values = [thaw((b.provider or b).value) for b in node.deps[: len(node.spec.deps)]]
        made = node.parent.incarnation if node.parent is not None else None
        return (made, tuple(fill(node.spec.args, values)))

    def _happen(self, node: NodeState, attempt: str) -> None:
        if node.effects is not Effects.NONE:
            self.effects.append((node.task_id, attempt, self._key(node, attempt), self._inputs(node)))

    def _key(self, node: NodeState, attempt: str) -> str:
        return attempt if node.effects is Effects.ROLLBACK else f"w/1/{node.task_id}"

    def _do_outcome(self, attempt: str) -> None:
        node = self.started.pop(attempt, None)
        if node is None:
            return
        self.runs[node.task_id] += 1
        chance = self.random.random()
        if chance < self.losses:
            if self.random.random() < 0.5:
                self._happen(node, attempt)
            self._obey(self.state.handle(ev.Failed(attempt, TaskLostError(node.task_id, "sim"), system=True), 0.0))
            return
        if chance < self.losses + self.failures:
            if self.random.random() < 0.5 and node.effects is not Effects.ONCE:
                self._happen(node, attempt)
            self._obey(self.state.handle(ev.Failed(attempt, ValueError(attempt)), 0.0))
            return
        self._happen(node, attempt)
        continuation = None
        value: Any = (node.task_id, None if node.spec.task.policy.deterministic else attempt, self._inputs(node))
        grow = node.spec.kwargs.get("grow")
        if grow:
            continuation = self._continuation(node, grow, value)
        if continuation is not None:
            value = continuation
        stored = None
        later = False
        persistence = node.mode if not (node.must_commit or node.is_result) else node.mode
        if persistence is Checkpoint.SYNC:
            stored = payload(value)
        elif persistence in (Checkpoint.ASYNC, Checkpoint.AUTO):
            if self.random.random() < 0.5:
                stored = payload(value)
            else:
                later = persistence is Checkpoint.ASYNC
        if later:
            self.pending.append(("persisted", (attempt, Live(value))))
        self._obey(
            self.state.handle(
                ev.Finished(
                    attempt, None if continuation is not None else Live(value), stored, continuation,
                    worth_keeping=stored is not None,
                ),
                0.0,
            )
        )  # fmt: skip

    def _continuation(self, node: NodeState, grow: int, value: Any) -> Dag:
        chooser = random.Random(str(value)) if node.spec.task.policy.deterministic else self.random
        return compile_dag(random_dag(chooser, chooser.randint(1, 3), grow=grow - 1, constant=("made", value)))

    def _do_persisted(self, what: tuple[str, Any]) -> None:
        attempt, value = what
        self._obey(self.state.handle(ev.Persisted(attempt, payload(thaw(value))), 0.0))

    def _do_undo(self, what: tuple[NodeState, str]) -> None:
        _, attempt = what
        assert attempt not in self.started, "undone while it runs"
        self.undone.add(attempt)
        self._obey(self.state.handle(ev.Undone(attempt), 0.0))

    def _do_resolve(self, what: tuple[NodeState, str]) -> None:
        node, attempt = what
        happened = [e for e in self.effects if e[0] == node.task_id]
        if happened:
            value = (node.task_id, happened[0][1], happened[0][3])
            event = ev.Resolved(attempt, True, Live(value), payload(value))
        else:
            event = ev.Resolved(attempt, False)
        self._obey(self.state.handle(event, 0.0))

    def _do_fire(self, attempt: str) -> None:
        self._obey(self.state.handle(ev.Fired(attempt), 0.0))

    def _do_stopped(self, attempt: str) -> None:
        node = self.started.pop(attempt, None)
        if node is not None:
            if self.random.random() < 0.5:
                self._happen(node, attempt)
            self._obey(self.state.handle(ev.Ended(attempt), 0.0))

    # --- the promises -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """One incarnation of each task explains everything that can be seen."""
        assert self.answer is not None
        by_key: dict[str, Any] = {}
        policies = {t: n.spec.task.policy for t, n in self.state.nodes.items()}
        seen: dict[str, Any] = {}
        if self.answer.status == "succeeded":
            _provenance(self.value, seen)
        standing: Counter[str] = Counter()
        for task_id, attempt, key, inputs in self.effects:
            assert by_key.setdefault(key, repr(inputs)) == repr(inputs), f"key {key} was used with two sets of inputs"
            if attempt in self.undone:
                continue
            standing[task_id] += 1
            _provenance(inputs[1], seen)
            effects = policies[task_id].effects if task_id in policies else None
            assert effects is not None, f"{task_id} belongs to no continuation that counts, and was not undone"
            if effects in (Effects.ROLLBACK, Effects.ONCE):
                assert standing[task_id] == 1, f"{task_id} ({effects}) happened twice"
        if self.answer.status in ("failed", "cancelled"):
            for task_id in standing:
                assert policies[task_id].effects is not Effects.ROLLBACK, f"{task_id} was not rolled back"
        if self.answer.status == "succeeded":
            for task_id, node in self.state.nodes.items():
                if node.spec.task.policy.effects is not Effects.NONE and not self.failures and not self.losses:
                    assert standing[task_id] >= 1, f"{task_id} never happened"


def _provenance(value: Any, seen: dict[str, Any]) -> None:
    stack = [value]
    while stack:
        at = stack.pop()
        if isinstance(at, tuple) and len(at) == 3 and isinstance(at[0], str):
            task_id, nonce, inputs = at
            known = seen.setdefault(task_id, at)
            assert known is at or repr(known) == repr(at), f"two incarnations of {task_id} were seen: {known[1]} and {nonce}"
            if known is not at or inputs:
                stack.extend(inputs[1])
        elif isinstance(at, list | tuple):
            stack.extend(at)


def _nothing(*args: Any, grow: int = 0) -> None:
    raise AssertionError("the world behaves, functions are not called")


def random_policy(chooser: random.Random) -> Task[Any, Any]:
    kind = chooser.choice(["det", "nondet", "nondet", "idempotent", "rollback", "once"])
    mode = chooser.choice(["sync", "async", "skip", "skip", "auto"])
    strict = chooser.choice(["sync", "async"])
    retries = chooser.choice([0, 2, 5])
    made: Task[Any, Any]
    if kind == "det":
        made = task(effects="none", deterministic=True, checkpoint=mode, retries=retries, version="1")(_nothing)
    elif kind == "nondet":
        made = task(effects="none", checkpoint=mode, retries=retries, version="1")(_nothing)
    elif kind == "idempotent":
        made = task(checkpoint=mode, retries=retries, version="1")(_nothing)
    elif kind == "rollback":
        made = task(rollback=print, checkpoint=strict, retries=retries, version="1")(_nothing)
    else:
        made = task(effects="once", resolve=print, checkpoint=strict, retries=retries, version="1")(_nothing)
    if chooser.random() < 0.15:
        made = made.options(catch_exceptions=True)
    return made


def random_dag(chooser: random.Random, size: int, *, grow: int = 0, constant: Any = 0) -> Node:
    nodes: list[Node] = []
    for _ in range(size):
        made = random_policy(chooser)
        before = [n for n in nodes if chooser.random() < 0.45]
        if nodes and chooser.random() < 0.1:
            made = made.options(after=[chooser.choice(nodes)])
        if nodes and chooser.random() < 0.1:
            made = made.options(wait_until_committed=[chooser.choice(nodes)])
        options = {"grow": grow} if grow and chooser.random() < 0.3 else {}
        nodes.append(made.bind(constant, *before, **options))
    unread = [n for n in nodes if not any(n in m.args or n in m.after or n in m.wait_until_committed for m in nodes)]
    return nodes[-1] if len(unread) == 1 else random_policy(chooser).bind(constant, unread)


__all__ = ["World", "random_dag"]
_ = (Outcome, Upstream, _BIG)
