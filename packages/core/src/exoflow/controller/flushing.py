"""Group commit: whatever became ready while one flush was under way goes out in the next, for all workflows together."""

from collections.abc import Callable
from functools import partial
from typing import Any

from exoflow.controller.runtime import Workers
from exoflow.journal.writer import JournalWriter

__all__ = ["Flusher"]


class Flusher:
    """The one place that touches the journal's writer.

    Jobs (a flush, a take-over) run one at a time, on a thread of their own; or, when nothing else could run
    meanwhile, on the caller's: a thread's wake-up costs about as much as the disk.

    Args:
        writer: The journal's.
        workers: One thread.
        post: Has a call made in the controller's turn; called on that thread, when a job has ended.
    """

    def __init__(self, writer: JournalWriter, workers: Workers, post: Callable[[Callable[[], None]], None]) -> None:
        self.writer = writer
        self._workers, self._post = workers, post
        self._pending = 0

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
        self._workers.submit(partial(self._do, job, done))

    def close(self) -> None:
        """Let the thread end once its jobs are done."""
        self._workers.close()

    def _do(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
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
