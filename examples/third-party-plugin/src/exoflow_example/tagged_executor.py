"""An executor of threads that lets only so many tasks with a tag run at once.

``@exoflow.task(resources={"gpu": 1})`` waits until a ``gpu`` is free, while tasks without a tag go on. How a call
becomes an outcome is the same in every executor and left to `exoflow.executors.calling.Caller`; an executor decides
when and where it runs, and what stopping it means.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TypeAlias

import attrs

from exoflow.engine.events import AttemptEvent, Ended, Failed, UndoFailed
from exoflow.errors import UnknownOptionError
from exoflow.executors.calling import Begun, Caller, Told, is_simulated_crash, key_of, keys_of
from exoflow.executors.contract import Call, CallKind, Services

__all__ = ["TaggedExecutor"]

Needs: TypeAlias = tuple[tuple[str, float], ...]
"""Tags, and how much of each."""


@attrs.define(eq=False)
class _Running:
    """A call that has begun."""

    stopped: bool = False
    loop: asyncio.AbstractEventLoop | None = None
    """While a coroutine runs."""
    task: "asyncio.Task[object] | None" = None


class TaggedExecutor:
    """Runs calls on threads of this process, each when its tags are free.

    Calls that need the same wait in line; one that fits overtakes those that do not. An async task takes a thread,
    too. A function that has begun cannot be stopped; a coroutine is cancelled.

    Args:
        services: What the driver gives every executor.
        limits: How much there is of each tag; 1 of those not named.
        workers: Calls at a time, with tags or without.
    """

    name = "tagged"
    inline = False

    def __init__(self, services: Services, *, limits: Mapping[str, float], workers: int) -> None:
        for tag, limit in limits.items():
            if not limit > 0:
                raise UnknownOptionError(f"limits[{tag!r}]={limit!r}: expected a number above 0")
        self._report = services.report
        self._caller = Caller(services.store, services.codec)
        self._limits = dict(limits)
        self._workers = workers
        self._changed = threading.Condition()
        self._waiting: dict[Needs, deque[tuple[int, Call]]] = {}
        """By what they need: however many calls wait, only the head of each line has to be looked at."""
        self._queued: dict[str, Needs] = {}
        self._running: dict[str, _Running] = {}
        self._used: dict[str, float] = {}
        self._numbers = itertools.count()
        self._threads = self._idle = 0
        self._closed = False

    def start(self, call: Call) -> None:
        """See `Executor.start`."""
        needs: Needs = tuple(sorted((tag, float(amount)) for tag, amount in call.task.policy.resources.items()))
        for tag, amount in needs:
            if amount > self._limit(tag):
                error = UnknownOptionError(
                    f"task {call.task_id!r} needs {amount:g} of {tag!r}, and there is {self._limit(tag):g}; "
                    f"raise limits={{{tag!r}: ...}}"
                )
                kind = Failed if call.kind is CallKind.TASK else UndoFailed
                self._tell(kind(call.attempt, error))
                return
        with self._changed:
            self._waiting.setdefault(needs, deque()).append((next(self._numbers), call))
            self._queued[key_of(call)] = needs
            if self._idle < len(self._queued) and self._threads < self._workers:
                self._threads += 1
                threading.Thread(target=self._work, name=f"exoflow-tagged-{self._threads}", daemon=True).start()
            self._changed.notify()

    def stop(self, attempt: str) -> None:
        """See `Executor.stop`."""
        begun = False
        with self._changed:
            for key in keys_of(attempt):
                needs = self._queued.pop(key, None)
                if needs is not None:
                    self._waiting[needs] = deque(item for item in self._waiting[needs] if key_of(item[1]) != key)
                elif key in self._running:
                    begun = True
                    self._cancel(self._running[key])
        if not begun:
            self._tell(Ended(attempt))

    def close(self) -> None:
        """See `Executor.close`."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._queued.clear()
            for running in self._running.values():
                self._cancel(running)
            self._changed.notify_all()

    # --- on the threads -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                while (taken := self._take()) is None:
                    if self._closed:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                call, needs = taken
                running = self._running[key_of(call)] = _Running()
            self._run(call, needs, running)
            del taken, call  # an idle thread must not keep a value alive

    def _take(self) -> tuple[Call, Needs] | None:
        """Remove and return the call that has waited longest of those that fit."""
        fitting = [
            (line[0][0], needs)
            for needs, line in self._waiting.items()
            if line and all(self._used.get(tag, 0.0) + amount <= self._limit(tag) for tag, amount in needs)
        ]
        if not fitting:
            return None
        needs = min(fitting)[1]
        _, call = self._waiting[needs].popleft()
        del self._queued[key_of(call)]
        for tag, amount in needs:
            self._used[tag] = self._used.get(tag, 0.0) + amount
        return call, needs

    def _run(self, call: Call, needs: Needs, running: _Running) -> None:
        try:
            told = self._caller.perform(call)
            event, later = self._await(call, told, running) if isinstance(told, Begun) else told
        except BaseException as error:
            if not is_simulated_crash(error):
                raise
            event, later = Failed(call.attempt, error, system=True, ended=False), None
        with self._changed:
            # The task is over, so its tags are free, though its outcome may still have to be stored.
            for tag, amount in needs:
                self._used[tag] -= amount
            stopped = running.stopped
            if stopped or later is None:
                del self._running[key_of(call)]
            self._changed.notify_all()
        if stopped:
            self._tell(Ended(call.attempt))
            return
        self._tell(event)
        if later is not None:
            event = later()
            with self._changed:
                del self._running[key_of(call)]
            self._tell(event)
            if running.stopped:
                self._tell(Ended(call.attempt))

    def _await(self, call: Call, begun: Begun, running: _Running) -> Told:
        async def supervised() -> object:
            with self._changed:
                if running.stopped:
                    begun.coroutine.close()
                    raise asyncio.CancelledError
                running.loop, running.task = asyncio.get_running_loop(), asyncio.current_task()
            try:
                return await begun.coroutine
            finally:
                with self._changed:  # from here on the loop may close, so nobody may call it any more
                    running.loop = running.task = None

        try:
            with asyncio.Runner() as runner:
                value = runner.run(supervised(), context=begun.context)
        except BaseException as error:
            return self._caller.raised(call, error, time.perf_counter() - begun.started), None
        return self._caller.returned(call, value, time.perf_counter() - begun.started)

    def _cancel(self, running: _Running) -> None:
        running.stopped = True
        if running.loop is not None and running.task is not None:
            running.loop.call_soon_threadsafe(running.task.cancel)

    def _limit(self, tag: str) -> float:
        return self._limits.get(tag, 1.0)

    def _tell(self, event: AttemptEvent) -> None:
        if not self._closed:
            self._report(event)
