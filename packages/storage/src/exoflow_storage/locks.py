"""Locks that the kernel takes back when their process dies.

Two locks of the kernel make one of ours. `flock` excludes, and asks for no right to write; but whether a file is so
locked can be learnt only by locking it, and the one who asks would get in the way of one who means it. So a holder
adds an open-file-description lock, which `F_OFD_GETLK` shows to anybody without taking anything. Both belong to the
open file, hence exclude threads of one process too, and end when its last descriptor is closed.

Source:
    flock(2); fcntl_locking(2), "Open file description locks".
"""

import fcntl
import os
import stat
import struct

from exoflow_storage.descriptors import Descriptor

__all__ = ["FileLock", "available", "is_locked", "try_lock"]

available = hasattr(fcntl, "F_OFD_GETLK")
"""Whether this system lets a lock be seen without taking it (Linux does)."""

_FLOCK = struct.Struct("hhqqi")  # of C: type, whence, start, length (0: to the end), process


class FileLock(Descriptor):
    """A lock on one file: held until it is released, its store is closed, or its process is dead."""

    def fileno(self) -> int:
        """See `SharedLock.fileno`."""
        return self.fd

    def release(self) -> None:
        """See `Lock.release`."""
        self.close()

    def _before_close(self, fd: int) -> None:
        # A process just started by another thread has a copy of the descriptor until its exec, and the kernel waits
        # for the last copy: say it, rather than only close.
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_UNLCK))
        fcntl.flock(fd, fcntl.LOCK_UN)


def try_lock(path: str, owner: set[Descriptor]) -> FileLock | None:
    """Lock the file at *path*, on behalf of *owner*; None if anybody holds it.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be locked.
    """
    fd = _open(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_RDLCK))
        _check_is_there(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return FileLock(fd, owner)


def is_locked(path: str) -> bool:
    """Whether anybody holds the file at *path*. Takes nothing, so that nobody who locks is refused because of it.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be asked.
    """
    fd = _open(path)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    finally:
        os.close(fd)
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _check_is_there(fd: int, path: str) -> None:
    # A lock on a file that lost its name meanwhile excludes nobody. A folder can be locked too, and is no object.
    about = os.fstat(fd)
    if not about.st_nlink or not stat.S_ISREG(about.st_mode):
        raise FileNotFoundError(path)


def _whole_file(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)
