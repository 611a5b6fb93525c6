"""Scenario 7: a collector that removes the fence, and bytes that are about to be committed.

A seal is never deleted: a week later it still stands in a zombie's way. A blob is named after its attempt, so after its
journal: while that journal can still be written, only its own writer knows whether it will be named. A delete is a
record, then a tombstone, then the objects; the next use of the id is another generation, whoever still remembers
the first. A fork pins its parent before it reads it; a delete makes its tombstone before it looks for pins.
"""

from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow import Engine
from exoflow.errors import FencedError, WorkflowNotFoundError
from exoflow.journal import adoption, records
from exoflow.journal.claims import highest_claim
from exoflow.journal.garbage import collect, delete
from exoflow.journal.layout import BLOBS, JOURNALS, blob_key
from exoflow.journal.ownership import look_up
from exoflow.journal.pins import pin, pins_by_fork
from exoflow.journal.reader import read_journal
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import Call, FaultyStore
from exoflow.values import Payload

from .controllers import Controller, World, submission
from .life import PATIENCE_S, Ledger, charge, draw, fresh, gather

DAY = 86400.0


def upload(world: World, controller: Controller, workflow_id: str, number: int) -> Payload:
    """Let an executor of *controller* write a blob; no record names it yet."""
    key = blob_key(workflow_id, f"{controller.id}.1.{number}")
    world.store.write(key, (b"blob",))
    return Payload("pickle", (4,), None, key, 1)


# --- 1. the zombie that wakes a week later ----------------------------------------------------------------------------


def test_a_zombie_that_wakes_after_everything_was_forgotten_still_meets_its_seal(world: World) -> None:
    zombie, heir = world.controller(), world.controller()
    mine = zombie.submit()
    zombie.outcome(mine, "charge")
    zombie.sleep()
    heir.acquire(mine)
    heir.end(mine)
    heir.retire()
    for days in range(7, 700, 31):
        collect(world.store, world.now + days * DAY, 30 * DAY)
    left = world.objects(f"{JOURNALS}{zombie.id}/")
    assert len(left) == 1, "all that is left of it is the seal"

    with pytest.raises(FencedError):
        zombie.outcome(mine, "mail")
    assert world.objects(f"{JOURNALS}{zombie.id}/") == left
    assert not world.history(mine)


# --- 2. bytes about to be committed -----------------------------------------------------------------------------------


def test_a_blob_of_a_living_writer_is_kept_until_its_record_is_there(world: World) -> None:
    owner, collector = world.controller(), world.controller()
    mine = owner.submit()
    payload = upload(world, owner, mine, 1)

    collect(world.store, world.now + 400 * DAY, 1.0, writer=collector.writer)

    owner.outcome(mine, "train", payload)
    assert payload.blob in world.objects(BLOBS), "the record that became durable names something"


def test_a_blob_that_a_dead_writer_never_named_goes_once_its_journal_is_adopted(world: World) -> None:
    owner, heir = world.controller(), world.controller()
    mine = owner.submit()
    named, unnamed = upload(world, owner, mine, 1), upload(world, owner, mine, 2)
    owner.outcome(mine, "train", named)
    owner.crash()
    collect(world.store, world.now, 1e9)
    assert len(world.objects(BLOBS)) == 2, "nobody has read yet how far it came"

    adoption.seal(world.store, owner.id, heir.id)
    collect(world.store, world.now, 1e9)
    assert len(world.objects(BLOBS)) == 2, "sealed is not adopted: the heir may find the record"

    heir.acquire(mine)
    collect(world.store, world.now, 1e9)
    assert set(world.objects(BLOBS)) == {named.blob} != {unnamed.blob}


# --- 3. the same id again ---------------------------------------------------------------------------------------------


def test_an_engine_that_remembers_the_first_use_of_an_id_answers_with_the_second(tmp_path: Path) -> None:
    storage, ledger = fresh(), Ledger(tmp_path / "ledger")
    node = charge.bind(ledger.path, draw.bind(""))
    with Engine(storage) as one, Engine(storage) as two:
        first = one.run(node, workflow_id="order")
        assert one.result("order") == first
        two.delete("order")
        for call in (one.result, one.status, one.resume):
            with pytest.raises(WorkflowNotFoundError):
                call("order")

        second = two.run(node, workflow_id="order")

        assert second != first
        assert one.result("order", PATIENCE_S) == second
        assert one.run(node, workflow_id="order") == second
        assert one.resume("order").result(PATIENCE_S) == second
    keys = [line["key"] for line in ledger.lines("ran")]
    assert keys == ["order/1/charge", "order/3/charge"], "the receiver sees two orders: the epoch is in the key"


def test_what_an_owner_says_of_a_deleted_workflow_reaches_neither_it_nor_its_successor(world: World) -> None:
    owner, other = world.controller(), world.controller()
    owner.submit("order")
    owner.end("order")
    delete(world.store, other.writer, "order", world.now)
    owner.outcome("order", "zombie")
    with pytest.raises(WorkflowNotFoundError):
        other.acquire("order")

    other.submit("order")
    owner.end("order", "failed")

    assert world.history("order") == [submission("order", 3)]


def test_a_tombstone_stays_as_long_as_an_id_is_remembered_and_no_longer(world: World) -> None:
    owner = world.controller()
    owner.submit("order")
    owner.end("order")
    delete(world.store, owner.writer, "order", world.now)
    owner.retire()

    collect(world.store, world.now + 29 * DAY, 30 * DAY)
    claim = highest_claim(world.store, "order")
    assert claim is not None
    assert claim.deleted

    for days in (31, 62, 93):
        collect(world.store, world.now + days * DAY, 30 * DAY)
    assert highest_claim(world.store, "order") is None


@pytest.mark.parametrize("step", ["the record", "the tombstone", "an object"])
def test_a_delete_that_dies_at_any_step_is_finished_by_the_next(world: World, step: str) -> None:
    owner = world.controller()
    owner.submit("order")
    owner.outcome("order", "train", upload(world, owner, "order", 1))
    owner.end("order")
    key = {"the record": "journals/*", "the tombstone": "claims/*", "an object": "blobs/*"}[step]
    died = _die_before(world, key)
    deleter = world.controller(died)
    with pytest.raises(_DiedError):
        delete(died, deleter.writer, "order", world.now)
    deleter.crash()

    delete(world.store, owner.writer, "order", world.now)

    assert world.objects(BLOBS) == {}
    standing = look_up(world.store, "order", world.now)
    assert standing is not None
    assert standing.ownership.deleted


class _DiedError(BaseException):
    pass


def _die_before(world: World, pattern: str) -> FaultyStore:
    """A client that dies before its next change of a key like *pattern* which comes after its journal was opened."""
    import fnmatch

    opened: list[Call] = []

    def plan(call: Call) -> None:
        if call.verb in ("create", "append", "delete") and fnmatch.fnmatchcase(call.key, pattern):
            opened.append(call)
            if len(opened) > (1 if pattern == "journals/*" else 0):
                raise _DiedError

    return FaultyStore(world.store, plan)


# --- 4. the fork and its parent ---------------------------------------------------------------------------------------


def test_a_fork_whose_pin_comes_before_the_tombstone_keeps_what_it_shares(world: World) -> None:
    owner = world.controller()
    owner.submit("parent")
    payload = upload(world, owner, "parent", 1)
    owner.outcome("parent", "train", payload)
    owner.end("parent")
    create = world.store.create

    def stirring(key: str, data: Any, **options: Any) -> bool:
        if key == "claims/parent/00000002":
            pin(world.store, "parent", "fork")  # the latest moment at which the fork still finds its parent
        return create(key, data, **options)

    world.store.create = stirring  # type: ignore[method-assign]
    delete(world.store, owner.writer, "parent", world.now)

    assert list(world.objects(BLOBS)) == [payload.blob]


def test_a_fork_whose_pin_comes_after_the_tombstone_finds_no_parent_and_is_not_made(tmp_path: Path) -> None:
    storage = fresh()
    inner = MemoryStore.open(storage)
    with Engine(storage) as other:
        other.run(gather.bind(draw.bind("")), workflow_id="parent")
        deleted: list[str] = []

        def plan(call: Call) -> None:
            if call.verb == "create" and call.key.startswith("pins/") and not deleted:
                deleted.append(call.key)
                other.delete("parent")  # between the fork's first look and its pin

        with Engine(FaultyStore(inner, plan)) as engine:
            with pytest.raises(WorkflowNotFoundError):
                engine.fork("parent", "gather", new_id="fork")
            assert deleted
            with pytest.raises(WorkflowNotFoundError):
                engine.status("fork")


def test_a_fork_outlives_its_parent_and_lets_go_of_what_it_shared(tmp_path: Path) -> None:
    storage, ledger = fresh(), Ledger(tmp_path / "ledger")
    large = exoflow.task(effects="none")(_large)
    node = charge.bind(ledger.path, draw.options(task_id="again").bind("", large.bind()))
    with Engine(storage) as engine:
        first = engine.run(node, workflow_id="parent")
        fork = engine.fork("parent", "again", new_id="fork")
        engine.delete("parent")
        assert fork.result(PATIENCE_S)[-1][-1] == first[-1][-1]
        assert engine.result("fork")[-1][-1] == first[-1][-1]
        assert list(pins_by_fork(engine.store)) == ["fork"]
        engine.delete("fork")
        assert pins_by_fork(engine.store) == {}
    with Engine(storage) as engine:
        engine.gc(older_than_s=0)
    assert not list(MemoryStore.open(storage).list(BLOBS))


def _large() -> str:
    import secrets

    return secrets.token_hex(40_000)


def test_a_sealed_journals_archive_still_says_how_it_ended(world: World) -> None:
    owner, other = world.controller(), world.controller()
    mine = owner.submit()
    owner.end(mine)
    owner.crash()
    other.adopt(owner.id)
    collect(world.store, world.now + DAY, 30 * DAY, archive_after_s=1.0)

    assert read_journal(world.store, owner.id).archived
    assert [type(r) for r in world.history(mine)] == [records.Submission, records.End]
