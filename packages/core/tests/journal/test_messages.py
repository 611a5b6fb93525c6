"""A message holds what its sender wrote, or says that it does not."""

import pytest

from exoflow.errors import CorruptCheckpointError, UnsupportedFormatError
from exoflow.journal.checked_json import encode_checked
from exoflow.journal.messages import decode_payload, encode_payload
from exoflow.values import Payload

PAYLOAD = Payload("pickle", (5, 3), b"line\none two")


def test_a_payload_comes_back() -> None:
    assert decode_payload("inbox/w/e/m", encode_payload(PAYLOAD)) == PAYLOAD


def test_every_flipped_bit_is_an_error() -> None:
    data = encode_payload(PAYLOAD)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptCheckpointError, match="inbox/w/e/m"):
            decode_payload("inbox/w/e/m", bytes(damaged))


def test_a_message_of_a_newer_version_is_refused() -> None:
    with pytest.raises(UnsupportedFormatError, match="inbox/w/e/m"):
        decode_payload("inbox/w/e/m", encode_checked({"format": 2}) + b"\n")
