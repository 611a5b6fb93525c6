"""The fingerprint changes when the code may compute something else, and only then."""

import linecache
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from exoflow.tasks.fingerprint import fingerprint
from exoflow.tasks.task import task

BASE = """
def f(x, scale=2):
    y = x + 1
    return y * scale
"""


@pytest.fixture
def sources() -> Iterator[list[str]]:
    """Names of sources that `of_source` made up."""
    made: list[str] = []
    yield made
    for name in made:
        linecache.cache.pop(name, None)


@pytest.fixture
def of_source(sources: list[str]) -> Any:
    def of(source: str, *, kept: bool = True) -> str:
        name = f"<source {len(sources)} of {id(sources)}>"
        source = textwrap.dedent(source)
        if kept:
            sources.append(name)
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        space: dict[str, Any] = {"deco": lambda function: function}
        exec(compile(source, name, "exec"), space)
        return fingerprint(space["f"], None)

    return of


SAME = {
    "comments": "# far away\n" + BASE.replace("    return", "    # nearby\n    return"),
    "blank lines": BASE.replace("    return", "\n\n    return"),
    "spaces": BASE.replace("x + 1", "x  +  1"),
    "brackets": BASE.replace("x + 1", "(x + 1)"),
    "a docstring": BASE.replace("    y =", '    """Do it."""\n    y ='),
    "a decorator": "\n@deco" + BASE,
    "another function before it": "def g():\n    return 7\n" + BASE,
    "another place in the file": "\n" * 50 + BASE,
}
OTHER = {
    "a constant": BASE.replace("+ 1", "+ 2"),
    "an operator": BASE.replace("x + 1", "x - 1"),
    "a default": BASE.replace("scale=2", "scale=3"),
    "an argument": BASE.replace("scale=2", "scale=2, z=0"),
    "a statement": BASE.replace("    return", "    y += 1\n    return"),
    "a function inside": BASE.replace("    return", "    def g(): return 1\n    return"),
}


@pytest.mark.parametrize("change", SAME)
def test_what_computes_the_same_has_the_same_fingerprint(change: str, of_source: Any) -> None:
    assert of_source(SAME[change]) == of_source(BASE)


@pytest.mark.parametrize("change", OTHER)
def test_what_may_compute_something_else_has_another(change: str, of_source: Any) -> None:
    assert of_source(OTHER[change]) != of_source(BASE)


@pytest.mark.parametrize("change", OTHER)
def test_code_without_a_source_is_told_apart_too(change: str, of_source: Any) -> None:
    assert of_source(BASE, kept=False) == of_source(BASE, kept=False)
    assert of_source(OTHER[change], kept=False) != of_source(BASE, kept=False)


def test_so_are_defaults_of_every_kind(of_source: Any) -> None:
    ways = ["scale=2", "scale=2.0", "scale=[2]", "scale=[3]", "scale={'a', 'b'}", "*, scale=2", "*, scale=3"]

    assert len({of_source(BASE.replace("scale=2", way), kept=False) for way in ways}) == len(ways)


def test_a_default_that_nobody_could_describe_counts_by_its_type(of_source: Any) -> None:
    lock = BASE.replace("scale=2", "scale=__import__('threading').Lock()")

    assert of_source(lock, kept=False) == of_source(lock, kept=False) != of_source(BASE, kept=False)


def test_code_without_a_source_has_one_fingerprint_whatever_the_hash_seed() -> None:
    code = (
        "from exoflow.tasks.fingerprint import fingerprint\n"
        "def f(x, known={'alpha', 'beta', 'gamma'}): return x in {'delta', 'epsilon', 'zeta'}\n"
        "print(fingerprint(f, None))"
    )

    def told(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert told("1") == told("2")
    assert told("1").startswith("c:")


class Add:
    def __call__(self, x: int) -> int:
        return x


class Subtract:
    def __call__(self, x: int) -> int:
        return -x


def test_objects_of_two_classes_that_can_be_called_are_two_codes() -> None:
    assert fingerprint(Add(), None) == fingerprint(Add(), None) != fingerprint(Subtract(), None)


def test_a_version_replaces_the_code() -> None:
    def one() -> int:
        return 1

    def two() -> int:
        return 2

    assert fingerprint(one, "7") == fingerprint(two, "7") == "v:7"
    assert fingerprint(one, "7") != fingerprint(one, "8")
    assert fingerprint(one, "") != fingerprint(one, None), "an empty version is a version"


def test_a_builtin_is_its_name() -> None:
    assert fingerprint(len, None) == fingerprint(len, None) != fingerprint(max, None)


def test_options_keep_the_fingerprint_unless_they_name_a_version() -> None:
    @task
    def made() -> None: ...

    assert made.options(retries=3).fingerprint == made.fingerprint
    assert made.options(version="2").fingerprint == "v:2"
    assert made.options(version="2").options(version=None).fingerprint == made.fingerprint
