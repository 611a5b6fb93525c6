"""Threads that take work from one queue, and as many of them as there is work, up to a limit."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pool"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Pool(Generic[T]):
    """A queue and the threads that empty it.

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
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._queue: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()

    def put(self, item: T, wanted: int) -> None:
        """Have *item* run. Called by one thread at a time.

        Args:
            item: What to run.
            wanted: How many items are queued or running, this one included. There are as many threads as that, up to
                the limit, so that no item waits for another that is blocked while a thread could be had.
        """
        self._queue.put((item,))
        size = len(self._threads)
        if size < wanted and size < self._limit and not self._closed:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{size + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Let the threads end, each after the item it is at. Items in the queue are dropped."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the threads to end, so long at most."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        get, run = self._queue.get, self._run
        while True:
            item = get()
            if item is None or self._closed:
                return
            try:
                run(item[0])
            except Exception:
                _log.exception("a worker thread went on after an error that should have been reported")
            del item  # an idle thread must not keep a value alive
