"""The harnesses on trial: each bug of the lists is planted, and has to be found within the seeds it states.

A bug that is not found any more is as bad as a failing test of the product: then nobody would notice somebody else's.
``pytest -m slow`` looks for each from other seeds too.
"""

from typing import Any

import pytest

from . import controller_bugs, ending_bugs, journal_bugs, recovery_bugs, starting_bugs
from .hunting import check_is_found
from .planting import Mutation

ENGINE = [*starting_bugs.BUGS, *ending_bugs.BUGS, *recovery_bugs.BUGS]
AROUND_IT = [*journal_bugs.BUGS, *controller_bugs.BUGS]
ALL = [*ENGINE, *AROUND_IT]


def cases(mutations: list[Mutation]) -> list[Any]:
    return [pytest.param(mutation, id=mutation.name, marks=_marks(mutation)) for mutation in mutations]


def _marks(mutation: Mutation) -> list[pytest.MarkDecorator]:
    marks = []
    if mutation.slow:
        marks.append(pytest.mark.slow)
    if mutation.missed:
        marks.append(pytest.mark.xfail(strict=True, reason=mutation.missed))
    return marks


@pytest.mark.parametrize("mutation", cases(ENGINE))
def test_a_bug_of_the_engine_is_found(mutation: Mutation) -> None:
    check_is_found(mutation)


@pytest.mark.parametrize("mutation", cases(AROUND_IT))
def test_a_bug_of_the_journal_or_the_controller_is_found(mutation: Mutation) -> None:
    check_is_found(mutation)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("first", [100_000, 200_000, 300_000])
@pytest.mark.parametrize("mutation", cases([m for m in ALL if not m.missed]))
def test_a_bug_is_found_wherever_one_starts(mutation: Mutation, first: int) -> None:
    check_is_found(mutation, first)


def test_there_are_as_many_bugs_as_promised() -> None:
    assert sum(not mutation.missed for mutation in ENGINE) >= 12
    assert sum(not mutation.missed for mutation in AROUND_IT) >= 10
    assert len({mutation.name for mutation in ALL}) == len(ALL)
