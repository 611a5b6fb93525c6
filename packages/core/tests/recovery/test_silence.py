"""Attempts of a writer that is not heard any more, and of which no kernel says that it is dead."""

import pytest

from exoflow.recovery.history import History

from .history_of import Story, a_task, attempts


@pytest.mark.parametrize("effects", ["rollback", "once"])
def test_an_attempt_that_may_still_run_is_neither_undone_nor_asked_about(effects: str) -> None:
    plan = Story(a_task("a", effects).bind()).intent("a", "silent.1").fell_silent("silent").plan()

    assert attempts(plan.unended) == ["silent.1"]
    assert (plan.roll_back, plan.resolve) == ((), ())


def test_one_with_an_outcome_has_ended() -> None:
    story = Story(a_task("a", "rollback").bind()).intent("a", "silent.1").outcome("a", "silent.1").fell_silent("silent")

    assert story.plan().unended == ()


@pytest.mark.parametrize("effects", ["rollback", "once"])
def test_one_of_a_writer_known_to_be_dead_has_ended(effects: str) -> None:
    plan = Story(a_task("a", effects).bind()).intent("a", "dead.1").fell_silent("silent").plan()

    assert plan.unended == ()
    assert attempts((*plan.roll_back, *plan.resolve)) == ["dead.1"]


def test_a_receiver_that_refuses_late_arrivals_needs_nobody() -> None:
    task = a_task("a", "once", resolve=lambda key: None, fences=True)
    plan = Story(task.bind()).intent("a", "silent.1").fell_silent("silent").plan()

    assert attempts(plan.resolve) == ["silent.1"]
    assert plan.unended == ()


@pytest.mark.parametrize("effects", ["rollback", "once"])
def test_once_a_person_has_spoken_it_goes_on(effects: str) -> None:
    story = Story(a_task("a", effects).bind()).intent("a", "silent.1").fell_silent("silent")
    if effects == "once":
        story.settled("a", "silent.1", happened=False)
    else:
        story.undone("a", "silent.1")

    plan = story.plan()

    assert (plan.unended, plan.roll_back, plan.resolve) == ((), (), ())
    assert set(plan.rerun) == {"a"}


def test_silence_outlives_the_journal_that_recorded_it() -> None:
    story = Story(a_task("a", "once").bind()).intent("a", "silent.1").fell_silent("silent")

    assert History.of(story.history.records()).silent == {"silent"}
