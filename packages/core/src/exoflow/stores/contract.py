"""The contract between ExoFlow and the place that keeps its bytes.

A store is a map from keys to bytes with one unusual promise: of all attempts to create a key exactly one
wins, even when the losers run on other machines and never hear of it. Stores know nothing of workflows or
retries; `exoflow.journal` is built on the five verbs here. Two further abilities are optional Protocols
of their own: `SupportsAppend` for disks, `SupportsLocks` where the kernel knows who is alive.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias, runtime_checkable

__all__ = ["Appender", "Buffer", "Lock", "ObjectStore", "SharedLock", "SupportsAppend", "SupportsLocks"]

Buffer: TypeAlias = bytes | bytearray | memoryview


class ObjectStore(Protocol):
    """A place that keeps bytes. Safe to share between threads.

    Keys are slash-separated and relative to the store's root; their parts are drawn from ``[A-Za-z0-9._~-]``
    and neither empty nor ``.`` nor ``..``, at most 255 characters a part and 900 in all; upper and lower case differ.
    Anything else is a `UsageError` (`exoflow.stores.keys`). No key lies beneath another (``a`` and ``a/b``): a store
    that is a file system cannot hold both, and raises `UsageError` too.
    """

    url: str
    """The URL this store was opened under; another process opens the same store with it."""

    shared: bool
    """Whether another process can open `url` and find the same bytes there."""

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        """Store *data* under *key*, whole and durable, unless the key exists.

        When this returns True the bytes survive the loss of this machine as far as the store ever promises, and no
        reader ever saw a part of them.

        Args:
            key: Where.
            data: At most 16 MiB; larger payloads are blobs, see `write`.
            timeout_s: Seconds to wait for the store before giving up.

        Returns:
            True if these bytes won; False if *key* existed, and still holds what it held.

        Raises:
            UnknownOutcomeError: No answer. Whether the key was created is unknown; read it back.
            UnavailableError: The store refused (full, read-only, unreachable); the key was not created.
        """
        ...

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """Return the bytes of *key* from *start* up to *end* (its length when None).

        A *start* past the end gives an empty answer. The caller may keep what it is given, and change it unless it
        is `bytes`. The bytes of the answer are durable, also where another process is still appending: they may be
        acted upon.

        Raises:
            ObjectNotFoundError: No such key.
            UnavailableError: No answer.
            UsageError: A negative *start* or *end*.
        """
        ...

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """Store the concatenation of *chunks* under *key*: durable when this returns, and never seen in part.

        For immutable objects with names of their own (blobs). Writing a key twice with the same bytes is
        harmless. Chunks are written as they come and not held: their maker may fill one buffer again and again. What
        it raises is passed on, and the key does not exist then.

        Raises:
            UnavailableError: The bytes are not durable; the key may or may not exist.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield every key that starts with *prefix*, in ascending order, including those just created.

        The *prefix* is a plain string: ``"journals/a"`` also names ``journals/ab/0``.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove *key*. Removing what does not exist is not an error; after a power cut it may be back."""
        ...

    def close(self) -> None:
        """Let go of connections, files and locks. Calling it twice is harmless; any other call is a `UsageError` now."""
        ...


class Appender(Protocol):
    """One object being written at its end by the process that created it."""

    def append(self, data: Buffer) -> None:
        """Add *data* at the end; durable when this returns.

        Raises:
            UnavailableError: Failed or short. Nothing of *data* may be believed, and this appender refuses
                further use: after a failed sync the kernel may have dropped the pages.
            UsageError: It is closed, or its store is, or it belongs to the process this one was forked from.
        """
        ...

    def close(self) -> None:
        """Let go of the file. What was appended stays."""
        ...


@runtime_checkable
class SupportsAppend(Protocol):
    """A store on a local disk, where adding to an object is cheaper than making a new one.

    Only for file systems on which a look at a name is never answered from a cache (not NFS, SMB or FUSE).
    """

    def appender(self, key: str) -> Appender | None:
        """Create *key* empty and durable, and return the right to append to it; None if *key* exists.

        Raises:
            UnknownOutcomeError: Whether the key was created is unknown; nobody appends to it.
            UnavailableError: The store refused; the key was not created.
        """
        ...


class Lock(Protocol):
    """A lock that the kernel takes back when its process dies. A forked child does not hold its parent's."""

    def release(self) -> None:
        """Give it up. Calling it twice is harmless."""
        ...


@runtime_checkable
class SharedLock(Lock, Protocol):
    """A lock that processes hold together with its owner if they are handed its descriptor, until the last of them is dead."""

    def fileno(self) -> int:
        """Return the descriptor; it is the lock's own, to be copied and not to be closed."""
        ...


@runtime_checkable
class SupportsLocks(Protocol):
    """A store that knows whether a process on this machine is alive."""

    def lock(self, key: str) -> Lock | None:
        """Lock *key*; None if somebody holds it, this process included.

        The lock is on the object, not the name: it ends with a `delete` or `write` of *key*.

        Raises:
            ObjectNotFoundError: No such key.
        """
        ...

    def is_locked(self, key: str) -> bool:
        """Whether somebody, this process included, holds *key*. False if there is no such key.

        Asking never makes another's `lock` fail.
        """
        ...
