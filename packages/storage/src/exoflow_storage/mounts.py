"""Which file systems answer every look at a name from the truth.

An append has no number that a successor could take first, so its writer looks for the seal after each sync, before
it believes. On a network file system that look may be answered from a cache; there, nothing is appended.
"""

import os
from pathlib import Path

__all__ = ["file_system_of", "is_local"]

_LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs", "tmpfs", "xfs", "zfs"}
)
"""Known to be on this machine. Whatever is not named here is treated as if it were remote: correct, and slower."""


def is_local(path: str) -> bool:
    """Whether *path*, which need not exist, lies on a disk of this machine, as far as that can be known."""
    return file_system_of(path) in _LOCAL


def file_system_of(path: str, mounts: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of the file system *path* lies on, such as ``ext4``; None where nothing tells.

    The longest mount point above *path* decides, not the device number: Btrfs gives its subvolumes device numbers of
    their own.

    Source:
        proc_pid_mountinfo(5).
    """
    real = os.path.realpath(path)
    best, found = "", None
    try:
        with Path(mounts).open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.split(" ")
                point = _unescaped(fields[4])
                # Of two mounts on one point the later lies on top.
                if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
                    best, found = point, fields[fields.index("-") + 1]
    except (OSError, IndexError, ValueError):
        return None
    return found


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
