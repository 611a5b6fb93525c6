import inspect
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from exoflow.cli.main import cli
from exoflow_bench.demo import story
from exoflow_bench.demo.worker import Job


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.delenv("EXOFLOW_STORAGE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # click before 8.2 has to be told to keep stderr apart
    told = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    return lambda *words: CliRunner(**told).invoke(cli, ["demo", *words], catch_exceptions=False)


def test_a_training_that_is_killed_ends_with_the_bits_of_one_that_is_not(demo, tmp_path):
    run = demo("--epochs", "6", "--kill-at", "train_3", "--json", "--picture", str(tmp_path / "out" / "timeline.png"))
    assert run.exit_code == 0, run.output + run.stderr
    told = json.loads(run.stdout)

    assert told["ok"]
    assert all(check["ok"] for check in told["checks"])
    assert told["processes"]["killed"]["exit_code"] == -signal.SIGKILL
    assert told["processes"]["resumed"]["exit_code"] == 0
    assert len({process["pid"] for process in told["processes"].values()}) == 3
    assert told["processes"]["uninterrupted"]["tasks_run"] == told["tasks"]["total"] == 30

    before, after = told["tasks"]["before"], told["tasks"]["after"]
    assert {"fetch", "split", "train_0", "ingest_7"} <= set(before["committed"])
    assert {"train_1", "train_2", "train_3", "augment_1"} <= set(after["rerun"]) == set(before["lost"])
    assert {"split", "train_0"} <= set(after["loaded"]) <= set(before["committed"])
    assert {"fetch", "ingest_0", "create", "augment_0"} <= set(after["untouched"])
    assert {"train_4", "train_5", "evaluate"} <= set(after["run"])
    assert len(after["rerun"]) + len(after["run"]) == told["processes"]["resumed"]["tasks_run"]

    recovery = told["recovery_s"]
    assert 0 < recovery["resume_to_first_task"] < recovery["process_start_to_first_task"]
    assert recovery["process_start_to_first_task"] < told["processes"]["resumed"]["seconds"]

    assert told["accuracy"] == told["accuracy_uninterrupted"] >= 0.95
    assert told["model_sha256"] == told["model_sha256_uninterrupted"]

    picture = (tmp_path / "out" / "timeline.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20]) > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing else is left lying about


def test_it_runs_in_processes_too_and_leaves_what_it_is_told_to_leave(demo, tmp_path):
    storage = f"file://{tmp_path}/flows"
    run = demo("--epochs", "4", "--kill-at", "train_2@before_run", "--executor", "process", "--storage", storage)
    assert run.exit_code == 0, run.output + run.stderr
    assert "everything held" in run.stdout
    assert "re-run" in run.stdout
    assert "killed by signal 9" in run.stdout
    [drawn] = [line.removeprefix("timeline: ") for line in run.stdout.splitlines() if line.startswith("timeline: ")]
    assert Path(drawn).read_bytes().startswith(b"\x89PNG")

    [look] = [line.removeprefix("look into it: exoflow ") for line in run.stdout.splitlines() if "look into it" in line]
    shown = CliRunner().invoke(cli, [*look.split(), "--json"])
    assert shown.exit_code == 0, shown.output
    assert '"succeeded"' in shown.stdout


def test_a_kill_that_does_not_come_is_no_success(demo, tmp_path):
    # `create` writes no blob, so nothing is ever killed while it writes one.
    run = demo("--epochs", "1", "--kill-at", "create@during_blob_write", "--picture", str(tmp_path / "timeline.svg"))
    assert run.exit_code == 1
    assert "it did not hold that the first process was killed with SIGKILL" in run.stdout
    assert "of 7 checks FAILED" in (tmp_path / "timeline.svg").read_text()


def test_a_process_that_hangs_is_not_left_behind(tmp_path, monkeypatch):
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\necho $$ > pid; exec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.chdir(tmp_path)
    job = Job(storage="", workflow_id="w", executor="thread", trail=str(tmp_path / "trail"), settings={})

    def interrupt(done):
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story._run("killed", job, tmp_path, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--kill-at", "nope"], "no such task; choose one of create, fetch, ingest_0 to 7"),
        (["--kill-at", "train_1@nope"], "before_run"),
        (["--executor", "nope"], "installed: inline, process, thread"),
        (["--storage", "memory://x"], "dies with its process"),
        (["--storage", "nope://x"], "no plugin opens"),
        (["--picture", "timeline.txt"], ".png, .svg, .pdf"),
        (["--epochs", "0"], "x>=1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(demo, tmp_path, words, told):
    run = demo(*words)
    assert run.exit_code == 2
    assert told in run.stderr
    assert list(tmp_path.iterdir()) == []
