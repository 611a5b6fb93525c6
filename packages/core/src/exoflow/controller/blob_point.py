"""The failure point inside of a blob's write: a store as executors see it while somebody injects failures."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["BlobPoint"]


class BlobPoint:
    """A store that says when the first chunk of an object has been written, and not yet the rest.

    Workers of other processes write without it.

    Args:
        store: The store.
        reached: Called with the object's key, on the thread that writes.
    """

    def __init__(self, store: ObjectStore, reached: Callable[[str], None]) -> None:
        self._store, self._reached = store, reached

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""
        self._store.write(key, self._pause_within(key, chunks))

    def _pause_within(self, key: str, chunks: Iterable[Buffer]) -> Iterator[Buffer]:
        whole = True
        for chunk in chunks:
            if whole:
                half = memoryview(chunk).nbytes // 2
                view = memoryview(chunk).cast("B")
                yield view[:half]
                self._reached(key)
                yield view[half:]
                whole = False
            else:
                yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
