"""The largest consistent cut: what of a crashed workflow still counts, and what must be done about the rest.

Found backwards from the result and from every intent without an end, iterated to a fixpoint. Three sets grow until
nothing changes any more:

- *rerun*: tasks that must run (again), because no outcome of theirs is known, or its value is lost and wanted, or
  the outcome is an orphan;
- *changed*: those of them whose new outcome may differ from the recorded one, so that whoever read the old one is an
  orphan: nondeterministic ones, those that ran on changed inputs, those whose code changed;
- *gone*: nodes of continuations whose parent changed.

Each node enters each set at most once and each edge is looked at a constant number of times, so the cost is linear in
nodes, edges and records.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from exoflow.graph.dag import Dag, NodeSpec
from exoflow.journal.records import Intent, Outcome
from exoflow.recovery.history import History
from exoflow.tasks.policy import Effects

__all__ = ["PlanNode", "RecoveryPlan", "plan_recovery", "unfold"]


@attrs.define(eq=False)
class PlanNode:
    """A node of the DAG as it had grown before the crash."""

    task_id: str
    spec: NodeSpec
    parent: str | None
    """The incarnation whose continuation it belongs to."""
    deps: tuple[str, ...]
    committed_deps: tuple[str, ...]
    order_deps: tuple[str, ...]
    catches: bool = False
    """Whether its failures become values, by its own option or as the last node of a continuation."""

    @property
    def deterministic(self) -> bool:
        """Whether running it again on the same inputs gives the same value. Failures never do."""
        return bool(self.spec.task.policy.deterministic) and not self.catches


@attrs.frozen
class RecoveryPlan:
    """What recovery does. Task ids are those of the DAG as it had grown."""

    load: frozenset[str]
    """Outcomes that count. Their values are loaded when wanted, where they were stored."""
    rerun: Mapping[str, str | None]
    """Tasks to run, with the incarnation they reproduce (deterministic ones on unchanged inputs), else None."""
    roll_back: tuple[Intent, ...]
    """Attempts to undo before anything runs, in this order: reverse causal."""
    resolve: tuple[Intent, ...]
    """Attempts of once tasks of which nobody knows what they did."""
    unended: tuple[Intent, ...] = ()
    """Attempts that may still run, in a process nobody hears any more: neither undone nor asked about before a person has
    said what became of them. Without those of receivers that refuse late arrivals (``fences=True``)."""
    code_changed: tuple[str, ...] = ()
    """Deterministic tasks that must run again with other code than before..."""
    endangered: tuple[str, ...] = ()
    """...and effects that may have acted on a value of the old code: not recoverable without somebody's consent."""


def unfold(dag: Dag, continuations: Mapping[str, Dag], history: History) -> dict[str, PlanNode]:
    """Return every node the workflow is known to have had, those of superseded continuations included."""
    nodes: dict[str, PlanNode] = {}
    _add(nodes, dag, None, catches=False)
    for incarnation, outcome in history.outcomes.items():
        if incarnation in continuations:
            parent = nodes.get(outcome.task_id)
            _add(nodes, continuations[incarnation], incarnation, catches=parent is not None and parent.catches)
    return nodes


def _add(nodes: dict[str, PlanNode], dag: Dag, parent: str | None, *, catches: bool) -> None:
    ids = [spec.task_id if parent is None else f"{parent}/{at}" for at, spec in enumerate(dag.nodes)]
    for task_id, spec in zip(ids, dag.nodes, strict=True):
        nodes[task_id] = PlanNode(
            task_id,
            spec,
            parent,
            tuple([ids[at] for at in spec.deps]) if spec.deps else (),
            tuple(ids[at] for at in spec.committed),
            tuple(ids[at] for at in spec.after),
            spec.task.policy.catch_exceptions or (catches and spec is dag.root),
        )


def plan_recovery(
    dag: Dag,
    history: History,
    continuations: Mapping[str, Dag] | None = None,
    *,
    live_references: frozenset[str] = frozenset(),
    nodes: dict[str, PlanNode] | None = None,
) -> RecoveryPlan:
    """Decide what still counts after a crash.

    Args:
        dag: The workflow as submitted.
        history: What its journals say.
        continuations: By incarnation, the DAGs that tasks returned.
        live_references: Incarnations whose values are still alive in an executor though no checkpoint has them.
        nodes: What `unfold` made of the first three, when the caller has it already.

    Returns:
        The plan with the largest consistent cut.

    Source:
        Zhuang et al., "ExoFlow", OSDI 2023, section 4, extended by effects, determinism and continuations; the rules
        are those of `docs/design/0002-settled.md`.
    """
    continuations = continuations or {}
    if nodes is None:
        nodes = unfold(dag, continuations, history)
    return _Planner(dag, history, continuations, live_references, nodes).plan()


class _Planner:
    def __init__(
        self,
        dag: Dag,
        history: History,
        continuations: Mapping[str, Dag],
        live: frozenset[str],
        nodes: dict[str, PlanNode],
        *,
        code_matters: bool = True,
    ) -> None:
        self.dag, self.history, self.continuations, self.live, self.nodes = dag, history, continuations, live, nodes
        self.code_matters = code_matters
        self.rerun: dict[str, None] = {}
        self.changed: set[str] = set()
        self.gone: set[str] = set()
        self.stack: list[tuple[str, bool]] = []
        self.readers: dict[str, list[str]] = {}
        """Incarnation to the tasks whose current outcome read it."""
        self.children: dict[str, list[str]] = {}
        """Incarnation to the nodes of its continuation."""
        self.code_changed: dict[str, None] = {}

    def plan(self) -> RecoveryPlan:
        self._cut()
        return self._finish()

    def _cut(self) -> None:
        history, nodes = self.history, self.nodes
        for node in nodes.values():
            if node.parent is not None:
                self.children.setdefault(node.parent, []).append(node.task_id)
        task_of = {outcome.incarnation: outcome.task_id for outcome in history.outcomes.values()}
        for task_id, incarnation in history.current.items():
            for read in history.outcomes[incarnation].reads:
                self.readers.setdefault(read, []).append(task_id)
        for incarnation in self.children:
            # Nodes of a continuation that is not its task's current outcome never count.
            if history.current.get(task_of.get(incarnation, "")) != incarnation:
                self._vanish(incarnation)
        for task_id, incarnation in history.current.items():
            if task_id not in nodes or task_id in self.gone:
                continue
            outcome = history.outcomes[incarnation]
            for read in outcome.reads:
                if history.current.get(task_of.get(read, "")) != read:
                    self._mark(task_id, changed=True)
            if history.end is None and outcome.attempt in history.undone and outcome.what in ("value", "continuation"):
                # It was superseded once, and taken back. That code changed back since does not bring it back.
                self._mark(task_id, changed=False)
        for task_id in nodes:
            if task_id not in self.gone and task_id not in history.current:
                self._mark(task_id, changed=False)
        result = self._provider(self.dag.root.task_id)
        if result not in self.rerun and not self._has_value(result):
            self._mark(result, changed=False)
        self._spread()

    # --- the three sets -----------------------------------------------------------------------------------------

    def _mark(self, task_id: str, *, changed: bool) -> None:
        if task_id in self.gone or task_id not in self.nodes:
            return
        if not changed and task_id in self.history.current:
            changed = self._may_differ(task_id)
        if task_id not in self.rerun:
            self.rerun[task_id] = None
            self.stack.append((task_id, False))
        if changed and task_id not in self.changed:
            self.changed.add(task_id)
            self.stack.append((task_id, True))

    def _may_differ(self, task_id: str) -> bool:
        """Whether running a task again, on the same inputs, may give another value than the recorded one."""
        outcome = self.history.outcomes[self.history.current[task_id]]
        task = self.nodes[task_id].spec.task
        if not self.nodes[task_id].deterministic or outcome.what in ("caught", "error", "message"):
            return True
        if self.code_matters and outcome.fingerprint != task.fingerprint:
            self.code_changed[task_id] = None
            return True
        return False

    def _spread(self) -> None:
        while self.stack:
            task_id, differs = self.stack.pop()
            if task_id in self.gone:
                continue
            if differs:
                incarnation = self.history.current.get(task_id)
                if incarnation is not None:
                    for reader in self.readers.get(incarnation, ()):
                        self._mark(reader, changed=True)
                    self._vanish(incarnation)
                continue
            node = self.nodes[task_id]
            effects = [t for t in node.order_deps if self.nodes[t].spec.task.policy.effects is not Effects.NONE]
            for before in (*node.deps, *node.committed_deps, *effects):
                provider = self._provider(before)
                if provider not in self.rerun and not self._has_value(provider):
                    self._mark(provider, changed=False)

    def _vanish(self, incarnation: str) -> None:
        """The continuation of *incarnation* no longer counts, nor do those of its nodes."""
        stack = [incarnation]
        while stack:
            for child in self.children.get(stack.pop(), ()):
                if child in self.gone:
                    continue
                self.gone.add(child)
                self.rerun.pop(child, None)
                own = self.history.current.get(child)
                if own is not None:
                    for reader in self.readers.get(own, ()):
                        self._mark(reader, changed=True)
                    stack.append(own)

    def _provider(self, task_id: str) -> str:
        """Follow continuations that still count to the node whose value is wanted."""
        while True:
            incarnation = self.history.current.get(task_id)
            if incarnation is None or task_id in self.changed or incarnation not in self.continuations:
                return task_id
            task_id = f"{incarnation}/{len(self.continuations[incarnation].nodes) - 1}"

    def _has_value(self, task_id: str) -> bool:
        incarnation = self.history.current.get(task_id)
        if incarnation is None:
            return False
        return self.history.outcomes[incarnation].payload is not None or incarnation in self.live

    # --- what follows -------------------------------------------------------------------------------------------

    def _finish(self) -> RecoveryPlan:
        history, nodes = self.history, self.nodes
        ended_by = {outcome.attempt: outcome for outcome in history.outcomes.values()}
        roll_back, resolve, unended = [], [], []
        for intent in history.intents.values():
            node = nodes.get(intent.task_id)
            if intent.attempt not in ended_by and self._may_still_run(intent):
                unended.append(intent)
                continue
            effects = node.spec.task.policy.effects if node is not None else Effects.ROLLBACK
            if effects is Effects.ROLLBACK:
                if intent.attempt not in history.undone and not self._counts(ended_by.get(intent.attempt)):
                    roll_back.append(intent)
            # A trace says that it happened, but not what came of it: then, too, only `resolve` knows.
            elif (
                effects is Effects.ONCE
                and intent.attempt not in history.settled
                and (intent.attempt not in ended_by or (intent.task_id in self.rerun and history.end is None))
            ):
                resolve.append(intent)
        endangered = self._endangered()
        return RecoveryPlan(
            load=frozenset(t for t in history.current if t in nodes and t not in self.rerun and t not in self.gone),
            rerun={
                t: history.current[t] if t in history.current and t not in self.changed else None for t in self.rerun
            },
            roll_back=tuple(reversed(roll_back)),
            resolve=tuple(resolve),
            unended=tuple(unended),
            code_changed=tuple(self.code_changed) if endangered else (),
            endangered=endangered,
        )

    def _may_still_run(self, intent: Intent) -> bool:
        history, node = self.history, self.nodes.get(intent.task_id)
        if not history.silent or intent.attempt in history.undone or intent.attempt in history.settled:
            return False
        fences = node is not None and node.spec.task.policy.fences
        return not fences and intent.attempt.partition(".")[0] in history.silent

    def _counts(self, outcome: Outcome | None) -> bool:
        if outcome is None or outcome.task_id in self.gone or outcome.task_id in self.rerun:
            return False
        return self.history.current.get(outcome.task_id) == outcome.incarnation

    def _endangered(self) -> tuple[str, ...]:
        """Effects that happened, or may have begun, on what only the code of before would make again.

        Found by comparison with the cut that there would be had the code not changed.
        """
        self._unrecorded_code_changes()
        if not self.code_changed:
            return ()
        blind = _Planner(self.dag, self.history, self.continuations, self.live, self.nodes, code_matters=False)
        blind._cut()
        return tuple(t for t in self.nodes if t not in blind.gone and self._has_acted_on_old_code(t, blind))

    def _has_acted_on_old_code(self, task_id: str, blind: "_Planner") -> bool:
        history, spec = self.history, self.nodes[task_id].spec
        effects = spec.task.policy.effects
        if effects not in (Effects.IDEMPOTENT, Effects.ONCE) and spec.kind != "event":  # a message is taken for good
            return False
        if task_id in history.current:
            told = [history.outcomes[history.current[task_id]].reads]
        elif effects is Effects.ONCE:  # it would have logged an intent
            told = [
                i.reads for i in history.intents.values() if i.task_id == task_id and i.attempt not in history.settled
            ]
        elif effects is Effects.IDEMPOTENT:
            return self._may_have_begun_on_old_code(task_id, blind)
        else:
            return False
        return any(
            all(blind._stands(read) for read in reads)
            and (task_id in self.gone or not all(self._stands(read) for read in reads))
            for reads in told
        )

    def _may_have_begun_on_old_code(self, effect: str, blind: "_Planner") -> bool:
        """An effect begins only on settled inputs: had it begun, all nondeterminism before it would be recorded."""
        touched = False
        stack, seen = [effect], set[str]()
        while stack:
            task_id = stack.pop()
            if task_id in seen:
                continue
            seen.add(task_id)
            node, incarnation = self.nodes[task_id], self.history.current.get(task_id)
            if incarnation is not None:
                if not blind._stands(incarnation):
                    return False
                touched = touched or not self._stands(incarnation)
                continue
            if task_id != effect and not node.deterministic:
                return False
            touched = (
                touched or task_id in self.code_changed or (node.parent is not None and not self._stands(node.parent))
            )
            stack.extend([blind._provider(before) for before in (*node.deps, *node.committed_deps)])
        return touched

    def _stands(self, incarnation: str) -> bool:
        outcome = self.history.outcomes.get(incarnation)
        return (
            outcome is not None
            and outcome.task_id not in self.changed
            and outcome.task_id not in self.gone
            and self.history.current.get(outcome.task_id) == incarnation
        )

    def _unrecorded_code_changes(self) -> None:
        """A deterministic task without any record may have run all the same, with the code its DAG was stored with."""
        submission = self.history.submission
        if submission is None:
            return
        for task_id in self.rerun:
            spec = self.nodes[task_id].spec
            task: Any = spec.task
            if task_id in self.history.current or task.kind != "task" or not self.nodes[task_id].deterministic:
                continue
            known = spec.code or submission.fingerprints.get(task.qualified_name)
            if known is not None and known != task.fingerprint:
                self.code_changed[task_id] = None
