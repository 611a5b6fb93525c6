"""What of a workflow's records a fork takes over."""

from collections.abc import Mapping
from typing import Any

import attrs

from exoflow.errors import UsageError
from exoflow.graph.dag import Dag
from exoflow.journal.records import Outcome, TimerArmed, WorkflowRecord
from exoflow.recovery.history import History
from exoflow.recovery.plan import unfold

__all__ = ["fork_records"]


def fork_records(
    history: History, dag: Dag, decoded: Mapping[str, Any], from_task: str, new_id: str
) -> list[WorkflowRecord]:
    """Return the records a fork begins with: all of the original but of *from_task* and what depends on it.

    Intents stay behind: what the original did is the original's to undo. A fork that fails undoes what it did itself.

    Raises:
        UsageError: The workflow has no such task.
    """
    nodes = unfold(dag, {i: d for i, d in decoded.items() if isinstance(d, Dag)}, history)
    if from_task not in nodes:
        known = ", ".join(list(nodes)[:8])
        raise UsageError(f"from_task={from_task!r}: the workflow has no such task; it has {known}, ...")
    assert history.submission is not None
    dropped = _downstream(history, nodes, from_task)
    # What the original rolled back has to be done again in the fork, with all that read it.
    for outcome in history.outcomes.values():
        if outcome.attempt in history.undone and _is_current(history, outcome) and outcome.task_id not in dropped:
            dropped |= _downstream(history, nodes, outcome.task_id)
    records: list[WorkflowRecord] = [
        outcome for outcome in history.outcomes.values()
        if _is_current(history, outcome) and outcome.task_id not in dropped and outcome.what != "error"
    ]  # fmt: skip
    timers: list[WorkflowRecord] = [
        TimerArmed(new_id, task_id, deadline)
        for task_id, deadline in history.deadlines.items()
        if task_id not in dropped
    ]
    submission = attrs.evolve(history.submission, workflow_id=new_id)
    return [submission, *(attrs.evolve(record, workflow_id=new_id) for record in (*records, *timers))]


def _is_current(history: History, outcome: Outcome) -> bool:
    return history.current[outcome.task_id] == outcome.incarnation


def _downstream(history: History, nodes: Mapping[str, Any], from_task: str) -> set[str]:
    """The task and everything that depends on it: by edges, by what was read, and by who made whom."""
    readers: dict[str, list[str]] = {}
    for node in nodes.values():
        for before in (*node.deps, *node.order_deps, *node.committed_deps):
            readers.setdefault(before, []).append(node.task_id)
    task_of = {o.incarnation: o.task_id for o in history.outcomes.values()}
    for node in nodes.values():
        if node.parent is not None:
            parent = task_of[node.parent]
            readers.setdefault(parent, []).append(node.task_id)
    for outcome in history.outcomes.values():
        for read in outcome.reads:
            if read in task_of:
                readers.setdefault(task_of[read], []).append(outcome.task_id)
    found, stack = {from_task}, [from_task]
    while stack:
        for reader in readers.get(stack.pop(), ()):
            if reader not in found:
                found.add(reader)
                stack.append(reader)
    return found
