"""The commands that look: ``list``, ``show``, ``result``."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from exoflow.cli.code import with_code
from exoflow.cli.output import (
    console,
    duration,
    moment,
    print_json,
    print_value,
    say,
    size,
    table,
    to_jsonable,
)
from exoflow.cli.settings import open_engine, output_options, path_option, settings, storage_option
from exoflow.states import TaskInfo, TaskState, WorkflowDetail, WorkflowInfo, WorkflowStatus

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

__all__ = ["list_workflows", "result", "show"]

_COLOURS: dict[str, str] = {
    WorkflowStatus.RUNNING: "cyan",
    WorkflowStatus.RESUMABLE: "yellow",
    WorkflowStatus.NEEDS_ATTENTION: "bold red",
    WorkflowStatus.ROLLING_BACK: "yellow",
    WorkflowStatus.SUCCEEDED: "green",
    WorkflowStatus.FAILED: "red",
    WorkflowStatus.CANCELLED: "dim",
    TaskState.WAITING: "dim",
    TaskState.STARTED: "cyan",
    TaskState.RECORDED: "blue",
    TaskState.UNRECORDED: "blue",
    TaskState.COMMITTED: "green",
    TaskState.UNDONE: "yellow",
    TaskState.CONTINUED: "magenta",
}


@click.command("list")
@click.option("--status", type=click.Choice([str(status) for status in WorkflowStatus]), help="Only these.")
@storage_option()
@output_options
def list_workflows(status: str | None) -> None:
    """List the workflows in a storage, newest first."""
    with open_engine() as engine:
        infos = engine.list(WorkflowStatus(status) if status else None)
    infos = sorted(infos, key=lambda info: info.created_at, reverse=True)
    if settings().as_json:
        print_json(infos)
        return
    if not infos:
        say(f"no workflows in {settings().storage}" + (f" are {status}" if status else ""))
        return
    rows = table("ID", "NAME", "STATUS", "CREATED", "TOOK", "PROBLEM", right=("TOOK",))
    for info in infos:
        rows.add_row(
            info.workflow_id,
            info.name,
            _coloured(info.status),
            moment(info.created_at),
            _took(info),
            info.problem or "",
        )
    console().print(rows)


@click.command()
@click.argument("workflow_id", metavar="ID")
@click.option("--tree", "as_tree", is_flag=True, help="Show what each task waits for, the result first.")
@click.option("--limit", type=click.IntRange(min=0), default=200, metavar="N", help="Tasks to show; 0 for all. [200]")
@path_option
@storage_option()
@output_options
def show(workflow_id: str, as_tree: bool, limit: int) -> None:
    """Show a workflow's tasks, states and times.

    And how often each task ran, what it stored, and what it waits for.
    """
    with open_engine() as engine:
        detail = with_code(engine, workflow_id, lambda: engine.show(workflow_id))
    if settings().as_json:
        print_json({**to_jsonable(detail.info), "tasks": detail.tasks})
        return
    out = console()
    out.print(_headline(detail.info))
    for key, value in sorted(detail.info.metadata.items()):
        out.print(f"  {key}: {value}")
    if detail.info.problem:
        out.print(f"  {detail.info.problem}", style="red")
    out.print(_counted(detail))
    shown = detail.tasks if limit == 0 else detail.tasks[:limit]
    if as_tree:
        out.print(_tree(detail, limit))
    elif shown:
        rows = table("TASK", "STATE", "RUNS", "TOOK", "STORED", "EFFECTS", "CHECKPOINT", "AFTER",
                     right=("RUNS", "TOOK", "STORED"))  # fmt: skip
        for task in shown:
            rows.add_row(
                task.task_id, _coloured(task.state), str(task.number or ""), duration(task.seconds),
                size(task.stored_bytes), task.effects, task.checkpoint, _after(task),
            )  # fmt: skip
        out.print(rows)
    if not as_tree and len(shown) < len(detail.tasks):
        say(f"{len(detail.tasks) - len(shown)} more tasks: --limit 0 shows all")


@click.command()
@click.argument("workflow_id", metavar="ID")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@path_option
@storage_option()
@output_options
def result(workflow_id: str, timeout_s: float | None) -> None:
    """Print a workflow's result, or wait for it.

    It waits while another process runs the workflow.
    """
    with open_engine() as engine:
        value = with_code(engine, workflow_id, lambda: engine.result(workflow_id, timeout_s=timeout_s))
    if settings().as_json:
        print_json({"workflow_id": workflow_id, "status": "succeeded", "result": value})
    else:
        print_value(value)


def _coloured(state: str) -> "Text":
    from rich.text import Text

    return Text(str(state), style=_COLOURS.get(state, "red"))


def _took(info: WorkflowInfo) -> str:
    return "" if info.ended_at is None else duration(info.ended_at - info.created_at)


def _headline(info: WorkflowInfo) -> "Text":
    from rich.text import Text

    line = Text(info.workflow_id, style="bold")
    line.append(f"  {info.name}  " if info.name else "  ", style="not bold")
    line.append(_coloured(info.status))
    line.append(f"  created {moment(info.created_at)}", style="not bold")
    if took := _took(info):
        line.append(f", took {took}", style="not bold")
    return line


def _counted(detail: WorkflowDetail) -> str:
    counts = Counter(str(task.state) for task in detail.tasks)
    return f"{len(detail.tasks)} tasks: " + ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _after(task: TaskInfo) -> str:
    names = list(task.depends_on[:5])
    if len(task.depends_on) > 5:
        names.append(f"and {len(task.depends_on) - 5} more")
    if task.parent is not None:
        names.insert(0, f"(made by {task.parent})")
    return ", ".join(names)


def _tree(detail: WorkflowDetail, limit: int) -> "Tree":
    """The result at the top, below each task what it waits for; a task that has been shown is not opened again."""
    from rich.text import Text
    from rich.tree import Tree

    tasks = {task.task_id: task for task in detail.tasks}
    waited_for = {name for task in detail.tasks for name in task.depends_on}
    trunk = Tree(Text(detail.info.workflow_id, style="bold"))
    # Task and branch still to be added, the next one last: a DAG may be deeper than Python recurses.
    waiting: list[tuple[str, Any]] = [(t.task_id, trunk) for t in detail.tasks if t.task_id not in waited_for]
    opened: set[str] = set()
    left = limit or len(tasks) * 10
    while waiting:
        name, branch = waiting.pop()
        if not left:
            trunk.add(Text("... more: --limit 0 shows all", style="dim"))
            break
        left -= 1
        task = tasks.get(name)
        label = Text(name)
        if task is not None:
            label.append("  ").append(_coloured(task.state)).append(f"  {duration(task.seconds)}", style="dim")
        again = name in opened and task is not None and bool(task.depends_on)
        if again:
            label.append("  (as above)", style="dim")
        twig = branch.add(label)
        if task is not None and not again:
            opened.add(name)
            waiting.extend((below, twig) for below in reversed(task.depends_on))
    return trunk
