"""Worker processes outlive a killed controller for a moment, which must not be long enough for its heir."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .life import PATIENCE_S
from .nursery import Nursery
from .world import World


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Path]:
    """A folder with a bell and a door, and what somebody leaves in it."""
    os.mkfifo(tmp_path / "bell")
    os.mkfifo(tmp_path / "door")
    yield tmp_path
    with contextlib.suppress(FileNotFoundError):
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started and not reaped."""
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def test_nobody_takes_over_from_a_killed_controller_while_its_worker_runs(nursery: Nursery, house: Path) -> None:
    """Workers die as soon as it is noticed that their controller is gone; a child that it left can make that late.

    So the heir comes first, and has to wait for the worker, not for the child.
    """
    world = World(house, nursery, {"w": "door"}, executor="process")
    bell = os.open(house / "bell", os.O_RDONLY | os.O_NONBLOCK)
    life, _ = world.begin()
    assert select.select([bell], [], [], PATIENCE_S)[0], "no task came to the door"
    os.close(bell)
    child = int((house / "child").read_text())
    orphans = [os.pidfd_open(pid) for parent in children(life.pid) if parent != child for pid in children(parent)]
    assert orphans

    life.kill()
    (house / "open").touch()
    told = world.live(patient=False)["w"]
    with contextlib.suppress(OSError):  # nobody is at the door any more
        os.close(os.open(house / "door", os.O_WRONLY | os.O_NONBLOCK))
    for orphan in orphans:
        assert select.select([orphan], [], [], PATIENCE_S)[0], "the worker did not end"
        os.close(orphan)

    assert "past" in told or told["error"] == "WorkflowRunningError", told
    world.check(world.live())
