"""Sleeps and events as nodes: what they are, what they refuse, how they are stored."""

import pickle
from typing import Any

import pytest

from exoflow.errors import UnknownOptionError, UsageError
from exoflow.graph.dag import compile_dag
from exoflow.tasks.policy import Effects
from exoflow.tasks.task import task
from exoflow.tasks.waits import sleep, wait_for_event


@task
def first() -> float:
    return 1.0


def test_a_sleep_is_as_long_as_it_says_or_as_another_node_says() -> None:
    assert sleep(0).args == (0,)
    assert compile_dag(sleep(first.bind())).root.deps == (0,)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
def test_a_sleep_takes_a_number_of_seconds_of_at_least_0(seconds: Any) -> None:
    with pytest.raises(UsageError, match="expected a number of seconds of at least 0, or a node"):
        sleep(seconds)


def test_an_event_has_a_name_and_may_have_a_timeout_with_a_default() -> None:
    assert wait_for_event("paid").kwargs == {}
    assert wait_for_event("paid", timeout_s=5, default=None).kwargs == {"timeout_s": 5, "default": None}
    assert wait_for_event("paid", timeout_s=5).kwargs == {"timeout_s": 5}


@pytest.mark.parametrize("name", ["", None, 3])
def test_an_event_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="expected a non-empty text"):
        wait_for_event(name)


def test_a_default_that_would_never_be_used_is_refused() -> None:
    with pytest.raises(UsageError, match=r"without timeout_s="):
        wait_for_event("paid", default=None)


@pytest.mark.parametrize("make", [lambda **o: sleep(1, **o), lambda **o: wait_for_event("paid", **o)])
def test_both_have_names_and_come_after_others_like_any_node(make: Any) -> None:
    spec = compile_dag(make(task_id="mine", after=[first.bind()])).root

    assert (spec.task_id, spec.after) == ("mine", (0,))
    with pytest.raises(UnknownOptionError, match="task_id='a/b'"):
        make(task_id="a/b")


def test_both_change_nothing_outside_and_only_a_sleep_is_the_same_again() -> None:
    for node, kind, deterministic in [(sleep(1), "sleep", True), (wait_for_event("paid"), "event", False)]:
        assert node.task.kind == kind
        assert node.task.policy.effects is Effects.NONE
        assert node.task.policy.deterministic is deterministic


def test_both_are_stored_as_what_they_are() -> None:
    for node in (sleep(1), wait_for_event("paid")):
        assert pickle.loads(pickle.dumps(node.task)) is node.task


def test_neither_is_called() -> None:
    with pytest.raises(UsageError, match="a sleep is a node"):
        sleep(1).task(1)
    with pytest.raises(UsageError, match="an event is awaited by a node"):
        wait_for_event("paid").task("paid")


@pytest.mark.parametrize("wrong", [[3], 3])
def test_what_a_wait_comes_after_are_nodes(wrong: Any) -> None:
    with pytest.raises(UsageError, match="after"):
        sleep(1, after=wrong)


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "long"])
def test_a_timeout_is_a_number_of_seconds_of_at_least_0(timeout_s: Any) -> None:
    with pytest.raises(UsageError, match="timeout_s"):
        wait_for_event("paid", timeout_s=timeout_s)
