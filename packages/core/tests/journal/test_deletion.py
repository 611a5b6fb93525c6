"""A deleted workflow is gone, and its id is free."""

from typing import Any

import pytest

from exoflow.errors import WorkflowNotFoundError, WorkflowRunningError
from exoflow.journal import adoption, inbox, records
from exoflow.journal.claims import highest_claim
from exoflow.journal.deletion import delete
from exoflow.journal.layout import BLOBS, blob_key
from exoflow.journal.pins import pin, pins_by_fork
from exoflow.values import Payload


def with_blobs(world: Any, controller: Any, workflow_id: str) -> None:
    """Give a workflow a named blob, an unnamed one, and a message."""
    attempt = f"{controller.id}.1.7"
    named = blob_key(workflow_id, attempt)
    world.store.write(named, (b"named",))
    world.store.write(blob_key(workflow_id, f"{controller.id}.1.8"), (b"unnamed",))
    controller.outcome(workflow_id, "7", Payload("pickle", (5,), None, named, 1))
    inbox.send(world.store, workflow_id, "event", "m", b"")


def gone(world: Any, workflow_id: str) -> None:
    with pytest.raises(WorkflowNotFoundError):
        world.controller().acquire(workflow_id)
    assert highest_claim(world.store, workflow_id).deleted
    assert world.objects(BLOBS) == {}
    assert inbox.pending(world.store) == {}


@pytest.mark.parametrize("name", [None, "order/1"])
@pytest.mark.parametrize("state", ["ours", "elsewhere and ended", "dead", "retired", "given up"])
def test_a_workflow_is_deleted_with_all_it_left(world: Any, name: str | None, state: str) -> None:
    first, second, deleter = world.controller(), world.controller(), world.controller()
    owner = deleter if state == "ours" else first
    mine = owner.submit(name)
    other = owner.submit()
    with_blobs(world, owner, mine)
    if state == "elsewhere and ended":
        first.end(mine)
    elif state == "dead":
        first.crash()
    elif state == "retired":
        first.retire()
    elif state == "given up":
        first.crash()
        second.acquire(other)

    assert delete(world.store, deleter.writer, mine, world.now) == 3

    gone(world, mine)
    assert delete(world.store, deleter.writer, mine, world.now) == 0
    assert world.history(other)


def test_a_running_workflow_is_not_deleted(world: Any) -> None:
    first, deleter = world.controller(), world.controller()
    mine = first.submit()

    with pytest.raises(WorkflowRunningError):
        delete(world.store, deleter.writer, mine, world.now)
    assert world.history(mine)


def test_an_unknown_workflow_cannot_be_deleted(world: Any) -> None:
    with pytest.raises(WorkflowNotFoundError):
        delete(world.store, world.controller().writer, "nobody", world.now)


def test_a_deleted_id_begins_anew_with_a_higher_generation(world: Any) -> None:
    first, second = world.controller(), world.controller()
    for generation in (1, 3, 5):
        first.submit("order")
        with_blobs(world, first, "order")
        assert world.history("order")[0].generation == generation
        delete(world.store, first.writer, "order", world.now)

    second.submit("order")
    assert len(world.history("order")) == 1
    assert world.owner("order") == second.id


def test_what_a_fork_shares_stays_until_the_fork_is_deleted(world: Any) -> None:
    first = world.controller()
    first.submit("parent")
    with_blobs(world, first, "parent")
    first.submit("fork")
    pin(world.store, "parent", "fork")

    delete(world.store, first.writer, "parent", world.now)

    assert len(world.objects(BLOBS)) == 2
    delete(world.store, first.writer, "fork", world.now)
    assert pins_by_fork(world.store) == {}
    delete(world.store, first.writer, "parent", world.now)
    assert world.objects(BLOBS) == {}


def test_a_new_workflow_of_the_id_keeps_what_it_writes_while_the_old_is_removed(world: Any, make: Any) -> None:
    first, second = world.controller(), world.controller()
    first.submit("order")
    with_blobs(world, first, "order")
    key = blob_key("order", f"{second.id}.1.1")

    original = world.store.create

    def create(key_: str, data: Any, **options: Any) -> bool:
        won = original(key_, data, **options)
        if won and key_ == "claims/order/00000002":
            world.store.create = original
            second.submit("order")
            world.store.write(key, (b"new",))
            second.outcome("order", "1", Payload("pickle", (3,), None, key, 1))
        return won

    world.store.create = create
    delete(world.store, first.writer, "order", world.now)

    assert world.objects(BLOBS) == {key: b"new"}
    assert world.owner("order") == second.id


@pytest.mark.parametrize("state", ["ours", "dead", "retired", "ended"])
def test_a_deleter_that_dies_anywhere_is_finished_by_the_next(mortal: Any, state: str, make: Any) -> None:
    world, done = mortal
    struck, number = True, 0
    while struck:
        number += 1
        workflow_id = f"w{number}"
        plan = make.CrashAt(10**9, done=done)
        dying = world.controller(make.FaultyStore(world.store, plan))
        owner = dying if state == "ours" else world.controller()
        owner.submit(workflow_id)
        with_blobs(world, owner, workflow_id)
        if state == "dead":
            owner.crash()
        elif state == "retired":
            owner.retire()
        elif state == "ended":
            owner.end(workflow_id)
        plan.number = plan.changes + number
        struck = False
        try:
            delete(dying.store, dying.writer, workflow_id, world.now)
        except make.SimulatedCrash:
            struck = True
        dying.crash()

        last = world.controller()
        delete(world.store, last.writer, workflow_id, world.now)
        gone(world, workflow_id)
        for controller in (last, owner):
            if not controller.gone:
                controller.retire()
    assert number > 4


def test_a_workflow_whose_owner_recorded_its_deletion_is_deleted_by_the_next(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit("order")
    first.append(records.Deleted(mine, world.now))

    with pytest.raises(WorkflowNotFoundError):
        second.acquire(mine)
    delete(world.store, second.writer, mine, world.now)
    assert highest_claim(world.store, mine).deleted
    assert adoption.begin(world.store, second.writer, mine, world.now) == 3
