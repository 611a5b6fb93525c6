"""Whose a workflow is, and what is known of it.

A workflow id leads to a journal, by its highest claim, or because the library made the id up. From there the seals
lead on: each names the heir, which took over *every* workflow of the sealed journal in that moment. The last journal
of this chain owns the workflow; if it was retired (sealed without an heir), nobody does.

Three limits say which records along the chain count:

- of a sealed journal only as many batches as its heir has recorded (`Adopted`): a writer that slept through its own
  take-over may have appended more, and believes none of it;
- of an heir only what follows its first `Adopted` of an earlier journal of the chain, and of the journal that a claim
  names only what follows the batch in the claim: what lies before concerns other times, or claims that were lost;
- nothing after a `Released` or `Deleted`: from then on only a higher claim speaks.

Of what remains, the history is everything from the last `Submission` on: whoever takes a workflow over repeats its
records in its own journal, in one flush, so the journals before are not needed to go on.
"""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from exoflow.journal.claims import Claim
from exoflow.journal.ends import end_of, is_finished
from exoflow.journal.layout import journal_of
from exoflow.journal.reader import Selection
from exoflow.journal.records import Deleted, Outcome, Released, Submission, WorkflowRecord
from exoflow.journal.shelf import Book, Shelf
from exoflow.stores.contract import ObjectStore

__all__ = ["History", "Ownership", "Standing", "follow", "has_finished", "history", "lengths_in", "look_up", "trace"]

_UNKNOWN: Mapping[str, int] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Ownership:
    """Where a workflow id leads."""

    workflow_id: str
    claim: Claim | None
    """The highest; None for an id the library made up and that never moved."""
    chain: tuple[str, ...]
    """Journals from the one the id leads to, to the last heir. Empty if the id is deleted."""
    retired: bool
    """Whether the last journal is sealed too, so that nobody owns what it leaves."""
    circular: bool = False
    """Whether it is sealed by an earlier one of the chain: two writers took each other for dead. Like retired."""
    live: bool
    """Whether the last journal's writer seems to be alive."""

    @property
    def epoch(self) -> int:
        """Of the highest claim; 0 without one. The next claim takes one more."""
        return 0 if self.claim is None else self.claim.epoch

    @property
    def deleted(self) -> bool:
        """Whether the highest claim is a tombstone."""
        return self.claim is not None and self.claim.deleted

    @property
    def last(self) -> str | None:
        """The last journal of the chain."""
        return self.chain[-1] if self.chain else None


@attrs.frozen(kw_only=True)
class History:
    """What counts of the records of one workflow."""

    records: list[WorkflowRecord]
    """From its submission on; empty if there is none."""
    raw: list[memoryview] = attrs.field(factory=list)
    """The same encoded, if that was asked for."""
    journal_id: str | None
    """The journal in which the submission was found."""
    given_up: Released | Deleted | None
    """How the last owner gave it up, if so. A higher claim may follow."""
    settled: bool
    """Whether nobody can read more or less than this later, but for what the owner adds.

    False while an heir has not yet recorded how much of a sealed journal counts.
    """

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, as far as the records that were read say."""
        return is_finished(self.records)


@attrs.frozen(kw_only=True)
class Standing:
    """Owner and history, which belong together."""

    ownership: Ownership
    history: History

    @property
    def free(self) -> bool:
        """Whether a higher claim may be created.

        It may when nobody can add to the history of this epoch any more: the owner gave the workflow up, or the last
        journal is retired, or all journals it could be in are closed and hold no submission of it. Everybody who
        finds it so may try; the store lets one win.
        """
        own, past = self.ownership, self.history
        if own.deleted or own.retired or past.given_up is not None:
            return True
        return not past.records and past.settled and len(own.chain) > 1


def follow(shelf: Shelf, journal_id: str) -> tuple[tuple[str, ...], bool, bool]:
    """Follow seals from a journal.

    Returns:
        The journals passed, *journal_id* first; whether the last is sealed too; whether that leads back into the chain.
    """
    chain = [journal_id]
    while True:
        end = shelf.end(chain[-1])
        if end.seal is None:
            return tuple(chain), False, False
        if end.seal.heir is None:
            return tuple(chain), True, False
        if end.seal.heir in chain:
            return tuple(chain), True, True
        chain.append(end.seal.heir)


def trace(shelf: Shelf, workflow_id: str, now: float) -> Ownership | None:
    """Return where a workflow id leads; None if nowhere.

    Args:
        shelf: Of the store.
        workflow_id: Which.
        now: Seconds since the epoch, UTC, to judge heartbeats by.

    Raises:
        CorruptCheckpointError: A claim or seal is damaged.
        UnavailableError: The store does not answer.
    """
    claim = shelf.claim(workflow_id)
    if claim is None:
        start = journal_of(workflow_id)
        if start is None or not shelf.end(start).number:
            return None
    else:
        start = claim.journal_id
        if start is None:
            return Ownership(workflow_id=workflow_id, claim=claim, chain=(), retired=True, live=False)
    chain, retired, circular = follow(shelf, start)
    return Ownership(
        workflow_id=workflow_id,
        claim=claim,
        chain=chain,
        retired=retired,
        circular=circular,
        live=not retired and shelf.is_live(chain[-1], now),
    )


def history(shelf: Shelf, ownership: Ownership, lengths: Mapping[str, int] = _UNKNOWN) -> History:
    """Return what counts of the records of a workflow, by the rules above.

    Journals are read from the last to the first, as far as needed.

    Args:
        shelf: Of the store.
        ownership: Of the workflow, traced on this shelf or before.
        lengths: How many batches count of journals whose heir has not recorded it yet: for the heir itself.

    Raises:
        CorruptCheckpointError: A journal is damaged, or shorter than its heir recorded.
        UnavailableError: The store does not answer.
    """
    chain, workflow_id = ownership.chain, ownership.workflow_id
    later: list[WorkflowRecord] = []
    later_raw: list[memoryview] = []
    given_up: Released | Deleted | None = None
    recorded: dict[str, int] = {}  # lengths of journals, by the nearest heir that says so
    settled = not ownership.circular
    for at in range(len(chain) - 1, -1, -1):
        book = shelf.book(chain[at])
        length = None
        if at + 1 < len(chain):
            length = recorded.get(chain[at])
            settled = settled and length is not None
            if length is None:
                length = lengths.get(chain[at])
        if length is not None and length > book.contents.batches and not book.contents.sealed:
            # It was looked at before it was sealed, and its heir, who says how long it is, after that.
            shelf.forget(chain[at])
            book = shelf.book(chain[at])
        if length is not None:
            book.contents.check_length(length)
        recorded.update(lengths_in(book, length))
        start = _window(book, chain[:at], length, ownership.claim)
        indices = _within(book, workflow_id, start, length)
        records: list[WorkflowRecord] = [book.contents.records[index] for index in indices]  # type: ignore[misc]
        raw = [book.contents.raw[index] for index in indices] if shelf.select.raw else []
        submitted = None
        for position, record in enumerate(records):
            if isinstance(record, Submission):
                submitted = position
            elif isinstance(record, Released | Deleted):
                given_up = record
                del records[position:], raw[position:]
                later, later_raw = [], []
                break
        if submitted is not None:
            return History(
                records=records[submitted:] + later,
                raw=raw[submitted:] + later_raw,
                journal_id=chain[at],
                given_up=given_up,
                settled=settled,
            )
        later, later_raw = records + later, raw + later_raw
    return History(records=[], journal_id=None, given_up=given_up, settled=settled)


def look_up(store: ObjectStore, workflow_id: str, now: float, select: Selection | None = None) -> Standing | None:
    """Return the owner and the history of a workflow, seen in one moment; None if the id leads nowhere.

    Args:
        store: Where.
        workflow_id: Which.
        now: Seconds since the epoch, UTC.
        select: Which of its records to return; by default all. Those about journals are always read, and those of
            other workflows never. Outcomes are added where only they say whether a workflow that failed is finished.

    Raises:
        CorruptCheckpointError: A claim or journal is damaged.
        UnavailableError: The store does not answer.
    """
    select = attrs.evolve(select or Selection(), workflow_id=workflow_id)
    while True:
        shelf = Shelf(store, select)
        own = trace(shelf, workflow_id, now)
        if own is None:
            return None
        past = history(shelf, own)
        if own.last is not None and not own.retired and shelf.book(own.last).contents.sealed:
            # It got a seal after the chain was followed. What was read of it may be more than its heir read.
            continue
        if _wants_outcomes(past, select):
            assert select.kinds is not None
            select = attrs.evolve(select, kinds=select.kinds | {Outcome.kind})
            continue
        return Standing(ownership=own, history=past)


def has_finished(store: ObjectStore, ownership: Ownership, past: History) -> bool:
    """Whether nothing is left to do, by a history that may lack what its tasks came to."""
    if past.finished or end_of(past.records) is None:
        return past.finished
    return history(Shelf(store, Selection(workflow_id=ownership.workflow_id)), ownership).finished


def _wants_outcomes(past: History, select: Selection) -> bool:
    # It failed, and an intent has no end of its own: the outcome of its task may be one.
    if select.kinds is None or Outcome.kind in select.kinds:
        return False
    return end_of(past.records) is not None and not past.finished


def lengths_in(book: Book, length: int | None) -> dict[str, int]:
    """Return how many batches of other journals count, as far as the first *length* batches of this one say."""
    found: dict[str, int] = {}
    for position, record in book.adoptions:
        if length is None or position <= length:
            found.setdefault(record.journal_id, record.length)
    return found


def _window(book: Book, earlier: tuple[str, ...], length: int | None, claim: Claim | None) -> int | None:
    """Return the batch from which records count; None if none do."""
    if not earlier:
        return 1 if claim is None else claim.since
    for position, record in book.adoptions:
        if record.journal_id in earlier and (length is None or position <= length):
            return position
    return None


def _within(book: Book, workflow_id: str, start: int | None, length: int | None) -> list[int]:
    if start is None:
        return []
    positions = book.contents.positions
    return [
        index
        for index in book.by_workflow.get(workflow_id, ())
        if positions[index] >= start and (length is None or positions[index] <= length)
    ]
