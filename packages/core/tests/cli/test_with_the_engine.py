"""The command over the real engine, with storage in memory that the commands of one test share by its name."""

import json
import os
import signal
import subprocess
import sys
import uuid

import pytest

TRIP = """
import os
import exoflow

@exoflow.task(effects="none")
def seat():
    return 7

@exoflow.task
def pay(seat, amount):
    if os.path.exists("declined"):
        raise ValueError("the card was declined")
    return {"seat": seat, "amount": amount}

dag = pay.bind(seat.bind(), exoflow.Input("amount", 5))
waiting = exoflow.wait_for_event("paid")

@exoflow.task(effects="once")
def charge():
    return "charged"

once = charge.bind()
"""


@pytest.fixture
def storage(monkeypatch):
    name = f"memory://cli-{uuid.uuid4().hex}"
    monkeypatch.setenv("EXOFLOW_STORAGE", name)
    return name


@pytest.fixture
def trip(run, storage, tmp_path, monkeypatch):
    monkeypatch.setenv("EXOFLOW_STORAGE", storage)
    (tmp_path / "trip.py").write_text(TRIP)
    return tmp_path


def test_a_workflow_is_run_listed_shown_and_its_result_told_again(run, trip):
    first = run("run", "trip:dag", "--workflow-id", "t", "--input", "amount=9")

    assert (first.exit_code, first.stdout) == (0, "{'seat': 7, 'amount': 9}\n"), first.stderr
    assert run("run", "trip:dag", "--workflow-id", "t", "--input", "amount=9").stdout == first.stdout
    assert run("result", "t").stdout == first.stdout
    (listed,) = json.loads(run("list", "--json").stdout)
    assert (listed["workflow_id"], listed["name"], listed["status"]) == ("t", "dag", "succeeded")
    shown = json.loads(run("show", "t", "--json").stdout)
    assert [(task["task_id"], task["state"]) for task in shown["tasks"]] == [
        ("seat", "committed"),
        ("pay", "committed"),
    ]


def test_an_id_that_belongs_to_another_dag_is_a_usage_error(run, trip):
    run("run", "trip:dag", "--workflow-id", "t")

    done = run("run", "trip:once", "--workflow-id", "t")

    assert done.exit_code == 2
    assert "another DAG" in done.stderr


@pytest.mark.parametrize("executor", ["thread", "inline"])
def test_a_run_that_crashed_is_resumed(run, trip, executor):
    crashed = run("run", "trip:dag", "--workflow-id", "t", "--executor", executor, "--fail", "pay.crash")

    assert crashed.exit_code == 1
    assert "simulated crash at before_run of task 'pay'" in crashed.stderr

    resumed = run("resume", "t")

    assert (resumed.exit_code, resumed.stdout) == (0, "{'seat': 7, 'amount': 5}\n"), resumed.stderr


def test_all_that_crashed_are_resumed(run, trip):
    for workflow_id in ("a", "b"):
        run("run", "trip:dag", "--workflow-id", workflow_id, "--fail", "pay.crash")

    done = run("resume", "--all")

    assert (done.exit_code, done.stdout) == (0, "a: succeeded\nb: succeeded\n"), done.stderr


def test_a_failed_run_is_forked_once_its_cause_is_gone(run, trip):
    (trip / "declined").touch()
    failed = run("run", "trip:dag", "--workflow-id", "t")
    (trip / "declined").unlink()

    assert failed.exit_code == 1
    assert "task 'pay' of workflow 't' failed: ValueError: the card was declined" in failed.stderr
    forked = run("fork", "t", "--from", "pay", "--new-id", "u")
    assert (forked.exit_code, forked.stdout) == (0, "{'seat': 7, 'amount': 5}\n"), forked.stderr


def test_an_early_event_is_kept_for_the_workflow_that_waits_for_it(run, trip):
    assert run("send-event", "t", "paid", '{"amount": 3}').exit_code == 0

    assert run("run", "trip:waiting", "--workflow-id", "t").stdout == "{'amount': 3}\n"


def test_an_effect_nobody_knows_of_is_settled_by_a_person(run, trip):
    run("run", "trip:once", "--workflow-id", "t", "--fail", "charge.crash@after_run_before_record")

    stopped = run("resume", "t")
    assert stopped.exit_code == 3, stopped.stderr
    assert "exoflow settle t charge --happened JSON" in stopped.stderr

    assert run("settle", "t", "charge", "--happened", '"charged by hand"').exit_code == 0
    assert run("resume", "t").stdout == "charged by hand\n"


def test_a_deleted_workflow_is_gone(run, trip):
    run("run", "trip:dag", "--workflow-id", "t")

    assert run("delete", "t").exit_code == 0
    assert run("result", "t").exit_code == 2
    assert json.loads(run("list", "--json").stdout) == []


def test_garbage_is_counted(run, trip):
    run("run", "trip:dag", "--workflow-id", "t")

    counts = json.loads(run("gc", "--json").stdout)

    assert counts
    assert all(isinstance(count, int) for count in counts.values())


def test_a_run_on_processes_does_not_spoil_the_json(run, trip):
    done = run("run", "trip:dag", "--executor", "process", "--max-workers", "1", "--json")

    assert json.loads(done.stdout)["result"] == {"seat": 7, "amount": 5}, done.stderr


def test_ctrl_c_ends_the_command_with_a_word_and_its_own_code(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os, signal, time, exoflow\n"
        "@exoflow.task\n"
        "def wait():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.5)\n"
        "dag = wait.bind()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "from exoflow.cli.main import main; main()", "run", "slow:dag"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "EXOFLOW_STORAGE": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )

    assert done.returncode == 130, done.stderr
    assert "interrupted; storage was in memory, so nothing is left of it" in done.stderr
    assert "Traceback" not in done.stderr
