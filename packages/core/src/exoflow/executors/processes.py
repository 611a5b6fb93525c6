"""Tasks in processes of their own: for code that holds the interpreter lock, may crash, or has to be killed.

Each worker process serves one call at a time and is looked after by one thread, which sends it the call, waits for the
answer or for its death, and reports. A worker that dies takes only its own call with it, and is replaced by the next.
"""

import contextlib
import functools
import logging
import os
import select
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from exoflow.engine.events import AttemptEvent, CommitFailed, Ended, Failed, Finished, Resolved, UndoFailed
from exoflow.errors import ArgumentError, TaskLostError, UsageError
from exoflow.executors.calling import (
    Caller,
    Later,
    Told,
    UnreadableInputError,
    codec_of,
    finish,
    key_of,
    keys_of,
    parts_of,
    told,
    unless_crashed,
)
from exoflow.executors.contract import Call, CallKind, Persistence, Services
from exoflow.executors.nursery import nursery
from exoflow.executors.pool import Pool
from exoflow.executors.wire import Message, dumps, receive, send
from exoflow.executors.worker import Hello, Order, Reply, Surroundings
from exoflow.graph.dag import Dag
from exoflow.stores.contract import Buffer, ObjectStore
from exoflow.values import Encoded, Live, Payload, PickleCodec, Value, restore

__all__ = ["ProcessExecutor", "open_store"]

_log = logging.getLogger(__name__)

_QUEUED, _BEGUN, _STOPPED = range(3)

_GRACE_S = 2.0
"""How long a worker that has been hung up on may take for its own exit handlers."""

_TASKS_KNOWN = 1000
"""A worker that was sent so many tasks is sent them again, rather than remember all for ever."""

_pickle = PickleCodec()


def open_store(url: str) -> ObjectStore:
    """Open the store of that URL, with the plugins installed."""
    from exoflow.plugins.manager import open_store  # most workers never open one

    return open_store(url)


class ProcessExecutor:
    """Runs calls in worker processes, which are started as they are needed and used again.

    A task with ``isolation=True`` gets a fresh process that serves nothing else. `stop` kills the process of a call that
    has begun, and everything in its process group. Workers do not outlive this process.

    Values travel as bytes. A worker reads committed inputs and writes large outcomes itself where the store can be
    opened by another process; else the bytes come through here. What a task returns has to be serializable even when
    it is not stored.

    Args:
        services: What the driver gives every executor.
        workers: At most so many calls run at once; by default one for each core, and at least two.
        opener: How a worker opens the store; a function that can be imported there.
    """

    name = "process"
    inline = False

    def __init__(
        self, services: Services, *, workers: int | None = None, opener: Callable[[str], ObjectStore] = open_store
    ) -> None:
        self._report = services.report
        self._store = services.store
        self._codec = services.codec
        self._lifeline = services.lifeline
        self._caller = Caller(services.store, services.codec)
        self._opener = opener
        self._pool = Pool(self._run, limit=workers or max(2, os.cpu_count() or 1), name="exoflow-process")
        self._lock = threading.Lock()
        self._calls: dict[str, int] = {}
        """Every call that is queued or runs, and how far it is."""
        self._running: dict[str, _Process] = {}
        """The processes that work on a call. A process is not reaped while it is here, so its id is its own."""
        self._idle: list[_Process] = []
        self._tasks: weakref.WeakKeyDictionary[Any, tuple[int, bytes, tuple[str, str] | None]] = (
            weakref.WeakKeyDictionary()
        )
        self._tokens = 0
        self._closed = False

    def start(self, call: Call) -> None:
        """Queue a call."""
        self._calls[key_of(call)] = _QUEUED
        self._pool.put(call, len(self._calls))

    def stop(self, attempt: str) -> None:
        """Drop a call that has not begun; kill the process of one that has."""
        begun = False
        with self._lock:
            for key in keys_of(attempt):
                state = self._calls.get(key)
                if state == _QUEUED:
                    del self._calls[key]
                elif state is not None:
                    begun = True
                    self._calls[key] = _STOPPED
                    if key in self._running:
                        self._running[key].kill()
        if not begun:
            self._tell(Ended(attempt))

    def close(self) -> None:
        """Drop what is queued, and kill and reap every worker."""
        with self._lock:
            self._closed = True
            for process in self._running.values():
                process.kill()
            idle, self._idle = self._idle, []
        self._pool.close()
        for process in idle:
            process.hang_up()
        for process in idle:
            process.reap(_GRACE_S)
        self._pool.join(_GRACE_S)

    # --- on the threads that look after the workers ----------------------------------------------------------------

    def _run(self, call: Call) -> None:
        key = key_of(call)
        with self._lock:
            if self._calls.get(key) != _QUEUED:
                return
            self._calls[key] = _BEGUN
        try:
            request = self._request(call)
        except Exception as error:
            self._conclude(call, self._caller.unprepared(call, error), None)
            return
        try:
            process = self._take(call)
        except OSError as error:
            self._conclude(call, _lost(call, f"no process could be started: {error}"), None)
            return
        except Exception as error:
            self._conclude(call, self._caller.unprepared(call, error), None)
            return
        with self._lock:
            begins = self._calls[key] == _BEGUN and not self._closed
            if begins:
                self._running[key] = process
        if not begins:
            self._give_back(process)
            self._conclude(call, Ended(call.attempt), None)
            return
        try:
            message, event = self._exchange(key, call, process, request)
        except _LostError as error:
            with self._lock:
                del self._running[key]
            process.kill()  # what is left of its group
            status = process.reap(_GRACE_S)
            self._conclude(call, error.event or _lost(call, error.problem or _describe(status)), None)
            return
        finally:
            del request
        # The process is free before the outcome is stored and reported: the driver may answer with the next call.
        with self._lock:
            killed = self._calls[key] == _STOPPED
            del self._running[key]
        isolated = call.task.policy.isolation
        if killed:
            process.reap(_GRACE_S)
        elif not isolated:
            self._give_back(process)
        later: Later | None = None
        if event is None:
            event, later = unless_crashed(call, functools.partial(self._told, call, message))
        del message
        self._conclude(call, event, later)
        if isolated and not killed:
            process.hang_up()
            process.reap(_GRACE_S)

    def _exchange(
        self, key: str, call: Call, process: "_Process", request: "_Request"
    ) -> tuple[Message, AttemptEvent | None]:
        """Have a process run a call. Return its answer and, if that is reported already, what to report after it."""
        try:
            process.send(request)
            message = process.receive()
        except (EOFError, OSError):
            raise _LostError("") from None
        except Exception as error:  # an exception's own class may be one that cannot be loaded here
            raise _LostError(f"its answer cannot be read: {type(error).__name__}: {error}") from error
        reply: Reply = message.head
        if not reply.more:
            return message, None
        event, _ = self._told(call, message, keep=False)
        with self._lock:
            stopped = self._calls[key] == _STOPPED
        if not stopped:
            self._tell(event)
        try:
            second: Reply = process.receive().head
        except (EOFError, OSError):
            # The value is here, so that it need not be lost with the process that was to store it.
            if not message.lengths:
                raise _LostError("", CommitFailed(call.attempt, TaskLostError(call.task_id, "while storing"))) from None
            raise _LostError("", self._caller.write(call, Encoded(tuple(message.parts)))) from None
        return message, second.event

    def _told(self, call: Call, message: Message, *, keep: bool = True) -> Told:
        """Return what to report of an answer, after doing for its durability what the worker could not."""
        reply: Reply = message.head
        event = reply.event
        if not isinstance(event, Finished | Resolved):
            return event, None
        value: Value | None = None
        dag: Dag | None = None
        if reply.is_dag:
            dag = self._codec.decode(message.parts)
        elif event.payload is not None:
            value = event.payload
        elif message.lengths:
            data = memoryview(message.data).toreadonly()  # so that everyone who restores the value gets a copy
            value = Payload(self._codec.name, message.lengths, data)  # type: ignore[arg-type]
        if isinstance(event, Finished):
            event.value, event.continuation = value, dag
        else:
            event.value = value
        if not keep or self._store.shared or call.persistence is Persistence.NONE or not message.lengths:
            return event, None
        seconds = event.seconds if isinstance(event, Finished) else 0.0
        kept = self._caller.keep(call, Encoded(tuple(message.parts)), seconds, owned=True)
        if kept.payload is not None and dag is None:
            value = kept.payload
        return told(call, value, dag, seconds, kept)

    def _conclude(self, call: Call, event: AttemptEvent, later: Later | None) -> None:
        key = key_of(call)
        with self._lock:
            state = self._calls[key]
            if state == _STOPPED or later is None:
                del self._calls[key]
        if state == _STOPPED:
            event, later = Ended(event.attempt), None
        self._tell(event)
        if later is not None:
            event = finish(call, later)
            with self._lock:
                state = self._calls.pop(key)
            self._tell(event)
            if state == _STOPPED:
                self._tell(Ended(event.attempt))

    def _tell(self, event: AttemptEvent) -> None:
        if self._closed:
            return
        try:
            self._report(event)
        except Exception:
            if not self._closed:
                _log.exception("the report of attempt %s was not taken", event.attempt)

    # --- requests -------------------------------------------------------------------------------------------------

    def _request(self, call: Call) -> "_Request":
        try:
            arguments = _pickle.encode((call.args, call.kwargs))
        except Exception as error:
            raise ArgumentError(
                call.task_id, "*", f"cannot be sent to a worker process ({type(error).__name__}: {error})"
            ) from error
        parts: list[Buffer] = list(arguments.parts)
        inputs: list[int | Payload] = []
        for position, value in enumerate(call.inputs):
            if isinstance(value, Payload) and value.data is None and self._store.shared:
                inputs.append(value)
                continue
            found: Sequence[Buffer]
            if isinstance(value, Payload) and value.codec != self._codec.name:
                try:  # the worker would take its parts for those of the usual codec
                    value = Live(restore(value, codec_of(value, self._codec), self._store))
                except Exception as error:
                    raise UnreadableInputError from error
            if isinstance(value, Live):
                try:
                    found = self._codec.encode(value.value).parts
                except Exception as error:
                    raise ArgumentError(
                        call.task_id,
                        f"input {position}",
                        f"the value cannot be sent to a worker process ({type(error).__name__}: {error})",
                    ) from error
            elif value.data is not None:
                found = parts_of(value)
            else:
                try:
                    found = restore(value, _AsParts(), self._store)
                except Exception as error:
                    raise UnreadableInputError from error
            inputs.append(len(found))
            parts.extend(found)
        token, task, file = self._task(call)
        fields = (
            call.kind.value, call.attempt, call.workflow_id, call.task_id, call.number, call.key,
            call.persistence.value, call.blob_key,
        )  # fmt: skip
        return _Request(Order(token, task, file, fields, len(arguments.parts), tuple(inputs)), parts)

    def _task(self, call: Call) -> tuple[int, bytes, tuple[str, str] | None]:
        """Return a call's task, pickled, with a number for it. Once for each task: it may be large."""
        with self._lock:
            known = self._tasks.get(call.task)
        if known is not None:
            return known
        try:
            body = dumps(call.task)
        except Exception as error:
            raise UsageError(
                f"task {call.task_id!r} cannot be sent to a worker process ({type(error).__name__}: {error}); "
                f"define its function at the top level of a module, or run it with executor='thread'"
            ) from error
        name = getattr(call.task, "__module__", None)
        path = getattr(sys.modules.get(name), "__file__", None) if isinstance(name, str) else None
        with self._lock:
            self._tokens += 1
            made = self._tasks[call.task] = (self._tokens, body, (name, path) if name and path else None)
        return made

    # --- processes ------------------------------------------------------------------------------------------------

    def _take(self, call: Call) -> "_Process":
        while not call.task.policy.isolation:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                break
            if process.alive():
                return process
            process.reap(_GRACE_S)
        return _Process(Hello(self._codec, self._opener, self._store.url, self._store.shared), self._lifeline)

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(process)
                return
        process.hang_up()
        process.reap(_GRACE_S)


class _LostError(Exception):
    """A worker is gone, or useless. `event` is what to report if it is not that the call was lost."""

    def __init__(self, problem: str, event: AttemptEvent | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.event = event


class _AsParts:
    """A codec that stops half-way: checks what was read, but leaves decoding to the worker."""

    name = "parts"

    def encode(self, value: Any) -> Encoded:
        raise NotImplementedError

    def decode(self, parts: Sequence[memoryview]) -> list[memoryview]:
        return list(parts)


class _Request:
    __slots__ = ("order", "parts")

    def __init__(self, order: Order, parts: list[Buffer]) -> None:
        self.order = order
        self.parts = parts


class _Process:
    """A worker and the socket to it. Used by one thread at a time, but for `kill`."""

    def __init__(self, hello: Hello, lifeline: int | None) -> None:
        self._known: set[int] = set()
        self._dead = False
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                self._pid = nursery.fork(theirs, lifeline)
        except BaseException:
            self._channel.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._pid_descriptor = -1
        with contextlib.suppress(OSError, AttributeError):  # an old kernel, or another system
            # Its death shows here even while something that it has started keeps the socket open.
            self._pid_descriptor = os.pidfd_open(self._pid)
            self._poll.register(self._pid_descriptor, select.POLLIN)
        try:
            with contextlib.suppress(OSError):  # dead already; the first call will find out
                send(self._channel, Surroundings.here())
                send(self._channel, hello)
        except BaseException:  # it does not pickle
            self.reap(0)
            raise

    def send(self, request: _Request) -> None:
        """Send a call, with its task unless the worker has that."""
        order = request.order
        if order.token in self._known:
            order = order._replace(task=None, file=None)
        else:
            if len(self._known) >= _TASKS_KNOWN:
                self._known.clear()
                order = order._replace(forget=True)
            self._known.add(order.token)
        send(self._channel, order, request.parts)

    def receive(self) -> Message:
        """Wait for an answer.

        Raises:
            EOFError: The worker died without one.
        """
        return receive(self._channel, self._wait)

    def alive(self) -> bool:
        """Whether the process is there. An idle one, which says nothing, may have been killed by somebody else."""
        return not self._poll.poll(0)

    def kill(self) -> None:
        """Kill the process and its group, now. Any thread may, as long as nobody reaps it."""
        if not self._dead:
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Let the process end by itself, which it does when it finds the socket closed."""
        if self._channel.fileno() >= 0:
            self._poll.unregister(self._channel)
            self._channel.close()

    def reap(self, grace_s: float) -> int | None:
        """Wait for the process, at most so long before it is killed. Return its exit status, if that can be known."""
        self.hang_up()
        if self._pid_descriptor >= 0:
            self._poll.poll(grace_s * 1000)
        self.kill()  # also what is left of its group
        if self._pid_descriptor >= 0:
            self._poll.poll()
            os.close(self._pid_descriptor)
            self._pid_descriptor = -1
        self._dead = True
        return nursery.reap(self._pid)

    def _wait(self) -> None:
        """Return when there is something to read."""
        mine = self._channel.fileno()
        while True:
            if any(descriptor == mine for descriptor, _ in self._poll.poll()):
                return
            # Dead; but it may have answered between the poll and its death.
            if not any(descriptor == mine for descriptor, _ in self._poll.poll(0)):
                raise EOFError


def _lost(call: Call, problem: str) -> AttemptEvent:
    error = TaskLostError(call.task_id, problem)
    if call.kind is CallKind.TASK:
        return Failed(call.attempt, error, system=True)
    return UndoFailed(call.attempt, error)


def _describe(status: int | None) -> str:
    if status is None:
        return "nobody saw how it ended"
    if status >= 0:
        return f"it exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    hint = "; if nobody killed it, the machine may have run out of memory" if -status == signal.SIGKILL else ""
    return f"it was killed by signal {-status} ({name}){hint}"
