"""Random workflows on the real engine, through crashes, a faulty store and cancellations, against the interpreter.

A failing example prints a call of `check` that shows it again. Many more of them: ``EXOFLOW_EXAMPLES=20000 pytest -m slow``.
"""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from .chances import stories
from .lives import Story, check

FEW, THREADED = 500, 150
"""Examples that are always played, the same each time: about 30 seconds together."""
MANY = int(os.environ.get("EXOFLOW_EXAMPLES", "20000"))


def played(examples: int, *, again: bool) -> settings:
    """Return how many examples to draw, and whether the same each time."""
    return settings(
        max_examples=examples,
        derandomize=again,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def test_one_incarnation_explains_whatever_happened() -> None:
    seen: Counter[str] = Counter()

    @played(FEW, again=True)
    @given(stories())
    def play(story: Story) -> None:
        lines = check(story).ledger
        seen.update({f"{entry.what} {entry.status}".strip() for entry in lines})

    play()

    # Else nothing was shown.
    assert seen["died"] > FEW // 5
    for what in ("told succeeded", "told failed", "told cancelled", "undone", "asked", "lost", "grew", "died silent"):
        assert seen[what], f"no example came to {what!r}: {seen}"


@played(THREADED, again=True)
@given(stories("thread"))
def test_threads_keep_the_promises_in_any_order(story: Story) -> None:
    check(story)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_many_more_workflows_keep_the_promises(executor: str) -> None:
    @played(MANY // 2, again=False)
    @given(stories(executor, most=8))
    def play(story: Story) -> None:
        check(story)

    play()
