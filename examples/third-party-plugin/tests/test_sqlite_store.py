import functools
import sqlite3
from pathlib import Path

import pytest
from exoflow_example import sqlite_store
from exoflow_example.sqlite_store import SqliteStore

from exoflow.errors import (
    CorruptCheckpointError,
    ObjectNotFoundError,
    UnavailableError,
    UnknownOutcomeError,
    UsageError,
)
from exoflow.testing.stores import ObjectStoreContract


class TestSqliteStore(ObjectStoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "made" / "flows.db"

    @pytest.fixture
    def store(self, path):
        store = SqliteStore(path)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, path):
        return functools.partial(SqliteStore, path)

    def test_its_bytes_outlive_it(self, store, path):
        store.create("a", b"kept")
        store.close()

        reopened = SqliteStore.open(f"sqlite://{path}")

        assert reopened.read("a") == b"kept"
        assert reopened.url == store.url
        reopened.close()

    def test_a_commit_waits_for_the_disk(self, store):
        with store._connection() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def test_a_writer_that_another_keeps_waiting_gives_up_in_time(self, store, path):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(UnavailableError, match="locked"):
            store.create("a", b"", timeout_s=0.05)

        other.close()
        assert store.create("a", b"")

    def test_a_commit_without_an_answer_is_an_unknown_outcome(self, store, monkeypatch):
        class Mute:
            in_transaction = False

            def execute(self, statement):
                raise sqlite3.OperationalError("disk I/O error")

        with pytest.raises(UnknownOutcomeError, match="whether it was stored is unknown"):
            sqlite_store._commit(Mute(), "a")

    def test_pieces_of_a_writer_that_died_are_removed_after_a_day(self, store, path, monkeypatch):
        with store._transaction("x") as connection:
            number = sqlite_store._begin_content(connection)
            sqlite_store._add_pieces(connection, number, 0, b"half a blob")

        SqliteStore(path).close()
        assert self.pieces(store) == 1

        monkeypatch.setattr(sqlite_store, "_ABANDONED_S", -1.0)
        SqliteStore(path).close()
        assert self.pieces(store) == 0

    def test_what_is_deleted_or_written_anew_leaves_no_pieces_behind(self, store):
        store.write("a", [b"1", b"2"])
        store.write("a", [b"1", b"2"])
        store.write("b", [])
        store.delete("a")
        store.delete("b")

        assert self.pieces(store) == 0

    @staticmethod
    def pieces(store):
        with store._connection() as connection:
            return connection.execute("SELECT count(*) FROM pieces").fetchone()[0]

    def test_a_file_that_is_no_database_is_said_to_be_damaged(self, tmp_path):
        (tmp_path / "notes.db").write_text("not a database, but long enough to be taken for one" * 10)

        with pytest.raises(CorruptCheckpointError, match="not a database"):
            SqliteStore(tmp_path / "notes.db")

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///folder/", "file:///x.db"])
    def test_a_url_without_a_file_is_refused(self, url):
        with pytest.raises(UsageError, match=r"expected sqlite:///absolute/path\.db"):
            SqliteStore.open(url)

    def test_a_closed_store_says_so(self, store):
        store.close()

        with pytest.raises(UsageError, match="is closed"):
            store.read("a")

    def test_a_missing_object_is_not_found_under_its_own_key(self, store):
        with pytest.raises(ObjectNotFoundError):
            store.read("a/b")
