"""A crash test is tested by workflows whose declarations lie, one lie each: every one is to be found, and no honest one."""

import asyncio
import itertools
import secrets
import uuid

import pytest

import exoflow
from exoflow.testing import CrashTest, CrashTestError, Ledger, Plan, Scenario

ledger = Ledger()
every = CrashTest(Plan(choice="all"))
counter = itertools.count()


# --- an honest shop ---------------------------------------------------------------------------------------------------


@exoflow.task(effects="none", deterministic=True)
def price(seat):
    return 80


@exoflow.task(effects="none", checkpoint="async")
async def ticket(*values):
    await asyncio.sleep(0)
    return bytes(40_000)


@exoflow.task(rollback=lambda seat: ledger.take_back())
def reserve(seat):
    ledger.note(seat)
    return seat


@exoflow.task
def charge(seat, amount):
    ledger.note(f"{amount} for {seat}")
    return f"seat {seat} for {amount}"


@exoflow.task(
    effects="once", resolve=lambda key: exoflow.Happened("sent") if ledger.happened(key) else exoflow.DidNotHappen
)
def send(receipt):
    ledger.note(receipt)
    return "sent"


@exoflow.task(effects="once")
def send_without_anybody_to_ask(receipt):
    ledger.note(receipt)
    return "sent"


@exoflow.task(effects="once", resolve=lambda key: exoflow.Unknown)
def send_where_nobody_knows(receipt):
    ledger.note(receipt)
    return "sent"


@exoflow.task(effects="none")
def fail(*values):
    raise ValueError("sold out")


@exoflow.task(effects="none")
def grow(seat):
    return charge.bind(reserve.bind(seat), price.bind(seat))


def order(send=send):
    seat = reserve.bind("12A")
    return send.bind(charge.bind(seat, price.bind(seat)))


@pytest.mark.parametrize("last", [send, send_without_anybody_to_ask, send_where_nobody_knows])
def test_an_honest_workflow_passes_at_every_place_it_can_crash(last):
    report = every(order(last), effects=ledger)

    assert report.result == "sent"
    assert not report.missed
    assert {f"{task}.crash@{point}" for task in ("reserve", "charge", "price", last.name) for point in (
        "before_run", "after_run_before_record", "after_record",
    )} <= {str(scenario) for scenario in report.scenarios}  # fmt: skip


def test_the_way_back_from_a_crash_is_crashed_too():
    report = every(order(), effects=ledger)

    twice = {scenario.failures[1] for scenario in report.scenarios if len(scenario.failures) == 2}
    assert twice >= {
        "*.crash@on_seal",
        "reserve.crash@before_undo",
        "reserve.crash@after_undo",
        "send.crash@before_resolve",
        "send.crash@after_resolve",
    }


def test_a_workflow_that_fails_has_to_fail_in_the_same_way_and_leave_the_same_world():
    report = every(fail.bind(charge.bind(reserve.bind("12A"), 80)), effects=ledger)

    assert isinstance(report.result, exoflow.TaskFailedError)
    assert ledger.standing() == {"charge: 80 for 12A": 1}


def test_a_workflow_that_grows_and_one_with_blobs_and_coroutines_pass():
    every(ticket.bind(grow.bind("12A")), effects=ledger)


def test_a_workflow_is_made_anew_for_each_life_where_it_is_a_function():
    made = []

    def program():
        made.append(1)
        return price.bind("12A")

    report = every(program)

    assert len(made) >= 2 * len(report.scenarios)


def test_a_task_without_arguments_is_a_workflow_and_inputs_are_given():
    @exoflow.task(effects="none")
    def nothing():
        return 1

    assert every(nothing).result == 1
    assert every(price.bind(exoflow.Input("seat")), inputs={"seat": "1"}).result == 80


def test_a_result_that_is_drawn_is_checked_instead_of_compared():
    @exoflow.task(effects="none")
    def draw():
        return secrets.token_hex(4)

    every(draw, check=lambda drawn: int(drawn, 16))
    with pytest.raises(CrashTestError, match="result: expected"):
        every(draw)
    with pytest.raises(CrashTestError, match=r"without failure:\n.*the check of its result says ZeroDivisionError"):
        every(draw, check=lambda drawn: 1 / 0)


def test_effects_may_be_anything_that_can_be_compared_and_the_world_is_reset_before_each_run():
    seats = set()

    @exoflow.task(rollback=seats.discard)
    def book(seat):
        assert not seats
        seats.add(seat)
        return seat

    report = every(book.bind("12A"), effects=lambda: seats, reset=seats.clear)

    assert len(report.scenarios) > 10


# --- lies -------------------------------------------------------------------------------------------------------------


@exoflow.task(effects="none")
def charge_secretly(amount):
    ledger.note(amount)


@exoflow.task(rollback=lambda seat: None)
def reserve_for_ever(seat):
    ledger.note(seat)


@exoflow.task(effects="once", resolve=lambda key: exoflow.DidNotHappen)
def send_and_deny(receipt):
    ledger.note(receipt)


@exoflow.task(effects="once", resolve=lambda key: exoflow.Happened("sent"))
def send_or_boast(receipt):
    ledger.note(receipt)
    return "sent"


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def guess():
    return secrets.token_hex(4)


LIES = [
    pytest.param(charge_secretly.bind(80), "'charge_secretly' is declared effects='none' and has an effect", id="none"),
    pytest.param(reserve_for_ever.bind("12A"), "reserve_for_ever: 12A: expected 1, found 2", id="undo"),
    pytest.param(
        fail.bind(reserve_for_ever.bind("12A")), "reserve_for_ever: 12A: expected 1, found 2", id="undo, then failure"
    ),
    pytest.param(send_and_deny.bind("hello"), "send_and_deny: hello: expected 1, found 2", id="resolve: it did not"),
    pytest.param(send_and_deny.bind("hello"), r"DidNotHappen.*had returned None", id="resolve is named"),
    pytest.param(send_or_boast.bind("hello"), "had never been called with it", id="resolve: it did"),
    pytest.param(charge.bind("12A", guess.bind()), "'guess' is declared deterministic", id="deterministic"),
]


@pytest.mark.parametrize(("workflow", "problem"), LIES)
def test_a_lie_is_found_and_named(workflow, problem):
    with pytest.raises(CrashTestError, match=problem):
        every(workflow, effects=ledger)


def test_an_effect_behind_a_lie_is_found_without_a_ledger_by_its_key():
    """What the annotation of another task has made of a payment: one key, two amounts."""
    with pytest.raises(
        CrashTestError, match=r"was called with two sets of inputs under the key 'crash-test-\d+/1/charge'"
    ):
        CrashTest(Plan(choice="charge.crash@after_run_before_record"))(
            charge.bind("12A", guess.bind()), check=lambda result: None
        )


def test_an_effect_that_is_declared_none_is_found_by_looking_at_the_world_alone():
    mails = []

    @exoflow.task(effects="none")
    def mail():
        mails.append("hello")

    with pytest.raises(CrashTestError, match=r"effects: expected \['hello'\], found \['hello', 'hello'\]"):
        every(mail, effects=lambda: mails, reset=mails.clear)


def test_an_undo_that_cannot_run_twice_is_found():
    seats = set()

    @exoflow.task(rollback=seats.remove)
    def book(seat):
        seats.add(seat)

    with pytest.raises(CrashTestError) as caught:
        every(book.bind("12A"), effects=lambda: seats, reset=seats.clear)

    assert " then book.crash@after_undo" in str(caught.value)
    assert "it stopped: " in str(caught.value)


def test_a_second_attempt_that_does_something_else_under_the_same_key_is_found():
    attempts = []

    @exoflow.task
    def count_attempts():
        attempts.append(1)
        ledger.note(len(attempts))

    with pytest.raises(CrashTestError, match="count_attempts: 2: expected 'nothing', found 1"):
        every(count_attempts, effects=ledger, reset=attempts.clear)


def test_a_workflow_that_is_another_one_when_it_is_made_again_is_an_error_that_names_the_scenario():
    with pytest.raises(exoflow.WorkflowMismatchError) as caught:
        every(lambda: price.bind(next(counter)))

    assert any("in the scenario " in note for note in caught.value.__notes__)


# --- which places, and how a failing one is run again -----------------------------------------------------------------


def test_what_a_failing_test_names_is_a_scenario_that_fails_alone():
    with pytest.raises(CrashTestError) as caught:
        every(reserve_for_ever.bind("12A"), effects=ledger)

    again = Plan(choice=str(caught.value.scenario))
    with pytest.raises(CrashTestError, match="1 of 1 runs"):
        CrashTest(again)(reserve_for_ever.bind("12A"), effects=ledger)


def test_a_scenario_of_two_crashes_is_written_with_then():
    text = "reserve.crash@after_run_before_record then reserve.crash@after_undo"

    report = CrashTest(Plan(choice=text))(order(), effects=ledger)

    assert [str(scenario) for scenario in report.scenarios] == [text]


@pytest.mark.parametrize(
    "text", ["reserve.task_crash", "charge.task_crash@after_run_before_record", "*.delay=0@always"]
)
def test_a_scenario_may_be_any_failure_that_leaves_the_process_alive(text):
    assert CrashTest(Plan(choice=text))(order(), effects=ledger).result == "sent"


def test_a_failure_that_never_happens_is_a_mistake_of_who_wrote_it():
    with pytest.raises(CrashTestError, match=r"'chrage.crash' never happened"):
        CrashTest(Plan(choice="chrage.crash"))(order(), effects=ledger)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("most", "TASK.ACTION"),
        ("a.crash@lunch", "lunch"),
        ("a.kill", "own process"),
        ("a.crash then b.cluster_crash", "own"),
    ],
)
def test_what_cannot_be_run_is_refused_when_it_is_asked_for(text, problem):
    with pytest.raises(exoflow.UsageError, match=problem):
        Plan(choice=text)


def test_none_runs_it_once_and_still_looks_at_what_it_declares():
    assert CrashTest(Plan(choice="none"))(order(), effects=ledger).scenarios == ()
    with pytest.raises(CrashTestError, match="the run without failure went wrong"):
        CrashTest(Plan(choice="none"))(charge_secretly.bind(80), effects=ledger)


def test_some_are_the_same_for_one_seed_and_others_for_another():
    def chosen(seed):
        return [str(each) for each in CrashTest(Plan(choice="some", seed=seed))(order(), effects=ledger).scenarios]

    first, again, other = chosen(7), chosen(7), chosen(8)

    assert first == again != other
    assert 12 <= len(first) <= 24
    first_crashes = {str(each) for each in every(order(), effects=ledger).scenarios}
    assert {each.partition(" then ")[0] for each in (*first, *other)} <= first_crashes


def test_a_workflow_with_few_places_is_crashed_at_all_of_them_by_some():
    assert Plan(choice="some").pick([Scenario(("a.crash",))] * 3, 12) == [Scenario(("a.crash",))] * 3


def test_every_run_has_a_store_of_its_own_below_the_one_that_is_named():
    name = f"memory://{uuid.uuid4().hex}"

    CrashTest(Plan(choice="all"), storage=name)(price.bind("12A"))

    with exoflow.Engine(name) as engine:
        assert engine.list() == []
