"""Scenario 11: determinism is believed where it is false: failures, and code that changed.

A failure is never deterministic, so where it becomes a value, that is settled by its record alone. A deterministic value
that was not recorded is made again by the code that is installed then: if an effect may have acted on the value of the
old code, recovery stops and says so. A failed attempt may have left half an effect: it is undone before anybody goes
on, and a once task is not tried again unless it is known that nothing happened.
"""

import pytest

from exoflow.errors import CodeChangedError, TaskFailedError
from exoflow.graph.node import Node
from exoflow.journal.records import End, Outcome, Settlement, UndoRecord

from .stage import NotHappenedError, Stage, book, draw, pay, pure, send

# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sync", "skip"])
def test_a_failure_that_was_caught_is_recorded_before_an_effect_acts_on_it(mode: str) -> None:
    tidy = pure("tidy", mode, catch_exceptions=True, system_retries=0).bind()
    stage = Stage(draw("h").bind(pay("apologise").bind(tidy), tidy))
    stage.is_lost("tidy")  # out of memory, once
    assert not stage.attempts("apologise"), "run again, it may well succeed"

    if mode == "skip":
        stage.is_stored("tidy")  # skip is a wish
    stage.flush()
    assert stage.running == {"apologise"}
    assert stage.stored("tidy")
    stage.crash(happened=["apologise"])

    assert "tidy" not in stage.reruns()
    stage.to_the_end()
    assert len(stage.attempts("tidy")) == 1


def test_a_failure_that_was_caught_and_not_recorded_is_lost_and_nobody_acted_on_it() -> None:
    tidy = pure("tidy", "skip", catch_exceptions=True, system_retries=0).bind()
    stage = Stage(draw("h").bind(pay("apologise").bind(tidy), tidy))
    stage.is_lost("tidy")
    stage.crash()
    stage.returns("tidy")
    stage.to_the_end()

    assert stage.records(Outcome, "tidy")[-1].what == "value"
    assert len(stage.attempts("apologise")) == 1


def test_a_task_that_catches_is_not_believed_to_be_deterministic_when_it_succeeds_either() -> None:
    tidy = pure("tidy", "skip", catch_exceptions=True).bind()
    stage = Stage(draw("h").bind(pay("act").bind(tidy), draw("slow").bind(tidy)))
    stage.returns("tidy")

    assert not stage.attempts("act"), "it might fail the next time"
    assert stage.storing == {"tidy"}
    stage.to_the_end()


# --- code -------------------------------------------------------------------------------------------------------------


def shop() -> Node:
    tidy = pure("tidy", "skip").bind()
    return draw("h").bind(pay("charge").bind(tidy))


def test_new_code_is_not_run_under_an_effect_that_may_have_acted_on_the_old() -> None:
    stage = Stage(shop())
    stage.returns("tidy")
    stage.flush()
    assert stage.running == {"charge"}
    stage.die(happened=["charge"])
    stage.world.versions["tidy"] = "2"

    with pytest.raises(CodeChangedError) as caught:
        stage.world.resume()

    assert caught.value.effects == ("charge",)
    stage.world.versions["tidy"] = "1"  # whoever has the old code goes on
    stage.world.resume()
    stage.to_the_end()
    first, second = stage.attempts("charge")
    assert (first.key, first.inputs) == (second.key, second.inputs)


def test_consent_goes_on_with_the_new_code() -> None:
    stage = Stage(shop())
    stage.returns("tidy")
    stage.flush()
    stage.die(happened=["charge"])
    stage.world.versions["tidy"] = "2"
    stage.world.accepted = True

    stage.world.resume()
    stage.to_the_end()

    first, second = stage.attempts("charge")
    assert first.key == second.key
    assert first.inputs != second.inputs


def test_a_recorded_value_of_old_code_stays_what_it_is() -> None:
    tidy = pure("tidy", "sync").bind()
    stage = Stage(draw("h").bind(pay("charge").bind(tidy)))
    stage.returns("tidy")
    stage.flush()
    stage.die(happened=["charge"])
    stage.world.versions["tidy"] = "2"

    stage.world.resume()

    assert "tidy" not in stage.reruns()
    stage.to_the_end()


def test_code_that_changed_behind_no_effect_is_just_run() -> None:
    tidy = pure("tidy", "skip").bind()
    stage = Stage(draw("h").bind(draw("a").bind(tidy), draw("b").bind(tidy)))
    stage.returns("tidy", "a")
    stage.flush()
    stage.die()
    stage.world.versions["tidy"] = "2"

    stage.world.resume()

    assert {"tidy", "a"} <= stage.reruns(), "a was made of the old code's value: one incarnation explains all"
    stage.to_the_end()


def test_a_reservation_made_on_a_value_of_old_code_is_undone_and_made_again() -> None:
    tidy = pure("tidy", "skip").bind()
    stage = Stage(draw("h").bind(book("reserve").bind(tidy), draw("slow").bind(tidy)))
    stage.returns("tidy")
    stage.flush()
    stage.returns("reserve")
    stage.flush()
    first = stage.standing("reserve")
    stage.die()
    stage.world.versions["tidy"] = "2"

    stage.world.resume()

    assert stage.undoing == ["reserve"], "it can be taken back, so nobody is asked"
    stage.to_the_end()
    assert len(stage.standing("reserve")) == 1
    assert stage.standing("reserve") != first


# --- half an effect ---------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_undone_before_its_retry() -> None:
    stage = Stage(book("reserve", retries=1).bind())
    stage.flush()
    stage.raises("reserve", happened=True)

    assert stage.undoing == ["reserve"]
    assert stage.world.retrying == []
    stage.is_undone("reserve")
    stage.is_retried()
    stage.flush()
    assert stage.running == {"reserve"}
    assert len(stage.records(UndoRecord)) == 1
    stage.to_the_end()
    assert len(stage.standing("reserve")) == 1


def test_a_failed_attempt_is_undone_before_its_error_is_passed_on() -> None:
    stage = Stage(draw("other").bind(book("reserve", catch_exceptions=True).bind()))
    stage.flush()
    stage.raises("reserve", happened=True)
    stage.flush()
    assert not stage.attempts("other")

    stage.is_undone("reserve")
    stage.flush()

    assert stage.running == {"other"}
    stage.to_the_end()
    assert not stage.standing("reserve")


def test_the_exception_of_a_once_task_is_its_outcome_and_survives_a_crash() -> None:
    stage = Stage(send("mail").bind())
    stage.flush()
    stage.raises("mail", happened=True)
    stage.world.flush()
    stage.crash(landed=True)

    assert stage.asking == []
    assert stage.running == set()
    stage.to_the_end()
    assert stage.answer == "failed"
    assert isinstance(stage.world.state.error, TaskFailedError | None)
    assert len(stage.attempts("mail")) == 1
    assert [end.status for end in stage.records(End)] == ["failed"]


def test_retries_do_not_repeat_a_once_task_that_raised() -> None:
    stage = Stage(send("mail", retries=5).bind())
    stage.flush()
    stage.raises("mail", happened=True)
    stage.flush()

    assert stage.world.retrying == []
    stage.to_the_end()
    assert stage.answer == "failed"
    assert len(stage.attempts("mail")) == 1


def test_a_once_task_is_repeated_when_its_exception_was_declared_to_mean_that_nothing_happened() -> None:
    stage = Stage(send("mail", retries=1, asked=False, not_happened=NotHappenedError).bind())
    stage.flush()
    stage.raises("mail", not_happened=True)
    stage.is_retried()
    stage.flush()

    assert [s.happened for s in stage.records(Settlement)] == [False]
    assert stage.running == {"mail"}
    stage.to_the_end()


@pytest.mark.parametrize("happened", [True, False])
def test_a_once_attempt_that_was_lost_is_asked_about(happened: bool) -> None:
    stage = Stage(send("mail").bind())
    stage.flush()
    stage.is_lost("mail", happened=happened)

    assert stage.asking == ["mail"]
    stage.to_the_end()
    assert len(stage.attempts("mail")) == (1 if happened else 2)
    assert len(stage.standing("mail")) == 1
