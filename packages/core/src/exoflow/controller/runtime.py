"""Time and threads, as a controller needs them. Behind a protocol, so that a simulation can have its own."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

__all__ = ["Loop", "Runtime", "ThreadRuntime", "Timer", "Workers"]

log = logging.getLogger(__name__)


class Timer:
    """A call to be made later, unless it is cancelled."""

    __slots__ = ("call", "handle")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Make it not happen. In a turn, on whatever thread; asyncio's own cancel only counts what is left to sweep."""
        self.call = None
        if self.handle is not None:
            self.handle.cancel()


class Loop(Protocol):
    """Where a controller has those of its turns that no other thread takes."""

    def later(self, after_s: float, call: Callable[[], None]) -> Timer:
        """Have *call* made in a turn, after a while. From any thread."""
        ...

    def wake(self) -> None:
        """Have a turn, soon. From any thread."""
        ...

    def stop(self) -> None:
        """End, after one more turn. Whoever wakes it afterwards has the turn himself."""
        ...

    def is_here(self) -> bool:
        """Whether the caller is on the loop's own thread, and must not wait for it."""
        ...


class Workers(Protocol):
    """Threads that do jobs in the order in which they came."""

    def submit(self, job: Callable[[], None]) -> None:
        """Have *job* done. It raises nothing."""
        ...

    def close(self) -> None:
        """Take no more; the threads end when the jobs are done."""
        ...


class Runtime(Protocol):
    """What a controller asks of the machine it runs on, beside its store and its executors."""

    def time(self) -> float:
        """Seconds since the epoch, UTC; for records and deadlines."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; for waiting."""
        ...

    def random(self) -> float:
        """A number from 0 up to 1; for jitter."""
        ...

    def loop(self, turn: Callable[[], None], ring: Callable[[Callable[[], None]], None]) -> Loop:
        """Return a loop that is running.

        Args:
            turn: Has a turn.
            ring: Makes a timer's call in a turn.
        """
        ...

    def workers(self, name: str, count: int) -> Workers:
        """Return workers of that name, up to *count* of them."""
        ...


class ThreadRuntime:
    """The real one: the machine's clock, an asyncio loop on a thread, and daemon threads."""

    def __init__(self) -> None:
        from random import Random

        self.random = Random().random
        self.time, self.monotonic = time.time, time.monotonic

    def loop(self, turn: Callable[[], None], ring: Callable[[Callable[[], None]], None]) -> Loop:
        """See `Runtime.loop`."""
        return _AsyncioLoop(turn, ring)

    def workers(self, name: str, count: int) -> Workers:
        """See `Runtime.workers`. A thread is made with the first jobs, so that what is not needed costs nothing."""
        return _Threads(name, count)


class _AsyncioLoop:
    def __init__(self, turn: Callable[[], None], ring: Callable[[Callable[[], None]], None]) -> None:
        self._turn, self._ring = turn, ring
        self._loop = asyncio.new_event_loop()
        self._ended = self._signalled = False
        self._thread = threading.Thread(target=self._live, name="exoflow-controller", daemon=True)
        self._thread.start()

    def later(self, after_s: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        if self.is_here():
            self._set(timer, after_s)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: there will be no turn
                self._loop.call_soon_threadsafe(self._set, timer, after_s)
        return timer

    def wake(self) -> None:
        if self._ended:
            self._turn()  # nobody else would: whoever asks for something is told that this controller is no more
        elif not self._signalled:
            self._signalled = True
            with contextlib.suppress(RuntimeError):  # the loop has just ended, and its thread has the last turn
                self._loop.call_soon_threadsafe(self._woken)

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def _set(self, timer: Timer, after_s: float) -> None:
        if timer.call is not None:
            timer.handle = self._loop.call_later(max(0.0, after_s), self._due, timer)

    def _due(self, timer: Timer) -> None:
        if timer.call is not None:
            self._ring(timer.call)

    def _woken(self) -> None:
        self._signalled = False
        self._turn()

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._ended = True
            self._turn()
            self._loop.close()


class _Threads:
    def __init__(self, name: str, count: int) -> None:
        self._name, self._count = name, count
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("%s went on after an error that should have been reported", self._name)
