"""Processes that measure, one request at a time, so that what is compared can be measured in turn.

A process answers lines of JSON on its standard input with lines of JSON. Used by interpreters that have ExoFlow and by
interpreters that have its peers, so it needs nothing but the standard library.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ROOT", "Worker", "WorkerError", "environment", "serve"]

ROOT = Path(__file__).resolve().parents[2]


class WorkerError(Exception):
    """A process that measures did not answer; the text is the end of what it said."""


def environment(bytecode: Path) -> dict[str, str]:
    """Return the environment of everything that is measured: with compiled bytecode, which some machines forbid to write.

    Args:
        bytecode: A folder for it. The first start fills it.
    """
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**found, "PYTHONPYCACHEPREFIX": str(bytecode)}


class Worker:
    """A module of this package that calls `serve`, in a process of its own.

    Args:
        module: Its name.
        env: See `environment`.
        python: The interpreter.
        prefix: What starts it, such as ``strace`` with its options.
    """

    def __init__(
        self, module: str, env: Mapping[str, str], *, python: str = sys.executable, prefix: Sequence[str] = ()
    ) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [*prefix, python, "-m", module],
            cwd=ROOT, env=dict(env), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
        )  # fmt: skip

    def ask(self, function: str, **arguments: Any) -> None:
        """Have *function* called, without waiting for it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps([function, arguments]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._problem() from None

    def answer(self) -> Any:
        """Wait for what was asked.

        Raises:
            WorkerError: The process raised, or is gone.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._problem()
        return json.loads(line)

    def call(self, function: str, **arguments: Any) -> Any:
        """Call *function* there and return its answer, which is made of JSON."""
        self.ask(function, **arguments)
        return self.answer()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it end in good order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(timeout=120)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.kill()
        self.process.stdout.close()
        self._said.close()

    def _problem(self) -> WorkerError:
        self.process.wait()
        self._said.seek(0)
        return WorkerError(f"exit {self.process.returncode}: {self._said.read()[-3000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed meanwhile is no answer
    for line in sys.stdin:
        function, arguments = json.loads(line)
        answers.write(json.dumps(functions[function](**arguments)) + "\n")
        answers.flush()
