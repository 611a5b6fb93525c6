"""Scenario 2: undo and resolve race with an attempt that still runs.

A store can refuse a late record; nobody can refuse a late effect. An attempt has *ended* when its outcome arrived, its
process is known dead, or its executor confirms the stop. Undo, resolve and the next attempt of a rollback or once task
wait for that, unless the receiver fences: then it refuses a late arrival of the key itself. What runs idempotently may
overlap.
"""

import pytest

from exoflow.errors import NeedsAttentionError
from exoflow.journal.records import Attention, Intent, UndoRecord

from .stage import Stage, book, draw, pay, send


def test_an_attempt_past_its_timeout_is_not_undone_and_not_followed_while_it_runs() -> None:
    stage = Stage(book("reserve", retries=1).bind())
    stage.flush()
    first = stage.times_out("reserve")

    stage.flush()
    assert stage.undoing == []
    assert stage.running == set()

    stage.ends_at_last(first, happened=True)
    assert stage.undoing == ["reserve"], "now there is one seat to give back, and nobody can take another"
    stage.is_undone("reserve")
    stage.is_retried()
    stage.flush()
    assert "reserve" in stage.running
    stage.to_the_end()
    assert len(stage.standing("reserve")) == 1


def test_a_receiver_that_fences_lets_the_undo_go_first_and_refuses_the_late_arrival() -> None:
    stage = Stage(book("reserve", retries=1, fences=True).bind())
    stage.flush()
    first = stage.times_out("reserve")
    assert stage.undoing == ["reserve"]
    stage.is_undone("reserve")
    stage.is_retried()
    stage.flush()
    stage.returns("reserve")

    stage.ends_at_last(first, happened=True)

    second = stage.attempts("reserve")[-1].attempt
    assert stage.standing("reserve") == [second] != [first]
    stage.to_the_end()


def test_a_once_attempt_past_its_timeout_is_not_asked_about_while_it_may_still_happen() -> None:
    stage = Stage(send("mail", retries=1).bind())
    stage.flush()
    first = stage.times_out("mail")
    stage.flush()
    assert stage.asking == [], "it would be told that nothing happened, a moment before it happens"

    stage.ends_at_last(first, happened=True)

    assert stage.asking == ["mail"]
    stage.is_resolved("mail")
    stage.to_the_end()
    assert stage.standing("mail") == [first]


def test_a_once_attempt_that_returns_past_its_timeout_has_happened_and_nobody_is_asked() -> None:
    stage = Stage(send("mail", retries=1).bind())
    stage.flush()
    stage.times_out("mail")

    (late,) = stage.world.abandoned
    stage.world.finish(late)

    assert stage.asking == []
    stage.to_the_end()
    assert stage.standing("mail") == [late]


def test_a_fencing_resolve_is_asked_at_once_and_what_it_rules_out_stays_out() -> None:
    stage = Stage(send("mail", retries=1, fences=True).bind())
    stage.flush()
    first = stage.times_out("mail")
    assert stage.asking == ["mail"]
    stage.is_resolved("mail")
    stage.is_retried()
    stage.flush()
    stage.returns("mail")

    stage.ends_at_last(first, happened=True)

    assert stage.standing("mail") == [stage.attempts("mail")[-1].attempt]
    stage.to_the_end()


@pytest.mark.parametrize("fences", [False, True])
def test_other_effects_are_not_rolled_back_beneath_an_attempt_that_still_runs(fences: bool) -> None:
    hotel, flight = book("hotel").bind(), book("flight", fences=fences).bind()
    stage = Stage(draw("trip").bind(hotel, flight, draw("fails").bind(hotel)))
    stage.flush()
    stage.returns("hotel")
    stage.flush()
    first = stage.times_out("flight") if not fences else None
    stage.raises("fails")
    stage.flush()

    if first is not None:
        assert stage.undoing == []
        stage.ends_at_last(first, happened=True)
    stage.to_the_end()
    assert stage.answer == "failed"
    assert not stage.standing("hotel")
    assert not stage.standing("flight")


def test_what_no_resolve_can_tell_stops_the_workflow_and_loses_nothing() -> None:
    stage = Stage(draw("after").bind(send("mail", asked=False).bind(), pay("other").bind()))
    stage.flush()
    stage.returns("other")
    stage.flush()
    stage.crash(happened=["mail"])
    stage.flush()

    assert stage.answer == "attention"
    assert isinstance(stage.world.state.error, NeedsAttentionError)
    assert len(stage.attempts("mail")) == 1
    (question,) = stage.records(Attention)
    assert question.attempt == stage.attempts("mail")[0].attempt

    stage.die()
    stage.world.settle()  # a person looks, and says that it happened
    stage.world.resume()
    stage.to_the_end()
    assert len(stage.attempts("mail")) == len(stage.attempts("other")) == 1


def test_two_runs_of_one_idempotent_key_overlap() -> None:
    stage = Stage(pay("charge", retries=1).bind())
    stage.flush()
    first = stage.times_out("charge")
    stage.is_retried()

    assert stage.running == {"charge"}
    one, two = stage.attempts("charge")
    assert one.key == two.key
    assert one.running
    assert two.running
    stage.returns("charge")
    stage.ends_at_last(first, happened=True)
    stage.to_the_end()


def test_an_attempt_with_an_intent_and_no_start_is_undone_after_a_crash_all_the_same() -> None:
    stage = Stage(book("reserve").bind())
    stage.world.flush()  # the intent is on its way when the controller dies, and arrives
    stage.crash(landed=True)

    assert not stage.attempts("reserve")
    assert stage.undoing == ["reserve"], "nobody knows that it never began; undo accepts that nothing had happened"
    (intent,) = stage.records(Intent)
    stage.is_undone("reserve")
    stage.flush()
    assert stage.records(UndoRecord)[0].attempt == intent.attempt
    stage.to_the_end()
    assert len(stage.standing("reserve")) == 1
