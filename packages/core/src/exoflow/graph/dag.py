"""A DAG, compiled from the nodes a user bound: flat, ordered, named, and ready to be stored.

Order is topological (every node after what it depends on) and the same for the same program, so that task ids and
the digest are too. Nothing here recurses along the DAG: a chain of a million nodes is as good as any.
"""

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any

import attrs

from exoflow.errors import ArgumentError, CycleError, UnknownOptionError, UnsupportedFormatError, UsageError
from exoflow.graph.containers import replace, walk
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
        ArgumentError: An input that was not given.
        UnknownOptionError: An input nobody asks for, a task id used twice.
    """
    if not isinstance(root, Node):
        raise UsageError(f"expected a node, as `task.bind(...)` makes it, not {root!r}")
    order, upstream = _topological_order(root)
    given = dict(inputs or {})
    used: set[str] = set()
    index: dict[Node, int] = {}
    names = _Names()
    for node in order:
        if node.task_id is not None:
            names.reserve(node.task_id)
    specs: list[NodeSpec] = []
    for position, node in enumerate(order):
        index[node] = position
        places: dict[Node, int] = {}
        for dependency in upstream[node]:
            places.setdefault(dependency, len(places))
        specs.append(
            NodeSpec(
                node.task_id or names.make(node.task.name),
                node.task,
                *_templates(node, places, given, used),
                tuple([index[dependency] for dependency in places]),
                tuple([index[n] for n in node.after]) if node.after else (),
                tuple([index[n] for n in node.wait_until_committed]) if node.wait_until_committed else (),
            )
        )
    unused = sorted(set(given) - used)
    if unused:
        raise UnknownOptionError(f"input {unused[0]!r} was given, but the DAG asks only for {sorted(used)}")
    return Dag(specs)


def _templates(
    node: Node, places: dict[Node, int], given: Mapping[str, Any], used: set[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the node's arguments with nodes replaced by `Upstream` and inputs by their values."""

    def substitute(found: Any) -> Any:
        if isinstance(found, Node):
            return _upstream(places[found])
        used.add(found.name)
        if found.name in given:
            return given[found.name]
        if found.required:
            raise ArgumentError(node.task_id or node.task.name, found.name, "this input was not given: inputs={...}")
        return found.default

    args, kwargs = node.args, node.kwargs
    if args:
        args = tuple([a if type(a) in _ATOMS else replace(a, (Node, Input), substitute) for a in args])
    if kwargs:
        kwargs = replace(kwargs, (Node, Input), substitute)
    return args, kwargs


_ATOMS = frozenset({int, str, float, bool, bytes, type(None)})
_UPSTREAMS = tuple([Upstream(position) for position in range(64)])


def _upstream(position: int) -> Upstream:
    return _UPSTREAMS[position] if position < 64 else Upstream(position)


def _nodes_in(node: Node) -> tuple[Node, ...]:
    """Return the nodes among a node's arguments, from left to right; then those it only waits for."""
    found: list[Node] = []
    for value in (*node.args, *node.kwargs.values()) if node.kwargs else node.args:
        of = type(value)
        if of is Node:
            found.append(value)
        elif of not in _ATOMS:
            found.extend(walk(value, (Node,)))
    return tuple(found)


def _topological_order(root: Node) -> tuple[list[Node], dict[Node, tuple[Node, ...]]]:
    """Depth first, arguments from left to right, without recursion."""
    upstream: dict[Node, tuple[Node, ...]] = {root: _nodes_in(root)}
    done: set[Node] = set()
    order: list[Node] = []
    stack: list[tuple[Node, int]] = [(root, 0)]
    active = {root}
    while stack:
        node, at = stack.pop()
        before = upstream[node]
        # Control dependencies come after the arguments; there are none nearly always.
        if node.after or node.wait_until_committed:
            before = before + node.after + node.wait_until_committed
        total = len(before)
        while at < total:
            child = before[at]
            at += 1
            if child in done:
                continue
            if child in active:
                raise CycleError(f"{child!r} depends on itself, by way of {node!r}; break the cycle")
            stack.append((node, at))
            upstream[child] = _nodes_in(child)
            active.add(child)
            stack.append((child, 0))
            break
        else:
            active.discard(node)
            done.add(node)
            order.append(node)
    return order, upstream


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


def _digest_of(dag: Dag) -> str:
    digest = hashlib.blake2b(digest_size=16)
    names: dict[int, str] = {}
    parts: list[bytes] = []
    for spec in dag.nodes:
        name = names.get(id(spec.task)) or names.setdefault(id(spec.task), spec.task.qualified_name)
        parts.append(f"{spec.task_id}\0{name}\0{spec.deps}{spec.after}{spec.committed}\0".encode())
        for value in spec.args:
            _describe(parts, value)
        if spec.kwargs:
            _describe(parts, spec.kwargs)
        if len(parts) > 1000:
            digest.update(b"".join(parts))
            parts.clear()
    digest.update(b"".join(parts))
    return digest.hexdigest()


def _describe(parts: list[bytes], value: Any) -> None:
    """Add *value* in a form that is the same in every process, whatever objects it shares with itself."""
    kind = type(value)
    if kind in _ATOMS:
        parts.append(f"{kind.__name__}:{value!r};".encode("utf-8", "surrogatepass"))
    elif kind is Upstream:
        parts.append(b"^%d;" % value.position)
    elif kind in (list, tuple):
        parts.append(b"%s[%d]" % (kind.__name__.encode(), len(value)))
        for item in value:
            _describe(parts, item)
    elif kind is dict:
        parts.append(b"dict{%d}" % len(value))
        for key, item in value.items():
            _describe(parts, key)
            _describe(parts, item)
    elif kind in (set, frozenset):
        members = []
        for item in value:
            member: list[bytes] = []
            _describe(member, item)
            members.append(hashlib.blake2b(b"".join(member), digest_size=16).digest())
        parts.append(b"set" + b"".join(sorted(members)))
    elif callable(value) and hasattr(value, "__qualname__"):
        parts.append(f"callable:{getattr(value, '__module__', '')}:{value.__qualname__};".encode())
    else:
        parts.append(f"{kind.__module__}.{kind.__qualname__}:".encode())
        _describe_object(parts, value)


def _describe_object(parts: list[bytes], value: Any) -> None:
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            _describe(parts, getattr(value, field.name))
        return
    buffers: list[pickle.PickleBuffer] = []
    try:
        reduced = value.__reduce_ex__(5) if not hasattr(value, "__array_interface__") else None
        if isinstance(reduced, tuple) and len(reduced) >= 3 and isinstance(reduced[2], dict):
            # Plain objects: by their state, so that shared or interned strings inside make no difference.
            _describe(parts, reduced[1][1:] if reduced[1] else ())
            _describe(parts, reduced[2])
            return
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except Exception:
        import cloudpickle

        buffers.clear()
        body = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    digest = hashlib.blake2b(body, digest_size=16)
    for buffer in buffers:
        digest.update(buffer.raw())
    parts.append(digest.digest())
