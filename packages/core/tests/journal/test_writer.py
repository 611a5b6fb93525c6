"""What an append promises, and that the first failure is the last thing a writer does."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exoflow.errors import FencedError, UnavailableError, UsageError
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.journal import adoption, records
from exoflow.journal.layout import OPEN, segment_key, segments_of
from exoflow.journal.liveness import is_live
from exoflow.journal.reader import find_end, read_journal
from exoflow.journal.writer import JournalWriter
from exoflow.stores.contract import SupportsLocks
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, FaultyStore, LoseAnswer, Refuse, Scheduled, Tear

NOTE = records.encode(records.Released("w"))


def test_a_journal_begins_by_saying_who_writes_it(world: Any) -> None:
    first = world.controller()

    contents = read_journal(world.store, first.id)

    assert contents.records == [records.Opened(first.id, "here", os.getpid(), world.now)]
    assert contents.batches == first.writer.batches == 1
    assert not contents.sealed


def test_what_was_appended_is_read_back_in_order(world: Any) -> None:
    first = world.controller()
    batches = [[records.Released(f"w{n}.{m}") for m in range(n)] for n in range(1, 6)]
    for batch in batches:
        first.append(*batch)

    contents = read_journal(world.store, first.id)

    assert contents.records[1:] == [record for batch in batches for record in batch]
    assert contents.positions[1:] == [n + 1 for n in range(1, 6) for _ in range(n)]
    assert contents.batches == first.writer.batches == 6


def test_a_journal_id_is_used_once(world: Any) -> None:
    first = world.controller()
    with pytest.raises(UsageError, match="once"):
        JournalWriter.open(world.store, first.id, "there", 1, world.now)


def test_a_long_journal_goes_on_in_further_segments(world: Any) -> None:
    first = world.controller(segment_bytes=300)
    for number in range(30):
        first.append(records.Released(f"w{number}"))

    contents = read_journal(world.store, first.id)

    assert [r.workflow_id for r in contents.records[1:]] == [f"w{n}" for n in range(30)]
    assert contents.segments > 3


def test_a_journal_sealed_at_birth_is_refused(world: Any) -> None:
    adoption.seal(world.store, "j0123456789abcde", "heir")

    with pytest.raises(FencedError, match="heir"):
        JournalWriter.open(world.store, "j0123456789abcde", "here", 1, world.now)


@pytest.mark.parametrize("segment_bytes", [1, 1 << 20])
def test_a_writer_that_was_taken_over_learns_it_from_its_next_append(world: Any, segment_bytes: int) -> None:
    first = world.controller(segment_bytes=segment_bytes)
    first.append(records.Released("w"))
    adoption.seal(world.store, first.id, "heir")

    for _ in range(2):
        with pytest.raises(FencedError) as caught:
            first.append(records.Released("w"))
        assert caught.value.heir == "heir"
    with pytest.raises(FencedError):
        first.retire()
    assert first.writer.batches == 2


def test_a_writer_can_ask_whether_it_was_taken_over(world: Any) -> None:
    first = world.controller()
    first.writer.check()
    adoption.seal(world.store, first.id, "heir")
    with pytest.raises(FencedError):
        first.writer.check()
    with pytest.raises(FencedError):
        first.append(records.Released("w"))


def test_a_store_that_can_peek_is_asked_that_way(make: Any) -> None:
    class Peeking(MemoryStore):
        looks = 0

        def peek(self, key: str) -> Any:
            def look() -> bool:
                self.looks += 1
                return key in set(self.list(key))

            return look

    store = Peeking()
    first = make.World(store).controller(segment_bytes=200)
    for _ in range(10):
        first.append(records.Released("w"))
    assert store.looks == 11
    assert read_journal(store, first.id).segments > 2
    adoption.seal(store, first.id, "heir")
    with pytest.raises(FencedError, match="heir"):
        first.append(records.Released("w"))


def test_a_seal_comes_behind_a_segment_begun_at_the_same_moment(world: Any, together: Any) -> None:
    for _ in range(10):
        first = world.controller(segment_bytes=1)

        def write(controller: Any = first) -> int:
            for _ in range(10):
                controller.append(records.Released("w"))
            return 0

        answers = together([write, lambda c=first: adoption.seal(world.store, c.id, "heir")])

        assert answers[1].heir == "heir"
        assert find_end(world.store, first.id).seal is not None
        assert read_journal(world.store, first.id).batches >= first.writer.batches


def test_a_retired_journal_says_how_long_it_is_and_has_no_heir(world: Any) -> None:
    first = world.controller()
    first.retire()

    contents = read_journal(world.store, first.id)

    assert contents.sealed
    assert contents.heir is None
    assert contents.seal.length == contents.batches == 2
    assert list(world.store.list(OPEN)) == []
    assert adoption.seal(world.store, first.id, "late") == contents.seal
    with pytest.raises(UnavailableError):
        first.append(records.Released("w"))


def test_a_journal_closed_with_work_left_waits_for_an_heir(world: Any) -> None:
    first = world.controller()
    first.close()

    assert not read_journal(world.store, first.id).sealed
    assert list(world.store.list(OPEN)) == [f"{OPEN}{first.id}"]
    assert not is_live(world.store, first.id, world.now)
    with pytest.raises(UnavailableError):
        first.append(records.Released("w"))


@pytest.mark.parametrize(
    ("verb", "fault"),
    [
        ("append", Refuse()),
        ("append", LoseAnswer(happens=False)),
        ("append", LoseAnswer(happens=True)),
        ("append", Tear(keep_bytes=20)),
        ("create", Refuse()),
        ("create", LoseAnswer(happens=False)),
        ("create", LoseAnswer(happens=True)),
    ],
    ids=str,
)
def test_the_first_failed_flush_is_the_last(verb: str, fault: Any, make: Any) -> None:
    inner = MemoryStore() if verb == "append" else make.Bucket(MemoryStore())
    store = FaultyStore(inner)
    world = make.World(inner)
    first = world.controller(store)
    first.append(records.Released("believed"))
    # One that goes on for ever: what is short is helped by a retry, where a retry is possible.
    store.plan = Scheduled(At(verb, fault, times=10**9), At("read", Refuse(), times=10**9))

    with pytest.raises(UnavailableError):
        first.append(records.Released("lost"))

    store.plan = None
    for _ in range(2):
        with pytest.raises(UnavailableError, match="takes nothing more"):
            first.append(records.Released("never"))
    assert first.writer.batches == 2
    found = [r.workflow_id for r in read_journal(inner, first.id).records[1:]]
    assert found in (["believed"], ["believed", "lost"])
    if isinstance(inner, SupportsLocks):
        # Attempts that it started may still run. Who takes over must not meet them.
        assert inner.is_locked(f"open/{first.id}")
        first.writer.abandon()
        assert not inner.is_locked(f"open/{first.id}")


def test_a_lost_answer_to_a_created_segment_is_found_out(make: Any) -> None:
    inner = make.Bucket(MemoryStore())
    store = FaultyStore(inner, Scheduled(At("create", LoseAnswer(), key="journals/*", nth=2)))
    from exoflow.journal.creation import Patience

    first = make.World(inner).controller(store, patience=Patience(sleep=lambda seconds: None))
    first.append(records.Released("w"))
    first.append(records.Released("v"))

    assert [r.workflow_id for r in read_journal(inner, first.id).records[1:]] == ["w", "v"]


def test_a_flush_too_large_for_one_object_counts_only_as_a_whole(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exoflow.journal.writer._OBJECT_BYTES", 100)
    inner = make.Bucket(MemoryStore())
    world = make.World(inner)
    large = [records.Released(f"w{n:030}") for n in range(10)]

    whole = world.controller()
    whole.append(*large)
    whole.append(records.Released("after"))
    assert read_journal(inner, whole.id).records[1:] == [*large, records.Released("after")]
    assert read_journal(inner, whole.id).batches == whole.writer.batches > 4

    for number in range(1, 5):
        torn = world.controller(FaultyStore(inner, Scheduled(At("create", Refuse(), key="journals/*", nth=1 + number))))
        with pytest.raises(UnavailableError):
            torn.append(*large)
        contents = read_journal(inner, torn.id)
        assert contents.records[1:] == []
        assert contents.batches == torn.writer.batches == 1
        heir = world.controller()
        adoption.seal(inner, torn.id, heir.id)
        assert read_journal(inner, torn.id).batches == 1


@pytest.mark.parametrize("point", [FailurePoint.BEFORE_FLUSH, FailurePoint.AFTER_FLUSH])
def test_a_crash_at_a_point_of_a_flush_is_a_crash(world: Any, point: FailurePoint) -> None:
    def fail(reached: FailurePoint) -> None:
        if reached is point:
            raise SimulatedCrash(reached)

    first = world.controller(fail=fail)

    with pytest.raises(SimulatedCrash):
        first.append(records.Released("w"))

    assert len(read_journal(world.store, first.id).records) == (1 if point is FailurePoint.BEFORE_FLUSH else 2)
    with pytest.raises(UnavailableError):
        first.append(records.Released("w"))


def test_a_full_disk_ends_the_journal_and_keeps_what_it_held(make: Any) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner)
    first = make.World(inner).controller(store)
    first.append(records.Released("w"))
    store.capacity_bytes = 400

    def fill() -> None:
        for _ in range(100):
            first.append(records.Released("v"))

    with pytest.raises(UnavailableError, match="space"):
        fill()

    contents = read_journal(inner, first.id)
    assert contents.batches == first.writer.batches
    assert records.Released("w") in contents.records


ZOMBIE = """
import os, sys, time
from exoflow.errors import FencedError
from exoflow.journal import records
from exoflow.journal.writer import JournalWriter
from exoflow_storage.local import open_file_store

store = open_file_store(sys.argv[1])
writer = JournalWriter.open(store, sys.argv[2], "here", os.getpid(), time.time())
note = [records.encode(records.Released("w"))]
try:
    while True:
        writer.append(note)
        print(writer.batches, flush=True)
except FencedError as error:
    print("fenced", error.heir, writer.batches, flush=True)
"""


def test_a_stopped_process_that_wakes_after_its_take_over_believes_nothing_more(tmp_path: Path) -> None:
    storage = pytest.importorskip("exoflow_storage.local")
    url, journal_id = f"file://{tmp_path}", "j0123456789abcde"
    store = storage.open_file_store(url)
    child = subprocess.Popen([sys.executable, "-c", ZOMBIE, url, journal_id], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        for _ in range(5):
            believed = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGSTOP)
        assert adoption.seal(store, journal_id, "heir").heir == "heir"
        length = read_journal(store, journal_id).batches
        os.kill(child.pid, signal.SIGCONT)
        rest = child.stdout.read().split("\n")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()

    verdict = rest[-2].split()
    assert verdict[:2] == ["fenced", "heir"]
    # Whatever it told anybody, the heir has read.
    assert believed <= int(verdict[2]) <= length


def test_a_killed_process_lets_go_of_its_journal_at_once(tmp_path: Path, make: Any) -> None:
    storage = pytest.importorskip("exoflow_storage.local")
    url, journal_id = f"file://{tmp_path}", "j0123456789abcde"
    store = storage.open_file_store(url)
    child = subprocess.Popen([sys.executable, "-c", ZOMBIE, url, journal_id], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(3):
        believed = int(child.stdout.readline())
    assert store.is_locked(f"open/{journal_id}")
    child.kill()
    child.wait()
    child.stdout.close()

    heir = make.World(store).controller()
    assert heir.adopt(journal_id) == {}
    adopted = read_journal(store, heir.id).records[1]
    assert adopted.journal_id == journal_id
    assert adopted.length >= believed


def test_abandoning_twice_is_harmless_and_the_store_keeps_what_it_had(world: Any) -> None:
    first = world.controller()
    first.append(records.Released("w"))
    before = world.objects()
    first.writer.abandon()
    first.writer.abandon()

    assert world.objects() == before
    assert next(iter(world.store.list(segments_of(first.id)))) == segment_key(first.id, 1)
