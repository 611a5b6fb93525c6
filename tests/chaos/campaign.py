"""Rounds of killing: a world is made, its controllers are killed again and again, the last one may live.

All that is drawn comes from the seed, the case and the round; when a signal arrives is up to the machine, so a round is
repeated in its kind rather than to the instruction.
"""

import os
import random
from pathlib import Path
from typing import Any

import attrs

import exoflow
from exoflow.failures.points import TASK_POINTS, FailurePoint

from .nursery import Nursery
from .world import World

_SEED = "EXOFLOW_SEED"
_KILLS = "EXOFLOW_KILLS"
_ROUND = "EXOFLOW_ROUND"

_TYPICAL_FLUSHES = 12
_TYPICAL_ATTEMPTS = 10


@attrs.frozen
class Case:
    """What is killed."""

    name: str
    flows: tuple[str, ...]
    executor: str


def seed() -> str:
    """Return the seed of this run of the tests."""
    return os.environ.get(_SEED, "1")


def kills(unless_told: int) -> int:
    """Return how many kills were asked for."""
    return int(os.environ.get(_KILLS, unless_told))


class Campaign:
    """All rounds of one case.

    Args:
        case: What is killed.
        folder: For its worlds.
        nursery: Where controllers come from.
        lives: So many controllers of a world are in danger before one may live.
    """

    def __init__(self, case: Case, folder: Path, nursery: Nursery, *, lives: int = 8) -> None:
        self.case, self._lives = case, lives
        self._folder, self._nursery = folder, nursery
        self._length_s = 0.0
        """How long a life takes that nobody ends, and how many lines its ledger has then."""
        self._lines = 0

    def run(self, wanted: int) -> None:
        """Kill until it was done *wanted* times; or do the one round that the environment names."""
        self._measure()
        if (only := os.environ.get(_ROUND)) is not None:
            self._round(int(only))
            return
        killed, number = 0, 0
        while killed < wanted:
            number += 1
            killed += self._round(number)

    def _world(self, name: str) -> World:
        flows = {f"{flow}-{at}": flow for at, flow in enumerate(self.case.flows)}
        return World(self._folder / name, self._nursery, flows, executor=self.case.executor)

    def _measure(self) -> None:
        world = self._world("undisturbed")
        _tell(world)
        life, _ = world.begin()
        life.end()
        self._length_s = life.age_s
        self._lines = len(world.lines())

    def _round(self, number: int) -> int:
        world = self._world(f"round-{number}")
        drawn = f"{seed()}/{self.case.name}/{number}"
        try:
            return self._kill_and_check(world, random.Random(drawn))
        except Exception as error:
            error.add_note(
                f"again: {_SEED}={seed()} {_ROUND}={number} uv run pytest tests/chaos/test_kills.py "
                f"-k 'killed and {self.case.name}' (what is left of it: {world.folder})"
            )
            raise

    def _kill_and_check(self, world: World, rng: random.Random) -> int:
        killed = 0
        tell_at = rng.randrange(self._lives // 2)
        for life_number in range(self._lives):
            if life_number >= tell_at:
                _tell(world)  # again and again, as a sender does that hears no answer: it stays one message
            killed += self._live_dangerously(world, rng)
        _tell(world)
        told = world.live()
        world.check(told)
        world.check_the_end_is_the_end(told)
        world.check_nothing_blocks()
        return killed

    def _live_dangerously(self, world: World, rng: random.Random) -> bool:
        """Let one controller live until it is killed, or done; return whether it was killed."""
        way = rng.choice(("clock", "clock", "line", "line", "point"))
        if way != "clock":
            _tell(world)  # or it might wait for ever where nobody kills it
        sweep = rng.random() < 0.3
        if way == "clock":
            # Past the end too: the last records, and the closing.
            life, _ = world.begin(sweep=sweep)
            if not life.ended_within(rng.uniform(0, 1.1 * self._length_s)):
                life.kill()
        elif way == "line":
            so_far = len(world.lines())
            life, _ = world.begin(sweep=sweep, fuse=so_far + rng.randint(1, max(3, self._lines // 3)))
        else:
            point = rng.choice(list(FailurePoint))
            times = _TYPICAL_ATTEMPTS if point in TASK_POINTS else _TYPICAL_FLUSHES
            life, _ = world.begin(sweep=sweep, failures=[f"*.kill@{rng.randint(1, times)},{point}"])
        status = life.end()
        assert status in (0, -9), f"a controller ended with {status}; its log is in {world.folder}"
        return status == -9


def _tell(world: World) -> None:
    """Send the message that workflows of one kind wait for; each time the same one."""
    for name, flow in world.flows.items():
        if flow == "waiting":
            send(world, name)


def send(world: World, workflow: str, **more: Any) -> None:
    """Send one message, of always the same id, from this process."""
    with exoflow.Engine(world.url) as engine:
        engine.send_event(workflow, "go", {"past": []}, message_id="one")
