import asyncio
import functools
import queue
import threading

import pytest
from exoflow_example.tagged_executor import TaggedExecutor

from exoflow.engine.events import Ended, Failed, Finished, UndoFailed
from exoflow.errors import UnknownOptionError
from exoflow.executors.contract import Call, CallKind, Persistence, Services
from exoflow.stores.memory import MemoryStore
from exoflow.tasks.task import task
from exoflow.testing.executors import ExecutorContract
from exoflow.values import PickleCodec

DEADLINE_S = 10.0


class TestTaggedExecutor(ExecutorContract):
    at_once = 8
    coroutines_at_once = 8  # each takes a thread

    @pytest.fixture
    def open_executor(self):
        return functools.partial(TaggedExecutor, limits={}, workers=self.at_once)


class Gate:
    """A task that says when it begins, and ends when it is let go."""

    def __init__(self):
        self.begun = queue.SimpleQueue()
        self._ends = {}

    def __call__(self, name):
        self._ends[name] = threading.Event()
        self.begun.put(name)
        assert self._ends[name].wait(DEADLINE_S)
        return name

    def let_go(self, name):
        self._ends[name].set()

    def next(self):
        return self.begun.get(timeout=DEADLINE_S)

    def is_quiet(self):
        return self.begun.empty()


class Bench:
    def __init__(self, **options):
        self.events = queue.SimpleQueue()
        services = Services(MemoryStore(), PickleCodec(), self.events.put)
        self.executor = TaggedExecutor(services, **{"limits": {}, "workers": 8, **options})

    def start(self, function, *args, attempt, resources=(), kind=CallKind.TASK):
        self.executor.start(
            Call(
                kind=kind, attempt=attempt, workflow_id="w", task_id=attempt, number=1, key=attempt,
                task=task(effects="none", resources=dict(resources))(function), args=args, kwargs={}, inputs=(),
                persistence=Persistence.NONE, blob_key=f"blobs/{attempt}",
            )
        )  # fmt: skip

    def next(self):
        return self.events.get(timeout=DEADLINE_S)


@pytest.fixture
def bench():
    made = []

    def make(**options):
        made.append(Bench(**options))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


@pytest.fixture
def gate():
    return Gate()


def test_tasks_without_tags_run_side_by_side(bench, gate):
    bench = bench()
    for name in "abc":
        bench.start(gate, name, attempt=name)

    assert {gate.next() for _ in "abc"} == set("abc")
    for name in "abc":
        gate.let_go(name)
    assert {bench.next().attempt for _ in "abc"} == set("abc")


def test_of_the_tasks_with_one_tag_only_so_many_run_at_once(bench, gate):
    bench = bench(limits={"gpu": 2})
    for name in "abc":
        bench.start(gate, name, attempt=name, resources={"gpu": 1})
    first, second = gate.next(), gate.next()

    assert [first, second] == ["a", "b"] or [second, first] == ["a", "b"]
    assert gate.is_quiet()
    gate.let_go("a")
    assert gate.next() == "c"


def test_there_is_one_of_a_tag_that_nobody_limited(bench, gate):
    bench = bench()
    bench.start(gate, "a", attempt="a", resources={"database": 1})
    bench.start(gate, "b", attempt="b", resources={"database": 1})

    assert gate.next() == "a"
    assert gate.is_quiet()
    gate.let_go("a")
    assert gate.next() == "b"


def test_a_task_whose_tag_is_free_overtakes_those_whose_tag_is_not(bench, gate):
    bench = bench()
    bench.start(gate, "a", attempt="a", resources={"gpu": 1})
    assert gate.next() == "a"
    bench.start(gate, "b", attempt="b", resources={"gpu": 1})
    bench.start(gate, "c", attempt="c", resources={"disk": 1})

    assert gate.next() == "c"


def test_a_task_that_fails_gives_its_tags_back(bench, gate):
    def fail():
        raise ValueError("no")

    bench = bench()
    bench.start(fail, attempt="a", resources={"gpu": 1})
    bench.start(gate, "b", attempt="b", resources={"gpu": 1})

    assert isinstance(bench.next(), Failed)
    assert gate.next() == "b"


@pytest.mark.parametrize(("kind", "event"), [(CallKind.TASK, Failed), (CallKind.UNDO, UndoFailed)])
def test_a_task_that_needs_more_than_there_is_fails_at_once(bench, kind, event):
    bench = bench(limits={"gpu": 2})
    bench.start(print, attempt="a", resources={"gpu": 3}, kind=kind)

    told = bench.next()
    assert isinstance(told, event)
    assert "needs 3 of 'gpu', and there is 2" in str(told.error)


def test_a_limit_of_nothing_is_refused(bench):
    with pytest.raises(UnknownOptionError, match=r"limits\['gpu'\]=0"):
        bench(limits={"gpu": 0})


def test_a_call_that_waits_for_its_tag_can_be_stopped(bench, gate):
    bench = bench()
    for name in "abc":
        bench.start(gate, name, attempt=name, resources={"gpu": 1})
    assert gate.next() == "a"

    bench.executor.stop("b")
    gate.let_go("a")

    assert isinstance(bench.next(), Ended)
    assert isinstance(bench.next(), Finished)
    assert gate.next() == "c"


def test_a_function_that_was_stopped_has_ended_when_it_returns(bench, gate):
    bench = bench()
    bench.start(gate, "a", attempt="a", resources={"gpu": 1})
    assert gate.next() == "a"

    bench.executor.stop("a")
    assert bench.events.empty()
    gate.let_go("a")

    assert bench.next() == Ended("a")


def test_a_coroutine_is_cancelled_and_holds_its_tag_until_then(bench, gate):
    begun, cancelled = threading.Event(), []

    async def wait():
        begun.set()
        try:
            await asyncio.sleep(DEADLINE_S)
        finally:
            cancelled.append(True)

    bench = bench()
    bench.start(wait, attempt="a", resources={"gpu": 1})
    bench.start(gate, "b", attempt="b", resources={"gpu": 1})
    assert begun.wait(DEADLINE_S)

    bench.executor.stop("a")

    assert bench.next() == Ended("a")
    assert cancelled == [True]
    assert gate.next() == "b"


def test_no_more_threads_are_made_than_there_are_workers(bench, gate):
    bench = bench(workers=2)
    for name in "abc":
        bench.start(gate, name, attempt=name)
    gate.next(), gate.next()

    assert gate.is_quiet()
    gate.let_go("a")
    assert gate.next() == "c"
