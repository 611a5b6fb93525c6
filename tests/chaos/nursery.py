"""A process from which controllers are forked: real processes, there in milliseconds instead of half a second.

It has imported what a controller needs, has one thread, has opened no store and run no engine, so what is forked from it
is as clean as what is started anew. It reads orders from its input, one a line, and answers each with one line.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import attrs

from .life import PATIENCE_S, Plan

_PROGRAM = "from chaos.nursery import tend; tend()"


class Life:
    """A controller process. Its number stays its own until it is reaped, so no kill ever hits another."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self._nursery, self.pid = nursery, pid
        self._born = time.monotonic()
        self.age_s = 0.0
        """How old it became, once that is known."""
        self._status: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def ended_within(self, timeout_s: float) -> bool:
        """Wait for its end, and return whether that came in time."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])

    def stopped(self) -> bool:
        """Wait until it is stopped, and return True; or False if it ended."""
        return bool(self._nursery.order({"stopped": self.pid}))

    def end(self) -> int:
        """Wait for its end and return its status: negative is the signal that killed it."""
        if self._status is None:
            if not self.ended_within(PATIENCE_S):
                self.signal(signal.SIGABRT)
                self.signal(signal.SIGCONT)
                raise AssertionError(f"controller {self.pid} did not end within {PATIENCE_S} s")
            self.age_s = time.monotonic() - self._born
            self._status = self._nursery.order({"reap": self.pid})
            os.close(self._descriptor)
        return self._status

    def kill(self) -> int:
        """Kill it, and wait until it is dead."""
        self.signal(signal.SIGKILL)
        return self.end()


class Nursery:
    """The test's end of it. Ends with the test, and with all that it has forked."""

    def __init__(self) -> None:
        # `chaos` and not `tests.chaos`: some distribution may have a package of the name `tests`.
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "EXOFLOW_STORAGE": ""},
            text=True,
        )

    def begin(self, plan: Plan) -> Life:
        """Begin a controller's life."""
        return Life(self, self.order({"live": attrs.asdict(plan)}))

    def order(self, order: dict[str, Any]) -> int:
        """Have something done, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery died; what it said is above"
        return int(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()


def tend() -> None:
    """Carry out orders until there are no more. The whole life of the nursery."""
    alive: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "reap" in order:
            _, status = os.waitpid(order["reap"], 0)
            alive.discard(order["reap"])
            answer = os.waitstatus_to_exitcode(status)
        elif "stopped" in order:
            found = os.waitid(os.P_PID, order["stopped"], os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            answer = int(found is not None and found.si_code == os.CLD_STOPPED)
        else:
            answer = os.fork()
            if not answer:
                _be(Plan(**order["live"]))
            alive.add(answer)
        print(answer, flush=True)
    for pid in alive:  # the test has failed, and nobody waits for them
        os.kill(pid, signal.SIGKILL)


def _be(plan: Plan) -> NoReturn:
    from .life import live

    status = 1
    try:
        # A kill must not reach who called, and the orders are not for this process.
        os.setpgid(0, 0)
        log = os.open(plan.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        null = os.open(os.devnull, os.O_RDONLY)
        for ours, theirs in ((null, 0), (log, 1), (log, 2)):
            os.dup2(ours, theirs)
        live(plan)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
