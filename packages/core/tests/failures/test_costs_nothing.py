"""Without an injector the failure points are not there: no call is made for them, counted rather than timed."""

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

import exoflow
from exoflow import failures

POINTS = str(Path(failures.__file__).parent)


@contextmanager
def counted_calls():
    """Count calls into the code of the failure points, on this thread and on those that begin meanwhile."""
    calls = Counter()

    def profile(frame, event, argument):
        if event == "call":
            code = frame.f_code
            # BlobPoint is the point that needs something in the way of the bytes.
            if code.co_filename.startswith(POINTS) or code.co_qualname.startswith("BlobPoint."):
                calls[code.co_qualname] += 1

    before = sys.getprofile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


@exoflow.task(effects="none", checkpoint="async")
def large(value):
    return bytes(40_000)


@exoflow.task(rollback=lambda value: None)
def reserve(value):
    return len(value)


@exoflow.task
def charge(value):
    return value


@exoflow.task(effects="once")
def fail(value):
    raise ValueError("rolls everything back")


def run_a_bit_of_everything(executor, *injectors):
    # Opening an engine looks at its injectors once, and imports; what is counted is what each task costs.
    with exoflow.Engine("memory://", executor, failures=injectors) as engine:
        with counted_calls() as calls:
            assert engine.run(charge.bind(reserve.bind(large.bind(1))), workflow_id="a") == 40_000
            with pytest.raises(exoflow.TaskFailedError):
                engine.run(fail.bind(reserve.bind(large.bind(1))))
    return calls


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_no_call_is_made_for_the_points_without_an_injector(executor):
    assert run_a_bit_of_everything(executor) == {}


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_the_same_workflow_passes_many_points_when_there_is_one(executor):
    """What the test before shows is shown by something that would notice."""
    calls = run_a_bit_of_everything(executor, "nothing.crash")

    assert calls["FailureInjector.reach"] > 20
    assert calls["BlobPoint.write"] >= 2
