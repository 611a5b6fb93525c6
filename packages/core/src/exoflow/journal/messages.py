"""What a message's object holds: a payload, in the form records have, so that any codec can be read back."""

import json

from exoflow.errors import CorruptCheckpointError
from exoflow.values import Payload

__all__ = ["decode_payload", "encode_payload"]


def encode_payload(payload: Payload) -> bytes:
    """Return an inline payload as bytes: one line of JSON that describes it, then its data."""
    head = json.dumps({"format": 1, "codec": payload.codec, "lengths": payload.lengths}).encode()
    return head + b"\n" + (payload.data or b"")


def decode_payload(key: str, data: bytes) -> Payload:
    """Return the payload of the message *key*.

    Raises:
        CorruptCheckpointError: It is not a message of ours.
    """
    head, _, body = data.partition(b"\n")
    try:
        described = json.loads(head)
        return Payload(described["codec"], tuple(described["lengths"]), body)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(key, f"this message cannot be read ({error})") from error
