"""Scenario 1: a payment on a committed value that recovery throws away.

The record of a committed task may name a value nobody stored. If a crash takes that value, its task runs again and comes
out otherwise, the committed record is an orphan, and whatever acted on it acted on nothing. So an effect waits until
what it reads is *settled*: no open incarnation can be reached, stepping from an incarnation to what it read, and from an
uncommitted nondeterministic one also to its readers. Storing everything before an effect would be right too, and
would leave no value that can be skipped.
"""

import pytest

from exoflow.graph.node import Node

from .stage import Stage, draw, pay, send


def shop(*, u: str, effect: str = "once") -> Node:
    """A drawn value, a committed one made of it, a payment on that; and, slowly, another reader of the first."""
    drawn = draw("u", u).bind()
    a = draw("a").bind(drawn)
    paid = (send if effect == "once" else pay)("pay").bind(a)
    b = draw("b").bind(drawn)
    return draw("h").bind(paid, b)


@pytest.mark.parametrize("effect", ["once", "idempotent"])
@pytest.mark.parametrize("mode", ["skip", "async"])
def test_no_payment_starts_on_a_committed_value_made_of_one_that_may_be_asked_for_again(mode: str, effect: str) -> None:
    stage = Stage(shop(u=mode, effect=effect))
    stage.returns("u", stored=False)
    stage.returns("a")
    stage.flush()
    assert stage.stored("a")

    assert "pay" not in stage.running
    stage.crash()

    assert {"u", "a"} <= stage.reruns(), "the committed record read a value that is lost: it is an orphan"
    stage.to_the_end()
    assert len(stage.attempts("a")) == 2
    assert len(stage.attempts("pay")) == 1


@pytest.mark.parametrize("effect", ["once", "idempotent"])
def test_the_payment_starts_when_the_last_reader_has_committed_and_the_value_is_never_stored(effect: str) -> None:
    stage = Stage(shop(u="skip", effect=effect))
    stage.returns("u", "a")
    stage.flush()
    assert stage.storing == set(), "b will close it"

    stage.returns("b")
    stage.flush()

    assert "pay" in stage.running
    stage.crash(happened=["pay"])
    assert not {"u", "a", "b"} & stage.reruns()
    stage.to_the_end()
    assert len(stage.attempts("u")) == 1
    assert not stage.stored("u")


def test_the_payment_starts_when_the_upload_of_the_value_is_done() -> None:
    stage = Stage(shop(u="async"))
    stage.returns("u", stored=False)
    stage.returns("a")
    stage.flush()
    assert "pay" not in stage.running

    stage.is_stored("u")
    stage.flush()

    assert "pay" in stage.running
    assert "b" in stage.running, "nobody waited for the other reader"


def test_the_durable_record_counts_and_not_the_logged_one() -> None:
    stage = Stage(shop(u="skip", effect="idempotent"))
    stage.returns("u", "a", "b")
    assert "pay" not in stage.running

    stage.crash()

    assert not stage.attempts("pay"), "what was logged is lost, and with it what closed the value"
    stage.to_the_end()
    assert len(stage.attempts("pay")) == 1


# --- skip is a wish ---------------------------------------------------------------------------------------------------


def test_a_value_that_only_the_payments_own_descendants_would_close_is_stored_whatever_its_mode() -> None:
    u = draw("u", "skip").bind()
    paid = send("pay").bind(draw("a").bind(u))
    stage = Stage(draw("h").bind(draw("b").bind(paid, u), draw("unrelated").bind()))
    stage.returns("u", "a")
    stage.flush()
    assert "pay" not in stage.running
    assert stage.storing == {"u"}, "b reads it too, and waits for the payment: nothing else would ever close it"

    stage.is_stored("u")
    stage.flush()

    assert "pay" in stage.running
    assert "unrelated" in stage.running, "nobody waited for anything else to be over"
    stage.to_the_end()
    assert stage.stored("u")


def test_effects_that_wait_for_each_other_do_not_wait_for_ever() -> None:
    u, w = draw("u", "skip").bind(), draw("w", "skip").bind()
    one, two = send("one").bind(u), send("two").bind(w)
    stage = Stage(draw("h").bind(draw("b", "skip").bind(one, w), draw("c", "skip").bind(two, u)))
    stage.returns("u", "w")

    stage.to_the_end()

    assert stage.answer == "succeeded"


def test_what_the_payment_reads_itself_is_stored_and_not_what_lies_behind_it() -> None:
    u = draw("large", "skip").bind()
    small = draw("small", "skip").bind(u)
    stage = Stage(send("pay").bind(small))
    stage.returns("large", "small")
    stage.flush()

    assert stage.storing == {"small"}
    stage.is_stored("small")
    stage.flush()
    assert "pay" in stage.running
    stage.to_the_end()
    assert not stage.stored("large")


def test_a_random_value_behind_a_stored_one_is_never_stored_for_the_answer() -> None:
    augmented = [draw(f"augment{n}", "skip").bind() for n in range(3)]
    stage = Stage(draw("train").bind(augmented))
    stage.to_the_end()

    assert stage.stored("train")
    assert not any(stage.stored(f"augment{n}") for n in range(3))


# --- the tempting local rule ------------------------------------------------------------------------------------------


def test_it_is_not_enough_that_all_readers_of_a_value_have_committed() -> None:
    u, w = draw("u", "skip").bind(), draw("w", "skip").bind()
    a, b = draw("a").bind(u), draw("b").bind(u, w)
    slow = draw("slow").bind(w)
    stage = Stage(draw("h").bind(send("pay").bind(a), b, slow))
    stage.returns("u", "w", "a", "b")
    stage.flush()
    assert stage.stored("a")
    assert stage.stored("b")

    assert "pay" not in stage.running, "w is open: without it b is an orphan, which asks for u, which orphans a"
    stage.crash()

    assert {"w", "b", "u", "a"} <= stage.reruns()
    stage.to_the_end()
    assert len(stage.attempts("pay")) == 1


def test_the_payment_starts_once_the_other_value_is_closed_too() -> None:
    u, w = draw("u", "skip").bind(), draw("w", "skip").bind()
    a, b = draw("a").bind(u), draw("b").bind(u, w)
    slow = draw("slow").bind(w)
    stage = Stage(draw("h").bind(send("pay").bind(a), b, slow))
    stage.returns("u", "w", "a", "b", "slow")
    stage.flush()

    assert "pay" in stage.running
    assert not stage.stored("u")
    assert not stage.stored("w")
