"""One history for each rule of recovery: `reads` of a record name attempts, ``a.1`` is the first attempt of ``a``."""

from typing import Any

import pytest

from exoflow.graph.node import Node

from .history_of import Story, a_task, attempts


def pair(**first: Any) -> Node:
    """``a``, as described, read by ``b``, which is deterministic."""
    return a_task("b", deterministic=True).bind(a_task("a", **first).bind())


# --- what counts ------------------------------------------------------------------------------------------------------


def test_of_what_nothing_is_known_everything_runs() -> None:
    plan = Story(pair()).plan()

    assert plan.rerun == {"a": None, "b": None}
    assert not plan.load
    assert not plan.roll_back
    assert not plan.resolve


def test_what_is_recorded_is_loaded_and_the_rest_runs() -> None:
    plan = Story(pair()).outcome("a", "a.1").plan()

    assert plan.load == {"a"}
    assert plan.rerun == {"b": None}


def test_a_result_that_is_stored_asks_for_nothing_before_it() -> None:
    plan = Story(pair()).trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.load == {"a", "b"}
    assert plan.rerun == {}


def test_a_value_that_is_lost_and_not_wanted_stays_lost() -> None:
    root = a_task("c").bind(pair())
    plan = Story(root).trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.load == {"a", "b"}
    assert plan.rerun == {"c": None}


def test_a_value_that_is_lost_and_wanted_is_made_again_and_what_read_it_is_an_orphan() -> None:
    # a (lost) -> b (stored), a -> c: c asks for a again, and then b was made from something nobody else sees.
    a = a_task("a").bind()
    root = a_task("c").bind(a, a_task("b", deterministic=True).bind(a))
    plan = Story(root).trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.rerun == {"a": None, "b": None, "c": None}
    assert plan.load == set()


def test_a_deterministic_task_that_is_made_again_is_the_same_incarnation_and_orphans_nobody() -> None:
    a = a_task("a", deterministic=True).bind()
    root = a_task("c").bind(a, a_task("b").bind(a))
    plan = Story(root).trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.rerun == {"a": "a.1", "c": None}
    assert plan.load == {"b"}


def test_it_is_another_one_if_its_own_inputs_changed() -> None:
    a = a_task("a").bind()
    b = a_task("b", deterministic=True).bind(a)
    root = a_task("d").bind(a, a_task("c").bind(b))
    plan = Story(root).trace("a", "a.1").trace("b", "b.1", "a.1").outcome("c", "c.1", "b.1").plan()

    assert plan.rerun == {"a": None, "b": None, "c": None, "d": None}


@pytest.mark.parametrize("what", ["caught", "error"])
def test_a_failure_does_not_come_out_again_whatever_its_task_promises(what: str) -> None:
    a = a_task("a", deterministic=True).bind()
    root = a_task("c").bind(a, a_task("b").bind(a))
    plan = Story(root).trace("a", "a.1", what=what).outcome("b", "b.1", "a.1").plan()

    assert plan.rerun == {"a": None, "b": None, "c": None}


def test_what_catches_exceptions_is_not_deterministic() -> None:
    a = a_task("a", deterministic=True, catch_exceptions=True).bind()
    root = a_task("c").bind(a, a_task("b").bind(a))
    plan = Story(root).trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.rerun == {"a": None, "b": None, "c": None}


def test_a_record_that_read_a_superseded_incarnation_is_an_orphan() -> None:
    plan = Story(pair()).outcome("a", "a.1").outcome("b", "b.1", "a.1").outcome("a", "a.2").plan()

    assert plan.load == {"a"}
    assert plan.rerun == {"b": None}


def test_a_value_that_an_executor_still_holds_is_not_made_again() -> None:
    story = Story(pair()).trace("a", "a.1")

    assert story.plan("a.1").rerun == {"b": None}
    assert story.plan("a.2").rerun == {"a": None, "b": None}


def test_coming_after_an_effect_asks_for_it_and_coming_after_anything_else_does_not() -> None:
    for effects, wanted in [("idempotent", True), ("none", False)]:
        first = a_task("first", effects).bind()
        root = a_task("second", after=[first]).bind()
        plan = Story(root).trace("first", "f.1").plan()
        assert ("first" in plan.rerun) is wanted


# --- rollback ---------------------------------------------------------------------------------------------------------


def test_an_attempt_that_did_not_finish_is_undone_and_runs_again() -> None:
    plan = Story(a_task("a", "rollback").bind()).intent("a", "a.1").plan()

    assert attempts(plan.roll_back) == ["a.1"]
    assert plan.rerun == {"a": None}


def test_an_attempt_that_finished_is_not_undone() -> None:
    plan = Story(a_task("a", "rollback").bind()).intent("a", "a.1").outcome("a", "a.1").plan()

    assert plan.roll_back == ()
    assert plan.load == {"a"}


def test_what_was_undone_is_not_undone_again() -> None:
    plan = Story(a_task("a", "rollback").bind()).intent("a", "a.1").undone("a", "a.1").plan()

    assert plan.roll_back == ()
    assert plan.rerun == {"a": None}


def test_what_was_undone_after_it_finished_does_not_count_any_more() -> None:
    plan = Story(a_task("a", "rollback").bind()).intent("a", "a.1").outcome("a", "a.1").undone("a", "a.1").plan()

    assert plan.rerun == {"a": None}
    assert plan.load == set()


def superseded_effects() -> Story:
    """u (lost, wanted again) -> first -> second -> last, all three of them rollback tasks that finished."""
    u = a_task("u").bind()
    last = a_task("last", "rollback").bind(a_task("second", "rollback").bind(a_task("first", "rollback").bind(u)))
    return (
        Story(a_task("end").bind(last, u)).trace("u", "u.1")
        .intent("first", "f.1", "u.1").outcome("first", "f.1", "u.1")
        .intent("second", "s.1", "f.1").outcome("second", "s.1", "f.1")
        .intent("last", "l.1", "s.1").outcome("last", "l.1", "s.1")
    )  # fmt: skip


def test_superseded_effects_are_undone_in_reverse_causal_order() -> None:
    plan = superseded_effects().plan()

    assert attempts(plan.roll_back) == ["l.1", "s.1", "f.1"]
    assert plan.rerun == dict.fromkeys(["u", "first", "second", "last", "end"])


def test_a_crash_between_two_undos_leaves_the_rest_of_them() -> None:
    assert attempts(superseded_effects().undone("last", "l.1").plan().roll_back) == ["s.1", "f.1"]


def test_all_earlier_attempts_are_undone_and_the_one_that_counts_is_not() -> None:
    story = Story(a_task("a", "rollback").bind()).intent("a", "a.1").intent("a", "a.2").outcome("a", "a.2")

    assert attempts(story.plan().roll_back) == ["a.1"]


# --- once -------------------------------------------------------------------------------------------------------------


def test_an_attempt_of_which_nobody_knows_the_end_is_asked_about() -> None:
    plan = Story(a_task("a", "once").bind()).intent("a", "a.1").plan()

    assert attempts(plan.resolve) == ["a.1"]
    assert plan.roll_back == ()


def test_nobody_is_asked_about_an_attempt_that_finished() -> None:
    assert Story(a_task("a", "once").bind()).intent("a", "a.1").outcome("a", "a.1").plan().resolve == ()


def test_nor_about_one_that_is_known_not_to_have_happened_which_runs_again() -> None:
    plan = Story(a_task("a", "once").bind()).intent("a", "a.1").settled("a", "a.1", happened=False).plan()

    assert plan.resolve == ()
    assert plan.rerun == {"a": None}


def test_a_once_task_whose_value_is_lost_after_a_trace_is_asked_about_and_never_just_run() -> None:
    plan = Story(a_task("b").bind(a_task("a", "once").bind())).intent("a", "a.1").trace("a", "a.1").plan()

    assert attempts(plan.resolve) == ["a.1"]
    assert "a" not in plan.load


def test_a_once_task_whose_lost_value_nobody_wants_is_left_alone() -> None:
    root = a_task("b").bind(a_task("a", "once").bind())
    plan = Story(root).intent("a", "a.1").trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.resolve == ()
    assert plan.load == {"a", "b"}


def test_after_the_end_only_attempts_without_any_outcome_are_asked_about() -> None:
    root = a_task("b").bind(a_task("a", "once").bind(), a_task("c", "once").bind())
    story = Story(root).intent("a", "a.1").trace("a", "a.1").intent("c", "c.1").ended("cancelled")

    assert attempts(story.plan().resolve) == ["c.1"]


# --- code -------------------------------------------------------------------------------------------------------------


def test_an_uncommitted_value_of_other_code_counts_as_lost() -> None:
    a = a_task("a", deterministic=True, version="2").bind()
    root = a_task("c").bind(a, a_task("b").bind(a))
    plan = Story(root).trace("a", "a.1").outcome("b", "b.1", "a.1").plan()

    assert plan.rerun == {"a": None, "b": None, "c": None}
    assert plan.endangered == ()
    assert plan.code_changed == (), "nobody acted on the old value, so nobody need be asked"


def test_a_committed_value_of_other_code_still_counts() -> None:
    plan = Story(pair(deterministic=True, version="2")).outcome("a", "a.1").plan()

    assert plan.load == {"a"}
    assert plan.code_changed == ()


@pytest.mark.parametrize("effects", ["idempotent", "once"])
def test_an_effect_that_acted_on_a_lost_value_of_other_code_is_endangered(effects: str) -> None:
    a = a_task("a", deterministic=True, version="2").bind()
    root = a_task("c").bind(a, a_task("pay", effects).bind(a))
    plan = Story(root).trace("a", "a.1").intent("pay", "p.1", "a.1").outcome("pay", "p.1", "a.1").plan()

    assert plan.code_changed == ("a",)
    assert plan.endangered == ("pay",)


def test_a_rollback_task_is_not_endangered_for_it_can_be_undone() -> None:
    a = a_task("a", deterministic=True, version="2").bind()
    root = a_task("c").bind(a, a_task("hold", "rollback").bind(a))
    plan = Story(root).trace("a", "a.1").intent("hold", "h.1", "a.1").outcome("hold", "h.1", "a.1").plan()

    assert plan.endangered == ()
    assert attempts(plan.roll_back) == ["h.1"]


def test_an_idempotent_effect_without_any_record_may_have_begun_on_the_old_code() -> None:
    a = a_task("a", deterministic=True, version="2")
    story = Story(a_task("pay", "idempotent").bind(a.bind()), fingerprints={a.qualified_name: "v:1"})

    assert story.plan().code_changed == ("a",)
    assert story.plan().endangered == ("pay",)


def test_it_cannot_have_begun_before_something_nondeterministic_was_committed() -> None:
    a = a_task("a", deterministic=True, version="2")
    root = a_task("pay", "idempotent").bind(a.bind(a_task("u").bind()))
    story = Story(root, fingerprints={a.qualified_name: "v:1"})

    assert story.plan().endangered == ()
    assert story.outcome("u", "u.1").plan().endangered == ("pay",)


# --- continuations ----------------------------------------------------------------------------------------------------


def test_the_nodes_of_a_continuation_are_part_of_the_workflow() -> None:
    plan = (
        Story(pair()).continued("a", "a.1", a_task("y").bind(a_task("x").bind())).outcome("a.1/0", "x.1", "a.1").plan()
    )

    assert plan.load == {"a", "a.1/0"}
    assert plan.rerun == {"a.1/1": None, "b": None}


def test_a_continuation_answers_for_the_task_that_returned_it() -> None:
    story = Story(pair()).continued("a", "a.1", a_task("x").bind()).trace("a.1/0", "x.1", "a.1")

    assert story.plan().rerun == {"a.1/0": None, "b": None}, "b asks for the value, which is that of the continuation"


def test_a_continuation_that_was_superseded_no_longer_counts_and_its_effects_are_undone() -> None:
    story = Story(pair()).continued("a", "a.1", a_task("hold", "rollback").bind())
    story.intent("a.1/0", "h.1", "a.1").outcome("a.1/0", "h.1", "a.1")
    story.continued("a", "a.2", a_task("x").bind())
    plan = story.plan()

    assert attempts(plan.roll_back) == ["h.1"]
    assert plan.load == {"a"}
    assert plan.rerun == {"a.2/0": None, "b": None}


def test_so_do_the_continuations_inside_it() -> None:
    u = a_task("u").bind()
    story = Story(a_task("end").bind(a_task("a").bind(u), u)).trace("u", "u.1")
    story.continued("a", "a.1", a_task("x").bind(), "u.1").continued(
        "a.1/0", "x.1", a_task("y", "rollback").bind(), "a.1"
    )
    story.intent("x.1/0", "y.1", "x.1").outcome("x.1/0", "y.1", "x.1")
    plan = story.plan()

    assert attempts(plan.roll_back) == ["y.1"]
    assert plan.load == set()
    assert plan.rerun == {"u": None, "a": None, "end": None}


def test_a_once_task_of_a_continuation_that_no_longer_counts_is_still_asked_about() -> None:
    story = Story(pair()).continued("a", "a.1", a_task("pay", "once").bind()).intent("a.1/0", "p.1", "a.1")
    story.outcome("a", "a.2")

    assert attempts(story.plan().resolve) == ["p.1"]


def test_a_chain_of_100_000_tasks_is_planned_without_recursion() -> None:
    work = a_task("t")
    node = work.bind()
    for _ in range(100_000):
        node = work.bind(node)

    assert len(Story(node).trace("t", "t.1").plan().rerun) == 100_001
