"""A DAG, compiled from the nodes a user bound: flat, ordered, named, and ready to be stored.

Order is topological (every node after what it depends on) and the same for the same program, so that task ids and
the digest are too. Nothing here recurses along the DAG: a chain of a million nodes is as good as any.
"""

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any

import attrs

from exoflow.errors import ArgumentError, CycleError, UnknownOptionError, UsageError
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

    @property
    def kind(self) -> str:
        """``task``, ``sleep`` or ``event``."""
        return self.task.kind  # type: ignore[no-any-return]


@attrs.define(eq=False)
class Dag:
    """A compiled DAG. The last node is its root, whose result is the result of the whole."""

    nodes: list[NodeSpec]
    _digest: str | None = None

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
    index: dict[int, int] = {}
    names = _Names()
    for node in order:
        if node.task_id is not None:
            names.reserve(node.task_id)
    specs: list[NodeSpec] = []
    for position, node in enumerate(order):
        index[id(node)] = position
        places: dict[int, int] = {}
        wanted = upstream[id(node)]
        deps = []
        for dependency in wanted:
            if id(dependency) not in places:
                places[id(dependency)] = len(deps)
                deps.append(index[id(dependency)])

        def substitute(found: Any, places: dict[int, int] = places, node: Node = node) -> Any:
            if isinstance(found, Node):
                return Upstream(places[id(found)])
            used.add(found.name)
            if found.name in given:
                return given[found.name]
            if found.required:
                raise ArgumentError(node.task_id or node.task.name, found.name, "this input was not given: inputs={...}")
            return found.default

        args, kwargs = node.args, node.kwargs
        if args:
            args = replace(args, (Node, Input), substitute)
        if kwargs:
            kwargs = replace(kwargs, (Node, Input), substitute)
        specs.append(
            NodeSpec(
                node.task_id or names.make(node.task.name),
                node.task,
                args,
                kwargs,
                tuple(deps),
                tuple(index[id(n)] for n in node.after),
                tuple(index[id(n)] for n in node.wait_until_committed),
            )
        )
    unused = sorted(set(given) - used)
    if unused:
        raise UnknownOptionError(f"input {unused[0]!r} was given, but the DAG asks only for {sorted(used)}")
    return Dag(specs)


def _topological_order(root: Node) -> tuple[list[Node], dict[int, tuple[Node, ...]]]:
    """Depth first, arguments from left to right, without recursion."""
    upstream: dict[int, tuple[Node, ...]] = {}
    done: set[int] = set()
    order: list[Node] = []
    stack: list[tuple[Node, int]] = [(root, 0)]
    upstream[id(root)] = tuple(walk((root.args, root.kwargs), (Node,)))
    active = {id(root)}
    while stack:
        node, at = stack.pop()
        before = upstream[id(node)]
        # Control dependencies come after the arguments; the tuple is small or empty nearly always.
        control = node.after + node.wait_until_committed
        total = len(before) + len(control)
        while at < total:
            child = before[at] if at < len(before) else control[at - len(before)]
            at += 1
            if id(child) in done:
                continue
            if id(child) in active:
                raise CycleError(f"{child!r} depends on itself, by way of {node!r}; break the cycle")
            stack.append((node, at))
            upstream[id(child)] = tuple(walk((child.args, child.kwargs), (Node,)))
            active.add(id(child))
            stack.append((child, 0))
            break
        else:
            active.discard(id(node))
            done.add(id(node))
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
    for spec in dag.nodes:
        digest.update(
            f"{spec.task_id}\0{spec.task.qualified_name}\0{spec.deps}{spec.after}{spec.committed}\0".encode()
        )
        _feed(digest, spec.args)
        _feed(digest, spec.kwargs)
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", value: Any) -> None:
    """Add *value* in a form that is the same in every process, whatever objects it shares with itself."""
    kind = type(value)
    if kind in (int, str, float, bool, bytes, type(None)):
        digest.update(f"{kind.__name__}:{value!r};".encode())
    elif kind is Upstream:
        digest.update(b"^%d;" % value.position)
    elif kind in (list, tuple):
        digest.update(b"%s[%d]" % (kind.__name__.encode(), len(value)))
        for item in value:
            _feed(digest, item)
    elif kind is dict:
        digest.update(b"dict{%d}" % len(value))
        for key, item in value.items():
            _feed(digest, key)
            _feed(digest, item)
    elif kind in (set, frozenset):
        members = []
        for item in value:
            member = hashlib.blake2b(digest_size=16)
            _feed(member, item)
            members.append(member.digest())
        digest.update(b"set" + b"".join(sorted(members)))
    elif callable(value) and hasattr(value, "__qualname__"):
        digest.update(f"callable:{getattr(value, '__module__', '')}:{value.__qualname__};".encode())
    else:
        digest.update(f"{kind.__module__}.{kind.__qualname__}:".encode())
        _feed_object(digest, value)


def _feed_object(digest: "hashlib._Hash", value: Any) -> None:
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            _feed(digest, getattr(value, field.name))
        return
    buffers: list[pickle.PickleBuffer] = []
    try:
        reduced = value.__reduce_ex__(5) if not hasattr(value, "__array_interface__") else None
        if isinstance(reduced, tuple) and len(reduced) >= 3 and isinstance(reduced[2], dict):
            # Plain objects: by their state, so that shared or interned strings inside make no difference.
            _feed(digest, reduced[1][1:] if reduced[1] else ())
            _feed(digest, reduced[2])
            return
        digest.update(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))
    except Exception:
        import cloudpickle

        buffers.clear()
        digest.update(cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append))
    for buffer in buffers:
        digest.update(buffer.raw())
