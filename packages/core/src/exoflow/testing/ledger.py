"""A receiver of effects for tests: what tasks did to the world, counted as their annotations allow it to be counted.

Tasks note what they do and undo functions take it back. Both are known by the key of the attempt, as a good receiver
would know them: what an idempotent task did twice under one key counts once, and everything else as often as it
was done.
"""

import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from exoflow.errors import UsageError
from exoflow.executors.contract import CallKind
from exoflow.failures.triggers import pattern_of
from exoflow.tasks.context import context, current_call
from exoflow.tasks.policy import Effects

__all__ = ["Entry", "Ledger"]


@attrs.frozen(kw_only=True)
class Entry:
    """One effect of one attempt."""

    task_id: str
    effects: Effects
    """What the task was declared to have."""
    attempt: str
    key: str
    what: str


_ledgers: "weakref.WeakValueDictionary[str, Ledger]" = weakref.WeakValueDictionary()


class Ledger:
    """Effects, as they are noted. Safe to share between threads; of one process.

    A task that carries its ledger in its closure finds the same one again after it was stored and read back.
    """

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        _ledgers[self._name] = self

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that was noted and not taken back, in its order, also what repeats a key."""
        with self._lock:
            return tuple(self._entries)

    def note(self, what: object = "") -> None:
        """Say that the task that runs has an effect, and which: its ``repr`` tells it from others.

        Raises:
            UsageError: No task runs here.
        """
        about, text = context(), what if isinstance(what, str) else repr(what)
        effects = current_call.get().task.policy.effects
        entry = Entry(
            task_id=about.task_id, effects=effects, attempt=about.attempt, key=about.idempotency_key, what=text
        )
        with self._lock:
            self._entries.append(entry)

    def take_back(self) -> bool:
        """Remove what the attempt that is being undone had noted; return whether there was anything.

        Raises:
            UsageError: No undo function runs here.
        """
        about = context()
        if current_call.get().kind is not CallKind.UNDO:
            raise UsageError(f"task {about.task_id!r} takes an effect back outside of an undo function")
        with self._lock:
            kept = [entry for entry in self._entries if entry.key != about.idempotency_key]
            found = len(kept) < len(self._entries)
            self._entries = kept
        return found

    def happened(self, key: str) -> bool:
        """Whether an attempt with *key* noted anything: what a resolve function wants to know."""
        return any(entry.key == key for entry in self.entries)

    def standing(self) -> Mapping[str, int]:
        """Return how often each effect is in the world, where idempotent ones with one key are one."""
        counted: Counter[str] = Counter()
        seen: set[tuple[str, str]] = set()
        for entry in self.entries:
            if entry.effects is Effects.IDEMPOTENT:
                if (entry.key, entry.what) in seen:
                    continue
                seen.add((entry.key, entry.what))
            counted[f"{pattern_of(entry.task_id)}: {entry.what}" if entry.what else pattern_of(entry.task_id)] += 1
        return dict(counted)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __repr__(self) -> str:
        return f"<Ledger {dict(self.standing())}>"

    def __reduce__(self) -> Any:
        return _by_name, (self._name,)


def _by_name(name: str) -> Ledger:
    found = _ledgers.get(name)
    if found is None:
        raise UsageError("a Ledger was read in another process than the one that made it; note effects in a file there")
    return found
