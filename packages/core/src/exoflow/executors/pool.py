"""Threads that take work from one queue, and as many of them as there is work, up to a limit."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pool"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Pool(Generic[T]):
    """A queue and the threads that empty it.

    Of the threads that have nothing to do, the last to have become so is given the next item: its stack and its data
    are still in the processor's cache. A `queue.SimpleQueue` wakes the one that has slept longest, and takes half as
    long again to hand an item over when several wait.

    Threads are daemons: one that is stuck in a task must not keep the interpreter from ending.

    Args:
        run: Called with each item, on one of the threads. What it raises is logged.
        limit: At most so many threads.
        name: What the threads are called.
    """

    def __init__(self, run: Callable[[T], None], *, limit: int, name: str) -> None:
        self._run = run
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._idle: list[_Bed[T]] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._here = threading.local()
        """Of the thread that asks: whether its next item may be handed to it by itself, and that item."""

    def put(self, item: T, wanted: int) -> None:
        """Have *item* run. Called by one thread at a time.

        Args:
            item: What to run.
            wanted: How many items are queued or running, this one included. There are as many threads as that, up to
                the limit, so that no item waits for another that is blocked while a thread could be had.
        """
        here = self._here
        if getattr(here, "free", False):
            # This very thread is about to come back for work: waking another would take longer than most tasks.
            here.free = False
            here.next = (item,)
            return
        with self._lock:
            bed = self._idle.pop() if self._idle else None
            if bed is None:
                self._items.append(item)
        if bed is not None:
            bed.item = (item,)
            bed.wake()
        elif (size := len(self._threads)) < wanted and size < self._limit and not self._closed:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{size + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def lend(self, use: Callable[[], None]) -> None:
        """Call *use* as the last thing `run` does on a thread of this pool; one item put meanwhile comes back to it."""
        here = self._here
        here.free = True
        try:
            use()
        finally:
            here.free = False

    def close(self) -> None:
        """Let the threads end, each after the item it is at. Items in the queue are dropped."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._items.clear()
        for bed in idle:
            bed.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end, so long at most."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        run, bed, here = self._run, _Bed[T](), self._here
        here.next = None
        while not self._closed:
            handed, here.next = here.next, None
            if handed is None:
                with self._lock:
                    if self._closed:
                        return
                    if self._items:
                        handed = (self._items.popleft(),)
                    else:
                        self._idle.append(bed)
                if handed is None:
                    bed.sleep()  # even if there is work by now: the wake-up that comes with it must not be left over
                    handed, bed.item = bed.item, None
                    if handed is None:  # woken to end
                        return
            try:
                run(handed[0])
            except Exception:
                _log.exception("a worker thread went on after an error that should have been reported")
            del handed  # an idle thread must not keep a value alive


class _Bed(Generic[T]):
    """Where a thread without work sleeps, and finds its work when it is woken."""

    __slots__ = ("_sleeps", "item", "sleep", "wake")

    def __init__(self) -> None:
        self.item: tuple[T] | None = None
        self._sleeps = threading.Lock()
        self._sleeps.acquire()
        self.sleep = self._sleeps.acquire
        self.wake = self._sleeps.release
