import pickle
import signal
import subprocess
import sys
import threading

import pytest

from exoflow.errors import TaskLostError, UnknownOptionError, UsageError
from exoflow.failures.injectors import (
    ACTIONS,
    FailureInjector,
    InjectedError,
    Trigger,
    combine,
    delay,
    make,
    parse,
)
from exoflow.failures.points import FailurePoint, SimulatedCrash


class Recorded:
    """An action that notes when it is performed."""

    def __init__(self):
        self.performed = []

    def __call__(self, point, task_id):
        self.performed.append((str(point), task_id))


def reached(trigger, *visits):
    """What an injector with *trigger* does at *visits*, as the indices of those it acted on."""
    recorded, hits = Recorded(), []
    injector = FailureInjector(trigger, recorded)
    for index, (point, task_id) in enumerate(visits):
        injector.reach(FailurePoint(point), task_id=task_id)
        if recorded.performed:
            recorded.performed.clear()
            hits.append(index)
    return hits


# --- the text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "action", "value", "trigger"),
    [
        ("train_12.cluster_crash", "cluster_crash", None, Trigger(task="train_12")),
        ("preprocess.task_crash@2", "task_crash", None, Trigger(task="preprocess", time=2)),
        ("*.delay@p=0.1", "delay", None, Trigger(time=None, probability=0.1)),
        ("*.delay=0.5@p=0.1,seed=7", "delay", "0.5", Trigger(time=None, probability=0.1, seed=7)),
        ("*.crash@n=3,before_flush", "crash", None, Trigger(point=FailurePoint.BEFORE_FLUSH, time=3)),
        ("a.raise=OSError@always", "raise", "OSError", Trigger(task="a", time=None)),
        ("a.b.crash@after_record", "crash", None, Trigger(task="a.b", point=FailurePoint.AFTER_RECORD)),
        ("train_?.crash@p=1,2", "crash", None, Trigger(task="train_?", time=2, probability=1)),
        (" a.node-crash ", "node-crash", None, Trigger(task="a")),
    ],
)
def test_a_failure_is_written_as_task_action_value_and_trigger(text, action, value, trigger):
    spec = parse(text)

    assert (spec.action, spec.value, spec.trigger) == (action, value, trigger)


@pytest.mark.parametrize("text", ["", "crash", "train.", ".crash", "train.crash@", "a@b.crash", "a.9"])
def test_another_form_is_an_error_that_shows_the_right_one(text):
    with pytest.raises(UnknownOptionError, match=r"TASK\.ACTION\[=VALUE\]\[@TRIGGER\]"):
        parse(text)


@pytest.mark.parametrize("trigger", ["sometimes", "p=often", "seed=x", "n=", "-1", "1.5", "after_lunch"])
def test_an_unknown_trigger_is_an_error_that_lists_the_points(trigger):
    with pytest.raises(UnknownOptionError, match=f"trigger '{trigger}' is not known.*after_run_before_record"):
        parse(f"a.crash@{trigger}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.crash@0", "counted from 1"),
        ("a.crash@p=1.5", "probability from 0 to 1"),
        ("a.crash@always,2", "contradict"),
        ("a.crash@before_flush", "concerns no single task"),
        ("a.crash@seed=7", "nothing is drawn"),
    ],
)
def test_a_trigger_that_cannot_be_met_is_an_error(text, problem):
    with pytest.raises(UnknownOptionError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a.crash=1",
        "a.kill=9",
        "a.task_crash=x",
        "a.delay=long",
        "a.delay=-1",
        "a.delay=inf",
        "a.raise=int",
        "a.raise=KeyboardInterrupt",
        "a.raise=Nothing",
        "a.explode",
    ],
)
def test_a_value_the_action_does_not_take_is_an_error(text):
    with pytest.raises(UnknownOptionError):
        make(parse(text))


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_core_can_be_made_without_a_value(action):
    assert isinstance(make(parse(f"a.{action}")), FailureInjector)


# --- the trigger ------------------------------------------------------------------------------------------------------


def test_a_failure_happens_the_first_time_and_never_again():
    assert reached(Trigger(task="a"), *[("before_run", "a")] * 3) == [0]


def test_only_the_named_task_at_the_named_point_counts():
    visits = [("before_run", "b"), ("after_record", "a"), ("before_run", "a"), ("before_run", "a")]

    assert reached(Trigger(task="a", time=2), *visits) == [3]


def test_a_pattern_counts_all_tasks_it_matches_together():
    visits = [("before_run", task) for task in ("train_1", "train_12", "test_1", "train_2")]

    assert reached(Trigger(task="train_?", time=2), *visits) == [3]


def test_a_star_matches_points_that_concern_no_task():
    assert reached(Trigger(point=FailurePoint.BEFORE_FLUSH, time=2), ("before_flush", ""), ("before_flush", "")) == [1]


def test_a_probability_with_one_seed_fails_the_same_times_in_every_run():
    visits = [("before_run", "a")] * 1000

    first, again, other = (reached(Trigger(time=None, probability=0.1, seed=seed), *visits) for seed in (7, 7, 8))

    assert first == again != other
    assert 50 < len(first) < 150


@pytest.mark.parametrize(("probability", "times"), [(0.0, 0), (1.0, 20)])
def test_never_and_always_are_probabilities_too(probability, times):
    assert len(reached(Trigger(time=None, probability=probability), *[("before_run", "a")] * 20)) == times


def test_the_nth_time_is_met_by_exactly_one_of_many_threads():
    recorded = Recorded()
    injector = FailureInjector(Trigger(point=FailurePoint.DURING_BLOB_WRITE, time=500), recorded)

    def visit():
        for _ in range(100):
            injector.reach(FailurePoint.DURING_BLOB_WRITE, task_id="a")

    threads = [threading.Thread(target=visit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert recorded.performed == [("during_blob_write", "a")]


# --- the action -------------------------------------------------------------------------------------------------------


def perform(text):
    make(parse(text)).reach(FailurePoint.BEFORE_RUN, task_id="a")


def test_crash_raises_what_no_handler_may_survive():
    with pytest.raises(SimulatedCrash) as caught:
        perform("a.crash")
    assert (caught.value.point, caught.value.task_id) == (FailurePoint.BEFORE_RUN, "a")


def test_task_crash_is_a_system_failure_of_the_attempt():
    with pytest.raises(TaskLostError, match="'a' was lost: injected at before_run"):
        perform("a.task_crash")


@pytest.mark.parametrize(("text", "error"), [("a.raise", InjectedError), ("a.raise=OSError", OSError)])
def test_raise_fails_the_task_with_an_error_of_its_own(text, error):
    with pytest.raises(error, match="injected at before_run of task 'a'"):
        perform(text)


@pytest.mark.parametrize("action", ["kill", "cluster_crash"])
def test_kill_leaves_the_process_no_time_to_tidy_up(action):
    code = f"""
from exoflow.failures.injectors import make, parse
from exoflow.failures.points import FailurePoint
try:
    make(parse("a.{action}")).reach(FailurePoint.BEFORE_RUN, task_id="a")
finally:
    print("tidying up", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


@pytest.mark.parametrize(
    "text",
    [
        "a.task_crash@after_record",
        "*.task_crash@before_flush",
        "a.raise@after_undo",
        "*.raise=OSError@on_claim",
    ],
)
def test_a_failure_that_would_mean_nothing_at_its_point_is_refused(text):
    with pytest.raises(
        UnknownOptionError,
        match=r"means nothing at .*; expected one of before_run, after_run_before_",
    ):
        make(parse(text))


def test_delay_waits_where_it_is_reached():
    waited = []

    delay(0.5, waited.append)(FailurePoint.BEFORE_RUN, "a")

    assert waited == [0.5]
    assert make(parse("a.delay=0.25")).action.seconds == 0.25


# --- together ---------------------------------------------------------------------------------------------------------


def test_no_injectors_are_no_function_so_that_points_cost_nothing():
    assert combine([]) is None


def test_one_injector_is_reached_without_a_detour():
    injector = FailureInjector(Trigger(), Recorded())

    assert combine([injector]) == injector.reach


def test_several_injectors_are_reached_in_their_order_and_count_what_another_has_failed():
    before, after = Recorded(), Recorded()
    reach = combine(
        [
            FailureInjector(Trigger(time=None), before),
            make(parse("*.raise=OSError@2")),
            FailureInjector(Trigger(time=2), after),
            make(parse("*.raise=ValueError@2")),
        ]
    )

    reach(FailurePoint.BEFORE_RUN, workflow_id="w", task_id="a", attempt="j.1", number=1)
    with pytest.raises(OSError, match="injected"):
        reach(FailurePoint.BEFORE_RUN, workflow_id="w", task_id="b", attempt="j.2", number=1)

    assert before.performed == [("before_run", "a"), ("before_run", "b")]
    assert after.performed == [("before_run", "b")]


def test_after_a_crash_no_injector_is_reached():
    after = Recorded()
    reach = combine([make(parse("*.crash")), FailureInjector(Trigger(), after)])

    with pytest.raises(SimulatedCrash):
        reach(FailurePoint.BEFORE_RUN, task_id="a")

    assert after.performed == []


def test_something_else_among_the_injectors_is_an_error():
    with pytest.raises(UsageError, match="expected an injector"):
        combine(["train_12.crash"])


def test_a_parsed_failure_pickles_there_and_back():
    spec = parse("*.delay=0.5@p=0.1,seed=7")

    assert pickle.loads(pickle.dumps(spec)) == spec
