"""Scenario 8: what a disk does that nobody expects of it.

Most of it is shown one call at a time, in the modules beside this folder:

============================================== =========================================================================
the step                                       where it is shown
============================================== =========================================================================
a. `O_EXCL` shows readers empty objects        test_contract_finds_disk_bugs.py:
                                               test_the_contract_finds_what_the_obvious_ways_get_wrong
   a crash in between takes the key            test_local.py: test_a_process_killed_at_any_moment_leaves_a_key_free_or_whole
b. after a failed sync a retry succeeds        test_local.py: test_a_failed_sync_ends_a_log
c. a short write, and then there is room       test_local.py:
                                               test_an_append_to_a_full_disk_ends_the_log_even_when_there_is_room_again
d. sectors of one flush arrive in any order    core's tests/scenarios/test_torn_is_not_damaged.py
e. names vanish with the power                 test_local.py:
                                               test_an_object_is_durable_before_it_has_a_name_and_its_name_before_it_counts
   and those of others                         test_local.py:
                                               test_the_name_of_an_object_of_another_process_is_durable_before_it_is_believed
   and those of logs                           test_local.py:
                                               test_an_empty_log_has_a_durable_name_and_each_append_is_synced
scenario 3: where a look may be cached         test_local.py:
                                               test_a_disk_of_this_machine_has_appends_and_locks_and_a_network_has_not
============================================== =========================================================================

Here are the steps that take a whole journal, or a whole engine, on a disk.
"""

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.errors import UnavailableError
from exoflow.journal import records
from exoflow.journal.layout import segment_key
from exoflow.journal.reader import read_journal
from exoflow.journal.writer import JournalWriter
from exoflow_storage.local import open_file_store

TESTS = Path(__file__).parents[1]


def test_every_step_named_above_is_shown_where_it_says() -> None:
    assert __doc__ is not None
    named = re.findall(r"(test_\w+)\.py:\s+(test_\w+)", __doc__)
    assert len(named) >= 8
    for module, test in named:
        assert f"def {test}(" in (TESTS / f"{module}.py").read_text(), f"{module}.py has no {test}"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_journal_is_never_synced_again_after_a_sync_that_failed(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_file_store(f"file://{tmp_path}")
    writer = JournalWriter.open(store, "j0123456789abcde", "here", os.getpid(), 0.0)
    writer.append([records.encode(records.Released("believed"))])
    syncs: list[int] = []

    def fails(descriptor: int) -> None:
        syncs.append(descriptor)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr("exoflow_storage.appender.sync_data", fails)
        with pytest.raises(UnavailableError):
            writer.append([records.encode(records.Released("unknown"))])
    size = len(store.read(segment_key("j0123456789abcde", 1)))

    for _ in range(2):  # the kernel has marked the pages clean: now it would succeed
        with pytest.raises(UnavailableError, match="takes nothing more"):
            writer.append([records.encode(records.Released("never"))])

    assert len(syncs) == 1
    assert len(store.read(segment_key("j0123456789abcde", 1))) == size
    found = [r.workflow_id for r in read_journal(store, "j0123456789abcde").records[1:]]  # type: ignore[union-attr]
    assert found[0] == "believed"
    assert writer.batches == 2
    writer.abandon()
    store.close()


@exoflow.task
def charge(book: str) -> str:
    with Path(book).open("a") as ledger:
        ledger.write(exoflow.context().idempotency_key + "\n")
    return "charged"


@exoflow.task(effects="none", deterministic=True)
def receipt(charged: str) -> str:
    return f"receipt for {charged}"


def test_an_engine_whose_disk_failed_tells_nobody_and_goes_on_from_what_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, url = tmp_path / "book", f"file://{tmp_path}/flows"
    node = receipt.bind(charge.bind(str(book)))
    real = os.fdatasync
    broken: list[Any] = []

    def fails_after_the_charge(descriptor: int) -> None:
        if book.exists() and not broken:
            broken.append(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    with exoflow.Engine(url) as engine:
        with monkeypatch.context() as patched:
            patched.setattr("exoflow_storage.appender.sync_data", fails_after_the_charge)
            with pytest.raises(UnavailableError):
                engine.run(node, workflow_id="order")
        assert broken
        assert engine.run(node, workflow_id="order") == "receipt for charged"
    with exoflow.Engine(url) as engine:
        assert engine.result("order") == "receipt for charged"
    assert set(book.read_text().split()) == {"order/1/charge"}
