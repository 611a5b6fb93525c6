"""A result that will come, as cheap as it can be: ten thousand workflows at once wait for one each.

`concurrent.futures.Future` makes a condition and a lock for every instance. Here an event is made only by somebody
who really waits, and one lock serves all.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

__all__ = ["Promise"]

T = TypeVar("T")

_lock = threading.Lock()


class Promise(Generic[T]):
    """Settled once, with a value or an exception, from any thread."""

    __slots__ = ("_callbacks", "_error", "_settled", "_value")

    def __init__(self) -> None:
        self._settled = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    def done(self) -> bool:
        """Whether it is settled."""
        return self._settled

    def resolve(self, value: T) -> None:
        """Settle it with a value; the first one counts."""
        self._settle(value, None)

    def reject(self, error: BaseException) -> None:
        """Settle it with an exception; the first one counts."""
        self._settle(None, error)

    def result(self, timeout_s: float | None = None) -> T:
        """Wait, and return the value or raise the exception.

        Raises:
            TimeoutError: Not settled in time.
        """
        if not self._settled:
            event = threading.Event()
            self._when_settled(event.set)
            if not event.wait(timeout_s):
                raise TimeoutError
        return self._get()

    def __await__(self) -> Generator[object, None, T]:
        if not self._settled:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def tell() -> None:
                with contextlib.suppress(RuntimeError):  # its loop was closed meanwhile: nobody waits there any more
                    loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))

            self._when_settled(tell)
            yield from future.__await__()
        return self._get()

    def _get(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _when_settled(self, callback: Callable[[], None]) -> None:
        with _lock:
            if not self._settled:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        with _lock:
            if self._settled:
                return
            self._value, self._error = value, error
            self._settled = True
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()
