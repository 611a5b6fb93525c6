"""Names become keys and come back, whatever people choose."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.errors import UsageError
from exoflow.journal import layout
from exoflow.stores.keys import check_key

names = st.text(min_size=1, max_size=20)


@given(names)
def test_every_name_comes_back_from_its_key(name: str) -> None:
    part = layout.escape(name)

    assert layout.unescape(part) == name
    assert "/" not in part
    check_key(layout.claim_key(name, 1))


@given(names, names)
def test_two_names_never_share_a_key(one: str, other: str) -> None:
    assert (layout.escape(one) == layout.escape(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "a/../b", "~", "~41", "A", "über", "x" * 250, "\0", " ", "-", "\ud800"]
)
def test_names_that_mean_something_to_a_disk_are_names_like_any_other(name: str) -> None:
    check_key(layout.blob_key(name, "j.1.1"))
    assert layout.unescape(layout.escape(name)) == name


def test_plain_names_stay_readable() -> None:
    assert layout.escape("order-17_b.2") == "order-17_b.2"
    assert layout.escape("a/b") == "a~2Fb"


@pytest.mark.parametrize("name", ["", "x" * 251, "ü" * 50])
def test_names_that_fit_no_key_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        layout.escape(name)


def test_journal_ids_sort_by_time_and_differ() -> None:
    chance = random.Random(1).getrandbits
    ids = [layout.new_journal_id(1_700_000_000 + n, chance) for n in range(50)]

    assert ids == sorted(ids)
    assert all(len(made) == 16 and made.isalnum() and made == made.lower() for made in ids)
    assert layout.new_journal_id(5.0) != layout.new_journal_id(5.0)


def test_a_journal_is_found_in_the_ids_that_begin_with_it() -> None:
    made = layout.new_journal_id(1_700_000_000.5)

    assert layout.journal_of(f"{made}-17") == made
    assert layout.journal_of(f"{made}.3.17") == made
    assert layout.journal_of(made) is None
    assert layout.journal_of("order-17") is None
    assert layout.journal_of(f"{made}x-17") is None


def test_keys_can_be_read_back() -> None:
    assert layout.epoch_of(layout.claim_key("w", 12)) == 12
    assert layout.sequence_of(layout.segment_key("j", 7)) == 7
    assert layout.names_in(layout.message_key("a/b", "paid?", "m 1")) == ("a/b", "paid?", "m 1")
    assert layout.claim_key("w", 9) < layout.claim_key("w", 10)
