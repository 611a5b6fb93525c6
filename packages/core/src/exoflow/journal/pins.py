"""Pins: a fork says that it shares its parent's blobs.

The order makes it safe without a lock. A fork pins first and reads the parent's history then; deletion and garbage
collection first make the history unreadable (a tombstone; segments gone) and then look for pins. Whoever comes
second notices the other.
"""

from collections.abc import Iterable

from exoflow.journal.creation import PATIENT, Patience, create_exactly
from exoflow.journal.layout import PINS, names_in, pin_key, pins_of
from exoflow.stores.contract import ObjectStore

__all__ = ["is_pinned", "pin", "pins_by_fork", "unpin"]


def pin(store: ObjectStore, workflow_id: str, fork_id: str, patience: Patience = PATIENT) -> None:
    """Keep the blobs of a workflow for a fork of it. Afterwards read the parent's history, and only then use it.

    Raises:
        UnknownOutcomeError: No answer. Call it again.
        UnavailableError: The store refused.
    """
    create_exactly(store, pin_key(workflow_id, fork_id), b"{}", patience)


def is_pinned(store: ObjectStore, workflow_id: str) -> bool:
    """Whether a fork needs the blobs of a workflow."""
    return next(iter(store.list(pins_of(workflow_id))), None) is not None


def pins_by_fork(store: ObjectStore) -> dict[str, list[str]]:
    """Return the keys of all pins, by the fork that set them."""
    found: dict[str, list[str]] = {}
    for key in store.list(PINS):
        found.setdefault(names_in(key)[1], []).append(key)
    return found


def unpin(store: ObjectStore, keys: Iterable[str]) -> int:
    """Remove the pins of a fork that is gone; return how many."""
    count = 0
    for key in keys:
        store.delete(key)
        count += 1
    return count
