"""Telling where workflows stand, from their records alone: nothing is run, nothing is taken over."""

from collections.abc import Sequence

from exoflow.graph.dag import Dag
from exoflow.journal.records import Attention, End, Submission, WorkflowRecord
from exoflow.recovery.history import History
from exoflow.recovery.plan import PlanNode, unfold
from exoflow.states import TaskInfo, TaskState, WorkflowInfo, WorkflowStatus
from exoflow.tasks.policy import Effects

__all__ = ["describe_tasks", "describe_workflow"]


def describe_workflow(records: Sequence[WorkflowRecord], *, live: bool, finished: bool) -> WorkflowInfo:
    """Return one line about a workflow.

    Args:
        records: Of the workflow; those that say where it stands suffice.
        live: Whether the owner of its journal is alive.
        finished: Whether nothing is left to do.
    """
    submission, end, attention = _marks(records)
    assert submission is not None
    status = _status(end, attention, live=live, finished=finished)
    problem = None
    if attention is not None and status is WorkflowStatus.NEEDS_ATTENTION:
        problem = f"{attention.task_id}: {attention.reason}"
    elif end is not None and end.status == "failed":
        problem = f"task {end.task_id} failed: {end.reason}"
    return WorkflowInfo(
        workflow_id=submission.workflow_id,
        name=submission.name,
        status=status,
        created_at=submission.created_at,
        ended_at=end.at if end is not None else None,
        metadata=submission.metadata,
        problem=problem,
    )


def _marks(records: Sequence[WorkflowRecord]) -> tuple[Submission | None, End | None, Attention | None]:
    from exoflow.journal.ends import needs_attention

    submission = next((r for r in records if isinstance(r, Submission)), None)
    end = next((r for r in records if isinstance(r, End) and r.status != "rolled_back"), None)
    return submission, end, needs_attention(records)


def _status(end: End | None, attention: Attention | None, *, live: bool, finished: bool) -> WorkflowStatus:
    if end is not None and (finished or end.status == "succeeded"):
        return WorkflowStatus(end.status)
    if attention is not None:
        return WorkflowStatus.NEEDS_ATTENTION
    if end is not None:
        return WorkflowStatus.ROLLING_BACK
    return WorkflowStatus.RUNNING if live else WorkflowStatus.RESUMABLE


def describe_tasks(dag: Dag, history: History, continuations: dict[str, Dag]) -> tuple[TaskInfo, ...]:
    """Return what is known of each task, in the order of the DAG, continuations at the end."""
    return tuple([_describe(node, history) for node in unfold(dag, continuations, history).values()])


def _describe(node: PlanNode, history: History) -> TaskInfo:
    policy = node.spec.task.policy
    incarnation = history.current.get(node.task_id)
    outcome = history.outcomes[incarnation] if incarnation is not None else None
    intents = [i for i in history.intents.values() if i.task_id == node.task_id]
    if policy.effects is Effects.ROLLBACK and intents and all(i.attempt in history.undone for i in intents):
        state = TaskState.UNDONE
    elif outcome is None:
        failed_here = history.end is not None and history.end.task_id == node.task_id and history.end.status == "failed"
        state = TaskState.FAILED if failed_here else TaskState.STARTED if intents else TaskState.WAITING
        if history.end is not None and history.end.status == "succeeded":
            state = TaskState.UNRECORDED
    elif outcome.what == "error":
        state = TaskState.FAILED
    elif outcome.what == "continuation":
        state = TaskState.CONTINUED
    else:
        state = TaskState.COMMITTED if outcome.payload is not None else TaskState.RECORDED
    return TaskInfo(
        task_id=node.task_id,
        state=state,
        depends_on=(*node.deps, *node.order_deps, *node.committed_deps),
        effects=str(policy.effects),
        checkpoint=str(policy.checkpoint),
        number=history.counts.get(node.task_id, 0),
        ended_at=outcome.at if outcome is not None else None,
        seconds=outcome.seconds if outcome is not None else None,
        stored_bytes=outcome.payload.size_bytes if outcome is not None and outcome.payload is not None else None,
        parent=history.outcomes[node.parent].task_id if node.parent is not None else None,
    )
