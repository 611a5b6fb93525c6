"""Scenario 9: an object that arrives after its writer gave up waiting.

A write whose answer is lost may have landed, and may land later. So a retry sends the same bytes again, a batch never
grows once it was sent, a refusal is answered by reading the whole object back, and what stays unknown is raised as
unknown. One flush goes out at a time: nothing is stored behind one whose fate is open.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from exoflow import Engine
from exoflow.errors import CorruptCheckpointError, FencedError, UnavailableError, UnknownOutcomeError
from exoflow.journal import records
from exoflow.journal.creation import Lost, Patience, Won, create_exactly
from exoflow.journal.layout import segment_key
from exoflow.journal.reader import read_journal
from exoflow.stores.contract import Buffer
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, FaultyStore, LoseAnswer, Refuse, Scheduled

from .controllers import Bucket, World
from .life import pure

PATIENT = Patience(sleep=lambda seconds: None)


class Late(Bucket):
    """A bucket that gives no answer to a create of a matching key, and carries it out right before the next one."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.create = self._create
        self.late: Callable[[str], bool] = lambda key: False
        self.sent: dict[str, list[bytes]] = {}
        self._under_way: list[tuple[str, bytes]] = []

    def segments(self) -> list[list[bytes]]:
        """What was sent under the number of each segment."""
        return [sent for key, sent in self.sent.items() if key.startswith("journals/")]

    def _create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        self.sent.setdefault(key, []).append(bytes(data))
        under_way, self._under_way = self._under_way, []
        for late_key, late_data in under_way:
            self.inner.create(late_key, late_data)
        if self.late(key) and len(self.sent[key]) == 1:
            self._under_way.append((key, bytes(data)))
            raise UnknownOutcomeError("no answer")
        return self.inner.create(key, data)


def test_a_write_that_lands_before_its_retry_is_recognised_and_holds_what_was_believed() -> None:
    store = Late(MemoryStore())
    first = World(store).controller(patience=PATIENT)
    store.late = lambda key: key.startswith("journals/")
    for number in range(5):
        first.append(records.Released(f"w{number}"), records.Released(f"v{number}"))

    contents = read_journal(store, first.id)
    names = [name for n in range(5) for name in (f"w{n}", f"v{n}")]
    assert contents.records[1:] == [records.Released(name) for name in names]
    assert contents.batches == first.writer.batches
    assert [len(sent) for sent in store.segments()] == [1, 2, 2, 2, 2, 2], "each but the first was sent again"
    assert all(len(set(sent)) == 1 for sent in store.segments()), "as the same bytes"


def test_a_batch_that_was_sent_does_not_grow() -> None:
    store = Late(MemoryStore())
    batch = [records.encode(records.Released("sent"))]
    patience = Patience(sleep=lambda seconds: batch.append(records.encode(records.Released("later"))))
    first = World(store).controller(patience=patience)
    store.late = lambda key: key.startswith("journals/")

    first.writer.append(batch)

    assert len(batch) == 2, "something became ready while it was retried"
    assert read_journal(store, first.id).records[1:] == [records.Released("sent")]


def test_an_engine_whose_flushes_all_land_late_believes_what_landed_and_nothing_else() -> None:
    store = Late(MemoryStore())
    with Engine(store) as engine:
        engine.run(pure.bind("", 0))
        store.late = lambda key: key.startswith("journals/")
        with ThreadPoolExecutor(4) as threads:
            answers = threads.map(lambda n: engine.run(pure.bind("", n), workflow_id=f"w{n}"), range(8))
            assert list(answers) == [["pure", n] for n in range(8)]
        store.late = lambda key: False
    with Engine(store) as engine:
        assert [engine.result(f"w{n}") for n in range(8)] == [["pure", n] for n in range(8)]

    assert sum(len(sent) > 1 for sent in store.segments()) >= 2
    assert all(len(set(sent)) == 1 for sent in store.segments()), "a retry is the same bytes"


# --- the seal gets in between -----------------------------------------------------------------------------------------


def test_a_flush_that_lost_its_number_to_a_seal_leaves_nothing_behind_the_seal() -> None:
    store = Bucket(MemoryStore())
    world = World(store)
    first, second = world.controller(patience=PATIENT), world.controller()
    mine = first.submit()
    first.sleep()
    second.acquire(mine)

    for _ in range(2):
        with pytest.raises(FencedError):
            first.outcome(mine, "charge")

    keys = list(world.objects(f"journals/{first.id}/"))
    assert keys[-1] == segment_key(first.id, 3), "opened, submitted, sealed"
    assert read_journal(store, first.id).heir == second.id


def test_a_flush_whose_number_a_seal_took_while_its_answer_was_lost_is_not_believed() -> None:
    inner = Bucket(MemoryStore())
    world = World(inner)
    store = FaultyStore(inner)
    second = world.controller()
    first = world.controller(store, patience=Patience(sleep=lambda seconds: take_over()))
    mine = first.submit()

    def take_over() -> None:
        if not first.gone:
            first.sleep()
            second.acquire(mine)

    store.plan = Scheduled(At("create", LoseAnswer(happens=False), key="journals/*"))

    with pytest.raises(FencedError):
        first.outcome(mine, "charge")
    assert [type(r) for r in world.history(mine)] == [records.Submission]


def test_a_flush_that_landed_before_the_seal_is_the_heirs_and_not_believed_by_one_that_never_heard() -> None:
    inner = Bucket(MemoryStore())
    world = World(inner)
    store = FaultyStore(inner)
    first, second = world.controller(store), world.controller()
    mine = first.submit()
    store.plan = Scheduled(At("create", LoseAnswer(), key="journals/*"), At("read", Refuse(), times=1e9))
    with pytest.raises(UnknownOutcomeError):
        first.outcome(mine, "charge")
    store.plan = None
    with pytest.raises(UnavailableError):
        first.outcome(mine, "mail")
    first.sleep()

    assert [type(r) for r in second.acquire(mine).records] == [records.Submission, records.Outcome]


# --- won, lost, or unknown --------------------------------------------------------------------------------------------


def test_unknown_is_never_turned_into_lost() -> None:
    store = FaultyStore(MemoryStore(), Scheduled(At("create", LoseAnswer(happens=False), times=math.inf)))
    with pytest.raises(UnknownOutcomeError):
        create_exactly(store, "claims/w/1", b"mine", Patience(total_s=0.0))
    store.plan = Scheduled(At("create", LoseAnswer(), times=1), At("read", Refuse(), times=math.inf))
    with pytest.raises(UnknownOutcomeError):
        create_exactly(store, "claims/w/2", b"mine", Patience(total_s=0.0))


def test_a_refusal_is_answered_by_comparing_the_whole_object() -> None:
    store = MemoryStore()
    store.create("claims/w/1", b"mine, and then something")
    assert create_exactly(store, "claims/w/1", b"mine") == Lost(b"mine, and then something")
    store.create("claims/w/2", b"mine")
    assert create_exactly(store, "claims/w/2", b"mine") == Won()


def test_readers_stop_at_the_first_gap() -> None:
    store = Bucket(MemoryStore())
    first = World(store).controller()
    for number in range(4):
        first.append(records.Released(f"w{number}"))
    store.delete(segment_key(first.id, 3))

    with pytest.raises(CorruptCheckpointError, match="missing"):
        read_journal(store, first.id)
