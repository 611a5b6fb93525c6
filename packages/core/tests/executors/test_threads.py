import asyncio
import functools
import gc
import queue
import threading
import time
import tracemalloc
import weakref
import zlib
from contextvars import ContextVar

import pytest

from exoflow.engine.events import Ended, Failed, Finished
from exoflow.executors.contract import Call, CallKind, Persistence, Services
from exoflow.executors.threads import ThreadExecutor
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.graph.dag import Upstream
from exoflow.stores.memory import MemoryStore
from exoflow.tasks.task import task
from exoflow.testing import executor_tasks as tasks
from exoflow.testing.executors import ExecutorContract, GatedStore, Stage
from exoflow.values import Live, PickleCodec

MIB = 1 << 20


class TestThreadExecutor(ExecutorContract):
    at_once = 4

    @pytest.fixture
    def open_executor(self):
        return functools.partial(ThreadExecutor, workers=4)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def stage(store, tmp_path):
    stage = Stage(functools.partial(ThreadExecutor, workers=4), store, tmp_path, 60.0)
    yield stage
    stage.finish()


def _workers():
    return {thread for thread in threading.enumerate() if thread.name.startswith("exoflow-worker")}


def test_threads_are_started_only_as_they_are_needed(stage):
    before = _workers()
    for number in range(50):
        stage.value(tasks.add, number)
    assert len(_workers() - before) == 1


def test_threads_end_when_the_executor_is_closed(stage):
    before = _workers()
    assert stage.value(tasks.add, 1) == 2
    (worker,) = _workers() - before
    stage.finish()
    worker.join(60)
    assert not worker.is_alive()


def test_tens_of_thousands_of_calls_can_wait_for_one_thread(tmp_path):
    stage = Stage(functools.partial(ThreadExecutor, workers=1), MemoryStore(), tmp_path, 60.0)
    go = threading.Event()
    first = stage.start(task(go.wait))
    begun = time.perf_counter()
    for number in range(20_000):
        stage.start(tasks.add, number)
    assert time.perf_counter() - begun < 10, "starting a call is to cost microseconds"
    assert stage.of(first) == []
    go.set()
    stage.wait_for(lambda: len(stage.events) == 20_001, "every call")
    stage.finish()


def test_a_keyboard_interrupt_in_a_thread_is_the_tasks_own_doing(stage):
    @task
    def interrupted():
        raise KeyboardInterrupt

    event = stage.call(interrupted)
    assert isinstance(event, Failed)
    assert isinstance(event.error, Exception)
    assert "KeyboardInterrupt" in str(event.error)


def test_a_simulated_crash_is_handed_to_the_driver_as_it_is(stage):
    crash = SimulatedCrash(FailurePoint.BEFORE_RUN)

    @task
    def crashing():
        raise crash

    @task
    async def crashing_later():
        raise crash

    for each in (crashing, crashing_later):
        event = stage.call(each)
        assert event.error is crash
        assert not event.ended
    assert stage.value(tasks.add, 1) == 2


@pytest.mark.parametrize("mode", list(Persistence)[1:3])
def test_a_simulated_crash_of_the_store_is_handed_to_the_driver_as_it_is(tmp_path, mode):
    crash = SimulatedCrash(FailurePoint.DURING_BLOB_WRITE)

    class CrashingStore(MemoryStore):
        def write(self, key, chunks):
            raise crash

    stage = Stage(ThreadExecutor, CrashingStore(), tmp_path, 60.0)
    for each in (tasks.big_text, tasks.big_buffer_later):
        attempt = stage.start(each, 100_000, persistence=mode)
        last = stage.wait_for(lambda attempt=attempt: [e for e in stage.of(attempt) if hasattr(e, "error")], "it")[0]
        assert last.error is crash
    stage.finish()


def test_what_a_task_sets_in_its_context_is_gone_when_it_ends(stage):
    variable = ContextVar("variable", default="clean")

    @task
    def dirty():
        found = variable.get()
        variable.set("dirty")
        return found

    assert [stage.value(dirty) for _ in range(3)] == ["clean"] * 3


def test_a_function_that_returns_a_coroutine_is_awaited(stage):
    @task
    def disguised():
        return asyncio.sleep(0, result="awaited")

    assert stage.value(disguised) == "awaited"
    attempts = [stage.start(task(lambda: asyncio.sleep(60))) for _ in range(10)]
    for attempt in attempts:
        stage.executor.stop(attempt)
    for attempt in attempts:
        assert stage.end_of(attempt) == Ended(attempt)


def test_thousands_of_coroutines_run_at_once(stage):
    count, here, all_here = 3000, [], asyncio.Event()

    @task
    async def meet():
        here.append(None)
        if len(here) == count:
            all_here.set()
        await all_here.wait()

    attempts = [stage.start(meet) for _ in range(count)]
    for attempt in attempts:
        assert isinstance(stage.end_of(attempt), Finished)


def test_coroutines_beyond_the_limit_wait_for_their_turn_and_can_be_dropped(tmp_path):
    stage = Stage(functools.partial(ThreadExecutor, coroutines=2), MemoryStore(), tmp_path, 60.0)
    go = threading.Event()

    @task
    async def wait():
        await asyncio.to_thread(go.wait)

    first = [stage.start(wait) for _ in range(2)]
    rest = [stage.start(tasks.add_later, number) for number in range(10)]
    for attempt in rest[:4]:
        stage.executor.stop(attempt)
        assert stage.end_of(attempt) == Ended(attempt)
    assert len(stage.events) == 4
    go.set()
    for attempt in first + rest:
        stage.end_of(attempt)
    assert sum(isinstance(event, Finished) for event in stage.events) == 8
    stage.finish()


def test_storing_a_large_result_does_not_hold_up_other_coroutines(tmp_path):
    store = GatedStore()
    stage = Stage(ThreadExecutor, store, tmp_path, 60.0)
    attempt = stage.start(tasks.big_buffer_later, 100_000, persistence=Persistence.BEFORE)
    assert stage.value(tasks.add_later, 1) == 2
    assert stage.of(attempt) == []
    store.gate.set()
    assert stage.end_of(attempt).payload is not None
    stage.finish()


def test_a_coroutine_that_refuses_to_be_cancelled_ends_when_it_ends(stage):
    refused, go = threading.Event(), threading.Event()

    @task
    async def stubborn():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            refused.set()
        await asyncio.to_thread(go.wait)
        return "at last"

    attempt = stage.start(stubborn)
    assert stage.value(tasks.add_later, 1) == 2
    stage.executor.stop(attempt)
    assert refused.wait(60)
    assert stage.value(tasks.add_later, 1) == 2
    assert stage.of(attempt) == []
    go.set()
    assert stage.end_of(attempt) == Ended(attempt)


class Watched:
    """An object one can see the end of."""


def _is_collected(reference):
    deadline = time.monotonic() + 60
    while reference() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.001)  # the thread may not have come to its end of the call
    return reference() is None


def test_nothing_holds_a_result_that_nobody_wants(stage):
    @task
    def make():
        return Watched()

    @task
    async def make_later():
        return Watched()

    for each in (make, make_later):
        event = stage.call(each)
        reference = weakref.ref(event.value.value)
        del event
        stage.events.clear()
        assert _is_collected(reference)


def test_nothing_holds_an_input_that_nobody_wants(stage):
    @task
    def take(value):
        return None

    value = Watched()
    reference = weakref.ref(value)
    stage.call(take, Upstream(0), inputs=[Live(value)])
    del value
    stage._started.clear()
    assert _is_collected(reference)


def test_an_error_does_not_hold_what_its_task_held(stage):
    references = []

    @task
    def fail():
        local = Watched()
        references.append(weakref.ref(local))
        raise ValueError("no")

    event = stage.call(fail)
    assert isinstance(event.error, ValueError)
    assert _is_collected(references[0])


class NullStore(MemoryStore):
    """Takes any blob and keeps none."""

    def write(self, key, chunks):
        self.checksum = 0
        for chunk in chunks:
            self.checksum = zlib.crc32(chunk, self.checksum)


def test_a_large_buffer_passes_uncopied_and_is_stored_without_a_second_copy():
    store, reports = NullStore(), queue.SimpleQueue()
    executor = ThreadExecutor(Services(store, PickleCodec(), reports.put))
    value = tasks.Big(bytearray(256 * MIB))

    def call(function, persistence, *inputs):
        args = (Upstream(0),) * len(inputs)
        executor.start(
            Call(CallKind.TASK, "j.1", "w", "t", 1, "k", task(function), args, {}, inputs, persistence, "blobs/w/j.1-0")
        )
        return reports.get(timeout=60)

    tracemalloc.start()
    try:
        given = call(lambda: value, Persistence.NONE)
        assert given.value.value is value
        assert call(lambda it: it is value, Persistence.NONE, given.value).value.value is True
        stored = call(lambda: value, Persistence.BEFORE)
        assert stored.value.value is value
        assert stored.payload.size_bytes >= 256 * MIB
        assert stored.payload.checksum == store.checksum
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        executor.close()
    assert peak < 16 * MIB
