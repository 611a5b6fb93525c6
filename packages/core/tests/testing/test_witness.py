import pytest

from exoflow.executors.contract import CallKind
from exoflow.tasks.policy import TaskPolicy
from exoflow.tasks.verdicts import DidNotHappen, Happened, Unknown
from exoflow.testing.witness import Called, Snapshot, Witness

ONCE = TaskPolicy(effects="once", resolve=print)
IDEMPOTENT = TaskPolicy()
DETERMINISTIC = TaskPolicy(effects="none", deterministic=True)
NOTHING = object()


def called(policy, inputs=(), result=NOTHING, *, kind=CallKind.TASK, key="w/1/a", name="shop:a"):
    made = Called(kind=kind, task_id="a", name=name, policy=policy, key=key, inputs=Snapshot(inputs))
    if result is not NOTHING:
        made.result = Snapshot(result)
    return made


def resolve(verdict):
    return called(ONCE, result=verdict, kind=CallKind.RESOLVE)


def witness(*calls):
    made = Witness()
    made.calls += calls
    return made


# --- values as they were ----------------------------------------------------------------------------------------------


class Array:
    """Does not say whether it is equal, as arrays do."""

    def __init__(self, *values):
        self.values = values

    def __eq__(self, other):
        return Array(*(mine == others for mine, others in zip(self.values, other.values, strict=True)))

    def __bool__(self):
        raise ValueError("ambiguous")


SHARED = ["x"]
CYCLE = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1, 2, False),
        ([SHARED, SHARED], [["x"], ["x"]], True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (float("nan"), float("nan"), True),
        (Array(1, 2), Array(1, 2), True),
        (Array(1, 2), Array(1, 3), False),
        (Array(SHARED, SHARED), Array(["x"], ["x"]), True),
        (CYCLE, CYCLE, True),
        (lambda: 1, 5, True),
    ],
)
def test_values_are_compared_as_they_were_and_what_cannot_be_pickled_is_not_known(one, other, same):
    assert Snapshot(one).same(Snapshot(other)) is same


def test_a_value_that_is_changed_later_is_known_as_it_was():
    value = [1]
    before = Snapshot(value)
    value.append(2)

    assert before.value == [1]
    assert not before.same(Snapshot(value))


def test_a_long_value_is_shown_in_part():
    assert len(repr(Snapshot("x" * 10_000))) < 250


# --- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [IDEMPOTENT, TaskPolicy(effects="once")])
def test_one_key_with_two_sets_of_inputs_is_a_broken_claim(policy):
    assert [*witness(called(policy, (1,)), called(policy, (1,))).broken_claims()] == []
    assert [*witness(called(policy, (1,)), called(policy, (2,), key="w/1/b")).broken_claims()] == []
    (problem,) = witness(called(policy, (1,)), called(policy, (2,))).broken_claims()
    assert "two sets of inputs under the key 'w/1/a': (1,) and (2,)" in problem


def test_a_task_without_effects_may_have_other_inputs_each_time():
    policy = TaskPolicy(effects="none")

    assert [*witness(called(policy, (1,)), called(policy, (2,))).broken_claims()] == []


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ([called(ONCE, result=5), resolve(Happened(5))], None),
        ([called(ONCE, result=5), resolve(DidNotHappen)], "had returned 5"),
        ([called(ONCE, result=5), resolve(DidNotHappen())], "had returned 5"),
        ([called(ONCE, result=5), resolve(Happened(6))], "had returned 5"),
        ([called(ONCE, result=5), resolve(Unknown)], None),
        ([called(ONCE), resolve(DidNotHappen)], None),
        ([called(ONCE), resolve(Happened(5))], None),
        ([resolve(DidNotHappen)], None),
        ([resolve(Happened(5))], "had never been called with it"),
        ([resolve(DidNotHappen), called(ONCE, result=5)], None),
        ([called(ONCE, result=5), resolve("no verdict")], None),
    ],
)
def test_what_a_resolve_function_says_is_held_against_what_was_called(calls, problem):
    found = [*witness(*calls).broken_claims()]

    assert len(found) == (problem is not None)
    assert all(problem in each for each in found)


def test_a_deterministic_task_returns_the_same_for_the_same_inputs_in_all_worlds():
    here = witness(called(DETERMINISTIC, (1,), 10), called(DETERMINISTIC, (2,), 20))

    assert [*here.contradicts(witness(called(DETERMINISTIC, (1,), 10)))] == []
    (problem,) = here.contradicts(witness(called(DETERMINISTIC, (2,), 21)))
    assert "declared deterministic, and returned 21 and 20 for the inputs (2,)" in problem


@pytest.mark.parametrize(
    "other",
    [
        called(TaskPolicy(effects="none"), (1,), 11),
        called(DETERMINISTIC, (1,), 11, name="shop:b"),
        called(DETERMINISTIC, (1,)),
        called(DETERMINISTIC, (lambda: 1,), 11),
    ],
)
def test_nothing_is_said_of_tasks_that_claim_nothing_or_were_not_seen_to_return(other):
    assert [*witness(called(DETERMINISTIC, (1,), 10)).contradicts(witness(other))] == []
