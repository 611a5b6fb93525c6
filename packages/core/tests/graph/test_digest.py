"""The digest decides whether an id stands for the same work: it must be the same everywhere, and differ where work does."""

import dataclasses
import os
import subprocess
import sys
import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest

from exoflow.errors import ArgumentError
from exoflow.graph.dag import compile_dag
from exoflow.graph.node import Input, Node
from exoflow.tasks.task import task

from .digest_cases import STABLE, Data, Frozen, Plain, closed_over, f, ring


@task
def g(*args: Any, **kwargs: Any) -> None: ...


def digest(root: Node, **inputs: Any) -> str:
    return compile_dag(root, inputs).digest


@pytest.fixture(scope="module")
def elsewhere() -> list[Mapping[str, str]]:
    """The digests that two other processes find, each with its own order of sets."""
    found: list[Mapping[str, str]] = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("digest_cases.py"))],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append(dict(line.split("\t") for line in done.stdout.splitlines()))
    return found


@pytest.mark.parametrize("case", STABLE)
def test_other_processes_find_the_same_digest_whatever_their_hash_seed(
    case: str, elsewhere: list[Mapping[str, str]]
) -> None:
    assert elsewhere[0][case] == elsewhere[1][case]


def test_a_file_that_is_run_makes_the_digests_that_it_makes_when_it_is_imported(
    elsewhere: list[Mapping[str, str]],
) -> None:
    code = """
import sys, pathlib
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import digest_cases
for name, node in digest_cases.STABLE.items():
    print(name, digest_cases.compile_dag(node).digest, sep="\\t")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).with_name("digest_cases.py"))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert dict(line.split("\t") for line in done.stdout.splitlines()) == elsewhere[0]


def test_the_same_program_makes_the_same_digest() -> None:
    def build() -> Node:
        first = f.bind(1, k=[2])
        return g.options(after=[first]).bind({"x": first}, Frozen(first))

    assert digest(build()) == digest(build())


def test_code_and_policies_do_not_count_for_they_may_be_mended_while_a_workflow_waits() -> None:
    assert digest(f.options(retries=3, checkpoint="skip", version="2").bind(1)) == digest(f.bind(1))


def test_an_input_counts_by_its_value() -> None:
    assert digest(f.bind(Input("x")), x=1) == digest(f.bind(1)) == digest(f.bind(Input("y", 1)))
    assert digest(f.bind(Input("x")), x=1) != digest(f.bind(Input("x")), x=2)


first, second = f.bind(1), f.bind(1)
DIFFERENT: list[list[Node]] = [
    [f.bind(), g.bind()],
    [f.bind(), f.bind(None), f.bind(1), f.bind("1"), f.bind(1.0), f.bind(True), f.bind(b"1"), f.bind(1 + 0j)],
    [f.bind(0.0), f.bind(-0.0), f.bind(float("nan")), f.bind(float("inf"))],
    [f.bind([1, 2]), f.bind((1, 2)), f.bind([[1], 2]), f.bind([1, [2]]), f.bind([1], 2), f.bind(1, 2), f.bind({1, 2})],
    [f.bind({"a": 1}), f.bind({"b": 1}), f.bind({"a": {"b": 1}}), f.bind({"a": 1, "b": 1})],
    [f.bind(a=1), f.bind(b=1), f.bind(a=1, b=1), f.bind(1)],
    [f.bind("a", "b"), f.bind("ab", ""), f.bind("a;str:'b'")],
    [f.bind(Frozen(1)), f.bind(Frozen(2)), f.bind(Plain(1)), f.bind(Plain(2))],
    [f.bind(len), f.bind(max), f.bind(f), f.bind(g)],
    [f.bind(), f.options(task_id="mine").bind()],
    [f.bind(first, first), f.bind(first, second), f.bind(first, 1)],
    [f.bind([first]), f.options(after=[first]).bind(), f.options(wait_until_committed=[first]).bind()],
    [g.bind(first, f.bind(2)), g.bind(f.bind(2), first)],
]


@pytest.mark.parametrize("nodes", DIFFERENT)
def test_other_work_has_another_digest(nodes: list[Node]) -> None:
    assert len({digest(node) for node in nodes}) == len(nodes)


class Bag(list[int]):
    def __init__(self, *items: int) -> None:
        super().__init__(items)
        self.label = "bag"


class Rebuilt:
    def __init__(self, inside: int) -> None:
        self.inside = inside

    def __reduce__(self) -> Any:
        return Rebuilt, (self.inside,), {"seen": True}


def noted(problem: str) -> ValueError:
    error = ValueError(problem)
    error.add_note("found by hand")
    return error


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([f.bind(1, {"a": 2}), f.bind(1, a=2)], id="a dict as the last argument or as keywords"),
        pytest.param([f.bind(Bag(1)), f.bind(Bag(2))], id="a list with attributes"),
        pytest.param([f.bind(Rebuilt(1)), f.bind(Rebuilt(2))], id="an object rebuilt from arguments and state"),
        pytest.param([f.bind(noted("a")), f.bind(noted("b"))], id="an exception with a note"),
        pytest.param([f.bind(Plain(1).__eq__), f.bind(Plain(2).__eq__)], id="a method of another object"),
        pytest.param([f.bind(Plain(1).method), f.bind(Plain(2).method)], id="a method of another object, in Python"),
        pytest.param([f.bind([1].append), f.bind([2].append)], id="a builtin method of another object"),
        pytest.param([f.bind(closed_over(1)), f.bind(closed_over(2))], id="a function that closed over another value"),
        pytest.param([f.bind(partial(pow, 1)), f.bind(partial(pow, 2)), f.bind(partial(pow, x=2))], id="a partial"),
        pytest.param([f.bind(list[int]), f.bind(list[str]), f.bind(list)], id="a generic type"),
        pytest.param([f.bind({1, 2}), f.bind(frozenset({1, 2})), f.bind({1: None, 2: None})], id="kinds of sets"),
        pytest.param([f.bind(OrderedDict(a=1, b=2)), f.bind(OrderedDict(b=2, a=1))], id="the order of an ordered dict"),
        pytest.param([f.bind(deque([1], 1)), f.bind(deque([1], 2)), f.bind(deque([2], 1))], id="deques"),
        pytest.param([f.bind(Data(1)), f.bind(Frozen(1)), f.bind(Data([1])), f.bind(Data([[1]]))], id="field classes"),
        pytest.param(
            [f.bind(bytearray(b"1")), f.bind(b"1"), f.bind(array("b", b"1")), f.bind(array("b", b"2"))], id="buffers"
        ),
        pytest.param([f.bind(10**5000), f.bind(-(10**5000)), f.bind(10**5000 + 1)], id="integers too long to print"),
        pytest.param([f.bind("x" * 5000), f.bind("x" * 4999 + "y"), f.bind(b"x" * 5000)], id="long texts"),
        pytest.param([f.bind(ring(1)), f.bind(ring(2)), f.bind(ring(Plain(1)))], id="objects in a ring"),
        pytest.param([f.bind(nested(5000, 1)), f.bind(nested(5000, 2)), f.bind(nested(4999, 1))], id="deep nesting"),
    ],
)
def test_so_has_work_that_differs_in_a_corner(nodes: list[Node]) -> None:
    assert len({digest(node) for node in nodes}) == len(nodes)


# --- what makes no difference -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Circle:
    radius: float

    @cached_property
    def area(self) -> float:
        return 3 * self.radius**2


def measured(radius: float) -> Circle:
    circle = Circle(radius)
    assert circle.area
    return circle


one = Plain([1])
text = "interned"


@pytest.mark.parametrize(
    ("node", "same"),
    [
        pytest.param(f.bind({"a": 1, "b": [2]}), f.bind({"b": [2], "a": 1}), id="the order of a dict"),
        pytest.param(f.bind(a=1, b=[2]), f.bind(b=[2], a=1), id="the order of keywords"),
        pytest.param(
            f.bind([one, one], one), f.bind([Plain([1]), Plain([1])], Plain([1])), id="one object or equal ones"
        ),
        pytest.param(f.bind(Plain([text, text])), f.bind(Plain([text, "".join(text)])), id="texts that are one object"),
        pytest.param(f.bind(Circle(1)), f.bind(measured(1)), id="what was computed from the fields and kept"),
        pytest.param(f.bind(ring(1), ring(1)), f.bind(*[ring(1)] * 2), id="a ring met twice"),
    ],
)
def test_what_is_equal_has_one_digest(node: Node, same: Node) -> None:
    assert digest(node) == digest(same)


def test_what_is_shared_at_every_level_is_described_once() -> None:
    doubled: Any = [1]
    for _ in range(200):
        doubled = [doubled, doubled]

    assert digest(f.bind(Plain(doubled)))


def test_a_large_value_that_many_nodes_take_is_read_once() -> None:
    class Counted:
        reads = 0

        def __reduce__(self) -> Any:
            Counted.reads += 1
            return Counted, ()

    value = Counted()
    assert digest(g.bind([f.bind(at, value) for at in range(100)]))
    assert Counted.reads == 1


def test_arrays_are_their_numbers_wherever_these_lie() -> None:
    numpy = pytest.importorskip("numpy")
    table = numpy.arange(12.0).reshape(3, 4)

    assert digest(f.bind(table)) == digest(f.bind(numpy.asfortranarray(table))) == digest(f.bind(table[:, :]))
    assert digest(f.bind(table[:, ::2])) == digest(f.bind(table[:, ::2].copy()))
    different = [
        table,
        table.T,
        table.reshape(4, 3),
        table + 1,
        table.astype("f4"),
        table.tolist(),
        numpy.zeros((0, 4)),
    ]
    different += [numpy.array(1.0), numpy.float64(1.0), numpy.array(["2020"], "M8[Y]"), numpy.array(["2021"], "M8[Y]")]
    different += [numpy.array([[1], {2}], object), numpy.array([[1], {3}], object)]
    assert len({digest(f.bind(value)) for value in different}) == len(different)


# --- what has no digest -----------------------------------------------------------------------------------------------


class Member:
    def __init__(self, home: Any) -> None:
        self.home = home


def home_of_two() -> Plain:
    home = Plain(None)
    home.inside = {Member(home), Member(home)}
    return home


class Endless:
    def __reduce__(self) -> Any:
        return Endless, (Endless(),)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (threading.Lock, "lock"),
        (lambda: (x for x in "ab"), "generator"),
        (lambda: Plain([threading.Lock()]), "lock"),
        (home_of_two, "use a list"),
        (Endless, "deep"),
    ],
    ids=["lock", "generator", "inside", "order", "endless"],
)
def test_what_cannot_be_told_from_others_is_refused_with_the_name_of_its_argument(
    make: Callable[[], Any], problem: str
) -> None:
    @task
    def lend(book: Any, to: Any) -> None: ...

    with pytest.raises(ArgumentError, match=rf"'lend', argument 'to'.*{problem}"):
        digest(lend.bind(1, make()))
