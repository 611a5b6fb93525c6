"""Small objects as JSON that carries its own checksum: one flipped bit in a claim would lead a workflow astray."""

import json
import zlib
from typing import Any

from exoflow.errors import CorruptCheckpointError
from exoflow.stores.contract import Buffer

__all__ = ["decode_checked", "encode_checked"]

_MARK = b',"crc":'


def encode_checked(fields: dict[str, Any]) -> bytes:
    """Return *fields* as one JSON object, whose last field is the CRC-32 of the object without it.

    Args:
        fields: At least one; none called ``crc``.
    """
    text = json.dumps(fields, separators=(",", ":")).encode()
    return text[:-1] + _MARK + b"%d}" % zlib.crc32(text)


def decode_checked(key: str, data: Buffer, what: str) -> dict[str, Any]:
    """Return the fields of an object that `encode_checked` made.

    Args:
        key: Where it lies, for messages.
        data: All of it.
        what: What it should be, for messages.

    Raises:
        CorruptCheckpointError: It is not what was written.
    """
    head, mark, tail = bytes(data).rpartition(_MARK)
    text = head + b"}"
    if not mark or tail != b"%d}" % zlib.crc32(text):
        raise CorruptCheckpointError(key, f"{what} whose checksum is wrong")
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise CorruptCheckpointError(key, f"{what} that cannot be read ({error})") from error
    return fields
