"""A process that makes worker processes by forking itself, so that each is ready in milliseconds.

Starting Python and importing ExoFlow takes a few hundred milliseconds, too much for a task that wants a process of its
own. The nursery has paid that once, holds nothing but what it imported, has one thread, and opens no store: so what is
forked from it is clean, as what is forked from the user's process would not be. There is one for each process that
needs it, from the first time until that process ends.
"""

import atexit
import contextlib
import errno
import gc
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["Nursery", "nursery", "tend"]

_ORDER = struct.Struct("<cq")
_ANSWER = struct.Struct("<q")
_FORK, _REAP = b"f", b"r"


class Nursery:
    """The nursery of this process. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._control: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None

    def fork(self, channel: socket.socket, lifeline: int | None = None) -> int:
        """Make a worker that is told what to do over *channel*, and writes to the standard streams of this process.

        Args:
            channel: Where it is told.
            lifeline: A descriptor that it keeps open as long as it lives, and its own children do not.

        Raises:
            OSError: There can be no more processes.
        """
        with self._lock, _standard_streams() as streams:
            descriptors = (channel.fileno(), *streams, *(() if lifeline is None else (lifeline,)))
            if not self._runs():
                self._start()
            try:
                pid = self._ask(_FORK, 0, descriptors)
            except (EOFError, ConnectionError):  # somebody killed the nursery
                self._start()
                pid = self._ask(_FORK, 0, descriptors)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def reap(self, pid: int) -> int | None:
        """Take a worker that has died off the system's list, after which its number may be anybody's.

        Returns:
            Its exit status as `subprocess` has it; None if that cannot be known.
        """
        with self._lock:
            if not self._runs():
                return None
            try:
                status = self._ask(_REAP, pid, ())
            except (EOFError, ConnectionError):
                return None
        return status if status < 1 << 16 else None

    def close(self) -> None:
        """End the nursery, and with it all that came from it."""
        with self._lock:
            if not self._runs():
                return
            assert self._control is not None
            assert self._popen is not None
            self._control.close()
            self._control = None
            try:
                self._popen.wait(2.0)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()

    def _runs(self) -> bool:
        return self._control is not None and self._owner == os.getpid()  # a fork of this process needs its own

    def _start(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._popen is not None and self._owner == os.getpid():
            self._popen.kill()
            self._popen.wait()
        self._control, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {[entry for entry in sys.path if isinstance(entry, str)]!r}; "
            f"from exoflow.executors.nursery import tend; tend({theirs.fileno()}, {os.getpid()})"
        )
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, *flags, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C in the terminal is for the process that owns the workers
            )
        self._owner = os.getpid()

    def _ask(self, kind: bytes, pid: int, descriptors: tuple[int, ...]) -> int:
        assert self._control is not None
        socket.send_fds(self._control, [_ORDER.pack(kind, pid)], descriptors)
        answer = self._control.recv(_ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < _ANSWER.size:
            raise EOFError
        (number,) = _ANSWER.unpack(answer)
        return int(number)


nursery = Nursery()
"""The one of this process."""

atexit.register(nursery.close)


def tend(descriptor: int, parent: int) -> None:
    """Fork workers until the owner is gone. The whole life of the nursery.

    Args:
        descriptor: The inherited socket to the owner.
        parent: The owner's process.
    """
    import exoflow.executors.worker  # noqa: F401 - so that the workers need not

    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    gc.collect()
    gc.freeze()  # a collection in a worker would write to every page it shares with the others
    own = os.getpid()
    while True:
        if not poll.poll(1000):
            # The socket tells of the owner's death, unless something that was forked from it keeps it open.
            if os.getppid() != parent:
                return
            continue
        try:
            data, descriptors, _, _ = socket.recv_fds(control, _ORDER.size, 4, socket.MSG_WAITALL)
        except ConnectionError:
            return
        if len(data) < _ORDER.size:
            return
        kind, pid = _ORDER.unpack(data)
        if kind == _REAP:
            answer = _wait(pid)
        else:
            try:
                answer = os.fork()
            except OSError as error:
                answer = -(error.errno or errno.EAGAIN)
            if not answer:
                control.close()
                _become_worker(descriptors)
                _live(descriptors[0], own)
            if answer > 0:
                with contextlib.suppress(OSError):  # the worker does the same; whoever comes first
                    os.setpgid(answer, answer)
            for each in descriptors:
                os.close(each)
        try:
            control.sendall(_ANSWER.pack(answer))
        except ConnectionError:
            return


def _live(descriptor: int, parent: int) -> NoReturn:
    """Be a worker, and end without taking the interpreter apart, which takes longer than many a task."""
    from exoflow.executors.worker import serve

    status = 1
    try:
        serve(descriptor, parent)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _wait(pid: int) -> int:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # of a nursery before this one
        return 1 << 16
    return os.waitstatus_to_exitcode(status)


def _become_worker(descriptors: list[int]) -> None:
    # A group of its own: Ctrl-C in the terminal is not for it, and killing the group takes what a task has started.
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for theirs, ours in zip(descriptors[1:3], (1, 2), strict=True):
        os.dup2(theirs, ours)
        os.close(theirs)
    for lifeline in descriptors[3:]:
        os.set_inheritable(lifeline, False)


@contextlib.contextmanager
def _standard_streams() -> Iterator[list[int]]:
    """Yield descriptors for a worker's output and errors: this process' own, or nothing where it has none."""
    streams, opened = [], []
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            opened.append(descriptor)
        streams.append(descriptor)
    try:
        yield streams
    finally:
        for descriptor in opened:
            os.close(descriptor)
