"""Where everything lies in a store: every key name, and the way back from a key to the names in it.

Names that people choose (workflow ids, events, messages) may hold any characters; the alphabet of keys is small. They
are escaped reversibly, so that no two names share a key and none can reach outside its folder.
"""

import re
import secrets
from collections.abc import Callable
from functools import lru_cache

from exoflow.errors import UsageError

__all__ = [
    "ARCHIVE",
    "BLOBS",
    "CLAIMS",
    "INBOX",
    "JOURNALS",
    "OPEN",
    "PINS",
    "PROBES",
    "STORE",
    "archive_key",
    "blob_key",
    "blobs_of",
    "claim_key",
    "claims_of",
    "epoch_of",
    "escape",
    "inbox_of",
    "journal_of",
    "message_key",
    "names_in",
    "new_journal_id",
    "open_key",
    "pin_key",
    "pins_of",
    "segment_key",
    "segments_of",
    "sequence_of",
    "unescape",
]

STORE = "store.json"
CLAIMS = "claims/"
OPEN = "open/"
JOURNALS = "journals/"
INBOX = "inbox/"
BLOBS = "blobs/"
ARCHIVE = "archive/"
PINS = "pins/"
PROBES = "probes/"

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: ascending, and none looks like another
_TIME_DIGITS = 9  # milliseconds until the year 3084
_RANDOM_DIGITS = 6
_JOURNAL_ID = re.compile(rf"j[{_DIGITS}]{{{_TIME_DIGITS + _RANDOM_DIGITS}}}\Z")

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")
_LONGEST_NAME = 250  # of an escaped name: a part of a key may have 255 characters


def new_journal_id(now: float, random_bits: Callable[[int], int] = secrets.randbits) -> str:
    """Return an id that sorts by time and that nobody else will make.

    Args:
        now: Seconds since the epoch, UTC.
        random_bits: Source of randomness: ``random.Random(seed).getrandbits`` makes the ids reproducible.
    """
    return "j" + _digits(int(now * 1000), _TIME_DIGITS) + _digits(random_bits(5 * _RANDOM_DIGITS), _RANDOM_DIGITS)


def journal_of(workflow_id_or_attempt: str) -> str | None:
    """Return the journal that an attempt, or a workflow id the library made up, begins with; None for other names."""
    head = workflow_id_or_attempt[: 1 + _TIME_DIGITS + _RANDOM_DIGITS]
    rest = workflow_id_or_attempt[len(head) :]
    return head if rest[:1] in ("-", ".") and _JOURNAL_ID.match(head) else None


def escape(name: str) -> str:
    """Return *name* as one part of a key.

    Letters, digits, ``_``, ``-`` and inner dots stay; every other byte of its UTF-8 form becomes ``~`` and two
    hexadecimal digits, a leading dot too, so that ``..`` is a name like any other.

    Raises:
        UsageError: Empty, or too long once escaped.
    """
    if len(name) <= _LONGEST_NAME and _PLAIN.match(name):
        return name
    if not name:
        raise UsageError("a workflow id, an event or a message id was empty; expected at least one character")
    raw = name.encode("utf-8", "surrogatepass")
    # Per byte, not per character: the way back then needs no table.
    escaped = "".join(
        chr(byte) if _is_plain(byte) and not (at == 0 and byte == 0x2E) else f"~{byte:02X}"
        for at, byte in enumerate(raw)
    )
    if len(escaped) > _LONGEST_NAME:
        raise UsageError(
            f"the name {name[:40]!r}... takes {len(escaped)} characters in a key, where {_LONGEST_NAME} fit; shorten it"
        )
    return escaped


def unescape(part: str) -> str:
    """Return the name that `escape` made *part* of."""
    if "~" not in part:
        return part
    pieces = part.split("~")
    raw = pieces[0].encode()
    for piece in pieces[1:]:
        raw += bytes.fromhex(piece[:2]) + piece[2:].encode()
    return raw.decode("utf-8", "surrogatepass")


def claims_of(workflow_id: str) -> str:
    """Prefix of all claims of a workflow id."""
    return f"{CLAIMS}{escape(workflow_id)}/"


def claim_key(workflow_id: str, epoch: int) -> str:
    """The claim of that epoch."""
    return f"{CLAIMS}{escape(workflow_id)}/{epoch:08d}"


def epoch_of(claim: str) -> int:
    """Return the epoch in a claim's key."""
    return int(claim.rsplit("/", 1)[1])


def open_key(journal_id: str) -> str:
    """What says that a journal may need an heir; its writer holds a lock on it, or refreshes it."""
    return f"{OPEN}{journal_id}"


def segments_of(journal_id: str) -> str:
    """Prefix of a journal's segments and seal."""
    return f"{JOURNALS}{journal_id}/"


def segment_key(journal_id: str, sequence: int) -> str:
    """A segment, or the seal. They count from 1."""
    return f"{JOURNALS}{journal_id}/{sequence:08d}"


def sequence_of(segment: str) -> int:
    """Return the number in a segment's key."""
    return int(segment.rsplit("/", 1)[1])


def inbox_of(workflow_id: str) -> str:
    """Prefix of all messages to a workflow."""
    return f"{INBOX}{escape(workflow_id)}/"


def message_key(workflow_id: str, event: str, message_id: str) -> str:
    """A message to a workflow."""
    return f"{INBOX}{escape(workflow_id)}/{escape(event)}/{escape(message_id)}"


@lru_cache(maxsize=1024)  # asked for with every attempt
def blobs_of(workflow_id: str) -> str:
    """Prefix of all blobs of a workflow."""
    return f"{BLOBS}{escape(workflow_id)}/"


def blob_key(workflow_id: str, attempt: str, index: int = 0) -> str:
    """A payload of an attempt, too large for the journal."""
    return f"{blobs_of(workflow_id)}{attempt}-{index}"


def archive_key(journal_id: str) -> str:
    """What stays of a journal whose segments were collected."""
    return f"{ARCHIVE}{journal_id}"


def pins_of(workflow_id: str) -> str:
    """Prefix of the pins that keep a workflow's blobs."""
    return f"{PINS}{escape(workflow_id)}/"


def pin_key(workflow_id: str, fork_id: str) -> str:
    """The pin of one fork."""
    return f"{PINS}{escape(workflow_id)}/{escape(fork_id)}"


def names_in(key: str) -> tuple[str, ...]:
    """Return the parts of *key* after its folder, unescaped: workflow id, event and message id of a message, for example."""
    return tuple(unescape(part) for part in key.split("/")[1:])


def _digits(number: int, count: int) -> str:
    made = ""
    for _ in range(count):
        number, digit = divmod(number, 32)
        made = _DIGITS[digit] + made
    return made


def _is_plain(byte: int) -> bool:
    return byte < 0x80 and (chr(byte).isalnum() or byte in b"._-")
