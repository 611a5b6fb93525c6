import math
import random

import pytest

from exoflow.errors import ObjectNotFoundError, UnavailableError, UnknownOutcomeError, UsageError
from exoflow.stores.contract import SupportsAppend, SupportsLocks
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, Call, Chances, Delay, FaultyStore, LoseAnswer, Refuse, Scheduled, StaleList, Tear
from exoflow.testing.stores import ObjectStoreContract


class Crash(BaseException):
    pass


class TestFaultyStoreWithoutFaults(ObjectStoreContract):
    race_rounds = 10

    @pytest.fixture
    def store(self):
        return FaultyStore(MemoryStore())

    @pytest.fixture
    def reopen(self, store):
        return lambda: FaultyStore(MemoryStore.open(store.url))


def test_a_refused_call_did_not_happen():
    store = FaultyStore(MemoryStore(), Scheduled(At("create", Refuse()), At("read", Refuse(), nth=2)))
    with pytest.raises(UnavailableError, match="cannot create key") as caught:
        store.create("key", b"1")
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert store.create("key", b"2")
    assert store.read("key") == b"2"
    with pytest.raises(UnavailableError, match="cannot read key"):
        store.read("key")
    assert store.read("key") == b"2"


def test_a_call_whose_answer_is_lost_did_happen_unless_the_plan_says_otherwise():
    plan = Scheduled(At("create", LoseAnswer(), key="a"), At("create", LoseAnswer(happens=False), key="b"))
    store = FaultyStore(MemoryStore(), plan)
    for key in ("a", "b"):
        with pytest.raises(UnknownOutcomeError, match="read it back"):
            store.create(key, b"1")
    assert list(store.list("")) == ["a"]
    assert store.read("a") == b"1"


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("create", lambda store: store.create("new", b"1")),
        ("write", lambda store: store.write("new", [b"1"])),
        ("appender", lambda store: store.appender("new")),
    ],
)
def test_every_way_to_make_an_object_can_lose_its_answer(verb, call):
    store = FaultyStore(MemoryStore(), Scheduled(At(verb, LoseAnswer())))
    with pytest.raises(UnknownOutcomeError):
        call(store)
    assert list(store.list("")) == ["new"]


def test_a_torn_append_leaves_its_beginning_and_a_dead_appender():
    store = FaultyStore(MemoryStore(), Scheduled(At("append", Tear(keep_bytes=3), nth=2)))
    log = store.appender("log")
    log.append(b"whole")
    with pytest.raises(UnavailableError):
        log.append(b"torn apart")
    assert store.read("log") == b"wholetor"
    with pytest.raises(UnavailableError, match="an earlier append failed"):
        log.append(b"late")
    assert store.read("log") == b"wholetor"


def test_an_append_whose_answer_is_lost_is_there_and_its_appender_dead():
    store = FaultyStore(MemoryStore(), Scheduled(At("append", LoseAnswer())))
    log = store.appender("log")
    with pytest.raises(UnavailableError):
        log.append(b"there")
    assert store.read("log") == b"there"
    with pytest.raises(UnavailableError):
        log.append(b"late")


def test_a_torn_write_leaves_a_damaged_object_for_those_who_look_for_damage():
    store = FaultyStore(MemoryStore(), Scheduled(At("write", Tear(keep_bytes=4)), At("create", Tear(keep_bytes=0))))
    with pytest.raises(UnavailableError):
        store.write("blob", [b"abc", b"def"])
    with pytest.raises(UnavailableError):
        store.create("key", b"abc")
    assert (store.read("blob"), store.read("key")) == (b"abcd", b"")


def test_a_crash_can_take_the_place_of_the_error():
    plan = Scheduled(
        At("append", Tear(keep_bytes=1, error=Crash)),
        At("create", LoseAnswer(error=Crash), times=math.inf),
        At("delete", Refuse(error=Crash)),
    )
    store = FaultyStore(MemoryStore(), plan)
    for call in (
        lambda: store.appender("log").append(b"abc"),
        lambda: store.create("key", b""),
        lambda: store.create("key2", b""),
        lambda: store.delete("key"),
    ):
        with pytest.raises(Crash):
            call()
    assert list(store.list("")) == ["key", "key2", "log"]


def test_a_delay_waits_by_the_clock_it_is_given_and_then_fails_or_not():
    waited = []
    plan = Scheduled(At("create", Delay(delay_s=2.5)), At("create", Delay(delay_s=7, then=Refuse()), nth=2))
    store = FaultyStore(MemoryStore(), plan, sleep=waited.append)
    assert store.create("a", b"")
    with pytest.raises(UnavailableError):
        store.create("b", b"")
    assert waited == [2.5, 7]
    assert list(store.list("")) == ["a"]


def test_a_stale_listing_lacks_the_newest_objects():
    store = FaultyStore(MemoryStore(), Scheduled(At("list", StaleList(missing=2), nth=2)))
    for key in ("x/c", "x/a", "y", "x/b"):
        store.create(key, b"")
    assert list(store.list("x/")) == ["x/a", "x/b", "x/c"]
    assert list(store.list("x/")) == ["x/c"]
    assert list(store.list("x/")) == ["x/a", "x/b", "x/c"]


def test_a_full_store_refuses_objects_and_tears_appends_until_there_is_room():
    store = FaultyStore(MemoryStore(), capacity_bytes=10)
    assert store.create("a", b"12345")
    with pytest.raises(UnavailableError, match="no space left"):
        store.create("b", b"123456")
    with pytest.raises(UnavailableError, match="no space left"):
        store.write("c", [b"123", b"456"])
    assert list(store.list("")) == ["a"]

    log = store.appender("log")
    log.append(b"abc")
    with pytest.raises(UnavailableError, match="no space left"):
        log.append(b"defgh")
    assert store.read("log") == b"abcde"

    store.delete("a")
    with pytest.raises(UnavailableError, match="an earlier append failed"):
        log.append(b"f")
    assert store.create("b", b"12345")
    store.capacity_bytes = None
    store.write("c", [b"123456"])


def test_a_key_that_is_lost_needs_no_room():
    store = FaultyStore(MemoryStore(), capacity_bytes=6)
    store.create("key", b"abc")
    assert not store.create("key", b"def")
    assert store.create("other", b"ghi")


def test_one_seed_gives_one_sequence_of_faults():
    def met(seed):
        store = FaultyStore(MemoryStore(), Chances(random.Random(seed), {Refuse(): 0.2, LoseAnswer(): 0.2}))
        outcomes = []
        for number in range(100):
            try:
                outcomes.append(store.create(f"key/{number}", b""))
            except UnavailableError as error:
                outcomes.append(type(error))
        return outcomes

    assert met(1) == met(1) != met(2)
    assert set(met(1)) == {True, UnavailableError, UnknownOutcomeError}


def test_chance_gives_a_call_only_the_faults_it_can_have():
    plan = Chances(random.Random(1), {Tear(keep_bytes=1): 1.0, StaleList(): 1.0})
    assert plan(Call("append", "log", 1)) == Tear(keep_bytes=1)
    assert plan(Call("list", "", 1)) == StaleList()
    assert plan(Call("read", "key", 1)) is None


def test_a_schedule_that_cannot_come_true_is_refused_at_once():
    with pytest.raises(UsageError, match="cannot happen to 'read'"):
        At("read", Tear(keep_bytes=1))
    with pytest.raises(ValueError, match="verb"):
        At("reed", Refuse())


def test_a_plan_sees_each_call_before_it_happens_and_can_be_replaced():
    seen = []
    store = FaultyStore(MemoryStore(), seen.append)
    store.create("a", b"")
    store.create("b", b"")
    with pytest.raises(ObjectNotFoundError):
        store.read("c")
    assert seen == [Call("create", "a", 1), Call("create", "b", 2), Call("read", "c", 1)]
    assert store.calls == {"create": 2, "read": 1}
    store.plan = Scheduled(At("create", Refuse(), times=math.inf))
    for _ in range(3):
        with pytest.raises(UnavailableError):
            store.create("c", b"")


def test_it_can_do_what_the_store_inside_can_and_no_more():
    class FiveVerbs:
        url, shared = "five://", False

        def create(self, key, data, *, timeout_s=30.0):
            return True

    assert isinstance(FaultyStore(MemoryStore()), SupportsAppend | SupportsLocks)
    five = FaultyStore(FiveVerbs())
    assert not isinstance(five, SupportsAppend | SupportsLocks)
    assert five.create("key", b"")
    assert isinstance(FaultyStore(FaultyStore(MemoryStore())), SupportsAppend)
