import threading

import pytest

from exoflow.failures.injectors import FailureInjector, describe, make, parse
from exoflow.failures.points import FailurePoint
from exoflow.failures.triggers import Trigger, common_seed, pattern_of

TASKS = [f"train_{number}" for number in range(100)]


def drawn(text, tasks, rounds=5):
    """How often each of *tasks* fails when all of them come *rounds* times."""
    injector, failed = make(parse(text)), dict.fromkeys(tasks, 0)
    injector.action = lambda point, task: failed.__setitem__(task, failed[task] + 1)
    for _ in range(rounds):
        for task in tasks:
            injector.reach(FailurePoint.BEFORE_RUN, task_id=task)
    return failed


# --- which tasks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "concerned", "others"),
    [
        ("train_12", ["train_12"], ["train_1", "train_120", "a/train_12", "TRAIN_12"]),
        ("train_*", ["train_", "train_12"], ["retrain_1"]),
        ("train_?", ["train_1"], ["train_", "train_12"]),
        ("load[1]", ["load[1]"], ["load1"]),
        ("*/0", ["j1.1.7/0", "j1.1.7/0/0"], ["j1.1.7/10", "0"]),
        ("a.b+c", ["a.b+c"], ["aXb+c", "a.bbc"]),
    ],
)
def test_a_task_is_named_by_its_id_or_by_a_pattern_of_stars_and_question_marks(task, concerned, others):
    trigger = Trigger(task=task)

    assert [each for each in (*concerned, *others) if trigger.concerns(FailurePoint.BEFORE_RUN, each)] == concerned


@pytest.mark.parametrize("task_id", ["train_12", "j1m8.1.7/0", "j1m8.2.1/13", "load[1]", "size=3", "user@host", "a b"])
def test_the_pattern_of_a_task_concerns_it_and_can_be_written(task_id):
    trigger = parse(f"{pattern_of(task_id)}.crash").trigger

    assert trigger.concerns(FailurePoint.BEFORE_RUN, task_id)


def test_a_task_of_a_continuation_has_the_same_pattern_in_every_run():
    assert pattern_of("j1m83fn715jz5jaa.1.1/0") == pattern_of("j9zzzzzzzzzzzzzz.4.2/0") == "*/0"


# --- chance -----------------------------------------------------------------------------------------------------------


def test_the_same_tasks_fail_in_whatever_order_they_come():
    assert drawn("*.raise@p=0.2,seed=7", TASKS) == drawn("*.raise@p=0.2,seed=7", TASKS[::-1])


def test_the_same_tasks_fail_when_many_threads_bring_them():
    injector, failed, lock = make(parse("*.raise@p=0.2,seed=7")), dict.fromkeys(TASKS, 0), threading.Lock()

    def note(point, task):
        with lock:
            failed[task] += 1

    def bring(tasks):
        for task in tasks:
            injector.reach(FailurePoint.BEFORE_RUN, task_id=task)

    injector.action = note
    threads = [threading.Thread(target=bring, args=(TASKS[at:] + TASKS[:at],)) for at in (0, 20, 40, 60, 80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == drawn("*.raise@p=0.2,seed=7", TASKS)


def test_tasks_of_continuations_fail_the_same_although_their_ids_are_new_in_every_run():
    first = drawn("*.raise@p=0.3,seed=7", [f"j1aaa.1.{number}/0" for number in range(50)])
    again = drawn("*.raise@p=0.3,seed=7", [f"j2bbb.4.{number}/0" for number in range(50)])

    assert list(first.values()) == list(again.values())
    assert len(set(first.values())) > 1


def test_two_failures_with_one_seed_do_not_happen_together():
    raising, delaying = drawn("*.raise@p=0.5,seed=7", TASKS, 1), drawn("*.delay@p=0.5,seed=7", TASKS, 1)

    together = sum(raising[task] == delaying[task] for task in TASKS)
    assert 25 < together < 75


@pytest.mark.parametrize("probability", [0.03, 0.5, 0.9])
def test_a_probability_is_how_often_it_happens(probability):
    failed = sum(drawn(f"*.raise@p={probability},seed=1", TASKS, 100).values())

    assert abs(failed / 10_000 - probability) < 0.02


# --- the seed ---------------------------------------------------------------------------------------------------------


def test_failures_without_a_seed_share_one_and_tell_it_as_a_text_that_repeats_them(caplog):
    first, second = make(parse("*.raise@p=0.2")), make(parse("train_*.delay@p=0.1"))

    assert first.text == f"*.raise@p=0.2,seed={common_seed()}"
    assert second.text == f"train_*.delay@p=0.1,seed={common_seed()}"
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert first.text in caplog.text
    assert second.text in caplog.text
    assert drawn("*.raise@p=0.2", TASKS) == drawn("*.raise@p=0.2", TASKS)


def test_the_text_an_injector_tells_makes_the_same_failures():
    told = make(parse("*.raise@p=0.2")).text

    assert describe([make(parse(told))]) == [told]
    assert drawn(told, TASKS) == drawn("*.raise@p=0.2", TASKS)


def test_nothing_is_said_where_nothing_is_drawn(caplog):
    assert make(parse("train_12.crash@2")).text == "train_12.crash@2"
    assert make(parse("*.raise@p=0.1,seed=7")).text == "*.raise@p=0.1,seed=7"
    assert not caplog.records


def test_an_injector_of_ones_own_is_described_too():
    class Own:
        def reach(self, point, **about):
            raise NotImplementedError

        def __repr__(self):
            return "<own>"

    injector = FailureInjector(Trigger(task="a"), lambda point, task: None)

    assert describe([Own()]) == ["<own>"]
    assert "a" in describe([injector])[0]


def test_what_happens_is_counted_and_logged_before_it_happens(caplog):
    injector = make(parse("a.raise@2"))
    caplog.set_level("INFO", logger="exoflow.failures")

    injector.reach(FailurePoint.BEFORE_RUN, task_id="a")
    assert (injector.performed, caplog.messages) == (0, [])
    with pytest.raises(Exception, match="injected"):
        injector.reach(FailurePoint.BEFORE_RUN, task_id="a")
    assert (injector.performed, caplog.messages) == (1, ["failure a.raise@2 at before_run a"])
