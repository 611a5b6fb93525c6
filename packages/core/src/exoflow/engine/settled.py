"""What may no longer change: the search behind output commit.

An incarnation is *open* while it is nondeterministic, not committed, and may be asked for again. One is *settled* when no
open incarnation can be reached from it, stepping from an incarnation to what it read, and from an uncommitted
nondeterministic one also to its readers, because they become orphans together. Settled never reverts. So a search marks what it
passed, parks on the first open incarnation it meets, and goes on from there when that one is closed or
committed: over a workflow's life each edge is passed about once, however many effects wait.

Source:
    `docs/design/0002-settled.md`; brute force over 200,000 random DAGs of 3 to 7 nodes found no unsafe start and no
    needless wait under this rule, and `packages/core/tests/engine/test_random_workflows.py` plays it on this code.
"""

from collections.abc import Iterable

from exoflow.engine.node_state import NodeState
from exoflow.tasks.policy import Checkpoint

__all__ = ["Walk", "closes_without", "needed_for"]

_BUDGET = 50
"""Edges passed before `closes_without`, or what it asks about one node, gives up."""

_STORED = (Checkpoint.SYNC, Checkpoint.ASYNC)


def needed_for(reads: tuple[NodeState, ...]) -> int:
    """Return what `Walk.needed` would come to, if one look at *reads* shows them all settled; else -1.

    That is so along a chain of committed results, the usual case, which then needs no search at all.
    """
    needed = 0
    for read in reads:
        if not read.settled:
            if not read.committed:
                return -1
            position = read.position
            for before in read.reads:
                if not before.settled:
                    return -1
                position = max(position, before.settled - 1)
            read.settled = position + 1
        needed = max(needed, read.settled - 1)
    return needed


class Walk:
    """A search that can be taken up again."""

    __slots__ = ("came", "crossed", "hinted", "needed", "root", "stack")

    def __init__(self, roots: Iterable[NodeState]) -> None:
        self.stack: list[tuple[NodeState, NodeState | None]] = [(root, None) for root in roots]
        """Nodes to look at, each with the one it was reached from."""
        self.root: NodeState | None = None
        """Of the roots, the one behind which it searches."""
        self.came: dict[NodeState, NodeState | None] = {}
        """What was passed, and from where."""
        self.hinted: set[NodeState] = set()
        self.crossed: list[NodeState] = []
        """Uncommitted nondeterministic nodes that lie between the roots and what is in the way. Once such a node is
        committed its readers are not its orphans any more: whoever waits should search anew."""
        self.needed = 0
        """The log position that must be durable for what was passed to be fixed."""

    def go_on(self) -> NodeState | None:
        """Walk to the end and return None, having marked everything passed; or return the open node in the way."""
        stack, came = self.stack, self.came
        while stack:
            node, before = stack[-1]
            if before is None:
                self.root = node
            if node in came:
                stack.pop()
                continue
            if node.settled:
                if node.settled - 1 > self.needed:
                    self.needed = node.settled - 1
                came[node] = before
                stack.pop()
                continue
            if node.blocked_on is not None:
                hint = _still_open(node.blocked_on)
                if hint is not None:
                    return self._blocked(node, hint)
                node.blocked_on = None
            crosses = False
            if not node.committed and not node.deterministic:
                if not node.closed:
                    return self._blocked(node, node)
                crosses = True
            stack.pop()
            if node.position > self.needed and (node.committed or not node.deterministic):
                self.needed = node.position
            came[node] = before
            if crosses:
                stack.extend([(reader, node) for reader in node.readers])
            stack.extend([(read, node) for read in node.reads])
        for node in came:
            if not node.settled:
                node.settled = self.needed + 1
        return None

    def _blocked(self, at: NodeState, found: NodeState) -> NodeState:
        # Others that come to where this search came from park at once instead of walking here again. Each node is
        # given its hint once, however often the search stops behind it. Beyond a node that was crossed the hint holds
        # only as long as that one is not committed: there it names the crossed node, which knows how to go on.
        before = self.stack[-1][1]
        hint = found if at is found or not _crossable(at) else at
        while before is not None and before not in self.hinted:
            before.blocked_on = hint
            self.hinted.add(before)
            if _crossable(before):
                hint = before
                self.crossed.append(before)
            before = self.came[before]
        return found


def _crossable(node: NodeState) -> bool:
    return not node.committed and not node.deterministic


def _still_open(hint: NodeState | None) -> NodeState | None:
    while hint is not None and not hint.open:
        hint = hint.blocked_on if _crossable(hint) else None
    return hint


def closes_without(node: NodeState, effect: NodeState) -> bool:
    """Whether the open *node* will be closed by records of tasks that do not wait for *effect*.

    Every way ahead of it must come to a task that will be stored, before it comes to one that waits for the effect. Gives
    up and says no after a while: one commit more than needed is cheaper than a long search.
    """
    if node.committing:
        return True
    budget = _BUDGET
    stack, seen = [node], {node}
    while stack:
        for reader in stack.pop().readers:
            budget -= 1
            if not budget:
                return False
            if reader.closed or reader in seen:
                continue
            seen.add(reader)
            if not reader.finished and _waits_for(reader, effect):
                return False
            stored = reader.committing if reader.finished else reader.must_commit or reader.mode in _STORED
            if not stored:
                stack.append(reader)
    return True


def _waits_for(node: NodeState, effect: NodeState) -> bool:
    """Whether the unfinished *node* waits for *effect*, directly or through other unfinished nodes."""
    budget = _BUDGET
    stack, seen = [node], {node}
    while stack:
        at = stack.pop()
        if at is effect:
            return True
        if not at.waiting:
            continue
        for before in (at.parent, *at.deps) if at.parent is not None else at.deps:
            budget -= 1
            if not budget:
                return True
            before = before.provider or before
            if before not in seen and not before.finished:
                seen.add(before)
                stack.append(before)
    return False
