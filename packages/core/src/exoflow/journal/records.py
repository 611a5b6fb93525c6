"""What a journal says: one small class for each thing that can become durable.

A record is JSON (so that it can be read by anything, and executes nothing) with the payload's bytes behind it.
The order of records is the order of events; a record names attempts, never positions.

Layout of one record: kind (1 byte), length of the JSON part (4 bytes, little endian), the JSON array of the class'
fields, then the payload's inline bytes up to the end. Batches around records are `exoflow.journal.frames`.
"""

import json
import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

import attrs

from exoflow.errors import CorruptCheckpointError, UnsupportedFormatError
from exoflow.values import Payload

__all__ = [
    "RECORD_FORMAT",
    "Adopted",
    "Attention",
    "Deleted",
    "End",
    "FellSilent",
    "Intent",
    "JournalRecord",
    "Opened",
    "Outcome",
    "Record",
    "Released",
    "Retired",
    "Settlement",
    "Submission",
    "TimerArmed",
    "UndoRecord",
    "WorkflowRecord",
    "decode",
    "encode",
]

RECORD_FORMAT = 1


@attrs.frozen
class Opened:
    """First record of a journal: who writes it."""

    kind: ClassVar[int] = 1
    journal_id: str
    host: str
    pid: int
    opened_at: float


@attrs.frozen
class Adopted:
    """The writer has taken over another journal, of which the first *length* batches count."""

    kind: ClassVar[int] = 2
    journal_id: str
    length: int


@attrs.frozen
class Retired:
    """The writer closes this journal in good order; workflows in it that have not ended may be taken over."""

    kind: ClassVar[int] = 3
    at: float


@attrs.frozen
class Submission:
    """A workflow was accepted. The payload is its compiled DAG."""

    kind: ClassVar[int] = 16
    workflow_id: str
    generation: int
    digest: str
    name: str
    created_at: float
    metadata: dict[str, Any]
    fingerprints: dict[str, str]
    """Of each task's code, by qualified name: what uncommitted values were made by."""
    payload: Payload | None = None


@attrs.frozen
class Outcome:
    """What an attempt came to.

    `what` is ``value``, ``caught`` (the value is ``(None, exception)``), ``error`` (final), ``continuation`` (the payload
    is a DAG), ``message`` (of an event) or ``fired`` (a timer). Without a payload the value is not durable: a *trace*, which says only that this
    incarnation existed and what it read, or the completion of an effect whose value was not kept.
    """

    kind: ClassVar[int] = 17
    workflow_id: str
    task_id: str
    attempt: str
    incarnation: str
    """The attempt that first produced this value: a deterministic task run again keeps its incarnation."""
    reads: tuple[str, ...]
    """Incarnations it depends on."""
    what: str
    completed: bool
    """Whether the task's effect is over; a person who settles an attempt may know less."""
    fingerprint: str
    number: int
    at: float
    seconds: float
    message: str = ""
    """The key of the message this outcome took, so that a message feeds one node even if its deletion is lost."""
    payload: Payload | None = None


@attrs.frozen
class Intent:
    """A rollback or once task is about to start. The payload is what ``undo`` will be given."""

    kind: ClassVar[int] = 18
    workflow_id: str
    task_id: str
    attempt: str
    key: str
    reads: tuple[str, ...]
    payload: Payload | None = None


@attrs.frozen
class UndoRecord:
    """An attempt of a rollback task was undone."""

    kind: ClassVar[int] = 19
    workflow_id: str
    task_id: str
    attempt: str


@attrs.frozen
class Settlement:
    """What ``resolve``, or a person, said of a ``once`` attempt. If it happened, an `Outcome` says what came of it."""

    kind: ClassVar[int] = 20
    workflow_id: str
    task_id: str
    attempt: str
    happened: bool


@attrs.frozen
class TimerArmed:
    """A sleep or a waiting node has a deadline: seconds since the epoch, UTC."""

    kind: ClassVar[int] = 21
    workflow_id: str
    task_id: str
    deadline: float


@attrs.frozen
class End:
    """How a workflow ended: ``succeeded``, ``failed`` or ``cancelled``; the first one counts.

    The payload is the result or the error. ``rolled_back`` follows a failed or cancelled end once every undo is recorded.
    """

    kind: ClassVar[int] = 22
    workflow_id: str
    status: str
    task_id: str
    at: float
    reason: str = ""
    """Of a failure, in a line: for those who list workflows and must not unpickle anything for that."""
    payload: Payload | None = None


@attrs.frozen
class Attention:
    """The workflow stopped: a person must say what became of an effect."""

    kind: ClassVar[int] = 23
    workflow_id: str
    task_id: str
    attempt: str
    reason: str


@attrs.frozen
class Released:
    """The owner gives a workflow up; whoever claims it next may have it."""

    kind: ClassVar[int] = 24
    workflow_id: str


@attrs.frozen
class Deleted:
    """The owner deletes a workflow; a tombstone claim and the removal of its objects follow."""

    kind: ClassVar[int] = 25
    workflow_id: str
    at: float


@attrs.frozen
class FellSilent:
    """The writer of a journal that held the workflow was not heard any more, and nothing said that it was dead.

    So what it had begun may still run: nobody can know, but a receiver that refuses it.
    """

    kind: ClassVar[int] = 26
    workflow_id: str
    journal_id: str


JournalRecord: TypeAlias = Opened | Adopted | Retired
WorkflowRecord: TypeAlias = (
    Submission
    | Outcome
    | Intent
    | UndoRecord
    | Settlement
    | TimerArmed
    | End
    | Attention
    | Released
    | Deleted
    | FellSilent
)
Record: TypeAlias = JournalRecord | WorkflowRecord

_KINDS: dict[int, tuple[Any, Callable[[Any], tuple[Any, ...]], bool]] = {}
for _class in (
    Opened, Adopted, Retired, Submission, Outcome, Intent, UndoRecord, Settlement, TimerArmed, End, Attention, Released, Deleted,
    FellSilent,
):  # fmt: skip
    _names = tuple(field.name for field in attrs.fields(_class))
    _KINDS[_class.kind] = (_class, attrgetter(*(n for n in _names if n != "payload")), "payload" in _names)

_HEAD = struct.Struct("<BI")
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # no BOM, no leading blanks: half the time
_plain = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _make_dumps() -> Callable[[Any], str]:
    # `JSONEncoder.encode` sets the C encoder up anew for each call, which takes longer than the few short fields here.
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # an interpreter without it
        return _plain.encode
    chunks = make(None, _plain.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda value: "".join(chunks(value, 0))


_dumps = _make_dumps()


def encode(record: Record) -> bytes:
    """Return *record* as bytes."""
    kind = record.kind
    _, fields_of, has_payload = _KINDS[kind]
    fields = fields_of(record)
    if not has_payload:
        text = _dumps(fields if type(fields) is tuple else (fields,)).encode("ascii")
        return _HEAD.pack(kind, len(text)) + text
    payload: Payload | None = record.payload  # type: ignore[union-attr]
    if payload is None:
        text = _dumps((*fields, None)).encode("ascii")
        return _HEAD.pack(kind, len(text)) + text
    described = (payload.codec, payload.lengths, payload.blob, payload.checksum)
    text = _dumps((*fields, described)).encode("ascii")
    return _HEAD.pack(kind, len(text)) + text + (payload.data or b"")


def decode(data: memoryview) -> Record:
    """Return the record that *data*, whole, is.

    Raises:
        UnsupportedFormatError: A kind of record this version does not know.
        CorruptCheckpointError: Not a record.
    """
    try:
        kind, length = _HEAD.unpack_from(data)
        found = _KINDS.get(kind)
        if found is None:
            raise UnsupportedFormatError("a journal record", kind, max(_KINDS))
        made, _, has_payload = found
        fields = _scan(str(data[_HEAD.size : _HEAD.size + length], "utf-8"), 0)[0]
        if has_payload:
            described = fields.pop()
            if described is not None:
                codec, lengths, blob, checksum = described
                inline = None if blob is not None else bytes(data[_HEAD.size + length :])
                fields.append(Payload(codec, tuple(lengths), inline, blob, checksum))
            else:
                fields.append(None)
        record: Record = made(*(tuple(f) if type(f) is list else f for f in fields))
        return record
    except (struct.error, ValueError, TypeError, IndexError, StopIteration) as error:
        if isinstance(error, UnsupportedFormatError):
            raise
        raise CorruptCheckpointError("journal record", f"not readable ({error})") from error
