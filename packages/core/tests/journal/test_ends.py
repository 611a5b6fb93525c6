"""Where a workflow stands, by its records."""

from typing import Any

import pytest

from exoflow.journal import ends, records
from exoflow.values import Payload

UNDO = records.Intent("w", "t", "j.1.1", "j.1.1", ())
ONCE = records.Intent("w", "o", "j.1.2", "w/1/o", ())
UNDONE = records.UndoRecord("w", "t", "j.1.1")
SETTLED = records.Settlement("w", "o", "j.1.2", False)


@pytest.fixture
def happened(make: Any) -> records.Outcome:
    return make.outcome("w", "o", "j.1.2")


def test_a_workflow_without_an_end_is_not_finished(make: Any) -> None:
    assert not ends.is_finished([])
    assert not ends.is_finished([make.submission("w"), UNDO])


def test_a_result_is_the_end_whatever_was_undone_on_the_way(make: Any) -> None:
    assert ends.is_finished([make.submission("w"), UNDO, make.end("w")])


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_failure_is_finished_when_every_effect_is_undone_or_known(make: Any, status: str, happened: Any) -> None:
    end = make.end("w", status)
    cases = {
        (end,): True,
        (UNDO, end): False,
        (UNDO, end, UNDONE): True,
        (UNDO, make.outcome("w", "t", "j.1.1"), end): False,
        (ONCE, end): False,
        (ONCE, end, SETTLED): True,
        (ONCE, happened, end): True,
        (UNDO, ONCE, UNDONE, end, happened): True,
        (UNDO, end, make.end("w", "rolled_back")): True,
    }
    for found, expected in cases.items():
        assert ends.is_finished(found) is expected, found


def test_the_first_end_counts(make: Any) -> None:
    first, second = make.end("w", "failed"), make.end("w", "succeeded")

    assert ends.end_of([make.submission("w"), first, second]) == first


def test_a_question_stands_until_it_is_answered(make: Any, happened: Any) -> None:
    asked = records.Attention("w", "o", "j.1.2", "who knows")

    assert ends.needs_attention([ONCE, asked]) == asked
    assert ends.needs_attention([ONCE, asked, make.outcome("w", "x", "j.1.9")]) == asked
    for answer in (SETTLED, happened):
        assert ends.needs_attention([ONCE, asked, answer]) is None


def test_blobs_are_found_wherever_they_are_named(make: Any) -> None:
    blob, inline = Payload("pickle", (9,), None, "blobs/w/x", 1), Payload("pickle", (1,), b"x")

    named = ends.blobs_named(
        [make.submission("w", 1, blob), make.end("w", payload=inline), make.outcome("w", "t", "a")]
    )

    assert named == {"blobs/w/x"}


def test_every_kind_but_outcomes_and_timers_is_a_summary() -> None:
    kinds = {made.kind for made in (records.Outcome, records.TimerArmed)}

    assert kinds.isdisjoint(ends.SUMMARY)
    assert records.End.kind in ends.SUMMARY
