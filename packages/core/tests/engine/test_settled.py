"""The rule *settled*, on the search the engine uses, against what a crash could do found by brute force.

The brute force knows nothing of searches: it loses everything uncommitted and lets whatever is asked for again run again,
until nothing changes. An effect is safe if none of what it read changes; it waits needlessly if it waits all the same.
"""

import random
from typing import Any

from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.settled import Walk, first_open

from .simulation.dags import make

GRAPHS = 6000

_ANY = make("any", effects="none")


class _Spec:
    task = _ANY


class Graph:
    """A workflow half-way: some nodes have finished, some of these are committed, the last one is the result."""

    def __init__(self, chooser: random.Random) -> None:
        self.chooser = chooser
        spec: Any = _Spec()
        size = chooser.randint(3, 7)
        self.nodes = [NodeState(f"n{at}", spec) for at in range(size)]
        for at, node in enumerate(self.nodes):
            node.reads = tuple(before for before in self.nodes[:at] if chooser.random() < 0.45)
            node.deterministic = chooser.random() < 0.3
            for before in node.reads:
                before.readers.append(node)
                before.open_readers += 1
        self.nodes[-1].is_result = True
        for node in self.nodes:
            if all(before.finished for before in node.reads) and chooser.random() < 0.8:
                node.phase = Phase.FINISHED
                node.committed = chooser.random() < 0.5
        for node in self.nodes:
            self._close(node)

    def ready(self) -> list[NodeState]:
        return [n for n in self.nodes if not n.finished and all(before.finished for before in n.reads)]

    def commit(self, node: NodeState) -> None:
        node.committed, node.blocked_on = True, None
        self._close(node)

    def _close(self, node: NodeState) -> None:
        stack = [node]
        while stack:
            at = stack.pop()
            if at.closed or not at.finished:
                continue
            if at.committed or (not at.open_readers and not at.is_result):
                at.closed = True
                for before in at.reads:
                    before.open_readers -= 1
                    stack.append(before)

    def changed(self) -> set[NodeState]:
        """Return what would be different after a crash now."""
        rerun: set[NodeState] = set()
        changed: set[NodeState] = set()
        before = (-1, -1)
        while before != (len(rerun), len(changed)):
            before = (len(rerun), len(changed))
            for node in self.nodes:
                if not node.finished:
                    continue
                orphan = any(read in changed for read in node.reads)
                asked = node.is_result or any(not r.finished or r in rerun for r in node.readers)
                if orphan or (asked and not node.committed):
                    rerun.add(node)
                if node in rerun and (orphan or (not node.deterministic and not node.committed)):
                    changed.add(node)
        return changed


def test_the_search_lets_start_exactly_what_no_crash_can_change() -> None:
    chooser, decisions = random.Random(1), 0
    for _ in range(GRAPHS):
        graph = Graph(chooser)
        changed = graph.changed()
        for effect in graph.ready():
            decisions += 1
            safe = not changed.intersection(effect.reads)
            assert (first_open(effect.reads) is None) == safe
    assert decisions > GRAPHS // 2


def test_searches_that_share_their_marks_and_go_on_later_decide_the_same() -> None:
    chooser, decisions = random.Random(2), 0
    for _ in range(GRAPHS):
        graph = Graph(chooser)
        effects = graph.ready()
        walks = {effect: Walk(effect.reads) for effect in effects}
        crossed: dict[NodeState, set[NodeState]] = {effect: set() for effect in effects}
        started: set[NodeState] = set()
        while True:
            changed = graph.changed()
            for effect in chooser.sample(effects, len(effects)):
                if effect in started:
                    assert not changed.intersection(effect.reads), "settled is for ever"
                    continue
                blocker = walks[effect].go_on()
                crossed[effect].update(walks[effect].crossed)
                assert (blocker is None) == (not changed.intersection(effect.reads))
                assert blocker is None or blocker.open
                decisions += 1
                if blocker is None:
                    started.add(effect)
            left = [n for n in graph.nodes if n.finished and not n.committed]
            if not left:
                break
            committed = chooser.choice(left)
            if committed.closed:
                # It lay between a root and what is in the way; its readers do not count any more.
                for effect in effects:
                    if committed in crossed[effect]:
                        walks[effect] = Walk(effect.reads)
            graph.commit(committed)
    assert decisions > GRAPHS


def test_the_local_rule_that_all_readers_have_committed_would_be_unsafe() -> None:
    """What the search is for: closed alone says nothing of a reader that becomes an orphan through another input."""
    chooser, unsafe = random.Random(1), 0
    for _ in range(20 * GRAPHS):
        graph = Graph(chooser)
        changed = None
        for effect in graph.ready():
            past, stack = set[NodeState](), list(effect.reads)
            while stack:
                node = stack.pop()
                if node not in past:
                    past.add(node)
                    stack.extend(node.reads)
            if not any(n.open for n in past):
                changed = graph.changed() if changed is None else changed
                unsafe += bool(changed.intersection(effect.reads))
    assert unsafe > 0
