"""Scenario 8, as far as it concerns the journal: short writes, failed syncs, and flushes that arrive in parts.

A flush is one batch: one length, one checksum, one number. However little of it arrived, and in whatever order its
sectors did, a bad batch at the end is the trace of a crash, and is cut; a bad batch with a good one behind it cannot come
from a crash, because a flush begins after the one before it returned. The first failed flush is the last of its journal.

What only a disk can show is in `packages/storage/tests/scenarios/test_disk_semantics.py`.
"""

import itertools
from collections.abc import Iterator, Sequence

import pytest

from exoflow.errors import CorruptCheckpointError, UnavailableError
from exoflow.journal import records
from exoflow.journal.layout import segment_key
from exoflow.journal.reader import JournalContents, read_journal
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, FaultyStore, Scheduled, Tear

from .controllers import World, submission

SECTOR = 512


def long_batch(name: str) -> list[records.Record]:
    """Several records that fill several sectors."""
    return [records.Released(f"{name}.{number}." + "x" * 400) for number in range(6)]


def journal(*batches: Sequence[records.Record]) -> tuple[str, bytes, list[int]]:
    """Return the id and the bytes of a journal, and where each of *batches* begins and the last ends."""
    store = MemoryStore()
    first = World(store).controller()
    key = segment_key(first.id, 1)
    bounds = [len(store.read(key))]
    for batch in batches:
        first.append(*batch)
        bounds.append(len(store.read(key)))
    return first.id, bytes(store.read(key)), bounds


def read(journal_id: str, data: bytes) -> JournalContents:
    store = MemoryStore()
    store.create(segment_key(journal_id, 1), data)
    return read_journal(store, journal_id)


def without_some_sectors(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield *data* as a disk may hold it after a power cut: any sectors between *start* and *end* never arrived."""
    cuts = [start, *range(start - start % SECTOR + SECTOR, end, SECTOR), end]
    sectors = list(itertools.pairwise(cuts))
    assert len(sectors) >= 5
    for arrived in itertools.product([True, False], repeat=len(sectors)):
        if all(arrived):
            continue
        found = bytearray(data)
        for (first, last), here in zip(sectors, arrived, strict=True):
            if not here:
                found[first:last] = bytes(last - first)
        yield bytes(found)


def test_a_flush_of_which_any_sectors_are_missing_is_torn_when_it_is_the_last() -> None:
    before: list[records.Record] = [records.Released("before")]
    flushed = long_batch("flushed")
    journal_id, data, (_, start, end) = journal(before, flushed)
    assert read(journal_id, data).records[1:] == [*before, *flushed]

    for torn in without_some_sectors(data, start, end):
        assert read(journal_id, torn).records[1:] == before, "all of it counts, or none"
    for length in range(start, end, 7):
        assert read(journal_id, data[:length]).records[1:] == before


def test_a_flush_of_which_any_sectors_are_missing_is_damage_when_another_came_after_it() -> None:
    journal_id, data, (_, start, end, _) = journal([records.Released("before")], long_batch("x"), long_batch("after"))

    for damaged in without_some_sectors(data, start, end):
        with pytest.raises(CorruptCheckpointError):
            read(journal_id, damaged)


def test_a_torn_flush_takes_nothing_from_the_heir_of_its_journal() -> None:
    store = MemoryStore()
    world = World(store)
    faulty = FaultyStore(store)
    first, heir = world.controller(faulty), world.controller()
    mine = first.submit()
    faulty.plan = Scheduled(At("append", Tear(keep_bytes=20)))
    with pytest.raises(UnavailableError):
        first.outcome(mine, "charge")
    first.crash()

    assert heir.acquire(mine).records == [submission(mine)]
    assert world.history(mine) == [submission(mine)]


@pytest.mark.parametrize("short", [0, 1, 7, 40, 80])
def test_nothing_is_written_behind_half_a_flush_when_there_is_room_again(short: int) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner)
    first = World(inner).controller(store)
    first.append(records.Released("kept"))
    key = segment_key(first.id, 1)
    store.capacity_bytes = sum(len(inner.read(k)) for k in inner.list("")) + short
    with pytest.raises(UnavailableError, match="space"):
        first.append(*long_batch("lost"))
    size = len(inner.read(key))

    store.capacity_bytes = None
    for _ in range(2):
        with pytest.raises(UnavailableError, match="takes nothing more"):
            first.append(records.Released("later"))

    assert len(inner.read(key)) == size
    assert read_journal(inner, first.id).records[1:] == [records.Released("kept")]


def test_a_writer_never_appends_to_what_it_did_not_create() -> None:
    store = MemoryStore()
    first = World(store).controller()
    assert store.appender(segment_key(first.id, 1)) is None
