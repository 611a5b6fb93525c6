"""A pin keeps a parent's blobs for its forks."""

from exoflow.journal.pins import is_pinned, pin, pins_by_fork, unpin
from exoflow.stores.contract import ObjectStore


def test_a_parent_is_pinned_until_the_last_fork_lets_go(store: ObjectStore) -> None:
    pin(store, "parent/1", "fork")
    pin(store, "parent/1", "fork")
    pin(store, "parent/1", "other")
    pin(store, "parent/2", "fork")

    by_fork = pins_by_fork(store)

    assert {fork: len(keys) for fork, keys in by_fork.items()} == {"fork": 2, "other": 1}
    assert unpin(store, by_fork["fork"]) == 2
    assert is_pinned(store, "parent/1")
    assert not is_pinned(store, "parent/2")
    unpin(store, by_fork["other"])
    assert not is_pinned(store, "parent/1")
