"""The workflows that are killed. Every value says which attempts it was made of.

A task that is not deterministic adds itself to what it was given, as ``task@attempt``. So whoever looks at a result, or
at what an effect was given, sees whether it was made of one incarnation of each task or of two.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import exoflow
from exoflow import Node

from .ledger import BOOK, add, alone, booked, burn, note

PACE_S = 0.001
"""How long each task takes twice, so that a kill may fall before its effect, and after it."""

BALLAST = 20_000
"""Bytes that make a value too large for the journal: it becomes a blob."""

MODES = ("sync", "async", "skip", "auto")


class DeclinedError(Exception):
    """Why the workflow that fails does."""


class TooLateError(Exception):
    """What a receiver that fences says to a key that it has given up."""


def past_of(*values: Any) -> list[str]:
    """Return the attempts of which *values* are made."""
    return sorted({attempt for value in values if value is not None for attempt in value["past"]})


def _act(promise: str, inputs: Sequence[Any], *, deterministic: bool = False, ballast: int = 0) -> dict[str, Any]:
    about, past = exoflow.context(), past_of(*inputs)
    note("begin", promise=promise, past=past)
    time.sleep(PACE_S)
    if promise != "none":
        note("effect", promise=promise, past=past)
    time.sleep(PACE_S)
    return _value(about.task_id, "" if deterministic else about.attempt, past, ballast)


def _value(task: str, attempt: str, past: Sequence[str], ballast: int = 0) -> dict[str, Any]:
    return {"past": [*past, f"{task}@{attempt}"], "ballast": b"." * ballast}


@exoflow.task(effects="none", deterministic=True)
def pure(*inputs: Any, ballast: int = 0) -> Any:
    return _act("none", inputs, deterministic=True, ballast=ballast)


@exoflow.task(effects="none")
def draw(*inputs: Any, ballast: int = 0) -> Any:
    return _act("none", inputs, ballast=ballast)


@exoflow.task
def charge(*inputs: Any, ballast: int = 0) -> Any:
    return _act("idempotent", inputs, ballast=ballast)


def cancel(*inputs: Any, **_: Any) -> None:
    note("undo", promise="rollback")


@exoflow.task(rollback=cancel)
def reserve(*inputs: Any, ballast: int = 0) -> Any:
    return _act("rollback", inputs, ballast=ballast)


def was_sent(key: str) -> Any:
    sent = [line for line in booked() if line.what == "effect" and line.key == key]
    note("resolve", promise="once", happened=bool(sent))
    return exoflow.Happened(_value(sent[0].task, sent[0].attempt, sent[0].past)) if sent else exoflow.DidNotHappen


@exoflow.task(effects="once", resolve=was_sent)
def send(*inputs: Any, ballast: int = 0) -> Any:
    return _act("once", inputs, ballast=ballast)


@exoflow.task
def decline(*inputs: Any) -> Any:
    _act("idempotent", inputs)
    raise DeclinedError("no")


@exoflow.task(effects="none")
def spread(*inputs: Any, depth: int) -> Any:
    """Return a continuation whose shape is drawn anew by each attempt."""
    mine = _act("none", inputs)
    width = int.from_bytes(os.urandom(1)) % 3 + 1
    effects = (charge, reserve, send)
    children = [effects[(depth + at) % 3].options(task_id=f"child{at}").bind(mine) for at in range(width)]
    if depth:
        children.append(spread.options(checkpoint="async", task_id="deeper").bind(mine, depth=depth - 1))
    return exoflow.continuation(draw.options(checkpoint="skip", task_id="join").bind(*children))


@exoflow.task(effects="none", deterministic=True)
def attach(value: Any, heard: Any) -> Any:
    """Put what was heard beside what was made."""
    note(
        "heard", past=past_of(value), happened=heard is not None
    )  # the outcome of a race, which recovery may not change
    return value


def _fenced(promise: str, inputs: Sequence[Any]) -> dict[str, Any]:
    about, past = exoflow.context(), past_of(*inputs)
    note("begin", promise=promise, past=past)
    time.sleep(PACE_S)
    with alone():
        said = [line for line in booked() if line.key == about.idempotency_key and line.what in ("undo", "resolve")]
        if any(line.what == "undo" or not line.happened for line in said):
            raise TooLateError(about.idempotency_key)
        lines = add("effect", promise=promise, past=past)
    burn(lines)
    time.sleep(PACE_S)
    return _value(about.task_id, about.attempt, past)


def cancel_fenced(*inputs: Any) -> None:
    with alone():
        lines = add("undo", promise="rollback")
    burn(lines)


@exoflow.task(rollback=cancel_fenced, fences=True)
def reserve_fenced(*inputs: Any) -> Any:
    return _fenced("rollback", inputs)


def was_sent_fenced(key: str) -> Any:
    with alone():
        sent = [line for line in booked() if line.what == "effect" and line.key == key]
        lines = add("resolve", promise="once", happened=bool(sent))
    burn(lines)
    return exoflow.Happened(_value(sent[0].task, sent[0].attempt, sent[0].past)) if sent else exoflow.DidNotHappen


@exoflow.task(effects="once", resolve=was_sent_fenced, fences=True)
def send_fenced(*inputs: Any) -> Any:
    return _fenced("once", inputs)


@exoflow.task(effects="once", resolve=was_sent)
def send_behind_the_door(*inputs: Any) -> Any:
    """Ring the bell and wait at the door before sending, unless the house is open."""
    about, house = exoflow.context(), _house()
    note("begin", promise="once")
    if not (house / "open").exists():
        (house / "bell").write_bytes(b"here I am")
        (house / "door").read_bytes()
    note("effect", promise="once")
    return _value(about.task_id, about.attempt, past_of(*inputs))


@exoflow.task(effects="none", executor="thread")
def leave_a_child(*inputs: Any) -> Any:
    """Fork the controller, and leave the child to itself: it has a copy of all that the controller has open."""
    with (_house() / "child").open("x") as file:
        if not (pid := os.fork()):
            while True:
                signal.pause()
        file.write(str(pid))
    return _act("none", inputs)


def _house() -> Path:
    return Path(os.environ[BOOK]).parent


def door() -> Node:
    """An effect that somebody can hold up, in a controller that has left a child."""
    child = leave_a_child.options(task_id="child").bind(draw.options(task_id="drawn").bind())
    return send_behind_the_door.options(task_id="sent").bind(child)


def chain() -> Node:
    """Each promise in each mode that makes a difference, one after the other."""
    node = pure.options(checkpoint="async", task_id="a").bind()
    node = draw.options(checkpoint="skip", task_id="b").bind(node, ballast=BALLAST)
    node = draw.options(checkpoint="sync", task_id="c").bind(node)
    node = charge.options(task_id="d").bind(node, ballast=BALLAST)
    node = draw.options(checkpoint="async", task_id="e").bind(node, ballast=BALLAST)
    node = reserve.options(task_id="f").bind(node)
    node = send.options(checkpoint="async", task_id="g").bind(node)
    node = draw.options(checkpoint="auto", task_id="h").bind(node)
    node = charge.options(checkpoint="skip", task_id="i").bind(node)
    node = send.options(task_id="j").bind(node)
    return pure.options(checkpoint="skip", task_id="k").bind(node)


def fan() -> Node:
    """All promises beside each other, on a value that is not kept."""
    root = draw.options(checkpoint="skip", task_id="root").bind(ballast=BALLAST)
    branches = [
        kind.options(checkpoint=mode, task_id=f"{kind.name}-{mode}").bind(
            draw.options(checkpoint="async", task_id=f"before-{kind.name}-{mode}").bind(root)
        )
        for kind in (pure, draw, charge, reserve, send)
        for mode in MODES
        if kind in (pure, draw, charge) or mode in ("sync", "async")
    ]
    return send.options(task_id="last").bind(draw.options(checkpoint="async", task_id="joined").bind(*branches))


def continuing() -> Node:
    """The DAG grows, by chance, and effects hang on what has grown."""
    first = draw.options(checkpoint="async", task_id="first").bind()
    return send.options(task_id="last").bind(spread.options(checkpoint="async", task_id="grow").bind(first, depth=2))


def waiting() -> Node:
    """A timer, a message from outside, and the same one again, which is not there a second time."""
    node = draw.options(checkpoint="async", task_id="before").bind()
    pause = exoflow.sleep(0.01, task_id="pause", after=[node])
    heard = exoflow.wait_for_event("go", task_id="go", after=[pause])
    node = attach.options(task_id="told").bind(node, heard)
    node = charge.options(task_id="charged").bind(node)
    silence = exoflow.wait_for_event("go", timeout_s=0.01, default=None, task_id="silence", after=[node])
    return send.options(task_id="last").bind(attach.options(task_id="untold").bind(node, silence))


def failing() -> Node:
    """What was reserved is given back when the end is bad."""
    one = reserve.options(task_id="one").bind(draw.options(checkpoint="skip", task_id="drawn").bind())
    two = reserve.options(checkpoint="async", task_id="two").bind(one)
    three = reserve.options(task_id="three").bind(draw.options(checkpoint="async", task_id="aside").bind())
    return decline.options(task_id="declined").bind(two, three)


def fenced() -> Node:
    """Effects whose receivers refuse what comes too late: for controllers that are taken for dead and are not."""
    node = draw.options(checkpoint="async", task_id="a").bind()
    for at in range(3):
        node = reserve_fenced.options(task_id=f"reserve{at}").bind(node)
        node = charge.options(task_id=f"charge{at}").bind(node)
        node = send_fenced.options(task_id=f"send{at}").bind(node)
    return node


def random_dag(seed: int) -> Node:
    """Any shape, any promises, any modes: the same for the same seed."""
    rng = random.Random(seed)
    nodes: list[Node] = []
    for at in range(rng.randint(3, 12)):
        kind = rng.choice((pure, draw, draw, charge, reserve, send))
        mode = rng.choice(MODES if kind in (pure, draw, charge) else MODES[:2])
        parents = rng.sample(nodes, min(len(nodes), rng.randint(0, 3)))
        ballast = BALLAST if rng.random() < 0.2 else 0
        nodes.append(kind.options(checkpoint=mode, task_id=f"{kind.name}{at}").bind(*parents, ballast=ballast))
    return draw.options(checkpoint=rng.choice(MODES), task_id="end").bind(*nodes)


FLOWS: dict[str, Callable[[], Node]] = {
    "chain": chain,
    "fan": fan,
    "continuing": continuing,
    "waiting": waiting,
    "failing": failing,
    "door": door,
    "fenced": fenced,
}


def flow(name: str) -> Node:
    """Return the workflow of that name; ``random:7`` is one drawn with seed 7."""
    kind, _, seed = name.partition(":")
    return random_dag(int(seed)) if kind == "random" else FLOWS[name]()
