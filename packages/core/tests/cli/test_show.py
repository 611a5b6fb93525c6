import json

import pytest

from exoflow.states import TaskState, WorkflowStatus


def test_workflows_are_listed_newest_first(run, engine, info):
    engine.infos = [
        info("old", created_at=1.0, ended_at=62.5),
        info("new", WorkflowStatus.FAILED, 2.0, problem="no seats"),
    ]

    done = run("list")

    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "new", "old"]
    assert "failed" in lines[1]
    assert "no seats" in lines[1]
    assert "1 min 2 s" in lines[2]


def test_the_list_can_be_narrowed_to_a_status(run, engine, info):
    engine.infos = [info("good"), info("bad", WorkflowStatus.FAILED)]

    done = run("list", "--status", "failed", "--json")

    assert [line["workflow_id"] for line in json.loads(done.stdout)] == ["bad"]


def test_an_empty_list_says_where_it_looked(run, engine):
    done = run("list", "--status", "failed")

    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "no workflows in file://./flows are failed\n"


def test_an_empty_list_is_an_empty_array_in_json(run, engine):
    assert json.loads(run("list", "--json").stdout) == []


@pytest.fixture
def trip(engine, info, task):
    engine.infos = [
        info("trip-42", WorkflowStatus.NEEDS_ATTENTION, metadata={"user": "ann"}, problem="pay: its outcome is unknown")
    ]
    engine.tasks = (
        task("search", TaskState.RECORDED, effects="none", checkpoint="skip", number=2, seconds=0.0123),
        task("seat", depends_on=("search",), effects="rollback", number=1, seconds=75.0, stored_bytes=2048),
        task("meal", depends_on=("search",), parent="seat", number=1),
        task("pay", TaskState.STARTED, depends_on=("seat", "meal"), effects="once"),
    )


def test_a_workflow_is_shown_with_the_states_and_times_of_its_tasks(run, trip):
    done = run("show", "trip-42")

    assert done.exit_code == 0, done.stderr
    assert "trip-42  book  needs_attention" in done.stdout
    assert "user: ann" in done.stdout
    assert "pay: its outcome is unknown" in done.stdout
    assert "4 tasks: 2 committed, 1 recorded, 1 started" in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()}
    assert "12.3 ms" in rows["search"]
    for word in ("committed", "1 min 15 s", "2.0 KiB", "rollback", "search"):
        assert word in rows["seat"]
    assert "(made by seat), search" in rows["meal"]


def test_a_workflow_is_shown_as_a_tree_with_the_result_first(run, trip):
    done = run("show", "trip-42", "--tree")

    lines = [line.strip("│├└─ ") for line in done.stdout.splitlines()]
    assert [line.split()[0] for line in lines[-5:]] == ["pay", "seat", "search", "meal", "search"]


def test_a_task_that_others_share_is_opened_once_in_a_tree(run, engine, info, task):
    engine.infos = [info("x")]
    engine.tasks = (
        task("a"),
        task("b", depends_on=("a",)),
        task("c", depends_on=("b",)),
        task("d", depends_on=("b", "c")),
    )

    done = run("show", "x", "--tree")

    assert done.stdout.count("(as above)") == 1
    assert done.stdout.count(" a  ") == 1


def test_a_deep_workflow_does_not_overflow_the_tree(run, engine, info, task):
    engine.infos = [info("x")]
    engine.tasks = (task("t0"), *(task(f"t{n}", depends_on=(f"t{n - 1}",)) for n in range(1, 5000)))

    done = run("show", "x", "--tree")

    assert done.exit_code == 0
    assert "--limit 0 shows all" in done.stdout


def test_a_large_workflow_is_cut_and_says_so(run, engine, info, task):
    engine.infos = [info("x")]
    engine.tasks = tuple(task(f"t{n}") for n in range(1000))

    done = run("show", "x", "--limit", "10")

    assert "t9 " in done.stdout
    assert "t10 " not in done.stdout
    assert "990 more tasks: --limit 0 shows all" in done.stderr


def test_a_workflow_is_one_object_in_json(run, trip):
    shown = json.loads(run("show", "trip-42", "--json").stdout)

    assert (shown["workflow_id"], shown["status"]) == ("trip-42", "needs_attention")
    assert shown["tasks"][1] == {
        "task_id": "seat", "state": "committed", "depends_on": ["search"], "effects": "rollback", "checkpoint": "sync",
        "number": 1, "ended_at": None, "seconds": 75.0, "stored_bytes": 2048, "parent": None,
    }  # fmt: skip


def test_an_unknown_workflow_is_a_usage_error(run, engine):
    done = run("show", "nothing")

    assert done.exit_code == 2
    assert "no workflow 'nothing' in file://./flows" in done.stderr


def test_a_result_is_waited_for_as_long_as_told(run, engine):
    engine.outcome = [1, 2]

    done = run("result", "trip-42", "--timeout", "5")

    assert done.stdout == "[1, 2]\n"
    assert engine.calls == [("result", ("trip-42",), {"timeout_s": 5.0})]


def test_a_result_is_an_object_in_json(run, engine):
    engine.outcome = [1, 2]

    assert json.loads(run("result", "trip-42", "--json").stdout) == {
        "workflow_id": "trip-42",
        "status": "succeeded",
        "result": [1, 2],
    }
