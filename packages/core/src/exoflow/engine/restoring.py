"""Making a `WorkflowState` stand where a recovery plan says it stands."""

from collections.abc import Mapping
from typing import Any

from exoflow.engine.growth import connect
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.state import WorkflowState
from exoflow.errors import CodeChangedError
from exoflow.graph.dag import Dag
from exoflow.journal.records import Intent
from exoflow.recovery.history import History
from exoflow.recovery.plan import PlanNode, RecoveryPlan, plan_recovery, unfold
from exoflow.tasks.policy import Effects

__all__ = ["restore"]


def restore(
    dag: Dag,
    history: History,
    decoded: Mapping[str, Any],
    *,
    prefix: str,
    accept_code_change: bool = False,
) -> tuple[WorkflowState, RecoveryPlan]:
    """Return the state from which a workflow goes on, and the plan that led to it.

    Args:
        dag: The workflow as submitted.
        history: What its journals say.
        decoded: By incarnation, what `continuation` outcomes (a `Dag`) and `error` outcomes (an exception) hold.
        prefix: For the attempts to come; never used before.
        accept_code_change: Go on although an effect may have acted on a value of older code.

    Raises:
        CodeChangedError: It may have, and that was not accepted.
    """
    assert history.submission is not None
    submission = history.submission
    state = WorkflowState(dag, workflow_id=submission.workflow_id, generation=submission.generation, prefix=prefix)
    continuations = {i: d for i, d in decoded.items() if isinstance(d, Dag)}
    nodes = unfold(dag, continuations, history)
    plan = plan_recovery(dag, history, continuations, nodes=nodes)
    if plan.endangered and not accept_code_change and history.end is None:
        names = [nodes[t].spec.task.qualified_name for t in plan.code_changed] or ["a task before it"]
        raise CodeChangedError(submission.workflow_id, dict.fromkeys(names), plan.endangered)
    _restore_outcomes(state, history, plan, continuations)
    _count(state)
    _restore_intents(state, history, plan, nodes)
    if history.end is not None:
        state.ended = history.end.status
        if state.ended == "succeeded":
            # The end itself holds the result; what led to it was recorded only as far as that was needed.
            state.result_node.provider = None
            state.result_node.value = history.end.payload
    for task_id in plan.load:
        node = state.nodes[task_id]
        if node.what == "error" and state.ended is None:
            state.failed = (node, decoded[node.incarnation])
    return state, plan


def _restore_outcomes(
    state: WorkflowState, history: History, plan: RecoveryPlan, continuations: Mapping[str, Dag]
) -> None:
    # In the order of the DAG: a continuation's nodes exist only after its parent has its outcome back.
    queue = list(state.nodes.values())
    at = 0
    while at < len(queue):
        node = queue[at]
        at += 1
        task_id = node.task_id
        node.number = history.counts.get(task_id, 0)
        node.deadline = history.deadlines.get(task_id)
        if task_id in plan.rerun:
            kept = plan.rerun[task_id]
            if kept is not None:
                node.incarnation, node.keep_incarnation, node.traced = kept, True, True
            continue
        outcome = history.outcomes[history.current[task_id]]
        node.phase = Phase.FINISHED
        node.attempt, node.incarnation, node.what = outcome.attempt, outcome.incarnation, outcome.what
        node.traced = True
        node.completed = outcome.completed
        node.committed = outcome.payload is not None
        node.seconds = outcome.seconds
        if outcome.what in ("caught", "error"):
            node.deterministic = False
        if outcome.incarnation in continuations:
            state.growth.grow(node, continuations[outcome.incarnation])
            queue.extend(node.readers)
        else:
            node.value = node.payload = outcome.payload
    for node in queue:
        if node.phase is Phase.FINISHED:
            node.reads = connect(node)


def _count(state: WorkflowState) -> None:
    """Bring the counters to where they would be, had all this happened here."""
    for node in state.nodes.values():
        parent = node.parent
        if node.phase is Phase.FINISHED:
            continue
        node.waiting = sum(not (before.provider or before).finished for before in node.deps)
        if parent is not None and not parent.finished:
            node.waiting += 1
    for before, readers in list(state.growth.order_readers.items()):
        if before.finished:
            del state.growth.order_readers[before]
        else:
            for reader in readers:
                reader.waiting += 1
    for before, readers in list(state.growth.commit_readers.items()):
        if before.committed:
            del state.growth.commit_readers[before]
        else:
            for reader in readers:
                reader.waiting += 1
    for node in state.nodes.values():
        if node.phase is Phase.FINISHED:
            for read in node.reads:
                read.pending_readers -= 1
    for node in state.nodes.values():
        if node.phase is Phase.FINISHED:
            state._close(node)
    for node in state.nodes.values():
        if node.phase is Phase.FINISHED:
            state._release(node)


def _restore_intents(state: WorkflowState, history: History, plan: RecoveryPlan, nodes: Mapping[str, PlanNode]) -> None:
    doomed = {intent.attempt for intent in (*plan.roll_back, *plan.unended)}
    for intent in history.intents.values():
        found = nodes.get(intent.task_id)
        if found is None or found.spec.task.policy.effects is not Effects.ROLLBACK:
            continue
        if intent.attempt in history.undone or intent.attempt in doomed:
            continue
        state.to_undo[intent.attempt] = (state.nodes[intent.task_id], intent)
    for intent in reversed(plan.roll_back):
        state.to_undo[intent.attempt] = (_node_of(state, intent, nodes), intent)
    for intent in plan.unended:
        state.unended.append((_node_of(state, intent, nodes), intent.attempt))
    state.superseded = len(plan.roll_back)
    for intent in plan.resolve:
        known = state.nodes.get(intent.task_id)
        if known is not None and known.phase is Phase.WAITING:
            known.attempt, known.intent = intent.attempt, intent
            known.reads = connect(known)
            known.number = history.counts.get(intent.task_id, 1)
            state._by_attempt[intent.attempt] = known
            if history.end is None and not all(read.incarnation for read in known.reads):
                state.unasked[known] = None
                continue
            known.phase = Phase.RESOLVING  # its fate is learnt first; then it is started, or never
            state.unresolved.append(known)


def _node_of(state: WorkflowState, intent: Intent, nodes: Mapping[str, PlanNode]) -> NodeState:
    node = state.nodes.get(intent.task_id)
    if node is None:  # of a continuation that no longer counts; only what its policy says is still wanted
        node = NodeState(intent.task_id, nodes[intent.task_id].spec)
    return node
