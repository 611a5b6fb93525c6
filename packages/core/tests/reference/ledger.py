"""What happened outside of the library, in its order: written by the steps themselves and by whoever runs the workflow."""

import threading
from collections.abc import Iterator

import attrs

from .plans import Brief

__all__ = ["Entry", "Ledger"]


@attrs.frozen(repr=False, kw_only=True)
class Entry(Brief):
    """One line.

    ======================  ========================================================================================
    ``began``               a step was called
    ``returned``            with the value `token`, and its effect happened
    ``failed``              with an exception that is called `token`, behind the effect
    ``refused``             the same, and there was no effect
    ``grew``                with the continuation `token`; it is the `level` of the steps in it
    ``undone``              the undo function was called for `key`
    ``asked``               somebody was asked what became of `key`, and said `token`, or that nothing had happened
    ``lost``                the process of `attempt` was made to die
    ``died``                the controller is gone; ``silent`` in `status` if nobody can see that but by its silence
    ``stopped``             the workflow needs attention at `where`, and a person says what became of it
    ``durable``             afterwards, the store says that the value of `where` is kept
    ``cancelling``          somebody asks for an end
    ``told``                the end: ``succeeded``, ``failed`` (both with a `token`) or ``cancelled``, in `status`
    ======================  ========================================================================================
    """

    what: str
    where: str = ""
    """The step: a path in the plan."""
    level: str = ""
    """The continuation it belongs to, by the name of that; empty at the top."""
    attempt: str = ""
    key: str = ""
    inputs: tuple[str, ...] = ()
    token: str = ""
    branch: int = 0
    status: str = ""
    task_id: str = ""


class DeadError(Exception):
    """A thread of a dead controller tries to do something."""


class Ledger:
    """Lines, safe to write from any thread that is not dead."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._serial = 0
        self._dead: set[threading.Thread] = set()

    def kill(self, threads: set[threading.Thread]) -> None:
        """Let *threads* write nothing more: a crash is played in a process that goes on, and a real one ends them."""
        with self._lock:
            self._dead |= threads

    def note(self, what: str, **about: object) -> int:
        """Write a line; return how many there are of the same kind about the same step.

        Raises:
            DeadError: This thread is dead, and nothing that it does can happen any more.
        """
        entry = Entry(what=what, **about)  # type: ignore[arg-type]
        with self._lock:
            if threading.current_thread() in self._dead:
                raise DeadError
            self._entries.append(entry)
            return sum(e.what == what and e.where == entry.where for e in self._entries)

    def serial(self) -> int:
        """Return a number that was not returned before."""
        with self._lock:
            self._serial += 1
            return self._serial

    def __iter__(self) -> Iterator[Entry]:
        with self._lock:
            return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def happened(self, **about: str) -> Entry | None:
        """Return the call of which that is true and which had its effect, or None: what a receiver knows."""
        for entry in self:
            if entry.what in ("returned", "failed", "grew") and all(getattr(entry, k) == v for k, v in about.items()):
                return entry
        return None
