"""Shows how far a run is, once it has taken longer than a second: a bar on a terminal, else now and then a line.

The observer only counts; a thread of its own looks at the counts and draws, so that watching costs the engine next to
nothing, however many tasks there are.
"""

import itertools
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from exoflow.cli.output import duration, say
from exoflow.plugins.observing import Happening, Moment

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["ProgressObserver"]

_SHOWN_NAMES = 3


class ProgressObserver:
    """Watches one engine, and tells people on stderr. Use it as a context manager around the run.

    Args:
        silent: Count, and show nothing.
        after_s: Runs shorter than this say nothing.
        line_every_s: Time between two lines where stderr is not a terminal.
        terminal: Whether to draw a bar; asks stderr when None.
    """

    def __init__(
        self,
        *,
        silent: bool = False,
        after_s: float = 1.0,
        line_every_s: float = 10.0,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silent = silent
        self._after_s = after_s
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._every_s = 0.1 if self._terminal else line_every_s
        self._clock = clock
        self._mutex = threading.Lock()
        self._totals: dict[str, int] = {}
        self._loaded = self._finished = self._retried = 0
        self._failed: set[tuple[str, str]] = set()
        self._running: dict[tuple[str, str], None] = {}
        self._notes: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self.shown = False
        """Whether anything was said yet."""

    # --- what the engine calls ----------------------------------------------------------------------------------

    def observe(self, happening: Happening) -> None:
        """Count *happening*."""
        moment, key = happening.moment, (happening.workflow_id, happening.task_id)
        with self._mutex:
            if happening.tasks_total > self._totals.get(happening.workflow_id, 0):
                self._totals[happening.workflow_id] = happening.tasks_total
            if moment is Moment.TASK_STARTED or moment is Moment.TASK_RETRIED:
                self._running[key] = None
                if moment is Moment.TASK_RETRIED:
                    self._failed.discard(key)
                    self._retried += 1
                    self._notes.append(_note(happening))
            elif moment is Moment.TASK_FINISHED:
                self._running.pop(key, None)
                self._finished += 1
            elif moment is Moment.TASK_LOADED:
                self._loaded += 1
            elif moment is Moment.TASK_FAILED or moment is Moment.TASK_UNDONE:
                self._running.pop(key, None)
                if moment is Moment.TASK_FAILED:
                    self._failed.add(key)
                self._notes.append(_note(happening))

    # --- while it runs ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._began = self._clock()
        if not self._silent:
            self._thread = threading.Thread(target=self._watch, name="exoflow-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.shown:
            self._say_notes(say)
            say(self.summary())

    def summary(self) -> str:
        """Say in one line what became of the tasks, and how long it took."""
        with self._mutex:
            parts = [f"{counted(self._finished, 'task')} run"]
            if self._loaded:
                parts.append(f"{self._loaded} loaded")
            if self._retried:
                parts.append(f"{counted(self._retried, 'attempt')} repeated")
            if self._failed:
                parts.append(f"{len(self._failed)} failed")
        return f"{', '.join(parts)} in {duration(self._clock() - self._began)}"

    def _watch(self) -> None:
        if self._stop.wait(self._after_s):
            return
        while not self._totals:  # nothing to tell of yet
            if self._stop.wait(self._every_s):
                return
        self.shown = True
        if self._terminal:
            self._draw()
            return
        while True:
            self._say_notes(say)
            say(self._line())
            if self._stop.wait(self._every_s):
                return

    def _draw(self) -> None:
        bar = _make_bar()
        task = bar.add_task("", total=None, detail="")
        with bar:
            while True:
                self._say_notes(bar.console.print)
                total, done, names = self._counts()
                bar.update(task, total=total or None, completed=done, detail=names)
                if self._stop.wait(self._every_s):
                    return

    def _counts(self) -> tuple[int, int, str]:
        with self._mutex:
            total, done = sum(self._totals.values()), self._loaded + self._finished
            running = len(self._running)
            names = [task_id for _, task_id in itertools.islice(self._running, _SHOWN_NAMES)]
        text = ", ".join(names) + (f" and {running - len(names)} more" if running > len(names) else "")
        return max(total, done), done, text

    def _line(self) -> str:
        total, done, names = self._counts()
        running = f", running {names}" if names else ""
        return f"{done} of {counted(total, 'task')} done{running}, {duration(self._clock() - self._began)}"

    def _say_notes(self, speak: Callable[[str], Any]) -> None:
        with self._mutex:
            notes, self._notes = self._notes, []
        for note in notes:
            speak(note)


def counted(number: int, noun: str) -> str:
    """Return *number* with *noun* in singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _note(happening: Happening) -> str:
    what = {Moment.TASK_FAILED: "failed", Moment.TASK_RETRIED: "is tried again", Moment.TASK_UNDONE: "was undone"}
    number = f"#{happening.number}" if happening.number else ""
    problem = f": {happening.problem}" if happening.problem else ""
    return f"{happening.task_id}{number} {what[happening.moment]}{problem}"


def _make_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(file=sys.stderr, markup=False, highlight=False, emoji=False),
        # What tasks print goes above the bar, unless it goes elsewhere.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
