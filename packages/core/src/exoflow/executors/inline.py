"""The executor without threads of its own: a call runs where it is started, one after the other.

For debugging, for tests, and for tasks so short that a thread would cost more than they do.
"""

import logging
import threading
from collections.abc import Callable

from exoflow.engine.events import Ended
from exoflow.executors.calling import Begun, Caller, Later, finish, key_of, keys_of, runs_on_loop
from exoflow.executors.contract import Call, Report, Services
from exoflow.executors.coroutines import Coroutines
from exoflow.executors.pool import Pool

__all__ = ["InlineExecutor"]

_log = logging.getLogger(__name__)


class InlineExecutor:
    """Runs functions in `start`, on the driver's thread; coroutines on a loop beside it, as every executor does.

    A large outcome of an ``async`` task is written on a helper thread, while its dependents run.
    On the main thread Ctrl-C ends the driver, not the task: it goes through `start`.

    Args:
        services: What the driver gives every executor.
        coroutines: At most so many async tasks run at once.
        writers: So many large outcomes are written at once.
    """

    name = "inline"
    inline = True

    def __init__(self, services: Services, *, coroutines: int = 10_000, writers: int = 4) -> None:
        self._report: Report = services.report
        self._caller = Caller(services.store, services.codec, interruptible=True)
        self._coroutines = Coroutines(self._caller, services.report, limit=coroutines)
        self._writers: Pool[Callable[[], None]] = Pool(lambda work: work(), limit=writers, name="exoflow-writer")
        self._lock = threading.Lock()
        self._writing: dict[str, bool] = {}
        """Calls whose outcome is being written; whether somebody waits for the end of that."""
        self._closed = False

    def start(self, call: Call) -> None:
        """Run a function to its end, or give a coroutine to the loop."""
        if runs_on_loop(call):
            self._coroutines.start(call)
            return
        told = self._caller.perform(call)
        if isinstance(told, Begun):
            self._coroutines.adopt(call, told)
            return
        event, later = told
        self._report(event)
        if later is not None:
            self._write(call, later)

    def stop(self, attempt: str) -> None:
        """Cancel a coroutine. A function cannot be running now."""
        with self._lock:
            writing = [key for key in keys_of(attempt) if key in self._writing]
            for key in writing:
                self._writing[key] = True
        if not writing and not self._coroutines.stop(attempt):
            self._report(Ended(attempt))

    def close(self) -> None:
        """Cancel coroutines; leave what is being written to its end, which nobody is told of."""
        self._closed = True
        self._writers.close()
        self._coroutines.close()

    def _write(self, call: Call, later: Later) -> None:
        key = key_of(call)

        def work() -> None:
            event = finish(call, later)
            with self._lock:
                stopped = self._writing.pop(key)
            if self._closed:
                return
            try:
                self._report(event)
                if stopped:
                    self._report(Ended(call.attempt))
            except Exception:
                if not self._closed:
                    _log.exception("the report of attempt %s was not taken", call.attempt)

        with self._lock:
            self._writing[key] = False
            self._writers.put(work, len(self._writing))
