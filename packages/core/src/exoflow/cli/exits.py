"""What the command returns to its shell, and how it says what went wrong.

====  ==========================================================================================
0     success
1     a task or a workflow failed, or was cancelled
2     the command was used wrongly
3     a person must say what became of an effect: ``exoflow settle``, then ``exoflow resume``
4     the storage does not answer, or another process runs the workflow: try again later
130   interrupted (Ctrl-C); the message says how to resume
143   the same, by SIGTERM
====  ==========================================================================================
"""

import shlex
import traceback
from enum import IntEnum

import click

from exoflow.cli.interrupts import Terminated
from exoflow.cli.output import print_json, say
from exoflow.cli.settings import Settings
from exoflow.errors import (
    ExoFlowError,
    FencedError,
    NeedsAttentionError,
    UnavailableError,
    UsageError,
    WorkflowRunningError,
)

__all__ = ["Exit", "exit_code", "report", "resume_command"]


class Exit(IntEnum):
    """Exit codes."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    NEEDS_ATTENTION = 3
    UNAVAILABLE = 4
    INTERRUPTED = 130
    TERMINATED = 143


def exit_code(error: BaseException) -> Exit:
    """Return the code for *error*."""
    if isinstance(error, Terminated):
        return Exit.TERMINATED
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, NeedsAttentionError):
        return Exit.NEEDS_ATTENTION
    if isinstance(error, WorkflowRunningError | UnavailableError | FencedError):
        return Exit.UNAVAILABLE
    if isinstance(error, UsageError | click.UsageError):
        return Exit.USAGE
    return Exit.FAILED


def report(error: BaseException, settings: Settings) -> Exit:
    """Say what went wrong, on stderr, and return the exit code."""
    code = exit_code(error)
    message = _message(error, settings)
    if settings.debug and not isinstance(error, click.ClickException):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if settings.as_json:
        described: dict[str, object] = {
            "error": type(error).__name__,
            "message": message.removeprefix("error: "),
            "exit_code": int(code),
        }
        for field in ("workflow_id", "task_id"):
            if isinstance(getattr(error, field, None), str):
                described[field] = getattr(error, field)
        if settings.following:
            described["workflows"] = settings.following
        if error.__cause__ is not None:
            described["cause"] = f"{type(error.__cause__).__name__}: {error.__cause__}"
        print_json(described, err=True)
    else:
        say(message)
    return code


def resume_command(settings: Settings) -> str | None:
    """Return the command that goes on with what this invocation ran; None if nothing of it outlives the process."""
    if settings.storage is None or settings.storage.startswith("memory:") or not settings.following:
        return None
    target = shlex.quote(settings.following[0]) if len(settings.following) == 1 else "--all"
    return f"exoflow resume {target} --storage {shlex.quote(settings.storage)}"


def _message(error: BaseException, settings: Settings) -> str:
    command = resume_command(settings)
    if isinstance(error, KeyboardInterrupt) or getattr(error, "exoflow_simulated_crash", False):
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        if command is not None:
            return f"{what}; nothing that was recorded is lost. Go on with: {command}"
        if settings.following:
            return f"{what}; storage was in memory, so nothing is left of it"
        return f"{what}; give the same command again" if settings.starting else what
    if isinstance(error, click.ClickException):
        return f"error: {error.format_message()}"
    if not isinstance(error, ExoFlowError):
        if isinstance(error, ModuleNotFoundError):
            return f"error: {error}; if it is the workflow's own code, say where it is with --path FOLDER"
        return f"error: {type(error).__name__}: {error} (--debug shows where)"
    text = f"error: {error}"
    if error.__cause__ is not None and not settings.debug and not isinstance(error, UsageError):
        text += " (--debug shows where)"
    return "\n".join([text, *_next_steps(error, settings, command)])


def _next_steps(error: ExoFlowError, settings: Settings, command: str | None) -> list[str]:
    """What to type next. Errors themselves speak to programs."""
    storage = f" --storage {shlex.quote(settings.storage)}" if settings.storage is not None else ""
    if isinstance(error, NeedsAttentionError):
        about = f"{shlex.quote(error.workflow_id)} {shlex.quote(error.task_id)}"
        first = f"say what became of it: exoflow settle {about} --happened JSON{storage} (or --did-not-happen)"
        return [first, f"then: {command or f'exoflow resume {shlex.quote(error.workflow_id)}{storage}'}"]
    if isinstance(error, WorkflowRunningError):
        return [f"wait for it here: exoflow result {shlex.quote(error.workflow_id)}{storage}"]
    if isinstance(error, UnavailableError) and command:
        return [f"then: {command}"]
    return []
