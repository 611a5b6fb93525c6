"""What a journal says is what was flushed, or an error."""

import time
from typing import Any

import pytest

from exoflow.errors import CorruptCheckpointError, UnsupportedFormatError
from exoflow.journal import adoption, records
from exoflow.journal.archive import condense
from exoflow.journal.layout import archive_key, segment_key
from exoflow.journal.reader import Selection, encode_archive, find_end, read_journal
from exoflow.stores.memory import MemoryStore


def written(make: Any, count: int = 3, **options: Any) -> tuple[MemoryStore, Any]:
    store = MemoryStore()
    first = make.World(store).controller(**options)
    for number in range(count):
        first.append(records.Released(f"w{number}"))
    return store, first


def change(store: MemoryStore, key: str, position: int) -> bytes:
    data = bytearray(store.read(key))
    data[position] ^= 0x10
    store.delete(key)
    store.create(key, data)
    return bytes(data)


def test_a_journal_that_does_not_exist_is_empty(world: Any) -> None:
    contents = read_journal(world.store, "j0")

    assert (contents.records, contents.batches, contents.segments, contents.sealed) == ([], 0, 0, False)
    assert find_end(world.store, "j0").number == 0


def test_a_torn_tail_is_cut_wherever_it_tore(make: Any) -> None:
    store, first = written(make)
    key = segment_key(first.id, 1)
    data = bytes(store.read(key))
    for length in range(len(data)):
        store.delete(key)
        store.create(key, data[:length])
        contents = read_journal(store, first.id)
        expected = [records.Released(f"w{n}") for n in range(3)]
        assert contents.records[1:] == expected[: len(contents.records[1:])]
        assert contents.batches == len(contents.records) < 4


def test_a_flipped_byte_is_an_error_or_a_torn_tail(make: Any) -> None:
    store, first = written(make)
    key = segment_key(first.id, 1)
    size = len(store.read(key))
    original = bytes(store.read(key))
    outcomes = set()
    for position in range(size):
        change(store, key, position)
        try:
            outcomes.add(read_journal(store, first.id).batches)
        except Exception as error:
            outcomes.add(type(error).__name__)
        store.delete(key)
        store.create(key, original)
    assert outcomes == {3, "CorruptCheckpointError"}


def test_an_object_that_was_created_whole_is_never_torn(make: Any) -> None:
    inner = MemoryStore()
    first = make.World(make.Bucket(inner)).controller()
    first.append(records.Released("w"))
    key = segment_key(first.id, 2)
    original = bytes(inner.read(key))
    for position in range(len(original)):
        change(inner, key, position)
        with pytest.raises((CorruptCheckpointError, UnsupportedFormatError)):
            read_journal(inner, first.id)
        inner.delete(key)
        inner.create(key, original)
    assert read_journal(inner, first.id).batches == 2


def test_a_damaged_tail_is_found_where_the_length_is_known(make: Any) -> None:
    store, first = written(make)
    heir = first.world.controller()
    first.writer.abandon()
    heir.adopt(first.id)
    change(store, segment_key(first.id, 1), -1)
    assert read_journal(store, first.id).batches == 3
    with pytest.raises(CorruptCheckpointError, match="3 batches where 4"):
        read_journal(store, first.id, limit_batches=4)

    store, first = written(make)
    first.retire()
    change(store, segment_key(first.id, 1), -1)
    with pytest.raises(CorruptCheckpointError, match="where its writer left 5"):
        read_journal(store, first.id)


def test_a_damaged_end_of_a_segment_with_another_behind_it_is_found(make: Any) -> None:
    store, first = written(make, 20, segment_bytes=200)
    assert find_end(store, first.id).number > 2
    change(store, segment_key(first.id, 1), -1)

    with pytest.raises(CorruptCheckpointError, match="another segment follows"):
        read_journal(store, first.id)


def test_a_missing_segment_is_found(make: Any) -> None:
    store, first = written(make, 20, segment_bytes=200)
    store.delete(segment_key(first.id, 2))

    with pytest.raises(CorruptCheckpointError, match="missing"):
        read_journal(store, first.id)


def test_a_segment_begun_and_never_written_is_empty(make: Any) -> None:
    store, first = written(make)
    store.create(segment_key(first.id, 2), b"")

    assert read_journal(store, first.id).batches == 4
    assert adoption.seal(store, first.id, "heir").heir == "heir"
    assert find_end(store, first.id).number == 3
    assert read_journal(store, first.id).batches == 4


def test_a_reader_stops_where_an_heir_says(make: Any) -> None:
    store, first = written(make)

    contents = read_journal(store, first.id, limit_batches=2)

    assert (contents.batches, contents.positions) == (2, [1, 2])


def test_a_reader_decodes_only_what_is_asked_for(make: Any) -> None:
    store, first = written(make)
    first.append(make.submission("w"), make.outcome("w", "a", "x.1.1"), make.submission("w1"), make.submission('w"'))

    ends = read_journal(store, first.id, select=Selection(kinds=frozenset({records.Submission.kind})))
    assert [r.workflow_id for r in ends.records] == ["w", "w1", 'w"']
    one = read_journal(store, first.id, select=Selection(workflow_id="w", raw=True))
    assert [type(r) for r in one.records] == [records.Opened, records.Submission, records.Outcome]
    assert [records.decode(raw) for raw in one.raw] == one.records
    assert [r.workflow_id for r in read_journal(store, first.id, select=Selection(workflow_id='w"')).records[1:]] == [
        'w"'
    ]


def test_an_archive_is_read_as_the_journal_was(make: Any) -> None:
    store, first = written(make)
    first.append(make.submission("w"), make.submission("v"), make.outcome("w", "a", "x.1.1"))
    first.append(make.end("w"))
    first.retire()
    before = read_journal(store, first.id)
    number = find_end(store, first.id).number
    store.create(archive_key(first.id), encode_archive(condense(before, {"w"})))
    for sequence in range(1, number):
        store.delete(segment_key(first.id, sequence))

    after = read_journal(store, first.id)

    assert after.archived
    assert (after.batches, after.seal, after.segments) == (before.batches, before.seal, before.segments)
    expected = [
        (position, record)
        for position, record in zip(before.positions, before.records, strict=True)
        if not isinstance(record, records.Outcome) and getattr(record, "workflow_id", "") != "v"
    ]
    assert list(zip(after.positions, after.records, strict=True)) == expected
    store.delete(archive_key(first.id))
    forgotten = read_journal(store, first.id)
    assert forgotten.archived
    assert forgotten.records == []


def test_a_damaged_archive_is_refused(make: Any) -> None:
    store, first = written(make)
    first.retire()
    store.create(archive_key(first.id), encode_archive(read_journal(store, first.id)))
    store.delete(segment_key(first.id, 1))
    size = len(store.read(archive_key(first.id)))
    for position in (0, 20, size // 2, size - 1):
        original = bytes(store.read(archive_key(first.id)))
        change(store, archive_key(first.id), position)
        with pytest.raises(CorruptCheckpointError):
            read_journal(store, first.id)
        store.delete(archive_key(first.id))
        store.create(archive_key(first.id), original)


def test_a_reader_beside_a_writer_sees_whole_batches_in_order(world: Any, together: Any) -> None:
    first = world.controller(segment_bytes=400)

    def write() -> None:
        for number in range(60):
            first.append(records.Released(f"{number}"), records.Released(f"{number}"))

    def read() -> None:
        for _ in range(15):
            contents = read_journal(world.store, first.id)
            found = [r.workflow_id for r in contents.records[1:]]
            assert found == [f"{n}" for n in range(contents.batches - 1) for _ in range(2)]

    assert together([write, read, read]) == [None, None, None]


def test_a_hundred_thousand_records_are_read_in_a_few_seconds(make: Any) -> None:
    store, first = written(make)
    raw = records.encode(make.outcome("w", "task_12", f"{first.id}.1.12"))
    for _ in range(100):
        first.writer.append([raw] * 1000)

    start = time.perf_counter()
    contents = read_journal(store, first.id)
    elapsed = time.perf_counter() - start

    assert len(contents.records) == 100_004
    assert elapsed < 10  # 1.0 s on an idle machine


def test_a_listing_that_shows_the_later_of_two_new_segments_alone_is_no_damage(make: Any) -> None:
    world = make.World(make.Bucket(MemoryStore()))
    first = world.controller()
    first.append(records.Released("w1"))
    first.append(records.Released("w2"))

    class Patchy:
        """Its first listing was under way when two segments were made."""

        def __init__(self) -> None:
            self.listings = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def list(self, prefix: str) -> Any:
            self.listings += 1
            keys = list(world.store.list(prefix))
            return iter([keys[0], keys[2]] if self.listings == 1 else keys)

    patchy = Patchy()

    assert read_journal(patchy, first.id).batches == 3  # type: ignore[arg-type]
    assert patchy.listings == 2


def test_a_listing_that_misses_a_segment_before_a_new_seal_is_no_damage(make: Any) -> None:
    world = make.World(make.Bucket(MemoryStore()))
    first = world.controller()
    first.append(records.Released("w1"))
    first.retire()

    class Patchy:
        listings = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def list(self, prefix: str) -> Any:
            Patchy.listings += 1
            keys = list(world.store.list(prefix))
            return iter([keys[0], keys[-1]] if Patchy.listings == 1 else keys)

    contents = read_journal(Patchy(), first.id)  # type: ignore[arg-type]

    assert contents.sealed
    assert contents.batches == 3
