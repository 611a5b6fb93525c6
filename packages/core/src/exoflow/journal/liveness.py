"""Which journals may need an heir, and whether their writers are alive.

Being wrong here costs a needless take-over, never a record: the fence is the seal. A kernel that knows who holds a
lock is asked; elsewhere writers refresh a text with the time, and one not refreshed for long counts as dead.
"""

import os
import socket

import attrs

from exoflow.errors import CorruptCheckpointError, ObjectNotFoundError
from exoflow.journal.checked_json import decode_checked, encode_checked
from exoflow.journal.layout import OPEN, open_key
from exoflow.stores.contract import Buffer, ObjectStore, SupportsLocks

__all__ = ["HEARTBEAT_PATIENCE_S", "OpenJournal", "encode_open", "is_live", "list_open", "read_open"]

HEARTBEAT_PATIENCE_S = 30.0
"""A writer that was silent for so long counts as dead."""


@attrs.frozen(kw_only=True)
class OpenJournal:
    """What ``open/<journal id>`` says of a journal's writer."""

    journal_id: str
    host: str
    pid: int
    opened_at: float
    beat: float
    """When it was last known to live; of use only where there are no locks."""

    @property
    def writer_is_gone(self) -> bool:
        """Whether the writer's process was of this machine, and is no more. What it started may live on."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's
            return False
        return False

    @property
    def writer(self) -> str:
        """The writer, for people."""
        return f"process {self.pid} on {self.host} (journal {self.journal_id})"


def encode_open(entry: OpenJournal) -> bytes:
    """Return the text of an ``open/`` object."""
    fields = {"host": entry.host, "pid": entry.pid, "opened_at": entry.opened_at, "beat": entry.beat}
    return encode_checked(fields)


def read_open(store: ObjectStore, journal_id: str) -> OpenJournal | None:
    """Return what is known of a journal's writer; None if the journal needs no heir, or never existed."""
    key = open_key(journal_id)
    try:
        data = store.read(key)
    except ObjectNotFoundError:
        return None
    return _decode(key, journal_id, data)


def list_open(store: ObjectStore) -> list[str]:
    """Return the ids of all journals that may need an heir, oldest first: what a start costs."""
    return [key.removeprefix(OPEN) for key in store.list(OPEN)]


def is_live(store: ObjectStore, journal_id: str, now: float, *, patience_s: float = HEARTBEAT_PATIENCE_S) -> bool:
    """Whether a journal's writer seems to be alive.

    Args:
        store: Where the journal is.
        journal_id: Which.
        now: Seconds since the epoch, UTC; not looked at where there are locks.
        patience_s: How long a writer without a lock may be silent.
    """
    if isinstance(store, SupportsLocks):
        return store.is_locked(open_key(journal_id))
    entry = read_open(store, journal_id)
    return entry is not None and now - entry.beat < patience_s


def _decode(key: str, journal_id: str, data: Buffer) -> OpenJournal:
    fields = decode_checked(key, data, "the entry of an open journal")
    try:
        return OpenJournal(journal_id=journal_id, **fields)
    except TypeError as error:
        raise CorruptCheckpointError(key, f"not the entry of an open journal ({error})") from error
