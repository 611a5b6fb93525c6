"""What plays one seed and says `AssertionError` when something happens that must not: the harnesses on trial here."""

import random

from exoflow.testing.simulation.play import play as play_simulation

from ..engine.simulation.chance import Chances, drive
from ..engine.simulation.dags import random_dag
from ..engine.simulation.world import World
from ..engine.test_random_workflows import play
from ..engine.test_settled import Tally
from .takeovers import play_takeovers

__all__ = ["decide", "play", "play_in_trouble", "play_simulation", "play_takeovers", "play_with_new_code"]


def play_in_trouble(seed: int) -> None:
    """As `play`, where much fails, is lost, or runs past its timeout: what that shows is rare in other weather."""
    _play_in(Chances(fails=0.2, lost=0.1, times_out=0.25, cancels=0.02, crash=0.03), seed)


def play_with_new_code(seed: int) -> None:
    """As `play`, where the code is often another one after a crash."""
    _play_in(Chances(changes_code=0.7, crash=0.1), seed)


def _play_in(weather: Chances, seed: int) -> None:
    chooser = random.Random(seed)
    world = World(random_dag(chooser, chooser.randint(2, 7), grow=chooser.choice([0, 0, 1])))
    drive(world, chooser, weather, crashes=chooser.randint(1, 4))


def decide(seed: int) -> None:
    """Ask of every effect of a small workflow whether it may start, and compare with all ways a crash can fall."""
    tally = Tally()
    tally.play(seed)
    assert not tally.unsafe, f"starts that a crash makes wrong: {tally.unsafe}"
    assert not tally.needless, f"needless waits: {tally.needless}"
    assert not tally.reverted, f"settled reverts: {tally.reverted}"
    assert not tally.not_durable, f"starts that rest on what is not durable: {tally.not_durable}"
    assert not tally.never_closes, f"effects that would wait for ever: {tally.never_closes}"
