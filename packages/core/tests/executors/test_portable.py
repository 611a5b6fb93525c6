import asyncio
import pickle
import threading

import pytest

from exoflow.executors.portable import TaskError, portable


def _raised(error, cause=None):
    try:
        try:
            if cause is not None:
                raise cause
        except BaseException as first:
            raise error from first
        raise error
    except BaseException as caught:
        return caught


def _through_a_record(error):
    return pickle.loads(pickle.dumps(error, 5))


def _notes(error):
    return "\n".join(getattr(error, "__notes__", ()))


class StatefulError(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.more = {"a": a}


class PairError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class LockedError(Exception):
    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


class ThingError(Exception):
    pass


class Thing:
    pass


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("speechless")


class IrreducibleError(Exception):
    def __reduce__(self):
        raise RuntimeError("irreducible")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("k"),
        OSError(2, "missing", "f"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StatefulError(1, [2]),
        ThingError(Thing()),
        ExceptionGroup("some", [ValueError(1), TypeError(2)]),
        StopIteration(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_survives_a_pickle_stays_what_it_is(error):
    found = portable(_raised(error))
    assert found is error
    assert found.__traceback__ is None
    again = _through_a_record(found)
    assert type(again) is type(error)
    assert "in _raised" in _notes(again)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PairError(1, 2), "PairError: 1 and 2"),
        (LockedError(), "LockedError: locked"),
        (SpeechlessError(), "SpeechlessError: <its message could not be made: RuntimeError>"),
        (IrreducibleError("x"), "IrreducibleError: x"),
        (
            SystemExit(2),
            "SystemExit: the task called sys.exit(2); a task ends by returning a value or raising an error",
        ),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError("by hand"), "asyncio.exceptions.CancelledError: by hand"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_does_not_survive_is_replaced_by_what_says_the_same(error, said):
    error = _raised(error)
    if not isinstance(error, SpeechlessError):
        error.add_note("mind the gap")
    found = portable(error)
    assert type(found) is TaskError
    again = _through_a_record(found)
    assert str(again).endswith(said)
    assert again.type_name.endswith(type(error).__qualname__)
    assert again.kinds[-1] == "BaseException"
    if not isinstance(error, SpeechlessError):
        assert "mind the gap" in _notes(again)
        assert "in _raised" in _notes(again)


def test_the_chain_of_causes_is_in_the_note():
    found = _through_a_record(portable(_raised(ValueError("outer"), KeyError("inner"))))
    assert "KeyError: 'inner'" in _notes(found)
    assert "direct cause" in _notes(found)


def test_doing_it_twice_changes_nothing():
    once = portable(_raised(ValueError("no")))
    notes = list(once.__notes__)
    twice = portable(_raised(_through_a_record(once)))
    assert twice.__notes__ == notes
    stand_in = portable(_raised(LockedError()))
    assert portable(stand_in) is stand_in


def test_an_error_that_was_never_raised_gets_no_note():
    assert not hasattr(portable(ValueError("no")), "__notes__")


def test_a_traceback_of_any_length_is_cut_in_the_middle():
    (note,) = portable(_raised(ValueError("x" * 200_000 + "the end"))).__notes__
    assert len(note) < 70_000
    assert note.startswith("Where the task raised it:\nTraceback")
    assert note.endswith("the end")
