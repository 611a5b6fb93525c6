"""Unknown never becomes won or lost without being read."""

import itertools
from collections.abc import Callable

import pytest

from exoflow.errors import UnavailableError, UnknownOutcomeError
from exoflow.journal.creation import Lost, Patience, Won, create_exactly
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, FaultyStore, LoseAnswer, Refuse, Scheduled


@pytest.fixture
def patience() -> Patience:
    seconds = itertools.count()
    return Patience(total_s=20, clock=lambda: next(seconds), sleep=lambda pause: None)


def faulty(*plan: At) -> FaultyStore:
    return FaultyStore(MemoryStore(), Scheduled(*plan))


def test_the_first_wins_and_the_second_learns_who_did(patience: Patience) -> None:
    store = MemoryStore()

    assert create_exactly(store, "k", b"mine", patience) == Won()
    assert create_exactly(store, "k", b"other", patience) == Lost(b"mine")
    assert create_exactly(store, "k", b"mine", patience) == Won()


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize("lost", [1, 3])
def test_an_answer_that_was_lost_is_found_out(happens: bool, lost: int, patience: Patience) -> None:
    store = faulty(At("create", LoseAnswer(happens=happens), times=lost))

    assert create_exactly(store, "k", b"mine", patience) == Won()
    assert bytes(store.read("k")) == b"mine"


def test_a_defeat_whose_answer_was_lost_is_found_out(patience: Patience) -> None:
    store = faulty(At("create", LoseAnswer(), times=2))
    store.inner.create("k", b"other")

    assert create_exactly(store, "k", b"mine", patience) == Lost(b"other")


def test_what_stays_unknown_is_raised_as_unknown(patience: Patience) -> None:
    store = faulty(At("create", LoseAnswer(), times=1000))

    with pytest.raises(UnknownOutcomeError):
        create_exactly(store, "k", b"mine", patience)


def test_a_refusal_after_an_unknown_answer_stays_unknown(patience: Patience) -> None:
    store = faulty(At("create", LoseAnswer(happens=False)), At("create", Refuse(), nth=2, times=1000))

    with pytest.raises(UnknownOutcomeError):
        create_exactly(store, "k", b"mine", patience)


def test_a_plain_refusal_is_passed_on_at_once(patience: Patience) -> None:
    store = faulty(At("create", Refuse()))

    with pytest.raises(UnavailableError) as caught:
        create_exactly(store, "k", b"mine", patience)
    assert not isinstance(caught.value, UnknownOutcomeError)


def test_a_winner_that_cannot_be_read_back_leaves_it_unknown(patience: Patience) -> None:
    store = faulty(At("read", Refuse(), times=1000))
    store.inner.create("k", b"other")

    with pytest.raises(UnknownOutcomeError):
        create_exactly(store, "k", b"mine", patience)


def test_a_winner_that_was_deleted_meanwhile_is_tried_again(patience: Patience) -> None:
    store = MemoryStore()
    store.create("k", b"other")
    original: Callable[..., object] = store.read

    def read(key: str, **options: object) -> object:
        store.delete("k")
        return original(key, **options)

    store.read = read  # type: ignore[method-assign,assignment]
    assert create_exactly(store, "k", b"mine", patience) == Won()
