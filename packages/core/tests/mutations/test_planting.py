"""A bug is planted exactly where it is meant to be, and nothing of it stays."""

import pytest

from .planting import CannotPlantError, Edit, Mutation, planted
from .test_planted_bugs_are_found import ALL


class Adder:
    def add(self, first: int, second: int = 2) -> int:
        return first + second

    @classmethod
    def of_class(cls) -> str:
        return "class " + cls.__name__

    @staticmethod
    def of_nobody() -> str:
        return "nobody's"

    @property
    def size(self) -> int:
        return 1

    def deep(self) -> int:
        return super().__sizeof__()


def free(value: int) -> int:
    if value:
        return value
    return 0


KNOWN_ALREADY = {"free": free}


def test_a_bug_is_there_for_a_while_and_then_it_is_not(request: pytest.FixtureRequest) -> None:
    where = request.module.__name__
    bound = Adder().add
    with planted(Edit(f"{where}:Adder.add", "first + second", "first - second")):
        assert Adder().add(5) == bound(5) == 3
    assert Adder().add(5) == bound(5) == 7


def test_whoever_holds_the_function_already_has_the_bug_too(request: pytest.FixtureRequest) -> None:
    with planted(Edit(f"{request.module.__name__}:free", "return value\n", "return 2 * value\n")):
        assert KNOWN_ALREADY["free"](4) == 8
    assert KNOWN_ALREADY["free"](4) == 4


@pytest.mark.parametrize("what", ["of_class", "of_nobody"])
def test_methods_of_classes_and_static_ones_can_have_bugs(request: pytest.FixtureRequest, what: str) -> None:
    before = getattr(Adder, what)()
    with planted(Edit(f"{request.module.__name__}:Adder.{what}", "return ", 'return "not " + ')):
        assert getattr(Adder, what)() == f"not {before}"
    assert getattr(Adder, what)() == before


def test_properties_can_have_bugs(request: pytest.FixtureRequest) -> None:
    with planted(Edit(f"{request.module.__name__}:Adder.size", "return 1", "return 2")):
        assert Adder().size == 2
    assert Adder().size == 1


def test_several_edits_of_one_function_add_up(request: pytest.FixtureRequest) -> None:
    where = f"{request.module.__name__}:free"
    with planted(Edit(where, "return value", "return 2 * value"), Edit(where, "return 0", "return 1")):
        assert (free(3), free(0)) == (6, 1)
    assert (free(3), free(0)) == (3, 0)


def test_nothing_stays_when_the_test_of_it_fails(request: pytest.FixtureRequest) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        planted(Edit(f"{request.module.__name__}:free", "return 0", "return 1 // 0")),
    ):
        free(0)
    assert free(0) == 0


@pytest.mark.parametrize(
    ("where", "find", "complaint"),
    [
        ("free", "return", "2 times, not once"),
        ("free", "no such text", "0 times, not once"),
        ("gone", "return", "is not there .*: find where it went"),
        ("Adder.deep", "super()", "is a closure"),
        ("KNOWN_ALREADY", "free", "not a function"),
    ],
)
def test_an_edit_that_does_not_fit_says_what_to_do(
    request: pytest.FixtureRequest, where: str, find: str, complaint: str
) -> None:
    fits = Edit(f"{request.module.__name__}:Adder.add", "first + second", "0")
    with (
        pytest.raises(CannotPlantError, match=complaint),
        planted(fits, Edit(f"{request.module.__name__}:{where}", find, "x")),
    ):
        raise AssertionError("planted")
    assert Adder().add(1) == 3, "nothing is planted unless all of it is"


@pytest.mark.parametrize("mutation", ALL, ids=str)
def test_every_bug_of_the_lists_fits_the_product(mutation: Mutation) -> None:
    with planted(*mutation.edits):
        pass
