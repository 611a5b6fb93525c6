"""The default executor: a pool of threads for functions, and one event loop for coroutines."""

import logging
import os
import threading
from functools import partial

from exoflow.engine.events import AttemptEvent, Ended
from exoflow.executors.calling import Begun, Caller, crashed, finish, is_simulated_crash, key_of, keys_of, runs_on_loop
from exoflow.executors.contract import Call, Services
from exoflow.executors.coroutines import Coroutines
from exoflow.executors.pool import Pool

__all__ = ["ThreadExecutor"]

_log = logging.getLogger(__name__)

_QUEUED, _BEGUN, _STOPPED = range(3)


class ThreadExecutor:
    """Runs calls on threads of this process; values pass from one to the next as the objects they are.

    A thread cannot be stopped: a call that has begun goes on to its end after `stop`, and its outcome is thrown away.

    Args:
        services: What the driver gives every executor.
        workers: At most so many functions run at once; by default what `concurrent.futures` takes, four more than
            there are cores, up to 32. They are started as they are needed.
        coroutines: At most so many async tasks run at once.
    """

    name = "thread"
    inline = False

    def __init__(self, services: Services, *, workers: int | None = None, coroutines: int = 10_000) -> None:
        self._report = services.report
        self._lend = services.lend
        self._caller = Caller(services.store, services.codec)
        self._coroutines = Coroutines(self._caller, services.report, limit=coroutines)
        self._pool = Pool(self._run, limit=workers or min(32, (os.cpu_count() or 1) + 4), name="exoflow-worker")
        self._lock = threading.Lock()
        self._calls: dict[str, int] = {}
        """Every call that is queued or runs, and how far it is."""
        self._closed = False

    def start(self, call: Call) -> None:
        """Queue a call, with a thread for it unless all are taken."""
        if runs_on_loop(call):
            self._coroutines.start(call)
            return
        self._calls[key_of(call)] = _QUEUED
        self._pool.put(call, len(self._calls))

    def stop(self, attempt: str) -> None:
        """Drop a call that has not begun; wait for one that has."""
        begun = False
        with self._lock:
            for key in keys_of(attempt):
                state = self._calls.get(key)
                if state == _QUEUED:
                    del self._calls[key]
                elif state is not None:
                    self._calls[key] = _STOPPED
                    begun = True
        if not begun and not self._coroutines.stop(attempt):
            self._tell(Ended(attempt))

    def close(self) -> None:
        """Drop what has not begun, cancel coroutines, and let the threads end when they can."""
        self._closed = True
        self._pool.close()
        self._coroutines.close()

    def _run(self, call: Call) -> None:
        key = key_of(call)
        with self._lock:
            if self._closed or self._calls.get(key) != _QUEUED:
                return
            self._calls[key] = _BEGUN
        try:
            told = self._caller.perform(call)
        except BaseException as error:
            if not is_simulated_crash(error):
                raise
            told = crashed(call, error), None
        if isinstance(told, Begun):
            with self._lock:
                stopped = self._calls.pop(key) == _STOPPED
            if stopped:
                told.coroutine.close()
                self._tell(Ended(call.attempt))
            else:
                self._coroutines.adopt(call, told)
            return
        event, later = told
        # The call leaves before it is reported: the driver may answer with the next one, which then finds this thread
        # free instead of starting another.
        with self._lock:
            state = self._calls[key]
            if later is None or state == _STOPPED:
                del self._calls[key]
        if state == _STOPPED:
            event, later = Ended(call.attempt), None
        if later is None and self._lend is not None and not self._closed:
            self._pool.lend(partial(self._lend, event))
            return
        self._tell(event)
        if later is not None:
            event = finish(call, later)
            with self._lock:
                stopped = self._calls.pop(key) == _STOPPED
            self._tell(event)
            if stopped:
                self._tell(Ended(call.attempt))

    def _tell(self, event: AttemptEvent) -> None:
        if self._closed:
            return
        try:
            self._report(event)
        except Exception:
            if not self._closed:
                _log.exception("the report of attempt %s was not taken", event.attempt)
