"""Ctrl-C, and the signal by which service managers end a process: both let what runs come to its end."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Terminated", "terminable"]


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Handled as Ctrl-C is, with an exit code of its own."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into `Terminated` meanwhile, unless somebody else handles it."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
