"""What a process did, line by line in a file that outlives it.

A line is written out before the next thing happens, so the trail of a process that was killed ends with the last thing
it did. Times are seconds since the epoch, and can be compared between processes of one machine.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

from exoflow.plugins.observing import Happening, Moment

__all__ = ["BEGINNINGS", "Line", "Trail", "first_beginning", "first_time", "read_trail", "tasks_of"]

BEGINNINGS = (Moment.TASK_STARTED, Moment.TASK_RETRIED)
"""An attempt begins: the first of its task that anybody knows of, or another one."""


@attrs.frozen
class Line:
    """One thing that happened: a `Moment`, or what the process noted of itself."""

    at: float
    what: str
    task_id: str = ""
    number: int = 0
    """The incarnation of the task."""


class Trail:
    """An observer that writes down what it is told."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")  # line by line

    def observe(self, happening: Happening) -> None:
        """Write *happening* down."""
        self._write(Line(happening.at, str(happening.moment), happening.task_id, happening.number))

    def note(self, what: str) -> None:
        """Write down something that is no happening of the engine."""
        self._write(Line(time.time(), what))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, line: Line) -> None:
        self._file.write(json.dumps(attrs.asdict(line)) + "\n")


def read_trail(path: Path) -> list[Line]:
    """Return what is written so far; nothing if nobody has written yet."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]  # a line may be half-written at this very moment
    return [Line(**json.loads(line)) for line in whole.splitlines()]


def tasks_of(trail: Iterable[Line], *moments: Moment) -> set[str]:
    """Return the tasks to which one of *moments* happened."""
    return {line.task_id for line in trail if line.what in moments}


def first_time(trail: Iterable[Line], *what: str) -> float | None:
    """Return when one of *what* first happened."""
    return next((line.at for line in trail if line.what in what), None)


def first_beginning(trail: Iterable[Line]) -> float | None:
    """Return when the first task began to run."""
    return first_time(trail, *BEGINNINGS)
