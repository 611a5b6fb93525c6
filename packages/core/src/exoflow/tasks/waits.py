"""Nodes that wait without a worker: timers and events. Both survive any crash; neither holds a thread."""

from typing import Any

from exoflow.errors import UsageError
from exoflow.graph.node import Node, node_tuple
from exoflow.tasks.policy import Checkpoint, Effects, TaskPolicy, is_duration
from exoflow.tasks.task import Task

__all__ = ["sleep", "wait_for_event"]


def _sleep(seconds: float) -> None:
    raise UsageError("a sleep is a node of a workflow; it is not called")


def _event(name: str, *, timeout_s: float | None = None, default: Any = None) -> Any:
    raise UsageError("an event is awaited by a node of a workflow; it is not called")


class _Wait(Task[Any, Any]):
    """A task the driver itself carries out."""

    def __init__(self, function: Any, kind: str, checkpoint: Checkpoint) -> None:
        super().__init__(
            function,
            TaskPolicy(effects=Effects.NONE, deterministic=kind == "sleep", checkpoint=checkpoint, version="1"),
        )
        self.kind = kind

    def __reduce__(self) -> Any:
        return _named, (self.kind,)


def _named(kind: str) -> _Wait:
    return _SLEEP if kind == "sleep" else _EVENT


_SLEEP = _Wait(_sleep, "sleep", Checkpoint.ASYNC)
_EVENT = _Wait(_event, "event", Checkpoint.SYNC)


def sleep(seconds: Any, *, task_id: str | None = None, after: tuple[Node, ...] | list[Node] = ()) -> Node:
    """Make a node that is finished *seconds* after what it depends on.

    The moment is fixed when the wait begins and survives a crash: a workflow that was down meanwhile does not wait
    again. The node's result is None.

    Args:
        seconds: A number, or a node whose result is one.
        task_id: The node's name in the workflow.
        after: Nodes that must have finished before the wait begins.
    """
    if not isinstance(seconds, Node) and not is_duration(seconds):
        raise UsageError(f"sleep({seconds!r}): expected a number of seconds of at least 0, or a node")
    return Node(_SLEEP, (seconds,), {}, task_id=task_id, after=node_tuple("after", after))


def wait_for_event(
    name: str,
    *,
    timeout_s: float | None = None,
    default: Any = ...,
    task_id: str | None = None,
    after: tuple[Node, ...] | list[Node] = (),
) -> Node:
    """Make a node whose result is the payload of a message sent with `exoflow.send_event`.

    A message feeds one node. Messages that come before anybody waits are kept; several nodes that wait for one name are fed in
    the order of the DAG.

    Args:
        name: The event's name.
        timeout_s: How long to wait, from the moment the node is ready; for ever when None.
        default: The result after a timeout. Without it a timeout is a `TaskTimeoutError` that fails the workflow.
        task_id: The node's name in the workflow.
        after: Nodes that must have finished before the wait begins.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"wait_for_event({name!r}): expected a non-empty text")
    if timeout_s is not None and not is_duration(timeout_s):
        raise UsageError(
            f"wait_for_event(timeout_s={timeout_s!r}): expected a number of seconds of at least 0, or None"
        )
    options: dict[str, Any] = {}
    if timeout_s is not None:
        options["timeout_s"] = timeout_s
    if default is not ...:
        if timeout_s is None:
            raise UsageError("wait_for_event(default=...) without timeout_s=...: it would never be used")
        options["default"] = default
    return Node(_EVENT, (name,), options, task_id=task_id, after=node_tuple("after", after))
