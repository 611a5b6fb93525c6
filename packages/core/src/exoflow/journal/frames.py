"""How records become the bytes of a segment, and what may be believed of bytes that were found.

A segment is a header and batches. One flush is one batch: one length, one sequence number, one checksum, so it is
there as a whole or not at all. A flush starts only after the one before it returned, therefore a bad batch at the end
is *torn*, the trace of a crash, and is cut; a bad batch with a good one after it is damage. This module looks at
bytes only; keys, and what follows in the next segment, are `exoflow.journal.reader`.

Header of a segment, 16 bytes, the same in every version: magic (8), version (2), kind (2), CRC-32 of these (4).
Batch, all numbers little endian: magic (3), version (1), flags (1), zeros (3), sequence (8), bytes that follow the
head (8), records (4), CRC-32 (4); then the length of each record (4 bytes each), then the records.

The CRC-32 of a batch starts from that of its journal's id. So bytes of another journal, which a payload may well hold,
are never taken for a batch of this one.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum

import attrs

from exoflow.errors import CorruptCheckpointError, UnsupportedFormatError
from exoflow.stores.contract import Buffer

__all__ = [
    "FORMAT",
    "HEADER_BYTES",
    "Batch",
    "Seal",
    "Segment",
    "SegmentKind",
    "decode_header",
    "decode_seal",
    "decode_segment",
    "encode_batch",
    "encode_header",
    "encode_seal",
    "seed_of",
]

FORMAT = 1

_SEGMENT_MAGIC = b"\x89exoflow"
_HEADER = struct.Struct("<8sHH")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size

_BATCH_MAGIC = b"\xf7Xb"
_HEAD = struct.Struct("<3sBB3xQQI")  # all but the checksum
_HEAD_BYTES = _HEAD.size + _CRC.size
_LENGTH = struct.Struct("<I")
_CONTINUES = 1


class SegmentKind(IntEnum):
    """What an object of a journal is."""

    DATA = 1
    """Grows by appending, so its end may be torn."""
    SEAL = 2
    ARCHIVE = 3
    OBJECT = 4
    """Created whole: there is no torn end, only damage."""


@attrs.frozen
class Batch:
    """One flush that was found whole."""

    sequence: int
    """Counts the batches of a journal from 1, across segments."""
    continues: bool
    """Whether it counts only together with the next one: a flush too large for one object."""
    records: list[memoryview]


@attrs.frozen
class Segment:
    """What a segment holds."""

    batches: list[Batch]
    valid_bytes: int
    """Up to here everything is whole."""
    torn: bool
    """Whether bad bytes follow, which were cut."""


@attrs.frozen
class Seal:
    """The end of a journal."""

    heir: str | None
    """The journal that has taken over; None if the writer retired."""
    length: int | None = None
    """Batches of a retired journal; of others the heir says it."""


def seed_of(journal_id: str) -> int:
    """Return what the checksums of a journal start from."""
    return zlib.crc32(journal_id.encode())


def encode_header(kind: SegmentKind = SegmentKind.DATA) -> bytes:
    """Return the first bytes of a segment."""
    head = _HEADER.pack(_SEGMENT_MAGIC, FORMAT, kind)
    return head + _CRC.pack(zlib.crc32(head))


def decode_header(key: str, data: Buffer) -> SegmentKind | None:
    """Return what the segment that starts with *data* is; None if it does not start as one.

    Raises:
        UnsupportedFormatError: A newer version made it. Its checksum is good, so this is no torn write.
    """
    if len(data) < HEADER_BYTES:
        return None
    magic, version, kind = _HEADER.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    if magic != _SEGMENT_MAGIC or crc != zlib.crc32(memoryview(data)[: _HEADER.size]):
        return None
    if version > FORMAT:
        raise UnsupportedFormatError(f"the journal segment {key}", version, FORMAT)
    return SegmentKind(kind) if kind in SegmentKind._value2member_map_ else None


def encode_batch(sequence: int, records: Sequence[bytes | memoryview], seed: int, *, continues: bool = False) -> bytes:
    """Return *records* as one batch.

    Args:
        sequence: Its number in the journal.
        records: At least none; each below 4 GiB.
        seed: Of the journal, see `seed_of`.
        continues: Whether it counts only together with the next batch.
    """
    count = len(records)
    lengths = _LENGTH.pack(len(records[0])) if count == 1 else struct.pack(f"<{count}I", *map(len, records))
    body = lengths + (records[0] if count == 1 else b"".join(records))
    head = _HEAD.pack(_BATCH_MAGIC, FORMAT, _CONTINUES if continues else 0, sequence, len(body), count)
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head, seed))) + body


def decode_segment(key: str, data: Buffer, seed: int, first: int, *, sparse: bool = False) -> Segment:
    """Return the batches of a segment or an archive, as far as they can be believed.

    Args:
        key: For messages.
        data: The whole segment with its header.
        seed: Of the journal, see `seed_of`.
        first: The sequence number its first batch has.
        sparse: Numbers may be left out (an archive), as long as they ascend.

    Raises:
        CorruptCheckpointError: A bad header or batch with a good batch after it.
        UnsupportedFormatError: A segment or batch of a newer version.
    """
    view = memoryview(data)
    batches: list[Batch] = []
    offset, expected = HEADER_BYTES, first
    kind = decode_header(key, data)
    if kind is None:
        # Header and first batch are one write. No batch may follow a torn one, not even a seal's, which has number 0.
        _refuse_damage(key, view, 0, seed, -1, None)
        return Segment(batches, 0, torn=len(view) > 0)
    while offset < len(view):
        found = _batch_at(view, offset, seed)
        # A good batch with another number is as bad as none: one before it is missing.
        if found is None or (found[0].sequence != expected and not (sparse and found[0].sequence > expected)):
            _refuse_damage(key, view, offset, seed, expected, found)
            if kind is not SegmentKind.DATA:
                raise CorruptCheckpointError(key, f"batch {expected} at byte {offset} is damaged")
            return Segment(batches, offset, torn=True)
        batch, offset = found
        batches.append(batch)
        expected = batch.sequence + 1
    return Segment(batches, min(offset, len(view)), torn=False)


def encode_seal(seal: Seal, journal_id: str) -> bytes:
    """Return the bytes of a seal: the same for the same heir, so that a retry is recognised."""
    text = json.dumps({"heir": seal.heir, "length": seal.length}, separators=(",", ":"), sort_keys=True).encode()
    return encode_header(SegmentKind.SEAL) + encode_batch(0, (text,), seed_of(journal_id))


def decode_seal(key: str, data: Buffer, journal_id: str) -> Seal | None:
    """Return the seal that an object of a journal is; None if it is a data segment, or the beginning of one.

    Raises:
        CorruptCheckpointError: A seal whose bytes are wrong.
        UnsupportedFormatError: A newer version made it.
    """
    if decode_header(key, data) is not SegmentKind.SEAL:
        return None
    found = _batch_at(memoryview(data), HEADER_BYTES, seed_of(journal_id))
    if found is None or len(found[0].records) != 1:
        raise CorruptCheckpointError(key, "this seal is damaged")
    fields = json.loads(bytes(found[0].records[0]))
    return Seal(fields["heir"], fields["length"])


def _batch_at(view: memoryview, offset: int, seed: int) -> tuple[Batch, int] | None:
    """Return the good batch at *offset* and where it ends."""
    start = offset + _HEAD_BYTES
    if start > len(view):
        return None
    magic, version, flags, sequence, length, count = _HEAD.unpack_from(view, offset)
    if magic != _BATCH_MAGIC:
        return None
    end = start + length
    if end > len(view) or 4 * count > length:
        return None
    (crc,) = _CRC.unpack_from(view, offset + _HEAD.size)
    if crc != zlib.crc32(view[start:end], zlib.crc32(view[offset : offset + _HEAD.size], seed)):
        return None
    if version > FORMAT:  # every version begins a batch like this, and with a good checksum it is what it says
        raise UnsupportedFormatError("a journal batch", version, FORMAT)
    return Batch(sequence, bool(flags & _CONTINUES), list(_split(view, start, end, count))), end


def _split(view: memoryview, start: int, end: int, count: int) -> Iterator[memoryview]:
    at = start + 4 * count
    for length in struct.unpack_from(f"<{count}I", view, start):
        yield view[at : at + length]
        at += length
    if at != end:  # the checksum was good, so whoever wrote this was wrong
        raise CorruptCheckpointError("journal batch", f"its records end at byte {at} instead of {end}")


def _refuse_damage(
    key: str, view: memoryview, offset: int, seed: int, expected: int, found: tuple[Batch, int] | None
) -> None:
    """Raise if a good batch follows the bad one: a torn write has nothing after it."""
    if found is not None:
        raise CorruptCheckpointError(key, f"batch {found[0].sequence} where {expected} was expected, at byte {offset}")
    data = view.obj if isinstance(view.obj, bytes | bytearray) and len(view.obj) == len(view) else bytes(view)
    at = data.find(_BATCH_MAGIC, offset + 1)
    while at >= 0:
        try:
            later = _batch_at(view, at, seed)
        except UnsupportedFormatError:
            later = None  # bytes within a payload may look like anything; only a good checksum speaks
        if later is not None and later[0].sequence > expected:
            what = f"batch {expected}" if expected >= 0 else "the header"
            raise CorruptCheckpointError(
                key, f"{what} at byte {offset} is damaged, and batch {later[0].sequence} after it is good"
            )
        at = data.find(_BATCH_MAGIC, at + 1)
