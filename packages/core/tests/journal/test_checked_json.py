"""One flipped bit in a small object is noticed, wherever it is."""

import json

import pytest

from exoflow.errors import CorruptCheckpointError
from exoflow.journal.checked_json import decode_checked, encode_checked

FIELDS = {"format": 1, "journal": "j1m83gsk5ajysy9h", "since": 12, "deleted_at": None, "beat": 1763873647.125}


def test_it_is_json_for_anybody_else() -> None:
    found = json.loads(encode_checked(FIELDS))

    assert found.pop("crc") > 0
    assert found == FIELDS


def test_what_was_written_comes_back() -> None:
    assert decode_checked("k", encode_checked(FIELDS), "a claim") == FIELDS


def test_every_flipped_bit_is_an_error_that_names_the_key() -> None:
    data = encode_checked(FIELDS)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptCheckpointError, match="claims/w/1: a claim"):
            decode_checked("claims/w/1", damaged, "a claim")


def test_every_truncation_is_an_error() -> None:
    data = encode_checked(FIELDS)
    for length in range(len(data)):
        with pytest.raises(CorruptCheckpointError):
            decode_checked("k", data[:length], "a claim")
