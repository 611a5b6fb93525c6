"""What a failure does, given where it happens.

One thing each: end the controller, end processes, lose an attempt, raise in a task's place, or be late. Where an action
would mean nothing it is not made: nobody is to believe in a failure that never happened. Stores fail by
`exoflow.testing.FaultyStore`.
"""

import builtins
import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import attrs

from exoflow.errors import TaskLostError, UnknownOptionError
from exoflow.failures.points import FailurePoint, SimulatedCrash

__all__ = [
    "Action",
    "InjectedError",
    "cluster_crash",
    "crash",
    "delay",
    "kill",
    "make_action",
    "names",
    "raise_in_task",
    "task_crash",
]

Action = Callable[[FailurePoint, str], None]
"""Makes the failure happen, given the point and the task id."""

_AROUND_RUNS = frozenset({FailurePoint.BEFORE_RUN, FailurePoint.AFTER_RUN_BEFORE_RECORD})
_RAISING = _AROUND_RUNS | {FailurePoint.BEFORE_UNDO, FailurePoint.BEFORE_RESOLVE, FailurePoint.DURING_BLOB_WRITE}


class InjectedError(Exception):
    """What an injector raises in place of a task's own exception."""


def crash(point: FailurePoint, task_id: str) -> None:
    """Let the controller die where it stands, inside this process: `SimulatedCrash`."""
    raise SimulatedCrash(point, task_id)


def kill(point: FailurePoint, task_id: str) -> None:
    """Kill this process, as ``kill -9`` does. Its workers notice, and end soon after it."""
    os.kill(os.getpid(), signal.SIGKILL)


def cluster_crash(point: FailurePoint, task_id: str) -> None:
    """Kill this process and all that descend from it, as a power cut does: on one machine they are the cluster."""
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _descendants(ancestor: int) -> list[int]:
    """Return the processes below *ancestor*; none where there is no /proc, where they notice on their own."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of the program, in parentheses, may have spaces and parentheses of its own.
            parent = int(entry.read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, generation = [], [ancestor]
    while generation:
        generation = [child for parent in generation for child in children.pop(parent, [])]
        found += generation
    return found


def task_crash(point: FailurePoint, task_id: str) -> None:
    """Let the attempt be lost, as if its process had died: a system failure, counted apart from the task's own."""
    raise TaskLostError(task_id, f"injected at {point}")


@attrs.frozen
class raise_in_task:  # noqa: N801 - an action like the functions beside it
    """Fail the attempt with an exception of its own."""

    error: type[BaseException] = InjectedError

    def __call__(self, point: FailurePoint, task_id: str) -> None:
        """Raise it."""
        raise self.error(f"injected at {point} of task {task_id!r}")


@attrs.frozen
class delay:  # noqa: N801
    """Let whoever reached the point wait there."""

    seconds: float = 0.1
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, point: FailurePoint, task_id: str) -> None:
        """Wait."""
        self.sleep(self.seconds)


# --- by name ----------------------------------------------------------------------------------------------------------


def make_action(name: str, value: str | None, point: FailurePoint) -> Action:
    """Return the action called *name*.

    Raises:
        UnknownOptionError: No such action, a value it does not take, or a point at which it means nothing.
    """
    if name not in _MAKERS:
        raise UnknownOptionError(f"no built-in action {name!r} ({', '.join(names())})")
    make, points = _MAKERS[name]
    if points is not None and point not in points:
        expected = ", ".join(each for each in FailurePoint if each in points)
        raise UnknownOptionError(f"{name!r} means nothing at {str(point)!r}; expected one of {expected}")
    return make(value)


def names() -> list[str]:
    """Return the names of all built-in actions, sorted."""
    return sorted(_MAKERS)


def _make_raise(value: str | None) -> Action:
    if value is None:
        return raise_in_task()
    found = getattr(builtins, value, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise UnknownOptionError(f"raise={value}: expected the name of a built-in exception, such as raise=OSError")
    return raise_in_task(found)


def _make_delay(value: str | None) -> Action:
    try:
        seconds = 0.1 if value is None else float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UnknownOptionError(f"delay={value}: expected a number of seconds, such as delay=0.5")
    return delay(seconds)


def _without_value(name: str, action: Action) -> Callable[[str | None], Action]:
    def make(value: str | None) -> Action:
        if value is not None:
            raise UnknownOptionError(f"{name}={value}: {name!r} takes no value")
        return action

    return make


_MAKERS: Mapping[str, tuple[Callable[[str | None], Action], Collection[FailurePoint] | None]] = {
    "cluster_crash": (_without_value("cluster_crash", cluster_crash), None),
    "crash": (_without_value("crash", crash), None),
    "delay": (_make_delay, None),
    "kill": (_without_value("kill", kill), None),
    "raise": (_make_raise, _RAISING),
    "task_crash": (_without_value("task_crash", task_crash), _AROUND_RUNS),
}
"""How to make each, and the points at which it means something; all of them when None."""
