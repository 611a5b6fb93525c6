"""Two and three processes on one store, in virtual time: they die, sleep through their own take-over, and lose answers.

A failing seed is its own reproduction: ``play(1234)``. More of them: ``EXOFLOW_SEEDS=100000 pytest -m slow``.
"""

import os
import subprocess
import sys

import pytest

from exoflow.testing.simulation import play

MORE = int(os.environ.get("EXOFLOW_SEEDS", "5000"))


@pytest.mark.parametrize("chunk", range(8))
def test_everything_ends_and_one_incarnation_explains_it(chunk: int) -> None:
    for seed in range(chunk * 30, chunk * 30 + 30):
        play(seed)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_everything_ends_and_one_incarnation_explains_it_in_many_more_worlds() -> None:
    for seed in range(10_000, 10_000 + MORE):
        play(seed)


def test_a_seed_is_played_in_one_way_only() -> None:
    for seed in range(400, 410):
        assert play(seed) == play(seed)


def test_a_seed_is_played_the_same_way_by_another_process() -> None:
    program = "from exoflow.testing.simulation import play; print([play(seed).trace for seed in range(400, 410)])"
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    assert said == [str([play(seed).trace for seed in range(400, 410)])] * 2
