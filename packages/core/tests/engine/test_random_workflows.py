"""Random DAGs, annotations, interleavings, failures and crashes against the promises, on the pure engine.

A failing seed is its own reproduction: ``play(1234)``. More of them: ``EXOFLOW_SEEDS=100000 pytest -m slow``.
"""

import os
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from exoflow.graph.dag import Dag
from exoflow.journal.records import UndoRecord, decode, encode
from exoflow.recovery.history import History
from exoflow.recovery.plan import plan_recovery

from .simulation.chance import Chances, drive, run_to_crash
from .simulation.dags import chain, fan, ladder, random_dag
from .simulation.world import Outside, World

MORE = int(os.environ.get("EXOFLOW_SEEDS", "20000"))

WEATHERS = [
    Chances(),
    Chances(fails=0.1),
    Chances(lost=0.1),
    Chances(fails=0.1, lost=0.1, times_out=0.1),
    Chances(times_out=0.15),
    Chances(cancels=0.02),
    Chances(cancels=0.03, fails=0.1, lost=0.1, times_out=0.1, confused=0.1),
    Chances(cannot_store=0.03),
    Chances(lost=0.15, confused=0.2),
    Chances(changes_code=0.7, crash=0.08),
    Chances(changes_code=0.5, lost=0.1, cancels=0.01, confused=0.1),
]


def play(seed: int) -> World:
    chooser = random.Random(seed)
    grow, waits = chooser.choice([0, 0, 1, 2]), chooser.choice([0.0, 0.0, 0.15])
    world = World(random_dag(chooser, chooser.randint(1, 7), grow=grow, waits=waits))
    return drive(world, chooser, chooser.choice(WEATHERS), crashes=chooser.randint(0, 4))


def check(seeds: range, played: Callable[[int], Any] = play) -> None:
    for seed in seeds:
        try:
            played(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {played.__name__}({seed}) shows it") from error


@pytest.mark.parametrize("chunk", range(8))
def test_one_incarnation_explains_all_that_can_be_seen(chunk: int) -> None:
    check(range(chunk * 200, chunk * 200 + 200))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_one_incarnation_explains_all_that_can_be_seen_in_many_more_worlds() -> None:
    check(range(10_000, 10_000 + MORE))


def test_no_effect_waits_for_what_could_not_change_its_inputs_any_more() -> None:
    assert sum(play(seed).needless_waits for seed in range(20_000, 20_300)) == 0


def play_large(seed: int) -> World:
    chooser = random.Random(seed)
    shape = chooser.choice(["any", "any", "chain", "fan", "ladder"])
    if shape == "any":
        root = random_dag(
            chooser, chooser.randint(12, 40), grow=chooser.choice([0, 1]), waits=chooser.choice([0.0, 0.1])
        )
    elif shape == "chain":
        root = chain(chooser, chooser.randint(20, 40))
    elif shape == "fan":
        root = fan(chooser, chooser.randint(20, 40))
    else:
        root = ladder(chooser, chooser.randint(5, 12))
    return drive(World(root), chooser, chooser.choice(WEATHERS), crashes=chooser.randint(0, 3))


def test_large_graphs_keep_the_promises_too() -> None:
    check(range(20), play_large)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_large_graphs_keep_the_promises_too() -> None:
    check(range(1000, 1000 + MORE // 20), play_large)


def play_every_prefix(seed: int) -> int:
    """Let the controller die after each record that ever became durable; return how many that were."""
    chooser = random.Random(seed)
    grow, waits = chooser.choice([0, 0, 1, 2]), chooser.choice([0.0, 0.15])
    world = World(random_dag(chooser, chooser.randint(2, 5), grow=grow, waits=waits))
    weather = chooser.choice([w for w in WEATHERS if not w.changes_code])
    moments: list[tuple[list[Any], Outside]] = []

    def look() -> None:
        assert world.in_flight is not None
        # What is outside may be anything between what it was when the flush was sent and what it is now; a controller that
        # dies in between two records of a batch cannot have acted on the first.
        records = [decode(memoryview(encode(r))) for r in world.in_flight]
        moments.extend(([*world.log, *records[:at]], world.outside.copy()) for at in range(len(records)))

    world.before_flush = look
    drive(world, chooser, weather, crashes=chooser.randint(0, 2))
    for log, outside in moments:
        other = world.branch(log, outside)
        other.crash(happen=lambda start: chooser.random() < 0.5)
        drive(other, chooser, attrs.evolve(weather, cancels=0.0), crashes=1, resume=True)
    return len(moments)


def test_a_controller_may_die_after_any_record() -> None:
    assert sum(play_every_prefix(seed) for seed in range(60)) > 500


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_controller_may_die_after_any_record_of_many_more_worlds() -> None:
    check(range(1000, 1000 + MORE // 20), play_every_prefix)


def test_recovering_again_before_anything_happened_changes_nothing() -> None:
    for seed in range(150):
        world = play_until_a_crash(seed)
        if world is None:
            continue
        history, decoded = world.history()
        continuations = {i: d for i, d in decoded.items() if isinstance(d, Dag)}
        plan = plan_recovery(world.dag, history, continuations)
        undone = [UndoRecord("w", i.task_id, i.attempt) for i in plan.roll_back]
        again = plan_recovery(world.dag, History.of([*history.records(), *undone]), continuations)
        assert again.roll_back == (), f"seed {seed}"
        assert again == attrs.evolve(plan, roll_back=()), f"seed {seed}"


def play_until_a_crash(seed: int) -> World | None:
    chooser = random.Random(seed)
    world = World(random_dag(chooser, chooser.randint(2, 7), grow=chooser.choice([0, 1])))
    return world if run_to_crash(world, chooser, Chances(crash=0.05)) and world.log else None
