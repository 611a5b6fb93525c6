"""What the records of one workflow say about where it stands. Pure."""

from collections.abc import Iterable, Sequence

from exoflow.journal.records import (
    Adopted,
    Attention,
    Deleted,
    End,
    FellSilent,
    Intent,
    Opened,
    Outcome,
    Record,
    Released,
    Retired,
    Settlement,
    Submission,
    UndoRecord,
    WorkflowRecord,
)
from exoflow.values import Payload

__all__ = ["SUMMARY", "blobs_named", "end_of", "is_finished", "needs_attention", "submission_of"]

SUMMARY = frozenset(
    made.kind
    for made in (
        Opened, Adopted, Retired, Submission, Intent, UndoRecord, Settlement, End, Attention, Released, Deleted,
        FellSilent,
    )
)  # fmt: skip
"""The records that say where a workflow stands, and none of those that say what its tasks came to."""


def submission_of(records: Iterable[WorkflowRecord]) -> Submission | None:
    """Return the submission, which is the first of a history."""
    return next((record for record in records if isinstance(record, Submission)), None)


def end_of(records: Iterable[WorkflowRecord]) -> End | None:
    """Return the end that counts: the first."""
    return next((record for record in records if isinstance(record, End)), None)


def is_finished(records: Sequence[WorkflowRecord]) -> bool:
    """Whether nothing is left to do: it has an end, and no undo is due.

    A failed or cancelled workflow is finished when each of its intents was undone, or is known to have happened or
    not to have happened.
    """
    end = end_of(records)
    if end is None:
        return False
    if end.status == "succeeded":
        return True
    open_intents: dict[str, Intent] = {}
    for record in records:
        if isinstance(record, Intent):
            open_intents[record.attempt] = record
        elif isinstance(record, UndoRecord | Settlement):
            open_intents.pop(record.attempt, None)
        elif isinstance(record, End) and record.status == "rolled_back":
            open_intents.clear()
    if not open_intents:
        return True
    for record in records:
        # The effect of a rollback task is to be undone, that of a once task to be known.
        if isinstance(record, Outcome) and record.attempt in open_intents:
            intent = open_intents[record.attempt]
            if intent.key != intent.attempt:
                del open_intents[record.attempt]
    return not open_intents


def needs_attention(records: Iterable[WorkflowRecord]) -> Attention | None:
    """Return what a person was asked and has not answered; None if nothing."""
    asked: Attention | None = None
    for record in records:
        if isinstance(record, Attention):
            asked = record
        elif isinstance(record, Settlement | UndoRecord | Outcome) and asked and record.attempt == asked.attempt:
            asked = None
    return asked


def blobs_named(records: Iterable[Record]) -> set[str]:
    """Return the keys of all blobs that *records* name."""
    named = set()
    for record in records:
        payload: Payload | None = getattr(record, "payload", None)
        if payload is not None and payload.blob is not None:
            named.add(payload.blob)
    return named
