"""Open files that mean something while they are open: a lock that is held, a log that has one writer."""

import os
import threading
import weakref

__all__ = ["Descriptor"]


class Descriptor:
    """An open file that is closed once, and that no forked child keeps.

    A lock lives as long as any process has its file open. `exec` closes it (Python opens everything with O_CLOEXEC);
    a fork alone, as `multiprocessing` does with the start method "fork", does not: the children a killed process leaves
    behind would go on holding its locks, and a log would have two writers. So the first act of a forked child is to
    close what it inherited, which takes nothing from its parent.

    Args:
        fd: The open file.
        owner: What closes it in the end, and forgets it when it is closed earlier.
    """

    def __init__(self, fd: int, owner: "set[Descriptor]") -> None:
        self.fd = fd
        self._owner = owner
        self._closing = threading.Lock()
        owner.add(self)
        _all.add(self)

    def close(self) -> None:
        """Close the file, unless that has been done."""
        with self._closing:
            fd, self.fd = self.fd, -1
        if fd >= 0:
            self._owner.discard(self)
            try:
                self._before_close(fd)
            finally:
                os.close(fd)

    def _before_close(self, fd: int) -> None:
        """Called once, and not in a forked child."""

    def __del__(self) -> None:
        self.close()

    def _abandon(self) -> None:
        # A thread that does not exist on this side of the fork may have been holding the lock.
        self._closing = threading.Lock()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


_all: "weakref.WeakSet[Descriptor]" = weakref.WeakSet()


def _abandon_all() -> None:
    for descriptor in list(_all):
        descriptor._abandon()


os.register_at_fork(after_in_child=_abandon_all)
