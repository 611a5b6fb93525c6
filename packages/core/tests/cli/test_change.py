import json

import pytest

from exoflow.states import WorkflowStatus


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (("cancel", "w"), ("cancel", ("w",), {})),
        (("delete", "w"), ("delete", ("w",), {})),
        (("delete", "w", "--yes"), ("delete", ("w",), {})),
        (("send-event", "w", "paid"), ("send_event", ("w", "paid", None), {"message_id": None})),
        (
            ("send-event", "w", "paid", '{"amount": 3}', "--message-id", "m1"),
            ("send_event", ("w", "paid", {"amount": 3}), {"message_id": "m1"}),
        ),
        (
            ("settle", "w", "pay", "--happened", '"receipt 7"'),
            ("settle", ("w", "pay"), {"happened": True, "value": "receipt 7"}),
        ),
        (("settle", "w", "pay", "--happened", "null"), ("settle", ("w", "pay"), {"happened": True, "value": None})),
        (("settle", "w", "pay", "--did-not-happen"), ("settle", ("w", "pay"), {"happened": False, "value": None})),
        (("gc",), ("gc", (), {"older_than_s": 30 * 86400.0})),
        (("gc", "--older-than", "90s"), ("gc", (), {"older_than_s": 90.0})),
        (("gc", "--older-than", "1.5h"), ("gc", (), {"older_than_s": 5400.0})),
    ],
)
def test_a_command_calls_the_engine_once_and_closes_it(run, engine, words, call):
    done = run(*words)

    assert done.exit_code == 0, done.stderr
    assert done.stdout
    assert engine.calls == [call]
    assert engine.closed == 1


@pytest.mark.parametrize(
    "words",
    [
        ("send-event", "w", "paid", "not json"),
        ("settle", "w", "pay"),
        ("settle", "w", "pay", "--happened", "1", "--did-not-happen"),
        ("settle", "w", "pay", "--happened", "not json"),
        ("gc", "--older-than", "soon"),
        ("gc", "--older-than", "7"),
    ],
)
def test_what_cannot_be_understood_changes_nothing(run, engine, words):
    done = run(*words)

    assert done.exit_code == 2
    assert engine.opened == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (WorkflowStatus.RUNNING, "cancellation requested"),
        (WorkflowStatus.CANCELLED, "cancelled"),
        (WorkflowStatus.SUCCEEDED, "had succeeded before"),
    ],
)
def test_a_cancellation_says_what_came_of_it(run, engine, status, said):
    engine.state = status

    assert run("cancel", "w").stdout == f"w: {said}\n"


def test_what_was_done_is_an_object_in_json(run, engine):
    assert json.loads(run("cancel", "w", "--json").stdout) == {"workflow_id": "w", "done": "cancellation requested"}


def test_gc_counts_what_it_removed(run, engine):
    assert run("gc").stdout == "workflows removed: 2\nblobs removed: 5\n"
    assert json.loads(run("gc", "--json").stdout) == {"workflows_removed": 2, "blobs_removed": 5}


def test_deleting_asks_a_person_first(run, engine, monkeypatch):
    monkeypatch.setattr("exoflow.cli.change._is_a_person", lambda: True)

    assert run("delete", "w", input="n\n").exit_code == 1
    assert engine.opened == []
    assert run("delete", "w", input="y\n").exit_code == 0
    assert engine.calls == [("delete", ("w",), {})]
