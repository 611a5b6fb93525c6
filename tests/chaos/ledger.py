"""The witness: a file outside of the library, in which every call of a task is a line before it returns.

What the library believes does not matter here, only what was done to the world. A line is one write to a file opened
with O_APPEND, so it is there as a whole or not at all whenever its process is killed, and the lines of several
processes never mix. Nothing is synced: a killed process loses nothing of what the kernel has taken.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

import exoflow

BOOK, FUSE = "CHAOS_LEDGER", "CHAOS_FUSE"
"""Variables of the environment, which worker processes inherit: the file, and the line with which a signal is sent to the controller."""


@attrs.frozen(kw_only=True)
class Line:
    """Something that was done."""

    what: str
    """``begin`` of an attempt, its ``effect``, ``undo``, or ``resolve`` and what that answered."""
    promise: str = ""
    """What the task had declared: none, idempotent, rollback or once."""
    workflow: str
    task: str
    key: str
    attempt: str
    past: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """The attempts whose values it was given, and theirs, as ``task@attempt``."""
    happened: bool | None = None


def note(what: str, **more: Any) -> None:
    """Add a line; then send the controller the signal that was to follow this line, if one was."""
    burn(add(what, **more))


def add(what: str, **more: Any) -> int:
    """Add a line, and return how many there are now."""
    about = exoflow.context()
    line = {
        "what": what, "workflow": about.workflow_id, "task": about.task_id,
        "key": about.idempotency_key, "attempt": about.attempt, **more,
    }  # fmt: skip
    descriptor = os.open(os.environ[BOOK], os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).count(b"\n")
    finally:
        os.close(descriptor)


def burn(lines: int) -> None:
    """Send the signal whose time has come with that many lines."""
    if fuse := os.environ.get(FUSE):
        controller, last, number = map(int, fuse.split(":"))
        if lines >= last:
            del os.environ[FUSE]
            with contextlib.suppress(ProcessLookupError):
                os.kill(controller, number)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep all other processes from changing the ledger meanwhile: what a receiver that fences does.

    Nothing is burnt meanwhile: a receiver is not stopped or killed along with who calls it.
    """
    with Path(os.environ[BOOK] + ".lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def read(book: Path) -> list[Line]:
    """Return what was done, in its order."""
    if not book.exists():
        return []
    return [Line(**json.loads(text)) for text in book.read_text().splitlines()]


def booked() -> list[Line]:
    """The same, for tasks."""
    return read(Path(os.environ[BOOK]))
