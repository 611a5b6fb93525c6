"""Stores in a folder: a key is a file, and creating one is a hard link, which only one process can win.

A new object is written to a temporary file, synced, linked to its name, and the folder synced: whoever sees the name
sees every byte, whatever process or machine dies when. (Opening the name with O_EXCL and then writing shows readers
empty objects, and a crash leaves the key taken by nothing.)

Files that are whole when they get their name are read-only; one that can be written is a log that may still grow,
and what is read of it is synced first, so that no reader acts on bytes that a power cut takes back.
"""

# ruff: noqa: PTH100, PTH106, PTH108, PTH112, PTH118, PTH120
# Plain strings: a path object costs as much as some of the calls it is made for.

import contextlib
import errno
import os
import stat
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from exoflow.errors import ObjectNotFoundError, UnknownOptionError, UnsuitableStoreError, UsageError
from exoflow.stores.contract import Buffer
from exoflow.stores.keys import check_key, check_prefix, is_part
from exoflow_storage import locks
from exoflow_storage.appender import FileAppender
from exoflow_storage.descriptors import Descriptor
from exoflow_storage.files import ATTEMPTS, Writer, make_folders, read_range, sync_data, sync_folder, sync_log
from exoflow_storage.mounts import file_system_of, is_local
from exoflow_storage.translate import translate, unknown_outcome

__all__ = ["FileStore", "LocalFileStore", "open_file_store"]

_SCHEME = "file://"

_TEMPORARY = "+tmp"
"""The folder of half-written files; no key can have this name."""

_LEFTOVER_AGE_S = 24 * 3600.0
"""A temporary file untouched for so long was left by a process that died."""

_WHOLE, _LOG = 0o444, 0o644


def open_file_store(url: str, **options: Any) -> "FileStore":
    """Open the folder that *url* names. It is made by the first write, not by looking.

    Args:
        url: ``file:///var/flows``, or ``file://./flows`` relative to the current folder; a bare path also does.
            ``%20`` and its like are decoded. ``~`` is not: only a shell knows whose home that is.
        options: None are known.

    Returns:
        A `LocalFileStore` on a disk of this machine; a plain `FileStore` where a file system on the network may answer
        from a cache, or where that cannot be told.
    """
    if options:
        raise UnknownOptionError(f"a file:// store takes no options, and was given {', '.join(sorted(options))}")
    root = _path_of(url)
    store = LocalFileStore(root) if locks.available and is_local(root) else FileStore(root)
    store.remove_leftovers()
    return store


class FileStore:
    """A folder on any file system with hard links, shared by all processes that can see it.

    Args:
        root: The folder. It need not exist.
    """

    shared: bool = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        """The folder, absolute: a later change of the current folder moves nothing."""
        self.url: str = _SCHEME + urllib.parse.quote(os.fsencode(self.root))
        self._temporary = os.path.join(self.root, _TEMPORARY)
        self._opened: set[Descriptor] = set()
        self._durable: set[str] = set()
        self._closed = False

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        """See `ObjectStore.create`. A disk answers or fails: *timeout_s* has nothing to bound."""
        path = self._path(key)
        # Nothing is written for a key that is taken. Whether this one wins, only the link decides.
        won = not os.path.lexists(path)
        if won:
            fd, temporary = self._open_temporary(_WHOLE)
            try:
                Writer(fd).write(data)
                sync_data(fd)
                won = self._link(temporary, path)
            except OSError as error:
                raise translate(error, "create", path) from error
            finally:
                os.close(fd)
                _remove(temporary)
        self._settle(path, won)
        return won

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """See `ObjectStore.read`. The answer, a `bytearray` or if large a `memoryview`, is the caller's to change."""
        path = self._path(key)
        if start < 0 or (end is not None and end < 0):
            raise UsageError(f"read of {key!r} from {start} to {end}: expected offsets from the beginning")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(key) from None
        except OSError as error:
            raise translate(error, "read", path) from error
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise ObjectNotFoundError(key)
            size = about.st_size if end is None else min(end, about.st_size)
            answer = read_range(fd, start, max(0, size - start))
            if about.st_mode & stat.S_IWUSR:
                sync_log(fd)
        except OSError as error:
            raise translate(error, "read", path) from error
        finally:
            os.close(fd)
        return answer

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""
        path = self._path(key)
        fd, temporary = self._open_temporary(_WHOLE)
        try:
            writer = Writer(fd)
            for chunk in chunks:
                try:
                    writer.write(chunk)
                except OSError as error:  # an error of the chunks' maker, who may read files too, is none of the store
                    raise translate(error, "write", path) from error
            try:
                sync_data(fd)
                self._place(temporary, path, os.replace)
                self._sync_names(path)
            except OSError as error:
                raise translate(error, "write", path) from error
        finally:
            os.close(fd)
            _remove(temporary)

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`. Files whose names are no keys are passed over."""
        self._check_open()
        check_prefix(prefix)
        folder, slash, beginning = prefix.rpartition("/")
        return self._walk(folder + slash, beginning)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`. Folders left empty go too."""
        path = self._path(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise translate(error, "delete", path) from error
        # The first level stays: its names are few, and `_sync_names` relies on them.
        folder = os.path.dirname(path)
        while folder != self.root and os.path.dirname(folder) != self.root:
            try:
                os.rmdir(folder)
            except OSError:
                break
            folder = os.path.dirname(folder)

    def close(self) -> None:
        """See `ObjectStore.close`. Locks are released."""
        self._closed = True
        for descriptor in tuple(self._opened):
            descriptor.close()

    def remove_leftovers(self, *, now_s: float | None = None) -> None:
        """Remove temporary files that have not been touched for a day: their processes died.

        Args:
            now_s: Seconds since 1970, to ask what would be removed then.
        """
        before = (time.time() if now_s is None else now_s) - _LEFTOVER_AGE_S
        with contextlib.suppress(OSError), os.scandir(self._temporary) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)

    def _path(self, key: str) -> str:
        self._check_open()
        check_key(key)
        return f"{self.root}/{key}"

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the store {self.url} is closed; open it again")

    def _open_temporary(self, mode: int, flags: int = 0) -> tuple[int, str]:
        path = f"{self._temporary}/{os.getpid()}-{os.urandom(8).hex()}"
        flags |= os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            for _ in range(ATTEMPTS):
                try:
                    return os.open(path, flags, mode), path
                except FileNotFoundError:
                    self._durable.clear()
                    make_folders(self._temporary)
            return os.open(path, flags, mode), path
        except OSError as error:
            raise translate(error, "write in", self.root) from error

    def _link(self, temporary: str, path: str) -> bool:
        try:
            self._place(temporary, path, os.link)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            raise UnsuitableStoreError(
                f"the file system of {self.root} ({file_system_of(self.root)}) makes no hard links, without which two "
                f"processes could both create {path}; choose a folder on another one"
            ) from error
        return True

    def _place(self, temporary: str, path: str, place: Callable[[str, str], None]) -> None:
        """Give a finished file its name, in a folder that is made as often as somebody removes it empty."""
        while True:
            try:
                return place(temporary, path)
            except FileNotFoundError:
                if not os.path.lexists(temporary):
                    raise
                make_folders(os.path.dirname(path))

    def _settle(self, path: str, won: bool) -> None:
        """Make sure of the object at *path*, ours or another's: the answer about it is acted upon."""
        if not won and os.path.isdir(path):
            raise UsageError(f"{path} cannot hold an object: other keys lie beneath it; choose another key")
        try:
            self._sync_names(path)
        except OSError as error:
            raise (unknown_outcome(error, path) if won else translate(error, "create", path)) from error

    def _sync_names(self, path: str) -> None:
        """Make durable the name of *path*, and of each folder on the way to it.

        Those above may have been made by a process that has not come to syncing them, so it is not enough to sync what
        was made here. Only for the first level, never removed, once is enough.
        """
        folder = os.path.dirname(path)
        sync_folder(folder)
        while folder != self.root:
            above = os.path.dirname(folder)
            if above == self.root and folder in self._durable:
                return
            sync_folder(above)
            if above == self.root:
                self._durable.add(folder)
            folder = above
        if self.root not in self._durable:
            # Best effort: who makes the root syncs it, and the folder above may be closed to us.
            with contextlib.suppress(OSError):
                sync_folder(os.path.dirname(self.root))
            self._durable.add(self.root)

    def _walk(self, folder: str, beginning: str) -> Iterator[str]:
        """Yield the keys in *folder* (empty, or ending in a slash) whose next part starts with *beginning*."""
        path = f"{self.root}/{folder}"
        try:
            with os.scandir(path) as entries:
                # With its slash a folder sorts among the files as its keys do: `a-b`, `a.b`, `a/b`, `a0`.
                names = sorted(
                    f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if entry.name.startswith(beginning) and is_part(entry.name)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise translate(error, "list", path) from error
        for name in names:
            if name.endswith("/"):
                yield from self._walk(folder + name, "")
            else:
                yield folder + name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


class LocalFileStore(FileStore):
    """A folder on a disk of this machine, where logs can be appended to and the kernel knows who is alive."""

    def appender(self, key: str) -> FileAppender | None:
        """See `SupportsAppend.appender`."""
        path = self._path(key)
        if os.path.lexists(path):
            self._settle(path, won=False)
            return None
        fd, temporary = self._open_temporary(_LOG, os.O_APPEND)
        appender = FileAppender(fd, self._opened, path)
        won = False
        try:
            try:
                won = self._link(temporary, path)
            except OSError as error:
                raise translate(error, "create", path) from error
            finally:
                _remove(temporary)
            self._settle(path, won)
        except BaseException:
            appender.close()
            raise
        if not won:
            appender.close()
            return None
        return appender

    def peek(self, key: str) -> Callable[[], bool]:
        """See `exoflow.journal.writer.SupportsPeek`: one `stat`, on a path that is put together once."""
        path = self._path(key)

        def exists() -> bool:
            try:
                os.stat(path)  # noqa: PTH116 - the cheapest there is
            except FileNotFoundError:
                return False
            except OSError as error:
                raise translate(error, "look for", path) from error
            return True

        return exists

    def lock(self, key: str) -> locks.FileLock | None:
        """See `SupportsLocks.lock`."""
        path = self._path(key)
        try:
            return locks.try_lock(path, self._opened)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(key) from None
        except OSError as error:
            raise translate(error, "lock", path) from error

    def is_locked(self, key: str) -> bool:
        """See `SupportsLocks.is_locked`."""
        path = self._path(key)
        try:
            return locks.is_locked(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise translate(error, "look at the lock of", path) from error


def _remove(temporary: str) -> None:
    # What cannot be removed now is removed by age.
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def _path_of(url: str) -> str:
    if not url.startswith("file:"):
        if "://" in url:
            raise UsageError(f"{url!r} is no folder: expected file:///absolute or file://./relative")
        path = url
    elif not url.startswith(_SCHEME):
        raise UsageError(f"{url!r} has too few slashes: expected file:///absolute or file://./relative")
    else:
        rest = url.removeprefix(_SCHEME).removeprefix("localhost/")
        rest = rest if rest == url.removeprefix(_SCHEME) else f"/{rest}"
        if not rest.startswith(("/", "./", "../")) and rest not in (".", ".."):
            host = rest.partition("/")[0]
            raise UsageError(
                f"{url!r} names a host {host!r}: expected file:///absolute, or file://./{rest} relative to this folder"
                + (" (~ is not expanded: write $HOME)" if host.startswith("~") else "")
            )
        if "?" in rest or "#" in rest:
            raise UsageError(f"{url!r} has a query or fragment: in a folder's name write %3F for ? and %23 for #")
        path = os.fsdecode(urllib.parse.unquote_to_bytes(rest))
    if not path or "\0" in path or not os.path.abspath(path).strip("/"):
        raise UsageError(f"{url!r} names no folder: expected file:///absolute or file://./relative")
    return path
