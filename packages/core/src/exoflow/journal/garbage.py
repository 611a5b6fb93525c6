"""Removing what is finished and old.

Nothing here decides who owns what, and no order of steps may matter to those who do. So:

- a journal is collected when it is sealed, an heir has recorded how much of it counts (or it was retired), and every
  workflow in it ended, went elsewhere, or was deleted;
- first its archive is created, then its segments go; the seal stays for ever, or a writer that wakes up after a week
  would find its number free;
- blobs go after the segments: a fork pins first and reads then, so either it misses the segments or we see its pin;
- what a workflow leaves when it is forgotten goes in the order result, lower claims, highest claim, archive: as long
  as anything leads to the workflow, it has ended.

Each step can be the last before a crash, and the next collection goes on from there.
"""

import logging
from collections.abc import Callable

import attrs

from exoflow.errors import CorruptCheckpointError
from exoflow.journal import records as rec
from exoflow.journal.adoption import adopt
from exoflow.journal.archive import condense
from exoflow.journal.claims import highest_claim
from exoflow.journal.creation import PATIENT, Patience, create_exactly
from exoflow.journal.deletion import delete
from exoflow.journal.ends import blobs_named, submission_of
from exoflow.journal.layout import (
    ARCHIVE,
    BLOBS,
    archive_key,
    claims_of,
    epoch_of,
    inbox_of,
    journal_of,
    names_in,
    open_key,
    sequence_of,
)
from exoflow.journal.listing import list_journals
from exoflow.journal.liveness import list_open, read_open
from exoflow.journal.ownership import Ownership, follow, has_finished, history, lengths_in, look_up, trace
from exoflow.journal.pins import is_pinned, pins_by_fork, unpin
from exoflow.journal.reader import JournalContents, encode_archive
from exoflow.journal.shelf import Shelf, records_at
from exoflow.journal.writer import JournalWriter
from exoflow.stores.contract import ObjectStore

__all__ = ["GarbageReport", "collect", "delete"]

_log = logging.getLogger(__name__)

_UNCLAIMED_S = 7 * 86400.0
"""A submission that no claim leads to is kept for so long: the claim may be on its way."""


@attrs.define(kw_only=True)
class GarbageReport:
    """How much was removed."""

    journals_archived: int = 0
    journals_forgotten: int = 0
    workflows_forgotten: int = 0
    segments: int = 0
    blobs: int = 0
    claims: int = 0
    messages: int = 0


def collect(
    store: ObjectStore,
    now: float,
    forget_after_s: float,
    *,
    archive_after_s: float | None = None,
    writer: JournalWriter | None = None,
    patience: Patience = PATIENT,
) -> GarbageReport:
    """Remove what is finished and old. Safe beside anybody, at any time, and after any crash.

    Args:
        store: Where.
        now: Seconds since the epoch, UTC.
        forget_after_s: After so long an ended workflow is forgotten: its result, its claims, and with them its id.
        archive_after_s: After so long only its end and its result are kept, not what its tasks came to. By default
            this happens when it is forgotten, not before.
        writer: Of a journal that may adopt those of dead writers in which everything has ended. Without one they
            stay until somebody takes them over.
        patience: How long to retry.

    Returns:
        What was removed. A journal that is damaged is logged and left alone.

    Raises:
        UnavailableError: The store does not answer. What was removed is removed; calling again goes on.
    """
    if archive_after_s is None:
        archive_after_s = forget_after_s
    collection = _Collection(store, now, min(archive_after_s, forget_after_s), forget_after_s, writer, patience)
    return collection.run()


@attrs.frozen(kw_only=True)
class _Finding:
    """What a closed journal still has to say."""

    contents: JournalContents
    """As much of it as counts."""
    ended: frozenset[str]
    """Workflows that ended in it."""
    left: bool
    """Whether a workflow in it may yet be wanted."""
    last_at: float
    """When the last of it happened, as far as it is known."""


class _Collection:
    def __init__(
        self,
        store: ObjectStore,
        now: float,
        archive_after_s: float,
        forget_after_s: float,
        writer: JournalWriter | None,
        patience: Patience,
    ) -> None:
        self.store, self.now, self.writer = store, now, writer
        self.archive_after_s, self.forget_after_s = archive_after_s, forget_after_s
        self.patience = patience
        self.report = GarbageReport()
        self.shelf = Shelf(store)
        self.journals: dict[str, list[str]] = {}
        self.pins: dict[str, list[str]] = {}
        self._victims: dict[str, list[str]] | None = None

    def run(self) -> GarbageReport:
        if self.writer is not None:
            for journal_id in list_open(self.store):
                self._guarded(journal_id, self._adopt_if_over)
        self.shelf = Shelf(self.store)
        self.shelf.list_claims()
        self.pins = pins_by_fork(self.store)
        self.journals = list_journals(self.store)
        waiting = set(list_open(self.store))
        for journal_id, keys in self.journals.items():
            if len(keys) > 1 or journal_id in waiting:
                self._guarded(journal_id, self._archive)
        self._sweep()
        # An archive that others need to be read goes after them; journal ids sort by time, so one pass mostly does.
        for key in self.store.list(ARCHIVE):
            self._guarded(names_in(key)[0], self._forget)
        return self.report

    def _guarded(self, journal_id: str, step: Callable[[str], None]) -> None:
        try:
            step(journal_id)
        except CorruptCheckpointError as error:
            _log.warning("journal %s is left alone: %s", journal_id, error)

    # --- adopting -------------------------------------------------------------------------------------------------

    def _adopt_if_over(self, journal_id: str) -> None:
        """Take over the journal of a dead writer in which nothing is left to do."""
        assert self.writer is not None
        end = self.shelf.end(journal_id)
        if end.seal is not None or self.shelf.is_live(journal_id, self.now):
            return
        entry = read_open(self.store, journal_id)
        if not end.number and (entry is None or self.now - entry.opened_at < _UNCLAIMED_S):
            return  # just being opened
        book = self.shelf.book(journal_id)
        for workflow_id, indices in book.by_workflow.items():
            if submission_of(records_at(book.contents, indices)) is None:
                continue
            own = trace(self.shelf, workflow_id, self.now)
            if own is None:
                return  # its claim may be on its way
            if own.deleted or journal_id not in own.chain:
                continue
            past = history(self.shelf, own)
            if past.given_up is None and not has_finished(self.store, own, past):
                return
        adopt(self.store, self.writer, journal_id, lambda _: False, self.now)

    # --- archiving ------------------------------------------------------------------------------------------------

    def _archive(self, journal_id: str) -> None:
        """Replace the segments of a journal by its archive, if everything in it is finished and old."""
        end = self.shelf.end(journal_id)
        if end.seal is None:
            return
        finding = self._examine(journal_id)
        if finding is None or finding.left:
            return
        self.store.delete(open_key(journal_id))
        segments = [key for key in self.journals[journal_id] if sequence_of(key) < end.number]
        if not segments or self.now - finding.last_at < self.archive_after_s:
            return
        if not finding.contents.archived:
            kept = condense(finding.contents, finding.ended)
            # Another collector may have been faster: its archive says the same, for nothing can be added any more.
            create_exactly(self.store, archive_key(journal_id), encode_archive(kept), self.patience)
            self.report.journals_archived += 1
        for key in segments:
            self.store.delete(key)
            self.report.segments += 1
        self.shelf.forget(journal_id)

    def _examine(self, journal_id: str) -> _Finding | None:
        """Say what is left in a sealed journal; None if nobody has recorded how much of it counts."""
        length = self._length(journal_id)
        if length is None:
            return None
        book = self.shelf.book(journal_id)
        contents = book.contents if book.contents.archived else book.contents.first(length)
        ended: set[str] = set()
        left = False
        last_at = max((_time_of(record) for record in contents.records), default=0.0)
        submitted = {r.workflow_id: r for r in contents.records if isinstance(r, rec.Submission)}
        for workflow_id, submission in submitted.items():
            own = trace(self.shelf, workflow_id, self.now)
            if own is None:
                left = left or self.now - submission.created_at < _UNCLAIMED_S
                continue
            if own.deleted or journal_id not in own.chain:
                continue
            past = history(self.shelf, own)
            if past.journal_id != journal_id or isinstance(past.given_up, rec.Deleted):
                continue
            if past.settled and has_finished(self.store, own, past):
                ended.add(workflow_id)
            else:
                left = True
        return _Finding(contents=contents, ended=frozenset(ended), left=left, last_at=last_at)

    def _length(self, journal_id: str) -> int | None:
        """Return how many batches of a sealed journal count; None if nobody has recorded it."""
        chain, _, circular = follow(self.shelf, journal_id)
        if circular:
            return None
        recorded: dict[str, int] = {}
        for at in range(len(chain) - 1, 0, -1):
            book = self.shelf.book(chain[at])
            recorded.update(lengths_in(book, recorded.get(chain[at])))
        if len(chain) == 1:
            return self.shelf.book(journal_id).contents.batches
        return recorded.get(journal_id)

    # --- blobs ----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Remove blobs that nothing names any more and nobody can come to name."""
        by_workflow: dict[str, list[str]] = {}
        for key in self.store.list(BLOBS):
            by_workflow.setdefault(names_in(key)[0], []).append(key)
        for workflow_id, keys in by_workflow.items():
            doomed = self._unnamed(workflow_id, keys)
            # Looked for after the segments are gone, see above.
            if doomed and not is_pinned(self.store, workflow_id):
                for key in doomed:
                    self.store.delete(key)
                self.report.blobs += len(doomed)

    def _unnamed(self, workflow_id: str, keys: list[str]) -> list[str]:
        own = trace(self.shelf, workflow_id, self.now)
        past = None if own is None or own.deleted else history(self.shelf, own)
        if past is None or isinstance(past.given_up, rec.Deleted) or not past.records:
            # A claim may be on its way to a submission that names them. To one in an archive it would lead nowhere.
            return [key for key in keys if self._is_archived(_journal_in(key))]
        if not past.settled:
            return []
        # A writer that can still write may be about to name a blob; one that wrote the history has named its own.
        suspects = [
            key
            for key in keys
            if self._is_archived(_journal_in(key))
            or (_journal_in(key) != past.journal_id and self._is_closed(_journal_in(key)))
        ]
        if not suspects:
            return []
        standing = look_up(self.store, workflow_id, self.now)
        if standing is None or not standing.history.records or not standing.history.settled:
            return []
        named = blobs_named(standing.history.records)
        return [key for key in suspects if key not in named]

    def _is_closed(self, journal_id: str | None) -> bool:
        """Whether nothing a journal may yet say counts."""
        if journal_id is None or self.shelf.end(journal_id).seal is None:
            return False
        return self._length(journal_id) is not None

    def _is_archived(self, journal_id: str | None) -> bool:
        if journal_id is None or self.shelf.end(journal_id).seal is None:
            return False
        return self.shelf.book(journal_id).contents.archived

    # --- forgetting -----------------------------------------------------------------------------------------------

    def _forget(self, journal_id: str) -> None:
        """Remove an archive with all that its workflows left, if everything in it is old enough."""
        finding = self._examine(journal_id)
        if finding is None or finding.left or self.now - finding.last_at < self.forget_after_s:
            return
        if not finding.contents.archived or any(self._speaks(earlier) for earlier in self._before(journal_id)):
            # How much counts of the journals before is said in this one.
            return
        if any(is_pinned(self.store, workflow_id) for workflow_id in finding.ended):
            return
        deleted = {r.workflow_id for r in finding.contents.records if isinstance(r, rec.Deleted)}
        waiting = False
        for workflow_id in sorted(finding.ended | deleted):
            waiting = not self._forget_workflow(workflow_id, journal_id) or waiting
        if waiting:
            return
        self.store.delete(archive_key(journal_id))
        self.shelf.forget(journal_id)
        self.report.journals_forgotten += 1

    def _before(self, journal_id: str) -> list[str]:
        """Return the journals whose heir this one is."""
        if self._victims is None:
            self._victims = {}
            for earlier in self.journals:
                seal = self.shelf.end(earlier).seal
                if seal is not None and seal.heir is not None:
                    self._victims.setdefault(seal.heir, []).append(earlier)
        return self._victims.get(journal_id, [])

    def _speaks(self, journal_id: str) -> bool:
        """Whether anything is left of a journal but its seal."""
        contents = self.shelf.book(journal_id).contents
        return not contents.archived or bool(contents.records)

    def _forget_workflow(self, workflow_id: str, journal_id: str) -> bool:
        """Remove what a workflow left. Return False if that must wait."""
        own = trace(self.shelf, workflow_id, self.now)
        if own is None:
            return True
        if highest_claim(self.store, workflow_id) != own.claim:
            return False  # the id was used again meanwhile: the next collection sees what became of it
        past = history(self.shelf, own)
        if own.deleted:
            assert own.claim is not None
            assert own.claim.deleted_at is not None
            if self.now - own.claim.deleted_at < self.forget_after_s:
                return False
        elif past.journal_id != journal_id:
            return True  # the id has been used again since, or it went elsewhere
        if own.claim is not None and self._would_come_back(workflow_id):
            return False
        for blob in blobs_named(past.records):
            self.store.delete(blob)
            self.report.blobs += 1
        for key in self.store.list(inbox_of(workflow_id)):
            self.store.delete(key)
            self.report.messages += 1
        unpin(self.store, self.pins.get(workflow_id, ()))
        # Ascending: while the highest is there, it counts, and leads to what has ended. A higher one that has come
        # meanwhile is another workflow's.
        for key in self.store.list(claims_of(workflow_id)):
            if epoch_of(key) <= own.epoch:
                self.store.delete(key)
                self.report.claims += 1
        self.report.workflows_forgotten += 1
        return True

    def _would_come_back(self, workflow_id: str) -> bool:
        """Whether an id the library made up leads, without its claims, to a journal that still knows it."""
        start = journal_of(workflow_id)
        if start is None or not self.shelf.end(start).number:
            return False
        chain, retired, circular = follow(self.shelf, start)
        own = Ownership(
            workflow_id=workflow_id, claim=None, chain=chain, retired=retired, circular=circular, live=False
        )
        past = history(self.shelf, own)
        return bool(past.records)


def _time_of(record: rec.Record) -> float:
    if isinstance(record, rec.Opened):
        return record.opened_at
    if isinstance(record, rec.Retired | rec.End | rec.Deleted):
        return record.at
    return 0.0


def _journal_in(blob: str) -> str | None:
    return journal_of(blob.rsplit("/", 1)[1])
