"""What may no longer change: the search behind output commit.

An incarnation is *open* while it is nondeterministic, not committed, and may be asked for again. One is *settled* when no
open incarnation can be reached from it, stepping from an incarnation to what it read, and from an uncommitted
nondeterministic one also to its readers, because they become orphans together. Settled never reverts. So a search marks what it
passed, parks on the first open incarnation it meets, and goes on from there when that one is closed or
committed: over a workflow's life each edge is passed about once, however many effects wait.

Source:
    The walk is exact: brute force over 200,000 random DAGs found no unsafe start and no needless wait
    (`docs/design/0002-settled.md`; `packages/core/tests/engine/test_settled.py` repeats it on this code).
"""

from collections.abc import Iterable

from exoflow.engine.node_state import NodeState

__all__ = ["Walk", "first_open", "is_downstream"]

_DESCENDANT_BUDGET = 1000
"""Nodes looked at before `is_downstream` gives up and says yes: one commit more than needed is cheaper."""


class Walk:
    """A search that can be taken up again."""

    __slots__ = ("hinted", "needed", "passed", "seen", "stack")

    def __init__(self, roots: Iterable[NodeState]) -> None:
        self.stack = list(roots)
        self.seen: set[NodeState] = set()
        self.passed: list[NodeState] = []
        self.hinted = 0
        self.needed = 0
        """The log position that must be durable for what was passed to be fixed."""

    def go_on(self) -> NodeState | None:
        """Walk to the end and return None, having marked everything passed; or return the open node in the way."""
        stack, seen, passed = self.stack, self.seen, self.passed
        while stack:
            node = stack[-1]
            if node in seen:
                stack.pop()
                continue
            if node.settled:
                if node.settled - 1 > self.needed:
                    self.needed = node.settled - 1
                seen.add(node)
                stack.pop()
                continue
            hint = node.blocked_on
            if hint is not None:
                if hint.open:
                    return self._blocked(hint)
                node.blocked_on = None
            if not node.committed and not node.deterministic:
                if not node.closed:
                    return self._blocked(node)
                stack.pop()
                stack.extend(node.readers)
            else:
                stack.pop()
            if node.position > self.needed and (node.committed or not node.deterministic):
                self.needed = node.position
            seen.add(node)
            passed.append(node)
            stack.extend(node.reads)
        for node in passed:
            node.settled = self.needed + 1
        return None

    def _blocked(self, node: NodeState) -> NodeState:
        # Others that come this way park at once instead of walking here again. The list is cut so that each
        # node is given its hint once for each time the search stops behind it.
        for passed in self.passed[self.hinted :]:
            passed.blocked_on = node
        self.hinted = len(self.passed)
        return node


def first_open(roots: Iterable[NodeState]) -> NodeState | None:
    """Return some open incarnation reachable from *roots*, marking nothing."""
    stack, seen = list(roots), set[NodeState]()
    while stack:
        node = stack.pop()
        if node in seen or node.settled:
            continue
        seen.add(node)
        if not node.committed and not node.deterministic:
            if not node.closed:
                return node
            stack.extend(node.readers)
        stack.extend(node.reads)
    return None


def is_downstream(node: NodeState, effect: NodeState) -> bool:
    """Whether the unfinished *node* waits for *effect*, directly or through other unfinished nodes."""
    stack, seen = [node], {node}
    while stack:
        at = stack.pop()
        if at is effect or len(seen) > _DESCENDANT_BUDGET:
            return True
        for before in (*at.deps, *((at.parent,) if at.parent else ())):
            before = before.provider or before
            if before not in seen and not before.finished:
                seen.add(before)
                stack.append(before)
    return False


def unfinished_reader(node: NodeState) -> Iterable[NodeState]:
    """Yield the unfinished nodes that keep the open *node* open."""
    stack, seen = [node], {node}
    while stack:
        at = stack.pop()
        for reader in at.readers:
            if reader in seen:
                continue
            seen.add(reader)
            if not reader.finished:
                yield reader
            elif not reader.closed:
                stack.append(reader)
