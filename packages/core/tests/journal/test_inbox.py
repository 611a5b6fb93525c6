"""Messages arrive once, in order, and wait for workflows that do not exist yet."""

import pytest

from exoflow.errors import ObjectNotFoundError, UsageError
from exoflow.journal import inbox
from exoflow.stores.contract import ObjectStore


def test_messages_are_found_by_workflow_and_event_in_order(store: ObjectStore) -> None:
    for workflow_id, event, message_id in [
        ("w/1", "paid?", "2"),
        ("w/1", "paid?", "1"),
        ("w/1", "b", "1"),
        ("w", "b", "1"),
    ]:
        inbox.send(store, workflow_id, event, message_id, event.encode())

    found = inbox.pending(store)

    assert {w: {e: [m.message_id for m in ms] for e, ms in by.items()} for w, by in found.items()} == {
        "w/1": {"paid?": ["1", "2"], "b": ["1"]},
        "w": {"b": ["1"]},
    }
    assert inbox.pending(store, "w") == {"w": found["w"]}
    assert bytes(inbox.read(store, found["w/1"]["paid?"][0])) == b"paid?"


def test_a_retry_is_the_same_message(store: ObjectStore) -> None:
    first = inbox.send(store, "w", "e", "m", b"x")

    assert inbox.send(store, "w", "e", "m", b"x") == first
    with pytest.raises(UsageError, match="another message"):
        inbox.send(store, "w", "e", "m", b"y")


def test_a_message_that_was_removed_is_gone(store: ObjectStore) -> None:
    message = inbox.send(store, "w", "e", "m", b"x")

    inbox.remove(store, message)
    inbox.remove(store, message)

    assert inbox.pending(store) == {}
    with pytest.raises(ObjectNotFoundError):
        inbox.read(store, message)


def test_a_request_to_cancel_is_a_message_of_its_own_kind(store: ObjectStore) -> None:
    inbox.send(store, "w", inbox.CANCEL, "m", b"")
    inbox.send(store, "w", "cancel", "m", b"")

    assert set(inbox.pending(store)["w"]) == {inbox.CANCEL, "cancel"}


def test_message_ids_sort_by_time() -> None:
    ids = [inbox.new_message_id(1_700_000_000 + n / 1000) for n in range(20)]

    assert ids == sorted(ids)
