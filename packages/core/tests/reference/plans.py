"""Workflows as data: what is declared of each step, what it will do, and what it reads.

Nothing here knows the library. The same data is made into tasks by `tasks` and read by the interpreter.
"""

from collections.abc import Iterator
from typing import Any

import attrs

__all__ = ["Brief", "Plan", "Step", "tokens_in"]


class Brief:
    """Shows only what differs from the defaults, so that a failing example is a few lines to paste."""

    def __repr__(self) -> str:
        shown = []
        kind: Any = type(self)
        for field in attrs.fields(kind):
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f"{field.name}={value!r}" if field.kw_only else repr(value))
        return f"{type(self).__name__}({', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # what Hypothesis asks for


@attrs.frozen(repr=False)
class Step(Brief):
    """One node. A step reads steps of its own plan that stand before it."""

    name: str
    effects: str = attrs.field(default="none", kw_only=True)
    deterministic: bool = attrs.field(default=False, kw_only=True)
    checkpoint: str = attrs.field(default="sync", kw_only=True)
    reads: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    nested: bool = attrs.field(default=False, kw_only=True)
    """What it reads lies inside of lists, tuples and dicts."""
    after: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    committed: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """``wait_until_committed``."""
    script: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """What its first calls do: ``fail`` after the effect, ``refuse`` before it. All others return."""
    retries: int = attrs.field(default=0, kw_only=True)
    catch: bool = attrs.field(default=False, kw_only=True)
    asked: str = attrs.field(default="ledger", kw_only=True)
    """Who knows what became of a once step: the ledger (``resolve``), or nobody but a person."""
    fences: bool = attrs.field(default=False, kw_only=True)
    large: bool = attrs.field(default=False, kw_only=True)
    """Its value does not fit into a record."""
    coroutine: bool = attrs.field(default=False, kw_only=True)
    grows: "tuple[Plan, ...]" = attrs.field(default=(), kw_only=True)
    """Returns one of these as a continuation: by its inputs if deterministic, else another one each time."""
    kind: str = attrs.field(default="task", kw_only=True)
    """Or ``event``, for which one message is sent, or ``sleep``, which has no value."""

    @property
    def event(self) -> str:
        """What an event step waits for: its name without a number at its end."""
        return self.name.rstrip("0123456789")


@attrs.frozen(init=False, repr=False)
class Plan(Brief):
    """Steps in an order in which each stands behind what it reads. The last one's value is the result."""

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        self.__attrs_init__(steps)

    def __repr__(self) -> str:
        return f"Plan({', '.join(map(repr, self.steps))})"

    @property
    def root(self) -> Step:
        return self.steps[-1]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def find(self, where: str) -> Step:
        """Return a step by its path: ``t0``, or ``t0/1/c2`` for step ``c2`` of what ``t0`` may grow second."""
        name, *rest = where.split("/", 2)
        step = self.step(name)
        return step.grows[int(rest[0])].find(rest[1]) if rest else step

    def everything(self) -> Iterator[Step]:
        """Yield all steps, also of what may grow."""
        for step in self.steps:
            yield step
            for grown in step.grows:
                yield from grown.everything()


def tokens_in(value: Any) -> Iterator[str]:
    """Yield the names of all values inside of *value*, left to right. None is no value."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from tokens_in(part)
    elif isinstance(value, dict):
        yield from tokens_in(list(value.values()))
    elif isinstance(value, BaseException):
        yield str(value.args[0])
    elif value is not None:
        yield value.token
