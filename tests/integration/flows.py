"""Workflows whose tasks write into a ledger, and what a child process does with them.

The ledger is a file outside of the library, opened with O_APPEND by each task: what the library believes does not matter,
only what was done to the world. Everything takes the path of the ledger as its first argument.
"""

import contextlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exoflow
from exoflow.engine.engine import Engine

# --- the ledger -------------------------------------------------------------------------------------------------------


def note(book: str, what: str, **more: Any) -> None:
    about = exoflow.context()
    line = {
        "what": what, "task": about.task_id, "attempt": about.attempt, "key": about.idempotency_key, "pid": os.getpid(), **more,
    }  # fmt: skip
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

    def whats(self) -> list[str]:
        return [entry["what"] for entry in self]

    def check(self, *, failed: bool = False) -> None:
        """Compare with the promises: keys and inputs that never change, attempts undone or standing, once at most."""
        inputs: dict[str, set[str]] = {}
        keys: dict[str, set[str]] = {}
        standing: dict[str, list[str]] = {}
        happened: Counter[str] = Counter()
        for entry in self:
            task, what = entry["task"], entry["what"]
            if what in ("ran", "happened"):
                keys.setdefault(task, set()).add(entry["key"])
                inputs.setdefault(entry["key"], set()).add(json.dumps(entry["inputs"]))
            if what == "happened":
                happened[entry["key"]] += 1
            elif what == "did":
                assert entry["attempt"] == entry["key"]
                assert not standing.get(task), f"{task} was done again before it was undone"
                standing[task] = [entry["attempt"]]
            elif what == "undid":
                standing[task] = [attempt for attempt in standing.get(task, []) if attempt != entry["key"]]
        assert all(len(used) == 1 for used in keys.values()), keys
        assert all(len(seen) == 1 for seen in inputs.values()), inputs
        assert all(count == 1 for count in happened.values()), happened
        for task, attempts in standing.items():
            allowed = (0,) if failed else (0, 1) if "/" in task else (1,)
            assert len(attempts) in allowed, f"of {task} there stand {attempts}"

    def check_explained(self, answer: Any) -> None:
        """Check that every effect that stands acted on values that are part of *answer*."""
        explained: set[str] = set()
        nonces: dict[str, Any] = {}
        stack = [answer]
        while stack:
            value = stack.pop()
            if not isinstance(value, list):
                continue
            stack.extend(value)
            if value and value[0] in ("draw", "charge", "reserve", "send"):
                assert nonces.setdefault(value[1], value) == value
                explained.add(json.dumps(value[2:]))
        undone = {entry["key"] for entry in self if entry["what"] == "undid"}
        for entry in self:
            if entry["what"] in ("ran", "happened", "did") and entry["key"] not in undone:
                assert json.dumps(entry["inputs"]) in explained, f"nothing explains {entry}"


# --- tasks ------------------------------------------------------------------------------------------------------------


@exoflow.task(effects="none")
def draw(book: str, *values: Any) -> Any:
    return ["draw", secrets.token_hex(4), *values]


@exoflow.task(effects="none", checkpoint="async")
def big(book: str, *values: Any) -> Any:
    return ["draw", secrets.token_hex(20_000), *values]


@exoflow.task(effects="none", deterministic=True, checkpoint="async")
def pure(book: str, *values: Any) -> Any:
    return ["pure", *values]


@exoflow.task
def charge(book: str, *values: Any) -> Any:
    note(book, "ran", inputs=list(values))
    return ["charge", secrets.token_hex(4), *values]


def cancel(book: str, *values: Any) -> None:
    note(book, "undid")


@exoflow.task(rollback=cancel)
def reserve(book: str, *values: Any) -> Any:
    note(book, "did", inputs=list(values))
    return ["reserve", secrets.token_hex(4), *values]


class Lookup:
    """Asks the ledger what became of a once task."""

    def __init__(self, book: str) -> None:
        self.book = book

    def __call__(self, key: str) -> Any:
        note(self.book, "asked")
        for entry in Ledger(self.book).lines("happened"):
            if entry["key"] == key:
                return exoflow.Happened(entry["value"])
        return exoflow.DidNotHappen


@exoflow.task(effects="once")
def send(book: str, *values: Any) -> Any:
    value = ["send", secrets.token_hex(4), *values]
    note(book, "happened", inputs=list(values), value=value)
    return value


def send_resolved(book: str) -> Any:
    return send.options(resolve=Lookup(book))


@exoflow.task(effects="none")
def grow(book: str, *values: Any) -> Any:
    return charge.bind(book, ["draw", secrets.token_hex(4), *values])


@exoflow.task(effects="none", deterministic=True)
def gather(*values: Any) -> Any:
    return list(values)


@exoflow.task(effects="none")
def first_of(value: Any) -> Any:
    return value[:1]


@exoflow.task(effects="none")
def fail(*values: Any) -> None:
    raise ValueError("on purpose")


def _wait_for_file(book: str, name: str) -> None:
    note(book, f"at {name}")
    deadline = time.monotonic() + 60
    while not Path(f"{book}.{name}").exists():
        assert time.monotonic() < deadline, f"nobody opened {name}"
        time.sleep(0.002)


def open_door(book: Ledger, name: str) -> None:
    """Let what waits at a door go on; in whichever process."""
    Path(f"{book.path}.{name}").touch()


@exoflow.task(effects="none")
def pass_door(book: str, name: str, *values: Any) -> Any:
    _wait_for_file(book, name)
    return ["pure", *values]


@exoflow.task(rollback=cancel)
def reserve_behind_door(book: str, name: str, *values: Any) -> Any:
    _wait_for_file(book, name)
    note(book, "did", inputs=list(values))
    return ["reserve", secrets.token_hex(4), *values]


@exoflow.task
def charge_behind_door(book: str, name: str, *values: Any) -> Any:
    _wait_for_file(book, name)
    note(book, "ran", inputs=list(values))
    return ["charge", secrets.token_hex(4), *values]


@exoflow.task(effects="once")
def send_behind_door(book: str, name: str, *values: Any) -> Any:
    value = ["send", secrets.token_hex(4), *values]
    note(book, "happened", inputs=list(values), value=value)
    _wait_for_file(book, name)
    return value


@exoflow.task(effects="none", system_retries=2, retry_delay_s=0)
def die_unless(book: str, name: str) -> str:
    note(book, "tried")
    if not Path(f"{book}.{name}").exists():
        Path(f"{book}.{name}").touch()
        os.kill(os.getpid(), 9)
    return "survived"


@exoflow.task(effects="none")
def leave(book: str) -> None:
    note(book, "tried")
    raise SystemExit(3)


@exoflow.task(effects="none")
def pid(book: str) -> int:
    return os.getpid()


# --- workflows --------------------------------------------------------------------------------------------------------


def everything(book: str) -> exoflow.Node:
    """Every annotation, each behind a value nobody stores."""
    first = draw.options(checkpoint="skip", task_id="first").bind(book)
    charged = charge.options(task_id="charged").bind(book, first)
    reserved = reserve.options(task_id="reserved").bind(book, pure.bind(book, charged))
    sent = send_resolved(book).options(task_id="sent").bind(book, first_of.bind(big.bind(book)), reserved)
    grown = grow.options(task_id="grown").bind(book, first)
    skipped = charge.options(task_id="skipped", checkpoint="skip").bind(book, grown)
    last = charge.options(task_id="last").bind(book, sent, skipped, exoflow.sleep(0.01, after=[charged]))
    return gather.options(task_id="answer").bind(first, charged, reserved, sent, grown, skipped, last)


def everything_fails(book: str) -> exoflow.Node:
    """As `everything`, and then it fails."""
    after = reserve.options(task_id="after").bind(book, "after all")
    return fail.bind(reserve.options(task_id="behind").bind(book, everything(book), after))


def waits(book: str) -> exoflow.Node:
    """Two nodes that wait for one event, an effect behind each."""
    one, two = (exoflow.wait_for_event("go", task_id=name) for name in ("one", "two"))
    return gather.bind(
        charge.options(task_id="charge_one").bind(book, one), charge.options(task_id="charge_two").bind(book, two)
    )


def slept(book: str, seconds: float) -> exoflow.Node:
    return gather.bind(charge.bind(book, exoflow.sleep(seconds)))


def dies_once(book: str) -> exoflow.Node:
    return gather.bind(die_unless.bind(book, "died"))


def leaves(book: str) -> exoflow.Node:
    return gather.bind(leave.options(isolation=True).bind(book))


def reserved_behind_door(book: str) -> exoflow.Node:
    return reserve_behind_door.bind(book, "here", "value")


def charged_behind_door(book: str) -> exoflow.Node:
    return charge_behind_door.bind(book, "charged", "value")


def sent_behind_door(book: str) -> exoflow.Node:
    return charge.bind(book, send_behind_door.bind(book, "sent", "value"))


def cancelled_in_time(book: str) -> exoflow.Node:
    return charge.bind(book, exoflow.sleep(3600, after=[reserve.bind(book, "value")]))


def one_charge(book: str, value: Any = None) -> exoflow.Node:
    return charge.options(task_id="charge").bind(book, value)


def build(name: str, book: str, *args: Any) -> exoflow.Node:
    found: Any = globals()[name]
    return found(book, *args)  # type: ignore[no-any-return]


# --- what a child does ------------------------------------------------------------------------------------------------


def run(
    storage: str, book: str, flow: str = "everything", *, workflow_id: str = "w", executor: str = "thread",
    failures: tuple[str, ...] = (), args: tuple[Any, ...] = (),
) -> Any:  # fmt: skip
    """Run a workflow, new or known."""
    with Engine(storage, executor, failures=failures, max_workers=4 if executor != "inline" else None) as engine:
        return engine.run(build(flow, book, *args), workflow_id=workflow_id)


def start_and_stay(
    storage: str, book: str, flows: list[tuple[str, str, tuple[Any, ...]]], executor: str = "thread"
) -> None:
    """Start workflows (id, flow, arguments), say so with a file, and stay until killed."""
    engine = Engine(storage, executor)
    for workflow_id, flow, args in flows:
        engine.start(build(flow, book, *args), workflow_id=workflow_id)
    Path(f"{book}.started").touch()
    while True:
        time.sleep(60)


def resume(storage: str, workflow_id: str = "w", executor: str = "thread", failures: tuple[str, ...] = ()) -> Any:
    """Resume a workflow, which needs no code but what its tasks name."""
    with Engine(storage, executor, failures=failures) as engine:
        return engine.resume(workflow_id).result()


def resume_when_told(storage: str, workflow_id: str, gate: str) -> Any:
    """Wait for a file, then try to get a workflow; return its result, or the name of the error."""
    with Engine(storage) as engine:
        engine.list()
        deadline = time.monotonic() + 60
        while not Path(gate).exists():
            assert time.monotonic() < deadline
        try:
            handle = engine.resume(workflow_id)
        except exoflow.WorkflowRunningError:
            return "running elsewhere"
        return handle.result()


def call(storage: str, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of an engine."""
    with Engine(storage) as engine:
        return getattr(engine, method)(*args, **kwargs)


def limited(storage: str, book: str, flow: str, file_bytes: int, executor: str = "thread") -> Any:
    """Run with files that cannot grow beyond a size: what a disk quota looks like."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    return run(storage, book, flow, executor=executor)


def close_while_it_runs(storage: str, book: str, flow: str, *args: Any) -> str:
    """Close an engine while an attempt runs; return what its caller heard."""
    engine = Engine(storage)
    handle = engine.start(build(flow, book, *args), workflow_id="w")
    deadline = time.monotonic() + 60
    while not any(what.startswith("at ") for what in Ledger(book).whats()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    Path(f"{book}.closing").touch()
    engine.close()
    with contextlib.suppress(exoflow.ExoFlowError):
        return str(handle.result(0))
    return "closed"
