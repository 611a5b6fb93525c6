"""Planting a bug in loaded code, and taking it out again.

A bug is one or more edits of the source of functions. The edited source is compiled and its code object put into the
function that is there, so that whoever holds that function already, in a table or under another name, runs the bug too.
An edit names text that must be there exactly once: where a change of the product moved it, planting fails, because a
bug that is not planted would be a test of nothing.
"""

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import attrs

__all__ = ["CannotPlantError", "Edit", "Mutation", "planted"]


class CannotPlantError(Exception):
    """An edit does not fit the product any more."""


@attrs.frozen
class Edit:
    """One change of one function."""

    where: str
    """The function: ``module:qualified.name``."""
    find: str
    """Text of its source, from which its own indentation is taken off. It must be there once."""
    put: str
    """What stands there instead."""


@attrs.frozen(kw_only=True)
class Mutation:
    """A bug, and how it is found."""

    name: str
    """What the mutated product does."""
    breaks: str
    """The promise, or the rule, that does not hold any more."""
    edits: tuple[Edit, ...]
    play: Callable[[int], Any]
    """Plays one seed, and raises `AssertionError` when something happens that must not."""
    shows: str
    """A regular expression for what that says."""
    within: int
    """How many seeds it takes at most: five times what it took from the worst of a few first seeds, or more."""
    slow: bool = False
    """Whether that takes too long for every run of the tests."""
    missed: str = ""
    """Why nobody finds it yet."""

    def __str__(self) -> str:
        return self.name


@contextlib.contextmanager
def planted(*edits: Edit) -> Iterator[None]:
    """Let the product have these bugs for a while.

    Raises:
        CannotPlantError: An edit does not fit. Nothing is planted then.
    """
    originals: dict[FunctionType, CodeType] = {}
    sources: dict[FunctionType, str] = {}
    for edit in edits:
        function = _function(edit)
        source = sources.get(function) or textwrap.dedent(inspect.getsource(function))
        sources[function] = _edited(edit, source)
    mutants = {function: _compiled(function, source) for function, source in sources.items()}
    try:
        for function, code in mutants.items():
            originals[function], function.__code__ = function.__code__, code
        yield
    finally:
        for function, code in originals.items():
            function.__code__ = code


def _function(edit: Edit) -> FunctionType:
    module, _, qualified = edit.where.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in qualified.split("."):
            found = inspect.getattr_static(found, name)
    except (ImportError, AttributeError) as error:
        raise CannotPlantError(
            f"{edit.where} is not there ({error}): find where it went, and name that in the mutation"
        ) from error
    if isinstance(found, property):
        found = found.fget
    found = inspect.unwrap(getattr(found, "__func__", found))
    if not isinstance(found, FunctionType):
        raise CannotPlantError(f"{edit.where} is {found!r}, not a function written in Python")
    return found


def _edited(edit: Edit, source: str) -> str:
    times = source.count(edit.find)
    if times != 1:
        raise CannotPlantError(
            f"{edit.where} holds {edit.find!r} {times} times, not once. Its source has changed: look at what stands for "
            f"that now, and make the mutation break it again.\n{source}"
        )
    return source.replace(edit.find, edit.put)


def _compiled(function: FunctionType, source: str) -> CodeType:
    """Return the code of *source*, which may take the place of that of *function*."""
    before = function.__code__
    made = compile(source, before.co_filename, "exec", dont_inherit=True)
    code = next(const for const in made.co_consts if isinstance(const, CodeType) and const.co_name == before.co_name)
    if code.co_freevars != before.co_freevars:
        raise CannotPlantError(f"{function.__qualname__} is a closure over {before.co_freevars}: edit another function")
    return code.replace(co_firstlineno=before.co_firstlineno, co_qualname=before.co_qualname)
