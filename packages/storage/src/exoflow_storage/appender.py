"""A log on a local disk: one file, one writer, each addition durable before it counts."""

import os
import threading

from exoflow.errors import UnavailableError, UsageError
from exoflow.stores.contract import Buffer
from exoflow_storage.descriptors import Descriptor
from exoflow_storage.files import sync_data
from exoflow_storage.translate import translate

__all__ = ["FileAppender"]


class FileAppender(Descriptor):
    """Appends to the file that was made for it, until the first failure.

    A failed sync may have marked pages as written that are not, and a short write leaves half a batch behind which
    nothing may be put: so the first failure is the last thing this log knows.

    Source:
        Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
    """

    def __init__(self, fd: int, owner: set[Descriptor], path: str) -> None:
        super().__init__(fd, owner)
        self._path = path
        self._turn = threading.Lock()
        self._sound = True

    def append(self, data: Buffer) -> None:
        """See `Appender.append`."""
        if self.fd < 0:
            raise UsageError(f"the appender of {self._path} is closed, or was another process' before a fork")
        with self._turn:
            if not self._sound:
                raise UnavailableError(f"an earlier append to {self._path} failed; go on in an object of another key")
            # Until the sync has returned nothing is known, whatever makes this function end.
            self._sound = False
            try:
                written = os.write(self.fd, data)
                while written < memoryview(data).nbytes:
                    # Short because of the size alone (2 GiB at a time), or because the disk is full: then this raises.
                    written += os.write(self.fd, memoryview(data).cast("B")[written:])
                sync_data(self.fd)
            except OSError as error:
                raise translate(error, "append to", self._path) from error
            if not os.fstat(self.fd).st_nlink:
                # Somebody removed the file, perhaps with all of the store: what was written is in nobody's reach.
                raise UnavailableError(f"{self._path} was removed while it was written; nothing of this append is kept")
            self._sound = True
