"""Who seems to be alive."""

from typing import Any

import pytest

from exoflow.errors import CorruptCheckpointError
from exoflow.journal.layout import open_key
from exoflow.journal.liveness import HEARTBEAT_PATIENCE_S, is_live, list_open, read_open
from exoflow.stores.contract import SupportsLocks
from exoflow.stores.memory import MemoryStore


def test_a_writer_lives_until_it_lets_go(world: Any) -> None:
    first = world.controller()

    assert list_open(world.store) == [first.id]
    assert is_live(world.store, first.id, world.now)
    assert read_open(world.store, first.id).host == "here"
    first.crash()
    assert not is_live(world.store, first.id, world.now)
    assert list_open(world.store) == [first.id]


def test_without_locks_a_writer_lives_while_it_says_so(world: Any) -> None:
    first = world.controller()
    if isinstance(world.store, SupportsLocks):
        world.now += 10 * HEARTBEAT_PATIENCE_S
        first.writer.beat(world.now)
        assert is_live(world.store, first.id, world.now)
        return
    world.now += HEARTBEAT_PATIENCE_S + 1
    assert not is_live(world.store, first.id, world.now)
    first.writer.beat(world.now)
    assert is_live(world.store, first.id, world.now)


def test_a_journal_nobody_opened_has_no_writer(world: Any) -> None:
    assert read_open(world.store, "j0") is None
    assert not is_live(world.store, "j0", world.now)


def test_a_damaged_entry_is_refused() -> None:
    store = MemoryStore()
    store.create(open_key("j0"), b"[]")

    with pytest.raises(CorruptCheckpointError):
        read_open(store, "j0")
