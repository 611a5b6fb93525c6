import pickle
import uuid

import pytest

import exoflow
from exoflow.failures.points import SimulatedCrash
from exoflow.testing import Ledger

ledger = Ledger()


@pytest.fixture(autouse=True)
def _clean():
    ledger.clear()


@exoflow.task
def charge(amount):
    ledger.note(amount)
    return amount


@exoflow.task(rollback=lambda seat: ledger.take_back())
def reserve(seat):
    ledger.note(seat)
    return seat


@exoflow.task(effects="once", resolve=lambda key: exoflow.Happened() if ledger.happened(key) else exoflow.DidNotHappen)
def send(text):
    ledger.note("mail")


@exoflow.task(effects="none")
def fail(*values):
    raise ValueError("on purpose")


def live(node, *lives):
    """Run *node* through failures, one for each life, and then to its end."""
    store = f"memory://{uuid.uuid4().hex}"
    for failures in (*lives, ()):
        with exoflow.Engine(store, "inline", failures=failures) as engine:
            try:
                return engine.run(node, workflow_id="w")
            except SimulatedCrash:
                continue
    raise AssertionError("not reached")


def test_what_an_idempotent_task_does_again_under_its_key_counts_once():
    live(charge.bind(80), ["charge.crash@after_run_before_record"])

    assert len(ledger.entries) == 2
    assert {entry.key for entry in ledger.entries} == {"w/1/charge"}
    assert ledger.standing() == {"charge: 80": 1}


def test_two_tasks_that_do_the_same_are_two_effects():
    live(exoflow.task(lambda *values: None).bind(charge.bind(80), charge.bind(80)))

    assert ledger.standing() == {"charge: 80": 1, "charge_1: 80": 1}


def test_what_is_undone_is_taken_back_and_what_is_done_after_that_stands():
    live(reserve.bind("12A"), ["reserve.crash@after_run_before_record"])

    assert ledger.standing() == {"reserve: 12A": 1}


def test_of_a_workflow_that_failed_nothing_stands_that_can_be_undone():
    with pytest.raises(exoflow.TaskFailedError):
        live(fail.bind(reserve.bind("12A"), charge.bind(80)))

    assert ledger.standing() == {"charge: 80": 1}


def test_a_resolve_function_can_ask_it():
    live(send.bind("hello"), ["send.crash@after_run_before_record"])
    assert ledger.standing() == {"send: mail": 1}

    ledger.clear()
    live(send.bind("hello"), ["send.crash@before_run"])
    assert ledger.standing() == {"send: mail": 1}


def test_a_task_of_a_continuation_is_known_by_its_place_because_its_id_is_new_in_every_run():
    book = ledger

    @exoflow.task(effects="none")
    def grow():
        return charge.bind(7)

    live(grow.bind())
    first = book.standing()
    book.clear()
    live(grow.bind())

    assert book.standing() == first == {"*/0: 7": 1}


def test_a_ledger_that_was_stored_with_a_task_is_the_same_ledger_when_it_is_read_back():
    own = Ledger()

    @exoflow.task
    def note():
        own.note("here")

    @exoflow.task(effects="none")
    def grow():
        return note.bind()

    live(grow.bind(), ["*/0.crash"])

    assert own.standing() == {"*/0: here": 1}
    assert pickle.loads(pickle.dumps(own)) is own


def test_a_ledger_of_another_process_is_an_error_that_says_so():
    stored = pickle.dumps(Ledger())

    with pytest.raises(exoflow.UsageError, match="another process"):
        pickle.loads(stored)


def test_noting_is_for_tasks_and_taking_back_for_undo_functions():
    with pytest.raises(exoflow.UsageError, match="outside of a task"):
        ledger.note("nothing")

    @exoflow.task
    def confused():
        ledger.take_back()

    with pytest.raises(exoflow.TaskFailedError, match="outside of an undo function"):
        live(confused.bind())
