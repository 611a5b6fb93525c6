"""A store in one SQLite file: create-if-absent is a primary key, and durable is a commit under ``synchronous=FULL``.

Any number of threads and processes of one machine may use the file together (SQLite's own locks keep them apart; they
do not work on network file systems). There are no appends: SQLite cannot let a zombie's append be seen apart from its
successor's, and a transaction for each flush is what `ObjectStore.create` does already.

Large objects come in pieces, each in a transaction of its own, under a number that no key names before the last piece
is there: so nobody waits for a long write, and nobody sees a part of it.
"""

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from exoflow.errors import (
    CorruptCheckpointError,
    ExoFlowError,
    ObjectNotFoundError,
    UnavailableError,
    UnknownOutcomeError,
    UsageError,
)
from exoflow.stores.contract import Buffer
from exoflow.stores.keys import check_key, check_prefix

__all__ = ["SqliteStore"]

_SCHEME = "sqlite://"
_PIECE_BYTES = 4 << 20
_PAGE = 500
_ABANDONED_S = 24 * 3600.0
"""A write that has not ended after this long has no writer any more."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (number INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER, begun REAL NOT NULL);
CREATE TABLE IF NOT EXISTS pieces (number INTEGER, start INTEGER, data BLOB NOT NULL, PRIMARY KEY (number, start));
"""


class SqliteStore:
    """Keeps objects in an SQLite file. Safe to share between threads; each call borrows a connection.

    Args:
        path: The file; it and its folder are made if they are missing.
        timeout_s: How long other writers are waited for.

    Raises:
        UnavailableError: The file cannot be opened or written.
        CorruptCheckpointError: It is not an SQLite file.
    """

    shared = True

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = path.absolute()
        self.url: str = f"{_SCHEME}{self._path}"
        self._timeout_s = timeout_s
        self._idle: list[sqlite3.Connection] = []
        self._mutex = threading.Lock()
        self._closed = False
        # Connections that nobody closes are closed with the store.
        self._finalizer = weakref.finalize(self, _close_all, self._idle)
        with self._translated(str(self._path)):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.executescript(_SCHEMA)
                self._remove_abandoned(connection)
            _sync_folder(self._path.parent)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open ``sqlite://<path>``."""
        path = url.removeprefix(_SCHEME)
        if path == url or not path or path.endswith("/"):
            raise UsageError(f"{url!r}: expected sqlite:///absolute/path.db or sqlite://./relative/path.db")
        return cls(Path(path))

    # --- the five verbs -----------------------------------------------------------------------------------------

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        """See `ObjectStore.create`."""
        check_key(key)
        with self._translated(key), self._connection(timeout_s) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if connection.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone():
                    return False
                number = _begin_content(connection)
                size = _add_pieces(connection, number, 0, data)
                _name(connection, key, number, size)
                _commit(connection, key)
                return True
            finally:
                _roll_back(connection)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """See `ObjectStore.read`."""
        check_key(key)
        if start < 0 or (end is not None and end < 0):
            raise UsageError(f"read of {key!r} from {start} to {end}: expected offsets from the beginning")
        with self._translated(key), self._connection() as connection:
            connection.execute("BEGIN")  # one snapshot: the object may be deleted while its pieces are read
            try:
                found = connection.execute(
                    "SELECT number, size FROM objects JOIN contents USING (number) WHERE key = ?", (key,)
                ).fetchone()
                if found is None:
                    raise ObjectNotFoundError(key)
                number, size = found
                end = size if end is None else min(end, size)
                if start >= end:
                    return b""
                answer = bytearray(end - start)
                for at, data in connection.execute(
                    "SELECT start, data FROM pieces WHERE number = ? AND start > ? AND start < ? ORDER BY start",
                    (number, start - _PIECE_BYTES, end),
                ):
                    piece = memoryview(data)[max(start - at, 0) : end - at]
                    place = max(at - start, 0)
                    answer[place : place + len(piece)] = piece
                return answer
            finally:
                _roll_back(connection)

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""
        check_key(key)
        number: int | None = None
        size = 0
        try:
            for chunk in chunks:
                with self._translated(key), self._transaction(key) as connection:
                    number = _begin_content(connection) if number is None else number
                    size = _add_pieces(connection, number, size, chunk)
            with self._translated(key), self._transaction(key) as connection:
                number = _begin_content(connection) if number is None else number
                _remove(connection, key)
                _name(connection, key, number, size)
        except BaseException:
            if number is not None:
                with contextlib.suppress(ExoFlowError), self._translated(key), self._transaction(key) as connection:
                    if not connection.execute("SELECT 1 FROM objects WHERE number = ?", (number,)).fetchone():
                        _remove_content(connection, number)
            raise

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        check_prefix(prefix)
        self._check_open()
        return self._list(prefix)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        check_key(key)
        with self._translated(key), self._transaction(key) as connection:
            _remove(connection, key)

    def close(self) -> None:
        """See `ObjectStore.close`."""
        with self._mutex:
            self._closed = True
            _close_all(self._idle)

    # --- connections --------------------------------------------------------------------------------------------

    def _list(self, prefix: str) -> Iterator[str]:
        # Page by page, so that no reader's snapshot stays open while somebody thinks about a key.
        last = ""
        while True:
            with self._translated(prefix), self._connection() as connection:
                page = connection.execute(
                    # DEL follows every character a key may hold.
                    "SELECT key FROM objects WHERE key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?",
                    (prefix, prefix + "\x7f", last, _PAGE),
                ).fetchall()
            for (last,) in page:
                yield last
            if len(page) < _PAGE:
                return

    @contextlib.contextmanager
    def _transaction(self, key: str) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                _commit(connection, key)
            finally:
                _roll_back(connection)

    @contextlib.contextmanager
    def _connection(self, timeout_s: float | None = None) -> Iterator[sqlite3.Connection]:
        self._check_open()
        with self._mutex:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            timeout_s = self._timeout_s if timeout_s is None else timeout_s
            connection.execute(f"PRAGMA busy_timeout = {max(int(timeout_s * 1000), 1)}")
            yield connection
        except (sqlite3.Error, UnknownOutcomeError):  # what state it is in is not worth finding out
            connection.close()
            raise
        except BaseException:
            self._give_back(connection)
            raise
        else:
            self._give_back(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA busy_timeout = 1000")
            _use_write_ahead_log(connection, self._timeout_s)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._mutex:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the store {self.url} is closed; open it again")

    def _remove_abandoned(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for (number,) in connection.execute(
                "SELECT number FROM contents WHERE size IS NULL AND begun < ?", (time.time() - _ABANDONED_S,)
            ).fetchall():
                _remove_content(connection, number)
            connection.execute("COMMIT")
        finally:
            _roll_back(connection)

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise CorruptCheckpointError(what, f"{self._path}: {error}") from error
            raise UnavailableError(f"{what}: {self._path}: {error}") from error
        except OSError as error:
            raise UnavailableError(f"{what}: {self._path}: {error}") from error


def _begin_content(connection: sqlite3.Connection) -> int:
    number = connection.execute("INSERT INTO contents (size, begun) VALUES (NULL, ?)", (time.time(),)).lastrowid
    assert number is not None
    return number


def _add_pieces(connection: sqlite3.Connection, number: int, at: int, data: Buffer) -> int:
    """Add *data* at offset *at*; return the offset behind it. No piece is longer than `read` looks back."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), _PIECE_BYTES):
        piece = view[start : start + _PIECE_BYTES]
        connection.execute("INSERT INTO pieces VALUES (?, ?, ?)", (number, at, piece))
        at += len(piece)
    return at


def _name(connection: sqlite3.Connection, key: str, number: int, size: int) -> None:
    connection.execute("UPDATE contents SET size = ? WHERE number = ?", (size, number))
    connection.execute("INSERT INTO objects VALUES (?, ?)", (key, number))


def _remove(connection: sqlite3.Connection, key: str) -> None:
    found = connection.execute("SELECT number FROM objects WHERE key = ?", (key,)).fetchone()
    if found is not None:
        connection.execute("DELETE FROM objects WHERE key = ?", (key,))
        _remove_content(connection, found[0])


def _remove_content(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM pieces WHERE number = ?", (number,))
    connection.execute("DELETE FROM contents WHERE number = ?", (number,))


def _commit(connection: sqlite3.Connection, key: str) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        # The log may hold the whole transaction although its sync failed, and then the next opening finds it.
        raise UnknownOutcomeError(f"{key}: {error}; whether it was stored is unknown") from error


def _roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that was not committed; after a commit there is none."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _use_write_ahead_log(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch to the mode in which readers and the writer do not wait for each other.

    Source:
        https://www.sqlite.org/wal.html; the switch itself does not wait for others as other statements do.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _close_all(connections: "list[sqlite3.Connection]") -> None:
    while connections:
        connections.pop().close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
