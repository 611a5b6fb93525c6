"""Scenario 5: the card is charged, and no incarnation ever meant it to be.

A task that returns a node invents work. The inputs of that work may be constants, and yet it exists only because one
attempt decided so: every node of a continuation reads the attempt that returned it, and is named after it. Recovery
starts from the result and from every intent without an end, because the result may no longer lead to it.
"""

import pytest

from exoflow.journal.records import Intent, Outcome, UndoRecord

from .stage import Stage, book, draw, pay, pure, send

CARD = {"idempotent": pay("card").bind(42), "once": send("card").bind(42), "rollback": book("card").bind(42)}


@pytest.mark.parametrize("kind", CARD)
def test_nothing_a_decision_led_to_is_charged_before_the_decision_is_durable(kind: str) -> None:
    stage = Stage(draw("h").bind(draw("decide", "skip").bind()))
    stage.returns("decide", growing=CARD[kind])
    card = stage.child("decide", 0)
    assert not stage.attempts(card), "its inputs are constants, and it reads the attempt that made it"

    stage.crash()
    stage.returns("decide", growing=pay("cash").bind(42))
    stage.to_the_end()

    assert not stage.attempts(card)
    assert len(stage.standing(stage.child("decide", 0))) == 1


@pytest.mark.parametrize("kind", CARD)
def test_once_the_decision_is_durable_no_crash_makes_another(kind: str) -> None:
    stage = Stage(draw("h").bind(draw("decide", "skip").bind()))
    stage.returns("decide", growing=CARD[kind])
    stage.flush()
    card = stage.child("decide", 0)
    assert card in stage.running

    stage.crash(happened=[card])

    assert "decide" not in stage.reruns()
    stage.to_the_end()
    assert len(stage.attempts("decide")) == 1
    assert len(stage.standing(card)) >= 1


@pytest.mark.parametrize("kind", ["idempotent", "once"])
def test_a_decision_made_on_a_value_that_may_change_charges_nothing(kind: str) -> None:
    u = draw("u", "skip").bind()
    stage = Stage(draw("h").bind(draw("decide").bind(u), draw("slow").bind(u)))
    stage.returns("u")
    stage.returns("decide", growing=CARD[kind])
    stage.flush()
    card = stage.child("decide", 0)
    assert not stage.attempts(card)

    stage.crash()
    assert {"u", "decide"} <= stage.reruns()
    stage.to_the_end()
    assert not stage.attempts(card)


def test_a_reservation_of_a_decision_that_no_longer_counts_is_undone_though_no_result_leads_to_it() -> None:
    u = draw("u", "skip").bind()
    stage = Stage(draw("h").bind(draw("decide").bind(u), draw("slow").bind(u)))
    stage.returns("u")
    stage.returns("decide", growing=CARD["rollback"])
    stage.flush()
    card = stage.child("decide", 0)
    assert card in stage.running, "what can be undone need not wait"

    stage.crash(happened=[card])

    assert card not in stage.reruns()
    assert stage.undoing == [card]
    assert not stage.running, "and nothing runs before it is undone"
    stage.is_undone(card)
    stage.to_the_end({"decide": pay("cash").bind(42)})
    assert not stage.standing(card)
    assert len(stage.standing(stage.child("decide", 0))) == 1
    assert [r.task_id for r in stage.records(UndoRecord)] == [card]


def test_a_finished_reservation_of_a_decision_that_no_longer_counts_is_undone_too() -> None:
    u = draw("u", "skip").bind()
    stage = Stage(draw("h").bind(draw("decide").bind(u), draw("slow").bind(u)))
    stage.returns("u")
    stage.returns("decide", growing=CARD["rollback"])
    stage.flush()
    card = stage.child("decide", 0)
    stage.returns(card)
    stage.flush()
    assert stage.stored(card)

    stage.crash()

    assert stage.undoing == [card]
    stage.to_the_end()
    assert not stage.standing(card)


def test_a_record_of_a_child_names_the_attempt_that_made_it() -> None:
    stage = Stage(draw("h").bind(draw("decide").bind()))
    stage.returns("decide", growing=draw("card").bind(42))
    stage.flush()
    card = stage.child("decide", 0)
    stage.returns(card)
    stage.flush()

    (outcome,) = stage.records(Outcome, card)
    assert outcome.reads == (stage.attempts("decide")[0].attempt,)


def test_the_child_of_a_deterministic_parent_is_charged_under_one_key() -> None:
    stage = Stage(draw("h").bind(pure("decide", "skip").bind()))
    stage.returns("decide", growing=CARD["idempotent"])
    stage.flush()
    card = stage.child("decide", 0)
    stage.crash(happened=[card])
    stage.to_the_end()

    keys = {start.key for start in stage.world.outside.starts.values() if start.effects == "idempotent"}
    assert keys == {f"w/1/{card}"}, "a parent that came back under another name would have it charged under another key"


def test_the_names_of_a_long_chain_of_continuations_stay_short() -> None:
    stage = Stage(draw("link", "skip").bind())
    stage.world.strict = False
    stage.returns("link", growing=draw("link", "skip").bind())
    for _ in range(300):
        (running,) = stage.running
        stage.returns(running, growing=draw("link", "skip").bind())
    (last,) = stage.running
    stage.returns(last)
    stage.to_the_end()

    assert max(len(task_id) for task_id in stage.world.state.nodes) < 20
    assert not stage.records(Intent)
