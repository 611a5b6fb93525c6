"""Tasks that the contract suite for executors runs: in a module that any process can import, and importing little.

Where a test and a task in another process have to wait for each other, they do so through files.
"""

import array
import asyncio
import functools
import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any

import exoflow.tasks.context as running
from exoflow.graph.node import Node
from exoflow.tasks.task import Task, task
from exoflow.tasks.verdicts import DidNotHappen, Happened, Unknown

__all__ = ["Big", "PrivateError", "ShoutedError"]

_DEADLINE_S = 60.0


class Big:
    """A value whose bytes travel beside the pickle, as an array's do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Big, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Big) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]


class PrivateError(Exception):
    """Does not pickle."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class ShoutedError(Exception):
    """Pickles, but comes back saying something else."""

    def __init__(self, message: str) -> None:
        super().__init__(message + "!")


def wait_for(path: str) -> None:
    """Wait until there is a file."""
    deadline = time.monotonic() + _DEADLINE_S
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} has not come into being")
        time.sleep(0.002)


def note(path: str, text: str = "") -> None:
    """Make a file, whole."""
    partial = Path(f"{path}.{os.getpid()}")
    partial.write_text(text)
    partial.rename(path)


@task(effects="none")
def add(one: Any, other: Any = 1) -> Any:
    return one + other


@task(effects="none")
async def add_later(one: Any, other: Any = 1) -> Any:
    await asyncio.sleep(0)
    return one + other


@task(effects="none")
def everything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@task(effects="none")
def raise_value_error(text: str) -> None:
    raise ValueError(text)


@task(effects="none")
async def raise_value_error_later(text: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(text)


@task(effects="none")
def raise_with_a_cause() -> None:
    try:
        raise KeyError("the lost key")
    except KeyError as error:
        wrapped = RuntimeError("could not open")
        wrapped.add_note("it was dark")
        raise wrapped from error


@task(effects="none")
def raise_private() -> None:
    raise PrivateError("for my eyes only")


@task(effects="none")
def raise_shouted() -> None:
    raise ShoutedError("hello")


@task(effects="none")
def leave(how: str) -> None:
    if how == "exit":
        sys.exit(3)
    raise {"generator": GeneratorExit, "cancel": asyncio.CancelledError}[how]


@task(effects="none")
async def leave_later(how: str) -> None:
    await asyncio.sleep(0)
    if how == "exit":
        sys.exit(3)
    raise {"generator": GeneratorExit, "cancel": asyncio.CancelledError}[how]


@task(effects="none", catch_exceptions=True)
def divide(one: int, other: int) -> float:
    return one / other


@task(effects="none")
def big_bytes(size: int) -> bytes:
    return bytes(size)


@task(effects="none")
def big_text(size: int, seconds: float = 0.0) -> str:
    time.sleep(seconds)  # work that a busy machine cannot make shorter
    return "x" * size


@functools.lru_cache(1)
def _text(size: int) -> str:
    return "x" * size


@task(effects="none")
def ready_text(size: int) -> str:
    return _text(size)


@task(effects="none")
def big_buffer(size: int) -> Big:
    return Big(bytearray(b"b" * size))


@task(effects="none")
async def big_buffer_later(size: int) -> Big:
    return Big(bytearray(b"b" * size))


@task(effects="none")
def big_list(size: int) -> list[int]:
    return list(range(size))


@task(effects="none")
def total(numbers: Any) -> int:
    return sum(numbers.data) if isinstance(numbers, Big) else sum(numbers)


@task(effects="none")
def change(numbers: Any) -> Any:
    numbers.data[0] += 7
    return bytes(numbers.data[:2])


@task(effects="none")
def an_array(size: int) -> Any:
    return array.array("d", range(size))


@task(effects="none")
def unstorable() -> Any:
    return (number for number in range(3))


@task(effects="none")
def node_of(size: int) -> Node:
    return add.bind(add.bind(1, 2), size)


@task(effects="none")
def continue_with(size: int) -> Node:
    return running.continuation(add.bind("x" * size, "y"))


@task(effects="none")
async def continue_later(size: int) -> Node:
    return running.continuation(add.bind("x" * size, "y"))


def _told() -> dict[str, Any]:
    known = running.context()
    return {
        "workflow_id": known.workflow_id,
        "task_id": known.task_id,
        "incarnation": known.incarnation,
        "attempt": known.attempt,
        "idempotency_key": known.idempotency_key,
    }


@task(effects="none")
def who_am_i() -> Any:
    return _told()


@task(effects="none")
async def who_am_i_later() -> Any:
    before = _told()
    await asyncio.sleep(0)
    beside = await asyncio.to_thread(_told)
    assert before == beside
    return _told()


@task(effects="none")
def meet(mine: str, theirs: str) -> str:
    note(mine)
    wait_for(theirs)
    return mine


def _files(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


@task(effects="none")
async def meet_later(mine: str, folder: str, count: int) -> int:
    note(mine)
    deadline = time.monotonic() + _DEADLINE_S
    while (found := sum(1 for each in _files(folder) if each.isdigit())) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {found} of {count} run at once")
        await asyncio.sleep(0.005)
    return count


@task(effects="none")
def block(begun: str, go: str, ended: str) -> str:
    note(begun, str(os.getpid()))
    wait_for(go)
    note(ended)
    return "blocked"


@task(effects="none")
async def block_later(begun: str, ended: str) -> str:
    note(begun, str(os.getpid()))
    try:
        await asyncio.sleep(_DEADLINE_S)
    finally:
        note(ended)
    return "blocked"


@task(effects="none")
def leave_a_trace(path: str) -> None:
    note(path)


def _undo(path: str, *, how: str = "quietly") -> None:
    if how == "loudly":
        raise ValueError("cannot be undone")
    if how == "exit":
        sys.exit(1)
    note(path, repr(_told()))


async def _undo_later(path: str) -> None:
    await asyncio.sleep(0)
    note(path, repr(_told()))


def _do(path: str, *, how: str = "quietly") -> None:
    note(path)


undoable: Task[..., Any] = task(rollback=_undo)(_do)
undoable_later: Task[..., Any] = task(rollback=_undo_later)(_do)


def _resolve(key: str) -> Any:
    assert running.context().idempotency_key == key
    return {
        "happened": Happened(key),
        "happened, bare": Happened,
        "not": DidNotHappen(),
        "not, bare": DidNotHappen,
        "unknown": Unknown(),
        "unknown, bare": Unknown,
        "big": Happened(Big(b"b" * 100_000)),
        "nonsense": "perhaps",
    }[key]


async def _resolve_later(key: str) -> Any:
    await asyncio.sleep(0)
    return Happened(key)


@task(effects="once", resolve=_resolve)
def once() -> None: ...


@task(effects="once", resolve=_resolve_later)
def once_later() -> None: ...


@task(effects="once", resolve=_resolve, catch_exceptions=True)
def once_and_caught() -> None: ...
