"""Scenario 3: an append has no number that could be taken.

A writer sleeps (a suspended laptop, a stopped process), its journal gets a seal and an heir, and it wakes up in the middle
of an append, which succeeds. So a writer looks for the seal after its bytes are durable, and only then believes them; an
heir seals first, then reads, and records how much it has read before it acts. Either the writer sees the seal or the
heir has read the record. Wherever a look may come from a cache there is no append, and each flush is a numbered object.

With real processes and signals: `test_a_stopped_process_that_wakes_after_its_take_over_believes_nothing_more` of
`tests/journal/test_writer.py`. Which file systems append:
`test_a_disk_of_this_machine_has_appends_and_locks_and_a_network_has_not` of `packages/storage/tests/test_local.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from exoflow.errors import FencedError
from exoflow.journal import adoption, records
from exoflow.journal.layout import segment_key
from exoflow.journal.ownership import look_up
from exoflow.journal.reader import read_journal
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import Call, FaultyStore

from .controllers import Bucket, Controller, World


def asleep_at(store: FaultyStore, verb: str, key: str, happening: Callable[[], None]) -> None:
    """Let *happening* happen once, when the client is about to do *verb* to *key*."""
    left = [happening]

    def plan(call: Call) -> None:
        if call.verb == verb and call.key == key and left:
            left.pop()()

    store.plan = plan


@pytest.fixture
def sleeper() -> tuple[World, FaultyStore, Controller, Controller, str]:
    """A controller on a store of its own that is about to fall asleep, its heir, and a workflow."""
    inner = MemoryStore()
    world = World(inner)
    store = FaultyStore(inner)
    first, second = world.controller(store), world.controller()
    return world, store, first, second, first.submit()


@pytest.mark.parametrize("moment", ["before the bytes are durable", "between the bytes and the look"])
def test_either_the_writer_sees_the_seal_or_the_heir_has_read_the_record(moment: str, sleeper: Any) -> None:
    world, store, first, second, mine = sleeper
    log, next_key = segment_key(first.id, 1), segment_key(first.id, 2)
    read: list[Any] = []

    def take_over() -> None:
        first.sleep()
        read.extend(second.acquire(mine).records)

    if moment == "before the bytes are durable":
        asleep_at(store, "append", log, take_over)
    else:
        asleep_at(store, "read", next_key, take_over)
    believed = True
    try:
        first.outcome(mine, "charge")
    except FencedError:
        believed = False

    heir_knows = any(isinstance(record, records.Outcome) for record in read)
    assert not believed, "it may tell nobody: the workflow is another's"
    assert heir_knows == (moment != "before the bytes are durable")
    assert world.history(mine) == read


def test_a_writer_that_believed_its_record_before_it_slept_finds_it_with_the_heir(sleeper: Any) -> None:
    _, _, first, second, mine = sleeper
    first.outcome(mine, "charge")
    first.sleep()

    assert [type(r) for r in second.acquire(mine).records] == [records.Submission, records.Outcome]
    with pytest.raises(FencedError):
        first.outcome(mine, "mail")


def test_every_later_reader_uses_the_length_that_the_heir_recorded(sleeper: Any) -> None:
    world, _, first, second, mine = sleeper
    first.sleep()
    second.acquire(mine)
    (adopted,) = [r for r in read_journal(world.store, second.id).records if isinstance(r, records.Adopted)]
    with pytest.raises(FencedError):
        first.outcome(mine, "zombie")

    assert adopted == records.Adopted(first.id, read_journal(world.store, first.id).batches - 1)
    standing = look_up(world.store, mine, world.now)
    assert standing is not None
    assert not any(isinstance(r, records.Outcome) for r in standing.history.records)
    second.crash()
    third = world.controller()
    assert not any(isinstance(r, records.Outcome) for r in third.acquire(mine).records)


def test_what_the_zombie_wrote_counts_for_nobody_while_its_heir_has_not_said_how_much_it_read(sleeper: Any) -> None:
    world, _, first, second, mine = sleeper
    first.sleep()
    adoption.seal(world.store, first.id, second.id)
    with pytest.raises(FencedError):
        first.end(mine)

    standing = look_up(world.store, mine, world.now)
    assert standing is not None
    assert not standing.history.settled, "the end may or may not count: nobody may be told that it does"
    acquired = second.acquire(mine)
    assert acquired.finished, "the heir read it after sealing, so it counts"
    again = look_up(world.store, mine, world.now)
    assert again is not None
    assert again.history.finished


def test_the_seal_is_there_before_the_heir_reads(sleeper: Any) -> None:
    world, _, first, _, mine = sleeper
    seen: list[tuple[str, str]] = []

    def plan(call: Call) -> None:
        seen.append((call.verb, call.key))

    first.sleep()
    watched = FaultyStore(world.store, plan)
    third = world.controller(watched)
    del seen[:]
    third.acquire(mine)

    sealed = seen.index(("create", segment_key(first.id, 2)))
    assert ("read", segment_key(first.id, 1)) in seen[sealed:], "what was read before could have grown since"


def test_where_there_is_no_append_the_number_itself_is_taken() -> None:
    world = World(Bucket(MemoryStore()))
    first, second = world.controller(), world.controller()
    mine = first.submit()
    first.sleep()
    second.acquire(mine)
    before = world.objects()

    with pytest.raises(FencedError):
        first.outcome(mine, "zombie")

    assert world.objects() == before, "nothing of it is anywhere"
