"""What holds for every log, found by drawing logs: no prefix is refused, and the cut is consistent and the largest there is."""

import random
from itertools import chain, combinations
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exoflow.graph.dag import NodeSpec
from exoflow.graph.node import Node
from exoflow.journal.records import UndoRecord
from exoflow.recovery.history import History
from exoflow.recovery.plan import RecoveryPlan, plan_recovery
from exoflow.tasks.policy import Effects

from .history_of import Story, a_task, attempts

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS = ["deterministic", "deterministic", "none", "none", "idempotent", "rollback", "once"]


def drawn_node(draw: st.DrawFn, name: str, before: list[Node]) -> Node:
    kind = draw(st.sampled_from(KINDS))
    made = a_task(name, "none" if kind == "deterministic" else kind, deterministic=kind == "deterministic")
    return made.bind(*[node for node in before if draw(st.booleans())])


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """A DAG of up to six tasks and a log that an engine could have written of it, with re-runs after crashes."""
    nodes: list[Node] = []
    for at in range(draw(st.integers(1, 5))):
        nodes.append(drawn_node(draw, f"t{at}", nodes))
    story = Story(a_task("end").bind(*nodes))
    for count in range(draw(st.integers(0, 12))):
        current = story.history.current
        ready = [s for s in story.dag.nodes if all(story.dag.nodes[i].task_id in current for i in s.deps)]
        log_attempt(draw, story, draw(st.sampled_from(ready)), f"{count}", current)
    return story


def log_attempt(draw: st.DrawFn, story: Story, spec: NodeSpec, attempt: str, current: dict[str, str]) -> None:
    task_id, effects = spec.task_id, spec.task.policy.effects
    reads = " ".join(current[story.dag.nodes[i].task_id] for i in spec.deps)
    if effects in (Effects.ROLLBACK, Effects.ONCE):
        story.intent(task_id, attempt, reads)
        if draw(st.integers(0, 3)) == 0:  # it did not finish
            if effects is Effects.ROLLBACK and draw(st.booleans()):
                story.undone(task_id, attempt)
            elif effects is Effects.ONCE and draw(st.booleans()):
                story.settled(task_id, attempt, happened=False)
            return
    before = story.history.outcomes.get(current.get(task_id, ""))
    again = spec.task.policy.deterministic and before is not None and " ".join(before.reads) == reads
    name = current[task_id] if again else attempt
    story.outcome(task_id, attempt, reads, incarnation=name, stored=draw(st.booleans()))


class Cut:
    """One way to divide the recorded tasks into those that count and those that run again."""

    def __init__(self, story: Story, kept: frozenset[str]) -> None:
        self.history, self.kept = story.history, kept
        self.specs = {spec.task_id: spec for spec in story.dag.nodes}
        self.deps = {s.task_id: [story.dag.nodes[i].task_id for i in s.deps] for s in story.dag.nodes}
        self.root = story.dag.root.task_id

    def stands(self, incarnation: str) -> bool:
        """Whether everybody goes on seeing this incarnation, loaded or made again."""
        outcome = self.history.outcomes[incarnation]
        if self.history.current[outcome.task_id] != incarnation:
            return False
        if outcome.task_id in self.kept:
            return True
        return self.specs[outcome.task_id].task.policy.deterministic and all(map(self.stands, outcome.reads))

    def has_value(self, task_id: str) -> bool:
        return task_id not in self.kept or self.history.outcomes[self.history.current[task_id]].payload is not None

    @property
    def consistent(self) -> bool:
        counted = [self.history.outcomes[self.history.current[task_id]] for task_id in self.kept]
        return (
            all(outcome.attempt not in self.history.undone for outcome in counted)
            and all(self.stands(read) for outcome in counted for read in outcome.reads)
            and self.has_value(self.root)
            and all(self.has_value(dep) for t in self.specs if t not in self.kept for dep in self.deps[t])
        )


@given(stories())
@PATIENT
def test_the_cut_is_consistent_and_contains_every_other_consistent_cut(story: Story) -> None:
    known = sorted(story.history.current)
    cuts = [
        Cut(story, frozenset(kept))
        for kept in chain.from_iterable(combinations(known, count) for count in range(len(known) + 1))
    ]
    plan = story.plan()

    assert Cut(story, plan.load).consistent
    assert plan.load == frozenset().union(*[cut.kept for cut in cuts if cut.consistent])
    assert plan.rerun.keys() == Cut(story, plan.load).specs.keys() - plan.load


@given(stories())
@PATIENT
def test_an_incarnation_is_kept_exactly_if_it_comes_out_again(story: Story) -> None:
    plan = story.plan()
    cut = Cut(story, plan.load)

    for task_id, kept in plan.rerun.items():
        current = story.history.current.get(task_id)
        assert kept == (current if current is not None and cut.stands(current) else None)


@given(stories())
@PATIENT
def test_every_attempt_of_a_rollback_task_counts_or_is_undone_and_those_that_read_others_first(story: Story) -> None:
    plan, history = story.plan(), story.history
    undone = attempts(plan.roll_back)
    loaded = {history.outcomes[history.current[task_id]].attempt for task_id in plan.load}
    rollback = {
        intent.attempt
        for intent in history.intents.values()
        if Cut(story, plan.load).specs[intent.task_id].task.policy.effects is Effects.ROLLBACK
    }

    assert set(undone) == rollback - loaded - history.undone
    for at, attempt in enumerate(undone):
        assert not causal_past(history, attempt) & set(undone[:at])


def causal_past(history: History, attempt: str) -> set[str]:
    past: set[str] = set()
    stack = list(history.intents[attempt].reads)
    while stack:
        read = stack.pop()
        if read not in past:
            past.add(read)
            stack.extend(history.outcomes[read].reads)
    return past


@given(stories())
@PATIENT
def test_a_crash_may_come_after_any_record(story: Story) -> None:
    whole = story.records
    for length in range(1, len(whole) + 1):
        story.records = whole[:length]
        assert Cut(story, story.plan().load).consistent


@given(stories())
@PATIENT
def test_recovering_again_before_anything_happened_changes_nothing(story: Story) -> None:
    plan = story.plan()
    undone = [UndoRecord("w", intent.task_id, intent.attempt) for intent in plan.roll_back]
    stated = History.of(story.history.records())

    assert plan_recovery(story.dag, stated) == plan
    assert plan_recovery(story.dag, History.of([*stated.records(), *undone])) == attrs.evolve(plan, roll_back=())


@given(stories(), stories(), st.randoms(use_true_random=False))
@PATIENT
def test_how_the_records_of_independent_branches_alternate_does_not_matter(
    left: Story, right: Story, chooser: random.Random
) -> None:
    # Two logs as those of the two arms of one workflow: the attempts and tasks of each have names of their own.
    arms = [renamed(left, "l"), renamed(right, "r")]
    one_after_the_other = [*arms[0], *arms[1]]
    mixed = []
    rest = [list(arm) for arm in arms]
    while any(rest):
        mixed.append(rest[not rest[0] or (bool(rest[1]) and chooser.random() < 0.5)].pop(0))
    both = joined(left, right)

    both.records = [both.records[0], *one_after_the_other]
    expected = both.plan()
    both.records = [both.records[0], *mixed]
    found = both.plan()

    assert (found.load, dict(found.rerun), set(attempts(found.resolve))) == (
        expected.load,
        dict(expected.rerun),
        set(attempts(expected.resolve)),
    )
    for arm in "lr":
        assert of_arm(found, arm) == of_arm(expected, arm)


def of_arm(plan: RecoveryPlan, arm: str) -> list[str]:
    return [attempt for attempt in attempts(plan.roll_back) if attempt.startswith(arm)]


def renamed(story: Story, arm: str) -> list[Any]:
    made = []
    records: list[Any] = story.records[1:]
    for record in records:
        changes: dict[str, Any] = {"task_id": f"{arm}-{record.task_id}", "attempt": f"{arm}{record.attempt}"}
        if hasattr(record, "reads"):
            changes["reads"] = tuple(f"{arm}{read}" for read in record.reads)
        if hasattr(record, "incarnation"):
            changes["incarnation"] = f"{arm}{record.incarnation}"
        made.append(attrs.evolve(record, **changes))
    return made


def joined(left: Story, right: Story) -> Story:
    """One workflow whose result is made from the results of both."""
    ends = []
    for arm, story in (("l", left), ("r", right)):
        nodes: list[Node] = []
        for spec in story.dag.nodes:
            nodes.append(spec.task.options(task_id=f"{arm}-{spec.task_id}").bind(*[nodes[i] for i in spec.deps]))
        ends.append(nodes[-1])
    return Story(a_task("both").bind(*ends))
