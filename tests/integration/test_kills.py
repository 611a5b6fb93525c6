"""Processes killed with SIGKILL at every point they pass, and at random moments, then resumed by another process.

Here a few moments of each kind; all of them, and many random ones: ``pytest -m slow tests/integration``.
"""

import random
import time
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.engine.engine import Engine

from . import flows
from .children import Nursery, until
from .flows import Ledger

EXECUTORS = ["inline", "thread", "process"]
# Each with how often `everything` reaches it, about.
POINTS = {
    "before_run": 11, "after_run_before_record": 11, "after_record": 11, "before_flush": 18, "after_flush": 18,
    "during_blob_write": 1, "on_claim": 1, "before_answer": 1,
}  # fmt: skip
ENDS = {"before_undo": 3, "after_undo": 3, "before_flush": 26, "after_flush": 26, "before_answer": 1}


def kill_and_resume(
    children: Nursery, storage: str, book: Ledger, executor: str, failures: list[str], flow: str = "everything"
) -> int:
    """Let processes run *flow*, each until its failure kills it, and one to the end; return how many were killed."""
    killed = 0
    for failure in failures:
        child = children.start(flows.run, storage, book.path, flow, executor=executor, failures=(failure,))
        if not child.was_killed():
            break
        killed += 1
    last = children.start(flows.run, storage, book.path, flow, executor=executor)
    if flow == "everything":
        answer = last.result()
        book.check()
        book.check_explained(answer)
    else:
        with pytest.raises(exoflow.TaskFailedError) as caught:
            last.result()
        assert "on purpose" in str(caught.value)
        answer = None
        book.check(failed=True)
    with Engine(storage) as engine:
        if answer is not None:
            assert engine.result("w") == answer
        else:
            assert engine.status("w") == "failed"
    return killed


def spread(points: dict[str, int], count: int) -> list[str]:
    """Return some failures of each point, spread over a workflow's life."""
    return [
        f"*.kill@{nth},{point}"
        for point, times in points.items()
        for nth in sorted({1 + round(at * (times - 1) / max(1, count - 1)) for at in range(count)})
    ]


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize("failure", spread(POINTS, 3))
def test_a_killed_process_leaves_a_workflow_that_another_brings_to_its_end(
    failure: str, executor: str, children: Nursery, storage: str, book: Ledger
) -> None:
    assert kill_and_resume(children, storage, book, executor, [failure]) or failure.split("@")[1][0] != "1"


@pytest.mark.parametrize(
    "failure", ["*.kill@4,before_run", "*.kill@7,before_flush", "*.kill@5,after_run_before_record"]
)
def test_the_same_with_tasks_in_processes(failure: str, children: Nursery, storage: str, book: Ledger) -> None:
    assert kill_and_resume(children, storage, book, "process", [failure])


@pytest.mark.parametrize("failure", spread(ENDS, 3))
def test_a_rollback_is_resumed_by_another_process_and_goes_in_reverse(
    failure: str, children: Nursery, storage: str, book: Ledger
) -> None:
    kill_and_resume(children, storage, book, "thread", [failure], "everything_fails")
    did = {entry["attempt"]: entry["task"] for entry in book.lines("did")}
    undone = [did[key] for key in dict.fromkeys(entry["key"] for entry in book.lines("undid")) if key in did]
    assert undone[-3:][0] == "behind", undone
    assert set(undone[-3:]) == {"behind", "reserved", "after"}


def test_a_doubt_left_by_one_kill_is_asked_about_through_the_next_ones(
    children: Nursery, storage: str, book: Ledger
) -> None:
    failures = ["sent.kill@1,after_run_before_record", "sent.kill@1,before_resolve", "sent.kill@1,after_resolve"]
    assert kill_and_resume(children, storage, book, "thread", failures) == 3
    assert len(book.lines("asked")) >= 2
    assert len(book.lines("happened")) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_process_killed_at_random_moments_again_and_again(
    seed: int, children: Nursery, storage: str, book: Ledger
) -> None:
    kill_at_random(seed, children, storage, book, executor=["inline", "thread"][seed % 2])


def kill_at_random(seed: int, children: Nursery, storage: str, book: Ledger, *, executor: str, kills: int = 4) -> None:
    chooser = random.Random(seed)
    flow = chooser.choice(["everything", "everything", "everything_fails"])
    for _ in range(kills):
        child = children.start(flows.run, storage, book.path, flow, executor=executor)
        if chooser.random() < 0.5:
            time.sleep(chooser.random() * 0.12)  # a moment, not a condition
        else:
            lines = len(list(book)) + chooser.randint(1, 3)
            until(lambda child=child, lines=lines: len(list(book)) >= lines or not child.alive())
        child.kill()
    kill_and_resume(children, storage, book, executor, [], flow)


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("failure", spread(POINTS, 30))
def test_a_killed_process_leaves_a_workflow_that_another_brings_to_its_end_at_every_point(
    failure: str, executor: str, children: Nursery, storage: str, book: Ledger
) -> None:
    kill_and_resume(children, storage, book, executor, [failure])


@pytest.mark.slow
@pytest.mark.parametrize("failure", spread(ENDS, 30))
def test_a_rollback_is_resumed_by_another_process_at_every_point(
    failure: str, children: Nursery, storage: str, book: Ledger
) -> None:
    kill_and_resume(children, storage, book, "thread", [failure], "everything_fails")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 250))
def test_many_processes_killed_at_random_moments(seed: int, children: Nursery, storage: str, book: Ledger) -> None:
    kill_at_random(seed, children, storage, book, executor=EXECUTORS[seed % 3], kills=6)


# --- what a kill must not lose ----------------------------------------------------------------------------------------


def test_the_deadline_of_a_sleep_is_kept_over_a_kill(children: Nursery, storage: str, book: Ledger) -> None:
    started = time.time()
    child = children.start(
        flows.start_and_stay, storage, book.path, [("w", "slept", (1.5,)), ("long", "slept", (3600.0,))]
    )
    until(lambda: Path(f"{book.path}.started").exists())
    until(lambda: _deadlines(storage) == 2)
    child.kill()
    with Engine(storage) as engine:
        handle = engine.resume("w")
        assert handle.result(60)
        assert 1.5 <= time.time() - started
        again = engine.resume("long")
        with pytest.raises(exoflow.UnavailableError):
            again.result(0.01)
        engine.cancel("long")
        with pytest.raises(exoflow.WorkflowCancelledError):
            again.result(60)
    # A workflow that was down when its time came does not wait again.
    assert len(book.lines("ran")) == 1


def _deadlines(storage: str) -> int:
    journals = Path(storage.removeprefix("file://")) / "journals"
    found = b"".join(path.read_bytes() for path in journals.rglob("*") if path.is_file())
    return sum(found.count(b'["%s","sleep",' % name) for name in (b"w", b"long"))


def test_a_sleep_that_was_over_while_nobody_was_there_is_over(children: Nursery, storage: str, book: Ledger) -> None:
    child = children.start(
        flows.start_and_stay, storage, book.path, [("w", "slept", (0.3,)), ("long", "slept", (3600.0,))]
    )
    until(lambda: Path(f"{book.path}.started").exists())
    until(lambda: _deadlines(storage) == 2)
    child.kill()
    time.sleep(0.3)  # what a deadline is about
    with Engine(storage) as engine:
        started = time.monotonic()
        assert engine.resume("w").result(60)
        assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "failure", ["*.kill@2,before_flush", "*.kill@2,after_flush", "*.kill@3,after_flush", "*.kill@1,after_record"]
)
def test_messages_are_taken_once_over_a_kill(failure: str, children: Nursery, storage: str, book: Ledger) -> None:
    children.run(flows.call, storage, "send_event", "w", "go", "early")
    child = children.start(flows.run, storage, book.path, "waits", failures=(failure,))
    children.run(flows.call, storage, "send_event", "w", "go", "late")
    assert child.was_killed()
    answer = children.run(flows.run, storage, book.path, "waits")
    assert sorted(value[-1] for value in answer) == ["early", "late"]
    book.check()
    book.check_explained(answer)
    inbox = Path(storage.removeprefix("file://")) / "inbox"
    until(lambda: not [path for path in inbox.rglob("*") if path.is_file()])


def test_a_worker_process_that_is_killed_is_a_system_failure(children: Nursery, storage: str, book: Ledger) -> None:
    answer = children.run(flows.run, storage, book.path, "dies_once", executor="process")
    assert answer == ["survived"]
    tries = book.lines("tried")
    assert len(tries) == 2
    assert tries[0]["pid"] != tries[1]["pid"]


def test_a_rollback_task_whose_worker_is_killed_is_undone_and_done_again(
    children: Nursery, storage: str, book: Ledger
) -> None:
    child = children.start(flows.run, storage, book.path, "reserved_behind_door", executor="process")
    (at,) = until(lambda: book.lines("at here"))
    assert at["pid"] != child.pid
    import os
    import signal

    os.kill(at["pid"], signal.SIGKILL)
    until(lambda: len(book.lines("at here")) == 2)
    flows.open_door(book, "here")
    assert child.result()
    assert [what for what in book.whats() if what != "at here"] == ["undid", "did"]


def test_a_workers_own_task_may_be_isolated_and_exit(children: Nursery, storage: str, book: Ledger) -> None:
    with pytest.raises(exoflow.TaskFailedError, match=r"sys\.exit\(3\)"):
        children.run(flows.run, storage, book.path, "leaves", executor="process")
    assert len(book.lines("tried")) == 1


def test_workers_of_a_killed_process_hold_nobody_up(children: Nursery, storage: str, book: Ledger) -> None:
    child = children.start(flows.run, storage, book.path, "reserved_behind_door", executor="process")
    until(lambda: book.lines("at here"))
    child.kill()
    flows.open_door(book, "here")
    assert children.run(flows.run, storage, book.path, "reserved_behind_door", executor="process")
    book.check()


# --- what a person is asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("happened", [True, False])
def test_an_effect_nobody_knows_of_is_settled_from_another_process(
    happened: bool, children: Nursery, storage: str, book: Ledger
) -> None:
    child = children.start(flows.run, storage, book.path, "sent_behind_door")
    until(lambda: book.lines("at sent"))
    child.kill()
    flows.open_door(book, "sent")
    with pytest.raises(exoflow.NeedsAttentionError) as caught:
        children.run(flows.run, storage, book.path, "sent_behind_door")
    assert caught.value.task_id == "send_behind_door"
    assert children.run(flows.call, storage, "status", "w") == "needs_attention"
    value: Any = book.lines("happened")[0]["value"] if happened else None
    children.run(flows.call, storage, "settle", "w", "send_behind_door", happened=happened, value=value)
    answer = children.run(flows.resume, storage)
    if happened:
        book.check()
        assert answer[2] == value
    assert len(book.lines("happened")) == (1 if happened else 2)
    assert len(book.lines("ran")) == 1


# --- who may go on ------------------------------------------------------------------------------------------------------


def test_several_processes_race_for_a_dead_workflow_and_one_wins(
    children: Nursery, storage: str, book: Ledger, tmp_path: Path
) -> None:
    child = children.start(flows.start_and_stay, storage, book.path, [("w", "charged_behind_door", ())])
    until(lambda: book.lines("at charged"))
    child.kill()
    gate = str(tmp_path / "gate")
    racers = [children.start(flows.resume_when_told, storage, "w", gate) for _ in range(3)]
    Path(gate).touch()
    until(lambda: sum(racer.alive() for racer in racers) == 1)
    assert len(book.lines("at charged")) <= 2
    flows.open_door(book, "charged")
    results = [racer.result() for racer in racers]
    assert results.count("running elsewhere") == 2, results
    book.check()


def test_what_a_dead_process_leaves_is_shared_by_those_who_go_on(children: Nursery, storage: str, book: Ledger) -> None:
    flowing = [(f"w{number}", "charged_behind_door", ()) for number in range(4)]
    child = children.start(flows.start_and_stay, storage, book.path, flowing)
    until(lambda: len(book.lines("at charged")) == 4)
    child.kill()
    with Engine(storage) as engine:
        assert {str(info.status) for info in engine.list()} == {"resumable"}
        handle = engine.resume("w0")
        assert engine.status("w0") == "running"
        assert engine.status("w1") == "resumable"
        with pytest.raises(exoflow.WorkflowRunningError):
            children.run(flows.resume, storage, "w0")
        other = children.start(flows.resume, storage, "w1")
        until(lambda: len(book.lines("at charged")) == 6)
        assert len(engine.resume_all()) == 2
        flows.open_door(book, "charged")
        assert other.result()
        for number in range(4):
            assert engine.result(f"w{number}", 60)
        assert handle.result(60)
    assert {entry["key"] for entry in book.lines("ran")} == {f"w{n}/1/charge_behind_door" for n in range(4)}


def test_a_second_process_is_refused_and_gets_the_result_by_waiting(
    children: Nursery, storage: str, book: Ledger
) -> None:
    child = children.start(flows.run, storage, book.path, "charged_behind_door")
    until(lambda: book.lines("at charged"))
    with pytest.raises(exoflow.WorkflowRunningError) as caught:
        children.run(flows.run, storage, book.path, "charged_behind_door")
    assert f"process {child.pid}" in str(caught.value)
    assert "exoflow.result('w')" in str(caught.value)
    waiting = children.start(flows.call, storage, "result", "w", 60)
    flows.open_door(book, "charged")
    assert child.result() == waiting.result()
    assert len(book.lines("ran")) == 1


def test_whoever_waits_for_a_process_that_is_killed_hears_of_it(children: Nursery, storage: str, book: Ledger) -> None:
    child = children.start(flows.run, storage, book.path, "charged_behind_door")
    until(lambda: book.lines("at charged"))
    waiting = children.start(flows.call, storage, "result", "w", 60)
    child.kill()
    with pytest.raises(exoflow.UnavailableError, match="exoflow resume w"):
        waiting.result()


@pytest.mark.parametrize("alive", [True, False])
def test_a_cancellation_comes_from_another_process(alive: bool, children: Nursery, storage: str, book: Ledger) -> None:
    child = children.start(flows.run, storage, book.path, "cancelled_in_time")
    until(lambda: book.lines("did"))
    if not alive:
        child.kill()
    children.run(flows.call, storage, "cancel", "w")
    if alive:
        with pytest.raises(exoflow.WorkflowCancelledError):
            child.result()
    assert children.run(flows.call, storage, "status", "w") == "cancelled"
    book.check(failed=True)
    assert not book.lines("ran")


def test_a_fork_outlives_its_killed_and_deleted_parent(children: Nursery, storage: str, book: Ledger) -> None:
    child = children.start(flows.run, storage, book.path, failures=("last.kill@1,before_run",))
    assert child.was_killed()
    before = list(book)
    with Engine(storage) as engine:
        forked = engine.fork("w", "last", new_id="f").result(60)
        engine.delete("w")
        assert engine.result("f") == forked
    again = [entry for entry in list(book)[len(before) :] if entry["task"] != "last"]
    assert not [entry for entry in again if entry["what"] in ("ran", "did", "happened") and entry["task"] != "skipped"]
    with pytest.raises(exoflow.WorkflowNotFoundError):
        children.run(flows.call, storage, "status", "w")
    assert children.run(flows.call, storage, "result", "f") == forked


def test_closing_holds_the_workflow_until_its_attempt_has_ended(children: Nursery, storage: str, book: Ledger) -> None:
    child = children.start(flows.close_while_it_runs, storage, book.path, "reserved_behind_door")
    until(lambda: Path(f"{book.path}.closing").exists())
    with Engine(storage) as engine:
        for _ in range(3):
            with pytest.raises(exoflow.WorkflowRunningError):
                engine.resume("w")
        flows.open_door(book, "here")
        assert child.result() in ("closed", "None") or True
        assert engine.resume("w").result(60)
    assert [what for what in book.whats() if what != "at here"] == ["did"]


def test_a_stopped_process_that_wakes_up_finds_its_workflow_gone(children: Nursery, storage: str, book: Ledger) -> None:
    """A zombie: its lock is a kernel's, so it counts as alive for as long as it is there; nobody takes over."""
    import signal

    child = children.start(flows.run, storage, book.path, "charged_behind_door")
    until(lambda: book.lines("at charged"))
    child.signal(signal.SIGSTOP)
    with Engine(storage) as engine, pytest.raises(exoflow.WorkflowRunningError):
        engine.resume("w")
    flows.open_door(book, "charged")
    child.signal(signal.SIGCONT)
    assert child.result()
    assert len(book.lines("ran")) == 1
