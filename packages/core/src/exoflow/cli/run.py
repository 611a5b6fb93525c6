"""The commands that run tasks: ``run``, ``resume``, ``fork``. They follow a workflow to its end."""

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from exoflow.cli.code import metadata_of, with_code
from exoflow.cli.exits import Exit, exit_code
from exoflow.cli.interrupts import terminable
from exoflow.cli.output import print_json, print_value, reserved_stdout, say
from exoflow.cli.settings import (
    execution_options,
    open_engine,
    output_options,
    path_option,
    settings,
    storage_option,
)
from exoflow.states import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import exoflow
    from exoflow.cli.settings import Settings
    from exoflow.plugins.observing import Happening

__all__ = ["fork", "resume", "run"]


def _parse_inputs(context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    inputs = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{pair!r}: expected NAME=JSON, such as seats=2", context, parameter)
        try:
            inputs[name] = json.loads(text)
        except json.JSONDecodeError as error:
            raise click.BadParameter(
                f"{pair!r}: {text!r} is not JSON ({error}); a text is written '{name}=\"...\"'", context, parameter
            ) from None
    return inputs


@click.command()
@click.argument("target", metavar="MODULE:NAME | FILE.py:NAME")
@click.option("--workflow-id", metavar="ID", help="The idempotency key: the same id gives the same result.")
@click.option("--name", metavar="TEXT", help="What `exoflow list` calls it; NAME unless told.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=JSON",
    callback=_parse_inputs,
    help="The value of an input of the DAG. May be given again.",
)
@execution_options
@path_option
@storage_option(required=False)
@output_options
def run(target: str, workflow_id: str | None, name: str | None, inputs: dict[str, Any], **options: Any) -> None:
    """Run a DAG to its end and print its result.

    NAME is a node (task.bind(...)), a task, or a function without arguments that returns a node.
    """
    from exoflow.cli.targets import load_target

    found = load_target(target)
    if settings().storage is None and not settings().as_json:
        say("no --storage: nothing of this run will outlive it")

    def start(engine: "exoflow.Engine") -> "exoflow.Handle":
        return engine.start(
            found.node,
            workflow_id=workflow_id,
            inputs=inputs or None,
            metadata=metadata_of(found),
            name=name or found.name,
        )

    _follow(start, options)


@click.command()
@click.argument("workflow_id", metavar="ID", required=False)
@click.option("--all", "everything", is_flag=True, help="Every workflow whose controller is gone.")
@click.option(
    "--accept-code-change",
    is_flag=True,
    help="Go on although code changed on whose old value an effect may rest.",
)
@execution_options
@path_option
@storage_option()
@output_options
def resume(workflow_id: str | None, everything: bool, accept_code_change: bool, **options: Any) -> None:
    """Go on with a workflow whose process died.

    Prints its result, as `run` does.
    """
    if (workflow_id is None) != everything:
        raise click.UsageError("which one? Give either an ID or --all")
    if everything:
        if accept_code_change:
            raise click.UsageError("--accept-code-change is said of one workflow at a time, by its ID")
        _resume_all(options)
        return
    assert workflow_id is not None
    chosen: str = workflow_id

    def start(engine: "exoflow.Engine") -> "exoflow.Handle":
        return with_code(engine, chosen, lambda: engine.resume(chosen, accept_code_change=accept_code_change))

    _follow(start, options)


@click.command()
@click.argument("workflow_id", metavar="ID")
@click.option("--from", "from_task", metavar="TASK", required=True, help="The first task to run again.")
@click.option("--new-id", metavar="ID", help="The id of the fork; made up unless told.")
@execution_options
@path_option
@storage_option()
@output_options
def fork(workflow_id: str, from_task: str, new_id: str | None, **options: Any) -> None:
    """Run a workflow again from one of its tasks.

    The fork is a workflow of its own. What does not depend on TASK is taken from the first run.
    """

    def start(engine: "exoflow.Engine") -> "exoflow.Handle":
        return with_code(engine, workflow_id, lambda: engine.fork(workflow_id, from_task, new_id=new_id))

    _follow(start, options)


class _Follower:
    """Learns the id of what is started at once: whoever interrupts the start must hear of it, too."""

    def __init__(self, current: "Settings") -> None:
        self._current = current

    def observe(self, happening: "Happening") -> None:
        if happening.moment == "workflow_started" and not self._current.following:
            self._current.following.append(happening.workflow_id)


@contextlib.contextmanager
def _patience(current: "Settings") -> "Iterator[None]":
    """Say what is waited for after an interruption, since closing the engine may take a while."""
    with terminable():
        try:
            yield
        except KeyboardInterrupt:
            if current.following and not current.as_json:
                say("interrupted; tasks that cannot be stopped have 10 s to end (once more to leave at once)")
            raise


def _follow(start: "Callable[[exoflow.Engine], exoflow.Handle]", options: dict[str, Any]) -> None:
    from exoflow.cli.progress import ProgressObserver

    current = settings()
    progress = ProgressObserver(silent=current.as_json)
    with (
        reserved_stdout(current.as_json),
        progress,
        open_engine(**options, observers=(progress, _Follower(current))) as engine,
        _patience(current),
    ):
        current.starting = True
        handle = start(engine)
        current.following[:] = [handle.workflow_id]
        value = handle.result()
    if current.as_json:
        print_json({"workflow_id": handle.workflow_id, "status": "succeeded", "result": value})
    else:
        print_value(value)


def _resume_all(options: dict[str, Any]) -> None:
    from exoflow.cli.progress import ProgressObserver

    current = settings()
    progress = ProgressObserver(silent=current.as_json)
    # Each by itself rather than by `Engine.resume_all`, which only logs what it cannot resume.
    outcomes: dict[str, Any] = {}
    codes = {Exit.SUCCESS}
    with (
        reserved_stdout(current.as_json),
        progress,
        open_engine(**options, observers=(progress,)) as engine,
        _patience(current),
    ):
        infos = [*engine.list(WorkflowStatus.RESUMABLE), *engine.list(WorkflowStatus.ROLLING_BACK)]
        current.following[:] = [info.workflow_id for info in infos]
        handles: dict[str, exoflow.Handle] = {}
        for workflow_id in current.following:
            try:
                handles[workflow_id] = with_code(engine, workflow_id, partial(engine.resume, workflow_id))
            except Exception as error:
                outcomes[workflow_id] = error
        for workflow_id, handle in handles.items():
            try:
                outcomes[workflow_id] = handle.result()
            except Exception as error:
                outcomes[workflow_id] = error
    lines = []
    for workflow_id in current.following:
        outcome = outcomes[workflow_id]
        if isinstance(outcome, Exception):
            codes.add(exit_code(outcome))
            lines.append({"workflow_id": workflow_id, "error": type(outcome).__name__, "message": str(outcome)})
        else:
            lines.append({"workflow_id": workflow_id, "status": "succeeded", "result": outcome})
    if current.as_json:
        print_json(lines)
    elif not lines:
        say("nothing to resume")
    else:
        for line in lines:
            click.echo(f"{line['workflow_id']}: {line.get('message') or line['status']}")
    # What needs a person comes first, then what failed, then what may be tried again.
    for code in (Exit.NEEDS_ATTENTION, Exit.FAILED, Exit.USAGE, Exit.UNAVAILABLE):
        if code in codes:
            raise click.exceptions.Exit(code)
