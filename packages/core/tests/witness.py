"""A ledger outside of the library, tasks that write into it, and what the promises say of what is found there.

Every call of a task, of an undo and of a resolve is one line, appended with O_APPEND before anything is returned: what
the library believes does not matter, only what was done to the world.
"""

import json
import os
import random
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import exoflow
from exoflow.journal.checked_json import decode_checked, encode_checked
from exoflow.stores.memory import MemoryStore

ANNOTATIONS = ("pure", "draw", "charge", "reserve", "send", "send_resolved")
"""Tasks below, by what they promise."""
MODES = ("sync", "async", "skip", "auto")


PATIENCE_S = 20.0
"""How long a test waits for what must happen."""


def until(condition: Callable[[], Any], what: str = "it never happened") -> Any:
    """Wait for *condition* and return what it returned."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return found


def fresh() -> str:
    """Return the URL of an empty store that several engines of this process may open."""
    return f"memory://{uuid.uuid4().hex}"


class Door:
    """Where a task stops until the test lets it go on."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.visitors = 0

    def wait_until_entered(self) -> None:
        assert self.entered.wait(PATIENCE_S), "nobody came to the door"


_doors: dict[str, Door] = {}


def door(name: str) -> Door:
    """Return the door of that name; tasks find it by name, because a task is stored."""
    return _doors.setdefault(name, Door())


@exoflow.task(effects="none")
def pass_door(name: str, value: Any = None) -> Any:
    found = door(name)
    found.visitors += 1
    found.entered.set()
    assert found.opened.wait(PATIENCE_S), "nobody opened the door"
    return value


def note(book: str, what: str, **more: Any) -> None:
    about = exoflow.context()
    line = {"what": what, "task": about.task_id, "attempt": about.attempt, "key": about.idempotency_key, **more}
    descriptor = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


class Ledger:
    """What happened."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if Path(self.path).exists():
            for line in Path(self.path).read_text().splitlines():
                yield json.loads(line)

    def lines(self, what: str | None = None, task: str | None = None) -> list[dict[str, Any]]:
        return [e for e in self if what in (None, e["what"]) and task in (None, e["task"])]

    def tasks(self) -> list[str]:
        return [entry["task"] for entry in self if entry["what"] in ("ran", "happened", "did")]

    def undone(self) -> list[str]:
        return [entry["task"] for entry in self if entry["what"] == "undid"]

    def undo_by_hand(self, task: str) -> None:
        """Undo what stands of a rollback task."""
        undone = {entry["key"] for entry in self.lines("undid")}
        for entry in self.lines("did", task):
            if entry["attempt"] not in undone:
                line = {"what": "undid", "task": task, "attempt": entry["attempt"], "key": entry["attempt"]}
                with Path(self.path).open("a") as file:
                    file.write(json.dumps(line) + "\n")

    def check(self, *, failed: bool = False) -> None:
        """Compare what is written with the promises of the table; *failed* or cancelled workflows leave nothing."""
        keys: dict[str, set[str]] = {}
        inputs: dict[tuple[str, str], set[str]] = {}
        standing: dict[str, list[str]] = {}
        touched: set[str] = set()
        happened: Counter[str] = Counter()
        for entry in self:
            task = entry["task"]
            if entry["what"] in ("ran", "happened"):
                keys.setdefault(task, set()).add(entry["key"])
                inputs.setdefault((task, entry["key"]), set()).add(json.dumps(entry.get("inputs")))
            if entry["what"] == "happened":
                happened[entry["key"]] += 1
            elif entry["what"] == "did":
                assert entry["attempt"] == entry["key"], "each attempt of a rollback task has its own key"
                assert entry["attempt"] not in touched, "an attempt's id is never used twice"
                touched.add(entry["attempt"])
                assert not standing.get(task), f"{task} was done again before it was undone"
                standing.setdefault(task, []).append(entry["attempt"])
            elif entry["what"] == "undid":
                standing[task] = [a for a in standing.get(task, []) if a != entry["key"]]
        for task, used in keys.items():
            assert len(used) == 1, f"{task} has one key for ever, not {used}"
        for (task, _), seen in inputs.items():
            assert len(seen) == 1, f"{task} has one set of inputs for ever, not {seen}"
        for key, count in happened.items():
            assert count == 1, f"{key} happened {count} times"
        for task, attempts in standing.items():
            # Of a continuation that was superseded nothing is left either.
            allowed = (0,) if failed else (0, 1) if "/" in task else (1,)
            assert len(attempts) in allowed, f"of {task} there stand {attempts}"

    def check_explained(self, answer: Any) -> None:
        """Check that every effect that stands acted on values that are part of *answer*, and on no others."""
        explained: set[str] = set()
        nonces: dict[str, Any] = {}
        stack = [answer]
        while stack:
            value = stack.pop()
            if not isinstance(value, list):
                continue
            stack.extend(value)
            if value and value[0] in ("draw", "charge", "reserve", "send", "big"):
                assert nonces.setdefault(value[1], value) == value
                explained.add(json.dumps(value[2:]))
        undone = {entry["key"] for entry in self if entry["what"] == "undid"}
        for entry in self:
            if entry["what"] in ("ran", "happened", "did") and entry["key"] not in undone:
                assert json.dumps(entry["inputs"]) in explained, f"nothing explains {entry}"


def run_with_a_person(engine: exoflow.Engine, node: Callable[[], exoflow.Node], book: Ledger) -> Any:
    """Run the workflow *w*; where only a heartbeat told of its last owner, look what became of an attempt, and say it."""
    while True:
        try:
            return engine.run(node(), workflow_id="w")
        except exoflow.NeedsAttentionError as error:
            if "not heard any more" not in str(error):
                raise
            effects = next(task.effects for task in engine.show("w").tasks if task.task_id == error.task_id)
            if effects == "once":
                value = next((e["value"] for e in book.lines("happened", error.task_id)), None)
                engine.settle("w", error.task_id, happened=value is not None, value=value)
            else:
                book.undo_by_hand(error.task_id)
                engine.settle("w", error.task_id, happened=False)


# --- tasks ----------------------------------------------------------------------------------------------------------


@exoflow.task(effects="none", deterministic=True)
def pure(book: str, *values: Any) -> Any:
    return ["pure", *values]


@exoflow.task(effects="none")
def draw(book: str, *values: Any) -> Any:
    return ["draw", secrets.token_hex(4), *values]


@exoflow.task
def charge(book: str, *values: Any) -> Any:
    note(book, "ran", inputs=values)
    return ["charge", secrets.token_hex(4), *values]


def _cancel(book: str, *values: Any) -> None:
    note(book, "undid")


@exoflow.task(rollback=_cancel)
def reserve(book: str, *values: Any) -> Any:
    note(book, "did", inputs=values)
    return ["reserve", secrets.token_hex(4), *values]


@exoflow.task(effects="once")
def send(book: str, *values: Any) -> Any:
    value = ["send", secrets.token_hex(4), *values]
    note(book, "happened", inputs=values, value=value)
    return value


def make_resolve(book: str) -> Any:
    def look(key: str) -> Any:
        note(book, "asked")
        for entry in Ledger(book).lines("happened"):
            if entry["key"] == key:
                return exoflow.Happened(entry["value"])
        return exoflow.DidNotHappen

    return look


@exoflow.task(effects="none")
def big(book: str, *values: Any) -> Any:
    """As draw, with a value that needs a blob."""
    return ["big", secrets.token_bytes(40_000).hex(), *values]


@exoflow.task(effects="none")
def grow(book: str, name: str, *values: Any) -> Any:
    """Return a continuation whose effect nobody saw coming."""
    grown = ("charge",) if name == "grow" else ()
    return task_named(name, book).bind(book, *grown, ["draw", secrets.token_hex(4), *values])


@exoflow.task(effects="none", deterministic=True)
def gather(*values: Any) -> Any:
    return list(values)


def task_named(name: str, book: str, **options: Any) -> Any:
    """Return the task with the annotation called *name*."""
    if name == "send_resolved":
        return send.options(resolve=make_resolve(book), **options)
    found: Any = globals()[name]
    return found.options(**options) if options else found


def chain(book: str, annotation: str, **options: Any) -> exoflow.Node:
    """A nondeterministic value nobody stores, the task in question, an effect that depends on both, and the answer."""
    first = draw.options(checkpoint="skip").bind(book)
    middle = task_named(annotation, book, task_id="middle", **options).bind(book, first)
    last = charge.options(task_id="last").bind(book, middle, first)
    return gather.bind(first, middle, last)


def fail_in_the_end(book: str, annotation: str, **options: Any) -> exoflow.Node:
    """As `chain`, and then a task that fails: what can be undone is to be undone."""
    first = draw.options(checkpoint="skip").bind(book)
    middle = task_named(annotation, book, task_id="middle", **options).bind(book, first)
    after = reserve.options(task_id="after").bind(book, middle)
    return fail.bind(charge.options(task_id="last").bind(book, middle, after))


@exoflow.task(effects="none")
def fail(*values: Any) -> None:
    raise ValueError("on purpose")


class Bucket:
    """A store with the five verbs alone, whose clients all share what a name stands for."""

    shared = False

    def __init__(self, url: str) -> None:
        self.inner = MemoryStore.open(url)
        self.url = "bucket://" + url
        for verb in ("create", "read", "write", "list", "delete", "close"):
            setattr(self, verb, getattr(self.inner, verb))

    def let_time_pass(self) -> None:
        """Make all heartbeats so old that their writers count as dead."""
        for key in list(self.inner.list("open/")):
            entry = decode_checked(key, self.inner.read(key), "an entry")
            self.inner.write(key, [encode_checked({**entry, "beat": 0.0})])


def explain(answer: Any) -> None:
    """Check that the answer of a `chain` is made of one incarnation of each task."""
    first, middle, last = answer
    assert middle[-1] == first
    assert last[-2:] == [middle, first]


def random_dag(chooser: random.Random, book: str, size: int) -> exoflow.Node:
    """A DAG of *size* tasks with annotations and modes drawn at random, and one root that reads all ends."""
    nodes: list[exoflow.Node] = []
    read: set[int] = set()
    for number in range(size):
        name = chooser.choice((*ANNOTATIONS[:-2], "send_resolved", "big", "grow"))
        modes = ("sync", "async") if name in ("reserve", "send_resolved") else MODES
        before = sorted(chooser.sample(range(number), min(number, chooser.choice((0, 1, 1, 2, 3)))))
        read.update(before)
        options: dict[str, Any] = {"checkpoint": chooser.choice(modes), "task_id": f"{name}_{number}"}
        if before and chooser.random() < 0.1:
            options["wait_until_committed"] = [nodes[chooser.choice(before)]]
        grown = (chooser.choice(("charge", "reserve", "send_resolved", "draw", "grow")),) if name == "grow" else ()
        nodes.append(task_named(name, book, **options).bind(book, *grown, *(nodes[at] for at in before)))
    return gather.bind(*(node for at, node in enumerate(nodes) if at not in read))
