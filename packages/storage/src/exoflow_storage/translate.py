"""What an operating system's error means to somebody who runs workflows.

The one place where an `OSError` becomes one of ExoFlow's own, with the path, what failed, and the next step.
"""

import errno
import os

from exoflow.errors import ExoFlowError, UnavailableError, UnknownOutcomeError, UsageError

__all__ = ["translate", "unknown_outcome"]

_WAIT = {
    errno.ENOSPC: "free some space, then resume",
    errno.EDQUOT: "free some space or raise the quota, then resume",
    errno.EROFS: "make the file system writable or choose another folder, then resume",
    errno.EACCES: "give this user permission or choose another folder, then resume",
    errno.EPERM: "give this user permission or choose another folder, then resume",
    errno.EIO: "check the disk (the kernel's log says more), then resume",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`), then resume",
    errno.ENFILE: "raise the system's limit of open files, then resume",
    errno.ENOLCK: "free some locks (`lslocks` lists them), then resume",
    errno.EMLINK: "remove finished workflows (`exoflow gc`), then resume",
    errno.ESTALE: "see that the file system is mounted, then resume",
    errno.ENOTCONN: "see that the file system is mounted, then resume",
    errno.ENODEV: "see that the file system is mounted, then resume",
    errno.ENXIO: "see that the disk is attached, then resume",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), then resume",
    errno.ENOMEM: "free some memory, then resume",
    errno.ETIMEDOUT: "wait for the file system to answer, then resume",
}

_CHANGE = {
    errno.ENAMETOOLONG: "choose a folder with a shorter path",
    errno.ENOTDIR: "a file lies where a folder was expected; choose another folder or key",
    errno.EISDIR: "a folder lies where a file was expected; choose another folder or key",
    errno.ELOOP: "the path's symbolic links form a circle; choose another folder",
    errno.EXDEV: "another file system is mounted inside the store's folder; choose a folder without one",
}


def translate(error: OSError, doing: str, path: str) -> ExoFlowError:
    """Return the error to raise from *error*.

    Args:
        error: As the operating system gave it.
        doing: What was tried, for "cannot ...": ``"append to"``.
        path: On what.

    Returns:
        `UsageError` where only another folder or key helps, else `UnavailableError`.
    """
    what = f"cannot {doing} {path}: {_named(error)}"
    if error.errno in _CHANGE:
        return UsageError(f"{what}; {_CHANGE[error.errno]}")
    return UnavailableError(f"{what}; {_WAIT.get(error.errno or 0, 'see to the cause, then resume')}")


def unknown_outcome(error: OSError, path: str) -> UnknownOutcomeError:
    """Return the error for a *path* that has its name, while the disk may yet forget it."""
    return UnknownOutcomeError(
        f"{path} was made, and cannot be made sure of: {_named(error)}; it may be gone after a power cut, read it back"
    )


def _named(error: OSError) -> str:
    if error.errno is None:
        return str(error)
    return f"{os.strerror(error.errno)} ({errno.errorcode.get(error.errno, error.errno)})"
