"""What the process executor and its workers say to each other, over a pair of connected sockets.

A message is a head, which is any small object, and parts, which may be large and are not copied on their way out. On
their way in they come to lie in one buffer, where a payload would have them: each at a multiple of 64 bytes.

Layout: length of the head (4 bytes), number of parts (4 bytes), length of each part (8 bytes each), head, parts;
all numbers are little endian.
"""

import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import cloudpickle

from exoflow.stores.contract import Buffer

__all__ = ["Message", "dumps", "receive", "send"]

_HEAD = struct.Struct("<II")
_SMALL = 64 * 1024


@attrs.define
class Message:
    """What came."""

    head: Any
    data: bytearray
    """All parts, aligned."""
    lengths: tuple[int, ...]

    @property
    def parts(self) -> list[memoryview]:
        """The parts, as views of `data`."""
        view, end, parts = memoryview(self.data), 0, []
        for length in self.lengths:
            start = _aligned(end)
            end = start + length
            parts.append(view[start:end])
        return parts


def send(channel: socket.socket, head: Any, parts: Sequence[Buffer] = ()) -> None:
    """Send a message.

    Raises:
        OSError: Nobody is there to receive it.
    """
    body = dumps(head)
    views = [memoryview(part).cast("B") for part in parts]
    lengths = [view.nbytes for view in views]
    start = _HEAD.pack(len(body), len(views)) + struct.pack(f"<{len(views)}Q", *lengths) + body
    if sum(lengths) <= _SMALL:
        channel.sendall(b"".join((start, *views)))
        return
    channel.sendall(start)
    for view in views:
        channel.sendall(view)


def receive(channel: socket.socket, wait: Callable[[], None] | None = None) -> Message:
    """Wait for a message.

    Args:
        channel: From where.
        wait: Called before each read; it returns when there is something to read, or raises.

    Raises:
        EOFError: The other side is gone.
    """
    length, count = _HEAD.unpack(_read(channel, bytearray(_HEAD.size), wait))
    lengths: tuple[int, ...] = struct.unpack(f"<{count}Q", _read(channel, bytearray(8 * count), wait))
    head = pickle.loads(_read(channel, bytearray(length), wait))
    end = 0
    for size in lengths:
        end = _aligned(end) + size
    message = Message(head, bytearray(end), lengths)
    for part in message.parts:
        _read(channel, part, wait)
    return message


def _read(channel: socket.socket, target: Any, wait: Callable[[], None] | None) -> Any:
    view = memoryview(target)
    while view:
        if wait is not None:
            wait()
        try:
            count = channel.recv_into(view)
        except ConnectionError:
            count = 0
        if not count:
            raise EOFError
        view = view[count:]
    return target


def dumps(head: Any) -> bytes:
    """Pickle something small, by value where a name would mean something else in the other process."""
    try:
        body = pickle.dumps(head, 5)
        if b"__main__" not in body:  # the other process has another __main__
            return body
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    return cloudpickle.dumps(head, 5)  # type: ignore[no-any-return]


def _aligned(offset: int) -> int:
    return -(-offset // 64) * 64
