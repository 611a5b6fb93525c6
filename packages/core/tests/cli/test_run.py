import json
import subprocess
import sys

import pytest

from exoflow.errors import NeedsAttentionError, TaskFailedError, UnavailableError
from exoflow.graph.node import Node
from exoflow.states import WorkflowStatus

TRIP = """
from exoflow.tasks.task import task

@task
def seat(): return 1

@task
def book(seat): return seat

dag = book.bind(seat.bind())

def make(): return dag
def fails(): raise RuntimeError("no database")
def other(): return 42
number = 42

class plans: summer = dag
"""


@pytest.fixture
def trip(tmp_path):
    (tmp_path / "trip.py").write_text(TRIP)
    return tmp_path


@pytest.mark.parametrize(
    "target", ["trip:dag", "trip:make", "trip:seat", "trip:plans.summer", "trip.py:dag", "./trip.py:dag"]
)
def test_a_node_a_task_or_a_function_returning_a_node_can_be_run(run, engine, trip, target):
    done = run("run", target)

    assert (done.exit_code, done.stdout) == (0, "the result\n")
    ((method, (node,), _),) = engine.calls
    assert method == "start"
    assert isinstance(node, Node)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("trip", "expected module:name or file.py:name"),
        ("trip:", "expected module:name"),
        (":dag", "expected module:name"),
        ("trip:nothing", "trip has no 'nothing'; its nodes and tasks: seat, book, dag"),
        ("trip:plans.winter", "trip has no 'plans.winter'"),
        ("trip:number", "expected a node"),
        ("trip:other", "a function that returns a node (task.bind(...)), it returned 42"),
        ("trip:fails", "calling fails() raised RuntimeError: no database"),
        ("nowhere:dag", "no module 'nowhere'"),
        ("nowhere.py:dag", "no file 'nowhere.py'"),
        ("sub.trip:dag", "no module 'sub'"),
        ("json.py:dag", "rename the file"),
        ("broken:dag", "broken cannot be imported: ZeroDivisionError"),
        ("lacking:dag", "lacking cannot be imported: No module named 'no_such_library'"),
        ("a.b.py:dag", "a dot in its name"),
    ],
)
def test_a_target_that_cannot_be_run_is_a_usage_error_that_says_why(run, engine, trip, target, problem):
    (trip / "broken.py").write_text("1 / 0\n")
    (trip / "lacking.py").write_text("import no_such_library\n")
    (trip / "json.py").write_text("")
    (trip / "a.b.py").write_text("")

    done = run("run", target)

    assert done.exit_code == 2
    assert problem in done.stderr
    assert engine.calls == []


def test_a_file_is_imported_under_its_own_name_from_its_own_folder(run, engine, trip):
    folder = trip / "pipelines"
    folder.mkdir()
    (folder / "flow.py").write_text("from helper import step\ndag = step.bind()\n")
    (folder / "helper.py").write_text("from exoflow.tasks.task import task\n@task\ndef step(): return 1\n")

    done = run("run", "pipelines/flow.py:dag")

    assert done.exit_code == 0, done.stderr
    assert engine.calls[0][2]["metadata"] == {"exoflow.folder": str(folder)}
    assert engine.calls[0][1][0].task.qualified_name == "helper:step"


def test_a_module_of_the_current_folder_is_noted_by_its_folder_too(run, engine, trip):
    (trip / "pack").mkdir()
    (trip / "pack" / "__init__.py").write_text("")
    (trip / "pack" / "flow.py").write_text(TRIP)

    run("run", "pack.flow:dag")

    assert engine.calls[0][2]["metadata"] == {"exoflow.folder": str(trip)}


def test_an_installed_module_is_not_noted(run, engine, trip, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("site-packages")
    (elsewhere / "installed_trip.py").write_text(TRIP)
    monkeypatch.syspath_prepend(str(elsewhere))

    run("run", "installed_trip:dag")

    assert engine.calls[0][2]["metadata"] is None
    del sys.modules["installed_trip"]


def test_a_resumed_workflow_finds_its_code_where_the_first_run_found_it(run, engine, info, tmp_path):
    folder = tmp_path / "pipelines"
    folder.mkdir()
    engine.infos = [info("other"), info("trip-42", metadata={"exoflow.folder": str(folder)})]
    engine.missing = 1

    done = run("resume", "trip-42")

    assert (done.exit_code, done.stdout) == (0, "the result\n")
    assert sys.path[-1] == str(folder)


def test_code_that_is_nowhere_is_asked_for_by_its_folder(run, engine, info, tmp_path):
    engine.infos = [info("trip-42", metadata={"exoflow.folder": str(tmp_path / "gone")})]
    engine.missing = 1

    done = run("resume", "trip-42")

    assert done.exit_code == 1
    assert "No module named 'trip'; if it is the workflow's own code, say where it is with --path" in done.stderr


def test_options_reach_the_engine(run, engine, trip):
    done = run(
        "run", "trip:dag", "--workflow-id", "trip-42", "--name", "summer", "--storage", "file:///x",
        "--executor", "process", "--max-workers", "3", "--codec", "json", "--fail", "book.crash@2",
        "--input", "seats=2", "--input", 'city="Rome"', "--input", "path=[1, null]",
    )  # fmt: skip

    assert done.exit_code == 0, done.stderr
    (opened,) = engine.opened
    (failure,) = opened.pop("failures")
    assert opened == {"storage": "file:///x", "executor": "process", "codec": "json", "max_workers": 3}
    assert (failure.trigger.task, failure.trigger.time) == ("book", 2)
    options = engine.calls[0][2]
    assert options["inputs"] == {"seats": 2, "city": "Rome", "path": [1, None]}
    assert (options["workflow_id"], options["name"]) == ("trip-42", "summer")


def test_a_workflow_is_called_by_what_was_run_unless_told(run, engine, trip):
    run("run", "trip:plans.summer")

    assert engine.calls[0][2]["name"] == "plans.summer"


@pytest.mark.parametrize("given", ["seats", "=2", "city=Rome"])
def test_an_input_that_is_not_json_is_a_usage_error(run, engine, trip, given):
    done = run("run", "trip:dag", "--input", given)

    assert done.exit_code == 2
    assert "--input" in done.stderr
    assert engine.opened == []


def test_a_failure_that_cannot_be_read_is_a_usage_error(run, engine, trip):
    assert run("run", "trip:dag", "--fail", "crash").exit_code == 2


def test_without_a_storage_a_run_says_that_nothing_will_outlive_it(run, engine, trip, monkeypatch):
    monkeypatch.delenv("EXOFLOW_STORAGE")

    done = run("run", "trip:dag")

    assert done.exit_code == 0
    assert "no --storage" in done.stderr
    assert engine.opened[0]["storage"] == "memory://"


@pytest.mark.parametrize(
    ("value", "text", "as_json"),
    [
        ("plain text", "plain text\n", "plain text"),
        ({"a": (1, 2)}, "{'a': (1, 2)}\n", {"a": [1, 2]}),
        (None, "None\n", None),
        (float("nan"), "nan\n", "nan"),
        ({1: b"x"}, "{1: b'x'}\n", {"1": "b'x'"}),
    ],
)
def test_a_result_is_printed_as_text_or_as_json(run, engine, trip, value, text, as_json):
    engine.outcome = value

    assert run("run", "trip:dag").stdout == text
    assert json.loads(run("run", "trip:dag", "--workflow-id", "t", "--json").stdout) == {
        "workflow_id": "t",
        "status": "succeeded",
        "result": as_json,
    }


def test_what_tasks_print_does_not_spoil_the_json(run, engine, trip):
    def noisy():
        print("from a task")
        return 1

    engine.outcome = noisy

    done = run("run", "trip:dag", "--json")

    assert json.loads(done.stdout)["result"] == 1
    assert "from a task" in done.stderr


def test_what_other_processes_print_does_not_spoil_the_json():
    code = """
import os, sys
from exoflow.cli.output import print_json, reserved_stdout
with reserved_stdout(True):
    os.system("echo from a process")
print_json({"answer": 1})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert json.loads(done.stdout) == {"answer": 1}
    assert done.stderr == "from a process\n"


def test_a_workflow_is_resumed_and_its_result_printed(run, engine):
    done = run("resume", "trip-42", "--accept-code-change")

    assert (done.exit_code, done.stdout) == (0, "the result\n")
    assert engine.calls == [("resume", ("trip-42",), {"accept_code_change": True})]


@pytest.mark.parametrize("words", [(), ("trip-42", "--all"), ("--all", "--accept-code-change")])
def test_resume_is_told_one_workflow_or_all(run, engine, words):
    assert run("resume", *words).exit_code == 2
    assert engine.opened == []


@pytest.fixture
def abandoned(engine, info):
    engine.outcomes = {
        "good": 1,
        "away": UnavailableError("the bucket does not answer"),
        "asks": NeedsAttentionError("asks", "pay", "its outcome is unknown"),
        "bad": TaskFailedError("bad", "seat", "ValueError: none"),
    }
    engine.infos = [
        info("done"),
        *(info(name, WorkflowStatus.RESUMABLE) for name in ("good", "away", "asks")),
        info("bad", WorkflowStatus.ROLLING_BACK),
        info("elsewhere", WorkflowStatus.RUNNING),
    ]


def test_resuming_all_reports_each_and_returns_the_most_pressing_code(run, engine, abandoned):
    done = run("resume", "--all")

    assert done.exit_code == 3
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["good", "away", "asks", "bad"]
    assert lines["good"] == "succeeded"
    assert "ValueError: none" in lines["bad"]


def test_one_workflow_that_cannot_be_resumed_does_not_keep_the_others_waiting(run, engine, abandoned):
    engine.missing = 1

    done = run("resume", "--all", "--json")

    lines = json.loads(done.stdout)
    assert (lines[0]["workflow_id"], lines[0]["error"]) == ("good", "ModuleNotFoundError")
    assert [call[1] for call in engine.calls] == [("away",), ("asks",), ("bad",)]


def test_resuming_all_speaks_json(run, engine, abandoned):
    good, *_, bad = json.loads(run("resume", "--all", "--json").stdout)

    assert good == {"workflow_id": "good", "status": "succeeded", "result": 1}
    assert bad["error"] == "TaskFailedError"


def test_nothing_to_resume_is_a_success(run, engine):
    done = run("resume", "--all")

    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "nothing to resume\n")


def test_a_fork_runs_from_a_task_on_under_a_new_id(run, engine):
    done = run("fork", "trip-42", "--from", "pay", "--new-id", "trip-43")

    assert (done.exit_code, done.stdout) == (0, "the result\n")
    assert engine.calls == [("fork", ("trip-42", "pay"), {"new_id": "trip-43"})]
