"""Scenario 2, with processes: a controller that is stopped, one that is killed, and attempts that outlive it.

On a disk of one machine the kernel knows who is gone: a stopped controller keeps its lock, and with it its attempts; of
a killed one the lock is free at once. That says that an attempt has ended only as far as everything that runs it is gone
with the lock.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import exoflow

PATIENCE_S = 30.0

PROGRAM = """
import sys
import exoflow
from stopped_controller_tasks import reserve

with exoflow.Engine(sys.argv[1], sys.argv[3]) as engine:
    print(engine.run(reserve.bind(sys.argv[2]), workflow_id="trip"), flush=True)
"""

TASKS = '''
"""Tasks of a controller that is stopped or killed, and of its heir."""

import os
import time
from pathlib import Path

import exoflow


def note(book, *what):
    descriptor = os.open(book + "/ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, what)) + "\\n").encode())
    os.close(descriptor)


def cancel(book):
    note(book, "undid")


@exoflow.task(rollback=cancel)
def reserve(book):
    note(book, "began", os.getpid(), os.getppid())
    while not Path(book, "go on").exists():
        time.sleep(0.005)
    note(book, "did")
    return "a seat"
'''


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return found


def happens_within(seconds: float, condition: Callable[[], Any]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(condition())


class Trip:
    """A workflow whose one task waits to be let go on, in a controller of its own process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file://{folder}/flows"
        self.started: list[subprocess.Popen[str]] = []

    def begin(self, executor: str) -> subprocess.Popen[str]:
        """Start a controller; return it when its attempt runs."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        arguments = [sys.executable, "-c", PROGRAM, self.url, str(self.folder), executor]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
        self.started.append(process)
        until(lambda: self.lines("began") or process.poll() is not None, "no attempt began")
        assert process.poll() is None
        return process

    def lines(self, what: str = "") -> list[list[str]]:
        path = self.folder / "ledger"
        found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in found if line[0].startswith(what)]

    def whats(self) -> list[str]:
        return [line[0] for line in self.lines()]

    def go_on(self) -> None:
        (self.folder / "go on").touch()


@pytest.fixture
def trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trip]:
    (tmp_path / "stopped_controller_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Trip(tmp_path)
    yield made
    made.go_on()
    for process in made.started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    sys.modules.pop("stopped_controller_tasks", None)


def resume(engine: exoflow.Engine) -> exoflow.Handle | None:
    try:
        return engine.resume("trip")
    except exoflow.WorkflowRunningError:
        return None


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_stopped_controller_keeps_its_workflow_and_what_it_began_is_not_undone(trip: Trip, executor: str) -> None:
    controller = trip.begin(executor)
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        with exoflow.Engine(trip.url) as other:
            for _ in range(3):
                assert resume(other) is None
            assert other.status("trip") == "running"
        assert trip.whats() == ["began"]
        trip.go_on()
    finally:
        os.kill(controller.pid, signal.SIGCONT)

    assert controller.stdout is not None
    assert controller.stdout.readline() == "a seat\n"
    assert trip.whats() == ["began", "did"]


def test_a_killed_controller_is_gone_with_its_threads_and_what_it_began_is_undone_first(trip: Trip) -> None:
    controller = trip.begin("thread")
    controller.kill()
    controller.wait()
    trip.go_on()

    with exoflow.Engine(trip.url) as heir:
        assert heir.resume("trip").result(PATIENCE_S) == "a seat"

    assert trip.whats() == ["began", "undid", "began", "did"]


def test_a_killed_workers_attempt_is_undone_by_its_own_controller(trip: Trip) -> None:
    controller = trip.begin("process")
    ((_, worker, _),) = trip.lines("began")
    os.kill(int(worker), signal.SIGKILL)
    trip.go_on()

    assert controller.stdout is not None
    assert controller.stdout.readline() == "a seat\n"
    assert trip.whats() == ["began", "undid", "began", "did"]


def test_an_attempt_in_a_worker_process_is_not_undone_while_the_worker_lives(trip: Trip) -> None:
    controller = trip.begin("process")
    ((_, _, nursery),) = trip.lines("began")
    # What ends the workers is slow: a machine under load, a process swapped out. A member of its group whose parent
    # stays alive keeps the kernel from waking the stopped nursery when the controller is gone.
    anchor = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, process_group=int(nursery)
    )
    os.kill(int(nursery), signal.SIGSTOP)
    stopped = True
    try:
        controller.kill()
        controller.wait()
        with exoflow.Engine(trip.url) as heir, ThreadPoolExecutor(1) as threads:
            resumed = threads.submit(until, lambda: resume(heir), "its lock was never free")
            early = happens_within(0.5, lambda: trip.lines("undid"))  # one that waits for nothing is far by then
            trip.go_on()
            until(lambda: len(trip.lines("did")) == 1 + early, "nobody got a seat")
            os.kill(int(nursery), signal.SIGCONT)
            stopped = False
            assert resumed.result().result(PATIENCE_S) == "a seat"
    finally:
        if stopped:
            os.kill(int(nursery), signal.SIGKILL)
        anchor.communicate()
    seats = trip.whats()
    assert seats[seats.index("undid") :].count("did") == 1, f"two seats, and nobody gives one back: {seats}"
