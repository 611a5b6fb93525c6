"""Group commit: whatever became ready while one flush was under way goes out in the next, for all workflows together."""

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from exoflow.journal.writer import JournalWriter

__all__ = ["Flusher"]


class Flusher:
    """The one place that touches the journal's writer.

    Jobs (a flush, a take-over) run one at a time, on a thread of their own; or, when nothing else could run
    meanwhile, on the caller's: a thread's wake-up costs about as much as the disk.
    """

    def __init__(self, writer: JournalWriter, post: Callable[[Callable[[], None]], None]) -> None:
        self.writer = writer
        self._pending = 0
        self._post = post
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]] | None] = (
            SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is queued or runs. Changes in the driver's turns only."""
        return self._pending > 0

    def flush(self, records: list[bytes]) -> None:
        """Make *records* durable, as one batch, before returning."""
        self.writer.append(records)

    def submit(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Run *job* on the thread; then post *done* with its result or its exception to the driver."""
        self._pending += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="exoflow-journal", daemon=True)
            self._thread.start()
        self._jobs.put((job, done))

    def close(self) -> None:
        """Let the thread end once its jobs are done."""
        self._jobs.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result: Any = None
            problem: BaseException | None = None
            try:
                result = job()
            except BaseException as error:
                problem = error
            self._post(partial(self._finish, done, result, problem))

    def _finish(
        self, done: Callable[[Any, BaseException | None], None], result: Any, problem: BaseException | None
    ) -> None:
        self._pending -= 1
        done(result, problem)
