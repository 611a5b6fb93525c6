"""One DAG for each kind of value that a digest must tell apart, and tell again elsewhere. Run as a script it prints them."""

import collections
import dataclasses
import datetime
import enum
import fractions
import pathlib
import re
import uuid
from typing import Any, NamedTuple

import attrs

from exoflow.graph.dag import compile_dag
from exoflow.graph.node import Node
from exoflow.tasks.task import task

WORDS = {"alpha", "beta", "gamma", "delta", "epsilon"}


@task
def f(*args: Any, **kwargs: Any) -> None: ...


@attrs.frozen
class Frozen:
    inside: Any


@dataclasses.dataclass
class Data:
    inside: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    inside: Any


class Named(NamedTuple):
    inside: Any


class Plain:
    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def method(self) -> None: ...


class Words(set[str]):
    pass


class Colour(enum.StrEnum):
    RED = "red"


def closed_over(inside: Any) -> Any:
    def local() -> Any:
        return inside

    return local


def ring(inside: Any) -> Plain:
    first = Plain([])
    first.inside.extend([inside, Plain(first)])
    return first


STABLE: dict[str, Node] = {
    "atoms": f.bind(1, 1.5, "é", b"x", None, True, 2j),
    "containers": f.bind([1, (2,), {"k": 3}], k={"l": [4]}),
    "set": f.bind(WORDS, frozenset(WORDS)),
    "set in a dict": f.bind({"k": WORDS}),
    "set in attrs": f.bind(Frozen(WORDS)),
    "set in a dataclass": f.bind(Data(WORDS)),
    "set in an object": f.bind(Plain(WORDS)),
    "objects": f.bind(
        Frozen(1), Data(1), Slotted(1), Named(1), Plain(1), pathlib.PurePosixPath("/a/a"), uuid.UUID(int=1)
    ),
    "function": f.bind(len, compile_dag, str.upper),
    "edges": f.options(after=[f.bind()]).bind(f.bind([f.bind()])),
    "set in slots": f.bind(Slotted(WORDS)),
    "set in a named tuple": f.bind(Named(WORDS)),
    "set in a defaultdict": f.bind(collections.defaultdict(set, k=WORDS)),
    "counter of a set": f.bind(collections.Counter(WORDS)),
    "set in a deque": f.bind(collections.deque([WORDS])),
    "set of a class of its own": f.bind(Words(WORDS)),
    "dict made from a set": f.bind({word: len(word) for word in WORDS}, **dict.fromkeys(WORDS, 1)),
    "set in a closure": f.bind(closed_over(WORDS)),
    "set in a method's object": f.bind(Plain(WORDS).method),
    "set in a node in an object": f.bind(Plain(f.bind(WORDS))),
    "set in a ring": f.bind(ring(WORDS)),
    "enum and pattern": f.bind(Colour.RED, re.compile("a+"), datetime.timedelta(1), fractions.Fraction(1, 3)),
}

if __name__ == "__main__":
    for name, node in STABLE.items():
        print(name, compile_dag(node).digest, sep="\t")
