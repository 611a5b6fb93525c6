"""A store in this process' memory, for tests and for runs that need not outlive it.

It keeps every promise of the contract but one: nothing here survives the process. Stores opened under the same
name share their bytes; a store without a name is alone, and its bytes go when its last client does.
"""

import itertools
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Self

from exoflow.errors import ObjectNotFoundError, UnknownOptionError, UsageError
from exoflow.stores.contract import Buffer
from exoflow.stores.keys import check_key, check_prefix

__all__ = ["MemoryStore"]

_SCHEME = "memory://"


class MemoryStore:
    """Keeps objects in a dictionary. Safe to share between threads; invisible to other processes.

    Args:
        name: Which bytes. Clients of one name share them for as long as the process lives; without a name
            the store is new and empty.
    """

    shared: bool = False

    def __init__(self, name: str | None = None) -> None:
        self._space = _private_space() if name is None else _named_space(name)
        self.url: str = _SCHEME + self._space.name
        self._closed = False
        self._locks: set[_MemoryLock] = set()

    @classmethod
    def open(cls, url: str, **options: object) -> Self:
        """Open ``memory://<name>``, or a new private store for a bare ``memory://``."""
        if not url.startswith(_SCHEME):
            raise UsageError(f"{url!r} is not in memory: expected memory://<name>, or memory:// for a private store")
        if options:
            raise UnknownOptionError(f"memory:// takes no options, and was given {', '.join(sorted(options))}")
        return cls(url.removeprefix(_SCHEME) or None)

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        """See `ObjectStore.create`."""
        self._check_open()
        content = bytes(data)
        space = self._space
        with space.mutex:
            if key in space.objects:
                return False
            space.add(key, content)
        return True

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """See `ObjectStore.read`."""
        self._check_open()
        if start < 0 or (end is not None and end < 0):
            raise UsageError(f"read of {key!r} from {start} to {end}: expected offsets from the beginning")
        with self._space.mutex:
            content = self._space.objects.get(key)
            if content is not None:
                return bytes(content[start:end])
        check_key(key)
        raise ObjectNotFoundError(key)

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""
        self._check_open()
        check_key(key)
        # Each chunk is copied as it comes: its maker may fill the same buffer again for the next one.
        content = b"".join([bytes(chunk) for chunk in chunks])
        space = self._space
        with space.mutex:
            if key in space.objects:
                space.replace(key, content)
            else:
                space.add(key, content)

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`. The answer is a snapshot."""
        self._check_open()
        check_prefix(prefix)
        with self._space.mutex:
            keys = self._space.sorted_keys()
            # DEL follows every character a key may hold.
            return iter(keys[bisect_left(keys, prefix) : bisect_left(keys, prefix + "\x7f")])

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        self._check_open()
        space = self._space
        with space.mutex:
            if key in space.objects:
                space.remove(key)
                return
        check_key(key)

    def appender(self, key: str) -> "_MemoryAppender | None":
        """See `SupportsAppend.appender`."""
        self._check_open()
        space = self._space
        with space.mutex:
            if key in space.objects:
                return None
            log = bytearray()
            space.add(key, log)
        return _MemoryAppender(self, key, log)

    def lock(self, key: str) -> "_MemoryLock | None":
        """See `SupportsLocks.lock`."""
        self._check_open()
        check_key(key)
        space = self._space
        with space.mutex:
            if key not in space.objects:
                raise ObjectNotFoundError(key)
            if key in space.holders:
                return None
            lock = space.holders[key] = _MemoryLock(space, key, self._locks)
        self._locks.add(lock)
        return lock

    def is_locked(self, key: str) -> bool:
        """See `SupportsLocks.is_locked`."""
        self._check_open()
        check_key(key)
        return key in self._space.holders

    def close(self) -> None:
        """See `ObjectStore.close`. The bytes of a named store stay."""
        self._closed = True
        for lock in tuple(self._locks):
            lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the store {self.url} is closed; open it again")

    def __repr__(self) -> str:
        return f"<MemoryStore {self.url}>"


class _Space:
    """The bytes behind all clients of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mutex = threading.Lock()
        self.objects: dict[str, bytes | bytearray] = {}
        self.holders: dict[str, _MemoryLock] = {}
        self._folders: dict[str, int] = {}
        self._sorted: list[str] | None = []

    def add(self, key: str, content: bytes | bytearray) -> None:
        check_key(key)
        above = _folders_above(key)
        # A file system cannot hold both `a` and `a/b`. Refusing it here shows such a layout to the first test.
        if key in self._folders:
            raise UsageError(f"{key!r} cannot hold an object: other keys lie beneath it; choose another key")
        for folder in above:
            if folder in self.objects:
                raise UsageError(f"{key!r} cannot lie beneath {folder!r}, which holds an object; choose another key")
        for folder in above:
            self._folders[folder] = self._folders.get(folder, 0) + 1
        self.objects[key] = content
        self._sorted = None

    def replace(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.holders.pop(key, None)

    def remove(self, key: str) -> None:
        del self.objects[key]
        self.holders.pop(key, None)
        for folder in _folders_above(key):
            self._folders[folder] -= 1
            if not self._folders[folder]:
                del self._folders[folder]
        self._sorted = None

    def sorted_keys(self) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted


class _MemoryAppender:
    """The right to add to one object."""

    def __init__(self, store: MemoryStore, key: str, log: bytearray) -> None:
        self._store: MemoryStore | None = store
        self._space = store._space
        self._key = key
        self._log = log

    def append(self, data: Buffer) -> None:
        """See `Appender.append`."""
        if self._store is None or self._store._closed:
            raise UsageError(f"the appender of {self._key!r} is closed; open an object of another key")
        with self._space.mutex:
            self._log += data

    def close(self) -> None:
        """See `Appender.close`."""
        self._store = None


class _MemoryLock:
    """A lock of one key; released when its store is closed."""

    def __init__(self, space: _Space, key: str, held: "set[_MemoryLock]") -> None:
        self._space = space
        self._key = key
        self._held = held

    def release(self) -> None:
        """See `Lock.release`."""
        with self._space.mutex:
            if self._space.holders.get(self._key) is self:
                del self._space.holders[self._key]
        self._held.discard(self)


_named: dict[str, _Space] = {}
_private: weakref.WeakValueDictionary[str, _Space] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_registry = threading.Lock()


def _named_space(name: str) -> _Space:
    check_key(name)
    with _registry:
        space = _private.get(name) or _named.get(name)
        if space is None:
            space = _named[name] = _Space(name)
        return space


def _private_space() -> _Space:
    # The tilde keeps these names apart from what people choose; `open(store.url)` finds the space while it is in use.
    with _registry:
        space = _Space(f"~private-{next(_numbers)}")
        _private[space.name] = space
        return space


def _folders_above(key: str) -> list[str]:
    folders = []
    slash = key.find("/")
    while slash >= 0:
        folders.append(key[:slash])
        slash = key.find("/", slash + 1)
    return folders
