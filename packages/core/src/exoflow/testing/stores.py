"""The contract suite every store's tests inherit.

::

    class TestRedisStore(ObjectStoreContract):
        @pytest.fixture
        def store(self, redis_url):
            return open_redis(redis_url)

        @pytest.fixture
        def reopen(self, redis_url):
            return functools.partial(open_redis, redis_url)

What a store is capable of decides what is asked of it: appends and locks if it has them, other processes if it is
`ObjectStore.shared`. Every race is run with threads, and with processes where the store allows; readers watch it.
"""

# ruff: noqa: D102 - the tests' names are sentences

import array
import contextlib
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from exoflow.errors import ObjectNotFoundError, UsageError
from exoflow.stores.contract import Appender, Lock, ObjectStore, SupportsAppend, SupportsLocks
from exoflow.testing.peers import peers

__all__ = ["ObjectStoreContract", "Reopen"]

T = TypeVar("T")

Reopen = Callable[[], ObjectStore]

_DEADLINE_S = 60.0

_IN_ORDER = [
    "order/-",
    "order/.a",
    "order/0",
    "order/A",
    "order/_",
    "order/a-b",
    "order/a.d",
    "order/a/-",
    "order/a/b/c",
    "order/a0",
    "order/b",
    "order/~",
]
"""Ascending. A slash comes between a dot and a digit, so an object in a folder comes between objects beside it."""

_NO_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/..",
    "../a",
    "a/./b",
    "a b",
    "a\n",
    "a\\b",
    "ä",
    "a%b",
    "a+b",
    "a:b",
]
"""Not even ``a/../b``: a store must not be led out of its root."""


class ObjectStoreContract:
    """Inherit it, and give it a store."""

    racers: int = 4
    """How many race for one key."""
    race_rounds: int = 40
    """How often. A window of a microsecond is rarely met at once."""
    many: int = 250
    """How many objects a long listing has; more than one page, where listings come in pages."""
    big_bytes: int = 16 << 20
    """How large a large object is: what `ObjectStore.create` takes at most."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """An empty store, to be given by the heir."""
        raise NotImplementedError("give this suite a fixture `store` that returns an empty store")

    @pytest.fixture
    def reopen(self) -> Reopen | None:
        """What opens another client of the same bytes; it must be picklable if the store is shared."""
        return None

    # --- create -------------------------------------------------------------------------------------------------------

    def test_a_key_is_created_once_and_keeps_its_first_bytes(self, store: ObjectStore) -> None:
        assert store.create("claims/w/1", b"first") is True
        assert store.create("claims/w/1", b"second") is False
        assert store.read("claims/w/1") == b"first"
        assert store.create("claims/w/1", b"first") is False, "its own bytes are another's all the same"
        assert store.read("claims/w/1") == b"first"

    def test_a_created_object_holds_the_bytes_as_they_were(self, store: ObjectStore) -> None:
        buffer = bytearray(b"before")
        store.create("a", buffer)
        store.create("b", memoryview(buffer))
        store.create("c", memoryview(bytes(range(256)))[::-1].tobytes())
        store.create("d", memoryview(array.array("d", [1.5, 2.5])))
        buffer[:] = b"after!"
        assert [store.read(key) for key in ("a", "b")] == [b"before", b"before"]
        assert store.read("c") == bytes(reversed(range(256)))
        assert store.read("d") == array.array("d", [1.5, 2.5]).tobytes()

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        assert store.create("empty", b"")
        assert store.read("empty") == b""
        assert list(store.list("")) == ["empty"]
        assert not store.create("empty", b"more")

    def test_an_object_of_the_largest_size_is_created_whole(self, store: ObjectStore) -> None:
        data = random.Random(16).randbytes(self.big_bytes)
        assert store.create("big", data)
        assert store.read("big") == data
        assert store.read("big", start=self.big_bytes - 3) == data[-3:]

    def test_of_racing_threads_exactly_one_creates_a_key_and_no_reader_sees_a_part(self, store: ObjectStore) -> None:
        for number in range(self.race_rounds):
            key = f"race/{number}"
            offers = [bytes([65 + racer]) * (1000 + 20_000 * racer) for racer in range(self.racers)]
            with _watched(store, key) as seen:
                won = _race([_creator(store, key, offer) for offer in offers])
            assert won.count(True) == 1, f"of {self.racers} creators of {key}, {won.count(True)} were told they won"
            winner = offers[won.index(True)]
            assert store.read(key) == winner, "the object does not hold the bytes of the one who was told it won"
            assert seen <= {winner}, (
                f"readers saw objects of {sorted(map(len, seen))} bytes; the winner's has {len(winner)}"
            )

    def test_of_racing_processes_exactly_one_creates_a_key(self, store: ObjectStore, reopen: Reopen | None) -> None:
        keys = [f"race/{number}/of-processes" for number in range(self.race_rounds)]
        with peers(_for_other_processes(store, reopen), 2) as racers:
            for number, peer in enumerate(racers):
                peer.start("create", keys, bytes([65 + number]) * 5000)
            won = [peer.answer() for peer in racers]
        for key, *each in zip(keys, *won, strict=True):
            assert each.count(True) == 1, f"of {len(racers)} processes, {each.count(True)} were told they created {key}"
            assert store.read(key) == bytes([65 + each.index(True)]) * 5000

    def test_another_process_sees_what_was_just_created(self, store: ObjectStore, reopen: Reopen | None) -> None:
        with peers(_for_other_processes(store, reopen), 1) as (peer,):
            for number in range(5):
                store.create(f"seen/{number}", b"now")
                assert peer.call("read", f"seen/{number}") == b"now"
                assert peer.call("keys", "seen/") == [f"seen/{each}" for each in range(number + 1)]
                peer.call("create", [f"back/{number}"], b"too")
                assert store.read(f"back/{number}") == b"too"

    def test_a_folder_that_others_empty_and_remove_can_be_created_in(
        self, store: ObjectStore, reopen: Reopen | None
    ) -> None:
        with peers(_for_other_processes(store, reopen), 2) as churners:
            for peer in churners:
                peer.start("churn", "inbox/w/event", self.race_rounds)
            for number in range(self.race_rounds):
                key = f"inbox/w/event/kept-{number}"
                assert store.create(key, b"kept")
                assert store.read(key) == b"kept"
                store.delete(key)
            for peer in churners:
                peer.answer()
        assert list(store.list("")) == []

    # --- read ---------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [10, 600_000])
    def test_a_read_returns_the_range_that_was_asked_for(self, store: ObjectStore, size: int) -> None:
        data = random.Random(size).randbytes(size)
        store.write("ranges", [data])
        ends = [0, 1, 5, size // 2, size - 1, size, size + 1, 2 * size]
        for start in ends:
            assert store.read("ranges", start=start) == data[start:]
            for end in ends:
                assert store.read("ranges", start=start, end=end) == data[start:end], (start, end)

    def test_a_read_of_a_missing_key_says_so(self, store: ObjectStore) -> None:
        store.create("a/b", b"")
        for key in ("missing", "missing/deeper", "a", "a/b/c"):
            with pytest.raises(ObjectNotFoundError) as caught:
                store.read(key)
            assert caught.value.key == key
            with pytest.raises(ObjectNotFoundError):
                store.read(key, start=0, end=0)

    def test_a_negative_offset_is_refused(self, store: ObjectStore) -> None:
        store.create("key", b"abc")
        for start, end in ((-1, None), (0, -1)):
            with pytest.raises(UsageError):
                store.read("key", start=start, end=end)

    @pytest.mark.parametrize("size", [10, 600_000])
    def test_what_was_read_is_the_readers_to_keep(self, store: ObjectStore, size: int) -> None:
        data = random.Random(size).randbytes(size)
        store.write("kept", [data])
        first = store.read("kept")
        if not isinstance(first, bytes) and not memoryview(first).readonly:
            first[:3] = b"xyz"
        assert store.read("kept") == data
        held = bytes(first)
        store.delete("kept")
        assert first == held

    # --- write --------------------------------------------------------------------------------------------------------

    def test_a_written_object_is_its_chunks_one_after_the_other(self, store: ObjectStore) -> None:
        numbers = array.array("d", range(1000))
        store.write("blob", [b"head", bytearray(b"-"), memoryview(numbers), b"", memoryview(b"tail")])
        assert store.read("blob") == b"head-" + numbers.tobytes() + b"tail"
        store.write("none", [])
        assert store.read("none") == b""

    def test_chunks_are_taken_as_they_come_and_not_held(self, store: ObjectStore) -> None:
        def chunks() -> Iterator[bytearray]:
            buffer = bytearray(4096)
            for number in range(50):
                buffer[:] = bytes([number]) * 4096
                yield buffer

        store.write("stream", chunks())
        assert store.read("stream") == b"".join(bytes([number]) * 4096 for number in range(50))

    def test_an_object_larger_than_create_takes_is_written_whole(self, store: ObjectStore) -> None:
        piece = random.Random(5).randbytes(self.big_bytes // 2 + 12_345)
        store.write("big", (piece for _ in range(3)))
        assert store.read("big") == piece * 3

    def test_a_write_is_seen_whole_or_not_at_all(self, store: ObjectStore) -> None:
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            assert list(store.list("")) == []
            with pytest.raises(ObjectNotFoundError):
                store.read("blobs/w/0")

        store.write("blobs/w/0", _interrupted(look))
        assert looks == 4
        assert store.read("blobs/w/0") == b"abc" * 1000

    def test_writing_the_same_bytes_again_disturbs_no_reader(self, store: ObjectStore) -> None:
        def look() -> None:
            assert store.read("blob") == b"abc" * 1000

        store.write("blob", [b"abc" * 1000])
        store.write("blob", _interrupted(look))
        with _watched(store, "blob") as seen:
            _race([lambda: store.write("blob", [b"abc" * 500, b"abc" * 500])] * self.racers)
        assert seen == {b"abc" * 1000}
        assert list(store.list("")) == ["blob"]

    def test_a_write_whose_chunks_fail_leaves_nothing(self, store: ObjectStore) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x" * 100_000
            raise OSError("the chunks' own trouble")

        with pytest.raises(OSError, match="the chunks' own trouble"):
            store.write("half", chunks())
        assert list(store.list("")) == []
        with pytest.raises(ObjectNotFoundError):
            store.read("half")

    def test_a_written_key_is_taken(self, store: ObjectStore) -> None:
        store.write("blob", [b"written"])
        assert not store.create("blob", b"created")
        assert store.read("blob") == b"written"

    # --- list ---------------------------------------------------------------------------------------------------------

    def test_a_listing_is_in_ascending_order(self, store: ObjectStore) -> None:
        for key in random.Random(1).sample(_IN_ORDER, len(_IN_ORDER)):
            store.create(key, b"")
        assert list(store.list("")) == _IN_ORDER
        assert list(store.list("order/")) == _IN_ORDER

    def test_a_prefix_is_a_plain_string(self, store: ObjectStore) -> None:
        keys = ["a/b", "ab/c", "abc", "b/a/1", "b/a/2", "b/ab", "b/c", "c"]
        for key in keys:
            store.create(key, b"")
        for prefix in (
            "",
            "a",
            "a/",
            "ab",
            "ab/",
            "abc",
            "abcd",
            "b/a",
            "b/a/",
            "b/a/1",
            "b/a/1/",
            "c/",
            "d",
            "b/.",
            "b/..",
        ):
            assert list(store.list(prefix)) == [key for key in keys if key.startswith(prefix)], prefix

    def test_a_prefix_that_begins_no_key_is_refused(self, store: ObjectStore) -> None:
        for prefix in ("/", "a//", "../", "a/../", "./", "a b", "ä", "*"):
            with pytest.raises(UsageError):
                list(store.list(prefix))

    def test_a_long_listing_is_complete(self, store: ObjectStore) -> None:
        keys = [f"many/{number:05}" for number in range(self.many)]
        _race([_creator_of_all(store, keys[racer :: self.racers]) for racer in range(self.racers)])
        assert list(store.list("many/")) == keys
        assert list(store.list("many/000")) == keys[:100]

    def test_a_listing_shows_what_was_just_made_and_not_what_was_just_removed(self, store: ObjectStore) -> None:
        for number in range(20):
            store.create(f"now/{number:02}", b"")
            assert list(store.list("now/"))[-1] == f"now/{number:02}"
        for number in range(20):
            store.delete(f"now/{number:02}")
            assert list(store.list("now/")) == [f"now/{left:02}" for left in range(number + 1, 20)]

    def test_a_listing_bears_removals_while_it_is_read(self, store: ObjectStore) -> None:
        keys = [f"folder-{number}/{name}" for number in range(5) for name in ("gone", "kept")]
        for key in keys:
            store.create(key, b"")
        listing = store.list("")
        listed = [next(listing)]
        for number in range(5):
            store.delete(f"folder-{number}/gone")
        listed += listing
        assert [key for key in listed if key.endswith("kept")] == [f"folder-{number}/kept" for number in range(5)]
        assert listed == sorted(set(listed))
        assert set(listed) <= set(keys)

    def test_a_listing_misses_nothing_however_busy_its_neighbours_are(self, store: ObjectStore) -> None:
        kept = {f"busy/{number:03}" for number in range(0, 30, 3)}
        for key in kept:
            store.create(key, b"")

        def come_and_go() -> None:
            for number in range(30):
                if number % 3:
                    store.create(f"busy/{number:03}", b"")
                    store.create(f"busy/x/{number:03}", b"")
                    store.delete(f"busy/{number:03}")
                    store.delete(f"busy/x/{number:03}")

        def look() -> None:
            for _ in range(30):
                listed = list(store.list("busy/"))
                assert listed == sorted(set(listed))
                assert kept <= set(listed)

        _race([come_and_go, look])

    # --- delete -------------------------------------------------------------------------------------------------------

    def test_a_deleted_key_is_free_again(self, store: ObjectStore) -> None:
        store.create("a/b/c", b"1")
        store.create("a/b/d", b"2")
        store.delete("a/b/c")
        with pytest.raises(ObjectNotFoundError):
            store.read("a/b/c")
        assert list(store.list("")) == ["a/b/d"]
        assert store.create("a/b/c", b"3")
        assert store.read("a/b/c") == b"3"
        assert store.read("a/b/d") == b"2"

    def test_deleting_what_does_not_exist_is_no_error(self, store: ObjectStore) -> None:
        store.create("a/b", b"")
        for key in ("missing", "missing/deeper", "a", "a/b/c"):
            store.delete(key)
        assert list(store.list("")) == ["a/b"]

    def test_a_key_deleted_by_many_at_once_is_gone(self, store: ObjectStore) -> None:
        for number in range(self.race_rounds):
            store.create(f"gone/{number}", b"")
            _race([lambda key=f"gone/{number}": store.delete(key)] * self.racers)  # type: ignore[misc]
        assert list(store.list("")) == []

    # --- keys ---------------------------------------------------------------------------------------------------------

    def test_every_character_a_key_may_have_is_kept(self, store: ObjectStore) -> None:
        keys = [
            "...",
            "..a",
            ".a",
            "-",
            "_",
            "~",
            "a..b",
            "Abc",
            "abC",
            "x" * 255,
            "/".join(["y" * 200] * 4),
            "0/1/2/3/4/5",
        ]
        for number, key in enumerate(keys):
            assert store.create(key, str(number).encode())
        assert list(store.list("")) == sorted(keys)
        for number, key in enumerate(keys):
            assert store.read(key) == str(number).encode()

    def test_what_is_no_key_is_refused_by_every_verb(self, store: ObjectStore) -> None:
        for key in [*_NO_KEYS, "x" * 256, "x/" * 500 + "x", 7, None]:
            for verb in _verbs(store, key):
                with pytest.raises(UsageError):
                    verb()
        assert list(store.list("")) == []

    def test_a_key_beneath_an_object_does_it_no_harm(self, store: ObjectStore) -> None:
        store.create("object", b"1")
        store.create("folder/object", b"2")
        refused = []
        for key in ("object/beneath", "folder"):
            try:
                store.create(key, b"3")
            except UsageError:
                refused.append(key)
                with pytest.raises(UsageError):
                    store.write(key, [b"3"])
        assert (store.read("object"), store.read("folder/object")) == (b"1", b"2")
        stored = {key for key in ("object/beneath", "folder") if key not in refused}
        assert set(store.list("")) == {"object", "folder/object"} | stored

    # --- the whole ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("seed", range(3))
    def test_it_does_what_a_dictionary_does(self, store: ObjectStore, seed: int) -> None:
        chance = random.Random(seed)
        keys = ["a/1", "a/2", "ab", "b/c/1", "b/c/2", "b/d", "c", "d/e/f/g"]
        model: dict[str, bytes] = {}
        for _ in range(150):
            key, data = chance.choice(keys), chance.randbytes(chance.choice((0, 1, 100)))
            match chance.choice(("create", "create", "read", "write", "delete", "list")):
                case "create":
                    assert store.create(key, data) is (key not in model)
                    model.setdefault(key, data)
                case "read":
                    start, end = chance.choice((0, 1, 60)), chance.choice((None, 0, 1, 60, 200))
                    if key in model:
                        assert store.read(key, start=start, end=end) == model[key][start:end]
                    else:
                        with pytest.raises(ObjectNotFoundError):
                            store.read(key, start=start, end=end)
                case "write":
                    data = model.get(key, data)  # objects do not change
                    store.write(key, [data[:1], data[1:]])
                    model[key] = data
                case "delete":
                    store.delete(key)
                    model.pop(key, None)
                case "list":
                    prefix = key[: chance.randrange(len(key) + 1)]
                    assert list(store.list(prefix)) == sorted(each for each in model if each.startswith(prefix))
        assert {key: store.read(key) for key in store.list("")} == model

    def test_two_clients_see_one_store(self, store: ObjectStore, reopen: Reopen | None) -> None:
        with contextlib.closing(_second_client(store, reopen)) as other:
            assert (other.url, other.shared) == (store.url, store.shared)
            assert store.create("a", b"1")
            assert not other.create("a", b"2")
            assert other.read("a") == b"1"
            other.write("b", [b"3"])
            assert list(store.list("")) == list(other.list("")) == ["a", "b"]
            other.delete("a")
            with pytest.raises(ObjectNotFoundError):
                store.read("a")

    def test_a_store_that_says_it_is_shared_can_be_reopened(self, store: ObjectStore, reopen: Reopen | None) -> None:
        assert isinstance(store.shared, bool)
        assert "://" in store.url
        assert reopen is not None or not store.shared, (
            "give this suite a fixture `reopen`; a shared store is raced by processes"
        )

    # --- close --------------------------------------------------------------------------------------------------------

    def test_a_closed_store_refuses_everything_but_to_be_closed(self, store: ObjectStore) -> None:
        store.create("key", b"")
        store.close()
        store.close()
        for verb in _verbs(store, "key"):
            with pytest.raises(UsageError):
                verb()
        with pytest.raises(UsageError):
            list(store.list(""))

    def test_what_was_stored_outlives_its_client(self, store: ObjectStore, reopen: Reopen | None) -> None:
        with contextlib.closing(_second_client(store, reopen)) as other:
            store.create("key", b"kept")
            store.close()
            assert other.read("key") == b"kept"

    # --- append -------------------------------------------------------------------------------------------------------

    def test_an_appender_makes_an_empty_object_and_adds_at_its_end(self, store: ObjectStore) -> None:
        log = _begin_log(store, "journals/j/1")
        assert store.read("journals/j/1") == b""
        assert list(store.list("journals/")) == ["journals/j/1"]
        expected = b""
        for number in range(20):
            batch = bytes([number]) * (number * 50)
            log.append((batch, bytearray(batch), memoryview(batch))[number % 3])
            expected += batch
            assert store.read("journals/j/1") == expected
        assert store.read("journals/j/1", start=40, end=160) == expected[40:160]
        log.close()
        assert store.read("journals/j/1") == expected

    def test_only_a_key_that_does_not_exist_can_be_appended_to(self, store: ObjectStore) -> None:
        log = _begin_log(store, "log")
        log.append(b"mine")
        store.create("created", b"whole")
        store.write("written", [b"whole"])
        assert [_appends(store).appender(key) for key in ("log", "created", "written")] == [None] * 3
        log.close()
        assert _appends(store).appender("log") is None
        assert not store.create("log", b"other")
        assert [bytes(store.read(key)) for key in ("created", "log", "written")] == [b"whole", b"mine", b"whole"]

    def test_of_racing_threads_exactly_one_may_append(self, store: ObjectStore) -> None:
        appends = _appends(store)
        for number in range(self.race_rounds):
            given = _race([lambda key=f"logs/{number}": appends.appender(key)] * self.racers)  # type: ignore[misc]
            (log,) = [each for each in given if each is not None]
            log.append(b"mine")
            assert store.read(f"logs/{number}") == b"mine"
            log.close()

    def test_of_racing_processes_exactly_one_may_append(self, store: ObjectStore, reopen: Reopen | None) -> None:
        _appends(store)
        keys = [f"logs/{number}" for number in range(self.race_rounds)]
        with peers(_for_other_processes(store, reopen), 2) as racers:
            for peer in racers:
                peer.start("begin_logs", keys)
            given = [peer.answer() for peer in racers]
        for key, *each in zip(keys, *given, strict=True):
            assert each.count(True) == 1, f"{each.count(True)} processes were given an appender of {key}"
            assert store.read(key) == b""

    def test_what_a_killed_process_appended_stays(self, store: ObjectStore, reopen: Reopen | None) -> None:
        _appends(store)
        with peers(_for_other_processes(store, reopen), 1) as (peer,):
            assert peer.call("begin_logs", ["log"]) == [True]
            for number in range(5):
                peer.call("append", "log", bytes([number]) * 100)
            peer.kill()
        assert store.read("log") == b"".join(bytes([number]) * 100 for number in range(5))
        assert _appends(store).appender("log") is None

    def test_a_reader_of_a_log_sees_a_beginning_of_it(self, store: ObjectStore) -> None:
        log = _begin_log(store, "log")
        batches = [bytes([number]) * 3000 for number in range(self.race_rounds)]
        with _watched(store, "log") as seen:
            for batch in batches:
                log.append(batch)
        log.close()
        whole = b"".join(batches)
        assert store.read("log") == whole
        assert all(whole.startswith(part) for part in seen)

    def test_one_append_may_be_large(self, store: ObjectStore) -> None:
        log = _begin_log(store, "log")
        data = random.Random(8).randbytes(self.big_bytes)
        log.append(b"small")
        log.append(data)
        log.append(b"small")
        log.close()
        assert store.read("log") == b"small" + data + b"small"

    def test_a_closed_appender_refuses_to_append(self, store: ObjectStore) -> None:
        log, other = _begin_log(store, "log"), _begin_log(store, "other")
        log.append(b"kept")
        log.close()
        log.close()
        with pytest.raises(UsageError):
            log.append(b"late")
        assert store.read("log") == b"kept"
        store.close()
        with pytest.raises(UsageError):
            other.append(b"late")

    # --- locks --------------------------------------------------------------------------------------------------------

    def test_a_lock_excludes_until_it_is_released(self, store: ObjectStore) -> None:
        locks = _locks(store)
        store.create("open/j", b"mine")
        store.create("open/k", b"other")
        assert not locks.is_locked("open/j")
        lock = _lock(store, "open/j")
        assert locks.is_locked("open/j")
        assert not locks.is_locked("open/k")
        assert locks.lock("open/j") is None
        assert store.read("open/j") == b"mine"
        lock.release()
        assert not locks.is_locked("open/j")
        _lock(store, "open/j").release()

    def test_a_lock_released_twice_takes_nothing_from_the_next_holder(self, store: ObjectStore) -> None:
        store.create("key", b"")
        first = _lock(store, "key")
        first.release()
        second = _lock(store, "key")
        first.release()
        assert _locks(store).is_locked("key")
        assert _locks(store).lock("key") is None
        second.release()

    def test_only_what_exists_can_be_locked(self, store: ObjectStore) -> None:
        store.create("folder/key", b"")
        for key in ("missing", "missing/deeper", "folder", "folder/key/beneath"):
            with pytest.raises(ObjectNotFoundError):
                _locks(store).lock(key)
            assert not _locks(store).is_locked(key)

    def test_a_lock_ends_with_its_object(self, store: ObjectStore) -> None:
        store.create("key", b"")
        old = _lock(store, "key")
        store.delete("key")
        assert not _locks(store).is_locked("key")
        store.create("key", b"")
        new = _lock(store, "key")
        old.release()
        assert _locks(store).is_locked("key")
        new.release()

    def test_a_log_can_be_locked_while_it_is_appended_to(self, store: ObjectStore) -> None:
        _locks(store)
        log = _begin_log(store, "log")
        lock = _lock(store, "log")
        log.append(b"more")
        assert store.read("log") == b"more"
        lock.release()
        log.close()

    def test_of_racing_threads_exactly_one_gets_the_lock(self, store: ObjectStore) -> None:
        store.create("key", b"")
        for _ in range(self.race_rounds):
            given = _race([lambda: _locks(store).lock("key")] * self.racers)
            (lock,) = [each for each in given if each is not None]
            lock.release()

    def test_asking_for_a_lock_never_gets_in_its_way(self, store: ObjectStore) -> None:
        store.create("key", b"")
        done = threading.Event()
        asked = 0

        def ask() -> None:
            nonlocal asked
            while not done.is_set():
                _locks(store).is_locked("key")
                asked += 1

        def lock() -> None:
            try:
                while asked < 50 * self.race_rounds:
                    _lock(store, "key").release()
            finally:
                done.set()

        _race([lock, ask])

    def test_a_closed_client_holds_no_lock(self, store: ObjectStore, reopen: Reopen | None) -> None:
        _locks(store)
        with contextlib.closing(_second_client(store, reopen)) as other:
            store.create("key", b"")
            held = _lock(store, "key")
            assert _locks(other).is_locked("key")
            assert _locks(other).lock("key") is None
            store.close()
            assert not _locks(other).is_locked("key")
            _lock(other, "key").release()
            held.release()

    def test_a_lock_excludes_other_processes(self, store: ObjectStore, reopen: Reopen | None) -> None:
        _locks(store)
        store.create("key", b"")
        keys = [f"locks/{number}" for number in range(self.race_rounds)]
        for key in keys:
            store.create(key, b"")
        with peers(_for_other_processes(store, reopen), 2) as (one, two):
            lock = _lock(store, "key")
            assert one.call("lock", ["key"]) == [False]
            assert one.call("is_locked", "key") == [True]
            lock.release()
            assert one.call("is_locked", "key") == [False]
            assert one.call("lock", ["key"]) == [True]
            assert _locks(store).lock("key") is None
            assert _locks(store).is_locked("key")
            one.call("release", "key")
            assert not _locks(store).is_locked("key")
            for peer in (one, two):
                peer.start("lock", keys)
            for key, *each in zip(keys, one.answer(), two.answer(), strict=True):
                assert each.count(True) == 1, f"{each.count(True)} processes hold {key}"

    def test_another_process_that_asks_never_gets_in_the_way(self, store: ObjectStore, reopen: Reopen | None) -> None:
        _locks(store)
        store.create("key", b"")
        with peers(_for_other_processes(store, reopen), 1) as (peer,):
            peer.start("is_locked", "key", 50 * self.race_rounds)
            while peer.is_busy():
                _lock(store, "key").release()
            peer.answer()

    def test_a_killed_process_holds_no_lock(self, store: ObjectStore, reopen: Reopen | None) -> None:
        _locks(store)
        store.create("key", b"")
        with peers(_for_other_processes(store, reopen), 1) as (peer,):
            assert peer.call("lock", ["key"]) == [True]
            assert _locks(store).is_locked("key")
            peer.kill()
            assert not _locks(store).is_locked("key")
            _lock(store, "key").release()

    def test_a_child_forked_by_the_holder_does_not_hold_its_lock(
        self, store: ObjectStore, reopen: Reopen | None
    ) -> None:
        _locks(store)
        store.create("key", b"")
        with peers(_for_other_processes(store, reopen), 1) as (peer,):
            assert peer.call("lock", ["key"]) == [True]
            child = peer.call("fork")
            assert _locks(store).is_locked("key")
            peer.kill()
            os.kill(child, 0)  # it lives
            assert not _locks(store).is_locked("key")
            _lock(store, "key").release()


# --- what the suite is made of ------------------------------------------------------------------------------------------


def _race(runners: "list[Callable[[], T]]") -> "list[T]":
    """Run all at once, in threads, and return what each returned; raise what the first of them raised."""
    barrier = threading.Barrier(len(runners))
    outcomes: list[Any] = [None] * len(runners)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(_DEADLINE_S)
            outcomes[number] = runners[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(runners))]
    with _busy_scheduler():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads), f"a call did not return within {_DEADLINE_S} s"
    if errors:
        raise errors[0]
    return outcomes


@contextlib.contextmanager
def _busy_scheduler() -> Iterator[None]:
    # The usual 5 ms between switches would let most calls finish undisturbed.
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@contextlib.contextmanager
def _watched(store: ObjectStore, key: str) -> "Iterator[set[bytes]]":
    """Read *key* as fast as can be while the block runs; yield the set of all that was seen."""
    seen: set[bytes] = set()
    done = threading.Event()
    errors: list[BaseException] = []

    def watch() -> None:
        try:
            while not done.is_set():
                with contextlib.suppress(ObjectNotFoundError):
                    seen.add(bytes(store.read(key)))
        except BaseException as error:
            errors.append(error)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join(_DEADLINE_S)
    assert not watcher.is_alive(), f"a read did not return within {_DEADLINE_S} s"
    if errors:
        raise errors[0]


def _creator(store: ObjectStore, key: str, data: bytes) -> Callable[[], bool]:
    return lambda: store.create(key, data)


def _creator_of_all(store: ObjectStore, keys: Iterable[str]) -> Callable[[], None]:
    def create() -> None:
        for key in keys:
            store.create(key, b"")

    return create


def _interrupted(look: Callable[[], None]) -> Iterator[bytes]:
    for letter in (b"abc" * 250, b"abc" * 250, b"abc" * 499, b"abc"):
        yield letter
        look()


def _verbs(store: ObjectStore, key: Any) -> "list[Callable[[], object]]":
    verbs: list[Callable[[], object]] = [
        lambda: store.create(key, b""),
        lambda: store.read(key),
        lambda: store.write(key, [b""]),
        lambda: store.delete(key),
    ]
    if isinstance(store, SupportsAppend):
        verbs.append(lambda: store.appender(key))
    if isinstance(store, SupportsLocks):
        verbs += [lambda: store.lock(key), lambda: store.is_locked(key)]
    return verbs


def _for_other_processes(store: ObjectStore, reopen: Reopen | None) -> Reopen:
    if not store.shared:
        pytest.skip("other processes cannot see this store")
    if reopen is None:
        pytest.skip("no fixture `reopen`")
    return reopen


def _second_client(store: ObjectStore, reopen: Reopen | None) -> ObjectStore:
    if reopen is None:
        pytest.skip("no fixture `reopen`")
    return reopen()


def _appends(store: ObjectStore) -> SupportsAppend:
    if not isinstance(store, SupportsAppend):
        pytest.skip("this store has no appends")
    return store


def _begin_log(store: ObjectStore, key: str) -> Appender:
    log = _appends(store).appender(key)
    assert log is not None, f"no appender was given for the new key {key}"
    return log


def _locks(store: ObjectStore) -> SupportsLocks:
    if not isinstance(store, SupportsLocks):
        pytest.skip("this store has no locks")
    return store


def _lock(store: ObjectStore, key: str) -> Lock:
    lock = _locks(store).lock(key)
    assert lock is not None, f"{key} is free and could not be locked"
    return lock
