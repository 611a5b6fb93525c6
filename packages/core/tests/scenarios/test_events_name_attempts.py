"""Scenario 16: an event that completes the wrong attempt.

Every event of an attempt names it, and one that is not current changes nothing: the machine drops it, so no executor and no
driver needs to know which reports are late. What was committed is acknowledged as a prefix of what was to be committed.
What is restored from any prefix of the records is a state that could have been reached.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

import pytest

from exoflow.engine import events as ev
from exoflow.engine.state import WorkflowState
from exoflow.graph.dag import compile_dag
from exoflow.journal.records import Outcome, Submission, decode, encode
from exoflow.values import Live, Payload

from .stage import Stage, book, draw, pay, pure, send

PAYLOAD = Payload("pickle", (1,), b"0")

LATE: dict[str, Callable[[str], ev.Event]] = {
    "finished": lambda a: ev.Finished(a, Live("late"), PAYLOAD),
    "failed": lambda a: ev.Failed(a, ValueError("late")),
    "failed and runs on": lambda a: ev.Failed(a, ValueError("late"), ended=False),
    "lost": lambda a: ev.Failed(a, ValueError("late"), system=True),
    "ended": ev.Ended,
    "persisted": lambda a: ev.Persisted(a, PAYLOAD),
    "commit failed": lambda a: ev.CommitFailed(a, ValueError("late")),
    "undone": ev.Undone,
    "undo failed": lambda a: ev.UndoFailed(a, ValueError("late")),
    "resolved": lambda a: ev.Resolved(a, True, Live("late"), PAYLOAD),
    "resolved to nothing": lambda a: ev.Resolved(a, False),
    "armed": lambda a: ev.Armed(a, 1.0),
    "fired": ev.Fired,
    "received": lambda a: ev.Received(a, "inbox/w/go/1", PAYLOAD),
}


def looks(state: WorkflowState) -> dict[str, Any]:
    """All that can be seen of every node."""
    return {
        task_id: {
            name: getattr(node, name)
            for name in ("phase", "attempt", "incarnation", "value", "payload", "committed", "committing", "failures")
        }
        for task_id, node in state.nodes.items()
    }


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize(
    "task", [pay("act", retries=1), book("act", retries=1), draw("act", retries=1)], ids=["pay", "book", "draw"]
)
def test_a_report_of_an_earlier_attempt_is_not_one_of_the_current(task: Any, late: str) -> None:
    stage = Stage(draw("h").bind(task.bind(), draw("other").bind()))
    stage.flush()
    stage.raises("act")
    if stage.undoing:
        stage.is_undone("act")
    stage.is_retried()
    stage.flush()
    first, second = (start.attempt for start in stage.attempts("act"))
    assert "act" in stage.running
    before = looks(stage.world.state)

    commands = stage.world.state.handle(LATE[late](first), 99.0)

    assert commands == []
    assert looks(stage.world.state) == before
    stage.to_the_end()
    assert stage.explains("act") == [second]


@pytest.mark.parametrize("late", LATE)
def test_a_report_of_another_life_is_not_one_of_this(late: str) -> None:
    stage = Stage(draw("h").bind(draw("act").bind(), send("mail").bind()))
    stage.flush()
    attempts = [start.attempt for start in stage.world.outside.starts.values()]
    stage.returns("mail")
    stage.flush()
    stage.crash()
    before = looks(stage.world.state)

    for attempt in (*attempts, "nobody's", ""):
        assert stage.world.state.handle(LATE[late](attempt), 99.0) == []

    assert looks(stage.world.state) == before
    stage.to_the_end()


@pytest.mark.parametrize("late", LATE)
def test_a_second_report_of_one_attempt_changes_nothing(late: str) -> None:
    stage = Stage(draw("h").bind(pay("act").bind(), draw("other").bind()))
    stage.flush()
    stage.returns("act")
    stage.flush()
    (start,) = stage.attempts("act")
    before = looks(stage.world.state)

    assert stage.world.state.handle(LATE[late](start.attempt), 99.0) == []
    assert looks(stage.world.state) == before
    stage.to_the_end()


def test_an_acknowledgement_is_of_the_first_that_were_to_be_committed() -> None:
    a, b = draw("a").bind(), draw("b").bind()
    dag = compile_dag(draw("h").bind(pure("after_a").bind(a), pure("after_b").bind(b)))
    state = WorkflowState(dag, workflow_id="w", generation=1, prefix="j1.1")
    runs = {c.node.task_id: c.attempt for c in state.begin(Submission("w", 1, "", "", 0.0, {}, {}), 0.0) if _is_run(c)}
    for task_id in ("b", "a"):
        commands = state.handle(ev.Finished(runs[task_id], Live(task_id), PAYLOAD), 0.0)
        assert [type(c) for c in commands] == [ev.Commit]
        assert isinstance(commands[0], ev.Commit)
        assert isinstance(commands[0].record, Outcome)

    def started(count: int) -> list[str]:
        return [c.node.task_id for c in state.handle(ev.Committed(count), 0.0) if _is_run(c)]

    assert started(1) == [], "that was the submission"
    assert started(1) == ["after_b"]
    assert started(1) == ["after_a"]


def _is_run(command: ev.Command) -> TypeGuard[ev.Run]:
    return isinstance(command, ev.Run)


def test_what_is_restored_from_any_prefix_of_the_records_goes_on_to_an_end_that_explains_everything() -> None:
    u = draw("u", "skip").bind()
    a = draw("a").bind(u)
    reserved = book("reserve").bind(u)
    mailed = send("mail").bind(a)
    stage = Stage(draw("h").bind(pay("charge").bind(reserved, mailed), draw("b").bind(u)))
    moments: list[tuple[list[Any], Any]] = []

    def look() -> None:
        flying = [decode(memoryview(encode(record))) for record in stage.world.in_flight or ()]
        prefixes = ([*stage.world.log, *flying[:at]] for at in range(len(flying) + 1))
        moments.extend((prefix, stage.world.outside.copy()) for prefix in prefixes)

    stage.world.before_flush = look
    stage.to_the_end()
    assert len(moments) > 10

    for log, outside in moments:
        later = Stage.going_on(stage.world.branch(log, outside))
        later.crash(happened=["reserve", "mail", "charge"])
        # Restoring compares the state with its records, the plan with the largest cut, and every counter with a scan.
        later.to_the_end()
        assert later.answer == "succeeded"
