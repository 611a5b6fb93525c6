"""Other processes with a client of their own, for tests of what only two processes can show.

A peer is started, told what to call, and killed. It ends with the process that started it.
"""

import contextlib
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Self

from exoflow.stores.contract import Appender, Lock, ObjectStore

__all__ = ["Peer", "peers"]

_PROGRAM = "from exoflow.testing.peers import _serve; _serve()"


class Peer:
    """A process that holds a store open and does as it is told.

    Args:
        reopen: Opens the store; pickled, so it lives in a module that the other process can import.
    """

    def __init__(self, reopen: Callable[[], ObjectStore]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._send(reopen)

    def start(self, action: str, *arguments: object) -> None:
        """Have the peer do *action*, one of the methods of `_Actions`, and go on."""
        self._send((action, arguments))

    def answer(self) -> Any:
        """Wait for what was started last, and return or raise what it did."""
        assert self.process.stdout is not None
        try:
            succeeded, outcome = pickle.load(self.process.stdout)
        except EOFError:
            raise AssertionError(f"the peer died with {self.process.wait()}; what it said is above") from None
        if not succeeded:
            raise outcome
        return outcome

    def call(self, action: str, *arguments: object) -> Any:
        """Start *action* and wait for its answer."""
        self.start(action, *arguments)
        return self.answer()

    def is_busy(self) -> bool:
        """Whether there is no answer yet to what was started last."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], 0)[0]

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken back all that the process held."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Kill the process, and let those it forked end by themselves."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: object) -> None:
        assert self.process.stdin is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()


@contextlib.contextmanager
def peers(reopen: Callable[[], ObjectStore], count: int) -> Iterator[list[Peer]]:
    """Yield *count* peers that have the store open, so that what they are told next happens at once."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(Peer(reopen)) for _ in range(count)]
        for peer in started:
            peer.call("ping")
        yield started


class _Actions:
    """What a peer can be told to do."""

    def __init__(self, store: ObjectStore) -> None:
        self._store: Any = store
        self._held: dict[str, Lock] = {}
        self._logs: dict[str, Appender] = {}

    def ping(self) -> None:
        """Show that the store is open."""

    def create(self, keys: list[str], data: bytes) -> list[bool]:
        """Create each key in turn."""
        return [self._store.create(key, data) for key in keys]

    def read(self, key: str) -> bytes:
        """Read a whole object."""
        return bytes(self._store.read(key))

    def write(self, key: str, chunks: list[bytes]) -> None:
        """Write an object."""
        self._store.write(key, chunks)

    def keys(self, prefix: str) -> list[str]:
        """List to the end."""
        return list(self._store.list(prefix))

    def churn(self, folder: str, count: int) -> None:
        """Make and remove an object in *folder* again and again, and with it the folder."""
        for number in range(count):
            key = f"{folder}/{os.getpid()}-{number}"
            assert self._store.create(key, b"passing")
            self._store.delete(key)

    def begin_logs(self, keys: list[str]) -> list[bool]:
        """Ask for an appender of each key, and keep those given."""
        given = {key: self._store.appender(key) for key in keys}
        self._logs.update({key: log for key, log in given.items() if log is not None})
        return [log is not None for log in given.values()]

    def append(self, key: str, data: bytes) -> None:
        """Append to a log begun here."""
        self._logs[key].append(data)

    def lock(self, keys: list[str]) -> list[bool]:
        """Lock each key if it is free, and hold it."""
        given = {key: self._store.lock(key) for key in keys}
        self._held.update({key: lock for key, lock in given.items() if lock is not None})
        return [lock is not None for lock in given.values()]

    def release(self, key: str) -> None:
        """Release a lock held here."""
        self._held.pop(key).release()

    def is_locked(self, key: str, times: int = 1) -> list[bool]:
        """Ask again and again."""
        return [self._store.is_locked(key) for _ in range(times)]

    def fork(self) -> int:
        """Leave behind a forked child, which lives until the pipe to this process is closed. Only `kill` may follow."""
        started, tell = os.pipe()
        child = os.fork()
        if not child:
            os.write(tell, b"!")
            os.read(sys.stdin.fileno(), 1)
            os._exit(0)
        os.read(started, 1)
        return child


def _serve() -> None:
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # a plugin that prints must not garble the answers
    reopen: Callable[[], ObjectStore] = pickle.load(sys.stdin.buffer)
    actions = _Actions(reopen())
    while True:
        try:
            action, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            outcome = (True, getattr(actions, action)(*arguments))
        except Exception as error:
            outcome = (False, error)
        pickle.dump(outcome, answers)
        answers.flush()
