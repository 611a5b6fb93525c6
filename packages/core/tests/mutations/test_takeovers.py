"""Processes that take one another for dead keep every promise of the journal. ``EXOFLOW_SEEDS=20000 pytest -m slow``."""

import os
from collections.abc import Callable, Iterator

import pytest

from exoflow.journal.adoption import adopt
from exoflow.journal.garbage import collect
from exoflow.journal.layout import segments_of
from exoflow.journal.reader import find_end
from exoflow.journal.writer import JournalWriter
from exoflow.stores.memory import MemoryStore

from .takeovers import play_takeovers

MORE = int(os.environ.get("EXOFLOW_SEEDS", "20000"))


def check(seeds: range, *, collects: bool = False) -> None:
    for seed in seeds:
        try:
            play_takeovers(seed, collects=collects)
        except Exception as error:
            raise AssertionError(f"seed {seed}: play_takeovers({seed}, collects={collects}) shows it") from error


def test_whoever_takes_over_knows_what_was_believed_and_nobody_else_is_believed() -> None:
    check(range(100))


def test_that_holds_while_somebody_collects_garbage() -> None:
    check(range(100), collects=True)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("collects", [False, True])
def test_that_holds_in_many_more_worlds(collects: bool) -> None:
    check(range(1000, 1000 + MORE // 10), collects=collects)


class Interrupted(MemoryStore):
    """Something happens after a listing, before its caller goes on."""

    after: dict[str, Callable[[], object]]

    def list(self, prefix: str) -> Iterator[str]:
        found = super().list(prefix)
        self.after.pop(prefix, lambda: None)()
        return found


def test_a_journal_may_be_taken_over_and_collected_while_somebody_looks_for_its_end() -> None:
    store = Interrupted()
    store.after = {}
    victim = JournalWriter.open(store, "j000000000000001", "here", 1, 1000.0)
    heir = JournalWriter.open(store, "j000000000000002", "here", 2, 1000.0)
    victim.abandon()

    def take_over_and_collect() -> None:
        adopt(store, heir, victim.journal_id, lambda workflow_id: True, 2000.0)
        assert collect(store, 2000.0, 1e9, archive_after_s=0.0).segments == 1

    store.after[segments_of(victim.journal_id)] = take_over_and_collect
    end = find_end(store, victim.journal_id)

    assert end.seal is not None
    assert end.seal.heir == heir.journal_id
