"""One workflow in the hands of a driver: the pure state, and what it needs of the world."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from exoflow.engine.events import Run as RunCommand
from exoflow.engine.node_state import NodeState
from exoflow.engine.state import WorkflowState
from exoflow.executors.contract import Call, CallKind, Persistence
from exoflow.graph.dag import fill
from exoflow.journal.layout import blob_key
from exoflow.tasks.policy import Checkpoint, Effects
from exoflow.values import Codec, Encoded, Live, Payload, Value, inline, persist, restore
from exoflow.stores.contract import ObjectStore

__all__ = ["WorkflowRun", "persistence_of"]

_MODES = {
    Checkpoint.SYNC: Persistence.BEFORE,
    Checkpoint.ASYNC: Persistence.AFTER,
    Checkpoint.SKIP: Persistence.NONE,
    Checkpoint.AUTO: Persistence.MEASURED,
}


class WorkflowRun:
    """What the driver keeps of a workflow while it runs."""

    __slots__ = (
        "accepted", "calls", "deadlines", "digest", "done", "name", "poisoned", "prefix", "released_early", "state",
        "taken", "undo_payloads", "workflow_id",
    )  # fmt: skip

    def __init__(self, workflow_id: str, prefix: str, state: WorkflowState, digest: str) -> None:
        self.workflow_id = workflow_id
        self.prefix = prefix
        self.state = state
        self.digest = digest
        self.done: Future[Value] = Future()
        self.accepted: Future[None] | None = None
        self.undo_payloads: dict[str, Payload | None] = {}
        """What the undo of an attempt will be given, as its intent records it."""
        self.poisoned: dict[str, BaseException] = {}
        """Attempts that cannot start, because what their intent needs could not be made."""
        self.taken: set[str] = set()
        """Messages some node has taken."""


def persistence_of(node: NodeState) -> Persistence:
    """What the executor does with the node's outcome."""
    if node.must_commit or node.is_result:
        # It will be committed whatever its mode: then at once, where the value is.
        if node.mode is not Checkpoint.SYNC:
            return Persistence.AFTER
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
    values = [v.value if isinstance(v, Live) else restore(v, codec, store) for v in inputs_of(node)]
    return fill(node.spec.args, values), fill(node.spec.kwargs, values)


def undo_payload(run: WorkflowRun, node: NodeState, codec: Codec, store: ObjectStore) -> Payload:
    """Return what the undo of the node's attempt will be given: ``(args, kwargs)``, encoded."""
    args, kwargs = arguments_of(node, codec, store)
    choose = node.spec.task.policy.undo_args
    if choose is not None:
        chosen = choose(*args, **kwargs)
        args, kwargs = (chosen if isinstance(chosen, tuple) else (chosen,)), {}
    return persist(codec.encode((args, kwargs)), codec.name, store, blob_key(run.workflow_id, node.attempt, 1))


def error_payload(error: Any, codec: Codec) -> Payload:
    """Return a small value (an exception, a caught result) as bytes for a record."""
    return inline(_encode_or_describe(error, codec), codec.name)


def _encode_or_describe(value: Any, codec: Codec) -> Encoded:
    from exoflow.executors.portable import portable

    if isinstance(value, BaseException):
        value = portable(value)
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], BaseException):
        value = (None, portable(value[1]))
    return codec.encode(value)


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
_ = Effects
