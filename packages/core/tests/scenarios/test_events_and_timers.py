"""Scenario 10: a message that two nodes take, one that nobody does, and a sleep that begins anew.

A message is an object that its sender creates under an id of its own; its retry is the same object. Which node took it is
a record of the workflow's owner, and the object is deleted only after that is durable: a crash in between leaves a
leftover that is known to be taken. A timer's deadline is recorded when it is chosen, and of a timer and a message that
race, the first record counts.
"""

from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow import Engine
from exoflow.engine.events import Fired
from exoflow.journal.records import Outcome, TimerArmed
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, Call, FaultyStore, Refuse, Scheduled

from .life import PATIENCE_S, Ledger, charge, fresh, gather, until
from .stage import Stage, draw, pay

# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_message_is_deleted_only_after_the_record_that_took_it_is_durable() -> None:
    stage = Stage(draw("h").bind(exoflow.wait_for_event("go", task_id="wait")))
    stage.world.send("go")
    key = stage.takes("wait", "go")
    assert stage.inbox == [key]

    stage.crash()  # before the record
    assert stage.listening == {"wait"}
    assert stage.takes("wait", "go") == key, "it is still there, and still to be had"

    stage.flush()
    assert stage.inbox == []
    assert [r.message for r in stage.records(Outcome, "wait")] == [key]
    stage.to_the_end()


def test_a_message_whose_record_is_durable_and_whose_deletion_was_lost_feeds_nobody_again() -> None:
    first = exoflow.wait_for_event("go", task_id="first")
    second = exoflow.wait_for_event("go", task_id="second")
    stage = Stage(draw("h").bind(first, second))
    stage.world.send("go")
    key = stage.takes("first", "go")
    stage.world.flush()
    stage.crash(landed=True)  # the record arrived; the controller died before it could delete anything

    assert stage.inbox == [key]
    assert stage.listening == {"second"}
    (attempt,) = stage.world.listening
    assert stage.world.messages(attempt) == []
    stage.world.send("go")
    stage.takes("second", "go")
    stage.to_the_end()
    assert len({r.message for r in stage.records(Outcome) if r.message}) == 2


def test_an_effect_after_a_wait_starts_when_it_is_durable_who_took_the_message() -> None:
    stage = Stage(pay("charge").bind(exoflow.wait_for_event("go", task_id="wait")))
    stage.world.send("go")
    stage.takes("wait", "go")
    assert not stage.attempts("charge"), "after a crash the message might go to another"

    stage.flush()
    assert stage.running == {"charge"}
    stage.crash(happened=["charge"])
    assert stage.listening == set()
    stage.to_the_end()


def test_waiting_nodes_are_fed_in_the_order_of_the_dag_and_early_messages_are_kept() -> None:
    with Engine(fresh()) as engine:
        for number in range(3):  # to an id that does not exist yet
            engine.send_event("w", "go", number, message_id=f"m{number}")
        waits = [exoflow.wait_for_event("go", task_id=f"wait{number}") for number in range(4)]
        handle = engine.start(gather.bind(*waits), workflow_id="w")
        engine.send_event("w", "go", 3, message_id="m3")

        assert handle.result(PATIENCE_S) == [0, 1, 2, 3]


def test_a_retry_of_a_sender_that_arrives_after_its_message_was_taken_feeds_nobody() -> None:
    storage = fresh()
    first = exoflow.wait_for_event("go", task_id="first")
    node = gather.bind(first, exoflow.wait_for_event("go", task_id="second", after=[first]))
    with Engine(storage) as engine:
        handle = engine.start(node, workflow_id="w")
        engine.send_event("w", "go", "once", message_id="m")
        until(lambda: not list(MemoryStore.open(storage).list("inbox/")), "the message was not taken")

        engine.send_event("w", "go", "once", message_id="m")
        engine.send_event("w", "go", "twice", message_id="n")

        assert handle.result(PATIENCE_S) == ["once", "twice"]


@pytest.mark.parametrize("life", ["the same controller", "the next"])
def test_a_leftover_of_a_lost_deletion_is_removed_by_recovery(life: str, tmp_path: Path) -> None:
    storage, ledger = fresh(), Ledger(tmp_path / "ledger")
    store = FaultyStore(MemoryStore.open(storage), Scheduled(At("delete", Refuse(), key="inbox/*", times=1e9)))
    waits = [exoflow.wait_for_event("go", task_id=f"wait{number}") for number in range(2)]
    node = gather.bind(*(charge.options(task_id=f"charge{n}").bind(ledger.path, w) for n, w in enumerate(waits)))
    with Engine(store) as engine:
        handle = engine.start(node, workflow_id="w")
        engine.send_event("w", "go", "a")
        until(lambda: ledger.lines("ran", "charge0"))
        assert len(list(MemoryStore.open(storage).list("inbox/"))) == 1
        if life == "the same controller":
            engine.send_event("w", "go", "b")
            assert [line[-1] for line in handle.result(PATIENCE_S)] == ["a", "b"]
    with Engine(storage) as engine:
        handle = engine.resume("w")
        if life == "the next":
            assert not list(MemoryStore.open(storage).list("inbox/"))
            engine.send_event("w", "go", "b")
        assert [line[-1] for line in handle.result(PATIENCE_S)] == ["a", "b"]
    assert len(list(ledger)) == 2


def test_a_message_nobody_took_dies_with_the_use_of_the_id_it_was_sent_to() -> None:
    storage = fresh()
    node = gather.bind(exoflow.wait_for_event("go", task_id="wait"))
    with Engine(storage) as engine:
        engine.send_event("w", "go", "old", message_id="m1")
        engine.send_event("w", "go", "too many", message_id="m2")
        assert engine.run(node, workflow_id="w") == ["old"]
        engine.delete("w")
        handle = engine.start(node, workflow_id="w")
        engine.send_event("w", "go", "new", message_id="m3")

        assert handle.result(PATIENCE_S) == ["new"]


def test_one_listing_of_the_inbox_serves_all_workflows_of_a_controller() -> None:
    storage = fresh()
    listed: list[str] = []

    def plan(call: Call) -> Any:
        if call.verb == "list" and call.key.startswith("inbox/"):
            listed.append(call.key)

    with Engine(FaultyStore(MemoryStore.open(storage), plan)) as engine:
        node = gather.bind(exoflow.wait_for_event("go", task_id="wait"))
        handles = [engine.start(node, workflow_id=f"w{number}") for number in range(20)]
        for number in range(20):
            engine.send_event(f"w{number}", "go", number)
        assert [handle.result(PATIENCE_S) for handle in handles] == [[n] for n in range(20)]

    assert set(listed) == {"inbox/"}


# --- timers -----------------------------------------------------------------------------------------------------------


def test_a_sleep_keeps_the_moment_it_was_given_through_every_take_over() -> None:
    stage = Stage(draw("h").bind(exoflow.sleep(60, task_id="nap")))
    moment = stage.is_armed("nap")
    stage.flush()
    for _ in range(3):
        stage.world.clock += 1000.0
        stage.crash()
        assert stage.sleeping == {"nap"}
        assert stage.unarmed == set(), "nobody chooses a moment anew"
        assert stage.deadline("nap") == moment
    assert len(stage.records(TimerArmed)) == 1
    stage.to_the_end()


def test_a_moment_no_record_tells_of_was_seen_by_nobody_and_is_chosen_anew() -> None:
    stage = Stage(draw("h").bind(exoflow.sleep(60, task_id="nap")))
    stage.flush()
    before = stage.is_armed("nap")
    stage.crash()
    assert stage.unarmed == {"nap"}
    after = stage.is_armed("nap")

    assert before is not None
    assert after is not None
    assert after > before
    stage.to_the_end()


# --- races ------------------------------------------------------------------------------------------------------------


def race() -> Stage:
    stage = Stage(pay("charge").bind(exoflow.wait_for_event("go", timeout_s=60, default="silence", task_id="wait")))
    stage.is_armed("wait")
    stage.flush()
    stage.world.send("go")
    return stage


def test_a_message_that_was_recorded_first_beats_a_deadline_that_passes() -> None:
    stage = race()
    (attempt,) = stage.world.listening
    key = stage.takes("wait", "go")
    stage.world.tell(Fired(attempt))
    stage.flush()
    stage.crash(happened=["charge"])

    assert stage.listening == set()
    stage.to_the_end()
    assert [(r.what, r.message) for r in stage.records(Outcome, "wait")] == [("message", key)]


def test_a_deadline_that_was_recorded_first_leaves_the_message_to_others() -> None:
    stage = race()
    stage.fires("wait")
    stage.flush()
    stage.crash(happened=["charge"])

    stage.to_the_end()
    assert [r.what for r in stage.records(Outcome, "wait")] == ["fired"]
    assert len(stage.inbox) == 1


@pytest.mark.parametrize("first", ["the deadline", "the message"])
def test_what_was_not_recorded_of_a_race_may_come_out_otherwise_because_nobody_saw_it(first: str) -> None:
    stage = race()
    if first == "the deadline":
        stage.fires("wait")
    else:
        stage.takes("wait", "go")
    assert not stage.attempts("charge")
    stage.crash()
    if first == "the deadline":
        stage.takes("wait", "go")
    else:
        stage.fires("wait")
    stage.flush()

    assert len(stage.attempts("charge")) == 1
    stage.to_the_end()
    assert [r.what for r in stage.records(Outcome, "wait")] == ["message" if first == "the deadline" else "fired"]
