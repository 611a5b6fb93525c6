"""From a node to what is submitted: the compiled DAG and its record, checked before anything is begun."""

import json
from collections.abc import Mapping
from typing import Any

from exoflow.errors import ArgumentError, ExoFlowError, UnknownExecutorError, UsageError
from exoflow.graph.dag import Dag, compile_dag
from exoflow.graph.node import Node
from exoflow.journal.layout import blob_key
from exoflow.journal.records import Submission
from exoflow.plugins.manager import manager
from exoflow.stores.contract import ObjectStore
from exoflow.values import Codec, Payload, persist

__all__ = ["check_id", "encode_dag", "prepare"]


def check_id(workflow_id: str, what: str = "workflow_id") -> None:
    """Refuse what is not an id.

    Raises:
        UsageError: Not a text of 1 to 200 characters.
    """
    if not isinstance(workflow_id, str) or not workflow_id or len(workflow_id) > 200:
        raise UsageError(f"{what}={workflow_id!r}: expected a text of 1 to 200 characters")
    try:
        workflow_id.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what}={workflow_id!r}: expected a text that UTF-8 can say") from None


def prepare(
    node: Node,
    *,
    inputs: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    name: str | None,
    now: float,
) -> tuple[Dag, Submission]:
    """Compile a workflow.

    Args:
        node: The root of the DAG.
        inputs: Values for its `Input` placeholders.
        metadata: Kept with it; must be JSON.
        name: For people; the root task's name when None.
        now: Seconds since the epoch, UTC.

    Returns:
        The DAG, and a submission that has no id and no payload yet.

    Raises:
        ExoFlowError: A DAG, an argument, an executor or metadata that cannot be.
    """
    dag = compile_dag(node, inputs)
    fingerprints = {}
    for task in {id(spec.task): spec.task for spec in dag.nodes}.values():
        if task.policy.deterministic and task.kind == "task":
            fingerprints[task.qualified_name] = task.fingerprint
        executor = task.policy.executor
        if executor is not None and executor not in manager().executors():
            raise UnknownExecutorError(executor, manager().executors())
    kept = dict(metadata or {})
    try:
        if kept:
            json.dumps(kept)
    except (TypeError, ValueError) as error:
        raise UsageError(f"metadata={kept!r}: expected what JSON can say ({error})") from None
    return dag, Submission("", 0, dag.digest, name or dag.root.task.name, now, kept, fingerprints)


def encode_dag(dag: Dag, codec: Codec, store: ObjectStore, workflow_id: str, prefix: str) -> Payload:
    """Make *dag* durable enough for a submission to name it.

    Raises:
        ArgumentError: Something in it cannot be encoded; names the task and the argument.
        UnavailableError: It is large, and the store did not take it.
    """
    try:
        encoded = codec.encode(dag)
    except Exception as error:
        raise _blame(dag, codec, error) from error
    return persist(encoded, codec.name, store, blob_key(workflow_id, f"{prefix}.0", 0))


def _blame(dag: Dag, codec: Codec, error: Exception) -> ExoFlowError:
    """Find the task and the argument that cannot be stored."""
    for spec in dag.nodes:
        for argument, value in spec.named_arguments():
            try:
                codec.encode(value)
            except Exception as problem:
                return ArgumentError(
                    spec.task_id, argument,
                    f"{type(value).__name__} cannot be stored ({problem}); pass something that pickles, or make it in a task",
                )  # fmt: skip
        try:
            codec.encode(spec.task)
        except Exception as problem:
            return ArgumentError(spec.task_id, "the task itself", f"its function cannot be stored ({problem})")
    return ArgumentError(dag.root.task_id, "*", f"the DAG cannot be stored ({error})")
