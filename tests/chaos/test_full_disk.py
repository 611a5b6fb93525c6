"""A disk that fills up: in the middle of a flush, of a blob, of a claim. The error says so, and space is all it takes."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import exoflow

from . import ledger, oracle
from .flows import flow

DISK_BYTES = 512 * 1024
PAGE = 4096

_LIBC = ctypes.CDLL(None, use_errno=True)
_LAZY_UMOUNT = 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, half a megabyte large."""
    point = tmp_path / "disk"
    point.mkdir()
    options = f"size={DISK_BYTES}".encode()
    if _LIBC.mount(b"tmpfs", os.fsencode(point), b"tmpfs", 0, options):
        pytest.skip(f"cannot mount a small disk here: {os.strerror(ctypes.get_errno())}; root can")
    try:
        yield point
    finally:
        assert not _LIBC.umount2(os.fsencode(point), _LAZY_UMOUNT)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The witness, on another disk."""
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setenv(ledger.BOOK, str(path))
    return path


class Ballast:
    """What fills the disk up, but for some pages."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"

    def leave(self, pages: int) -> None:
        about = os.statvfs(self._file.parent)
        with self._file.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), (about.f_bavail - pages) * PAGE)

    def throw_away(self) -> None:
        self._file.unlink(missing_ok=True)


def used_pages(disk: Path) -> int:
    about = os.statvfs(disk)
    return about.f_blocks - about.f_bfree


@pytest.mark.parametrize(
    ("name", "executor", "same"),
    [
        ("chain", "thread", True),
        pytest.param("chain", "inline", False, marks=pytest.mark.slow),
        pytest.param("chain", "process", False, marks=pytest.mark.slow),
        pytest.param("fan", "thread", True, marks=pytest.mark.slow),
        pytest.param("continuing", "thread", False, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_stops_a_workflow_wherever_it_is_and_space_lets_it_go_on(
    name: str, executor: str, same: bool, disk: Path, book: Path
) -> None:
    """The disk has one page more each time, so that the workflow gets further, and in the end to its end.

    Then it goes on in the process that met the full disk (*same*), or in one that knows nothing of it.
    """
    ballast = Ballast(disk)
    begun, refused = used_pages(disk), set[str]()
    for pages in range(DISK_BYTES // PAGE):
        store, node, workflow = disk / f"store{pages}", flow(name), f"w{pages}"
        ballast.leave(pages)
        with exoflow.Engine(f"file://{store}", executor) as engine:
            try:
                value = engine.run(node, workflow_id=workflow)
                break
            except exoflow.UnavailableError as error:
                refused.add(_what_was_refused(error, store))
            ballast.throw_away()
            if same:
                value = engine.run(node, workflow_id=workflow)
        if not same:
            with exoflow.Engine(f"file://{store}", executor) as engine:
                value = engine.run(node, workflow_id=workflow)
        lines = [line for line in ledger.read(book) if line.workflow == workflow]
        oracle.check_flow(lines, node, value["past"])
        _remove(store)
        assert used_pages(disk) - begun <= 1, "something is left that nobody sees"
    assert "journals" in refused
    assert name != "chain" or {"claims", "blobs"} <= refused, f"the disk was full only at {refused}"


def _what_was_refused(error: exoflow.UnavailableError, store: Path) -> str:
    """Return the folder in which there was no space, as the message names it."""
    said = str(error)
    assert "No space left on device (ENOSPC)" in said
    assert "then resume" in said
    path = said.partition(f"{store}/")[2]
    return path.partition("/")[0]


def _remove(store: Path) -> None:
    for path in sorted(store.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.rmdir()
