import time
from functools import partial

import pytest

from exoflow.errors import ObjectNotFoundError
from exoflow.stores.contract import SupportsAppend, SupportsLocks
from exoflow.stores.memory import MemoryStore
from exoflow.testing.stores import ObjectStoreContract
from exoflow.testing.suites import run_suite


class QuickContract(ObjectStoreContract):
    big_bytes = 1 << 16


def _let_others_run():
    for _ in range(20):
        time.sleep(0)


class StoreWithABug(MemoryStore):
    """A good store, with means to go round its guards."""

    fails = ()
    """Tests that must notice."""

    def put(self, key, content):
        self._space.objects.pop(key, None)
        self._space.add(key, content)

    def has(self, key):
        return key in self._space.objects


class CreatesAfterALook(StoreWithABug):
    fails = ("test_of_racing_threads_exactly_one_creates_a_key_and_no_reader_sees_a_part",)

    def create(self, key, data, *, timeout_s=30.0):
        if self.has(key):
            return False
        _let_others_run()
        return super().create(key, data) or True


class CreatesEmptyAndThenFills(StoreWithABug):
    fails = ("test_of_racing_threads_exactly_one_creates_a_key_and_no_reader_sees_a_part",)

    def create(self, key, data, *, timeout_s=30.0):
        won = super().create(key, b"")
        if won:
            _let_others_run()
            self._space.objects[key] = bytes(data)
        return won


class CreatesHalfAndThenTheRest(StoreWithABug):
    fails = ("test_of_racing_threads_exactly_one_creates_a_key_and_no_reader_sees_a_part",)

    def create(self, key, data, *, timeout_s=30.0):
        won = super().create(key, bytes(data)[: len(data) // 2])
        if won:
            _let_others_run()
            self._space.objects[key] = bytes(data)
        return won


class CreatesOverWhatIsThere(StoreWithABug):
    fails = (
        "test_a_key_is_created_once_and_keeps_its_first_bytes",
        "test_of_racing_threads_exactly_one_creates_a_key_and_no_reader_sees_a_part",
        "test_it_does_what_a_dictionary_does[0]",
    )

    def create(self, key, data, *, timeout_s=30.0):
        if not super().create(key, data):
            self.put(key, bytes(data))
        return True


class LosesAndOverwritesAllTheSame(StoreWithABug):
    fails = ("test_a_key_is_created_once_and_keeps_its_first_bytes", "test_a_written_key_is_taken")

    def create(self, key, data, *, timeout_s=30.0):
        won = super().create(key, data)
        if not won:
            self.put(key, bytes(data))
        return won


class TakesTheSameBytesForItsOwn(StoreWithABug):
    fails = ("test_a_key_is_created_once_and_keeps_its_first_bytes",)

    def create(self, key, data, *, timeout_s=30.0):
        return super().create(key, data) or self.read(key) == data


class KeepsTheCallersBuffer(StoreWithABug):
    fails = ("test_a_created_object_holds_the_bytes_as_they_were",)

    def create(self, key, data, *, timeout_s=30.0):
        won = super().create(key, data)
        if won and isinstance(data, bytearray):
            self._space.objects[key] = data
        return won


class HasNoEmptyObjects(StoreWithABug):
    fails = ("test_an_empty_object_is_an_object",)

    def create(self, key, data, *, timeout_s=30.0):
        return super().create(key, data) if len(data) else not self.has(key)


class IgnoresWhereARangeEnds(StoreWithABug):
    fails = ("test_a_read_returns_the_range_that_was_asked_for[10]", "test_it_does_what_a_dictionary_does[1]")

    def read(self, key, *, start=0, end=None):
        return super().read(key, start=start)


class TakesTheEndForALength(StoreWithABug):
    fails = ("test_a_read_returns_the_range_that_was_asked_for[10]",)

    def read(self, key, *, start=0, end=None):
        return super().read(key, start=start, end=None if end is None else start + end)


class FailsWhereARangeIsPastTheEnd(StoreWithABug):
    fails = ("test_a_read_returns_the_range_that_was_asked_for[10]",)

    def read(self, key, *, start=0, end=None):
        if start > len(super().read(key)):
            raise OSError("416")
        return super().read(key, start=start, end=end)


class ReadsNothingWhereNothingIs(StoreWithABug):
    fails = ("test_a_read_of_a_missing_key_says_so", "test_a_deleted_key_is_free_again")

    def read(self, key, *, start=0, end=None):
        try:
            return super().read(key, start=start, end=end)
        except ObjectNotFoundError:
            return b""


class ReadsItsOwnBuffer(StoreWithABug):
    fails = ("test_what_was_read_is_the_readers_to_keep[10]",)

    def write(self, key, chunks):
        super().write(key, chunks)
        self._space.objects[key] = bytearray(self._space.objects[key])

    def read(self, key, *, start=0, end=None):
        whole = super().read(key, start=start, end=end)
        return self._space.objects[key] if (start, end) == (0, None) else whole


class ShowsWritesAsTheyGrow(StoreWithABug):
    fails = (
        "test_a_write_is_seen_whole_or_not_at_all",
        "test_writing_the_same_bytes_again_disturbs_no_reader",
        "test_a_write_whose_chunks_fail_leaves_nothing",
    )

    def write(self, key, chunks):
        content = b""
        for chunk in chunks:
            content += bytes(chunk)
            super().write(key, [content])


class ShowsAnEmptyObjectWhileWriting(StoreWithABug):
    fails = ("test_a_write_is_seen_whole_or_not_at_all",)

    def write(self, key, chunks):
        self.create(key, b"")
        super().write(key, chunks)


class HoldsChunksUntilTheEnd(StoreWithABug):
    fails = ("test_chunks_are_taken_as_they_come_and_not_held",)

    def write(self, key, chunks):
        super().write(key, list(chunks))


class ListsInOrderOfCreation(StoreWithABug):
    fails = ("test_a_listing_is_in_ascending_order", "test_it_does_what_a_dictionary_does[0]")

    def list(self, prefix):
        known = set(super().list(prefix))
        return iter([key for key in self._space.objects if key in known])


class ListsFolderByFolder(StoreWithABug):
    fails = ("test_a_listing_is_in_ascending_order",)

    def list(self, prefix):
        return iter(sorted(super().list(prefix), key=lambda key: key.split("/")))


class TakesAPrefixForAFolder(StoreWithABug):
    fails = ("test_a_prefix_is_a_plain_string",)

    def list(self, prefix):
        folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
        return super().list(folder)


class ListsOnePageOnly(StoreWithABug):
    fails = ("test_a_long_listing_is_complete",)

    def list(self, prefix):
        return iter([*super().list(prefix)][:100])


class ListsWhatWasThereAMomentAgo(StoreWithABug):
    fails = ("test_a_listing_shows_what_was_just_made_and_not_what_was_just_removed",)

    def list(self, prefix):
        newest = next(reversed(self._space.objects), None)
        return (key for key in super().list(prefix) if key != newest)


class ListsWhatWasDeleted(StoreWithABug):
    fails = ("test_a_deleted_key_is_free_again",)

    def delete(self, key):
        self.deleted = {*getattr(self, "deleted", ()), key} if self.has(key) else set()
        super().delete(key)

    def list(self, prefix):
        return iter(sorted({*super().list(prefix), *getattr(self, "deleted", ())}))


class FailsToListWhatIsBeingDeleted(StoreWithABug):
    fails = ("test_a_listing_bears_removals_while_it_is_read",)

    def list(self, prefix):
        for key in super().list(prefix):
            if not self.has(key):
                raise OSError(f"{key} is gone")
            yield key


class FailsToDeleteWhatIsNotThere(StoreWithABug):
    fails = ("test_deleting_what_does_not_exist_is_no_error", "test_a_key_deleted_by_many_at_once_is_gone")

    def delete(self, key):
        if not self.has(key):
            raise ObjectNotFoundError(key)
        super().delete(key)


class DeletesAllThatStartsSo(StoreWithABug):
    fails = ("test_deleting_what_does_not_exist_is_no_error",)

    def delete(self, key):
        for each in list(MemoryStore.list(self, key)):
            super().delete(each)


class TellsNoCaseApart(StoreWithABug):
    fails = ("test_every_character_a_key_may_have_is_kept",)

    def create(self, key, data, *, timeout_s=30.0):
        return super().create(key.lower(), data)


class TakesAnythingForAKey(StoreWithABug):
    fails = ("test_what_is_no_key_is_refused_by_every_verb",)

    def read(self, key, *, start=0, end=None):
        if key == "a/..":
            raise ObjectNotFoundError(key)
        return super().read(key, start=start, end=end)


class GoesOnAfterItWasClosed(StoreWithABug):
    fails = ("test_a_closed_store_refuses_everything_but_to_be_closed",)

    def close(self):
        pass


class ForgetsWhenAClientCloses(StoreWithABug):
    fails = ("test_what_was_stored_outlives_its_client",)

    def close(self):
        for key in [*self._space.objects]:
            self._space.remove(key)
        super().close()


class SaysItIsSharedAndIsNot(StoreWithABug):
    fails = ("test_a_store_that_says_it_is_shared_can_be_reopened",)
    shared = True


class _Log:
    def __init__(self, store, key, log):
        self.store, self.key, self.log = store, key, log

    def append(self, data):
        self.log.append(data)

    def close(self):
        self.log.close()


class AppendsInFront(StoreWithABug):
    fails = (
        "test_an_appender_makes_an_empty_object_and_adds_at_its_end",
        "test_a_reader_of_a_log_sees_a_beginning_of_it",
    )

    def appender(self, key):
        class Log(_Log):
            def append(self, data):
                self.log.append(b"")  # raises if closed
                content = self.store._space.objects[self.key]
                content[:0] = data

        log = super().appender(key)
        return log and Log(self, key, log)


class AppendsToWhatIsThere(StoreWithABug):
    fails = ("test_only_a_key_that_does_not_exist_can_be_appended_to", "test_of_racing_threads_exactly_one_may_append")

    def appender(self, key):
        from exoflow.stores.memory import _MemoryAppender

        return super().appender(key) or _MemoryAppender(self, key, bytearray())


class AppendsWhenTheLogIsClosed(StoreWithABug):
    fails = (
        "test_an_appender_makes_an_empty_object_and_adds_at_its_end",
        "test_a_log_can_be_locked_while_it_is_appended_to",
    )

    def appender(self, key):
        class Log(_Log):
            waiting = b""

            def append(self, data):
                self.log.append(b"")
                self.waiting += bytes(data)

            def close(self):
                if self.waiting:
                    self.log.append(self.waiting)
                self.waiting = b""
                self.log.close()

        log = super().appender(key)
        return log and Log(self, key, log)


class AppendsNothingUntilTheFirstAppend(StoreWithABug):
    fails = ("test_an_appender_makes_an_empty_object_and_adds_at_its_end",)

    def appender(self, key):
        class Log(_Log):
            def append(self, data):
                if self.log is None:
                    self.log = MemoryStore.appender(self.store, self.key)
                self.log.append(data)

            def close(self):
                if self.log is not None:
                    self.log.close()

        self._check_open()
        return None if self.has(key) else Log(self, key, None)


class AppendsAfterClosing(StoreWithABug):
    fails = ("test_a_closed_appender_refuses_to_append",)

    def appender(self, key):
        class Log(_Log):
            def close(self):
                pass

        log = super().appender(key)
        return log and Log(self, key, log)


class _NoLock:
    def release(self):
        pass


class LocksEverybody(StoreWithABug):
    fails = ("test_a_lock_excludes_until_it_is_released", "test_of_racing_threads_exactly_one_gets_the_lock")

    def lock(self, key):
        return super().lock(key) or _NoLock()


class LocksOncePerClientOnly(StoreWithABug):
    fails = ("test_a_closed_client_holds_no_lock",)

    def lock(self, key):
        mine = any(lock._key == key for lock in self._locks)
        return super().lock(key) or (None if mine else _NoLock())


class LocksToAsk(StoreWithABug):
    fails = ("test_asking_for_a_lock_never_gets_in_its_way",)

    def is_locked(self, key):
        try:
            lock = self.lock(key)
        except ObjectNotFoundError:
            return False
        if lock is None:
            return True
        _let_others_run()
        lock.release()
        return False


class ReleasesWhoeverHoldsIt(StoreWithABug):
    fails = ("test_a_lock_released_twice_takes_nothing_from_the_next_holder",)

    def lock(self, key):
        lock = super().lock(key)
        if lock is not None:
            lock.release = partial(self._space.holders.pop, key, None)
        return lock


class KeepsItsLocksWhenClosed(StoreWithABug):
    fails = ("test_a_closed_client_holds_no_lock",)

    def close(self):
        self._closed = True


class LocksWhatIsNotThere(StoreWithABug):
    fails = ("test_only_what_exists_can_be_locked",)

    def lock(self, key):
        return super().lock(key) if self.has(key) else _NoLock()


class LocksTheNameAndNotTheObject(StoreWithABug):
    fails = ("test_a_lock_ends_with_its_object",)

    def delete(self, key):
        holder = self._space.holders.get(key)
        super().delete(key)
        if holder is not None:
            self._space.holders[key] = holder


def _outcomes(kind, only=None):
    def fixtures():
        store = kind()
        return {"store": store, "reopen": None if kind.shared else partial(kind.open, store.url)}

    return run_suite(QuickContract(), fixtures, only=only)


def test_a_store_without_a_bug_passes_the_contract():
    outcomes = _outcomes(MemoryStore)
    assert outcomes.failed == {}
    assert len(outcomes.passed) > 40


@pytest.mark.parametrize("kind", StoreWithABug.__subclasses__(), ids=lambda kind: kind.__name__)
def test_the_contract_finds_a_planted_bug(kind):
    assert kind.fails
    assert set(_outcomes(kind, only=kind.fails).failed) == set(kind.fails)


class FiveVerbs:
    """A store that can do nothing more."""

    def __init__(self):
        inner = MemoryStore()
        self.url, self.shared = inner.url, False
        for verb in ("create", "read", "write", "list", "delete", "close"):
            setattr(self, verb, getattr(inner, verb))


def test_a_store_of_five_verbs_passes_and_is_asked_for_nothing_more():
    assert not isinstance(FiveVerbs(), SupportsAppend | SupportsLocks)
    outcomes = run_suite(QuickContract(), lambda: {"store": FiveVerbs(), "reopen": None})
    assert outcomes.failed == {}
    assert {"test_a_lock_excludes_until_it_is_released", "test_one_append_may_be_large"} <= set(outcomes.skipped)
