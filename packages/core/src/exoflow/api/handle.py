"""What the caller of a workflow holds on to."""

from collections.abc import Callable, Generator
from typing import Any

from exoflow.controller.promise import Promise
from exoflow.errors import UnavailableError
from exoflow.states import WorkflowStatus
from exoflow.values import Live, Payload, Value

__all__ = ["Handle"]


class Handle:
    """A workflow that was accepted: its submission is durable. Awaitable, and usable from any thread."""

    def __init__(
        self,
        workflow_id: str,
        promise: Promise[Value],
        decode: Callable[[Payload], Any],
        status: Callable[[str], WorkflowStatus],
        may_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.workflow_id = workflow_id
        self._promise = promise
        self._decode = decode
        self._status = status
        self._may_wait = may_wait

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the workflow and return its result.

        Args:
            timeout_s: Seconds to wait; None waits as long as it takes.

        Raises:
            TaskFailedError: A task failed for good; ``__cause__`` is its own error.
            WorkflowCancelledError: It was cancelled.
            NeedsAttentionError: It stopped at an effect whose fate is unknown.
            UsageError: A task would wait here for a workflow of its own engine.
            UnavailableError: The store does not answer; or *timeout_s* passed, and the workflow goes on.
            FencedError: Another controller took the workflow over.
        """
        if not self._promise.done():
            self._may_wait()
        try:
            value = self._promise.result(timeout_s)
        except TimeoutError:
            if self._promise.done():
                raise
            raise UnavailableError(
                f"workflow {self.workflow_id!r} has not ended within {timeout_s} s; it goes on, wait for it again"
            ) from None
        return value.value if isinstance(value, Live) else self._decode(value)

    def done(self) -> bool:
        """Whether `result` would return or raise at once."""
        return self._promise.done()

    def status(self) -> WorkflowStatus:
        """Where the workflow stands."""
        return self._status(self.workflow_id)

    def __await__(self) -> Generator[object, None, Any]:
        value = yield from self._promise.__await__()
        return value.value if isinstance(value, Live) else self._decode(value)

    def __repr__(self) -> str:
        return f"<workflow {self.workflow_id}: {'done' if self.done() else 'running'}>"
