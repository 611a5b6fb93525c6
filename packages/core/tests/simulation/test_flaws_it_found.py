"""Flaws that simulation found, each told again as its shortest story."""

from collections.abc import Iterator
from typing import Any

import pytest

import exoflow
from exoflow import Engine, WorkflowStatus
from exoflow.errors import UnavailableError
from exoflow.failures.points import SimulatedCrash
from exoflow.journal import records
from exoflow.journal.adoption import adopt
from exoflow.journal.layout import segments_of
from exoflow.journal.ownership import history, trace
from exoflow.journal.reader import read_journal
from exoflow.journal.shelf import Shelf
from exoflow.journal.writer import JournalWriter
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import Call, Fault, FaultyStore, Refuse


@exoflow.task
def answer() -> int:
    return 42


def leave_behind(store: Any, workflow_id: str) -> None:
    """Let a controller die before it has run the workflow's only task."""
    with Engine(store, "inline", failures=["*.crash@after_flush"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(answer.bind(), workflow_id=workflow_id)


class FailsBehindTheFirstTakeOver:
    """Refuses one call: the first about another dead journal, once one was adopted."""

    def __init__(self) -> None:
        self.adopted = ""
        self.refused = False

    def __call__(self, call: Call) -> Fault | None:
        if call.verb == "delete" and call.key.startswith("open/"):
            self.adopted = self.adopted or call.key
        elif self.adopted and not self.refused and call.key.startswith("journals/"):
            self.refused = True
            return Refuse()
        return None


def test_what_was_taken_over_before_the_store_failed_is_run_all_the_same() -> None:
    disk = MemoryStore()
    leave_behind(disk, "first")
    leave_behind(disk, "second")
    plan = FailsBehindTheFirstTakeOver()
    with Engine(FaultyStore(disk, plan), "inline") as heir:
        try:
            handles = heir.resume_all()
        except UnavailableError:
            handles = heir.resume_all()
        assert plan.refused
        for handle in handles:
            handle.result()

        assert [info.status for info in heir.list()] == [WorkflowStatus.SUCCEEDED] * 2


class ShowsTheSealFirst:
    """A store whose listing began before the last two objects of a journal were made, and saw the later of them."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.listings = 0

    def list(self, prefix: str) -> Iterator[str]:
        keys = list(self.store.list(prefix))
        self.listings += 1
        return iter(keys[:-2] + keys[-1:] if self.listings == 1 else keys)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Bucket:
    """A memory store without appends and locks."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        for verb in ("create", "read", "write", "list", "delete", "close"):
            setattr(self, verb, getattr(self.store, verb))
        self.url, self.shared = self.store.url, False


def test_a_listing_that_misses_what_was_written_just_before_the_seal_is_no_damage() -> None:
    bucket: Any = Bucket()
    writer = JournalWriter.open(bucket, "j0123456789abcde", "here", 1, 0.0)
    writer.append([records.encode(records.Retired(0.0))])
    writer.retire(0.0, live_left=False)
    assert len(list(bucket.list(segments_of(writer.journal_id)))) == 4

    contents = read_journal(ShowsTheSealFirst(bucket), writer.journal_id)  # type: ignore[arg-type]

    assert contents.sealed
    assert contents.batches == 3


def submission(workflow_id: str) -> records.Submission:
    return records.Submission(workflow_id, 1, "", "", 0.0, {}, {})


def test_a_journal_that_is_taken_over_between_two_looks_of_one_question_is_no_damage() -> None:
    store, workflow_id = MemoryStore(), "j0123456789abcde-1"
    writer = JournalWriter.open(store, "j0123456789abcde", "here", 1, 0.0)
    writer.append(
        [records.encode(submission(workflow_id)), records.encode(records.End(workflow_id, "succeeded", "", 0.0))]
    )
    shelf = Shelf(store)
    shelf.book(writer.journal_id)  # as a listing does, long before it asks where each workflow leads

    writer.append([records.encode(submission("j0123456789abcde-2"))])
    writer.abandon()
    heir = JournalWriter.open(store, "j0123456789abcdf", "there", 2, 0.0)
    adopt(store, heir, writer.journal_id, lambda _: True, 0.0)

    own = trace(shelf, workflow_id, 0.0)
    assert own is not None
    assert own.chain == (writer.journal_id, heir.journal_id)
    assert history(shelf, own).records
