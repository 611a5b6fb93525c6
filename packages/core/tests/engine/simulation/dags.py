"""Random tasks and DAGs of them. Functions are never called: the world says what they do."""

import random
from typing import Any

from exoflow.graph.dag import Dag, NodeSpec
from exoflow.graph.node import Node
from exoflow.tasks.task import Task, task
from exoflow.tasks.waits import sleep, wait_for_event

__all__ = ["NotHappenedError", "chain", "fan", "ladder", "make", "of_version", "random_dag"]


class NotHappenedError(Exception):
    """What a once task raises to say that its effect did not happen."""


def make(name: str, **options: Any) -> Task[Any, Any]:
    """Return a task of its own, which can be told from all others by its name."""

    def function(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the world behaves; functions are not called")

    function.__name__ = function.__qualname__ = name
    options.setdefault("version", "1")
    made: Task[Any, Any] = task(**options)(function)
    return made


def random_task(chooser: random.Random, name: str) -> Task[Any, Any]:
    kind = chooser.choice(["det", "det", "nondet", "nondet", "nondet", "idempotent", "idempotent", "rollback", "once"])
    options: dict[str, Any] = {
        "checkpoint": chooser.choice(["sync", "async", "skip", "skip", "auto"]),
        "retries": chooser.choice([0, 2, 5]),
    }
    if kind in ("det", "nondet"):
        options["effects"] = "none"
        options["deterministic"] = kind == "det"
    elif chooser.random() < 0.15:
        options["deterministic"] = True
    if kind in ("rollback", "once"):
        options["checkpoint"] = chooser.choice(["sync", "async"])
        options["fences"] = chooser.random() < 0.3
    if kind == "rollback":
        options["rollback"] = print
    if kind == "once":
        options["effects"] = "once"
        if chooser.random() < 0.8:
            options["resolve"] = print
        elif options["retries"]:
            options["not_happened"] = NotHappenedError
        options["fences"] = options["fences"] and "resolve" in options
    if chooser.random() < 0.12:
        options["catch_exceptions"] = True
    return make(name, **options)


def random_dag(
    chooser: random.Random,
    size: int,
    *,
    grow: int = 0,
    waits: float = 0.0,
    prefix: str = "t",
    density: float | None = None,
) -> Node:
    """Return the root of a random DAG.

    Args:
        chooser: Of everything.
        size: How many nodes, or one more.
        grow: How deep continuations may lie in each other.
        waits: The share of sleeps and awaited events.
        prefix: Of the tasks' names.
        density: The chance of an edge.
    """
    if density is None:
        density = 0.45 if size < 8 else chooser.uniform(0.5, 3.0) / size
    nodes: list[Node] = []
    for at in range(size):
        before = [n for n in nodes if chooser.random() < density]
        if chooser.random() < waits:
            nodes.append(_wait(chooser, before))
            continue
        made = random_task(chooser, f"{prefix}{at}")
        if nodes and chooser.random() < 0.1:
            made = made.options(after=[chooser.choice(nodes)])
        if nodes and chooser.random() < 0.1:
            made = made.options(wait_until_committed=[chooser.choice(nodes)])
        options = {"grow": grow} if grow and chooser.random() < 0.3 else {}
        nodes.append(made.bind(at, *before, **options))
    return _joined(chooser, nodes, f"{prefix}{size}")


def _wait(chooser: random.Random, before: list[Node]) -> Node:
    if chooser.random() < 0.5:
        return sleep(chooser.choice(before) if before and chooser.random() < 0.5 else 5.0, after=before)
    name = chooser.choice(["ping", "pong"])
    if chooser.random() < 0.3:
        return wait_for_event(name, timeout_s=9.0, default="silence", after=before)
    return wait_for_event(name, after=before)


def _joined(chooser: random.Random, nodes: list[Node], name: str) -> Node:
    read: set[int] = set()
    for node in nodes:
        read.update(id(n) for n in (*node.args, *node.after, *node.wait_until_committed) if isinstance(n, Node))
    unread = [n for n in nodes if id(n) not in read]
    if len(unread) == 1 and nodes[-1].task.kind == "task":
        return nodes[-1]
    return random_task(chooser, name).bind(-1, unread)


def chain(chooser: random.Random, length: int) -> Node:
    """Return the end of a chain of random tasks."""
    node = random_task(chooser, "t0").bind()
    for at in range(1, length):
        node = random_task(chooser, f"t{at}").bind(node)
    return node


def fan(chooser: random.Random, width: int) -> Node:
    """Return the join of *width* tasks that read the same one."""
    source = random_task(chooser, "source").bind()
    return random_task(chooser, "join").bind([random_task(chooser, f"t{at}").bind(source) for at in range(width)])


def ladder(chooser: random.Random, height: int) -> Node:
    """Return the end of a row of diamonds."""
    node = random_task(chooser, "top").bind()
    for at in range(height):
        left, right = random_task(chooser, f"left{at}").bind(node), random_task(chooser, f"right{at}").bind(node)
        node = random_task(chooser, f"join{at}").bind(left, right)
    return node


def of_version(dag: Dag, versions: dict[str, str]) -> Dag:
    """Return *dag* with the code of *versions*, by task name."""
    if not any(spec.task.name in versions for spec in dag.nodes):
        return dag
    nodes = []
    for spec in dag.nodes:
        version = versions.get(spec.task.name)
        made = spec.task if version is None else spec.task.options(version=version)
        code = spec.task.fingerprint if spec.task.policy.deterministic else ""
        nodes.append(NodeSpec(spec.task_id, made, spec.args, spec.kwargs, spec.deps, spec.after, spec.committed, code))
    return Dag(nodes)
