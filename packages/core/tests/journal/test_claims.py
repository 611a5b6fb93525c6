"""A claim finds a journal, and one contender wins each epoch."""

from typing import Any

import pytest

from exoflow.errors import CorruptCheckpointError, UnsupportedFormatError
from exoflow.journal.checked_json import encode_checked
from exoflow.journal.claims import Claim, claim, highest_claim, read_claim, tombstone
from exoflow.journal.layout import claim_key
from exoflow.stores.contract import ObjectStore
from exoflow.stores.memory import MemoryStore


def test_the_highest_claim_counts(store: ObjectStore) -> None:
    assert highest_claim(store, "w") is None

    for epoch in (1, 2, 10):
        claim(store, "w", epoch, f"j{epoch}", since=epoch)
    claim(store, "w-other", 99, "j99")

    assert highest_claim(store, "w") == Claim(workflow_id="w", epoch=10, journal_id="j10", since=10)
    assert read_claim(store, "w", 2) == Claim(workflow_id="w", epoch=2, journal_id="j2", since=2)
    assert read_claim(store, "w", 3) is None


def test_who_loses_learns_who_won(store: ObjectStore) -> None:
    assert claim(store, "w", 1, "first").journal_id == "first"
    assert claim(store, "w", 1, "second").journal_id == "first"
    assert tombstone(store, "w", 1, 5.0).journal_id == "first"


def test_a_tombstone_says_that_the_id_is_deleted(store: ObjectStore) -> None:
    claim(store, "w", 1, "j")
    made = tombstone(store, "w", 2, 7.5)

    assert made.deleted
    assert highest_claim(store, "w") == made


def test_of_many_claims_at_once_one_wins(store: ObjectStore, together: Any) -> None:
    answers = together([lambda n=n: claim(store, "w", 1, f"j{n}") for n in range(6)])

    assert len({answer.journal_id for answer in answers}) == 1
    assert highest_claim(store, "w") == answers[0]


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff"])
def test_a_damaged_claim_is_refused(text: bytes) -> None:
    store = MemoryStore()
    store.create(claim_key("w", 1), text)

    with pytest.raises(CorruptCheckpointError, match="claims/w"):
        highest_claim(store, "w")


def test_a_claim_of_a_newer_version_is_refused() -> None:
    store = MemoryStore()
    store.create(claim_key("w", 1), encode_checked({"format": 2}))

    with pytest.raises(UnsupportedFormatError):
        highest_claim(store, "w")
