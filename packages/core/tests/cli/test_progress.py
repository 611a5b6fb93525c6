import sys
import threading
import time

import pytest

from exoflow.cli.progress import ProgressObserver
from exoflow.plugins.observing import Happening, Moment


def happen(progress, moment, task_id="", *, workflow_id="w", total=0, **more):
    progress.observe(
        Happening(moment=Moment(moment), workflow_id=workflow_id, at=0.0, task_id=task_id, tasks_total=total, **more)
    )


def until(condition, deadline_s=5.0):
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_a_short_run_says_nothing(capsys):
    with ProgressObserver(terminal=False, after_s=60) as progress:
        happen(progress, "workflow_started", total=3)
        happen(progress, "task_failed", "a", problem="no")

    assert capsys.readouterr() == ("", "")


def test_a_long_run_says_how_far_it_is_and_sums_up(capsys):
    with ProgressObserver(terminal=False, after_s=0.0, line_every_s=0.01) as progress:
        happen(progress, "workflow_started", total=5)
        happen(progress, "task_loaded", "a")
        for task in ("b", "c", "d", "e", "f"):
            happen(progress, "task_started", task)
        happen(progress, "task_finished", "b")
        lines = []
        until(
            lambda: (
                lines.append(capsys.readouterr().err) or "2 of 5 tasks done, running c, d, e and 1 more" in lines[-1]
            )
        )

    assert "1 task run, 1 loaded in" in capsys.readouterr().err


def test_what_goes_wrong_is_told_when_the_run_is_long(capsys):
    with ProgressObserver(terminal=False, after_s=0.0, line_every_s=0.01) as progress:
        happen(progress, "workflow_started", total=2)
        until(lambda: progress.shown)
        happen(progress, "task_failed", "pay", number=1, problem="TimeoutError")
        happen(progress, "task_retried", "pay", number=2)
        happen(progress, "task_failed", "pay", number=2, problem="ValueError: none")
        happen(progress, "task_undone", "seat")

    err = capsys.readouterr().err
    assert "pay#1 failed: TimeoutError\n" in err
    assert "pay#2 is tried again\n" in err
    assert "pay#2 failed: ValueError: none\n" in err
    assert "seat was undone\n" in err
    assert "1 attempt repeated, 1 failed in" in err


def test_a_task_that_succeeds_in_the_end_has_not_failed(capsys):
    progress = ProgressObserver(silent=True, terminal=False)
    happen(progress, "task_started", "pay", number=1)
    happen(progress, "task_failed", "pay", number=1)
    happen(progress, "task_retried", "pay", number=2)
    assert progress._counts()[2] == "pay"
    happen(progress, "task_finished", "pay", number=2)

    assert progress.summary().startswith("1 task run, 1 attempt repeated in")


def test_several_workflows_are_counted_together(capsys):
    progress = ProgressObserver(terminal=False, silent=True)
    with progress:
        happen(progress, "workflow_started", workflow_id="v", total=2)
        happen(progress, "workflow_started", workflow_id="w", total=3)
        happen(progress, "task_started", "a", workflow_id="v")
        happen(progress, "task_started", "a", workflow_id="w")
        happen(progress, "task_finished", "a", workflow_id="v")

    assert progress._counts() == (5, 1, "a")
    assert capsys.readouterr() == ("", "")


def test_a_continuation_makes_the_total_grow():
    progress = ProgressObserver(silent=True, terminal=False)
    happen(progress, "workflow_started", total=2)
    happen(progress, "task_finished", "a", total=7)

    assert progress._counts()[0] == 7


def test_a_terminal_gets_a_bar_that_goes_away(capsys):
    with ProgressObserver(terminal=True, after_s=0.0) as progress:
        happen(progress, "workflow_started", total=5)
        happen(progress, "task_started", "[bold]")
        happen(progress, "task_failed", "pay", problem="[red]no[/]")
        until(lambda: progress.shown)
        until(lambda: not progress._notes)

    err = capsys.readouterr().err
    assert "pay failed: [red]no[/]" in err
    assert err.endswith("s\n")


def test_watching_costs_the_engine_a_few_microseconds_per_task():
    progress = ProgressObserver(silent=True, terminal=False)
    started, finished = (
        Happening(moment=moment, workflow_id="w", at=0.0, task_id="a")
        for moment in (Moment.TASK_STARTED, Moment.TASK_FINISHED)
    )
    began = time.perf_counter()
    for _ in range(10_000):
        progress.observe(started)
        progress.observe(finished)

    assert (time.perf_counter() - began) / 10_000 < 100e-6


@pytest.mark.parametrize("terminal", [True, False])
def test_no_thread_is_left_behind(terminal, capsys):
    with ProgressObserver(terminal=terminal, after_s=0.0):
        pass

    assert "exoflow-progress" not in {thread.name for thread in threading.enumerate()}
    assert sys.stdout is not None


def test_what_never_begins_is_not_told_of(capsys):
    with ProgressObserver(terminal=False, after_s=0.0, line_every_s=0.01) as progress:
        pass

    assert not progress.shown
    assert capsys.readouterr().err == ""
