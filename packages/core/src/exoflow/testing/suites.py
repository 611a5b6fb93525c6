"""Running a contract suite from a program, so that the suite itself can be tested: a planted bug must fail it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
import pytest

__all__ = ["Outcomes", "run_suite"]


@attrs.frozen
class Outcomes:
    """What became of a suite's tests, by name; parameters follow in brackets."""

    passed: list[str] = attrs.field(factory=list)
    skipped: list[str] = attrs.field(factory=list)
    failed: dict[str, BaseException] = attrs.field(factory=dict)


def run_suite(
    suite: object, make_fixtures: Callable[[], Mapping[str, Any]], *, only: Iterable[str] | None = None
) -> Outcomes:
    """Run the tests of *suite* once, each with fixtures of its own.

    Args:
        suite: An instance of the class that holds the tests. Of pytest's marks only ``parametrize`` is heeded.
        make_fixtures: Called for each test; returns the fixtures by name. Those with a ``close`` are closed.
        only: Names of tests, as in `Outcomes`; all of them when None.
    """
    outcomes, wanted = Outcomes(), None if only is None else set(only)
    for name in dir(suite):
        if name.startswith("test_"):
            test = getattr(suite, name)
            for label, parameters in _parametrized(test):
                if wanted is None or f"{name}{label}" in wanted:
                    _run(f"{name}{label}", test, parameters, make_fixtures(), outcomes)
    return outcomes


def _run(
    name: str, test: Callable[..., object], parameters: Mapping[str, Any], fixtures: Mapping[str, Any], into: Outcomes
) -> None:
    wanted = test.__code__.co_varnames[1 : test.__code__.co_argcount]
    try:
        test(**{each: fixtures[each] for each in wanted if each in fixtures}, **parameters)
    except pytest.skip.Exception:
        into.skipped.append(name)
    except (Exception, pytest.fail.Exception) as error:
        into.failed[name] = error
    else:
        into.passed.append(name)
    finally:
        for fixture in fixtures.values():
            close = getattr(fixture, "close", None)
            if close is not None:
                close()


def _parametrized(test: Callable[..., object]) -> Iterator[tuple[str, dict[str, Any]]]:
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    if not marks:
        yield "", {}
    for mark in marks:
        argument, values = mark.args
        for value in values:
            yield f"[{value}]", {argument: value}
