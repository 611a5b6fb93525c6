"""The thread on which async tasks run, thousands at a time, for the executors that run in this process.

Only the task's own coroutine runs on the loop. What may block is done beside it, on a few helper threads: reading
inputs from the store, encoding results, and making them durable.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from exoflow.engine.events import AttemptEvent, Ended
from exoflow.executors.calling import (
    Begun,
    Caller,
    Prepared,
    Told,
    crashed,
    finish,
    is_simulated_crash,
    is_small,
    key_of,
    keys_of,
    unless_crashed,
)
from exoflow.executors.contract import Call, CallKind, Persistence, Report
from exoflow.executors.pool import Pool
from exoflow.graph.node import Node
from exoflow.tasks.context import current_call
from exoflow.values import Live

__all__ = ["Coroutines"]

_log = logging.getLogger(__name__)

_WAITING, _BEGUN, _STOPPED = range(3)

_CLOSING_S = 2.0
"""How long `Coroutines.close` waits for cancelled coroutines to clean up."""


class Coroutines:
    """One event loop on a thread of its own, started when the first coroutine comes.

    Args:
        caller: Does everything but awaiting.
        report: Told what became of the calls.
        limit: So many run at once; the others wait for their turn.
        helpers: So many threads read, encode and store.
    """

    def __init__(self, caller: Caller, report: Report, *, limit: int = 10_000, helpers: int = 8) -> None:
        self._caller = caller
        self._report = report
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._helped = 0
        self._helpers: Pool[Callable[[], None]] = Pool(self._help, limit=helpers, name="exoflow-helper")
        self._lock = threading.Lock()
        self._closed = False
        self._calls: dict[str, int] = {}
        """Every call that is here, and how far it is."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """Those whose coroutine may be cancelled. Belongs to the loop's thread."""
        self._inbox: deque[Callable[[], None]] = deque()
        self._backlog: deque[Callable[[], None]] = deque()
        self._awake = False

    def start(self, call: Call) -> None:
        """Run a call of a coroutine function."""
        with self._lock:
            self._calls[key_of(call)] = _WAITING
        if all(type(value) is Live for value in call.inputs):
            self._on_loop(lambda: self._begin(call, None))
        else:
            self._beside(lambda: self._prepare(call))

    def adopt(self, call: Call, begun: Begun) -> None:
        """Go on with a call whose function returned a coroutine, though it did not look like one that would."""
        with self._lock:
            self._calls[key_of(call)] = _WAITING
        self._on_loop(lambda: self._begin(call, begun))

    def stop(self, attempt: str) -> bool:
        """Stop an attempt, if it is here. Return whether it is; then `Ended` is reported when it has ended."""
        with self._lock:
            found = [key for key in keys_of(attempt) if key in self._calls]
            begun = [key for key in found if self._calls[key] != _WAITING]
            for key in found:
                if key in begun:
                    self._calls[key] = _STOPPED
                else:
                    del self._calls[key]
        for key in begun:
            self._on_loop(lambda key=key: self._cancel(key))  # type: ignore[misc]
        if found and not begun:
            self._tell(Ended(attempt))
        return bool(found)

    def close(self) -> None:
        """Cancel what runs, and end the thread. Nothing is reported any more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread = self._loop, self._thread
            if loop is not None:
                loop.call_soon_threadsafe(self._end)
        self._helpers.close()
        if loop is None or thread is None:
            return
        if thread is not threading.current_thread():
            thread.join(_CLOSING_S + 1.0)

    # --- on any thread --------------------------------------------------------------------------------------------

    def _on_loop(self, work: Callable[[], None]) -> None:
        self._inbox.append(work)
        if self._awake:  # a wake-up is a system call; one serves all that comes until the loop looks
            return
        self._awake = True
        with self._lock:
            if self._closed:
                return
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run_loop, args=(self._loop,), name="exoflow-loop", daemon=True
                )
                self._thread.start()
            self._loop.call_soon_threadsafe(self._drain)

    def _beside(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._helped += 1
            self._helpers.put(work, self._helped)

    def _help(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._helped -= 1

    def _tell(self, event: AttemptEvent) -> None:
        if self._closed:
            return
        try:
            self._report(event)
        except Exception:
            if not self._closed:
                _log.exception("the report of attempt %s was not taken", event.attempt)

    def _conclude(self, call: Call, told: Told) -> None:
        """Report an outcome, and do what is left to do after it."""
        key = key_of(call)
        event, later = told
        with self._lock:
            state = self._calls.get(key)
            if state is None:  # dropped before it began
                return
            if state == _STOPPED or later is None:
                del self._calls[key]
        if state == _STOPPED:
            self._tell(Ended(call.attempt))
            return
        self._tell(event)
        if later is not None:
            self._tell(finish(call, later))
            with self._lock:
                state = self._calls.pop(key)
            if state == _STOPPED:
                self._tell(Ended(call.attempt))

    # --- on a helper's thread -------------------------------------------------------------------------------------

    def _prepare(self, call: Call) -> None:
        try:
            prepared = self._caller.prepare(call)
        except BaseException as error:
            self._conclude(call, (self._not_begun(call, error), None))
            return
        self._on_loop(lambda: self._begin(call, prepared))

    def _not_begun(self, call: Call, error: BaseException) -> AttemptEvent:
        if isinstance(error, Exception):
            return self._caller.unprepared(call, error)
        if is_simulated_crash(error):
            return crashed(call, error)
        raise error

    # --- on the loop's thread -------------------------------------------------------------------------------------

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _drain(self) -> None:
        self._awake = False  # first, so that work which comes from now on wakes the loop again
        while self._inbox:
            work = self._inbox.popleft()
            try:
                work()
            except Exception:  # what waits behind it must not be forgotten
                _log.exception("the loop of async tasks went on after an error that should have been reported")

    def _let_in(self) -> None:
        while self._backlog and len(self._tasks) < self._limit:
            self._backlog.popleft()()

    def _begin(self, call: Call, found: Prepared | Begun | None) -> None:
        if len(self._tasks) >= self._limit:
            self._backlog.append(lambda: self._begin(call, found))
            return
        assert self._loop is not None
        key = key_of(call)
        with self._lock:
            dropped = self._calls.get(key) != _WAITING
            if not dropped:
                self._calls[key] = _BEGUN
        if dropped:
            if isinstance(found, Begun):
                found.coroutine.close()
            return
        if isinstance(found, Begun):
            context = found.context
            running = self._await(key, call, found.coroutine, found.started)
        else:
            if found is None:
                try:
                    found = self._caller.prepare(call)
                except Exception as error:
                    self._conclude(call, (self._caller.unprepared(call, error), None))
                    return
            assert isinstance(found, tuple)
            context = copy_context()
            context.run(current_call.set, call)
            running = self._call(key, call, found)
        self._tasks[key] = self._loop.create_task(running, context=context)

    async def _call(self, key: str, call: Call, prepared: Prepared) -> None:
        function, args, kwargs = prepared
        del prepared
        started = time.perf_counter()
        try:
            value = function(*args, **kwargs)
            del args, kwargs
            if type(value) is CoroutineType:
                value = await value
        except BaseException as error:
            self._ended(key, call, None, error, time.perf_counter() - started)
        else:
            self._ended(key, call, value, None, time.perf_counter() - started)

    async def _await(self, key: str, call: Call, coroutine: Any, started: float) -> None:
        try:
            value = await coroutine
        except BaseException as error:
            self._ended(key, call, None, error, time.perf_counter() - started)
        else:
            self._ended(key, call, value, None, time.perf_counter() - started)

    def _ended(self, key: str, call: Call, value: Any, error: BaseException | None, seconds: float) -> None:
        del self._tasks[key]
        if self._backlog:
            assert self._loop is not None
            self._loop.call_soon(self._let_in)
        if error is not None:
            event = crashed(call, error) if is_simulated_crash(error) else self._caller.raised(call, error, seconds)
            self._conclude(call, (event, None))
        elif is_small(value) or (
            call.persistence is Persistence.NONE and call.kind is CallKind.TASK and not isinstance(value, Node)
        ):
            self._conclude(call, self._caller.returned(call, value, seconds))
        else:
            self._beside(
                lambda: self._conclude(call, unless_crashed(call, lambda: self._caller.returned(call, value, seconds)))
            )

    def _cancel(self, key: str) -> None:
        task = self._tasks.get(key)
        if task is not None:
            # Not at once: a task cancelled before its first step would never run the code that reports its end.
            assert self._loop is not None
            self._loop.call_soon(task.cancel)

    def _end(self) -> None:
        assert self._loop is not None
        loop = self._loop
        self._backlog.clear()
        for key in self._tasks:
            self._cancel(key)
        deadline = loop.time() + _CLOSING_S

        def stop_when_done() -> None:
            if not self._tasks or loop.time() > deadline:
                loop.stop()
            else:
                loop.call_later(0.01, stop_when_done)

        loop.call_soon(stop_when_done)
