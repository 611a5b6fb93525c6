"""A policy that contradicts itself cannot be declared, and the error says what to change."""

from fractions import Fraction
from typing import Any

import pytest

from exoflow.errors import UnknownOptionError
from exoflow.tasks.policy import Checkpoint, Effects, TaskPolicy
from exoflow.tasks.task import task


def function(*args: Any) -> None: ...


def undo(*args: Any) -> None: ...


def resolve(key: str) -> Any: ...


def test_the_default_is_the_safe_one() -> None:
    policy = task(function).policy

    assert policy == TaskPolicy()
    assert (policy.effects, policy.deterministic, policy.checkpoint) == (Effects.IDEMPOTENT, False, Checkpoint.SYNC)
    assert (policy.retries, policy.timeout_s, policy.catch_exceptions, policy.fences) == (0, None, False, False)


@pytest.mark.parametrize("effects", Effects)
@pytest.mark.parametrize("checkpoint", Checkpoint)
def test_effects_and_checkpoints_go_together_unless_an_effect_could_not_be_told_again(
    effects: Effects, checkpoint: Checkpoint
) -> None:
    options: dict[str, Any] = {"checkpoint": str(checkpoint)}
    options |= {"rollback": undo} if effects is Effects.ROLLBACK else {"effects": str(effects)}

    if effects in ("rollback", "once") and checkpoint in ("skip", "auto"):
        with pytest.raises(UnknownOptionError, match=f"checkpoint='{checkpoint}' with effects='{effects}'.*use 'sync'"):
            task(**options)
    else:
        policy = task(**options)(function).policy
        assert (policy.effects, policy.checkpoint) == (effects, checkpoint)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"effects": "some"}, "effects='some' is not known; expected one of 'none', 'idempotent', 'rollback', 'once'"),
    ({"checkpoint": "never"}, "checkpoint='never' is not known; expected one of 'sync', 'async', 'skip', 'auto'"),
    ({"effects": "rollback"}, "give rollback=... alone"),
    ({"effects": "rollback", "rollback": None}, "give rollback=... alone"),
    ({"effects": "once", "rollback": undo}, "rollback=... and effects='once' contradict each other"),
    ({"effects": "none", "rollback": undo}, "rollback=... and effects='none' contradict each other"),
    ({"rollback": 3}, "expected a function"),
    ({"undo": undo}, "undo=... is spelled rollback=..."),
    ({"undo_args": undo}, "undo_args=... without rollback=..."),
    ({"effects": "once", "resolve": 3}, "resolve=3: expected a function"),
    ({"resolve": resolve}, "belong to effects='once'"),
    ({"effects": "none", "not_happened": KeyError}, "belong to effects='once'"),
    ({"fences": True}, "fences=True says something of rollback=... or resolve=...; give one of them"),
    ({"effects": "once", "fences": True}, "fences=True says something of"),
    ({"effects": "once", "retries": 1}, "retries=... with effects='once'"),
    ({"retries": -1}, "retries=-1: expected a whole number of at least 0"),
    ({"system_retries": -1}, "system_retries=-1"),
    ({"retry_delay_s": -0.1}, "retry_delay_s=-0.1"),
    ({"retry_delay_max_s": float("nan")}, "retry_delay_max_s=nan"),
    ({"retry_jitter": -1}, "retry_jitter=-1"),
    ({"timeout_s": -1}, "timeout_s=-1"),
    ({"colour": "red"}, "unknown option 'colour'; expected one of after, catch_exceptions, checkpoint"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: "" if isinstance(value, str) else None)
def test_what_contradicts_itself_or_does_not_exist_is_refused_where_it_is_declared(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        task(**options)

    assert message in str(caught.value)


def test_the_known_options_are_told_as_users_spell_them() -> None:
    with pytest.raises(UnknownOptionError) as caught:
        task(undoing=undo)

    assert " rollback," in str(caught.value)
    assert " undo," not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"rollback": undo, "undo_args": undo, "fences": True, "retries": 3, "checkpoint": "async"},
        {"rollback": undo, "effects": "rollback"},
        {"effects": "once", "resolve": resolve, "fences": True, "retries": 1},
        {"effects": "once", "not_happened": (KeyError, OSError), "retries": 1},
        {"effects": "none", "deterministic": True, "checkpoint": "skip", "timeout_s": 0.5, "catch_exceptions": True},
    ],
)
def test_what_goes_together_is_accepted(options: dict[str, Any]) -> None:
    assert task(**options)(function).bind()


def test_one_exception_is_as_good_as_several() -> None:
    policy = task(retry_on=KeyError)(function).policy

    assert policy.retry_on == (KeyError,)
    assert task(effects="once", not_happened=OSError)(function).policy.not_happened == (OSError,)
    assert task(retry_on=[KeyError, OSError])(function).policy.retry_on == (KeyError, OSError)


def test_a_task_may_be_the_undo_of_another_and_is_called_as_a_function() -> None:
    assert task(rollback=task(undo))(function).policy.undo is undo


MISTYPED: list[dict[str, Any]] = [
    {"retries": "3"},
    {"retries": 1.5},
    {"retries": True},
    {"system_retries": None},
    {"retry_delay_s": "soon"},
    {"retry_jitter": 5},
    {"timeout_s": "long"},
    {"retry_on": 3},
    {"retry_on": (3,)},
    {"retry_on": "KeyError"},
    {"retry_on": int},
    {"effects": "once", "not_happened": 3},
    {"effects": "once", "not_happened": [KeyError, None]},
    {"resources": 5},
    {"resources": {1: 2}},
    {"deterministic": "no"},
    {"catch_exceptions": 1},
    {"effects": "once", "resolve": resolve, "fences": "yes"},
    {"isolation": None},
    {"version": 5},
    {"executor": 3},
]


@pytest.mark.parametrize("options", MISTYPED, ids=lambda options: ",".join(options))
def test_a_value_of_another_type_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UnknownOptionError, match=rf"^{list(options)[-1]}=.*: expected "):
        task(**options)


def test_a_number_is_whatever_calls_itself_one() -> None:
    class Count(int): ...

    policy = task(timeout_s=Fraction(1, 2), retries=Count(2), retry_delay_s=float("inf"))(function).policy

    assert (policy.timeout_s, policy.retries, policy.retry_delay_s) == (0.5, 2, float("inf"))
