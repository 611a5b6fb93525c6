"""The search behind output commit, against trying every way a crash can fall.

The brute force plays what recovery would do, value by value; it shares no code with `exoflow.engine.settled`. More of
it: ``EXOFLOW_SEEDS=200000 pytest -m slow``.
"""

import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import combinations
from typing import Any, TypeVar

import pytest

from exoflow.engine import events as ev
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.settled import Walk, closes_without
from exoflow.engine.state import WorkflowState
from exoflow.graph.dag import NodeSpec, compile_dag
from exoflow.graph.node import Node
from exoflow.journal.records import Submission
from exoflow.tasks.policy import Checkpoint
from exoflow.tasks.task import Task, task
from exoflow.values import Live, Payload

MORE = int(os.environ.get("EXOFLOW_SEEDS", "200000"))


def a_task(name: str, **options: Any) -> Task[Any, Any]:
    def function(*args: Any) -> None:
        raise AssertionError("functions are not called here")

    function.__name__ = function.__qualname__ = name
    made: Task[Any, Any] = task(version="1", **options)(function)
    return made


KINDS = {
    (deterministic, stored): a_task(
        "t", effects="none", deterministic=deterministic, checkpoint="async" if stored else "skip"
    )
    for deterministic in (False, True)
    for stored in (False, True)
}


class Life:
    """A small workflow whose tasks finish and are committed one at a time.

    Everything a node may know of itself is told to its `NodeState`, as the engine would, from definitions alone.
    """

    def __init__(
        self, reads: Sequence[tuple[int, ...]], *, deterministic: Iterable[int] = (), stored: Iterable[int] = ()
    ) -> None:
        self.reads = reads
        size = self.size = len(reads)
        self.result = size - 1
        self.readers = [tuple(i for i in range(size) if j in reads[i]) for j in range(size)]
        self.deterministic, self.stored = set(deterministic), set(stored)
        self.finished: set[int] = set()
        self.record: dict[int, int] = {}
        """Task to the position in the log of the record that has its value."""
        self.nodes = [
            NodeState(f"t{i}", NodeSpec(f"t{i}", KINDS[i in self.deterministic, i in self.stored], (), {}, reads[i]))
            for i in range(size)
        ]
        for node, before, after in zip(self.nodes, reads, self.readers, strict=True):
            node.deps = tuple(self.nodes[j] for j in before)
            node.readers = [self.nodes[i] for i in after]
            node.waiting = len(before)
        self.nodes[-1].is_result = True
        self._connect()

    @classmethod
    def drawn(cls, chooser: random.Random) -> "Life":
        """Return a workflow of 3 to 7 tasks, of which nothing has happened yet."""
        size = chooser.choice([3, 4, 5, 6, 6, 7, 7, 7])
        if chooser.random() < 0.4:
            density = chooser.choice([0.3, 0.45, 0.6])
            reads = [tuple(j for j in range(i) if chooser.random() < density) for i in range(size)]
        else:
            reads = [
                tuple(sorted(chooser.sample(range(i), min(i, chooser.choice([0, 1, 1, 2, 2]))))) for i in range(size)
            ]
        deterministic = {i for i in range(size) if chooser.random() < 0.3}
        # What comes first is large, and skipped more often than what is made from it: there the rules differ.
        stored = {i for i in range(size) if chooser.random() < (0.2 if i < size // 2 else 0.6)}
        if size > 5 and chooser.random() < 0.3:
            # Two sources with a common reader: chance alone makes what is hard about them once in 100,000 lives.
            reads[:4] = [(), (), (0,), (0, 1)]
            deterministic -= {0, 1}
            stored = stored - {0, 1} | {2, 3}
        if chooser.random() < 0.7:  # else some tasks only come before others, and nobody reads them
            unread = set(range(size - 1)).difference(*reads)
            reads[-1] = tuple(sorted(unread.union(reads[-1])))
        return cls(reads, deterministic=deterministic, stored=stored)

    def ready(self) -> list[int]:
        """Tasks that could start now, were they not to wait for settled inputs."""
        return [i for i in range(self.size) if i not in self.finished and self.finished.issuperset(self.reads[i])]

    def step(self, chooser: random.Random) -> bool:
        """Let one task finish or be committed; return whether there was one."""
        # What is skipped is rarely stored: the shapes that matter have values that are lost between some that are not.
        storable = [i for i in sorted(self.finished - self.record.keys()) if i in self.stored or chooser.random() < 0.1]
        candidates = [(self.finish, i) for i in self.ready()] + 2 * [(self.commit, i) for i in storable]
        if not candidates:
            return False
        action, which = chooser.choice(candidates)
        action(which)
        return True

    def finish(self, *which: int) -> None:
        for i in which:
            assert i in self.ready()
            self.finished.add(i)
            node = self.nodes[i]
            node.phase, node.completed = Phase.FINISHED, True
            node.committing = i in self.stored or i == self.result
            for reader in node.readers:
                reader.waiting -= 1
            self._connect()
            self._close()

    def commit(self, *which: int) -> None:
        for i in which:
            assert i in self.finished
            self.record[i] = len(self.record) + 1
            node = self.nodes[i]
            node.committed, node.committing, node.position, node.blocked_on = True, False, self.record[i], None
            self._close()

    def _connect(self) -> None:
        for i in self.ready():
            self.nodes[i].reads = self.nodes[i].deps

    def _close(self) -> None:
        for i in self.finished - self.asked(self.finished, self.record.keys()):
            node = self.nodes[i]
            if not node.closed:
                node.closed = True
                if not node.committed:
                    node.position = len(self.record)

    def asked(self, finished: Set[int], committed: Set[int]) -> set[int]:
        """Return the uncommitted tasks whose value may be asked for again."""
        asked: set[int] = set()
        for i in reversed(range(self.size)):
            if i not in committed and (
                i == self.result
                or any(r not in finished or (r not in committed and r in asked) for r in self.readers[i])
            ):
                asked.add(i)
        return asked

    def closes_without(self, which: int, effect: int) -> bool:
        """Whether nobody may ask for *which* any more once all has happened that can without *effect*."""
        never = {effect}
        for i in range(effect + 1, self.size):
            if never.intersection(self.reads[i]):
                never.add(i)
        finished = set(range(self.size)) - never
        return which not in self.asked(finished, self.record.keys() | (finished & {*self.stored, self.result}))

    # --- what a crash would do ------------------------------------------------------------------------------------

    def may_change(self, durable: int | None = None) -> set[int]:
        """Return the tasks that another value may be seen of after a crash now, however it falls.

        Args:
            durable: How many records survive; all of them by default.
        """
        found: set[int] = set()
        chancy = self.finished - self.deterministic
        for count in range(1, len(chancy) + 1):
            for otherwise in combinations(chancy, count):
                found |= self.crash(set(otherwise), durable)
        return found & self.finished

    def crash(self, otherwise: set[int], durable: int | None = None) -> set[int]:
        """Recover and run to the end; return whose values changed on the way.

        Args:
            otherwise: Tasks that come out otherwise, should they run again.
            durable: How many records survive.
        """
        at_hand = {i for i, position in self.record.items() if durable is None or position <= durable}
        # Records name what they read, back to the beginning. What comes before others without being read is told of.
        known: set[int] = set()
        for i in reversed(range(self.size)):
            if i in at_hand or (i in self.finished and (not self.readers[i] or known.intersection(self.readers[i]))):
                known.add(i)
        version = [0] * self.size
        made_of = [dict.fromkeys(reads, 0) for reads in self.reads]
        todo = [i for i in range(self.size) if i not in known]
        if self.result not in at_hand:
            todo.append(self.result)
        changed: set[int] = set()
        while todo:
            stack = [todo.pop()]
            while stack:
                i = stack[-1]
                missing = [j for j in self.reads[i] if j not in at_hand]
                if missing:
                    stack.append(missing[0])
                    continue
                stack.pop()
                if i in at_hand:
                    continue
                inputs = {j: version[j] for j in self.reads[i]}
                at_hand.add(i)
                if inputs != made_of[i] or i in otherwise:
                    made_of[i] = inputs
                    version[i] += 1
                    changed.add(i)
                    orphans = [r for r in self.readers[i] if r in known or r in at_hand]
                    at_hand.difference_update(orphans)
                    todo.extend(orphans)
        return changed


class Tally:
    """What was decided, and how often otherwise than brute force would have."""

    def __init__(self) -> None:
        self.starts = self.waits = self.left_alone = self.needless_commits = 0
        self.unsafe: list[str] = []
        self.needless: list[str] = []
        self.reverted: list[str] = []
        self.not_durable: list[str] = []
        self.never_closes: list[str] = []

    def play(self, seed: int) -> None:
        chooser = random.Random(seed)
        life = Life.drawn(chooser)
        settled: set[int] = set()
        going = True
        while going:
            # Not at each moment: a search that came by often leaves marks everywhere, one that came late has far to go.
            if life.finished and chooser.random() < 0.5:
                self._look(life, settled, f"seed {seed}, {len(life.finished)} finished, {len(life.record)} committed")
            going = life.step(chooser)

    def _look(self, life: Life, settled: set[int], when: str) -> None:
        may_change = life.may_change()
        if may_change & settled:
            self.reverted.append(f"{when}: {may_change & settled}")
        for effect in life.ready():
            walk = Walk(life.nodes[effect].reads)
            blocker = walk.go_on()
            losable = may_change.intersection(life.reads[effect])
            here = f"{when}: {effect} reads {life.reads[effect]}"
            if blocker is not None:
                self.waits += 1
                if not losable:
                    self.needless.append(here)
                self._ask_who_closes(life, life.nodes.index(blocker), effect, here)
                continue
            self.starts += 1
            settled.update(life.reads[effect])
            if losable:
                self.unsafe.append(here)
            if walk.needed < len(life.record) and life.may_change(walk.needed).intersection(life.reads[effect]):
                self.not_durable.append(here)

    def _ask_who_closes(self, life: Life, blocker: int, effect: int, here: str) -> None:
        expected = life.closes_without(blocker, effect)
        if closes_without(life.nodes[blocker], life.nodes[effect]):
            self.left_alone += 1
            if not expected:
                self.never_closes.append(here)
        else:
            self.needless_commits += expected


def check_decisions(seeds: range) -> None:
    tally = Tally()
    for seed in seeds:
        tally.play(seed)

    assert tally.starts > len(seeds) // 2
    assert tally.waits > len(seeds) // 2
    assert not tally.unsafe
    assert not tally.needless
    assert not tally.reverted, "settled never reverts"
    assert not tally.not_durable, "what a start rests on is within the log position it was given"
    assert tally.left_alone > len(seeds) // 20
    assert not tally.never_closes, "an effect was told that others would close what is in its way"
    # One commit more than needed is allowed.
    assert tally.needless_commits < tally.waits // 20


def test_an_effect_starts_exactly_when_no_crash_can_change_what_it_reads() -> None:
    check_decisions(range(2000))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_an_effect_starts_exactly_when_no_crash_can_change_what_it_reads_in_many_more_lives() -> None:
    check_decisions(range(10_000, 10_000 + MORE))


# --- the rules, one by one ------------------------------------------------------------------------------------------------


def in_the_way(life: Life, effect: int) -> int | None:
    found = Walk(life.nodes[effect].reads).go_on()
    return None if found is None else life.nodes.index(found)


def test_a_committed_value_made_from_one_that_may_be_lost_is_not_settled() -> None:
    # u -> a -> pay, u -> b: once b asks for u again, a is an orphan.
    life = Life([(), (0,), (1,), (0,), (2, 3)], stored=[1])
    life.finish(0, 1)
    life.commit(1)

    assert life.may_change() == {0, 1}
    assert in_the_way(life, 2) == 0

    life.finish(3)
    life.commit(3)

    assert life.may_change() == set()
    assert in_the_way(life, 2) is None


def test_what_is_skipped_need_not_be_stored_when_only_what_was_made_of_it_is_wanted() -> None:
    life = Life([(), (0,), (1,)])
    life.finish(0, 1)
    assert in_the_way(life, 2) == 1

    life.commit(1)

    assert 0 not in life.record
    assert in_the_way(life, 2) is None


def test_a_deterministic_value_is_as_settled_as_what_it_was_made_from() -> None:
    life = Life([(), (0,), (1,)], deterministic=[1])
    life.finish(0, 1)
    assert in_the_way(life, 2) == 0

    life.commit(0)

    assert in_the_way(life, 2) is None


class TestTwoSourcesWithACommonReader:
    """u -> a -> pay; u, v -> r; v -> the result. All readers of u are committed, but r falls with v, and asks u again."""

    @pytest.fixture
    def life(self) -> Life:
        life = Life([(), (), (0,), (0, 1), (2,), (1, 3, 4)], deterministic=[2])
        life.finish(0, 1, 2, 3)
        life.commit(2, 3)
        return life

    def test_the_search_goes_on_to_the_readers_of_what_may_be_lost(self, life: Life) -> None:
        assert life.may_change() == {0, 1, 2, 3}
        assert in_the_way(life, 4) == 1

    def test_it_need_not_once_their_common_source_is_committed(self, life: Life) -> None:
        assert in_the_way(life, 4) == 1

        life.commit(0)

        assert life.may_change() == {1, 3}
        assert in_the_way(life, 4) is None, (
            "what an earlier search found beyond a value that was lost then does not count"
        )

    def test_nor_when_the_other_source_is_committed(self, life: Life) -> None:
        life.commit(1)

        assert life.may_change() == set()
        assert in_the_way(life, 4) is None


def test_a_search_that_was_parked_goes_on_from_where_it_was() -> None:
    life = Life([(), (), (0,), (1,), (2, 3), (4,)], deterministic=[2, 3])
    life.finish(0, 1, 2, 3)
    walk = Walk(life.nodes[4].reads)
    first = walk.go_on()
    assert first is not None
    life.commit(life.nodes.index(first))
    second = walk.go_on()
    assert second is not None
    assert second is not first
    life.commit(life.nodes.index(second))

    assert walk.go_on() is None
    assert walk.needed == 2


def test_a_start_rests_on_the_last_record_of_its_past_not_on_the_last_of_the_log() -> None:
    life = Life([(), (), (0,), (1, 2)])
    life.finish(0, 1)
    life.commit(0, 1)
    walk = Walk(life.nodes[2].reads)

    assert walk.go_on() is None
    assert walk.needed == 1


def test_a_value_on_its_way_to_the_store_closes_without_anybody() -> None:
    life = Life([(), (0,), (1,)], stored=[0])
    life.finish(0)

    assert closes_without(life.nodes[0], life.nodes[1])


def test_what_only_the_waiting_effect_would_close_does_not_close_without_it() -> None:
    # u -> a -> pay -> b, u -> b.
    life = Life([(), (0,), (1,), (0, 2)], stored=[1, 3])
    life.finish(0, 1)
    life.commit(1)

    assert in_the_way(life, 2) == 0
    assert not closes_without(life.nodes[0], life.nodes[2])


def test_who_would_close_a_value_is_not_searched_for_long() -> None:
    life = Life([(), *[(0,)] * 5000, tuple(range(1, 5001))])
    life.finish(0)
    looked_at: list[NodeState] = []

    class Watched(list[NodeState]):
        def __iter__(self) -> Iterator[NodeState]:
            for reader in super().__iter__():
                looked_at.append(reader)
                yield reader

    life.nodes[0].readers = Watched(life.nodes[0].readers)

    assert life.closes_without(0, 4999) is False
    assert not closes_without(life.nodes[0], life.nodes[4999])
    assert len(looked_at) < 500


# --- what it costs ----------------------------------------------------------------------------------------------------


Edges = TypeVar("Edges", tuple[NodeState, ...], list[NodeState])


class Counted(NodeState):
    """Counts the edges that searches are handed."""

    __slots__ = ("_readers", "_reads")
    handed = 0
    searching = False
    _reads: tuple[NodeState, ...]
    _readers: list[NodeState]

    @property
    def reads(self) -> tuple[NodeState, ...]:
        return self._handed(self._reads)

    @reads.setter
    def reads(self, value: tuple[NodeState, ...]) -> None:
        self._reads = value

    @property
    def readers(self) -> list[NodeState]:
        return self._handed(self._readers)

    @readers.setter
    def readers(self, value: list[NodeState]) -> None:
        self._readers = value

    def _handed(self, edges: Edges) -> Edges:
        if Counted.searching:
            Counted.handed += len(edges)
        return edges


@pytest.fixture
def edges_passed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Node], float]:
    """Return what plays a workflow to its end and says how often each edge was passed by searches, on average."""
    go_on = Walk.go_on

    def counted(walk: Walk) -> NodeState | None:
        Counted.searching = True
        try:
            return go_on(walk)
        finally:
            Counted.searching = False

    monkeypatch.setattr(Walk, "go_on", counted)
    monkeypatch.setattr("exoflow.engine.growth.NodeState", Counted)

    def play(root: Node) -> float:
        dag = compile_dag(root)
        Counted.handed = 0
        run_to_the_end(WorkflowState(dag, workflow_id="w", generation=1, prefix="j"))
        return Counted.handed / sum(len(spec.deps) for spec in dag.nodes)

    return play


def run_to_the_end(state: WorkflowState) -> None:
    """Play the driver of a machine on which nothing fails."""
    stored = Payload("pickle", (1,), b"1")
    events: deque[ev.Event] = deque()

    def obey(commands: list[Any]) -> bool:
        for command in commands:
            if isinstance(command, ev.Run):
                events.append(ev.Finished(command.attempt, Live(1)))
                if command.node.mode in (Checkpoint.SYNC, Checkpoint.ASYNC):
                    events.append(ev.Persisted(command.attempt, stored))
            elif isinstance(command, ev.Persist):
                events.append(ev.Persisted(command.attempt, stored))
            elif isinstance(command, ev.Commit):
                events.append(ev.Committed())
            elif isinstance(command, ev.Answer):
                assert command.status == "succeeded"
                return True
            else:
                raise AssertionError(f"not expected on a machine on which nothing fails: {command}")
        return False

    ended = obey(state.begin(Submission("w", 1, "", "", 0.0, {}, {}), 0.0))
    while not ended:
        ended = obey(state.handle(events.popleft(), 0.0))


def chain(length: int, every: int) -> Node:
    work, effect = a_task("work", effects="none", checkpoint="skip"), a_task("effect", effects="idempotent")
    node = work.bind()
    for at in range(1, length):
        node = (effect if at % every == 0 else work).bind(node)
    return node


def fan(width: int, every: int) -> Node:
    work, effect = a_task("work", effects="none", checkpoint="skip"), a_task("effect", effects="once")
    source = a_task("source", effects="none", checkpoint="async").bind()
    return work.bind([effect.bind(work.bind(source)) if at % every == 0 else work.bind(source) for at in range(width)])


def ladder(height: int, every: int) -> Node:
    work, effect = a_task("work", effects="none", checkpoint="skip"), a_task("effect", effects="idempotent")
    node = work.bind()
    for at in range(height // 3):
        left, right = work.bind(node), (effect if at % every == 0 else work).bind(node)
        node = a_task("join", effects="none", checkpoint="async" if at % 2 else "skip").bind(left, right)
    return node


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("shape", [chain, fan, ladder])
def test_all_searches_of_a_workflow_together_pass_each_edge_about_once_however_large_it_is(
    shape: Callable[[int, int], Node], every: int, edges_passed: Callable[[Node], float]
) -> None:
    # Once for its reader and, where what was read may be lost, once more for its other end; the rest is parking.
    small, large = edges_passed(shape(1000, every)), edges_passed(shape(10_000, every))

    assert 0 < large < 2.1
    assert large < 1.1 * small + 0.01
