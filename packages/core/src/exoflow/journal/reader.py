"""Reading a journal back: what may be believed of it, in order.

Segments are read from the first to the seal, or to where the writer has got. Of a journal whose segments were
collected the archive is read instead: the same records, less those that nobody needs any more.
"""

import contextlib
import gc
import json
from collections.abc import Iterator

import attrs

from exoflow.errors import CorruptCheckpointError, ObjectNotFoundError
from exoflow.journal import records as rec
from exoflow.journal.frames import (
    Batch,
    Seal,
    SegmentKind,
    decode_header,
    decode_seal,
    decode_segment,
    encode_batch,
    encode_header,
    seed_of,
)
from exoflow.journal.layout import archive_key, segment_key, segments_of, sequence_of
from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["JournalContents", "JournalEnd", "Selection", "encode_archive", "find_end", "read_journal"]

# The layout of an encoded record: kind, length of the JSON part, the JSON part, which begins with the workflow's id.
_PREFIX_AT = 5
_FIRST_WORKFLOW_KIND = rec.Submission.kind

_SEAL_BYTES = 4096  # more than any seal has
_MANY = 1000
_LISTINGS = 5  # of a journal that grows all the while

_COLLECTED_MEANWHILE = 5  # it happens twice to a journal: it is archived, and forgotten


@attrs.frozen(kw_only=True)
class JournalContents:
    """What a journal says."""

    journal_id: str
    records: list[rec.Record]
    positions: list[int]
    """Of each record, the number of its batch, from 1."""
    raw: list[memoryview] = attrs.field(factory=list)
    """Each record encoded, if that was asked for."""
    batches: int
    """How many there are."""
    seal: Seal | None
    segments: int
    """The number of the last object, seal included; 0 if there is no such journal."""
    archived: bool = False
    """Whether only the archive is left."""

    @property
    def sealed(self) -> bool:
        """Whether nothing can be added any more."""
        return self.seal is not None

    @property
    def forgotten(self) -> bool:
        """Whether nothing but the seal is left."""
        return self.archived and not self.segments

    @property
    def heir(self) -> str | None:
        """The journal that has taken over, if any."""
        return None if self.seal is None else self.seal.heir

    def check_length(self, batches: int) -> None:
        """Refuse a journal of which an heir has adopted more than there is.

        Raises:
            CorruptCheckpointError: There are fewer than *batches*.
        """
        if batches > self.batches and not self.forgotten:
            raise CorruptCheckpointError(
                segments_of(self.journal_id), f"{self.batches} batches where {batches} were adopted"
            )

    def first(self, batches: int) -> "JournalContents":
        """Return only what the first *batches* batches say: those an heir has adopted.

        Raises:
            CorruptCheckpointError: There are fewer.
        """
        self.check_length(batches)
        if batches >= self.batches:
            return self
        # Positions ascend, so the last records are those to leave out.
        count = len(self.positions)
        while count and self.positions[count - 1] > batches:
            count -= 1
        return attrs.evolve(
            self,
            records=self.records[:count],
            positions=self.positions[:count],
            raw=self.raw[:count],
            batches=batches,
        )


@attrs.frozen
class JournalEnd:
    """The last object of a journal."""

    number: int
    """0 if there is no such journal."""
    seal: Seal | None


def find_end(store: ObjectStore, journal_id: str) -> JournalEnd:
    """Return the last object of a journal: its seal, if it has one.

    Raises:
        CorruptCheckpointError: The seal is damaged.
        UnavailableError: The store does not answer.
    """
    while True:
        key = None
        for key in store.list(segments_of(journal_id)):  # noqa: B007
            pass
        if key is None:
            return JournalEnd(0, None)
        try:
            data = store.read(key, end=_SEAL_BYTES)
        except ObjectNotFoundError:
            continue  # sealed, adopted and collected in between: its seal, which is never removed, lies behind it now
        return JournalEnd(sequence_of(key), decode_seal(key, data, journal_id))


@attrs.frozen(kw_only=True)
class Selection:
    """Which records to decode; the others are passed over, at a tenth of the cost."""

    kinds: frozenset[int] | None = None
    """Of these classes (their `kind`); None for all."""
    workflow_id: str | None = None
    """Of this workflow, beside those that belong to the journal itself; None for all."""
    raw: bool = False
    """Whether to keep the encoded form too, for repeating records elsewhere."""


_EVERYTHING = Selection()


def read_journal(
    store: ObjectStore, journal_id: str, *, limit_batches: int | None = None, select: Selection = _EVERYTHING
) -> JournalContents:
    """Read a journal.

    What is read of an unsealed journal was written before any seal: an heir made later will read it too.

    Args:
        store: Where.
        journal_id: Which.
        limit_batches: How many batches count, if an heir has said so; what lies behind them is not looked at.
        select: Which records to return.

    Returns:
        The contents; empty, with no segments, if there is no such journal.

    Raises:
        CorruptCheckpointError: Damaged, or shorter than *limit_batches*.
        UnsupportedFormatError: A newer version wrote it.
        UnavailableError: The store does not answer.
    """
    for _ in range(_COLLECTED_MEANWHILE):
        found = _Reading(store, journal_id, select)
        try:
            contents = found.contents() if found.read() else _read_archive(found)
        except ObjectNotFoundError:
            continue  # collected while it was being read: the archive was made before
        return contents if limit_batches is None else contents.first(limit_batches)
    raise CorruptCheckpointError(segments_of(journal_id), "the store lists segments that it cannot read")


class _Reading:
    """One walk along the segments of a journal."""

    def __init__(self, store: ObjectStore, journal_id: str, select: Selection) -> None:
        self.store, self.journal_id, self.select = store, journal_id, select
        self.sink = _Sink(select)
        self.seal: Seal | None = None
        self.number = 0
        self.left = 0
        self.seed = seed_of(journal_id)

    def read(self) -> bool:
        """Read everything; return False if segments are missing, as after a collection."""
        last = self._list()
        if last is None:
            return False
        torn: str | None = None
        while self.number < last and self.seal is None:
            key = segment_key(self.journal_id, self.number + 1)
            data = self.store.read(key)
            if self.number + 1 == last and self._exists(last + 1):
                # It may have grown between our read and this look; once another follows it, it is final.
                last += 1
                data = self.store.read(key)
            self.number += 1
            self.seal = decode_seal(key, data, self.journal_id)
            if self.seal is not None:
                break
            if torn is not None:
                # The next segment is begun only after a flush that succeeded.
                raise CorruptCheckpointError(torn, "its end is damaged, and another segment follows it")
            segment = decode_segment(key, data, self.seed, self.sink.seen + 1)
            self.sink.take(segment.batches)
            torn = key if segment.torn else None
        return True

    def _list(self) -> int | None:
        """Return how many segments there are; None if it was collected, wholly or in part."""
        before: list[int] = []
        for _ in range(_LISTINGS):
            listed = [sequence_of(key) for key in self.store.list(segments_of(self.journal_id))]
            if listed == list(range(1, len(listed) + 1)):
                self.seal = None  # it is read in its turn
                return len(listed)
            # Nothing but its seal is needed of one that was collected, and that is the last.
            key = segment_key(self.journal_id, listed[-1])
            self.seal = decode_seal(key, self.store.read(key), self.journal_id)
            self.left = len(listed) - 1
            if listed == before or (self.seal is not None and not self.left):
                return None
            # A listing is no snapshot: of two segments made meanwhile it may show the later alone. The next shows both.
            before = listed
        return None

    def contents(self) -> JournalContents:
        if self.seal is not None and self.seal.length is not None and self.seal.length != self.sink.batches:
            raise CorruptCheckpointError(
                segments_of(self.journal_id), f"{self.sink.batches} batches where its writer left {self.seal.length}"
            )
        return JournalContents(
            journal_id=self.journal_id,
            records=self.sink.records,
            positions=self.sink.positions,
            raw=self.sink.raw,
            batches=self.sink.batches,
            seal=self.seal,
            segments=self.number,
        )

    def _exists(self, number: int) -> bool:
        try:
            self.store.read(segment_key(self.journal_id, number), start=0, end=0)
        except ObjectNotFoundError:
            return False
        return True


class _Sink:
    """Collects the records of batches, those of a flush in several batches only when it is whole."""

    def __init__(self, select: Selection) -> None:
        self.records: list[rec.Record] = []
        self.positions: list[int] = []
        self.raw: list[memoryview] = []
        self.batches = 0
        self.seen = 0
        self._kinds = select.kinds
        self._keep_raw = select.raw
        self._prefix = None if select.workflow_id is None else json.dumps([select.workflow_id])[:-1].encode()
        self._pending: list[Batch] = []

    def take(self, batches: list[Batch]) -> None:
        with _uncollected(sum(len(batch.records) for batch in batches)):
            self._take(batches)

    def _take(self, batches: list[Batch]) -> None:
        for batch in batches:
            self.seen = batch.sequence
            if batch.continues:
                self._pending.append(batch)
                continue
            if self._pending:
                for earlier in self._pending:
                    self._decode(earlier)
                self._pending.clear()
            self._decode(batch)
            self.batches = batch.sequence

    def _decode(self, batch: Batch) -> None:
        decode, kinds, prefix = rec.decode, self._kinds, self._prefix
        raw: list[memoryview] = batch.records
        if kinds is not None:
            raw = [record for record in raw if record[0] in kinds]
        if prefix is not None:
            raw = [r for r in raw if r[0] < _FIRST_WORKFLOW_KIND or r[_PREFIX_AT : _PREFIX_AT + len(prefix)] == prefix]
        self.records += map(decode, raw)
        self.positions += [batch.sequence] * len(raw)
        if self._keep_raw:
            self.raw += raw


@contextlib.contextmanager
def _uncollected(count: int) -> Iterator[None]:
    """Keep the garbage collector from walking a hundred thousand new objects again and again.

    Measured, 100,000 records: 1.7 s, without the collector 1.1 s. None of them is part of a cycle.
    """
    if count < _MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def encode_archive(contents: JournalContents) -> bytes:
    """Return what `read_journal` will understand once the segments are gone: the records of *contents*."""
    seed = seed_of(contents.journal_id)
    text = json.dumps({"batches": contents.batches, "segments": contents.segments}).encode()
    made = [encode_header(SegmentKind.ARCHIVE), encode_batch(0, (text,), seed)]
    start, count = 0, len(contents.records)
    while start < count:
        sequence = contents.positions[start]
        end = start
        while end < count and contents.positions[end] == sequence:
            end += 1
        made.append(encode_batch(sequence, [rec.encode(record) for record in contents.records[start:end]], seed))
        start = end
    return b"".join(made)


def _read_archive(found: _Reading) -> JournalContents:
    """Return what the archive says of a journal of which only the seal is left.

    Raises:
        CorruptCheckpointError: Segments are missing and there is no archive; or it is damaged.
    """
    journal_id, seal = found.journal_id, found.seal
    key = archive_key(journal_id)
    try:
        data: Buffer = found.store.read(key)
    except ObjectNotFoundError:
        if seal is None or found.left:
            raise CorruptCheckpointError(segments_of(journal_id), "segments are missing") from None
        # Forgotten: the seal alone stays for ever, so that no writer of old comes back to life.
        return JournalContents(
            journal_id=journal_id, records=[], positions=[], batches=0, seal=seal, segments=0, archived=True
        )
    if seal is None or decode_header(key, data) is not SegmentKind.ARCHIVE:
        raise CorruptCheckpointError(key, "this archive is damaged, or of a journal without a seal")
    segment = decode_segment(key, data, seed_of(journal_id), 0, sparse=True)
    if segment.torn or not segment.batches:
        raise CorruptCheckpointError(key, "this archive is damaged")
    about = json.loads(bytes(segment.batches[0].records[0]))
    sink = _Sink(found.select)
    sink.take(segment.batches[1:])
    return JournalContents(
        journal_id=journal_id,
        records=sink.records,
        positions=sink.positions,
        raw=sink.raw,
        batches=about["batches"],
        seal=seal,
        segments=about["segments"],
        archived=True,
    )
