"""What a task can learn about itself while it runs.

Executors set `current_call` around the functions they call: tasks, undo and resolve functions, sync or async.
"""

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import attrs

from exoflow.errors import UsageError
from exoflow.graph.node import Node

if TYPE_CHECKING:
    from exoflow.executors.contract import Call

__all__ = ["Context", "context", "continuation", "current_call"]

# Holds the call itself, not a Context: one is made only for tasks that ask.
current_call: "ContextVar[Call]" = ContextVar("exoflow_current_call")


class _TaskLogger(logging.LoggerAdapter[logging.Logger]):
    """Says which task speaks, in the message and as fields of the log record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = self.extra or {}
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return f"[{extra['workflow_id']} {extra['task_id']}#{extra['incarnation']}] {msg}", kwargs


@attrs.frozen(kw_only=True)
class Context:
    """The attempt that is running."""

    workflow_id: str
    task_id: str
    incarnation: int
    """Counts the starts that are known, from 1. A crash forgets starts of which no record tells."""
    attempt: str
    """The id of this very start. No other start ever has it."""
    idempotency_key: str
    """What to give a receiver that recognises repeated requests. An idempotent or once task keeps it through every
    retry and crash; each attempt of a rollback task, and of a once task with ``fences=True``, has its own."""

    @property
    def logger(self) -> "logging.LoggerAdapter[logging.Logger]":
        """The logger ``exoflow.task``, with this workflow and task in every message and record."""
        # One logger for all: the logging module never forgets a name, and workflows may have 100,000 task ids.
        fields = {
            "workflow_id": self.workflow_id,
            "task_id": self.task_id,
            "incarnation": self.incarnation,
            "attempt": self.attempt,
        }
        return _TaskLogger(logging.getLogger("exoflow.task"), fields)


def context() -> Context:
    """Return what is known about the running attempt; also inside undo and resolve functions.

    Raises:
        UsageError: No task runs here. A thread that a task starts does not inherit the context either
            (``asyncio.to_thread`` does): ask before, and pass the answer on.
    """
    call = current_call.get(None)
    if call is None:
        raise UsageError(
            "exoflow.context() was called outside of a task; call it in the task's own function, and hand what it "
            "returns to threads that the function starts"
        )
    return Context(
        workflow_id=call.workflow_id,
        task_id=call.task_id,
        incarnation=call.number,
        attempt=call.attempt,
        idempotency_key=call.key,
    )


def continuation(node: Node) -> Node:
    """Say that a task's result is the result of *node*: ``return exoflow.continuation(other.bind(...))``.

    It returns *node* itself, outside of a task too, so that a task's function can be called and tested as a function.
    Returning the bare node means the same; this spelling tells the reader, and refuses what is not a node.

    Raises:
        UsageError: Not a node.
    """
    if not isinstance(node, Node):
        raise UsageError(f"exoflow.continuation({node!r}): expected a node, as `task.bind(...)` makes it")
    return node
