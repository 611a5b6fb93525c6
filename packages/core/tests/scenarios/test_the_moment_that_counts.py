"""Scenario 14: a cancel that arrives while the result commits, an undo beneath a running sibling, an early handle.

A workflow's end is one record in its journal, and the first of result, failure and cancellation counts. Undoing starts
when that record is durable and every attempt has ended, goes in reverse causal order, and an undo that fails stops the
workflow instead of being tried for ever. A workflow is accepted, and its constants are settled, when its claim and its
submission are durable.
"""

import threading
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow import Engine
from exoflow.engine.events import Cancelled
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.journal.claims import highest_claim
from exoflow.journal.records import Attention, End, Intent, Outcome
from exoflow.recovery.history import History
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, Call, FaultyStore, Refuse, Scheduled

from . import stage as by_hand
from .life import PATIENCE_S, Ledger, charge, fresh, pure, reserve
from .stage import Stage, book, draw, pay, send

# --- one end ----------------------------------------------------------------------------------------------------------


def test_a_cancel_that_comes_after_the_result_was_logged_changes_nothing() -> None:
    stage = Stage(draw("h").bind(book("reserve").bind()))
    stage.flush()
    stage.returns("reserve")
    stage.flush()
    stage.returns("h")
    stage.world.cancel()
    stage.to_the_end()

    assert stage.answer == "succeeded"
    assert [end.status for end in stage.records(End)] == ["succeeded"]
    assert stage.standing("reserve")
    assert stage.inbox == [], "the wish was heard, and comes too late"


def test_a_result_that_comes_after_the_cancel_was_logged_is_nobodys_answer() -> None:
    stage = Stage(draw("h").bind(book("reserve").bind()))
    stage.flush()
    stage.returns("reserve")
    stage.flush()
    stage.world.cancel()
    stage.returns("h")
    stage.to_the_end()

    assert stage.answer == "cancelled"
    assert stage.records(End)[0].status == "cancelled"
    assert not stage.standing("reserve")


def test_an_end_that_never_became_durable_is_none() -> None:
    stage = Stage(draw("h").bind())
    stage.flush()
    stage.returns("h")
    stage.crash()  # the result was logged, not durable
    stage.world.cancel()
    stage.to_the_end()

    assert stage.answer == "cancelled"


def test_the_wish_to_cancel_is_kept_until_the_end_is_durable() -> None:
    stage = Stage(draw("h").bind())
    stage.flush()
    stage.world.cancel()
    assert stage.inbox == ["cancel/1"]
    stage.crash()
    assert stage.inbox == ["cancel/1"], "the next controller finds it"

    stage.world.tell(Cancelled("cancel/1"))
    stage.to_the_end()
    assert stage.inbox == []
    assert stage.answer == "cancelled"


def test_of_two_ends_in_the_journal_the_first_counts() -> None:
    ends = [End("w", status, "", 1.0) for status in ("cancelled", "succeeded", "failed")]
    history = History.of(ends)
    assert history.end == ends[0]


@pytest.mark.parametrize(
    ("point", "expected"), [("before_flush", "cancelled"), ("after_flush", "succeeded"), ("before_answer", "succeeded")]
)
def test_a_controller_that_dies_around_its_last_record_leaves_one_truth(
    point: str, expected: str, tmp_path: Path
) -> None:
    storage, node = fresh(), pure.bind("", charge.bind(str(tmp_path / "ledger")))
    counting = Counting(FailurePoint(point))
    with Engine("memory://", "inline", failures=[counting]) as engine:
        engine.run(node, workflow_id="w")
        last = counting.times
    with Engine(storage, "inline", failures=[f"*.crash@{last},{point}"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(node, workflow_id="w")

    with Engine(storage) as engine:
        engine.cancel("w")  # by somebody who does not know how far it came
        assert engine.status("w") == expected
        if expected == "succeeded":
            assert engine.result("w")[0] == "pure"
        else:
            with pytest.raises(exoflow.WorkflowCancelledError):
                engine.result("w")


class Counting:
    """Counts how often a point is reached."""

    def __init__(self, point: FailurePoint) -> None:
        self.point, self.times = point, 0

    def reach(self, point: FailurePoint, **_: Any) -> None:
        self.times += point is self.point


@exoflow.task(effects="none")
def seven() -> int:
    return 7


# --- undoing ----------------------------------------------------------------------------------------------------------


def trip() -> Stage:
    """A hotel, a flight that depends on it, a car that does not, and something that fails afterwards."""
    hotel = book("hotel").bind()
    flight, car = book("flight").bind(hotel), book("car").bind()
    stage = Stage(draw("fails").bind(flight, car))
    stage.flush()
    stage.returns("hotel")
    stage.flush()
    stage.returns("flight", "car")
    stage.flush()
    return stage


def test_nothing_is_undone_before_the_end_is_durable() -> None:
    stage = trip()
    stage.raises("fails")
    assert stage.undoing == []

    stage.crash()
    assert stage.undoing == [], "no record says that it failed: it runs again"
    stage.raises("fails")
    stage.flush()

    assert stage.undoing == ["flight"]


def test_undoing_goes_against_the_order_in_which_one_led_to_the_other() -> None:
    stage = trip()
    stage.raises("fails")
    stage.flush()
    order = []
    while stage.undoing:
        (undone,) = stage.undoing
        order.append(undone)
        stage.is_undone(undone)
        stage.flush()

    assert sorted(order) == ["car", "flight", "hotel"]
    assert order.index("flight") < order.index("hotel")
    assert stage.answer == "failed"


def test_a_rollback_that_is_interrupted_goes_on_where_it_was() -> None:
    stage = trip()
    stage.raises("fails")
    stage.flush()
    stage.is_undone("flight")
    stage.flush()
    stage.crash()

    assert stage.running == set()
    assert stage.undoing != ["flight"]
    stage.to_the_end()
    assert stage.answer == "failed"
    assert not [task for task in ("hotel", "flight", "car") if stage.standing(task)]


def test_a_cancel_while_it_rolls_back_changes_nothing() -> None:
    stage = trip()
    stage.raises("fails")
    stage.flush()
    undoing = stage.undoing
    stage.world.cancel()

    assert stage.undoing == undoing
    stage.to_the_end()
    assert stage.answer == "failed"
    assert [end.status for end in stage.records(End)] == ["failed", "rolled_back"]


def test_nothing_is_undone_while_a_sibling_runs_and_nothing_starts_any_more() -> None:
    hotel = book("hotel").bind()
    slow = pay("slow").bind()
    stage = Stage(draw("h").bind(draw("fails").bind(hotel), draw("later").bind(slow)))
    stage.flush()
    stage.returns("hotel")
    stage.flush()
    stage.raises("fails")
    stage.flush()
    assert stage.undoing == []

    stage.returns("slow")
    stage.flush()

    assert stage.undoing == ["hotel"]
    assert not stage.attempts("later")
    stage.to_the_end()


def test_a_once_task_that_runs_at_the_end_is_let_finish_and_is_known() -> None:
    stage = Stage(draw("h").bind(book("hotel").bind(), send("mail").bind()))
    stage.flush()
    stage.returns("hotel")
    stage.flush()
    stage.world.cancel()
    stage.flush()
    assert stage.running == {"mail"}
    assert stage.world.stopping == []
    assert stage.undoing == []

    stage.returns("mail")
    stage.flush()

    assert [r.completed for r in stage.records(Outcome, "mail")] == [True]
    stage.to_the_end()
    assert stage.answer == "cancelled"


def test_an_undo_that_fails_stops_the_workflow_and_is_not_tried_for_ever() -> None:
    stage = trip()
    stage.raises("fails")
    stage.flush()
    stage.is_undone("flight", fails=True)
    stage.flush()

    assert stage.undoing == []
    assert stage.answer == "attention"
    (question,) = stage.records(Attention)
    assert question.attempt == stage.attempts("flight")[0].attempt
    assert stage.standing("hotel"), "what the flight depended on is left as it is"
    stage.die()
    stage.world.settle()  # a person undid it by hand
    stage.world.resume()
    stage.to_the_end()
    assert stage.answer == "failed"


# --- acceptance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pay, book, send])
def test_constants_are_settled_when_the_submission_is_durable(kind: Any) -> None:
    stage = Stage(draw("h").bind(kind("act").bind(42), by_hand.pure("tidy").bind(42)))
    assert stage.running == {"tidy"}, "what has no effects need not wait"

    stage.world.flush()
    assert stage.running == {"tidy"}
    stage.world.flushed()

    assert "act" in stage.running
    if kind is not pay:
        assert stage.records(Intent, "act")


@pytest.mark.parametrize("blocked", ["claims/w/00000001", "journals/"])
def test_a_handle_is_given_out_and_an_effect_begins_after_claim_and_submission_are_durable(
    blocked: str, tmp_path: Path
) -> None:
    storage, ledger = fresh(), Ledger(tmp_path / "ledger")
    reached, go_on, returned = threading.Event(), threading.Event(), threading.Event()
    armed = threading.Event()

    def plan(call: Call) -> None:
        if armed.is_set() and call.verb in ("create", "append") and call.key.startswith(blocked):
            reached.set()
            assert go_on.wait(PATIENCE_S)

    with Engine(FaultyStore(MemoryStore.open(storage), plan)) as engine:
        engine.run(seven.bind())
        handles: list[exoflow.Handle] = []

        def start() -> None:
            handles.append(engine.start(charge.bind(ledger.path), workflow_id="w"))
            returned.set()

        armed.set()
        starter = threading.Thread(target=start)
        starter.start()
        assert reached.wait(PATIENCE_S)
        too_early = returned.wait(0.1)
        begun = list(ledger)
        go_on.set()
        starter.join(PATIENCE_S)

        assert not too_early
        assert not begun
        handles[0].result(PATIENCE_S)
    assert len(list(ledger)) == 1


@pytest.mark.parametrize("failing", ["claims/*", "journals/*"])
def test_a_workflow_that_could_not_be_accepted_has_done_nothing_and_can_be_started_again(
    failing: str, tmp_path: Path
) -> None:
    storage, ledger = fresh(), Ledger(tmp_path / "ledger")
    store = FaultyStore(MemoryStore.open(storage))
    node = charge.bind(ledger.path, reserve.bind(ledger.path))
    with Engine(store) as engine:
        engine.run(seven.bind())
        store.plan = Scheduled(At("create", Refuse(), key=failing), At("append", Refuse(), key=failing))
        with pytest.raises(exoflow.UnavailableError):
            engine.run(node, workflow_id="w")
        store.plan = None
        assert not list(ledger)

        answer = engine.run(node, workflow_id="w")

        assert engine.run(node, workflow_id="w") == answer
    assert ledger.tasks() == ["reserve", "charge"]
    claim = highest_claim(MemoryStore.open(storage), "w")
    assert claim is not None
    assert claim.epoch == (1 if failing == "claims/*" else claim.epoch)
