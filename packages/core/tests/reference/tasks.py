"""A plan made into a workflow, whose tasks do nothing but write into the ledger of their world."""

import hashlib
from collections.abc import Iterable
from typing import Any

import attrs

import exoflow

from .ledger import Ledger
from .plans import Plan, Step, tokens_in

__all__ = ["WORLDS", "Failed", "Made", "Refused", "World", "workflow"]

LARGE = 20_000
"""Bytes. More than a record holds."""


@attrs.frozen
class Made:
    """A value that is nothing but a name, which the ledger knows."""

    token: str
    ballast: bytes = attrs.field(default=b"", repr=False)


class Failed(Exception):
    """Raised behind the effect. Its argument is its name."""


class Refused(Failed):
    """Raised instead of the effect."""


class World:
    """Everything outside of one workflow."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger = Ledger()
        self.when_called: Any = lambda: None
        """Called whenever a step begins."""


WORLDS: dict[str, World] = {}
"""By workflow id: tasks are stored, and find their world by the only name they know."""


def here() -> tuple[exoflow.Context, World]:
    about = exoflow.context()
    return about, WORLDS[about.workflow_id]


@exoflow.task(effects="none", version="1")
def act(where: str, level: str, *values: Any) -> Any:
    about, world = here()
    step, ledger = world.plan.find(where), world.ledger
    inputs = tuple(tokens_in(values))
    call: dict[str, Any] = {
        "where": where, "level": level, "inputs": inputs,
        "attempt": about.attempt, "key": about.idempotency_key, "task_id": about.task_id,
    }  # fmt: skip
    nth = ledger.note("began", **call)
    world.when_called()
    scripted = step.script[nth - 1] if nth <= len(step.script) else ""
    name, serial = where.rpartition("/")[2], ledger.serial()
    if scripted:
        kind = Refused if scripted == "refuse" else Failed
        token = f"{name}!{serial}"
        ledger.note("refused" if scripted == "refuse" else "failed", token=token, **call)
        raise kind(token)
    drawn = int.from_bytes(hashlib.blake2b(repr((where, level, inputs)).encode(), digest_size=4).digest(), "big")
    # A failure is no deterministic outcome, so neither is what a step that catches its own returns.
    same_again = step.deterministic and not step.catch
    token = f"{name}:{drawn:08x}" if same_again else f"{name}#{serial}"
    if step.grows:
        branch = (drawn if same_again else serial) % len(step.grows)
        ledger.note("grew", token=token, branch=branch, **call)
        return exoflow.continuation(workflow(step.grows[branch], f"{where}/{branch}/", token))
    ledger.note("returned", token=token, **call)
    return Made(token, bytes(LARGE) if step.large else b"")


@exoflow.task(effects="none", version="1")
async def act_later(where: str, level: str, *values: Any) -> Any:
    return act.function(where, level, *values)


def undo(where: str, level: str, *values: Any) -> None:
    about, world = here()
    world.ledger.note("undone", where=where, level=level, attempt=about.attempt, key=about.idempotency_key)


def resolve(key: str) -> Any:
    about, world = here()
    found = world.ledger.happened(key=key)
    world.ledger.note("asked", attempt=about.attempt, key=key, token=found.token if found else "")
    return exoflow.Happened(Made(found.token)) if found else exoflow.DidNotHappen


def task_of(step: Step) -> "exoflow.Task[Any, Any]":
    options: dict[str, Any] = {
        "checkpoint": step.checkpoint, "deterministic": step.deterministic, "retries": step.retries,
        "retry_delay_s": 0.0, "catch_exceptions": step.catch, "fences": step.fences,
    }  # fmt: skip
    if step.effects == "rollback":
        options["rollback"] = undo
    else:
        options["effects"] = step.effects
    if step.effects == "once":
        options["not_happened"] = Refused
        options["resolve"] = resolve if step.asked == "ledger" else None
    return (act_later if step.coroutine else act).options(**options)


def workflow(plan: Plan, prefix: str = "", level: str = "") -> exoflow.Node:
    """Return the root of *plan*'s DAG."""
    made: dict[str, exoflow.Node] = {}

    def nodes(names: Iterable[str]) -> list[exoflow.Node]:
        return [made[name] for name in names]

    for step in plan.steps:
        if step.kind == "sleep":
            made[step.name] = exoflow.sleep(0, task_id=step.name, after=nodes(step.after))
        elif step.kind == "event":
            made[step.name] = exoflow.wait_for_event(step.event, task_id=step.name, after=nodes(step.after))
        else:
            task = task_of(step).options(
                task_id=step.name, after=nodes(step.after), wait_until_committed=nodes(step.committed)
            )
            values: list[Any] = nodes(step.reads)
            if step.nested:
                values = [{"first": values[:1], "rest": (tuple(values[1:]),)}]
            made[step.name] = task.bind(prefix + step.name, level, *values)
    return made[plan.root.name]
