"""The interpreter can say no: ledgers written by hand, honest ones, and the same with one lie each."""

import ast
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from .interpreter import PROMISES, complaints
from .ledger import Entry
from .plans import Plan, Step

Lines = list[Entry]


def call(where: str, token: str, *inputs: str, at: str, key: str = "", end: str = "returned", level: str = "") -> Lines:
    """Return the lines of one call; *at* is its attempt."""
    began = Entry(what="began", where=where, inputs=inputs, attempt=at, key=key or f"key of {where}", level=level)
    return [began, attrs.evolve(began, what=end, token=token)]


def reserve(where: str, token: str, *inputs: str, at: str) -> Lines:
    return call(where, token, *inputs, at=at, key=at)


def undo(where: str, at: str) -> Lines:
    return [Entry(what="undone", where=where, attempt=at, key=at)]


def ends(token: str, status: str = "succeeded") -> Lines:
    return [Entry(what="told", status=status, token=token)] * 2


DIED = [Entry(what="died")]


def kept(where: str, token: str) -> Lines:
    return [Entry(what="durable", where=where, token=token)]


PAY = Plan(Step("t0", checkpoint="skip"), Step("t1", effects="once", reads=("t0",)), Step("t2", reads=("t1", "t0")))
CHARGE = Plan(Step("t0"), Step("t1", effects="idempotent", reads=("t0",)), Step("t2", reads=("t1", "t0")))
TRIP = Plan(
    Step("t0", checkpoint="async"), Step("t1", effects="rollback", reads=("t0",)),
    Step("t2", effects="rollback", reads=("t1",)), Step("t3", reads=("t2",), retries=1),
)  # fmt: skip
BRANCH = Plan(Step("t0", grows=(Plan(Step("c0", effects="idempotent")),)), Step("t1", reads=("t0",)))
LATER = Plan(Step("t0"), Step("t1", after=("t0",)), Step("t2", reads=("t0", "t1")))
EVENTS = Plan(Step("ping0", kind="event"), Step("ping1", kind="event"), Step("t2", reads=("ping0", "ping1")))

DRAWN = call("t0", "t0#1", at="1")
PAID = [*DRAWN, *call("t1", "t1#2", "t0#1", at="2")]
BOOKED = [*DRAWN, *reserve("t1", "t1#2", "t0#1", at="2"), *reserve("t2", "t2#3", "t1#2", at="3")]
FAILED = [*call("t3", "t3!4", "t2#3", at="4", end="failed"), *call("t3", "t3!5", "t2#3", at="5", end="failed")]
CHOSE = [
    *call("t0", "t0#1", at="1", end="grew"),
    *call("t0/0/c0", "c0#2", at="2", level="t0#1"),
]

HONEST: dict[str, tuple[Plan, Lines]] = {
    "paid": (PAY, [*PAID, *call("t2", "t2#3", "t1#2", "t0#1", at="3"), *ends("t2#3")]),
    "nothing kept, all drawn again": (
        PAY,
        [*DRAWN, *DIED, *call("t0", "t0#2", at="2"), *call("t1", "t1#3", "t0#2", at="3"),
         *call("t2", "t2#4", "t1#3", "t0#2", at="4"), *ends("t2#4")],
    ),
    "charged twice under one key": (
        CHARGE,
        [*PAID, *DIED, *call("t1", "t1#3", "t0#1", at="3"), *call("t2", "t2#4", "t1#3", "t0#1", at="4"), *ends("t2#4")],
    ),
    "superseded, undone last one first, and booked again": (
        TRIP,
        [*BOOKED, *DIED, *undo("t2", "3"), *undo("t1", "2"), *call("t0", "t0#4", at="4"),
         *reserve("t1", "t1#5", "t0#4", at="5"), *reserve("t2", "t2#6", "t1#5", at="6"),
         *call("t3", "t3#7", "t2#6", at="7"), *ends("t3#7")],
    ),
    "failed and rolled back": (
        TRIP, [*BOOKED, *FAILED, *undo("t2", "3"), *undo("t1", "2"), *ends("t3!5", "failed")]
    ),
    "cancelled": (TRIP, [*DRAWN, Entry(what="cancelling"), *ends("", "cancelled")]),
    "a branch": (BRANCH, [*CHOSE, *call("t1", "t1#3", "c0#2", at="3"), *ends("t1#3")]),
    "later": (
        LATER,
        [*DRAWN, *call("t1", "t1#2", at="2"), *call("t2", "t2#3", "t0#1", "t1#2", at="3"), *ends("t2#3")],
    ),
    "two messages": (EVENTS, [*call("t2", "t2#1", "ping@1", "ping@0", at="1"), *ends("t2#1")]),
}  # fmt: skip

LIES: dict[str, tuple[str, Plan, Lines]] = {
    "a once effect is doubled": (
        "a_once_effect_happens_at_most_once", PAY,
        [*PAID, *DIED, *call("t1", "t1#3", "t0#1", at="3"), *call("t2", "t2#4", "t1#3", "t0#1", at="4"), *ends("t2#4")],
    ),
    "a commit is lost": (
        "nothing_runs_again_without_a_reason", PAY,
        [*DRAWN, *DIED, *kept("t0", "t0#1"), *call("t0", "t0#2", at="2"), *call("t1", "t1#3", "t0#2", at="3"),
         *call("t2", "t2#4", "t1#3", "t0#2", at="4"), *ends("t2#4")],
    ),
    "a value that was promised to be durable is lost": (
        "nothing_runs_again_without_a_reason", LATER,
        [*DRAWN, *call("t1", "t1#2", at="2"), *call("t2", "t2#3", "t0#1", "t1#2", at="3"), *DIED,
         *call("t0", "t0#4", at="4"), *call("t1", "t1#5", at="5"), *call("t2", "t2#6", "t0#4", "t1#5", at="6"),
         *ends("t2#6")],
    ),
    "a step runs twice in one life": (
        "nothing_runs_again_without_a_reason", PAY,
        [*DRAWN, *call("t0", "t0#2", at="2"), *call("t1", "t1#3", "t0#2", at="3"),
         *call("t2", "t2#4", "t1#3", "t0#2", at="4"), *ends("t2#4")],
    ),
    "a superseded value explains an effect": (
        "one_incarnation_explains_all_that_can_be_seen", PAY,
        [*PAID, *DIED, *call("t0", "t0#3", at="3"), *call("t2", "t2#4", "t1#2", "t0#3", at="4"), *ends("t2#4")],
    ),
    "an effect of a branch not taken": (
        "one_incarnation_explains_all_that_can_be_seen", BRANCH,
        [*CHOSE, *DIED, *call("t0", "t0#3", at="3", end="grew"),
         *call("t0/0/c0", "c0#4", at="4", level="t0#3", key="other"), *call("t1", "t1#5", "c0#4", at="5"), *ends("t1#5")],
    ),
    "a task is left out": (
        "one_incarnation_explains_all_that_can_be_seen", LATER,
        [*DRAWN, *call("t1", "t1#2", at="2"), *call("t2", "t2#3", "t0#1", at="3"), *ends("t2#3")],
    ),
    "an undo is missing after a failure": (
        "a_rollback_effect_stands_exactly_if_the_workflow_succeeded_with_it", TRIP,
        [*BOOKED, *FAILED, *undo("t2", "3"), *ends("t3!5", "failed")],
    ),
    "what is part of the result was undone": (
        "a_rollback_effect_stands_exactly_if_the_workflow_succeeded_with_it", TRIP,
        [*BOOKED, *undo("t2", "3"), *call("t3", "t3#4", "t2#3", at="4"), *ends("t3#4")],
    ),
    "an undo is missing where it was superseded": (
        "no_two_attempts_of_a_rollback_task_stand_at_once", TRIP,
        [*BOOKED, *DIED, *undo("t2", "3"), *call("t0", "t0#4", at="4"), *reserve("t1", "t1#5", "t0#4", at="5"),
         *reserve("t2", "t2#6", "t1#5", at="6"), *call("t3", "t3#7", "t2#6", at="7"), *ends("t3#7")],
    ),
    "a key that was undone is used": (
        "no_two_attempts_of_a_rollback_task_stand_at_once", TRIP,
        [*DRAWN, *undo("t1", "2"), *BOOKED[2:], *call("t3", "t3#4", "t2#3", at="4"), *ends("t3#4")],
    ),
    "undone first one first": (
        "what_is_undone_is_undone_last_one_first", TRIP,
        [*BOOKED, *FAILED, *undo("t1", "2"), *undo("t2", "3"), *ends("t3!5", "failed")],
    ),
    "undone while it runs": (
        "what_is_undone_is_undone_last_one_first", TRIP,
        [*BOOKED[:-1], *undo("t2", "3"), BOOKED[-1], *FAILED, *undo("t2", "3"), *undo("t1", "2"), *ends("t3!5", "failed")],
    ),
    "computed again for nobody": (
        "what_runs_again_is_needed", PAY,
        [*PAID, *call("t2", "t2#3", "t1#2", "t0#1", at="3"), *DIED, *call("t0", "t0#4", at="4"), *ends("t2#3")],
    ),
    "a second key": (
        "idempotent_and_once_tasks_have_one_key_and_one_set_of_inputs", CHARGE,
        [*PAID, *DIED, *call("t1", "t1#3", "t0#1", at="3", key="new"), *call("t2", "t2#4", "t1#3", "t0#1", at="4"),
         *ends("t2#4")],
    ),
    "other inputs under one key": (
        "idempotent_and_once_tasks_have_one_key_and_one_set_of_inputs", CHARGE,
        [*PAID, *DIED, *call("t0", "t0#3", at="3"), *call("t1", "t1#4", "t0#3", at="4"),
         *call("t2", "t2#5", "t1#4", "t0#3", at="5"), *ends("t2#5")],
    ),
    "arguments change places": (
        "values_come_from_where_the_plan_says", CHARGE,
        [*PAID, *call("t2", "t2#3", "t0#1", "t1#2", at="3"), *ends("t2#3")],
    ),
    "one message for two": (
        "values_come_from_where_the_plan_says", EVENTS,
        [*call("t2", "t2#1", "ping@0", "ping@0", at="1"), *ends("t2#1")],
    ),
    "too early": (
        "a_step_begins_when_what_it_waits_for_is_there", LATER,
        [*call("t1", "t1#2", at="2"), *DRAWN, *call("t2", "t2#3", "t0#1", "t1#2", at="3"), *ends("t2#3")],
    ),
    "one retry too many": (
        "retries_are_used_as_declared", TRIP,
        [*BOOKED, *FAILED, *call("t3", "t3#6", "t2#3", at="6"), *ends("t3#6")],
    ),
    "one retry too few": (
        "the_end_is_one_that_the_plan_allows", TRIP,
        [*BOOKED, *FAILED[:2], *undo("t2", "3"), *undo("t1", "2"), *ends("t3!4", "failed")],
    ),
    "nobody asked for the cancellation": (
        "the_end_is_one_that_the_plan_allows", TRIP, [*DRAWN, *ends("", "cancelled")]
    ),
    "the answer is another task's": ("the_end_is_one_that_the_plan_allows", PAY, [*PAID, *ends("t1#2")]),
    "a person is asked what resolve could say": (
        "only_what_nobody_can_know_needs_attention", PAY,
        [*PAID, *DIED, Entry(what="stopped", where="t1"), *call("t2", "t2#3", "t1#2", "t0#1", at="3"), *ends("t2#3")],
    ),
    "asked again, it says something else": (
        "the_end_is_the_end", TRIP,
        [*DRAWN, Entry(what="cancelling"), *ends("", "cancelled")[:1], *ends("t0#1")],
    ),
    "a step begins after the end": (
        "the_end_is_the_end", TRIP, [Entry(what="cancelling"), *ends("", "cancelled"), *DRAWN]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("plan", "lines"), HONEST.values(), ids=HONEST)
def test_an_honest_ledger_is_believed(plan: Plan, lines: Lines) -> None:
    assert list(complaints(plan, lines)) == []


@pytest.mark.parametrize(("promise", "plan", "lines"), LIES.values(), ids=LIES)
def test_a_lie_is_found(promise: str, plan: Plan, lines: Lines) -> None:
    found = {complaint.partition(":")[0] for complaint in complaints(plan, lines)}

    assert promise.replace("_", " ") in found


def test_there_is_a_lie_about_every_promise() -> None:
    assert {promise for promise, _, _ in LIES.values()} == {promise.__name__ for promise in PROMISES}


def imported(module: str) -> Iterable[str]:
    """Yield what *module* of this folder imports, and what that does; modules of this folder by their name alone."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{module} imports from another folder"
            assert node.module is not None
            yield node.module
            if node.level:
                yield from imported(node.module)


def test_the_interpreter_is_made_without_the_library() -> None:
    assert "past" in set(imported("interpreter"))
    assert not {name for name in imported("interpreter") if name.partition(".")[0] == "exoflow"}
