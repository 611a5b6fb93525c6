"""The one writer of a journal.

When `JournalWriter.append` returns, the records are durable and nobody had taken the journal over: on a disk one
append and a look whether the next segment exists, elsewhere one object created under the next number. The first thing
that goes wrong is the last this writer does, because after a failed sync or a lost answer nobody can say what the end
of the journal holds. Its owner then stops, and whoever resumes its workflows goes on from what is there.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, runtime_checkable

import attrs

from exoflow.errors import FencedError, ObjectNotFoundError, UnavailableError, UsageError
from exoflow.failures.points import FailurePoint
from exoflow.journal import records
from exoflow.journal.creation import PATIENT, Lost, Patience, create_exactly
from exoflow.journal.frames import Seal, SegmentKind, decode_seal, encode_batch, encode_header, encode_seal, seed_of
from exoflow.journal.layout import open_key, segment_key
from exoflow.journal.liveness import OpenJournal, encode_open
from exoflow.stores.contract import Appender, Lock, ObjectStore, SharedLock, SupportsAppend, SupportsLocks

__all__ = ["SEGMENT_BYTES", "Fail", "JournalWriter", "SupportsPeek"]

_log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20
"""A segment that has grown beyond this is followed by another one."""

_OBJECT_BYTES = 15 << 20  # of one flush into one object; `ObjectStore.create` takes 16 MiB

_NEVER = 0.0  # a heartbeat so old that nobody waits for the next

Fail = Callable[[FailurePoint], None]


@runtime_checkable
class SupportsPeek(Protocol):
    """A store that says at the price of one system call whether a key exists: an ability beside `SupportsAppend`.

    Measured after an `fdatasync`, when nothing is in the processor's caches: 14 us where an empty `read` takes 31.
    """

    def peek(self, key: str) -> Callable[[], bool]:
        """Return a function that says whether *key* exists, each time by a fresh look.

        The function raises `UnavailableError` where that cannot be told.
        """
        ...


class JournalWriter:
    """Writes one journal, from its first batch to its seal. Not safe to share between threads.

    Made by `open`. A journal that another process wrote is never written on, only taken over.
    """

    def __init__(self, store: ObjectStore, entry: OpenJournal, *, segment_bytes: int, patience: Patience) -> None:
        self.store = store
        self.journal_id = entry.journal_id
        self.patience = patience
        self.fail: Fail | None = None
        """Called at each failure point of a flush, a seal and a claim; None costs nothing."""
        self.batches = 0
        """How many batches of this journal may be believed; what an heir that knows better than to ask records."""
        self.owed: set[str] = set()
        """Journals sealed in this one's name, or perhaps so, whose length it has not recorded yet."""
        self._entry = entry
        self._segment_bytes = segment_bytes
        self._seed = seed_of(self.journal_id)
        self._segment = 0  # the number of the last one made
        self._next_key = segment_key(self.journal_id, 1)
        self._size = 0
        self._end: Exception | None = None  # what every further append raises
        self._lock: Lock | None = None
        self._appender: Appender | None = None
        self._peek: Callable[[], bool] | None = None  # whether the next key exists
        self._append = self._append_to_log if isinstance(store, SupportsAppend) else self._create_objects

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        journal_id: str,
        host: str,
        pid: int,
        now: float,
        *,
        fail: Fail | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        patience: Patience = PATIENT,
    ) -> Self:
        """Begin a journal.

        Args:
            store: Where.
            journal_id: A new one, see `exoflow.journal.layout.new_journal_id`.
            host: This machine's name, for people.
            pid: This process, for people.
            now: Seconds since the epoch, UTC.
            fail: What to call at failure points.
            segment_bytes: After how many bytes to begin another segment, where the store appends.
            patience: How long to retry when the store does not answer.

        Returns:
            A writer whose journal's first record is durable.

        Raises:
            FencedError: Somebody sealed the journal at once; take another id.
            UsageError: The id is not new.
            UnavailableError: The store refused, or does not answer.
        """
        entry = OpenJournal(journal_id=journal_id, host=host, pid=pid, opened_at=now, beat=now)
        writer = cls(store, entry, segment_bytes=segment_bytes, patience=patience)
        key = open_key(journal_id)
        # Named before the first segment exists, and locked before: whoever starts up finds the journal, and never
        # finds one with records whose writer seems dead because it is not locked yet.
        if isinstance(create_exactly(store, key, encode_open(entry), patience), Lost):
            raise UsageError(f"{key} exists: a journal id is used once; take a new one")
        try:
            if isinstance(store, SupportsLocks):
                writer._lock = store.lock(key)
                if writer._lock is None:
                    raise UnavailableError(f"{key} was just made, and somebody else holds its lock; take a new id")
            writer.append([records.encode(records.Opened(journal_id, host, pid, now))])
        except BaseException:
            writer.abandon()
            raise
        writer.fail = fail  # a failure point is reached by flushes of work, not by being born
        return writer

    @property
    def lifeline(self) -> int | None:
        """A descriptor that says this writer's controller lives as long as anybody has it open; None if there is none.

        For processes that run attempts: should they outlive the controller, nobody takes its workflows over meanwhile.
        """
        return self._lock.fileno() if isinstance(self._lock, SharedLock) else None

    @property
    def dead(self) -> bool:
        """Whether nothing more can be appended."""
        return self._end is not None

    def append(self, batch: Sequence[bytes | memoryview]) -> None:
        """Make encoded records durable, together: one flush.

        When this returns they are durable, and the journal had no heir when they became so.

        Args:
            batch: Encoded by `exoflow.journal.records.encode`; read only during the call.

        Raises:
            FencedError: Another journal is the heir of this one.
            UnavailableError: Failed, or unknown, or an earlier flush was. Nothing of *batch* may be believed,
                although readers may find it.
        """
        if self._end is not None:
            raise self._end
        try:
            if self.fail is not None:
                self.fail(FailurePoint.BEFORE_FLUSH)
            self._append(batch)
            if self.fail is not None:
                self.fail(FailurePoint.AFTER_FLUSH)
        except BaseException as error:
            self._die(error)
            raise

    def check(self) -> None:
        """Look whether somebody has taken over.

        Raises:
            FencedError: So it is.
            UnavailableError: The store does not answer, or an earlier flush failed.
        """
        if self._end is not None:
            raise self._end
        try:
            self._look()
        except BaseException as error:
            self._die(error)
            raise

    def beat(self, now: float) -> None:
        """Say that the writer lives; to be called every few seconds. Free where a lock says so.

        Raises:
            UnavailableError: The store did not take it. Nothing is lost by that but time, should it go on.
        """
        if self._lock is None and self._end is None:
            self._entry = attrs.evolve(self._entry, beat=now)
            self.store.write(open_key(self.journal_id), (encode_open(self._entry),))

    def retire(self, now: float, *, live_left: bool) -> None:
        """End the journal in good order.

        With nothing left in it, it is sealed without an heir. Else the next start finds it through ``open/`` and
        becomes its heir at once: a seal moves ten thousand workflows in one flush, where claims take one each.

        Args:
            now: Seconds since the epoch, UTC.
            live_left: Whether workflows in it have not ended.

        Raises:
            FencedError: Another journal is the heir of this one.
            UnavailableError: The store refused or does not answer. The journal can be taken over.
        """
        if self.owed and self._end is None:
            # Only an heir in turn can say how long those journals are: this one ends like one that crashed.
            _log.warning("journal %s ends without a seal: it has not adopted %s", self.journal_id, self.owed)
            live_left = True
        self.append([records.encode(records.Retired(now))])
        try:
            if live_left:
                self.beat(_NEVER)
            else:
                self._seal()
                self.store.delete(open_key(self.journal_id))
        except BaseException as error:
            self._die(error)
            raise
        self._die(UnavailableError(f"journal {self.journal_id} is closed"))
        self._unlock()

    def _seal(self) -> None:
        key = segment_key(self.journal_id, self._segment + 1)
        seal = encode_seal(Seal(None, self.batches), self.journal_id)
        answer = create_exactly(self.store, key, seal, self.patience)
        if isinstance(answer, Lost):
            raise self._fenced(key, answer.winner)

    def abandon(self) -> None:
        """Let go of everything and write nothing, as a crash would.

        A writer that failed keeps its lock until then: attempts it has started may still run, and whoever takes over
        must not meet them.
        """
        self._die(UnavailableError(f"journal {self.journal_id} was abandoned"))
        self._unlock()

    def _append_to_log(self, batch: Sequence[bytes | memoryview]) -> None:
        data = encode_batch(self.batches + 1, batch, self._seed)
        appender = self._appender
        if appender is None or self._size >= self._segment_bytes:
            appender = self._next_log()
            data = encode_header() + data
        try:
            appender.append(data)
        except UnavailableError:
            self._look()  # of a journal that was taken over and collected the file is gone, and that says it better
            raise
        # An append has no number that could be taken: a writer that slept through its own take-over succeeds with it.
        # So the seal is looked for after the bytes are durable. An heir reads after sealing: if there is no seal
        # yet, it will read these bytes.
        self._look()
        self._size += len(data)
        self.batches += 1

    def _next_log(self) -> Appender:
        if self._appender is not None:
            self._appender.close()
            self._appender = None
        assert isinstance(self.store, SupportsAppend)
        key = self._next_key
        # The heir's seal and our next segment want the same number; the store decides.
        appender = self.store.appender(key)
        if appender is None:
            raise self._fenced(key, bytes(self.store.read(key)))
        self._appender = appender
        self._size = 0
        self._advance()
        return appender

    def _create_objects(self, batch: Sequence[bytes | memoryview]) -> None:
        parts = list(_split(batch))
        count = self.batches
        for number, part in enumerate(parts, 1):
            count += 1
            encoded = encode_batch(count, part, self._seed, continues=number < len(parts))
            key = self._next_key
            # One after the other, so that no batch is ever stored behind one that lost.
            answer = create_exactly(self.store, key, encode_header(SegmentKind.OBJECT) + encoded, self.patience)
            if isinstance(answer, Lost):
                raise self._fenced(key, answer.winner)
            self._advance()
        self.batches = count

    def _advance(self) -> None:
        self._segment += 1
        self._next_key = segment_key(self.journal_id, self._segment + 1)
        if self._appender is not None and isinstance(self.store, SupportsPeek):
            self._peek = self.store.peek(self._next_key)

    def _look(self) -> None:
        if self._peek is not None:
            if not self._peek():
                return
        else:
            try:
                self.store.read(self._next_key, start=0, end=0)
            except ObjectNotFoundError:
                return
        raise self._fenced(self._next_key, bytes(self.store.read(self._next_key)))

    def _fenced(self, key: str, found: bytes) -> Exception:
        seal = decode_seal(key, found, self.journal_id)
        if seal is None:
            return UsageError(f"{key} exists: two processes write journal {self.journal_id}; a journal id is used once")
        return FencedError(self.journal_id, seal.heir or "nobody")

    def _die(self, cause: BaseException) -> None:
        if self._end is None:
            if isinstance(cause, FencedError | UsageError):
                self._end = cause
            else:
                self._end = UnavailableError(
                    f"journal {self.journal_id} takes nothing more ({cause}); what it holds is safe, resume its workflows"
                )
        appender, self._appender = self._appender, None
        if appender is not None:
            appender.close()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def _split(batch: Sequence[bytes | memoryview]) -> Iterator[Sequence[bytes | memoryview]]:
    """Yield *batch* in parts that fit into one object each."""
    start = size = 0
    for at, record in enumerate(batch):
        if size and size + len(record) > _OBJECT_BYTES:
            yield batch[start:at]
            start, size = at, 0
        size += len(record) + 4
    yield batch[start:] if start else batch
