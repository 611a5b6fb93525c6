"""The errors people meet: each crosses processes whole, says what to do next, and stands in the tree."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from typing import Any

import pytest

import exoflow
from exoflow import errors
from exoflow.errors import ExoFlowError

CLASSES = [getattr(errors, name) for name in errors.__all__]
SAMPLES: dict[str, Any] = {
    "url": "nope://x",
    "schemes": ("file", "memory"),
    "name": "ray",
    "known": ("inline", "thread"),
    "task": "train",
    "tasks": ("app:clean",),
    "effects": ("charge",),
    "argument": "rows",
    "problem": "it is a lock",
    "workflow_id": "trip-42",
    "detail": "digest 1234",
    "store": "file:///flows",
    "owner": "process 7 on here (journal j1)",
    "what": "the journal segment x",
    "found": 9,
    "supported": 1,
    "task_id": "charge",
    "timeout_s": 2.5,
    "reason": "nobody knows",
    "key": "blobs/w/1",
    "journal_id": "j1",
    "heir": "j2",
}
NEXT_STEPS = (
    "pip install", "exoflow plugins", "exoflow list", "exoflow show", "exoflow delete", "exoflow.result", "exoflow.settle",
    "exoflow resume", "give the task", "resume with", "go on there", "restore them",
)  # fmt: skip


def make(kind: type[ExoFlowError]) -> ExoFlowError:
    names = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    if names in (["args", "kwargs"], []):
        return kind("the message")
    return kind(*(SAMPLES[name] for name in names))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_crosses_processes_whole(kind: type[ExoFlowError]) -> None:
    error = make(kind)
    error.add_note("seen on the way")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
            assert type(other) is kind
            assert str(other) == str(error)
            assert other.args == error.args
            assert vars(other) == vars(error), "attributes are told too, notes among them"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_names_what_it_is_about(kind: type[ExoFlowError]) -> None:
    error = make(kind)
    for argument in error.args:
        for part in argument if isinstance(argument, tuple) else (argument,):
            assert str(part) in str(error), f"{part!r} is not in {error}"
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("kind", [k for k in CLASSES if "__str__" in vars(k)], ids=lambda kind: kind.__name__)
def test_an_error_with_a_message_of_its_own_says_what_to_do_next(kind: type[ExoFlowError]) -> None:
    about_what_happened = {"TaskFailedError", "TaskTimeoutError", "TaskLostError", "WorkflowCancelledError"}
    about_something_given = {"ArgumentError", "ObjectNotFoundError"}  # whoever raises it says the next step
    if kind.__name__ not in about_what_happened | about_something_given:
        assert any(step in str(make(kind)) for step in NEXT_STEPS), str(make(kind))


def test_the_tree_in_the_introduction_is_the_code() -> None:
    assert errors.__doc__ is not None
    parents: list[str] = []
    told: dict[str, tuple[str, ...]] = {}
    for line in errors.__doc__.split("::\n", 1)[1].splitlines():
        match = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+)(?: \((\w+)\))?(?: +\S.*|$)", line)
        if match is None or not line.strip().lstrip("│├└─ ")[:1].isupper():
            continue
        branch, name, also = match.groups()
        depth = 0 if line.startswith("    ExoFlowError") else len(branch) // 4 + 1
        parents[depth:] = [name]
        told[name] = (*((parents[depth - 1],) if depth else ("Exception",)), *((also,) if also else ()))
    coded = {kind.__name__: tuple(base.__name__ for base in kind.__bases__) for kind in CLASSES}
    assert told == coded


def test_every_error_of_the_tree_is_at_the_front_door() -> None:
    defined = {n for n, k in vars(errors).items() if inspect.isclass(k) and k.__module__ == errors.__name__}
    assert defined == set(errors.__all__)
    assert set(errors.__all__) <= set(exoflow.__all__)
    assert sorted(errors.__all__) == errors.__all__


def test_nobody_else_makes_errors_of_ours_that_people_meet() -> None:
    for found in pkgutil.walk_packages(exoflow.__path__, "exoflow."):
        if not found.name.startswith("exoflow.testing") and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    stack, others = [ExoFlowError], set()
    while stack:
        for kind in stack.pop().__subclasses__():
            stack.append(kind)
            if kind.__module__ != errors.__name__ and kind.__module__.startswith("exoflow."):
                others.add(f"{kind.__module__}.{kind.__name__}")
    assert others == {"exoflow.executors.portable.TaskError"}, (
        "it stands for a task's own, see docs/reference/errors.md"
    )


def test_a_usage_error_is_a_value_error_and_a_missing_object_a_key_error() -> None:
    assert issubclass(errors.UsageError, ValueError)
    assert issubclass(errors.ObjectNotFoundError, KeyError)
    assert "blobs/x" in str(errors.ObjectNotFoundError("blobs/x"))
    assert not str(errors.ObjectNotFoundError("blobs/x")).startswith(("'", '"')), "not the repr that KeyError shows"


def test_what_a_dead_owner_left_behind_is_said_to_end_soon() -> None:
    error = errors.WorkflowRunningError("trip-42", "process 7 on here (journal j1)")
    error.left_behind = True

    assert "process 7 on here" in str(error)
    assert "`exoflow resume trip-42`" in str(error)
    assert pickle.loads(pickle.dumps(error)).left_behind
