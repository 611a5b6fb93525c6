"""Retries go by what a task raised, also where its exception had to be replaced."""

import threading

import exoflow
from exoflow.engine.matching import is_one_of
from exoflow.executors.portable import portable


class BusyError(OSError):
    """An exception that holds what cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def test_a_stand_in_is_of_the_classes_of_what_it_stands_for() -> None:
    error = portable(BusyError("try later"))

    assert not isinstance(error, BusyError)
    assert is_one_of(error, (BusyError,))
    assert is_one_of(error, (KeyError, OSError))
    assert not is_one_of(error, (KeyError, ValueError))
    assert not is_one_of(error, ())


def test_a_task_is_retried_though_its_exception_does_not_pickle() -> None:
    calls = []

    @exoflow.task(effects="none", retries=2, retry_on=BusyError, retry_delay_s=0)
    def try_it() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise BusyError("try later")
        return len(calls)

    with exoflow.Engine("memory://", "inline") as engine:
        assert engine.run(try_it.bind()) == 3
