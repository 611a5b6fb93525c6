"""What records add up to."""

from exoflow.journal.records import Attention, End, TimerArmed
from exoflow.recovery.history import History

from .history_of import STORED, Story, a_task


def story() -> Story:
    return Story(a_task("b").bind(a_task("a").bind()))


def test_a_value_recorded_after_its_trace_makes_one_outcome_with_both() -> None:
    history = story().trace("a", "a.1").outcome("a", "a.1").history

    assert history.outcomes["a.1"].payload is STORED
    assert history.counts == {"a": 1}


def test_a_trace_that_comes_later_does_not_take_the_value_away() -> None:
    assert story().outcome("a", "a.1").trace("a", "a.1").history.outcomes["a.1"].payload is STORED


def test_the_latest_incarnation_is_the_current_one_and_all_are_remembered() -> None:
    history = story().outcome("a", "a.1").outcome("a", "a.2").history

    assert history.current == {"a": "a.2"}
    assert list(history.outcomes) == ["a.1", "a.2"]
    assert history.counts == {"a": 2}


def test_a_deterministic_task_that_ran_again_keeps_its_incarnation_under_another_attempt() -> None:
    history = story().trace("a", "a.1").outcome("a", "a.2", incarnation="a.1").history

    assert history.current == {"a": "a.1"}
    assert history.outcomes["a.1"].attempt == "a.2"


def test_an_attempt_counts_once_though_both_its_intent_and_its_outcome_are_known() -> None:
    assert story().intent("a", "a.1").outcome("a", "a.1").intent("a", "a.2").history.counts == {"a": 2}


def test_the_first_end_counts() -> None:
    assert story().ended("cancelled").ended("succeeded").history.end == End("w", "cancelled", "", 0.0)


def test_that_all_was_rolled_back_is_no_end_but_follows_one() -> None:
    history = story().ended("failed").ended("rolled_back").history

    assert history.end is not None
    assert history.end.status == "failed"
    assert history.rolled_back


def test_the_first_submission_of_a_new_generation_forgets_what_was_before() -> None:
    again = story()
    again.outcome("a", "a.1").intent("a", "a.2").ended("failed")
    history = History.of([*again.records, again.records[0]])

    assert history == story().history


def test_attention_is_over_when_the_attempt_it_is_about_was_settled_undone_or_finished() -> None:
    wanted = Attention("w", "a", "a.1", "nobody knows")
    before = story().intent("a", "a.1").records
    answers = [
        story().settled("a", "a.1", happened=False),
        story().undone("a", "a.1"),
        story().outcome("a", "a.1"),
    ]

    assert History.of([*before, wanted]).attention == wanted
    for answer in answers:
        assert History.of([*before, wanted, *answer.records[1:]]).attention is None
    assert History.of([*before, wanted, *story().outcome("b", "b.1").records[1:]]).attention == wanted


def test_a_history_stated_again_in_another_journal_is_the_same() -> None:
    told = story()
    told.intent("a", "a.1").undone("a", "a.1").intent("a", "a.2").trace("a", "a.2").outcome("b", "b.1", "a.2")
    told.outcome("a", "a.3").settled("a", "a.2", happened=True).ended("failed").ended("rolled_back")
    told.records += [TimerArmed("w", "a", 5.0), Attention("w", "b", "b.2", "nobody knows")]
    history = told.history
    again = History.of(history.records())

    assert again == history
    assert list(again.intents) == list(history.intents), "undoing goes by their order"
