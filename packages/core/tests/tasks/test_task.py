"""Binding, options, and how tasks travel."""

import pickle
from typing import Any

import cloudpickle
import pytest

from exoflow.errors import ArgumentError, UnknownOptionError
from exoflow.graph.dag import compile_dag
from exoflow.tasks.policy import Effects
from exoflow.tasks.task import Task, task


@task(effects="none", deterministic=True)
def add(x: int, y: int = 1, *, scale: int = 1) -> int:
    """Add."""
    return (x + y) * scale


@task
async def later() -> None: ...


class Home:
    @task
    def inner() -> str:
        return "inner"


def undo(*args: Any) -> None: ...


def test_a_task_is_still_a_function() -> None:
    assert add(1, 2, scale=3) == 9
    assert (add.name, add.__doc__) == ("add", "Add.")
    assert add.qualified_name == f"{__name__}:add"
    assert later.is_async
    assert not add.is_async


@pytest.mark.parametrize(
    ("args", "kwargs", "argument", "problem"),
    [
        ((), {}, "x", "missing a required argument: 'x'"),
        ((1,), {"z": 1}, "z", "unexpected keyword argument 'z'"),
        ((1,), {"x": 1}, "x", "multiple values for argument 'x'"),
        ((1, 2, 3), {}, "*", "too many positional arguments"),
    ],
)
def test_a_call_that_could_not_succeed_is_refused_when_it_is_bound(
    args: tuple[Any, ...], kwargs: dict[str, Any], argument: str, problem: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        add.bind(*args, **kwargs)

    assert (caught.value.task, caught.value.argument) == ("add", argument)
    assert problem in str(caught.value)
    assert "(x: int, y: int = 1, *, scale: int = 1)" in str(caught.value)


def test_a_builtin_that_does_not_tell_its_signature_is_bound_to_anything() -> None:
    assert task(max).bind(1, 2, key=abs).args == (1, 2)


@pytest.mark.parametrize("thing", [3, "add"])
def test_only_what_can_be_called_becomes_a_task(thing: Any) -> None:
    with pytest.raises(UnknownOptionError, match="expected a function"):
        task(thing)


def test_nor_does_anything_else_where_the_decorator_has_options() -> None:
    with pytest.raises(UnknownOptionError, match="expected a function"):
        task(retries=1)(3)  # type: ignore[arg-type]


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_make_another_task_of_the_same_function_and_leave_the_first_alone() -> None:
    changed = add.options(retries=2, task_id="mine")

    assert (changed.policy.retries, changed.bind(1).task_id) == (2, "mine")
    assert (add.policy.retries, add.bind(1).task_id) == (0, None)
    assert changed.function is add.function
    assert changed.policy.deterministic


def test_options_add_up() -> None:
    first = later.bind()
    node = add.options(retries=2).options(after=[first]).options(checkpoint="skip").bind(1)

    assert (node.task.policy.retries, str(node.task.policy.checkpoint), node.after) == (2, "skip", (first,))


def test_options_are_checked_together_with_those_there_are() -> None:
    with pytest.raises(UnknownOptionError, match="checkpoint='skip' with effects='rollback'"):
        add.options(rollback=undo).options(checkpoint="skip")
    with pytest.raises(UnknownOptionError, match="belong together"):
        add.options(rollback=undo).options(effects="none")


def test_rollback_can_be_given_and_taken_away() -> None:
    given = add.options(rollback=undo)

    assert (given.policy.effects, given.policy.undo) == (Effects.ROLLBACK, undo)
    assert given.options(rollback=None).policy.effects is Effects.IDEMPOTENT
    assert given.options(rollback=None, effects="none").policy.effects is Effects.NONE


@pytest.mark.parametrize("field", ["after", "wait_until_committed"])
@pytest.mark.parametrize("wrong", [3, [3], [add], "xy"])
def test_what_is_waited_for_is_a_list_of_nodes(field: str, wrong: Any) -> None:
    with pytest.raises(UnknownOptionError, match=f"{field}=.*expected a list of nodes"):
        add.options(**{field: wrong})


def test_what_is_waited_for_may_be_any_collection_and_an_empty_one_takes_it_back() -> None:
    first, second = later.bind(), later.bind()
    waiting = add.options(after=(node for node in (first, second)), wait_until_committed={first})

    assert (waiting.bind(1).after, waiting.bind(1).wait_until_committed) == ((first, second), (first,))
    assert waiting.options(after=[]).bind(1).after == ()


@pytest.mark.parametrize(("position", "name"), [(0, "x"), (1, "y"), (2, "2")])
def test_arguments_have_names_where_the_function_gives_them(position: int, name: str) -> None:
    assert add.argument_name(position) == name
    assert task(max).argument_name(position) == str(position)


def test_options_of_the_node_may_stand_in_the_decorator() -> None:
    @task(task_id="mine", retries=1)
    def made() -> None: ...

    assert (made.bind().task_id, made.policy.retries) == ("mine", 1)


# --- travelling -------------------------------------------------------------------------------------------------------


def test_a_task_that_can_be_imported_travels_as_its_name() -> None:
    assert pickle.loads(pickle.dumps(add)) is add
    assert pickle.loads(pickle.dumps(Home.inner)) is Home.inner


def test_one_with_other_options_takes_them_along() -> None:
    again = pickle.loads(pickle.dumps(add.options(retries=7)))

    assert again.function is add.function
    assert again.policy.retries == 7
    assert pickle.loads(pickle.dumps(again)).policy.retries == 7


def test_one_that_cannot_be_imported_travels_by_value_with_its_fingerprint() -> None:
    factor = 3

    @task(deterministic=True)
    def local(x: int) -> int:
        return x * factor

    again = pickle.loads(cloudpickle.dumps(local))

    assert again is not local
    assert again(2) == 6
    assert (again.policy, again.fingerprint) == (local.policy, local.fingerprint)


def test_a_local_task_that_names_itself_can_travel() -> None:
    @task
    def countdown(left: int) -> Any:
        return countdown.bind(left - 1) if left else "done"

    again = pickle.loads(cloudpickle.dumps(countdown))

    assert again(0) == "done"
    assert again(1).task is again


def test_a_name_that_is_no_task_any_more_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = pickle.dumps(add)
    monkeypatch.setitem(globals(), "add", add.function)

    with pytest.raises(TypeError, match=r"add is no longer a task; decorate it"):
        pickle.loads(stored)


def test_a_stored_dag_remembers_the_code_of_its_deterministic_tasks() -> None:
    dag = compile_dag(add.options(version="7").bind(later.bind()))

    assert [spec.code for spec in pickle.loads(pickle.dumps(dag)).nodes] == ["", "v:7"]


def test_making_a_task_of_a_task_s_function_again_is_another_task() -> None:
    assert isinstance(task(add.function), Task)
    assert task(add.function) is not add
