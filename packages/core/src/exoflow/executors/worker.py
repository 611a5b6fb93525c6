"""The process that runs tasks for the process executor: one call at a time, until the executor hangs up.

It reads stored inputs and writes large outcomes itself, in a store of its own that it opens by URL. Where the store
lives in the executor's memory alone, bytes go through the socket instead.
"""

import contextlib
import ctypes
import importlib.machinery
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self, cast

import attrs

from exoflow.engine.events import AttemptEvent, Failed, Finished, Resolved, UndoFailed
from exoflow.executors.calling import Begun, Caller, Kept, Told, is_simulated_crash, told, unserializable
from exoflow.executors.contract import Call, CallKind, Persistence
from exoflow.executors.portable import portable
from exoflow.executors.wire import Message, receive, send
from exoflow.graph.dag import Dag
from exoflow.stores.contract import Buffer, ObjectStore
from exoflow.values import Codec, Encoded, Live, Payload, PickleCodec, Value

__all__ = ["Hello", "Order", "Reply", "Surroundings", "serve"]

_pickle = PickleCodec()


@attrs.frozen
class Surroundings:
    """The first message to a worker: what it would have inherited, had the executor's process forked it itself."""

    path: list[str]
    """`sys.path`, so that a worker imports what its executor would."""
    environment: dict[str, str]
    folder: str
    """The working directory."""

    @classmethod
    def here(cls) -> Self:
        """Return those of this process."""
        try:
            folder = str(Path.cwd())
        except FileNotFoundError:  # somebody removed it
            folder = ""
        return cls([entry for entry in sys.path if isinstance(entry, str)], dict(os.environ), folder)

    def take(self) -> None:
        """Make them those of this process."""
        sys.path[:] = self.path
        if os.environ != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        with contextlib.suppress(OSError):
            os.chdir(self.folder)


@attrs.frozen
class Hello:
    """The second message to a worker."""

    codec: Codec
    open_store: Callable[[str], ObjectStore]
    url: str
    shared: bool


class Order(NamedTuple):
    """A call, as its head travels (a tuple, which pickles five times as fast as a class with slots). Parts: those of the pickled arguments, then those of each input that is no blob."""

    token: int
    """Names the task."""
    task: bytes | None
    """The task itself, pickled; None if this worker was sent it before."""
    file: tuple[str, str] | None
    """The task's module and where it lies, for one that cannot be imported by name."""
    fields: tuple[Any, ...]
    """Kind, attempt, workflow, task id, number, key, persistence and blob key of the call."""
    arguments: int
    """How many parts are the arguments."""
    inputs: tuple[int | Payload, ...]
    """For each input how many parts it has, or where to read it."""
    forget: bool = False
    """Forget all tasks sent before."""


class Reply(NamedTuple):
    """What became of a call. Parts: its outcome, unless a payload in the event has it."""

    kind: type[AttemptEvent]
    fields: tuple[Any, ...]
    """Of the event, without the outcome itself."""
    is_dag: bool = False
    more: bool = False
    """Another reply follows."""

    @classmethod
    def of(cls, event: AttemptEvent, *, is_dag: bool = False, more: bool = False) -> "Reply":
        """Return the reply that brings *event*."""
        return cls(type(event), attrs.astuple(event, recurse=False), is_dag, more)

    @property
    def event(self) -> AttemptEvent:
        """What to report, a new one each time."""
        return self.kind(*self.fields)


def serve(descriptor: int, parent: int) -> None:
    """Run calls until the executor hangs up. The whole life of a worker.

    Args:
        descriptor: The inherited socket.
        parent: The nursery, which ends with the executor's process, and without which this one is not to live.
    """
    _die_with(parent)
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    try:
        surroundings: Surroundings = receive(channel).head
        surroundings.take()  # first, since what follows may name modules that are found only there
        hello: Hello = receive(channel).head
        worker = _Worker(channel, hello)
        while True:
            worker.run(receive(channel))
    except (EOFError, BrokenPipeError):
        return


class _OpenedLate:
    """The store, opened when it is first needed: most calls do without."""

    def __init__(self, hello: Hello) -> None:
        self._hello = hello
        self._store: ObjectStore | None = None

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        return self._opened().read(key, start=start, end=end)

    def write(self, key: str, chunks: Any) -> None:
        self._opened().write(key, chunks)

    def _opened(self) -> ObjectStore:
        if self._store is None:
            self._store = self._hello.open_store(self._hello.url)
        return self._store


class _WorkerCaller(Caller):
    """Keeps the encoded outcome, which travels; the value itself does not."""

    def __init__(self, hello: Hello) -> None:
        super().__init__(cast(ObjectStore, _OpenedLate(hello)), hello.codec)
        self._shared = hello.shared
        self.encoded: Encoded | None = None

    def outcome(self, call: Call, stored: Any, value: Value | None, dag: Dag | None, seconds: float) -> Told:
        try:
            self.encoded = self.codec.encode(stored)
        except Exception as error:
            if call.persistence is Persistence.BEFORE:
                return told(call, None, None, seconds, self.unstorable(call, error))
            # Its readers would start at once, and there is nothing to give them.
            failure = unserializable(call.task_id, error)
            if call.kind is CallKind.TASK:
                return Failed(call.attempt, failure, seconds=seconds), None
            return UndoFailed(call.attempt, failure), None
        kept = Kept(None)
        if self._shared and call.persistence is not Persistence.NONE:
            kept = self.keep(call, self.encoded, seconds, owned=True)
        return told(call, None, dag, seconds, kept)


class _Worker:
    def __init__(self, channel: socket.socket, hello: Hello) -> None:
        self._channel = channel
        self._codec = hello.codec
        self._caller = _WorkerCaller(hello)
        self._tasks: dict[int, Any] = {}

    def run(self, message: Message) -> None:
        order: Order = message.head
        try:
            call = self._call_of(order, message.parts)
        except Exception as error:
            kind, attempt = order.fields[:2]
            failed: AttemptEvent = UndoFailed(attempt, portable(error))
            if kind == CallKind.TASK.value:
                failed = Failed(attempt, portable(error))
            send(self._channel, Reply.of(failed))
            return
        del message
        try:
            event, later = self._perform(call)
        except BaseException as error:
            if is_simulated_crash(error):
                os.kill(os.getpid(), signal.SIGKILL)
            raise
        del call
        _flush()
        encoded, self._caller.encoded = self._caller.encoded, None
        is_dag = False
        parts: Sequence[Buffer] = ()
        if isinstance(event, Finished):
            is_dag, event.continuation = event.continuation is not None, None
        if isinstance(event, Finished | Resolved) and encoded is not None and (event.payload is None or is_dag):
            parts = encoded.parts
        send(self._channel, Reply.of(event, is_dag=is_dag, more=later is not None), parts)
        if later is not None:
            send(self._channel, Reply.of(later()))

    def _perform(self, call: Call) -> Told:
        result = self._caller.perform(call)
        if not isinstance(result, Begun):
            return result
        import asyncio  # 50 ms, and most workers never need it

        try:
            with asyncio.Runner() as runner:
                value = runner.run(result.coroutine, context=result.context)
        except BaseException as error:
            return self._caller.raised(call, error, time.perf_counter() - result.started), None
        return self._caller.returned(call, value, time.perf_counter() - result.started)

    def _call_of(self, order: Order, parts: list[memoryview]) -> Call:
        if order.file is not None:
            _finder.files[order.file[0]] = order.file[1]
        if order.forget:
            self._tasks.clear()
        if order.task is not None:
            self._tasks[order.token] = _pickle.decode([memoryview(order.task)])
        args, kwargs = _pickle.decode(parts[: order.arguments])
        at, inputs = order.arguments, list[Value]()
        for source in order.inputs:
            if isinstance(source, Payload):
                inputs.append(source)
            else:
                inputs.append(Live(self._codec.decode(parts[at : at + source])))
                at += source
        kind, attempt, workflow_id, task_id, number, key, persistence, blob_key = order.fields
        return Call(
            kind=CallKind(kind),
            attempt=attempt,
            workflow_id=workflow_id,
            task_id=task_id,
            number=number,
            key=key,
            task=self._tasks[order.token],
            args=args,
            kwargs=kwargs,
            inputs=inputs,
            persistence=Persistence(persistence),
            blob_key=blob_key,
        )


class _Finder:
    """Finds modules that the executor's process has loaded from files outside of `sys.path`, as pytest may do."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in self.files:
            return importlib.util.spec_from_file_location(name, self.files[name])
        if any(known.startswith(f"{name}.") for known in self.files):
            return importlib.machinery.ModuleSpec(name, None, is_package=True)
        return None


_finder = _Finder()
sys.meta_path.append(_finder)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone: a busy task would not notice."""
    try:
        died = ctypes.CDLL(None).prctl(1, int(signal.SIGKILL)) != 0  # PR_SET_PDEATHSIG, linux/prctl.h
    except (OSError, AttributeError):
        died = True
    if died:
        threading.Thread(target=_watch, args=(parent,), name="exoflow-watch", daemon=True).start()
    elif os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or replaced by the task: its affair
            stream.flush()
