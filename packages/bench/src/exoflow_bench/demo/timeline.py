"""The picture: both processes on one time axis, every task in the colour of what became of it.

Rows are epochs, so training is a staircase; the kill cuts it off, and the second process takes it up at the last model
that was kept. Schedules, which take no time to speak of, are left out. Colours are those of Okabe and Ito, which people with any colour vision can tell apart, and what was lost
and done again is hatched as well, so that a print without colours shows it too.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from exoflow.plugins.observing import Moment
from exoflow_bench.demo.account import Account, After, Before
from exoflow_bench.demo.trail import BEGINNINGS, Line, first_beginning, first_time

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from exoflow_bench.demo.story import Story

__all__ = ["Bar", "bars", "draw"]

BLUE, SKY, GREEN, ORANGE, VERMILION, GREY = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#C4C4C4"


@attrs.frozen
class Look:
    """How a state is drawn, and what the legend says of it."""

    meaning: str
    colour: str
    hatch: str = ""


LOOKS: dict[Before | After, Look] = {
    Before.COMMITTED: Look("ran, and its value was kept", BLUE),
    Before.NOT_KEPT: Look("ran, value not kept and not wanted again", GREY),
    Before.LOST: Look("ran, and was lost", VERMILION, "//////"),
    After.RERUN: Look("re-run", ORANGE, "\\\\\\\\\\\\"),
    After.RUN: Look("run for the first time", GREEN),
}


@attrs.frozen
class Bar:
    """One attempt of one task."""

    task_id: str
    begin: float
    end: float
    state: Before | After


def bars(trail: Sequence[Line], tasks: Iterable[Account], ended_at: float, *, before: bool) -> Iterator[Bar]:
    """Find the attempts in a trail.

    Args:
        trail: Of one process.
        tasks: What became of each.
        ended_at: When the process ended, and with it whatever ran.
        before: Whether it is the process that was killed.
    """
    states = {task.task_id: task.before if before else task.after for task in tasks}
    running: dict[str, float] = {}
    for line in trail:
        if line.what in BEGINNINGS:
            running[line.task_id] = line.at
        elif line.what in (Moment.TASK_FINISHED, Moment.TASK_FAILED) and line.task_id in running:
            yield Bar(line.task_id, running.pop(line.task_id), line.at, states[line.task_id])
    for task_id, begin in running.items():
        yield Bar(task_id, begin, ended_at, states[task_id])


# --- where things go --------------------------------------------------------------------------------------------------


@attrs.frozen
class Rows:
    """The rows from top to bottom, and which half of its row a task gets."""

    labels: list[str]

    @classmethod
    def of(cls, task_ids: Iterable[str]) -> "Rows":
        """Return a row for each epoch, and one for each other kind of task."""
        return cls(list(dict.fromkeys(_row(task_id) for task_id in task_ids)))

    def place(self, task_id: str) -> tuple[float, float]:
        """Return top and height."""
        row = float(self.labels.index(_row(task_id)))
        if task_id.startswith("train_"):
            return row - 0.06, 0.5
        if task_id.startswith("augment_"):
            return row - 0.42, 0.28
        match = re.fullmatch(r"ingest_(\d+)", task_id)
        if match is not None:  # side by side in the row, or they would hide each other
            lane = int(match[1]) % 4
            return row - 0.4 + 0.2 * lane, 0.17
        return row - 0.36, 0.72


def _row(task_id: str) -> str:
    name, _, number = task_id.partition("_")
    return f"epoch {number}" if name in ("augment", "train") else name


def _is_drawn(task_id: str) -> bool:
    return not task_id.startswith("schedule_")


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw(story: "Story", path: Path) -> None:
    """Write the picture to *path*, in the format its ending names."""
    # Not pyplot, which looks for screens and keeps figures.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = Rows.of(task.task_id for task in story.tasks if _is_drawn(task.task_id))
    with rc_context({"font.size": 9, "hatch.linewidth": 0.7, "hatch.color": "black", "svg.hashsalt": "exoflow"}):
        figure = Figure(figsize=(11, min(20.0, 2.1 + 0.175 * len(rows.labels))), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw_processes(axes, story, rows)
        _draw_tasks(axes, story, rows)
        _draw_loads(axes, story, rows)
        _draw_recovery(axes, story)
        _draw_kill(axes, story)
        _finish(figure, axes, story, rows)
        figure.savefig(path)


def _draw_processes(axes: "Axes", story: "Story", rows: Rows) -> None:
    zero, bottom = story.killed.started_at, len(rows.labels) - 0.5
    for process, name in ((story.killed, "first process"), (story.resumed, "second process")):
        begin, end = process.started_at - zero, process.ended_at - zero
        ready = (first_time(process.trail, "resume", "start") or process.ended_at) - zero
        axes.axvspan(begin, end, color="0.955", zorder=0, linewidth=0)
        axes.axvspan(begin, ready, color="0.88", zorder=0, linewidth=0)
        axes.text(
            (begin + ready) / 2, bottom - 0.2, "Python starts", rotation=90, fontsize=8, color="0.25", ha="center",
            va="bottom",
        )  # fmt: skip
        axes.text(
            (begin + end) / 2, -1.05, f"{name} (pid {process.pid}), {process.seconds:.1f} s", ha="center", va="bottom",
            color="0.2",
        )  # fmt: skip
    gap = story.resumed.started_at - story.killed.ended_at
    if gap > 0.02 * _length(story):
        axes.text(
            story.killed.ended_at + gap / 2 - zero, bottom - 0.2, "nobody runs it", rotation=90, fontsize=8, color="0.25",
            ha="center", va="bottom",
        )  # fmt: skip
    for row in range(len(rows.labels) - 1):
        axes.axhline(row + 0.5, color="white", linewidth=0.9, zorder=1)


def _draw_recovery(axes: "Axes", story: "Story") -> None:
    """Measure the time until the first task of the second process, on two dimension lines."""
    zero, first = story.killed.started_at, first_beginning(story.resumed.trail)
    asked = first_time(story.resumed.trail, "resume")
    if first is None or asked is None:
        return
    measures = (
        (story.resumed.started_at, 0.0, f"{first - story.resumed.started_at:.2f} s from the start of the process"),
        (asked, 1.0, f"{(first - asked) * 1e3:.0f} ms from resume() to the first task"),
    )
    for begin, row, text in measures:
        axes.plot(
            [begin - zero, first - zero], [row, row], color="black", linewidth=1.0, marker="|", markersize=6, zorder=4
        )
        axes.text(first - zero + 0.01 * _length(story), row, text, va="center", zorder=4)


def _draw_tasks(axes: "Axes", story: "Story", rows: Rows) -> None:
    zero, thinnest = story.killed.started_at, 0.0012 * _length(story)
    drawn = [
        *bars(story.killed.trail, story.tasks, story.killed.ended_at, before=True),
        *bars(story.resumed.trail, story.tasks, story.resumed.ended_at, before=False),
    ]
    for bar in drawn:
        look = LOOKS.get(bar.state)
        if look is None or not _is_drawn(bar.task_id):
            continue
        top, height = rows.place(bar.task_id)
        axes.broken_barh(
            [(bar.begin - zero, max(bar.end - bar.begin, thinnest))], (top, height),
            facecolor=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.4, zorder=3,
        )  # fmt: skip


def _draw_loads(axes: "Axes", story: "Story", rows: Rows) -> None:
    """Show what the second process read back, and where from."""
    zero = story.killed.started_at
    ends = {b.task_id: b.end for b in bars(story.killed.trail, story.tasks, story.killed.ended_at, before=True)}
    at = first_beginning(story.resumed.trail) or story.resumed.ended_at
    for task in story.tasks:
        if task.after is After.LOADED and _is_drawn(task.task_id):
            top, height = rows.place(task.task_id)
            middle = top + height / 2
            axes.plot(
                [ends.get(task.task_id, at) - zero, at - zero], [middle, middle], color=BLUE, linestyle=":", linewidth=1,
                zorder=2,
            )  # fmt: skip
            axes.plot(
                at - zero, middle, marker="D", markersize=5, markerfacecolor=SKY, markeredgecolor="black",
                markeredgewidth=0.7, zorder=5,
            )  # fmt: skip


def _draw_kill(axes: "Axes", story: "Story") -> None:
    if story.killed.code < 0:
        at = story.killed.ended_at - story.killed.started_at
        axes.axvline(at, color="black", linewidth=1.8, zorder=6)
        axes.annotate(
            f"kill -{-story.killed.code}\nin {story.plan.kill_at}", xy=(at, 0.5), xytext=(-6, 0),
            textcoords="offset points", ha="right", va="center", fontweight="bold", zorder=7,
        )  # fmt: skip


def _finish(figure: "Figure", axes: "Axes", story: "Story", rows: Rows) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def patch(state: Before | After) -> Any:
        look = LOOKS[state]
        return Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.4, label=look.meaning)

    loaded = Line2D(
        [], [], marker="D", markersize=5, markerfacecolor=SKY, markeredgecolor="black", markeredgewidth=0.7, color=BLUE,
        linestyle=":", linewidth=1, label="loaded from the store",
    )  # fmt: skip
    legend: list[Artist] = [*map(patch, LOOKS), loaded]
    figure.legend(
        handles=legend, loc="outside lower center", ncols=3, frameon=False, handlelength=2.6,
        columnspacing=2.0,
    )  # fmt: skip
    axes.set_yticks(range(len(rows.labels)), rows.labels, fontsize=8 if len(rows.labels) < 60 else 4)
    axes.set_ylim(len(rows.labels) - 0.4, -0.9)
    axes.set_xlim(0, _length(story) * 1.005)
    axes.set_xlabel(
        "seconds since the first process was started (in the row of an epoch: augmentation above, training below)"
    )
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(_title(story), loc="left", fontsize=11, pad=18)


def _title(story: "Story") -> str:
    if not story.ok or story.result is None:
        failed = sum(not check.ok for check in story.checks)
        return f"Training on handwritten digits, killed and resumed: {failed} of {len(story.checks)} checks FAILED"
    images = story.result.train_images + story.result.test_images
    return (
        f"Training on {images:,} handwritten digits, killed and resumed: {story.result.accuracy:.1%} of the test right, "
        "equal bit for bit to an uninterrupted run"
    )


def _length(story: "Story") -> float:
    return story.resumed.ended_at - story.killed.started_at


def endings() -> tuple[str, ...]:
    """Return the file endings `draw` knows."""
    return (".png", ".svg", ".pdf")
