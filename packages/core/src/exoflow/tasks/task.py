"""A function together with what it promises, ready to become nodes of a DAG."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

import attrs

from exoflow.errors import ArgumentError, UnknownOptionError
from exoflow.graph.naming import Named, qualified_name
from exoflow.graph.node import Node, node_tuple
from exoflow.tasks.fingerprint import fingerprint
from exoflow.tasks.policy import Effects, TaskPolicy

__all__ = ["Task", "task"]

P = ParamSpec("P")
R = TypeVar("R")

_POLICY_FIELDS = frozenset(attrs.fields_dict(TaskPolicy))
_NODE_FIELDS = frozenset({"task_id", "after", "wait_until_committed"})


class Task(Named, Generic[P, R]):
    """A function and its `TaskPolicy`. Calling it calls the function; `bind` makes a node.

    A task that can be imported pickles as its name, so that a workflow resumed elsewhere runs the code that is
    installed there; any other task (one of ``__main__``, a closure) pickles by value, with its fingerprint.
    """

    kind = "task"

    def __init__(
        self, function: Callable[P, R], policy: TaskPolicy, node_options: dict[str, Any] | None = None
    ) -> None:
        if not callable(function):
            raise UnknownOptionError(f"task({function!r}): expected a function")
        self.function = function
        self.policy = policy
        self._node_options = node_options or {}
        self._base: Task[P, R] | None = None
        self._fingerprint: str | None = None
        self._signature: inspect.Signature | None = None
        functools.update_wrapper(self, function)

    @property
    def name(self) -> str:
        """The function's own name, from which task ids are made."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def qualified_name(self) -> str:
        """Module and qualified name: what makes two tasks the same task. See `exoflow.graph.naming`."""
        return qualified_name(self.function)

    @property
    def fingerprint(self) -> str:
        """What the code is, see `exoflow.tasks.fingerprint`."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.function, self.policy.version)
        return self._fingerprint

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, without a workflow."""
        return self.function(*args, **kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> Node:
        """Make a node: one call of this task in a DAG.

        Args:
            *args: Values, other nodes, or lists, tuples, dicts, attrs and dataclass instances with nodes at any depth.
            **kwargs: The same by name.

        Raises:
            ArgumentError: The function cannot be called like this.
        """
        signature = self._signature or self._read_signature()
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            message = str(error)
            named = message.split("'")[1] if message.count("'") >= 2 else "*"
            raise ArgumentError(self.name, named, f"{message}; its signature is {signature}") from None
        return Node(self, args, kwargs, **self._node_options)

    def argument_name(self, position: int) -> str:
        """Return what the function calls its argument at *position*; the position where it gives no name."""
        parameters = [*(self._signature or self._read_signature()).parameters.values()]
        names = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        return names[position] if position < len(names) else str(position)

    def _read_signature(self) -> inspect.Signature:
        try:
            self._signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # some builtins have none; they check when called
            self._signature = inspect.Signature(
                [
                    inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                    inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
                ]
            )
        return self._signature

    def options(self, **options: Any) -> "Task[P, R]":
        """Return this task with other options.

        Args:
            **options: Fields of `TaskPolicy` (``rollback=`` sets the undo function), and of the node:
                ``task_id`` (its name in the workflow), ``after`` (nodes to wait for without taking their values) and
                ``wait_until_committed`` (nodes whose outcome must be durable first, for what the DAG does not show).

        Raises:
            UnknownOptionError: No such option, or a value it does not take.
        """
        node = {**self._node_options, **{k: options.pop(k) for k in list(options) if k in _NODE_FIELDS}}
        for field in ("after", "wait_until_committed"):
            if field in node:
                node[field] = node_tuple(field, node[field])
        policy = attrs.evolve(self.policy, **_policy_options(options)) if options else self.policy
        changed = Task(self.function, policy, node)
        changed._base = self._base or self
        changed._fingerprint = self._fingerprint if policy.version == self.policy.version else None
        return changed

    def __repr__(self) -> str:
        return f"<task {self.qualified_name}>"

    def __reduce__(self) -> Any:
        module, qualname = getattr(self, "__module__", None), getattr(self, "__qualname__", None)
        if module and qualname and module != "__main__" and "<" not in qualname:
            found: Any = sys.modules.get(module)
            for part in qualname.split("."):
                found = getattr(found, part, None)
            if found is self:
                return _by_name, (module, qualname)
            if found is not None and found is self._base:
                return _by_name, (module, qualname, self.policy)
        # A new object first and its state afterwards, so that a function that names its own task can be pickled.
        return _blank, (), (self.function, self.policy, self.fingerprint)

    def __setstate__(self, state: tuple[Callable[P, R], TaskPolicy, str]) -> None:
        Task.__init__(self, state[0], state[1])
        self._fingerprint = state[2]


def _blank() -> Task[Any, Any]:
    return Task.__new__(Task)


def _by_name(module: str, qualname: str, policy: TaskPolicy | None = None) -> Task[Any, Any]:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not isinstance(found, Task):
        raise TypeError(f"{module}:{qualname} is no longer a task; decorate it with @exoflow.task again")
    if policy is None:
        return found
    changed: Task[Any, Any] = Task(found.function, policy)
    changed._base = found
    return changed


def _policy_options(options: dict[str, Any]) -> dict[str, Any]:
    options = dict(options)
    if "rollback" in options:
        undo = options.pop("rollback")
        if undo is not None and options.get("effects", Effects.ROLLBACK) != Effects.ROLLBACK:
            raise UnknownOptionError(f"rollback=... and effects={options['effects']!r} contradict each other")
        options["undo"] = undo.function if isinstance(undo, Task) else undo
        options["effects"] = Effects.ROLLBACK if undo is not None else options.get("effects", Effects.IDEMPOTENT)
    elif "undo" in options:
        raise UnknownOptionError("undo=... is spelled rollback=...")
    unknown = sorted(set(options) - _POLICY_FIELDS)
    if unknown:
        known = sorted((_POLICY_FIELDS | _NODE_FIELDS | {"rollback"}) - {"undo"})
        raise UnknownOptionError(f"unknown option {unknown[0]!r}; expected one of {', '.join(known)}")
    return options


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a task of a function, sync or async.

    Without options it gets the safe default: nondeterministic, idempotent effects, ``sync``.

    Args:
        function: When used as a plain decorator.
        **options: As `Task.options` takes them.

    Raises:
        UnknownOptionError: No such option, a value it does not take, or two that contradict each other.

    Example:
        >>> @task(effects="none", deterministic=True)
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double.bind(2)
        <node double>
    """
    if function is not None:
        return Task(function, TaskPolicy())
    node = {k: options.pop(k) for k in list(options) if k in _NODE_FIELDS}
    policy = TaskPolicy(**_policy_options(options))

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        made: Task[..., Any] = Task(function, policy)
        return made.options(**node) if node else made

    return decorate
