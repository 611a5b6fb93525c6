"""What a person can say of an effect whose fate nobody else knows, as records."""

from exoflow.errors import UsageError
from exoflow.journal.layout import blob_key
from exoflow.journal.records import Intent, Outcome, Settlement, UndoRecord, WorkflowRecord
from exoflow.recovery.history import History
from exoflow.stores.contract import ObjectStore
from exoflow.values import Encoded, persist

__all__ = ["open_intent", "settlement"]


def open_intent(history: History, workflow_id: str, task_id: str, *, happened: bool) -> Intent:
    """Return the intent of a task of which nobody knows what became of it.

    Raises:
        UsageError: There is none, or it is not settled like this.
    """
    known = {outcome.attempt for outcome in history.outcomes.values() if outcome.payload is not None}
    asked = history.attention.attempt if history.attention is not None else None
    found = [
        intent for intent in history.intents.values()
        if intent.task_id == task_id and intent.attempt not in history.undone and intent.attempt not in history.settled
        and (intent.attempt == asked if intent.key == intent.attempt else intent.attempt not in known)
    ]  # fmt: skip
    if not found:
        raise UsageError(
            f"workflow {workflow_id!r} has no unsettled effect of task {task_id!r}; `exoflow show {workflow_id}`"
        )
    if happened and _is_rollback(found[-1]):
        raise UsageError(
            f"task {task_id!r} is a rollback task: undo by hand what its attempt did, then say happened=False"
        )
    return found[-1]


def settlement(
    intent: Intent, given: Encoded | None, *, codec: str, store: ObjectStore, now: float
) -> list[WorkflowRecord]:
    """Return the records that settle *intent*.

    Args:
        intent: As `open_intent` found it.
        given: The task's result, if it happened.
        codec: Name of the codec that encoded it.
        store: Where a large result goes.
        now: Seconds since the epoch, UTC.
    """
    workflow_id, task_id, attempt = intent.workflow_id, intent.task_id, intent.attempt
    if _is_rollback(intent):
        return [UndoRecord(workflow_id, task_id, attempt)]
    if given is None:
        return [Settlement(workflow_id, task_id, attempt, False)]
    payload = persist(given, codec, store, blob_key(workflow_id, attempt, 3))
    outcome = Outcome(workflow_id, task_id, attempt, attempt, intent.reads, "value", True, "", 1, now, 0.0, "", payload)
    return [Settlement(workflow_id, task_id, attempt, True), outcome]


def _is_rollback(intent: Intent) -> bool:
    return intent.key == intent.attempt  # a once task's key names its workflow and itself
