"""Processes to be killed: forked from one that has imported everything already, so that each starts in milliseconds.

The process they are forked from has one thread and opens nothing, so what a child finds is what a fresh process would.
A child runs one function of `flows`; what comes of it, if it lives to tell, is read from a file.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 40.0
"""How long a test waits for what must happen, on a machine that has other things to do."""

_PROGRAM = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.integration.children import _serve; _serve()"


def until(condition: Callable[[], Any], what: str = "it never happened", pause_s: float = 0.002) -> Any:
    """Wait for *condition* and return what it returned."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(pause_s)
    return found


class Child:
    """A process that runs one function."""

    def __init__(self, nursery: "Nursery", pid: int, result: Path) -> None:
        self.nursery, self.pid, self._result = nursery, pid, result
        self._status: int | None = None

    def kill(self) -> None:
        """SIGKILL, and wait until nothing is left of it."""
        self.signal(signal.SIGKILL)
        self.wait()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def alive(self) -> bool:
        if self._status is None:
            self._status = self.nursery.call("poll", self.pid)
        return self._status is None

    def wait(self) -> int:
        """Wait for its end; return its exit status, negative for a signal."""
        until(lambda: not self.alive(), f"child {self.pid} never ended")
        assert self._status is not None
        return self._status

    def result(self) -> Any:
        """Wait for its end and return what its function returned, or raise what it raised."""
        status = self.wait()
        assert self._result.exists(), f"the child ended with {status} and told nothing:\n{self.nursery.stderr()}"
        succeeded, value = pickle.loads(self._result.read_bytes())
        if not succeeded:
            raise value
        return value

    def was_killed(self) -> bool:
        """Wait for its end; return whether it was killed, and not done or failed."""
        return self.wait() == -signal.SIGKILL


class Nursery:
    """The process that children are forked from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self._stderr = folder / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
            )

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Child:
        """Run a function of a module that can be imported, in a process of its own."""
        self._count += 1
        result = self.folder / f"result-{self._count}"
        pid = self.call("start", (function.__module__, function.__qualname__), args, kwargs, str(result))
        return Child(self, pid, result)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function in a process of its own and return what it returned."""
        return self.start(function, *args, **kwargs).result()

    def call(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            raise AssertionError(f"the nursery died:\n{self.stderr()}") from None

    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # it kills what is left of its children
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()


def _serve() -> None:
    import tests.integration.flows  # noqa: F401 - what makes children start quickly

    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    alive: set[int] = set()
    for request in _requests(requests):
        answer: Any = None
        if request[0] == "start":
            answer = os.fork()
            if not answer:
                requests.close()
                answers.close()
                _live(*request[1:])
            alive.add(answer)
        else:
            pid, status = os.waitpid(request[1], os.WNOHANG) if request[1] in alive else (request[1], -1)
            if pid:
                alive.discard(pid)
                answer = os.waitstatus_to_exitcode(status) if status >= 0 else -1
        pickle.dump(answer, answers)
        answers.flush()
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _requests(stream: Any) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(stream)
        except EOFError:
            return


def _live(function: tuple[str, str], args: tuple[Any, ...], kwargs: dict[str, Any], result: str) -> None:
    import importlib

    status = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        found: Any = importlib.import_module(function[0])
        for part in function[1].split("."):
            found = getattr(found, part)
        try:
            outcome = (True, found(*args, **kwargs))
        except BaseException as error:
            outcome, status = (False, error), 1
        try:
            data = pickle.dumps(outcome)
        except Exception:
            data = pickle.dumps((False, RuntimeError(repr(outcome[1]))))
        Path(result + "~").write_bytes(data)
        Path(result + "~").rename(result)
        if status:
            import traceback

            traceback.print_exception(outcome[1])
    finally:
        sys.stderr.flush()
        os._exit(status)
