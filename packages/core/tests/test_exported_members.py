"""What `import exoflow` promises: names that go away or come unannounced are found here."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import exoflow
from exoflow.api import functions as api
from exoflow.api.engine import Engine

NAMES = [
    "ArgumentError", "Checkpoint", "CodeChangedError", "Context", "CorruptCheckpointError", "CycleError",
    "DidNotHappen", "Effects", "Engine", "ExoFlowError", "FencedError", "Handle", "Happened", "Input",
    "NeedsAttentionError", "Node", "ObjectNotFoundError", "PluginConflictError", "Task", "TaskFailedError", "TaskInfo",
    "TaskLostError", "TaskPolicy", "TaskState", "TaskTimeoutError", "UnavailableError", "Unknown",
    "UnknownExecutorError", "UnknownOptionError", "UnknownOutcomeError", "UnknownStoreError",
    "UnserializableResultError", "UnsuitableStoreError", "UnsupportedFormatError", "UsageError",
    "WorkflowCancelledError", "WorkflowDetail", "WorkflowInfo", "WorkflowMismatchError", "WorkflowNotFoundError",
    "WorkflowRunningError", "WorkflowStatus", "cancel", "context", "continuation", "delete", "fork", "gc", "list",
    "result", "resume", "resume_all", "run", "send_event", "settle", "show", "sleep", "start", "start_many", "status",
    "task", "wait_for_event",
]  # fmt: skip
SOURCE = Path(exoflow.__file__).parent


def test_the_public_names_are_these() -> None:
    assert exoflow.__all__ == NAMES
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(exoflow, name)
    assert inspect.getdoc(found), name
    assert name in dir(exoflow)
    assert not inspect.ismodule(found), "a module of that name would hide it for whoever imports it"


def test_all_of_it_can_be_imported_with_a_star() -> None:
    found: dict[str, object] = {}
    exec("from exoflow import *", found)
    assert set(NAMES) <= set(found)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        exoflow.Nonsense  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(exoflow, "nonsense")


@pytest.mark.parametrize("name", sorted(set(api.__all__) - {"engine"}))
def test_a_function_takes_what_the_method_of_its_name_takes(name: str) -> None:
    function = inspect.signature(getattr(exoflow, name)).parameters
    method = inspect.signature(getattr(Engine, name)).parameters
    own = [p for p in function if p not in ("storage", "executor")]
    assert own == [p for p in method if p != "self"]
    for parameter in own:
        assert function[parameter].default == method[parameter].default, parameter
        assert function[parameter].kind == method[parameter].kind, parameter


def test_every_public_method_of_the_engine_is_a_function_too() -> None:
    methods = {name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")}
    assert methods - {"close"} == set(api.__all__) - {"engine"}


@pytest.mark.parametrize(
    "path", sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")), ids=lambda path: str(path)
)
def test_a_module_exports_what_it_has(path: str) -> None:
    tree = ast.parse((SOURCE / path).read_text())
    assert ast.get_docstring(tree), "a module introduces itself"
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets)
        ),
        None,
    )
    if exported is not None:
        assert len(set(exported)) == len(exported)


def test_importing_exoflow_imports_neither_an_engine_nor_anything_heavy() -> None:
    program = (
        "import sys, exoflow; print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('asyncio', 'numpy', 'rich', 'fsspec', 'ray', 'sklearn', 'pluggy') or m == 'exoflow.api.engine'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
