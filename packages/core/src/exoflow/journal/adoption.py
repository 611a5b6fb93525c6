"""Taking workflows over: from the dead, from the retired, and from owners that gave them up.

There are two ways for a workflow to reach another journal, and each is one create that exactly one contender wins.

*By seal.* The journal's next segment becomes a seal that names the heir: all its workflows move at once, and its writer,
should it wake up, finds its number taken. Only then does the heir read. In one flush it records how much it has read
(`Adopted`), repeats the records of the workflows it will run, and gives up the others (`Released`). A crash before
that flush leaves a sealed journal with a dead heir: the next heir seals that one, and adopts both.

*By claim.* What is owned by nobody (released, or left in a retired journal) moves by a claim with the next epoch. The
contender first repeats the workflow's records in its own journal, then creates the claim, which names the batch where
they begin: a crash in between leaves records that no claim leads to, and those are ignored. So a claim of this kind
never leads to nothing, and only the claim of a *new* workflow may find no submission behind it.

Nothing here is undone when it fails half-way: whatever is in the store then is a state from which calling the same
function again, in this process or another, goes on.
"""

import logging
from collections.abc import Callable, Iterable, Iterator

import attrs

from exoflow.errors import (
    CorruptCheckpointError,
    UnavailableError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from exoflow.failures.points import FailurePoint
from exoflow.journal import records as rec
from exoflow.journal.claims import claim
from exoflow.journal.creation import PATIENT, Patience, Won, create_exactly
from exoflow.journal.ends import SUMMARY, is_finished, submission_of
from exoflow.journal.frames import Seal, decode_seal, encode_seal
from exoflow.journal.layout import open_key, segment_key
from exoflow.journal.liveness import is_live, list_open, read_open
from exoflow.journal.ownership import (
    History,
    Ownership,
    Standing,
    follow,
    has_finished,
    history,
    lengths_in,
    look_up,
    trace,
)
from exoflow.journal.reader import Selection, find_end
from exoflow.journal.shelf import Shelf, records_at
from exoflow.journal.writer import JournalWriter
from exoflow.stores.contract import ObjectStore, SupportsLocks

__all__ = ["LIGHT", "Acquired", "acquire", "acquire_many", "adopt", "begin", "orphans", "pay_debts", "seal"]

_log = logging.getLogger(__name__)

LIGHT = Selection(kinds=SUMMARY)
"""What says where a workflow stands, and not what its tasks came to."""

_LIGHT = LIGHT
_WHOLE = Selection(raw=True)


@attrs.frozen(kw_only=True)
class Acquired:
    """A workflow that this journal owns, or one that has ended and needs no owner."""

    workflow_id: str
    epoch: int
    records: list[rec.WorkflowRecord]
    """Its history, from the submission on. If it has ended, without what its tasks came to."""
    finished: bool
    """Whether nothing is left to do. Then it was not taken over."""


def seal(store: ObjectStore, victim: str, heir: str, patience: Patience = PATIENT) -> Seal:
    """Close a journal in the name of an heir, unless that has been done.

    Args:
        store: Where.
        victim: The journal whose writer seems to be dead.
        heir: The journal that takes over.
        patience: How long to retry.

    Returns:
        The seal that *victim* has now, which may name another heir, or none.

    Raises:
        UnknownOutcomeError: No answer. The seal may be there, or appear later.
        UnavailableError: The store refused.
    """
    end = find_end(store, victim)
    if end.seal is not None:
        return end.seal
    number, made = end.number + 1, Seal(heir)
    while True:
        key = segment_key(victim, number)
        answer = create_exactly(store, key, encode_seal(made, victim), patience)
        if isinstance(answer, Won):
            return made
        found = decode_seal(key, answer.winner, victim)
        if found is not None:
            return found
        number += 1  # the writer lives, and has begun this segment: the seal comes behind it


def adopt(
    store: ObjectStore, writer: JournalWriter, journal_id: str, wanted: Callable[[str], bool], now: float
) -> dict[str, Acquired] | None:
    """Take over a journal whose writer is dead, and what that writer had taken over and not yet adopted.

    Args:
        store: Where.
        writer: The heir's.
        journal_id: The journal; its heirs, if it has any, are followed.
        wanted: Asked for each workflow id that has not ended: whether to take it. Others are given up, so that
            anybody may claim them.
        now: Seconds since the epoch, UTC.

    Returns:
        The workflows that were taken; empty if there was nothing to adopt. None if a live writer
        other than *writer* is the heir.

    Raises:
        FencedError: *writer* was itself taken over.
        UnavailableError: The store does not answer. Calling again goes on.
    """
    us = writer.journal_id
    while True:
        shelf = Shelf(store, LIGHT)
        chain, retired, _ = follow(shelf, journal_id)
        if retired:
            return {}
        if chain[-1] == us:
            return _take_in(store, writer, shelf, chain, wanted, now)
        victim = chain[-1]
        if is_live(store, victim, now):
            return None
        # An heir that is itself sealed would only prolong the chain.
        writer.check()
        writer.owed.add(victim)
        if seal(store, victim, us, writer.patience).heir != us:
            writer.owed.discard(victim)
            continue
        if writer.fail is not None:
            writer.fail(FailurePoint.ON_SEAL)


def orphans(store: ObjectStore, journal_id: str) -> list[str]:
    """Return journals that came to *journal_id* through the seals of others, and were never adopted.

    An heir that dies right after sealing leaves them, and one that seals while it is sealed itself leaves them without
    its own heir knowing.
    """
    found = []
    for candidate in list_open(store):
        shelf = Shelf(store, LIGHT)
        chain, retired, _ = follow(shelf, candidate)
        if retired or chain[-1] != journal_id or len(chain) == 1:
            continue
        if _unrecorded(shelf, chain):
            found.append(candidate)
    return found


def pay_debts(store: ObjectStore, writer: JournalWriter, now: float) -> bool:
    """Adopt what was sealed in our name, or perhaps was, and then not adopted because the store failed.

    Until then its workflows are ours, and nobody runs them. They are given up, so that anybody may claim them. To be
    called now and then by a running controller whose `JournalWriter.owed` is not empty.

    Returns:
        Whether nothing is owed any more.

    Raises:
        FencedError: *writer* was itself taken over.
        UnavailableError: The store does not answer. Calling again goes on.
    """
    for journal_id in sorted({*writer.owed, *orphans(store, writer.journal_id)}):
        adopt(store, writer, journal_id, _nothing, now)
    return not writer.owed


def begin(store: ObjectStore, writer: JournalWriter, workflow_id: str, now: float) -> int | None:
    """Claim the id of a new workflow, which its user gave.

    The submission must go into a batch that is appended after this call began. No answer leaves the process before
    both are durable.

    Args:
        store: Where.
        writer: Of the journal that will hold it.
        workflow_id: Which.
        now: Seconds since the epoch, UTC.

    Returns:
        The claim's epoch, which is the generation of this use of the id. None if there is such a workflow, perhaps
        since a moment ago: acquire it, or read its result.

    Raises:
        WorkflowRunningError: A live controller has claimed the id, and submits or adopts it just now.
        UnavailableError: The store does not answer. Whether the id is claimed is not known.
    """
    while True:
        standing = look_up(store, workflow_id, now, LIGHT)
        epoch = 1
        if standing is not None:
            own, past = standing.ownership, standing.history
            if own.chain == (writer.journal_id,) and not past.records and past.given_up is None:
                return own.epoch  # claimed by us before, and nothing came of it
            if past.records and not isinstance(past.given_up, rec.Deleted):
                return None
            if not standing.free:
                if own.live and own.last != writer.journal_id:
                    raise _running(store, own)
                if adopt(store, writer, own.chain[0], _nothing, now) is None:
                    raise _running(store, own)
                continue
            epoch = own.epoch + 1
        made = claim(store, workflow_id, epoch, writer.journal_id, since=writer.batches + 1, patience=writer.patience)
        if writer.fail is not None:
            writer.fail(FailurePoint.ON_CLAIM)
        if made.journal_id == writer.journal_id:
            return epoch


def acquire(store: ObjectStore, writer: JournalWriter, workflow_id: str, now: float) -> Acquired:
    """Make a workflow ours, to go on with it.

    Of all that try, exactly one succeeds while its writer lives.

    Args:
        store: Where.
        writer: Of the journal that will own it.
        workflow_id: Which.
        now: Seconds since the epoch, UTC.

    Returns:
        The workflow. What it says is durable, and if it has not finished, it is durably ours.

    Raises:
        WorkflowNotFoundError: No such workflow, or it is deleted, or its submission never became durable.
        WorkflowRunningError: A live controller has it.
        FencedError: *writer* was itself taken over.
        CorruptCheckpointError: A journal is damaged.
        UnavailableError: The store does not answer. Calling again goes on.
    """
    us = writer.journal_id
    while True:
        # Lightly first: a workflow that has ended, or runs elsewhere, needs no more, and neither does a dead journal
        # before it is sealed.
        standing = look_up(store, workflow_id, now, LIGHT)
        if standing is None or standing.ownership.deleted or isinstance(standing.history.given_up, rec.Deleted):
            raise WorkflowNotFoundError(workflow_id, store.url)
        own, past = standing.ownership, standing.history
        if past.settled and past.finished:
            return _acquired(own.epoch, past)
        if standing.free:
            if not past.records:
                raise WorkflowNotFoundError(workflow_id, store.url)
            claimed = _move_by_claim(store, writer, standing, now)
            if claimed is not None:
                return claimed
            continue
        if own.last != us:
            if own.live:
                raise _running(store, own)
        elif past.settled:
            if not past.records:
                raise WorkflowNotFoundError(workflow_id, store.url)
            whole = look_up(store, workflow_id, now, _WHOLE)
            assert whole is not None
            past = whole.history
            if past.journal_id != us:
                # Its claim arrived after we had adopted the journal: it is ours, and only has to be repeated here.
                writer.append(past.raw)
            return _acquired(own.epoch, past)
        taken = adopt(store, writer, own.chain[0], lambda found: found == workflow_id, now)
        if taken is not None and workflow_id in taken:
            return taken[workflow_id]


def acquire_many(
    store: ObjectStore, writer: JournalWriter, now: float, wanted: Callable[[str], bool] = lambda workflow_id: True
) -> dict[str, Acquired]:
    """Make every workflow ours that has not ended and that no live controller owns: what a start may do.

    Each dead journal costs one flush, and all that was given up or left by the retired one more, with a claim for each.
    One journal that cannot be read, or not now, keeps no other from being taken: it is logged.

    Args:
        store: Where.
        writer: Of the journal that will own them.
        now: Seconds since the epoch, UTC.
        wanted: Asked for each workflow id.

    Returns:
        The workflows that became ours.

    Raises:
        FencedError: *writer* was itself taken over.
        UnavailableError: The store does not answer. Calling again goes on.
    """
    found: dict[str, Acquired] = {}
    waiting = [
        journal_id
        for journal_id in list_open(store)
        # One without a segment is just being opened: there is nothing to take, and a seal would only get in its way.
        if journal_id != writer.journal_id and find_end(store, journal_id).number
    ]
    for journal_id in waiting:
        try:
            found.update(adopt(store, writer, journal_id, wanted, now) or {})
        except (CorruptCheckpointError, UnavailableError) as error:
            _leave_alone(writer, journal_id, error)  # what was found before is ours already
    light, whole = Shelf(store, LIGHT), Shelf(store, _WHOLE)
    left: dict[str, tuple[Ownership, History]] = {}
    for journal_id in waiting:
        try:
            for workflow_id in _unfinished_in(light, journal_id):
                own = trace(light, workflow_id, now)
                if workflow_id in found or own is None or own.deleted or not wanted(workflow_id):
                    continue
                past = history(light, own)
                # Where it is not settled how much counts, there is more to do than this.
                if past.settled and _can_be_claimed(own, past) and not has_finished(store, own, past):
                    left[workflow_id] = own, history(whole, own)
        except (CorruptCheckpointError, UnavailableError) as error:
            _leave_alone(writer, journal_id, error)
    if left:
        since = writer.batches + 1
        writer.append([raw for _, past in left.values() for raw in past.raw])
        for workflow_id, (own, past) in left.items():
            try:
                if _claim(writer, own, since):
                    found[workflow_id] = _acquired(own.epoch + 1, past)
            except UnavailableError as error:
                _leave_alone(writer, f"that holds {workflow_id}", error)
    return found


def _leave_alone(writer: JournalWriter, journal_id: str, error: Exception) -> None:
    if writer.dead:
        raise error
    _log.warning("journal %s is left alone: %s", journal_id, error)


def _can_be_claimed(own: Ownership, past: History) -> bool:
    free = Standing(ownership=own, history=past).free
    return free and bool(past.records) and not isinstance(past.given_up, rec.Deleted)


def _claim(writer: JournalWriter, own: Ownership, since: int) -> bool:
    """Create the next claim of a workflow that nobody owns; return whether it is ours."""
    made = claim(writer.store, own.workflow_id, own.epoch + 1, writer.journal_id, since=since, patience=writer.patience)
    if writer.fail is not None:
        writer.fail(FailurePoint.ON_CLAIM)
    if made.journal_id != writer.journal_id:
        return False
    writer.check()  # a journal that was sealed meanwhile has passed it on
    return True


def _acquired(epoch: int, past: History) -> Acquired:
    assert past.records
    workflow_id = past.records[0].workflow_id
    return Acquired(workflow_id=workflow_id, epoch=epoch, records=past.records, finished=past.finished)


def _take_in(
    store: ObjectStore,
    writer: JournalWriter,
    shelf: Shelf,
    chain: tuple[str, ...],
    wanted: Callable[[str], bool],
    now: float,
) -> dict[str, Acquired]:
    """Record what was read of the journals sealed in our name, and what becomes of their workflows: one flush."""
    fresh = _unrecorded(shelf, chain)
    if not fresh:
        return {}
    # All of them were sealed before they were read. Whatever is appended to them from now on does not count.
    lengths = {journal_id: shelf.book(journal_id).contents.batches for journal_id in fresh}
    taken, given_up = _share_out(store, writer.journal_id, shelf, fresh, wanted, now)
    batch: list[bytes | memoryview] = [rec.encode(rec.Adopted(journal_id, lengths[journal_id])) for journal_id in fresh]
    silent = [] if isinstance(store, SupportsLocks) else [each for each in fresh if not _has_retired(shelf, each)]
    for workflow_id in given_up:
        batch += _silence(shelf, silent, workflow_id)
        batch.append(rec.encode(rec.Released(workflow_id)))
    found: dict[str, Acquired] = {}
    whole = Shelf(store, _WHOLE) if len(taken) > 1 else None
    for workflow_id, own in taken.items():
        past = history(whole or Shelf(store, attrs.evolve(_WHOLE, workflow_id=workflow_id)), own, lengths)
        said = _silence(shelf, silent, workflow_id)
        past = attrs.evolve(past, records=[*past.records, *map(_decode, said)], raw=[*past.raw, *said])
        found[workflow_id] = _acquired(own.epoch, past)
        batch += past.raw
    writer.append(batch)
    writer.owed.difference_update(fresh)
    left = set(given_up.values())
    _remove_open(store, [journal_id for journal_id in fresh if journal_id not in left])
    return found


def _share_out(
    store: ObjectStore, us: str, shelf: Shelf, fresh: list[str], wanted: Callable[[str], bool], now: float
) -> tuple[dict[str, Ownership], dict[str, str]]:
    """Decide about each workflow of journals sealed in our name.

    Returns:
        Those to take, and those to give up with the journal that holds them.
    """
    taken: dict[str, Ownership] = {}
    given_up: dict[str, str] = {}
    for journal_id in fresh:
        for workflow_id in _unfinished_in(shelf, journal_id):
            if workflow_id in taken or workflow_id in given_up:
                continue
            own = trace(shelf, workflow_id, now)
            if own is not None and own.deleted:
                continue
            if own is not None and own.last == us:
                past = history(shelf, own)
                # Held already, by another way; or given up, or ended, in a later journal of the chain.
                if past.journal_id in (None, us) or past.given_up is not None or has_finished(store, own, past):
                    continue
                if wanted(workflow_id):
                    taken[workflow_id] = own
                    continue
            # Also where nothing leads here yet: its claim may be on its way, and should it arrive, others must be able
            # to go on. To a workflow that is elsewhere it means nothing: no claim leads to this record.
            given_up[workflow_id] = journal_id
    return taken, given_up


def _has_retired(shelf: Shelf, journal_id: str) -> bool:
    return any(isinstance(record, rec.Retired) for record in shelf.book(journal_id).contents.records)


def _silence(shelf: Shelf, silent: list[str], workflow_id: str) -> list[memoryview]:
    """Return records that say whose attempts at effects of a workflow may still run."""
    return [
        memoryview(rec.encode(rec.FellSilent(workflow_id, journal_id)))
        for journal_id in silent
        if any(
            isinstance(record, rec.Intent)
            for record in records_at(
                shelf.book(journal_id).contents, shelf.book(journal_id).by_workflow.get(workflow_id, ())
            )
        )
    ]


def _decode(record: memoryview) -> rec.WorkflowRecord:
    return rec.decode(record)  # type: ignore[return-value]


def _unfinished_in(shelf: Shelf, journal_id: str) -> Iterator[str]:
    """Yield the workflows that a journal, taken by itself, leaves unfinished."""
    book = shelf.book(journal_id)
    for workflow_id, indices in book.by_workflow.items():
        records = records_at(book.contents, indices)
        last = records[-1]
        if submission_of(records) is None or isinstance(last, rec.Released | rec.Deleted):
            continue
        if not is_finished(records):
            yield workflow_id


def _unrecorded(shelf: Shelf, chain: tuple[str, ...]) -> list[str]:
    """Return those of the chain of which no heir has recorded how much counts."""
    recorded: dict[str, int] = {}
    found = []
    for at in range(len(chain) - 1, -1, -1):
        length = recorded.get(chain[at]) if at + 1 < len(chain) else None
        if length is None and at + 1 < len(chain):
            found.append(chain[at])
        recorded.update(lengths_in(shelf.book(chain[at]), length))
    return found[::-1]


def _move_by_claim(store: ObjectStore, writer: JournalWriter, standing: Standing, now: float) -> Acquired | None:
    """Repeat the records of a workflow that nobody owns, and claim it; None if somebody else did."""
    own = standing.ownership
    whole = look_up(store, own.workflow_id, now, _WHOLE)
    if whole is None or whole.ownership.claim != own.claim or not whole.free or not whole.history.records:
        return None
    past = whole.history
    since = writer.batches + 1
    writer.append(past.raw)
    if not _claim(writer, own, since):
        return None
    if not past.settled:
        # Of a sealed journal whose heir never said how much counts, a reader may have seen more than we did. The claim
        # is the fence now: what is there is read once more, and after it nobody reads that journal for this workflow.
        again = history(Shelf(store, attrs.evolve(_WHOLE, workflow_id=own.workflow_id)), whole.ownership)
        if again.raw != past.raw:
            writer.append(again.raw)
            past = again
    return _acquired(own.epoch + 1, past)


def _running(store: ObjectStore, own: Ownership) -> WorkflowRunningError:
    assert own.last is not None
    entry = read_open(store, own.last)
    if entry is None:
        return WorkflowRunningError(own.workflow_id, f"journal {own.last}")
    error = WorkflowRunningError(own.workflow_id, entry.writer)
    error.left_behind = entry.writer_is_gone
    return error


def _remove_open(store: ObjectStore, journal_ids: Iterable[str]) -> None:
    for journal_id in journal_ids:
        try:
            store.delete(open_key(journal_id))
        except UnavailableError as error:  # a later start looks at it in vain, and garbage collection removes it
            _log.warning("cannot remove %s: %s", open_key(journal_id), error)


def _nothing(workflow_id: str) -> bool:
    return False
