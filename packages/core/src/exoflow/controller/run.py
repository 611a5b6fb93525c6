"""One workflow in the hands of a driver: the pure state, and what it needs of the world."""

from collections.abc import Sequence
from typing import Any

from exoflow.controller.promise import Promise
from exoflow.engine.events import Run as RunCommand
from exoflow.engine.node_state import NodeState
from exoflow.engine.state import WorkflowState
from exoflow.executors.calling import codec_of
from exoflow.executors.contract import Call, CallKind, Persistence
from exoflow.graph.dag import fill
from exoflow.journal.layout import blob_key
from exoflow.stores.contract import ObjectStore
from exoflow.tasks.policy import Checkpoint
from exoflow.values import Codec, Live, Payload, Value, restore

__all__ = ["WorkflowRun", "arguments_of", "call_of", "call_resolve", "call_undo", "persistence_of"]

_MODES = {
    Checkpoint.SYNC: Persistence.BEFORE,
    Checkpoint.ASYNC: Persistence.AFTER,
    Checkpoint.SKIP: Persistence.NONE,
    Checkpoint.AUTO: Persistence.MEASURED,
}


class WorkflowRun:
    """What the driver keeps of a workflow while it runs."""

    __slots__ = (
        "abandoned", "digest", "discarded", "done", "earlier", "left", "poisoned", "prefix", "state", "taken", "undo_payloads", "workflow_id",
    )  # fmt: skip

    def __init__(self, workflow_id: str, prefix: str, state: WorkflowState, digest: str) -> None:
        self.workflow_id = workflow_id
        self.prefix = prefix
        self.state = state
        self.digest = digest
        self.done: Promise[Value] = Promise()
        self.abandoned = False
        """Whether it was stopped here without an end, and is given up once nothing of it runs any more."""
        self.left: Promise[None] = Promise()
        """Settled when the driver has forgotten it."""
        self.earlier: set[str] = set()
        """Prefixes of attempts of earlier lives, about which something is asked in this one."""
        self.undo_payloads: dict[str, Payload | None] = {}
        """What the undo of an attempt will be given, as its intent records it."""
        self.poisoned: dict[str, BaseException] = {}
        """Attempts that cannot start, because what their intent needs could not be made."""
        self.taken: set[str] = set()
        """Messages some node has taken."""
        self.discarded: set[str] = set()
        """Those of them of which a durable record says so, so that they may be deleted."""


def persistence_of(node: NodeState) -> Persistence:
    """What the executor does with the node's outcome."""
    if (node.must_commit or node.is_result) and node.mode is not Checkpoint.SYNC:
        return Persistence.AFTER  # it will be committed whatever its mode: then at once, where the value is
    return _MODES[node.mode]


def call_of(run: WorkflowRun, command: RunCommand) -> Call:
    """Return the call that a `Run` command asks for."""
    node: NodeState = command.node
    spec = node.spec
    task = spec.task
    if node.catch and not task.policy.catch_exceptions:  # the last task of a continuation whose parent catches
        task = task.options(catch_exceptions=True)
    return Call(
        CallKind.TASK,
        command.attempt,
        run.workflow_id,
        node.task_id,
        node.number,
        run.state.key_of(node),
        task,
        spec.args,
        spec.kwargs,
        inputs_of(node),
        persistence_of(node),
        blob_key(run.workflow_id, command.attempt, 0),
    )


def inputs_of(node: NodeState) -> list[Value]:
    """Return the values that fill a node's arguments, in order."""
    return [(before.provider or before).value for before in node.deps[: len(node.spec.deps)]]


def arguments_of(node: NodeState, codec: Codec, store: ObjectStore) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a node's arguments, filled. For the few calls the driver makes itself."""
    values = [v.value if isinstance(v, Live) else restore(v, codec_of(v, codec), store) for v in inputs_of(node)]
    return fill(node.spec.args, values), fill(node.spec.kwargs, values)


def call_undo(run: WorkflowRun, node: NodeState, attempt: str, payload: Payload) -> Call:
    """Return the call that undoes an attempt."""
    return Call(
        CallKind.UNDO, attempt, run.workflow_id, node.task_id, node.number, attempt, node.spec.task, (), {}, [payload],
        Persistence.NONE, "",
    )  # fmt: skip


def call_resolve(run: WorkflowRun, node: NodeState, attempt: str, key: str) -> Call:
    """Return the call that asks what became of an attempt."""
    return Call(
        CallKind.RESOLVE, attempt, run.workflow_id, node.task_id, node.number, key, node.spec.task, (), {},
        _no_inputs, Persistence.BEFORE, blob_key(run.workflow_id, attempt, 2),
    )  # fmt: skip


_no_inputs: Sequence[Value] = ()
