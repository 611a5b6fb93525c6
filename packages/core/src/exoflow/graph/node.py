"""One call of a task, with its arguments bound: what users build DAGs from."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from exoflow.errors import UnknownOptionError

if TYPE_CHECKING:
    from exoflow.tasks.task import Task

__all__ = ["Input", "Node", "node_tuple"]


class Node:
    """A call that has not happened yet. Nodes among its arguments, at any depth, are the DAG's edges.

    Make nodes with `Task.bind`, `exoflow.sleep` or `exoflow.wait_for_event`. A node is its own identity: the same
    node used twice runs once.
    """

    __slots__ = ("after", "args", "kwargs", "task", "task_id", "wait_until_committed")

    def __init__(
        self,
        task: "Task[..., Any]",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        task_id: str | None = None,
        after: tuple["Node", ...] = (),
        wait_until_committed: tuple["Node", ...] = (),
    ) -> None:
        if task_id is not None and (not isinstance(task_id, str) or not task_id or "/" in task_id):
            raise UnknownOptionError(f"task_id={task_id!r}: expected a non-empty text without '/'")
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.task_id = task_id
        self.after = after
        self.wait_until_committed = wait_until_committed

    def __repr__(self) -> str:
        return f"<node {self.task_id or self.task.name}>"


class Input:
    """A placeholder for a value given when the workflow is started.

    Args:
        name: The key in ``inputs={...}``.
        default: Used when the key is absent; without a default, absence is an error.
    """

    __slots__ = ("default", "name")
    _REQUIRED: Any = object()

    def __init__(self, name: str, default: Any = _REQUIRED) -> None:
        self.name = name
        self.default = default

    @property
    def required(self) -> bool:
        """Whether a workflow cannot start without it."""
        return self.default is Input._REQUIRED

    def __repr__(self) -> str:
        return f"<input {self.name}>"


def node_tuple(option: str, nodes: Any) -> tuple[Node, ...]:
    """Return *nodes* as what an *option* of a node takes.

    Raises:
        UnknownOptionError: Not nodes, or not several.
    """
    given = tuple(nodes) if isinstance(nodes, Iterable) else (None,)
    if not all(isinstance(each, Node) for each in given):
        raise UnknownOptionError(f"{option}={nodes!r}: expected a list of nodes")
    return given
