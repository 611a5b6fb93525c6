"""A DAG, compiled from the nodes a user bound: flat, ordered, named, and ready to be stored.

Order is topological (every node after what it depends on) and the same for the same program, so that task ids and
the digest are too. Nothing here recurses along the DAG: a chain of a million nodes is as good as any.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import attrs

from exoflow.errors import ArgumentError, CycleError, UnknownOptionError, UnsupportedFormatError, UsageError
from exoflow.graph.containers import ATOMS, RingError, replace, walk
from exoflow.graph.description import LEAVES, Describer
from exoflow.graph.node import Input, Node

__all__ = ["Dag", "NodeSpec", "Upstream", "compile_dag", "fill"]


class Upstream:
    """Stands in an argument for the result of the *position*-th upstream node."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position

    def __reduce__(self) -> Any:
        return Upstream, (self.position,)

    def __repr__(self) -> str:
        return f"<upstream {self.position}>"


@attrs.define(eq=False)
class NodeSpec:
    """One node of a compiled DAG.

    `deps` are the indices of the nodes whose results `args` and `kwargs` name by position (`Upstream`); `after` and
    `committed` are nodes to wait for without taking their results. All indices are smaller than the node's own.
    """

    task_id: str
    task: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    deps: tuple[int, ...]
    after: tuple[int, ...] = ()
    committed: tuple[int, ...] = ()
    code: str = ""
    """The fingerprint its deterministic task had when the DAG was stored, which the task itself, loaded by name, forgot."""

    @property
    def kind(self) -> str:
        """``task``, ``sleep`` or ``event``."""
        return self.task.kind  # type: ignore[no-any-return]

    def named_arguments(self) -> Iterator[tuple[str, Any]]:
        """Yield the arguments with the names the function gives them, for messages."""
        for position, value in enumerate(self.args):
            yield self.task.argument_name(position), value
        yield from self.kwargs.items()


@attrs.define(eq=False)
class Dag:
    """A compiled DAG. The last node is its root, whose result is the result of the whole."""

    nodes: list[NodeSpec]
    _digest: str | None = None

    def __reduce__(self) -> Any:
        # Rows instead of objects: a DAG of one task is stored a thousand times a second, one of 100,000 nodes must
        # not take a minute. Tasks are stored once, by the pickle's own memory.
        rows = [(n.task_id, n.task, n.args, n.kwargs, n.deps, n.after, n.committed, _code_of(n)) for n in self.nodes]
        return _from_rows, (_ROW_FORMAT, rows)

    @property
    def root(self) -> NodeSpec:
        """The node nothing else depends on."""
        return self.nodes[-1]

    @property
    def digest(self) -> str:
        """Names the DAG: its tasks' names, edges and constants, but neither their code nor their policies."""
        if self._digest is None:
            self._digest = _digest_of(self)
        return self._digest


_ROW_FORMAT = 1


def _code_of(spec: NodeSpec) -> str:
    # Of other tasks nobody expects the same value again, whatever their code.
    return spec.code or (spec.task.fingerprint if spec.task.policy.deterministic else "")


def _from_rows(version: int, rows: list[tuple[Any, ...]]) -> Dag:
    if version > _ROW_FORMAT:
        raise UnsupportedFormatError("a stored DAG", version, _ROW_FORMAT)
    return Dag([NodeSpec(*row) for row in rows])


def compile_dag(root: Node, inputs: Mapping[str, Any] | None = None) -> Dag:
    """Flatten everything *root* depends on.

    Args:
        root: The node whose result is wanted.
        inputs: Values for the `Input` placeholders.

    Raises:
        CycleError: Nodes that wait for each other.
        ArgumentError: An input that was not given, or a node where it cannot be an edge.
        UnknownOptionError: An input nobody asks for, a task id used twice.
    """
    if not isinstance(root, Node):
        raise UsageError(f"expected a node, as `task.bind(...)` makes it, not {root!r}")
    reader = _Reader(inputs or {})
    calls = _in_order(root, reader)
    names = _Names()
    for node in calls:
        if node.task_id is not None:
            names.reserve(node.task_id)
    index: dict[Node, int] = {}
    specs: list[NodeSpec] = []
    for position, (node, (args, kwargs, places)) in enumerate(calls.items()):
        index[node] = position
        specs.append(
            NodeSpec(
                node.task_id or names.make(node.task.name),
                node.task,
                args,
                kwargs,
                tuple([index[dependency] for dependency in places]),
                tuple([index[n] for n in node.after]) if node.after else (),
                tuple([index[n] for n in node.wait_until_committed]) if node.wait_until_committed else (),
            )
        )
    unused = sorted(set(reader.given) - reader.used)
    if unused:
        raise UnknownOptionError(f"input {unused[0]!r} was given, but the DAG asks only for {sorted(reader.used)}")
    return Dag(specs)


_Call = tuple[tuple[Any, ...], dict[str, Any], dict[Node, int]]
"""A node's arguments with `Upstream` for nodes and values for inputs; and the nodes, each with its position."""


class _Reader:
    """Takes the arguments of nodes apart: what they read, and what remains with placeholders in the place of it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.used: set[str] = set()

    def read(self, node: Node) -> _Call:
        places: dict[Node, int] = {}
        args, kwargs = node.args, node.kwargs
        if args:
            made = []
            for at, value in enumerate(args):
                kind = type(value)
                if kind is Node:
                    made.append(_upstream(places.setdefault(value, len(places))))
                elif kind in ATOMS:
                    made.append(value)
                else:
                    made.append(self._template(node, at, value, places))
            args = tuple(made)
        if kwargs:
            named = {}
            for name, value in kwargs.items():
                kind = type(value)
                if kind is Node:
                    named[name] = _upstream(places.setdefault(value, len(places)))
                else:
                    named[name] = value if kind in ATOMS else self._template(node, name, value, places)
            kwargs = named
        return args, kwargs, places

    def _template(self, node: Node, argument: int | str, value: Any, places: dict[Node, int]) -> Any:
        def substitute(found: Any) -> Any:
            if isinstance(found, Node):
                return _upstream(places.setdefault(found, len(places)))
            return self._input(node, found)

        def misplaced(found: Any, place: str) -> None:
            raise _problem(node, argument, f"{found!r} {place}: its value has no place there; use a list, or bind it")

        try:
            return replace(value, (Node, Input), substitute, misplaced)
        except RingError as error:
            raise _problem(
                node, argument, f"{error}, with a node or an input inside; take it out of the ring"
            ) from None

    def _input(self, node: Node, found: Input) -> Any:
        value = self.given.get(found.name, found.default)
        if found.name not in self.given and found.required:
            raise _problem(node, found.name, "this input was not given: inputs={...}")
        # An input given by name is searched once, however many nodes ask for it.
        if type(value) not in ATOMS and (found.name not in self.used or found.name not in self.given):
            for inside in walk(value, (Node, Input)):
                raise _problem(node, found.name, f"the input's value contains {inside!r}; bind it to the task itself")
        self.used.add(found.name)
        return value


def _problem(node: Node, argument: int | str, problem: str) -> ArgumentError:
    name = argument if isinstance(argument, str) else node.task.argument_name(argument)
    return ArgumentError(node.task_id or node.task.name, name, problem)


_UPSTREAMS = tuple([Upstream(position) for position in range(64)])


def _upstream(position: int) -> Upstream:
    return _UPSTREAMS[position] if position < 64 else Upstream(position)


def _in_order(root: Node, reader: _Reader) -> dict[Node, _Call]:
    """Depth first, arguments from left to right, without recursion."""
    calls = {root: reader.read(root)}
    order: dict[Node, _Call] = {}
    stack: list[tuple[Node, Iterator[Node]]] = [(root, _before(root, calls[root]))]
    while stack:
        node, rest = stack[-1]
        for child in rest:
            if child in order:
                continue
            if child in calls:
                raise CycleError(f"{child!r} depends on itself, by way of {node!r}; break the cycle")
            call = calls[child] = reader.read(child)
            stack.append((child, _before(child, call)))
            break
        else:
            stack.pop()
            order[node] = calls.pop(node)
    return order


def _before(node: Node, call: _Call) -> Iterator[Node]:
    if node.after or node.wait_until_committed:  # hardly ever
        return chain(call[2], node.after, node.wait_until_committed)
    return iter(call[2])


class _Names:
    """Task ids: the function's name, then name_1, name_2 ... in topological order."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def reserve(self, name: str) -> None:
        if name in self._taken:
            raise UnknownOptionError(f"task_id={name!r} is used by two nodes; give each its own")
        self._taken.add(name)

    def make(self, base: str) -> str:
        number = self._next.get(base, 0)
        while True:
            name = base if number == 0 else f"{base}_{number}"
            number += 1
            if name not in self._taken:
                self._next[base] = number
                self._taken.add(name)
                return name


def fill(template: Any, values: list[Any]) -> Any:
    """Put the results of the upstream nodes where the template names them."""
    if not values:
        return template
    return replace(template, (Upstream,), lambda found: values[found.position])


_SCHEME = "1"
"""Another one where the same DAG gets another digest. Digests are stored, and compared with those of later versions."""


_LEAVES: dict[type, Callable[[Any], bytes]] = {**LEAVES, Upstream: lambda found: b"^%d;" % found.position}
_text = LEAVES[str]


def _digest_of(dag: Dag) -> str:
    digest = hashlib.blake2b(digest_size=16)
    describer = Describer(_LEAVES)
    describe = describer.describe
    names: dict[int, bytes] = {}
    parts: list[bytes] = []
    for spec in dag.nodes:
        name = names.get(id(spec.task)) or names.setdefault(id(spec.task), _name_of(spec.task))
        parts.append(f"{len(spec.task_id)}:{spec.task_id}".encode("utf-8", "surrogatepass"))
        parts.append(name)
        parts.append(f"{spec.deps}{spec.after}{spec.committed}{len(spec.args)}+{len(spec.kwargs)}:".encode())
        try:
            for value in spec.args:
                leaf = _LEAVES.get(type(value))
                parts.append(leaf(value) if leaf else describe(value))
            for key in sorted(spec.kwargs):
                value = spec.kwargs[key]
                leaf = _LEAVES.get(type(value))
                parts.append(_text(key))
                parts.append(leaf(value) if leaf else describe(value))
        except Exception as error:
            raise _blame(spec, describer, error) from error
        if len(parts) > 1000:
            digest.update(b"".join(parts))
            parts.clear()
    digest.update(b"".join(parts))
    return f"{_SCHEME}:{digest.hexdigest()}"


def _name_of(task: Any) -> bytes:
    return _text(task.qualified_name)


def _blame(spec: NodeSpec, describer: Describer, error: Exception) -> ArgumentError:
    """Find the argument that cannot be described."""
    for argument, value in spec.named_arguments():
        try:
            describer.describe(value)
        except Exception:
            what = (
                f"{type(value).__name__} cannot be stored ({error}); pass something that pickles, or make it in a task"
            )
            return ArgumentError(spec.task_id, argument, what)
    return ArgumentError(spec.task_id, "*", str(error))
