import json
import subprocess
import sys

import click
import pytest

from exoflow.cli.commands import CORE_COMMANDS, load
from exoflow.errors import (
    CorruptCheckpointError,
    FencedError,
    NeedsAttentionError,
    TaskFailedError,
    UnavailableError,
    UnknownStoreError,
    WorkflowCancelledError,
    WorkflowRunningError,
)
from exoflow.failures.points import FailurePoint, SimulatedCrash


def failed(cause="no seats left"):
    error = TaskFailedError("trip-42", "reserve", f"ValueError: {cause}")
    error.__cause__ = ValueError(cause)
    return error


@pytest.mark.parametrize("word", CORE_COMMANDS)
def test_every_command_has_help_of_one_line_and_its_own_name(word, run):
    command = load(word)

    assert command.name == word
    assert command.get_short_help_str(limit=200)
    assert run(word, "--help").exit_code == 0


def test_help_lists_the_commands_in_the_order_of_their_use(run):
    text = run("--help").stdout

    places = [text.index(f"\n  {word} ") for word in CORE_COMMANDS]
    assert places == sorted(places)


def test_no_one_line_description_is_cut_short(run):
    assert "..." not in run("--help").stdout.partition("Commands:")[2]


def test_help_imports_neither_rich_nor_asyncio_nor_the_engine():
    code = """
import sys
import exoflow
before = set(sys.modules)
from exoflow.cli.main import cli
try:
    cli(["--help"], prog_name="exoflow")
except SystemExit:
    pass
heavy = {'rich', 'asyncio', 'multiprocessing', 'exoflow.controller.controller', 'cloudpickle'}
print(' '.join(sorted(heavy & (set(sys.modules) - before))), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_a_command_of_a_plugin_is_listed_and_run(run, plugin_command, hello):
    plugin_command(hello=lambda: hello)

    assert "hello       Says hello." in run("--help").stdout
    assert run("hello").stdout == "hello\n"


def test_a_command_that_cannot_be_made_does_not_spoil_help_for_the_others(run, plugin_command, hello):
    def make():
        raise ImportError("no scikit-learn")

    plugin_command(hello=lambda: hello, broken=make)

    shown = run("--help")

    assert shown.exit_code == 0
    assert "Says hello." in shown.stdout
    assert "cannot be loaded: ImportError" in shown.stdout


def test_no_plugin_takes_a_word_of_the_command_itself(run, plugin_command, hello):
    plugin_command(run=lambda: hello, hello=lambda: hello)

    asked = run("hello")

    assert asked.exit_code == 2
    assert "plugin 'core' and plugin 'extra' both bring the command 'run'" in asked.stderr
    assert run("--help").exit_code == 0


def test_an_unknown_word_is_a_usage_error(run):
    asked = run("destroy")

    assert asked.exit_code == 2
    assert "destroy" in asked.stderr


def test_a_word_of_a_package_that_is_missing_says_what_to_install(run, plugin_command):
    plugin_command()

    asked = run("demo")

    assert asked.exit_code == 2
    assert "pip install 'exoflow-bench[demo]'" in asked.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (failed(), 1),
        (WorkflowCancelledError("trip-42"), 1),
        (CorruptCheckpointError("blobs/x", "its checksum differs"), 1),
        (RuntimeError("a bug"), 1),
        (UnknownStoreError("x://y", ["memory"]), 2),
        (NeedsAttentionError("trip-42", "pay", "its outcome is unknown"), 3),
        (UnavailableError("the disk is full"), 4),
        (WorkflowRunningError("trip-42", "host:123"), 4),
        (FencedError("j1", "j2"), 4),
        (SimulatedCrash(FailurePoint.AFTER_RECORD, "pay"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
class TestAnError:
    def test_is_one_message_on_stderr_and_an_exit_code(self, error, code, run, engine):
        engine.outcome = error

        done = run("result", "trip-42")

        assert (done.exit_code, done.stdout) == (code, "")
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr

    def test_is_a_json_object_when_json_is_asked_for(self, error, code, run, engine):
        engine.outcome = error

        done = run("result", "trip-42", "--json")

        said = json.loads(done.stderr)
        assert (said["error"], said["exit_code"], done.exit_code) == (type(error).__name__, code, code)
        assert done.stdout == ""


def test_the_tasks_own_error_is_the_cause_in_json(run, engine):
    engine.outcome = failed("no seats left")

    said = json.loads(run("result", "trip-42", "--json").stderr)

    assert (said["workflow_id"], said["task_id"]) == ("trip-42", "reserve")
    assert said["cause"] == "ValueError: no seats left"


def test_the_traceback_is_shown_when_debug_asks_for_it(run, engine):
    engine.outcome = failed("no seats left")

    done = run("result", "trip-42", "--debug")

    assert "Traceback" in done.stderr
    assert "ValueError: no seats left" in done.stderr
    assert done.exit_code == 1


def test_an_interrupted_run_says_how_to_resume(run, engine, tmp_path):
    tmp_path.joinpath("trip.py").write_text("import exoflow.tasks.task as t\nbook = t.task(lambda: 1).bind()\n")
    engine.outcome = KeyboardInterrupt()

    done = run("run", "trip:book", "--workflow-id", "trip 42")

    assert done.exit_code == 130
    assert "Go on with: exoflow resume 'trip 42' --storage file://./flows" in done.stderr
    assert engine.closed == 1


def test_an_interrupted_run_in_memory_promises_nothing(run, engine, tmp_path, monkeypatch):
    monkeypatch.delenv("EXOFLOW_STORAGE")
    tmp_path.joinpath("trip.py").write_text("import exoflow.tasks.task as t\nbook = t.task(lambda: 1).bind()\n")
    engine.outcome = KeyboardInterrupt()

    done = run("run", "trip:book")

    assert done.exit_code == 130
    assert "nothing is left" in done.stderr
    assert "resume" not in done.stderr


def test_a_run_interrupted_before_it_was_accepted_is_given_again(run, engine, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    tmp_path.joinpath("trip.py").write_text("import exoflow.tasks.task as t\nbook = t.task(lambda: 1).bind()\n")
    monkeypatch.setattr(engine, "start", interrupt)

    done = run("run", "trip:book", "--workflow-id", "t")

    assert (done.exit_code, done.stderr) == (130, "interrupted; give the same command again\n")


def test_a_run_that_needs_a_person_says_what_to_do_and_then_how_to_resume(run, engine):
    engine.outcome = NeedsAttentionError("trip-42", "pay", "its outcome is unknown")

    done = run("resume", "trip-42")

    assert done.exit_code == 3
    assert "exoflow settle trip-42 pay --happened JSON --storage file://./flows" in done.stderr
    assert "then: exoflow resume trip-42 --storage file://./flows" in done.stderr


def test_a_workflow_that_runs_elsewhere_can_be_waited_for(run, engine):
    engine.outcome = WorkflowRunningError("trip-42", "host:123")

    assert "exoflow result trip-42 --storage file://./flows" in run("resume", "trip-42").stderr


def test_a_mistake_in_an_option_shows_the_usage(run, engine):
    done = run("result", "trip-42", "--timeout", "soon")

    assert done.exit_code == 2
    assert "Usage: " in done.stderr
    assert "--timeout" in done.stderr


def test_a_mistake_is_json_too(run, engine):
    done = run("resume", "--json")

    assert done.exit_code == 2
    assert "Give either an ID or --all" in json.loads(done.stderr)["message"]


@pytest.mark.parametrize(
    "words", [("list",), ("show", "x"), ("result", "x"), ("cancel", "x"), ("gc",), ("resume", "x")]
)
def test_looking_without_a_storage_is_a_usage_error_that_shows_one(run, engine, monkeypatch, words):
    monkeypatch.delenv("EXOFLOW_STORAGE")

    done = run(*words)

    assert done.exit_code == 2
    assert "--storage URL, or set EXOFLOW_STORAGE" in done.stderr
    assert engine.opened == []


def test_the_option_wins_over_the_environment(run, engine):
    run("cancel", "x", "--storage", "s3://bucket")

    assert engine.opened[0]["storage"] == "s3://bucket"


def test_a_click_exception_of_a_plugins_command_keeps_its_own_way(run, plugin_command):
    @click.command()
    def odd():
        raise click.ClickException("its own words")

    plugin_command(odd=lambda: odd)

    done = run("odd")

    assert (done.exit_code, done.stderr) == (1, "Error: its own words\n")
