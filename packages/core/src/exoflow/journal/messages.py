"""What a message's object holds: a payload, in the form records have, so that any codec can be read back."""

import zlib

from exoflow.errors import CorruptCheckpointError, UnsupportedFormatError
from exoflow.journal.checked_json import decode_checked, encode_checked
from exoflow.values import Payload

__all__ = ["decode_payload", "encode_payload"]

_FORMAT = 1


def encode_payload(payload: Payload) -> bytes:
    """Return an inline payload as bytes: one line of JSON that describes it, then its data."""
    data = payload.data or b""
    head = encode_checked(
        {"format": _FORMAT, "codec": payload.codec, "lengths": payload.lengths, "checksum": zlib.crc32(data)}
    )
    return head + b"\n" + data


def decode_payload(key: str, data: bytes) -> Payload:
    """Return the payload of the message *key*.

    Raises:
        CorruptCheckpointError: It is not what was written.
        UnsupportedFormatError: A newer version made it.
    """
    head, _, body = data.partition(b"\n")
    described = decode_checked(key, head, "a message")
    try:
        if described["format"] > _FORMAT:
            raise UnsupportedFormatError(f"the message {key}", described["format"], _FORMAT)
        if described["checksum"] != zlib.crc32(body):
            raise CorruptCheckpointError(key, "a message whose data's checksum is wrong")
        return Payload(described["codec"], tuple(described["lengths"]), body)
    except (KeyError, TypeError) as error:
        raise CorruptCheckpointError(key, f"this message cannot be read ({error})") from error
