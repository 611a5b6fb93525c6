import os
import signal
import subprocess
import sys
from contextlib import closing

from exoflow.plugins.observing import Happening, Moment
from exoflow_bench.demo.trail import Line, Trail, first_beginning, first_time, read_trail, tasks_of


def test_a_trail_is_read_as_it_was_written(tmp_path):
    with closing(Trail(tmp_path / "trail")) as trail:
        trail.observe(Happening(moment=Moment.TASK_STARTED, workflow_id="w", at=1.5, task_id="a", number=2))
        trail.note("result")
    started, noted = read_trail(tmp_path / "trail")
    assert started == Line(1.5, "task_started", "a", 2)
    assert noted.what == "result"


def test_a_trail_outlives_a_process_that_is_killed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from exoflow_bench.demo.trail import Trail\n"
        "Trail(Path(sys.argv[1])).note('alive'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, os.fspath(tmp_path / "trail")], check=False)
    assert run.returncode == -signal.SIGKILL
    assert [line.what for line in read_trail(tmp_path / "trail")] == ["alive"]


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path):
    with closing(Trail(tmp_path / "trail")) as trail:
        trail.note("whole")
    with (tmp_path / "trail").open("a") as file:
        file.write('{"at": 1.0, "wh')
    assert [line.what for line in read_trail(tmp_path / "trail")] == ["whole"]


def test_no_trail_yet_is_an_empty_one(tmp_path):
    assert read_trail(tmp_path / "trail") == []


def test_a_trail_can_be_asked():
    trail = [Line(1.0, "start"), Line(2.0, Moment.TASK_RETRIED, "b"), Line(3.0, Moment.TASK_STARTED, "a")]
    assert tasks_of(trail, Moment.TASK_RETRIED) == {"b"}
    assert first_beginning(trail) == 2.0
    assert first_time(trail, "resume", "start") == 1.0
    assert first_time(trail, "resume") is None
