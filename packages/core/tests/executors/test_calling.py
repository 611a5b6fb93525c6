import pytest

from exoflow.engine.events import CommitFailed, Persisted
from exoflow.errors import UnavailableError, UnserializableResultError
from exoflow.executors.calling import StoreSpeed, is_small, make_durable
from exoflow.stores.memory import MemoryStore
from exoflow.testing.executor_tasks import Big
from exoflow.values import Live, PickleCodec, inline, restore

CODEC = PickleCodec()


@pytest.mark.parametrize(
    ("value", "small"),
    [
        (None, True),
        (3, True),
        ("x" * 1000, True),
        ("x" * 10_000, False),
        (b"x" * 10_000, False),
        ({"seat": 12, "names": ["a", "b"], "price": (1.5, "EUR")}, True),
        (list(range(10_000)), False),
        ([["x" * 100] * 10] * 10, False),
        ({"x" * 10_000: 1}, False),
        (object(), False),
        (Big(b""), False),
    ],
)
def test_what_is_small_is_known_without_looking_at_everything(value, small):
    assert is_small(value) is small


def test_a_value_that_contains_itself_is_not_small():
    endless = []
    endless.append(endless)
    assert not is_small(endless)


def test_the_estimate_follows_what_is_measured():
    speed = StoreSpeed()
    for _ in range(30):
        speed.observe(100 << 20, 10.0)
        speed.observe(1 << 10, 0.1)
    assert speed.seconds_for(100 << 20) == pytest.approx(10.1, rel=0.1)
    assert speed.seconds_for(20_000) == pytest.approx(0.1, rel=0.1)
    assert speed.seconds_for(100) < 0.001, "a small value lies in the journal"


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("live", [True, False])
def test_a_held_value_is_made_durable(size, live):
    store, value = MemoryStore(), Big(b"b" * size)
    held = Live(value) if live else inline(CODEC.encode(value), CODEC.name)
    event = make_durable("j.1", "t", held, store=store, codec=CODEC, blob_key="blobs/w/j.1-0")
    assert isinstance(event, Persisted)
    assert list(store.list("")) == (["blobs/w/j.1-0"] if size > 10 else [])
    assert restore(event.payload, CODEC, store) == value
    assert make_durable("j.1", "t", event.payload, store=store, codec=CODEC, blob_key="blobs/w/j.1-1") == event


def test_a_held_value_that_cannot_be_stored_names_its_task():
    store = MemoryStore()
    event = make_durable("j.1", "t", Live(x for x in ()), store=store, codec=CODEC, blob_key="b")
    assert isinstance(event, CommitFailed)
    assert isinstance(event.error, UnserializableResultError)
    assert event.error.task == "t"


def test_a_store_that_refuses_a_held_value_is_reported():
    class Refuses(MemoryStore):
        def write(self, key, chunks):
            raise UnavailableError("full")

    event = make_durable("j.1", "t", Live("x" * 100_000), store=Refuses(), codec=CODEC, blob_key="b")
    assert isinstance(event, CommitFailed)
    assert isinstance(event.error, UnavailableError)
