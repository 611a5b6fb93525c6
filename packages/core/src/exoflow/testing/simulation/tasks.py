"""What simulated workflows are made of: one task function with many policies, and random DAGs of it.

The function is importable, so that a node costs a name when it is pickled. What a call does is decided by the outside, which
also writes down that it did.
"""

from random import Random
from typing import TYPE_CHECKING, Any

from exoflow.graph.node import Node
from exoflow.tasks.policy import Effects
from exoflow.tasks.task import Task, task
from exoflow.tasks.verdicts import DidNotHappen, Happened
from exoflow.tasks.waits import sleep, wait_for_event
from exoflow.testing.simulation.fibers import here
from exoflow.testing.simulation.machines import Machine

if TYPE_CHECKING:
    from exoflow.testing.simulation.outside import Outside

__all__ = ["NotHappenedError", "TaskError", "act", "random_dag"]


class TaskError(Exception):
    """What a task raises. Its argument is what it made."""


class NotHappenedError(TaskError):
    """What a once task raises to say that its effect did not happen."""


def _outside() -> "Outside":
    fiber = here()
    assert fiber is not None
    machine = fiber.group
    assert isinstance(machine, Machine)
    return machine.outside


@task(version="1")
def act(name: str, how: dict[str, Any], *inputs: Any) -> Any:
    """Do what the outside says."""
    return _outside().act(name, how, inputs)


def undo(name: str, how: dict[str, Any], *inputs: Any) -> None:
    """Take back what an attempt did, or nothing."""
    _outside().undo(name, inputs)


def resolve(key: str) -> Happened | type[DidNotHappen]:
    """Say what became of the attempts with *key*."""
    return _outside().resolve(key)


def random_task(chance: Random, *, fences: bool) -> Task[Any, Any]:
    """Return `act` with a random policy.

    Args:
        chance: Of the workflow.
        fences: Whether every receiver must refuse what was undone or denied.
    """
    kind = chance.choice(["det", "nondet", "nondet", "idempotent", "idempotent", "rollback", "rollback", "once"])
    options: dict[str, Any] = {
        "checkpoint": chance.choice(["sync", "sync", "async", "skip", "auto"]),
        "retries": chance.choice([0, 2, 4]),
    }
    if kind in ("det", "nondet"):
        options.update(effects="none", deterministic=kind == "det")
    if kind in ("rollback", "once"):
        options["checkpoint"] = chance.choice(["sync", "async"])
        options["fences"] = fences or chance.random() < 0.3
    if kind == "rollback":
        options["rollback"] = undo
    if kind == "once":
        options["effects"] = "once"
        if chance.random() < 0.8:
            options["resolve"] = resolve
        else:
            options["fences"] = False
            options["not_happened"] = NotHappenedError
    if chance.random() < 0.12:
        options["catch_exceptions"] = True
    if chance.random() < 0.08:
        options["timeout_s"] = 1.0
    return act.options(**options)


def random_dag(chance: Random, size: int, *, grow: int, waits: float, fences: bool, within: str = "") -> Node:
    """Return the root of a random DAG.

    Args:
        chance: Of the workflow.
        size: How many nodes, or one more.
        grow: How deep continuations may lie in each other.
        waits: The share of sleeps and awaited events.
        fences: See `random_task`.
        within: What the task made that goes on with this.
    """
    nodes: list[tuple[str, Node]] = []
    read: set[str] = set()
    for at in range(size):
        name = f"{within}/{at}" if within else f"t{at}"
        before = [named for named in nodes if chance.random() < 0.45]
        last = at == size - 1
        if last:
            before = [named for named in nodes if named[0] not in read or named in before]
        elif chance.random() < waits:
            nodes.append((name, _random_wait(chance, before, f"t{at}")))
            read.update(source for source, _ in before)
            continue
        made = random_task(chance, fences=fences).options(task_id=f"t{at}")
        if nodes and chance.random() < 0.1:
            made = made.options(after=[chance.choice(nodes)[1]])
        how: dict[str, Any] = {"from": tuple(source for source, _ in before)}
        if within:
            how["within"] = within
        if grow and chance.random() < 0.3 and made.policy.effects is not Effects.ONCE:
            how["grow"] = grow
        if chance.random() < 0.1:
            how["large"] = True
        nodes.append((name, made.bind(name, how, *(node for _, node in before))))
        read.update(source for source, _ in before)
    return nodes[-1][1]


def _random_wait(chance: Random, before: list[tuple[str, Node]], task_id: str) -> Node:
    after = [node for _, node in before]
    if chance.random() < 0.4:
        return sleep(chance.choice([0.01, 0.5, 20.0]), after=after, task_id=task_id)
    name = chance.choice(["ping", "pong"])
    if chance.random() < 0.3:
        return wait_for_event(
            name, timeout_s=chance.choice([0.1, 30.0]), default="nothing", after=after, task_id=task_id
        )
    return wait_for_event(name, after=after, task_id=task_id)
