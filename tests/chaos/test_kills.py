"""Controllers are killed at any moment, and whoever comes after them keeps every promise."""

from pathlib import Path

import pytest

from .campaign import Campaign, Case, kills
from .nursery import Nursery

CASES = [
    Case("chain-inline", ("chain",), "inline"),
    Case("chain-thread", ("chain",), "thread"),
    Case("chain-process", ("chain",), "process"),
    Case("fan-thread", ("fan",), "thread"),
    Case("fan-process", ("fan",), "process"),
    Case("growing-thread", ("continuing", "continuing"), "thread"),
    Case("waiting-inline", ("waiting", "waiting"), "inline"),
    Case("failing-thread", ("failing", "failing"), "thread"),
    Case("random-inline", tuple(f"random:{seed}" for seed in range(6)), "inline"),
    Case("many-thread", ("chain", "fan", "continuing", "waiting", "failing", *(f"random:{n}" for n in range(6, 16))), "thread"),
    Case("many-process", ("chain", "continuing", "waiting", "failing", "random:16", "random:17"), "process"),
]  # fmt: skip

SHORT = {
    "chain-inline",
    "chain-process",
    "growing-thread",
    "waiting-inline",
    "failing-thread",
    "random-inline",
    "many-thread",
}
"""What is killed a few times in every run of the tests."""


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SHORT], ids=lambda case: case.name)
def test_killed_at_any_moment_a_workflow_ends_as_promised(case: Case, nursery: Nursery, tmp_path: Path) -> None:
    Campaign(case, tmp_path, nursery, lives=5).run(1)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_killed_hundreds_of_times_no_promise_is_broken(case: Case, nursery: Nursery, tmp_path: Path) -> None:
    """EXOFLOW_KILLS says how often in all, EXOFLOW_SEED what is drawn, EXOFLOW_ROUND that one round is enough."""
    Campaign(case, tmp_path, nursery).run(kills(550) // len(CASES))
