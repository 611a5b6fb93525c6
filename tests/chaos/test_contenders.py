"""Several processes want one workflow: one has it, the others are told so, and a dead owner is no obstacle."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exoflow

from .campaign import send
from .nursery import Life, Nursery
from .world import World


@contextlib.contextmanager
def closed_gate(folder: Path) -> Iterator[str]:
    """Hold a gate closed meanwhile."""
    gate = folder / "gate"
    with gate.open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield str(gate)


def begin_together(world: World, count: int, **more: Any) -> list[tuple[Life, Path]]:
    """Begin controllers that come to the store at the same moment."""
    with closed_gate(world.folder) as gate:
        return [world.begin(gate=gate, **more) for _ in range(count)]


def told_by(begun: tuple[Life, Path]) -> dict[str, Any]:
    life, report = begun
    assert life.end() == 0, f"see the log beside {report}"
    told: dict[str, Any] = json.loads(report.read_text())
    return told


@pytest.mark.parametrize(("contenders", "kind"), [(2, "local"), (3, "local"), (3, "network")])
def test_of_processes_that_start_one_id_at_once_one_runs_it(
    contenders: int, kind: str, nursery: Nursery, tmp_path: Path
) -> None:
    for number in range(3):
        world = World(tmp_path / str(number), nursery, {"wanted": "chain"}, kind=kind)

        told = [told_by(begun)["wanted"] for begun in begin_together(world, contenders, patient=False)]

        won = [outcome for outcome in told if "past" in outcome]
        lost = [outcome for outcome in told if "past" not in outcome]
        assert won
        assert all(outcome == won[0] for outcome in won), "two answers to one id"
        assert all(outcome["error"] == "WorkflowRunningError" for outcome in lost), lost
        assert all("is being run by process" in outcome["message"] for outcome in lost), lost
        world.check({"wanted": won[0]})
        assert len([line for line in world.lines() if line.what == "begin"]) == 11, "a task ran in two processes"


def test_those_who_lost_get_the_answer_if_they_ask_until_it_is_there(nursery: Nursery, tmp_path: Path) -> None:
    world = World(tmp_path, nursery, {f"wanted-{at}": flow for at, flow in enumerate(("fan", "chain", "continuing"))})

    first, *others = [told_by(begun) for begun in begin_together(world, 3)]

    assert all(told == first for told in others)
    world.check(first)


def test_a_killed_owner_is_followed_by_exactly_one_of_those_who_want_to(nursery: Nursery, tmp_path: Path) -> None:
    world = World(tmp_path, nursery, {"wanted": "chain"})
    for _ in range(3):
        # Each dies with the second line that is added from now on, if it adds any.
        begun = begin_together(world, 3, fuse=len(world.lines()) + 2)
        assert -9 in [life.end() for life, _ in begun]

    told = world.live()

    world.check(told)
    world.check_the_end_is_the_end(told)
    world.check_nothing_blocks()


def test_all_who_sweep_up_after_a_crash_share_the_work_and_do_none_of_it_twice(
    nursery: Nursery, tmp_path: Path
) -> None:
    flows = {f"left-{at}": flow for at, flow in enumerate(("chain", "fan", "continuing", "failing", "random:1"))}
    world = World(tmp_path, nursery, flows)
    life, _ = world.begin(fuse=25)
    assert life.end() == -9

    first, *others = [told_by(begun) for begun in begin_together(world, 3, sweep=True)]

    assert all(told == first for told in others)
    world.check(first)
    world.check_nothing_blocks()


def test_while_its_owner_lives_nobody_else_can_have_it_and_a_kill_frees_it_at_once(
    nursery: Nursery, tmp_path: Path
) -> None:
    world = World(tmp_path, nursery, {"held": "waiting"})
    owner, _ = world.begin_and_wait()

    refused = world.live(patient=False)["held"]

    assert refused["error"] == "WorkflowRunningError"
    assert f"process {owner.pid} on " in refused["message"]
    with exoflow.Engine(world.url) as engine:
        assert engine.status("held") == "running"
        owner.kill()
        assert engine.status("held") == "resumable"
    send(world, "held")
    told = world.live(patient=False)
    world.check(told)
