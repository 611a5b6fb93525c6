"""Deleting a workflow: the record, the tombstone, then the objects.

The tombstone is the moment of deletion; before it nothing is lost, after it the id is free. What may be removed is
listed before: a new workflow of the same id may begin the moment the tombstone is there, and its objects lie in the
same folders.
"""

from collections.abc import Iterable

import attrs

from exoflow.errors import WorkflowNotFoundError, WorkflowRunningError
from exoflow.journal import records as rec
from exoflow.journal.adoption import LIGHT, adopt
from exoflow.journal.claims import read_claim, tombstone
from exoflow.journal.ends import blobs_named
from exoflow.journal.inbox import pending
from exoflow.journal.layout import blobs_of, journal_of
from exoflow.journal.liveness import read_open
from exoflow.journal.ownership import History, Ownership, Standing, follow, history, look_up
from exoflow.journal.pins import is_pinned, pins_by_fork, unpin
from exoflow.journal.reader import Selection
from exoflow.journal.shelf import Shelf
from exoflow.journal.writer import JournalWriter
from exoflow.stores.contract import ObjectStore

__all__ = ["delete"]


def delete(store: ObjectStore, writer: JournalWriter, workflow_id: str, now: float) -> int:
    """Remove a workflow, which has ended or which no other live controller runs. Its id is free again.

    Calling it again, after a crash for example, removes what was left. Values that a fork still needs stay.

    Args:
        store: Where.
        writer: Of a journal that notes the deletion, so that garbage collection finds what is left of it.
        workflow_id: Which.
        now: Seconds since the epoch, UTC.

    Returns:
        How many objects were removed.

    Raises:
        WorkflowNotFoundError: No such workflow.
        WorkflowRunningError: A live controller runs it; cancel it first.
        FencedError: *writer* was taken over.
        UnavailableError: The store does not answer. Calling again goes on.
    """
    while True:
        standing = look_up(store, workflow_id, now, LIGHT)
        if standing is None:
            raise WorkflowNotFoundError(workflow_id, store.url)
        own, past = standing.ownership, standing.history
        if own.deleted:
            before = _before(store, own)
            return _remove(store, workflow_id, _objects(store, workflow_id, before) if before is not None else [])
        if not (_closed(standing) or (own.last == writer.journal_id and past.settled)):
            if own.live and own.last != writer.journal_id:
                raise _running(store, own)
            if adopt(store, writer, own.chain[0], lambda _: False, now) is None:
                raise _running(store, own)
            continue
        if not past.records:
            raise WorkflowNotFoundError(workflow_id, store.url)
        whole = look_up(store, workflow_id, now)
        assert whole is not None
        doomed = _objects(store, workflow_id, whole.history)
        # In the journal that owns the workflow this ends it. In another one it is a note: nothing leads to it.
        writer.append([rec.encode(rec.Deleted(workflow_id, now))])
        if tombstone(store, workflow_id, own.epoch + 1, now, patience=writer.patience).deleted:
            return _remove(store, workflow_id, doomed)


def _closed(standing: Standing) -> bool:
    """Whether nothing more can happen to the workflow in this epoch: nobody may go on with it, or nobody needs to."""
    past = standing.history
    return standing.free or (past.settled and past.finished)


def _objects(store: ObjectStore, workflow_id: str, past: History) -> list[str]:
    """Return what belongs to one use of an id: its messages, and the blobs of attempts that its records know of."""
    named = blobs_named(past.records)
    prefixes = {_run_of(record.attempt) for record in past.records if isinstance(record, rec.Outcome | rec.Intent)}
    prefixes |= {_run_of(_attempt_in(key)) for key in named}
    found = [m.key for events in pending(store, workflow_id).values() for listed in events.values() for m in listed]
    blobs = store.list(blobs_of(workflow_id))
    return found + [key for key in blobs if key in named or _run_of(_attempt_in(key)) in prefixes]


def _remove(store: ObjectStore, workflow_id: str, keys: Iterable[str]) -> int:
    pinned = is_pinned(store, workflow_id)
    count = 0
    for key in keys:
        if not (pinned and key.startswith(blobs_of(workflow_id))):
            store.delete(key)
            count += 1
    return count + unpin(store, pins_by_fork(store).get(workflow_id, ()))


def _before(store: ObjectStore, own: Ownership) -> History | None:
    """Return the history that a tombstone ended, as far as it can be found."""
    assert own.claim is not None
    claim = read_claim(store, own.workflow_id, own.epoch - 1) if own.epoch > 1 else None
    start = claim.journal_id if claim is not None else journal_of(own.workflow_id)
    if start is None:
        return None
    shelf = Shelf(store, Selection(workflow_id=own.workflow_id))
    chain, retired, circular = follow(shelf, start)
    earlier = attrs.evolve(own, claim=claim, chain=chain, retired=retired, circular=circular)
    return history(shelf, earlier)


def _attempt_in(blob: str) -> str:
    return blob.rsplit("/", 1)[1].rpartition("-")[0]


def _run_of(attempt: str) -> str:
    """Return what all attempts of one run of a workflow begin with."""
    return attempt.rpartition(".")[0]


def _running(store: ObjectStore, own: Ownership) -> WorkflowRunningError:
    assert own.last is not None
    entry = read_open(store, own.last)
    return WorkflowRunningError(own.workflow_id, entry.writer if entry else f"journal {own.last}")
