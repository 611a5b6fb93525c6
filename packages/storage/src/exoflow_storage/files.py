"""What the store asks of the operating system: whole writes, syncs, reads into memory that can be kept."""

# ruff: noqa: PTH102, PTH112, PTH120
# Plain strings: a path object costs as much as some of the calls it is made for.

import contextlib
import errno
import mmap
import os
from collections.abc import Callable

from exoflow.stores.contract import Buffer

__all__ = ["ATTEMPTS", "Writer", "make_folders", "read_range", "sync_data", "sync_folder", "sync_log"]

_WRITE_BEHIND_BYTES = 8 << 20
"""How much may be waiting in the page cache before the disk is told to begin.

Measured, 1 GiB on ext4 over virtio, medians of six runs in turn: 1.2 s so, 1.8 s with nothing but a sync at the end,
1.5 s with an `fdatasync` every 64 MiB; the last sync takes 10 ms instead of 500.
"""

_MAPPED_BYTES = 256 << 10
"""From this size a read goes into pages of its own, not into a `bytearray`, whose zeroing costs as much as the reading.

Measured, 1 GiB from the page cache: 0.85 s, 1.6 s into a `bytearray`.
"""

_LARGEST_READ = 1 << 30  # Linux transfers at most 2 GiB less a page at a time

sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Make a file's bytes durable, and of what is known about it only what is needed to read them."""


class Writer:
    """Writes chunks to a file one after the other, neither held nor copied, and has the disk begin early."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._written = self._begun = 0

    def write(self, chunk: Buffer) -> None:
        """Write all of *chunk*."""
        view = memoryview(chunk)
        if not view.nbytes:
            return  # and an empty array cannot be cast
        view = view.cast("B")
        position = 0
        while position < view.nbytes:
            # Large chunks are cut, so that the disk begins before the last byte has been handed over.
            count = os.write(self._fd, view[position : position + _WRITE_BEHIND_BYTES])
            position += count
            self._written += count
            if self._written - self._begun >= _WRITE_BEHIND_BYTES:
                _start_writing(self._fd, self._begun, self._written - self._begun)
                self._begun = self._written


def _start_writing(fd: int, offset: int, length: int) -> None:
    # POSIX_FADV_DONTNEED on dirty pages makes Linux write them without waiting; they leave the cache only if it
    # happens to be done already. It is advice: where there is none to give, the final sync does all the work.
    with contextlib.suppress(AttributeError, OSError):
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def read_range(fd: int, start: int, length: int) -> bytearray | memoryview:
    """Return up to *length* bytes from *start*, in memory that the caller may keep and change.

    Large answers begin at a page, so arrays over them are as aligned as they were when written.
    """
    if length < _MAPPED_BYTES:
        small = bytearray(length)
        count = _read_into(fd, start, memoryview(small))
        del small[count:]
        return small
    # Private, so that a forked child that changes its value does not change ours.
    large = memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return large[: _read_into(fd, start, large)]


def _read_into(fd: int, start: int, target: memoryview) -> int:
    count = 0
    while count < target.nbytes:
        got = os.preadv(fd, [target[count : count + _LARGEST_READ]], start + count)
        if not got:
            break
        count += got
    return count


ATTEMPTS = 100
"""How often others may remove an empty folder just before something is put into it."""


def make_folders(folder: str) -> None:
    """Make *folder* and those above it, each with a durable name, while others do the same or remove empty ones."""
    for attempt in range(ATTEMPTS):
        try:
            os.mkdir(folder)
        except FileExistsError:
            if os.path.isdir(folder):
                return
            if os.path.lexists(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
        except FileNotFoundError:
            if attempt == ATTEMPTS - 1:
                raise  # it is there and takes no folders, as /proc does
            make_folders(os.path.dirname(folder))
        else:
            sync_folder(os.path.dirname(folder))
            return


def sync_folder(folder: str) -> None:
    """Make the names in *folder* durable. One that is gone has none left to lose."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network file systems have no such thing: their server keeps names durable at once.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def sync_log(fd: int) -> None:
    """Make durable what has been read from a file that another process may be appending to."""
    try:
        sync_data(fd)
    except OSError as error:
        # A read-only file system has nothing to sync.
        if error.errno not in (errno.EROFS, errno.EINVAL):
            raise
