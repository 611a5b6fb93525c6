"""Folders as stores that know more or less of who is alive, and what processes use to wait for each other."""

import fcntl
from pathlib import Path

from exoflow.stores.contract import ObjectStore
from exoflow_storage.local import FileStore, LocalFileStore


class BlindStore(LocalFileStore):
    """A disk whose kernel takes everybody for dead: each start takes over what others run.

    What a lock on one machine says is lost where a container hides it or a virtual machine is copied. Nothing but the
    seal is left to fence with, behind a log that is appended to.
    """

    def is_locked(self, key: str) -> bool:
        """See `SupportsLocks.is_locked`. Nobody ever seems to live."""
        return False


def open_kind(kind: str, folder: str) -> ObjectStore | str:
    """Return the store of that kind: ``local`` as anybody opens it, ``network`` without locks and appends, ``blind``."""
    if kind == "local":
        return f"file://{folder}"
    return FileStore(folder) if kind == "network" else BlindStore(folder)


def pass_gate(gate: str) -> None:
    """Wait until nobody holds *gate*."""
    with Path(gate).open("r") as guard:
        fcntl.flock(guard, fcntl.LOCK_SH)
