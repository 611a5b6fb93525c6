"""How a value becomes bytes and comes back.

Values are pickled with protocol 5: arrays leave the pickle as buffers of their own, neither copied nor
re-encoded, and come back as views of the bytes that were read. A `Payload` is what a journal record holds of a
value: the bytes themselves while they are few, else the name of the blob that an executor has written.
"""

import pickle
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import attrs
import cloudpickle

from exoflow.errors import CorruptCheckpointError
from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["INLINE_BYTES", "Codec", "Encoded", "Live", "Payload", "PickleCodec", "Value", "persist", "restore"]

INLINE_BYTES = 16 * 1024
"""Up to this size a value lies in its record; beyond it, in a blob. A journal flush should stay one small write."""

_ALIGNMENT = 64
"""Buffers start at multiples of this, so that arrays over them are aligned for vector instructions."""

_PADDING = bytes(_ALIGNMENT)
_PLAIN = frozenset({int, str, float, bool, bytes, type(None), complex})


class Live:
    """A value held in this process' memory."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@attrs.frozen
class Payload:
    """A value as bytes: in `data`, or in the blob of that key."""

    codec: str
    lengths: tuple[int, ...]
    """Of each part, in bytes. Parts after the first are buffers, each aligned to 64 bytes."""
    data: bytes | None = None
    blob: str | None = None
    checksum: int = 0
    """CRC-32 of the whole blob; 0 for inline data, which its batch's checksum covers."""

    @property
    def size_bytes(self) -> int:
        """Bytes in the blob or in `data`."""
        end = 0
        for length in self.lengths:
            end = _aligned(end) + length
        return end


Value: TypeAlias = Live | Payload
"""A result as it travels between tasks."""


@attrs.frozen
class Encoded:
    """A value as parts that are not yet joined; buffers alias the value's own memory."""

    parts: tuple[Buffer, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of each part, in bytes."""
        first = self.parts[0]
        if type(first) is bytes and len(self.parts) == 1:  # nearly always
            return (len(first),)
        return tuple(part.nbytes if isinstance(part, memoryview) else len(part) for part in self.parts)


class Codec(Protocol):
    """Turns values into parts and back; the place for JSON, Arrow, compression, encryption and signing."""

    name: str
    """Written into every record, so that the reader finds the same codec again."""

    def encode(self, value: Any) -> Encoded:
        """Return *value* as bytes. May alias the value's own buffers."""
        ...

    def decode(self, parts: Sequence[memoryview]) -> Any:
        """Return the value. May alias *parts*, which stay untouched as long as the value lives."""
        ...


class PickleCodec:
    """Pickle protocol 5; cloudpickle where pickle cannot, or would name something of ``__main__``."""

    name = "pickle"

    def encode(self, value: Any) -> Encoded:
        """Pickle *value*, with large buffers beside the pickle."""
        if type(value) in _PLAIN:
            return Encoded((pickle.dumps(value, 5),))
        buffers: list[pickle.PickleBuffer] = []
        try:
            body = pickle.dumps(value, 5, buffer_callback=buffers.append)
            if b"__main__" in body:  # another process has another __main__: by value, not by name
                raise pickle.PicklingError
        except (pickle.PicklingError, AttributeError, TypeError):
            buffers.clear()
            body = cloudpickle.dumps(value, 5, buffer_callback=buffers.append)
        return Encoded((body, *(buffer.raw() for buffer in buffers)))

    def decode(self, parts: Sequence[memoryview]) -> Any:
        """Unpickle; buffers become views of *parts*."""
        return pickle.loads(parts[0], buffers=parts[1:])


def persist(encoded: Encoded, codec: str, store: ObjectStore, blob_key: str) -> Payload:
    """Make an encoded value durable enough to be named by a record.

    Args:
        encoded: The value's parts.
        codec: Name of the codec that made them.
        store: Where a blob goes; untouched when the value is small.
        blob_key: The blob's name. It begins with the attempt's, so that it is used once.

    Returns:
        A payload whose blob, if there is one, is durable.

    Raises:
        UnavailableError: The store did not take the blob.
    """
    lengths = encoded.lengths
    if len(lengths) == 1 and lengths[0] <= INLINE_BYTES:
        only = encoded.parts[0]
        return Payload(codec, lengths, only if type(only) is bytes else bytes(only))
    if sum(lengths) <= INLINE_BYTES:
        return Payload(codec, lengths, b"".join(_padded(encoded)))
    checksum = 0

    def chunks() -> Iterator[Buffer]:
        nonlocal checksum
        for chunk in _padded(encoded):
            view = memoryview(chunk).cast("B") if not isinstance(chunk, bytes) else memoryview(chunk)
            for start in range(0, len(view), 8 << 20):  # summed while it is in the cache, just before it is written
                piece = view[start : start + (8 << 20)]
                checksum = zlib.crc32(piece, checksum)
                yield piece

    store.write(blob_key, chunks())
    return Payload(codec, lengths, None, blob_key, checksum)


def inline(encoded: Encoded, codec: str) -> Payload:
    """Return an encoded value as a payload in memory, however large: for travelling between processes."""
    parts = list(_padded(encoded))
    return Payload(codec, encoded.lengths, bytes(parts[0]) if len(parts) == 1 else b"".join(parts))


def restore(payload: Payload, codec: Codec, store: ObjectStore) -> Any:
    """Return the value a payload stands for.

    Raises:
        CorruptCheckpointError: The blob is shorter or other than what was written.
        ObjectNotFoundError: The blob is gone.
    """
    if payload.data is not None:
        data: Buffer = payload.data
    else:
        assert payload.blob is not None
        data = store.read(payload.blob)
        if len(data) != payload.size_bytes:
            raise CorruptCheckpointError(payload.blob, f"{len(data)} bytes where {payload.size_bytes} were written")
        if zlib.crc32(data) != payload.checksum:
            raise CorruptCheckpointError(payload.blob, "its checksum differs from the recorded one")
    if len(payload.lengths) == 1:
        return codec.decode((memoryview(data),))
    if memoryview(data).readonly:
        data = bytearray(data)  # arrays over it are to be as writable as those that never left memory
    view, end, parts = memoryview(data), 0, []
    for length in payload.lengths:
        start = _aligned(end)
        end = start + length
        parts.append(view[start:end])
    return codec.decode(parts)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _padded(encoded: Encoded) -> Iterator[Buffer]:
    end = 0
    for part, length in zip(encoded.parts, encoded.lengths, strict=True):
        if padding := _aligned(end) - end:
            yield _PADDING[:padding]
            end += padding
        yield part
        end += length
