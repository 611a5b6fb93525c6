"""``exoflow demo``: what it is asked, and what it says."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exoflow.cli.output import console, duration, print_json, say, table
from exoflow.cli.settings import output_options, settings, storage_option

if TYPE_CHECKING:
    from exoflow_bench.demo.account import Account
    from exoflow_bench.demo.story import Process, Progress, Story

__all__ = ["demo"]

_NEEDS = ("numpy", "matplotlib", "sklearn", "exoflow_storage")


@click.command()
@click.option("--epochs", type=click.IntRange(min=1), default=25, show_default=True, help="Passes over the images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything that is random.")
@click.option(
    "--kill-at",
    metavar="TASK[@POINT]",
    help="Kill the first process in this task: when it is done and nothing of that is recorded, or at another failure "
    "point, such as before_run. [default: the training of the middle epoch]",
)
@click.option("--executor", metavar="NAME", default="thread", show_default=True, help="What runs the tasks.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the timeline is drawn: .png, .svg or .pdf. [default: in a new temporary folder]",
)
@click.option("--keep", is_flag=True, help="Keep the stores and trails, to look into them afterwards.")
@storage_option(required=False)
@output_options
def demo(epochs: int, seed: int, kill_at: str | None, executor: str, picture: Path | None, keep: bool) -> None:
    """Train a model, kill -9 it, resume it, compare.

    A training pipeline on 1,797 real handwritten digits runs in a process that is killed in the middle. Another process
    resumes it. A third runs the same without being disturbed: both models must be equal, bit for bit.

    Exit code 0 says that everything held.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise click.UsageError(f"without {', '.join(missing)} there is no demo: pip install 'exoflow-bench[demo]'")
    from exoflow_bench.demo.story import Plan, tell
    from exoflow_bench.demo.timeline import draw, endings
    from exoflow_bench.suites.ml.pipeline import Settings

    current = settings()
    task, _, point = (kill_at or f"train_{epochs // 2}").partition("@")
    _check_storage(current.storage)
    if picture is not None and picture.suffix not in endings():
        raise click.UsageError(
            f"--picture {str(picture)!r}: expected a name that ends with one of {', '.join(endings())}"
        )
    folder = Path(tempfile.mkdtemp(prefix="exoflow-demo-"))
    work = folder / "work"
    work.mkdir()
    plan = Plan(
        settings=Settings(epochs=epochs, seed=seed),
        kill_at=task,
        point=point or "after_run_before_record",
        executor=executor,
        storage=current.storage or f"file://{work}/flows",
        folder=work,
    )
    target = picture or folder / "timeline.png"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _progress(silent=current.as_json) as progress:
            story = tell(plan, progress)
        draw(story, target)
    finally:
        if not keep:
            shutil.rmtree(work)
            with contextlib.suppress(OSError):  # not empty: the picture is in it
                folder.rmdir()
    if current.as_json:
        print_json(describe(story, target, kept=keep))
    else:
        _report(story, target, kept=keep)
    if not story.ok:
        raise click.exceptions.Exit(1)


def _check_storage(url: str | None) -> None:
    if url is not None and url.startswith("memory:"):
        raise click.UsageError(
            f"--storage {url!r}: what is in memory dies with its process; give a folder, file://./flows"
        )


# --- for machines -----------------------------------------------------------------------------------------------------


def describe(story: "Story", picture: Path, *, kept: bool) -> dict[str, Any]:
    """Return all that ``--json`` says."""
    from exoflow_bench.demo.account import After, Before
    from exoflow_bench.suites.ml import model

    def named(state: Before | After) -> list[str]:
        return [task.task_id for task in story.tasks if state in (task.before, task.after)]

    def process(one: "Process") -> dict[str, Any]:
        return {"pid": one.pid, "exit_code": one.code, "seconds": one.seconds, "tasks_run": one.tasks_run}

    result, expected = story.result, story.expected
    return {
        "ok": story.ok,
        "checks": story.checks,
        "settings": story.plan.settings,
        "executor": story.plan.executor,
        "workflow_id": story.workflow_id,
        "storage": _storages(story) if kept or not _temporary(story) else None,
        "picture": str(picture),
        "killed_at": {"task": story.plan.kill_at, "point": story.plan.point},
        "processes": {
            "killed": process(story.killed),
            "resumed": process(story.resumed),
            "uninterrupted": process(story.uninterrupted),
        },
        "recovery_s": {
            "resume_to_first_task": story.recovery_s,
            "process_start_to_first_task": story.recovery_from_process_start_s,
        },
        "tasks": {
            "total": len(story.tasks),
            "before": {state.name.lower(): named(state) for state in Before},
            "after": {state.name.lower(): named(state) for state in After},
        },
        "accuracy": None if result is None else result.accuracy,
        "accuracy_uninterrupted": None if expected is None else expected.accuracy,
        "model_sha256": None if result is None else model.digest(result.model),
        "model_sha256_uninterrupted": None if expected is None else model.digest(expected.model),
    }


def _storages(story: "Story") -> dict[str, str]:
    from exoflow_bench.demo.story import storages

    killed, uninterrupted = storages(story.plan.storage)
    return {"killed": killed, "uninterrupted": uninterrupted}


def _temporary(story: "Story") -> bool:
    return story.plan.storage == f"file://{story.plan.folder}/flows"


# --- for people -------------------------------------------------------------------------------------------------------


def _report(story: "Story", picture: Path, *, kept: bool) -> None:
    screen = console()
    screen.print()
    screen.print(_tasks_table(story))
    screen.print()
    screen.print(_processes_table(story))
    screen.print()
    screen.print(_checks_table(story))
    screen.print()
    if story.recovery_s is not None:
        click.echo(
            f"recovery: {duration(story.recovery_s)} from resume() to the first task, "
            f"{duration(story.recovery_from_process_start_s)} from the start of the process"
        )
    click.echo(f"timeline: {picture}")
    if kept or not _temporary(story):
        click.echo(f"look into it: exoflow show {story.workflow_id} --storage {_storages(story)['killed']}")
    if kept:
        click.echo(f"trails and output of the processes: {story.plan.folder}")
    failed = [check for check in story.checks if not check.ok]
    if failed:
        click.secho("it did not hold that " + "; that ".join(check.claim for check in failed), fg="red", bold=True)
    else:
        click.secho("everything held", fg="green", bold=True)


def _tasks_table(story: "Story") -> Any:
    from exoflow_bench.demo.account import After, ranges

    rows = table("AFTER THE KILL", "TASKS", "BEFORE IT", "WHICH", right=("TASKS",))
    for after in (After.UNTOUCHED, After.LOADED, After.RERUN, After.RUN):
        groups: dict[str, list[Account]] = {}
        for task in story.tasks:
            if task.after is after:
                groups.setdefault(str(task.before), []).append(task)
        for at, (before, tasks) in enumerate(groups.items()):
            names = ranges(task.task_id for task in tasks)
            rows.add_row("" if at else str(after), str(len(tasks)), before, names)
    return rows


def _processes_table(story: "Story") -> Any:
    rows = table("PROCESS", "PID", "TIME", "TASKS RUN", "END", right=("PID", "TIME", "TASKS RUN"))
    for process in (story.killed, story.resumed, story.uninterrupted):
        end = f"killed by signal {-process.code}" if process.code < 0 else f"exit code {process.code}"
        rows.add_row(process.name, str(process.pid), duration(process.seconds), str(process.tasks_run), end)
    return rows


def _checks_table(story: "Story") -> Any:
    rows = table("", "CHECK", "")
    for check in story.checks:
        rows.add_row("ok" if check.ok else "BAD", check.claim, check.detail, style=None if check.ok else "red")
    return rows


@contextlib.contextmanager
def _progress(*, silent: bool) -> "Iterator[Progress]":
    """Show on stderr what is going on: bars on a terminal, else a line for each process."""
    if silent:
        yield lambda what, done, of: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    screen = console(err=True)
    if not screen.is_terminal:
        told: set[str] = set()

        def tell(what: str, done: int, of: int) -> None:
            if what not in told:
                told.add(what)
                say(what)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen) as shown:
        known: dict[str, TaskID] = {}

        def draw(what: str, done: int, of: int) -> None:
            if what not in known:
                for earlier in list(known.values())[-1:]:
                    shown.stop_task(earlier)
                known[what] = shown.add_task(what, total=of)
            shown.update(known[what], completed=done)

        yield draw
