"""There is a short way to describe small things, and a long one for all. Both must say the same."""

import dataclasses
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exoflow.graph.description import Describer


@attrs.frozen
class Slots:
    second: Any
    first: Any = 0


@attrs.define(slots=False)
class Loose:
    inside: Any


@dataclasses.dataclass
class Data:
    inside: Any
    late: Any = dataclasses.field(init=False)


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.binary(max_size=80)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=10),
        st.lists(inner, max_size=10).map(tuple),
        st.dictionaries(ATOMS | st.tuples(ATOMS), inner, max_size=10),
        st.builds(Slots, inner, inner),
        st.builds(Loose, inner),
        st.builds(Data, inner),
    ),
    max_leaves=30,
)


PRINTABLE = st.recursive(
    st.sampled_from([None, True, 1, 1.0, -0.0, 0.0, 1j, "", "1", "i1;", b"", b"1", "x" * 70, b"x" * 70]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.builds(Slots, inner), st.builds(Loose, inner)
    ),
    max_leaves=5,
)  # fmt: skip
PATIENT = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


class LongWay(Describer):
    def _shallow(self, value: Any, kind: type, levels: int) -> None:
        return None


@PATIENT
@given(VALUES)
def test_the_short_way_says_what_the_long_way_says(value: Any) -> None:
    assert Describer().describe(value) == LongWay().describe(value)


@PATIENT
@given(PRINTABLE, PRINTABLE)
def test_two_values_are_described_alike_if_and_only_if_they_print_alike(one: Any, other: Any) -> None:
    assert (Describer().describe(one) == Describer().describe(other)) == (repr(one) == repr(other))


@PATIENT
@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_descriptions_can_be_joined_for_none_is_the_beginning_of_another(one: list[Any], other: list[Any]) -> None:
    describer = Describer()
    first, second = [describer.describe(v) for v in one], [describer.describe(v) for v in other]

    assert (b"".join(first) == b"".join(second)) == (first == second)


def test_a_field_without_a_value_is_not_a_field_with_none() -> None:
    empty, none = Data(1), Data(1)
    none.late = None

    assert Describer().describe(empty) != Describer().describe(none)


@pytest.mark.parametrize("kind", [Slots, Loose, Data])
def test_a_class_with_fields_is_described_by_them_whichever_way_it_keeps_them(kind: Any) -> None:
    describer = Describer()

    assert describer.describe(kind([1])) == Describer().describe(kind([1]))
    assert len({describer.describe(kind(value)) for value in (1, [1], [[1]], [[[1]]], kind(1))}) == 5
