"""Random DAGs, annotations, interleavings and crashes against the promises, on the pure engine."""

import random

import pytest

from world import World, random_dag  # type: ignore[import-not-found]


def play(seed: int) -> None:
    chooser = random.Random(seed)
    root = random_dag(chooser, chooser.randint(1, 7), grow=chooser.choice([0, 0, 1, 2]))
    options = chooser.choice(
        [{}, {}, {"failures": 0.1}, {"losses": 0.1}, {"failures": 0.1, "losses": 0.1}, {"cancel": 0.02}]
    )
    World(root, seed, crashes=chooser.randint(0, 4), **options).run().check()


@pytest.mark.parametrize("chunk", range(10))
def test_one_incarnation_explains_all_that_can_be_seen(chunk: int) -> None:
    for seed in range(chunk * 200, chunk * 200 + 200):
        try:
            play(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: play({seed}) shows it") from error
