"""The lines of the table: what was asked for, what was measured, and whether that is enough.

Verdicts are given at full size only: what a toy measures is that the benchmark works.
"""

import json
from pathlib import Path
from typing import Any, TextIO

__all__ = ["LINES", "Line", "Report"]


class Line:
    """One figure that was asked for.

    Args:
        text: What is measured.
        asked: The figure, as people read it.
        limit: The same as a number.
        unit: Of the number; how it is printed.
        least: Whether more is better.
    """

    def __init__(self, text: str, asked: str, limit: float, unit: str, *, least: bool = False) -> None:
        self.text, self.asked, self.limit, self.unit, self.least = text, asked, limit, unit, least

    def reached(self, value: float) -> bool:
        """Whether *value* is enough."""
        return value >= self.limit if self.least else value <= self.limit


_TIMES, _US, _S, _MS, _RATE, _MIB = "{:.2f} x", "{:.1f} us", "{:.2f} s", "{:.0f} ms", "{:,.0f} /s", "{:,.0f} MiB"

LINES = {
    "sync.inline": Line("chain of 1,000 sync, inline: a step / fdatasync", "<= 1.5 x", 1.5, _TIMES),
    "sync.thread": Line("chain of 1,000 sync, thread: a step / fdatasync", "<= 2.5 x", 2.5, _TIMES),
    "sync.peer": Line("a step of DBOS on SQLite / a step on thread", ">= 8 x", 8, _TIMES, least=True),
    "async.thread": Line("chain of 10,000 async, thread: a task / bare hop", "<= 1.5 x", 1.5, _TIMES),
    "skip.thread": Line("chain of 10,000 skip, thread: a task / bare hop", "<= 1.5 x", 1.5, _TIMES),
    "async.inline": Line("chain of 10,000 async, inline: a task", "<= 40 us", 40, _US),
    "skip.inline": Line("chain of 10,000 skip, inline: a task", "<= 40 us", 40, _US),
    "workflows.rate": Line("10,000 one-task workflows at once, thread", ">= 5,000 /s", 5000, _RATE, least=True),
    "workflows.peer": Line("the same / DBOS on SQLite", ">= 50 x", 50, _TIMES, least=True),
    "wide.seconds": Line("100,000 parallel tasks, thread: bind to result", "<= 40 s", 40, _S),
    "wide.memory": Line("the same: peak memory of the process", "<= 700 MiB", 700, _MIB),
    "wide.scaling": Line("a task of 100,000 / a task of 1,000", "<= 1.3 x", 1.3, _TIMES),
    "continuations": Line("a link of 100,000 continuations / a link of 1,000", "<= 1.3 x", 1.3, _TIMES),
    "resume.first": Line("killed half-way: resume() to the first task", "<= 5 s", 5, _S),
    "array.skip": Line("1 GiB array, skip: bytes copied between two tasks", "0 MiB", 0, _MIB),
    "array.sync": Line("1 GiB array, sync: / bare write and fsync", "<= 1.2 x", 1.2, _TIMES),
    "array.memory": Line("1 GiB array, sync: peak memory of the process", "< 1,229 MiB", 1.2 * 1024, _MIB),
    "import": Line("import exoflow, less a bare interpreter", "< 150 ms", 150, _MS),
}


class Report:
    """Collects samples, writes each to the results file as it comes, and prints the table at the end.

    Args:
        out: The results file: lines of JSON, appended to.
        scale: ``toy`` or ``full``.
    """

    def __init__(self, out: Path, scale: str) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        self.out = out
        self._file: TextIO = out.open("a")
        self._scale = scale
        self._verdicts: dict[str, tuple[str, str, str, str]] = {}
        self._notes: list[tuple[str, str]] = []

    def write(self, kind: str, **fields: Any) -> None:
        """Append one line to the results file."""
        self._file.write(json.dumps({"kind": kind, "scale": self._scale, **fields}) + "\n")
        self._file.flush()

    def sample(self, what: str, **measured: Any) -> None:
        """Keep one measurement as it was."""
        self.write("sample", what=what, **measured)

    def line(self, key: str, value: float | None, remark: str = "") -> None:
        """Give the figure for a line of the table; None if it could not be measured, and *remark* says why."""
        asked = LINES[key]
        verdict = "-" if value is None or self._scale == "toy" else "reached" if asked.reached(value) else "MISSED"
        self.write("line", line=key, text=asked.text, asked=asked.asked, measured=value, verdict=verdict, remark=remark)
        shown = "not measured" if value is None else asked.unit.format(value)
        self._verdicts[key] = (asked.text, asked.asked, shown, f"{verdict:7}  {remark}")

    def note(self, what: str, value: str) -> None:
        """Add a figure nobody set a limit for."""
        self.write("note", what=what, value=value)
        self._notes.append((what, value))

    def text(self) -> str:
        """Return all of it, for people."""
        blocks = []
        if self._notes:
            blocks.append(_columns(self._notes))
        if self._verdicts:
            rows = [self._verdicts[key] for key in LINES if key in self._verdicts]
            blocks.append(_columns([("", "asked", "measured", "verdict"), *rows]))
        return "\n\n".join(blocks)

    def close(self) -> None:
        """Close the results file."""
        self._file.close()


def _columns(rows: list[Any]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
