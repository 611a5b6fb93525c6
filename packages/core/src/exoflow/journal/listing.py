"""Every workflow a store knows, with what says where it stands."""

from collections.abc import Iterator

import attrs

from exoflow.journal.layout import JOURNALS, names_in
from exoflow.journal.ownership import Ownership, has_finished, history, trace
from exoflow.journal.records import Deleted, Submission, WorkflowRecord
from exoflow.journal.shelf import Shelf
from exoflow.stores.contract import ObjectStore

__all__ = ["WorkflowSummary", "iterate_workflows", "list_journals"]


@attrs.frozen(kw_only=True)
class WorkflowSummary:
    """A workflow, without what its tasks came to."""

    workflow_id: str
    records: list[WorkflowRecord]
    """Submission (without the DAG), intents, undos, attention, ends."""
    ownership: Ownership
    live: bool
    """Whether a live controller has it."""
    finished: bool
    """Whether nothing is left to do."""


def list_journals(store: ObjectStore) -> dict[str, list[str]]:
    """Return the ids of all journals there ever were, oldest first, each with the keys it has left."""
    found: dict[str, list[str]] = {}
    for key in store.list(JOURNALS):
        found.setdefault(names_in(key)[0], []).append(key)
    return found


def iterate_workflows(store: ObjectStore, now: float) -> Iterator[WorkflowSummary]:
    """Yield every workflow that is neither deleted nor forgotten.

    All journals are read once, and one listing finds the claims; what that costs grows with what the store keeps.

    Args:
        store: Where.
        now: Seconds since the epoch, UTC.

    Raises:
        CorruptCheckpointError: A journal is damaged.
        UnavailableError: The store does not answer.
    """
    shelf = Shelf(store)
    shelf.list_claims()
    seen: set[str] = set()
    for journal_id in list_journals(store):
        book = shelf.book(journal_id)
        for workflow_id, indices in book.by_workflow.items():
            if workflow_id in seen or not any(isinstance(book.contents.records[i], Submission) for i in indices):
                continue
            seen.add(workflow_id)
            summary = _summarise(shelf, workflow_id, now)
            if summary is not None:
                yield summary


def _summarise(shelf: Shelf, workflow_id: str, now: float) -> WorkflowSummary | None:
    own = trace(shelf, workflow_id, now)
    if own is None or own.deleted:
        return None
    past = history(shelf, own)
    if not past.records or isinstance(past.given_up, Deleted):
        return None
    return WorkflowSummary(
        workflow_id=workflow_id,
        records=[attrs.evolve(r, payload=None) if isinstance(r, Submission) else r for r in past.records],
        ownership=own,
        live=own.live and past.given_up is None,
        finished=has_finished(shelf.store, own, past),
    )
