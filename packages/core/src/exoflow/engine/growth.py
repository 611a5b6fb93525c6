"""How a workflow's nodes hang together, and how continuations make it grow.

A task that returns a node is replaced by what it returned: the last node of the continuation takes over its readers
and its place as the result, in constant time, so that a chain of continuations is as long as memory allows. Every node of a
continuation reads the incarnation that made it, and is named after it.
"""

from typing import Any

from exoflow.engine.node_state import NodeState
from exoflow.graph.dag import Dag, NodeSpec
from exoflow.tasks.policy import Effects, TaskPolicy

__all__ = ["Growth", "answer_to", "connect"]


class _AnswerTask:
    """Stands for the caller: the last reader, whose effect is that the answer is told."""

    kind = "answer"
    policy = TaskPolicy(effects=Effects.ONCE)


_ANSWER: Any = NodeSpec("", _AnswerTask(), (), {}, ())


def answer_to(result: NodeState) -> NodeState:
    """Return the node that stands for the caller, who reads *result*."""
    answer = NodeState("", _ANSWER)
    answer.reads = (result,)
    return answer


class Growth:
    """The nodes of one workflow, by task id."""

    def __init__(self, dag: Dag) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.commit_readers: dict[NodeState, list[NodeState]] = {}
        """Nodes that wait for another's commit, whatever its mode (``wait_until_committed``)."""
        self.order_readers: dict[NodeState, list[NodeState]] = {}
        """Nodes that only come after another (``after``): they ask for no value, so they keep none."""
        made = self._add(dag, None)
        self.root = made[-1]
        self.root.is_result = True

    def grow(self, parent: NodeState, dag: Dag) -> NodeState:
        """Put *dag* in the place of *parent*, which returned it; return its last node."""
        made = self._add(dag, parent)
        tail = made[-1]
        head = parent.head or parent
        head.provider, tail.head = tail, head
        tail.readers, parent.readers = parent.readers, made
        tail.open_readers, parent.open_readers = parent.open_readers, len(made)
        tail.pending_readers, parent.pending_readers = parent.pending_readers, len(made)
        tail.is_result, parent.is_result = parent.is_result, False
        tail.must_commit = tail.must_commit or parent.must_commit
        if parent.catch:
            tail.catch, tail.deterministic = True, False
        for waiting in (self.commit_readers, self.order_readers):
            if parent in waiting:
                waiting[tail] = waiting.pop(parent)
        return tail

    def _add(self, dag: Dag, parent: NodeState | None) -> list[NodeState]:
        made: list[NodeState] = []
        nodes = self.nodes
        for index, spec in enumerate(dag.nodes):
            node = NodeState(spec.task_id if parent is None else f"{parent.incarnation}/{index}", spec, parent)
            if spec.deps or spec.after or spec.committed:
                # To come after an effect says that the effect matters: it is read, and therefore kept. To come after
                # anything else is a matter of time alone.
                effects = [at for at in spec.after if made[at].effects is not Effects.NONE]
                node.deps = tuple([made[at] for at in dict.fromkeys((*spec.deps, *effects, *spec.committed))])
                node.waiting = len(node.deps)
                for before in node.deps:
                    before.readers.append(node)
                    before.open_readers += 1
                    before.pending_readers += 1
                for at in effects:
                    made[at].must_commit = True
                for at in spec.after:
                    if at not in effects and at not in spec.deps:
                        self.order_readers.setdefault(made[at], []).append(node)
                        node.waiting += 1
                for at in spec.committed:
                    made[at].must_commit = True
                    self.commit_readers.setdefault(made[at], []).append(node)
                    node.waiting += 1
            made.append(node)
            nodes[node.task_id] = node
        return made


def connect(node: NodeState) -> tuple[NodeState, ...]:
    """Return whose incarnations *node* reads, now that all of them have one."""
    parent = node.parent
    if not node.deps:
        return () if parent is None else (parent,)
    reads = [before.provider or before for before in node.deps]
    if parent is not None:
        reads.append(parent)
    return tuple(reads)
