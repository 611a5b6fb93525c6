"""The commands that change a workflow from outside: ``cancel``, ``delete``, ``send-event``, ``settle``, ``gc``."""

import json
import re
import sys
from typing import Any

import click

from exoflow.cli.code import with_code
from exoflow.cli.output import print_json, to_jsonable
from exoflow.cli.settings import open_engine, output_options, path_option, settings, storage_option
from exoflow.states import WorkflowStatus

__all__ = ["cancel", "delete", "gc", "send_event", "settle"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _parse_json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(
            f"{text!r} is not JSON ({error}); a text is written '\"...\"'", context, parameter
        ) from None


def _parse_age(context: click.Context, parameter: click.Parameter, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r}: expected an age such as 90s, 30m, 12h, 7d or 4w", context, parameter)
    return float(match[1]) * _UNITS[match[2]]


def _is_a_person() -> bool:
    return sys.stdin.isatty()


def _done(workflow_id: str, what: str, **more: Any) -> None:
    if settings().as_json:
        print_json({"workflow_id": workflow_id, "done": what, **more})
    else:
        click.echo(f"{workflow_id}: {what}")


@click.command()
@click.argument("workflow_id", metavar="ID")
@path_option
@storage_option()
@output_options
def cancel(workflow_id: str) -> None:
    """Ask a workflow to end.

    What it did under rollback is undone.
    """
    with open_engine() as engine:
        with_code(engine, workflow_id, lambda: engine.cancel(workflow_id))
        status = engine.status(workflow_id)
    if status is WorkflowStatus.CANCELLED:
        _done(workflow_id, "cancelled")
    elif status.ended:
        _done(workflow_id, f"had {status} before")
    else:
        _done(workflow_id, "cancellation requested")


@click.command()
@click.argument("workflow_id", metavar="ID")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@storage_option()
@output_options
def delete(workflow_id: str, yes: bool) -> None:
    """Delete a workflow and all it stored.

    It must have ended. Its id may then be used anew.
    """
    if not yes and not settings().as_json and _is_a_person():
        click.confirm(f"Delete {workflow_id} and its result from {settings().storage}?", abort=True)
    with open_engine() as engine:
        engine.delete(workflow_id)
    _done(workflow_id, "deleted")


@click.command("send-event")
@click.argument("workflow_id", metavar="ID")
@click.argument("event", metavar="EVENT")
@click.argument("payload", metavar="[JSON]", required=False, callback=_parse_json)
@click.option("--message-id", metavar="ID", help="Two messages of one id count once.")
@storage_option()
@output_options
def send_event(workflow_id: str, event: str, payload: Any, message_id: str | None) -> None:
    """Send a message to a workflow.

    It waits for EVENT already, or will.
    """
    with open_engine() as engine:
        engine.send_event(workflow_id, event, payload, message_id=message_id)
    _done(workflow_id, f"{event} sent")


@click.command()
@click.argument("workflow_id", metavar="ID")
@click.argument("task_id", metavar="TASK")
@click.option("--happened", metavar="JSON", help="The effect happened, and this is the task's value.")
@click.option("--did-not-happen", is_flag=True, help="The effect did not happen; the task may run again.")
@storage_option()
@output_options
@click.pass_context
def settle(context: click.Context, workflow_id: str, task_id: str, happened: str | None, did_not_happen: bool) -> None:
    """Say what became of an effect.

    For a task whose outcome nobody but you can know. Then resume the workflow.
    """
    if (happened is None) != did_not_happen:
        raise click.UsageError("which is it? Give either --happened JSON or --did-not-happen")
    parameter = next(parameter for parameter in context.command.params if parameter.name == "happened")
    value = _parse_json(context, parameter, happened)
    with open_engine() as engine:
        engine.settle(workflow_id, task_id, happened=happened is not None, value=value)
    _done(workflow_id, f"{task_id} settled: it {'happened' if happened is not None else 'did not happen'}")


@click.command()
@click.option(
    "--older-than", default="30d", metavar="AGE", callback=_parse_age, help="Only what ended longer ago. [30d]"
)
@storage_option()
@output_options
def gc(older_than: float) -> None:
    """Remove what no workflow needs any more."""
    with open_engine() as engine:
        report = to_jsonable(engine.gc(older_than_s=older_than))
    if settings().as_json:
        print_json(report)
    elif isinstance(report, dict):
        for name, count in report.items():
            click.echo(f"{name.replace('_', ' ')}: {count}")
    else:
        click.echo(str(report))
