"""Controllers that are stopped, taken for dead, and go on: nothing they write counts, and they say why they stop."""

import contextlib
import json
import signal
from pathlib import Path

import attrs
import pytest

from exoflow.journal.layout import open_key
from exoflow.journal.liveness import encode_open, list_open, read_open
from exoflow_storage.local import FileStore

from .nursery import Life, Nursery
from .world import World

STOPS = [2, 3, 4, 5, 7, 8, 12, 13]
"""Lines of the ledger with which a controller is stopped: before and after effects of each kind, among others."""


def stop(world: World, at: int) -> tuple[Life, Path]:
    """Begin a controller that stops itself with this line of the ledger, and wait for that."""
    life, report = world.begin(fuse=at, fuse_signal=signal.SIGSTOP)
    assert life.stopped(), "it ended before it was stopped"
    return life, report


def age(world: World) -> None:
    """Make every sign of life an hour old, as it would be after an hour."""
    with contextlib.closing(FileStore(world.store)) as store:
        for journal_id in list_open(store):
            entry = read_open(store, journal_id)
            assert entry is not None
            path = world.store / open_key(journal_id)
            path.chmod(0o644)
            # In place: a lock is on the file, not on its name.
            path.write_bytes(encode_open(attrs.evolve(entry, beat=entry.beat - 3600)))


@pytest.mark.parametrize("at", [1, 15])
def test_on_a_local_disk_the_kernel_knows_that_a_stopped_controller_lives(
    at: int, nursery: Nursery, tmp_path: Path
) -> None:
    world = World(tmp_path, nursery, {"w": "chain"})
    life, report = stop(world, at)

    refused = world.live(patient=False)["w"]
    age(world)
    still_refused = world.live(patient=False)["w"]
    life.signal(signal.SIGCONT)

    assert refused == still_refused
    assert refused["error"] == "WorkflowRunningError"
    assert f"process {life.pid} on " in refused["message"]
    assert life.end() == 0
    world.check(json.loads(report.read_text()))


@pytest.mark.parametrize("kind", ["network", "blind"])
@pytest.mark.parametrize("at", [1, 6, *(pytest.param(at, marks=pytest.mark.slow) for at in STOPS)])
@pytest.mark.parametrize("executor", ["thread", pytest.param("inline", marks=pytest.mark.slow)])
def test_one_that_was_taken_over_meanwhile_is_fenced_and_changes_nothing(
    kind: str, at: int, executor: str, nursery: Nursery, tmp_path: Path
) -> None:
    world = World(tmp_path, nursery, {"w": "fenced"}, kind=kind, executor=executor)
    zombie, report = stop(world, at)
    if kind == "network":
        assert world.live(patient=False)["w"]["error"] == "WorkflowRunningError", "it was believed dead too early"
        age(world)

    told = world.live()
    world.check(told, ends=2)
    zombie.signal(signal.SIGCONT)

    assert zombie.end() == 0
    answer = json.loads(report.read_text())["w"]
    assert answer["error"] == "FencedError", answer
    assert "this controller stops, its workflows go on there" in answer["message"]
    world.check(told, ends=2)
    world.check_the_end_is_the_end(told)


@pytest.mark.parametrize("kind", ["network", "blind"])
def test_one_that_wakes_while_its_heir_works_is_fenced_all_the_same(
    kind: str, nursery: Nursery, tmp_path: Path
) -> None:
    for number, at in enumerate((2, 3, 7)):
        world = World(tmp_path / str(number), nursery, {"w": "fenced"}, kind=kind)
        zombie, report = stop(world, at)
        if kind == "network":
            age(world)
        heir, heirs_report = stop(world, len(world.lines()) + 2)

        zombie.signal(signal.SIGCONT)
        assert zombie.end() == 0
        heir.signal(signal.SIGCONT)
        assert heir.end() == 0

        assert json.loads(report.read_text())["w"]["error"] == "FencedError"
        world.check(json.loads(heirs_report.read_text()), ends=2)


def test_two_who_take_each_other_for_dead_do_no_harm(nursery: Nursery, tmp_path: Path) -> None:
    """Nobody knows who lives, and three want the same: whoever gets it last finishes it."""
    world = World(tmp_path, nursery, {"w": "fenced"}, kind="blind")
    begun = [world.begin() for _ in range(3)]

    assert [life.end() for life, _ in begun] == [0, 0, 0]

    answers = [json.loads(report.read_text())["w"] for _, report in begun]
    assert all(answer.get("error") in (None, "FencedError") for answer in answers), answers
    told = world.live()
    assert all(answer == told["w"] for answer in answers if "past" in answer)
    world.check(told, ends=4)


@pytest.mark.parametrize("at", [2, 6])
def test_a_receiver_that_refuses_what_was_given_up_lets_the_next_attempt_in(
    at: int, nursery: Nursery, tmp_path: Path
) -> None:
    world = World(tmp_path, nursery, {"w": "fenced"})
    life, _ = world.begin(fuse=at)  # an attempt has begun, and done nothing
    assert life.end() == -9
    begun = world.lines()[-1]
    assert begun.what == "begin"

    told = world.live()

    world.check(told)
    given_up = [line.key for line in world.lines() if line.what in ("undo", "resolve")]
    assert given_up == [begun.key]
