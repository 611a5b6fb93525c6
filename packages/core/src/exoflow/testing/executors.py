"""The contract suite every executor's tests inherit.

::

    class TestLambdaExecutor(ExecutorContract):
        at_once = 8

        @pytest.fixture
        def open_executor(self, function_name):
            return lambda services: LambdaExecutor(services, function_name)

Reports are taken down as they come, and looked at in that very moment: what a report says is durable must be readable
then. The tasks are those of `exoflow.testing.executor_tasks`; tests and tasks wait for each other through files, which
for an executor on other machines must lie in a shared folder (override `folder`).
"""

# ruff: noqa: D102 - the tests' names are sentences

import ast
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from exoflow.engine.events import (
    AttemptEvent,
    CommitFailed,
    Ended,
    Failed,
    Finished,
    Persisted,
    Resolved,
    UndoFailed,
    Undone,
)
from exoflow.errors import UnavailableError, UnserializableResultError, UsageError
from exoflow.executors.contract import Call, CallKind, Executor, Persistence, Services
from exoflow.graph.dag import Upstream, compile_dag
from exoflow.stores.contract import Buffer, ObjectStore
from exoflow.stores.memory import MemoryStore
from exoflow.testing import executor_tasks as tasks
from exoflow.values import INLINE_BYTES, Codec, Live, Payload, PickleCodec, Value, inline, persist, restore

__all__ = ["ExecutorContract", "OpenExecutor", "Stage"]

OpenExecutor: TypeAlias = Callable[[Services], Executor]

_ENDS = (Finished, Failed, Ended, Undone, UndoFailed, Resolved)
_BLOB = 20 * INLINE_BYTES
"""Of a value that cannot lie in a record."""


class Stage:
    """An executor with everything around it, and a record of what it reported.

    Args:
        open_executor: Opens it.
        store: Where outcomes go.
        folder: Where tests and tasks leave files for each other.
        deadline_s: How long a report may take.
    """

    def __init__(self, open_executor: OpenExecutor, store: ObjectStore, folder: Path, deadline_s: float) -> None:
        self.store = store
        self.codec: Codec = PickleCodec()
        self.folder = folder
        self.deadline_s = deadline_s
        self.on_report: Callable[[AttemptEvent], None] = lambda event: None
        """Called with each report before anybody else hears of it, on the thread it is made on."""
        self.events: list[AttemptEvent] = []
        self.complaints: list[str] = []
        """What was wrong with reports in the moment they were made."""
        self._changed = threading.Condition()
        self._started: dict[str, Call] = {}
        self._closed = False
        self.executor = open_executor(Services(store, self.codec, self._report))

    def start(
        self,
        task: Any,
        *args: Any,
        kind: CallKind = CallKind.TASK,
        persistence: Persistence = Persistence.NONE,
        inputs: Sequence[Value] = (),
        attempt: str | None = None,
        key: str = "",
        **kwargs: Any,
    ) -> str:
        """Start a call, and return its attempt."""
        attempt = attempt or f"journal.{len(self._started) + 1}"
        call = Call(
            kind=kind,
            attempt=attempt,
            workflow_id="workflow-1",
            task_id=task.name,
            number=len(self._started) + 1,
            key=key or f"key of {attempt}",
            task=task,
            args=args,
            kwargs=kwargs,
            inputs=inputs,
            persistence=persistence,
            blob_key=f"blobs/workflow-1/{attempt}-{len(self._started)}",
        )
        self._started[attempt] = call
        self.executor.start(call)
        return attempt

    def call(self, task: Any, *args: Any, **options: Any) -> AttemptEvent:
        """Start a call, and wait for what is reported first."""
        event: AttemptEvent = self.end_of(self.start(task, *args, **options))
        return event

    def value(self, task: Any, *args: Any, **options: Any) -> Any:
        """Start a call, and return what its function returned."""
        return self.value_of(self.call(task, *args, **options))

    def end_of(self, attempt: str) -> Any:
        """Wait until an outcome of the attempt, or its end, is reported; return the first such report."""
        return self.wait_for(lambda: [e for e in self.of(attempt) if isinstance(e, _ENDS)], f"an end of {attempt}")[0]

    def durable(self, attempt: str) -> Persisted | CommitFailed:
        """Wait until it is reported what became of storing an outcome."""
        wanted = (Persisted, CommitFailed)
        return self.wait_for(  # type: ignore[no-any-return]
            lambda: [e for e in self.of(attempt) if isinstance(e, wanted)], f"Persisted or CommitFailed of {attempt}"
        )[0]

    def of(self, attempt: str) -> list[AttemptEvent]:
        """Return what has been reported of an attempt."""
        return [event for event in self.events if event.attempt == attempt]

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until *condition* is true, looking again after each report; return its answer."""
        with self._changed:
            deadline = time.monotonic() + self.deadline_s
            while not (answer := condition()) or self.complaints:
                assert not self.complaints, self.complaints
                left = deadline - time.monotonic()
                assert left > 0, f"{what} was not reported; reported were {self.events[-5:]}"
                self._changed.wait(left)
            return answer

    def wait_for_file(self, name: str) -> str:
        """Wait for a task to leave a file; return what is in it."""
        deadline = time.monotonic() + self.deadline_s
        while not self.has_file(name):
            assert time.monotonic() < deadline, f"no task has left {name}"
            time.sleep(0.002)
        return (self.folder / name).read_text()

    def has_file(self, name: str) -> bool:
        """Whether a task has left that file."""
        return (self.folder / name).exists()

    def path(self, name: str) -> str:
        """Return where a file lies, for a task."""
        return str(self.folder / name)

    def let_go(self, name: str = "go") -> None:
        """Leave a file that a task waits for."""
        tasks.note(self.path(name))

    def value_of(self, event: AttemptEvent) -> Any:
        """Return the value that an outcome carries."""
        assert isinstance(event, Finished | Resolved), f"it did not finish: {event!r}"
        assert event.value is not None, f"there is no value in {event!r}"
        return self.read(event.value)

    def read(self, value: Value) -> Any:
        """Return what a value stands for."""
        return value.value if isinstance(value, Live) else restore(value, self.codec, self.store)

    def payload(self, value: Any, name: str) -> Payload:
        """Return *value* as an earlier task would have stored it."""
        return persist(self.codec.encode(value), self.codec.name, self.store, f"blobs/workflow-1/{name}")

    def blobs(self) -> list[str]:
        """Return the names of everything in the store."""
        return list(self.store.list("blobs/"))

    def close(self) -> None:
        """Let blocked tasks go, and close the executor."""
        if not self._closed:
            self._closed = True
            self.let_go()
            self.executor.close()

    def finish(self) -> None:
        """Close the executor, and make sure that nothing was wrong with its reports."""
        self.close()
        assert not self.complaints, self.complaints

    def _report(self, event: AttemptEvent) -> None:
        if event.attempt not in self._started:
            self.complaints.append(f"nobody started the attempt of {event!r}")
        payload = getattr(event, "payload", None)
        if payload is not None:
            try:
                restore(payload, self.codec, self.store)
            except Exception as error:
                self.complaints.append(f"{event!r} named bytes that were not durable yet: {error!r}")
        try:
            self.on_report(event)
        except Exception as error:  # the executor is not to blame
            self.complaints.append(f"the test's own look at {event!r} raised {error!r}")
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()


class GatedStore(MemoryStore):
    """A store that takes no blob until it is told to, or refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.refuses = False

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""
        if self.refuses:
            raise UnavailableError("the disk is full")
        assert self.gate.wait(60)
        super().write(key, chunks)


class ExecutorContract:
    """Inherit it, and give it an executor.

    An executor may be opened several times, one after the other, and is closed after each test.
    """

    at_once: int = 2
    """How many functions the executor runs at once; the tests start no more that wait for each other."""
    coroutines_at_once: int = 100
    """The same for coroutines."""
    many: int = 1000
    """How many calls are many."""
    deadline_s: float = 60.0
    """How long anything may take before it counts as lost."""
    writes_through_services: bool = True
    """Whether outcomes are stored with the very store object it was given, when others cannot open its URL."""

    @pytest.fixture
    def open_executor(self) -> OpenExecutor:
        """What opens the executor, to be given by the heir."""
        raise NotImplementedError("give this suite a fixture `open_executor` that returns a function of services")

    @pytest.fixture
    def store(self) -> ObjectStore:
        """Where outcomes go. Override it for an executor that needs a store others can open."""
        return MemoryStore()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Where tests and tasks leave files for each other."""
        return tmp_path

    @pytest.fixture
    def stage(self, open_executor: OpenExecutor, store: ObjectStore, folder: Path) -> Iterator[Stage]:
        """An executor with everything around it."""
        stage = Stage(open_executor, store, folder, self.deadline_s)
        yield stage
        stage.finish()

    @pytest.fixture
    def gated_stage(self, open_executor: OpenExecutor, folder: Path) -> Iterator[Stage]:
        """The same with a store that takes no blob until it is told to."""
        if not self.writes_through_services:
            pytest.skip("this executor opens its own store")
        stage = Stage(open_executor, GatedStore(), folder, self.deadline_s)
        yield stage
        stage.store.gate.set()  # type: ignore[attr-defined]
        stage.finish()

    # --- values in, values out ------------------------------------------------------------------------------------

    def test_a_call_reports_what_its_function_returned(self, stage: Stage) -> None:
        event = stage.call(tasks.add, 20, 22)
        assert stage.value_of(event) == 42
        assert isinstance(event, Finished)
        assert event.payload is None
        assert event.continuation is None
        assert event.seconds >= 0
        assert stage.value(tasks.add, "a", other="b") == "ab"

    def test_arguments_are_filled_with_the_results_they_name(self, stage: Stage) -> None:
        one, two = Upstream(0), Upstream(1)
        inputs = [Live("first"), stage.payload("second", "two")]
        args, kwargs = stage.value(tasks.everything, one, [two, {"deep": (one, 3)}], 4, inputs=inputs, name=[one, two])
        assert args == ("first", ["second", {"deep": ("first", 3)}], 4)
        assert kwargs == {"name": ["first", "second"]}

    def test_an_input_is_read_from_the_store(self, stage: Stage) -> None:
        payload = stage.payload(list(range(_BLOB)), "numbers")
        assert payload.blob is not None
        assert stage.value(tasks.total, Upstream(0), inputs=[payload]) == sum(range(_BLOB))

    def test_an_input_may_be_a_large_payload_in_memory(self, stage: Stage) -> None:
        payload = inline(stage.codec.encode(tasks.Big(b"\1" * _BLOB)), stage.codec.name)
        assert stage.value(tasks.total, Upstream(0), inputs=[payload]) == _BLOB

    def test_a_value_passes_from_task_to_task(self, stage: Stage) -> None:
        first = stage.call(tasks.big_buffer, _BLOB)
        assert isinstance(first, Finished)
        assert first.value is not None
        assert stage.value(tasks.total, Upstream(0), inputs=[first.value]) == _BLOB * ord("b")
        if isinstance(first.value, Payload):
            for _ in range(2):
                assert stage.value(tasks.change, Upstream(0), inputs=[first.value]) == bytes([ord("b") + 7, ord("b")])
            assert stage.read(first.value) == tasks.Big(b"b" * _BLOB)

    def test_a_task_may_change_what_it_read_and_nobody_else_sees_it(self, stage: Stage) -> None:
        small, large = (stage.payload(tasks.Big(bytearray(size)), f"{size}") for size in (100, _BLOB))
        assert small.data is not None
        for payload in (small, large):
            for _ in range(2):
                assert stage.value(tasks.change, Upstream(0), inputs=[payload]) == b"\7\0"

    def test_an_input_that_cannot_be_read_is_not_the_tasks_own_failure(self, stage: Stage) -> None:
        lost = stage.payload(list(range(_BLOB)), "lost")
        assert lost.blob is not None
        stage.store.delete(lost.blob)
        event = stage.call(tasks.total, Upstream(0), inputs=[lost])
        assert isinstance(event, Failed)
        assert event.system
        assert lost.blob in str(event.error)

    def test_seconds_say_how_long_the_function_took(self, stage: Stage) -> None:
        event = stage.call(tasks.big_text, 1, 0.05)
        assert isinstance(event, Finished)
        assert event.seconds >= 0.05

    # --- exceptions -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("late", [False, True])
    def test_an_exception_is_reported_as_itself_with_its_traceback_as_a_note(self, stage: Stage, late: bool) -> None:
        task = tasks.raise_value_error_later if late else tasks.raise_value_error
        event = stage.call(task, "no such luck")
        assert isinstance(event, Failed)
        assert (type(event.error), event.error.args) == (ValueError, ("no such luck",))
        assert not event.system
        assert event.ended
        assert f"in {task.name}" in _notes(event.error)
        assert stage.value(tasks.add, 1) == 2, "the executor is not what it was"

    def test_nothing_of_an_exception_is_lost_when_it_is_recorded(self, stage: Stage) -> None:
        event = stage.call(tasks.raise_with_a_cause)
        assert isinstance(event, Failed)
        again = _through_a_record(event.error)
        assert type(again) is RuntimeError
        assert str(again) == "could not open"
        for expected in ("it was dark", "KeyError: 'the lost key'", "in raise_with_a_cause"):
            assert expected in _notes(again)

    @pytest.mark.parametrize("name", ["raise_private", "raise_shouted"])
    def test_an_exception_that_cannot_be_recorded_is_replaced_by_one_that_says_the_same(
        self, stage: Stage, name: str
    ) -> None:
        event = stage.call(getattr(tasks, name))
        assert isinstance(event, Failed)
        again = _through_a_record(event.error)
        assert type(again) is type(event.error)
        assert str(again) == str(event.error)
        said = {"raise_private": ("PrivateError", "for my eyes only"), "raise_shouted": ("ShoutedError", "hello!")}
        assert all(word in str(again) for word in said[name])
        assert f"in {name}" in _notes(again)

    @pytest.mark.parametrize("how", ["exit", "generator", "cancel", "exit later", "generator later", "cancel later"])
    def test_a_task_that_wants_to_end_the_process_has_failed(self, stage: Stage, how: str) -> None:
        word, _, late = how.partition(" ")
        event = stage.call(tasks.leave_later if late else tasks.leave, word)
        assert isinstance(event, Failed)
        assert isinstance(event.error, Exception), f"{event.error!r} would end whoever raises it"
        assert not event.system
        assert {"exit": "SystemExit", "generator": "GeneratorExit", "cancel": "CancelledError"}[word] in str(
            event.error
        )
        assert stage.value(tasks.add, 1) == 2
        assert stage.value(tasks.add_later, 1) == 2

    def test_caught_exceptions_leave_room_for_one_beside_the_value(self, stage: Stage) -> None:
        assert stage.value(tasks.divide, 1, 2) == (0.5, None)
        event = stage.call(tasks.divide, 1, 0)
        assert isinstance(event, Failed), "whether there is another attempt is not for the executor to say"
        assert isinstance(event.error, ZeroDivisionError)

    # --- coroutines -----------------------------------------------------------------------------------------------

    def test_a_coroutine_function_is_awaited(self, stage: Stage) -> None:
        assert stage.value(tasks.add_later, 20, other=22) == 42
        assert stage.value(tasks.add_later, Upstream(0), inputs=[stage.payload("x" * _BLOB, "x")], other="y")[-1] == "y"

    def test_coroutines_overlap(self, stage: Stage) -> None:
        count = self.coroutines_at_once
        attempts = [stage.start(tasks.meet_later, stage.path(str(n)), str(stage.folder), count) for n in range(count)]
        for attempt in attempts:
            assert stage.value_of(stage.end_of(attempt)) == count

    def test_functions_overlap(self, stage: Stage) -> None:
        if stage.executor.inline:
            pytest.skip("one after the other")
        one = stage.start(tasks.meet, stage.path("one"), stage.path("two"))
        two = stage.start(tasks.meet, stage.path("two"), stage.path("one"))
        assert {Path(stage.value_of(stage.end_of(each))).name for each in (one, two)} == {"one", "two"}

    # --- continuations --------------------------------------------------------------------------------------------

    def test_a_returned_node_is_a_continuation(self, stage: Stage) -> None:
        event = stage.call(tasks.node_of, 3)
        assert isinstance(event, Finished)
        assert event.value is None
        assert event.payload is None
        assert event.continuation is not None
        expected = compile_dag(tasks.add.bind(tasks.add.bind(1, 2), 3))
        assert event.continuation.digest == expected.digest
        assert [spec.task_id for spec in event.continuation.nodes] == ["add", "add_1"]

    @pytest.mark.parametrize("how", ["small", "large", "large later"])
    def test_a_continuation_is_stored_as_a_value_would_be(self, stage: Stage, how: str) -> None:
        task, size = (tasks.continue_later if "later" in how else tasks.continue_with), (1 if how == "small" else _BLOB)
        event = stage.call(task, size, persistence=Persistence.BEFORE)
        assert isinstance(event, Finished)
        assert event.continuation is not None
        assert event.payload is not None
        assert (event.payload.blob is not None) == (size > INLINE_BYTES)
        assert stage.read(event.payload).digest == event.continuation.digest
        assert event.continuation.root.args == ("x" * size, "y")

    # --- durability -----------------------------------------------------------------------------------------------

    def test_without_persistence_nothing_is_stored(self, stage: Stage) -> None:
        assert stage.value(tasks.big_buffer, _BLOB) == tasks.Big(b"b" * _BLOB)
        assert stage.value(tasks.big_buffer_later, _BLOB) == tasks.Big(b"b" * _BLOB)
        assert stage.blobs() == []

    @pytest.mark.parametrize("mode", ["before", "after"])
    def test_a_small_value_is_reported_once_with_its_bytes(self, stage: Stage, mode: str) -> None:
        for task in (tasks.add, tasks.add_later):
            attempt = stage.start(task, "a", "b", persistence=Persistence(mode))
            event = stage.end_of(attempt)
            assert stage.value_of(event) == "ab"
            assert event.payload is not None
            assert event.payload.data is not None
            assert stage.read(event.payload) == "ab"
        assert stage.blobs() == []
        stage.finish()
        assert len(stage.events) == 2

    @pytest.mark.parametrize("late", [False, True])
    def test_before_a_large_value_is_durable_when_it_is_reported(self, stage: Stage, late: bool) -> None:
        attempt = stage.start(
            tasks.big_buffer_later if late else tasks.big_buffer, _BLOB, persistence=Persistence.BEFORE
        )
        event = stage.end_of(attempt)
        assert event.payload is not None
        assert stage.blobs() == [event.payload.blob]
        assert stage.read(event.payload) == tasks.Big(b"b" * _BLOB)
        assert stage.value_of(event) == tasks.Big(b"b" * _BLOB)
        stage.finish()  # which complains if the bytes were not there when they were reported
        assert stage.of(attempt) == [event]

    def test_before_nothing_is_reported_while_the_store_is_at_it(self, gated_stage: Stage) -> None:
        if gated_stage.executor.inline:
            pytest.skip("it would wait for itself")
        attempt = gated_stage.start(tasks.big_text, _BLOB, persistence=Persistence.BEFORE)
        assert gated_stage.value(tasks.add, 1) == 2
        assert gated_stage.of(attempt) == []
        gated_stage.store.gate.set()  # type: ignore[attr-defined]
        assert gated_stage.end_of(attempt).payload.blob is not None

    @pytest.mark.parametrize("late", [False, True])
    def test_after_a_large_value_is_reported_at_once_and_again_when_it_is_durable(
        self, gated_stage: Stage, late: bool
    ) -> None:
        attempt = gated_stage.start(
            tasks.big_buffer_later if late else tasks.big_buffer, _BLOB, persistence=Persistence.AFTER
        )
        event = gated_stage.end_of(attempt)
        assert event.payload is None
        assert gated_stage.value_of(event) == tasks.Big(b"b" * _BLOB)
        assert gated_stage.of(attempt) == [event]
        gated_stage.store.gate.set()  # type: ignore[attr-defined]
        stored = gated_stage.durable(attempt)
        assert isinstance(stored, Persisted)
        assert gated_stage.blobs() == [stored.payload.blob]
        assert gated_stage.read(stored.payload) == tasks.Big(b"b" * _BLOB)

    @pytest.mark.parametrize("name", ["big_buffer", "big_list", "big_buffer_later"])
    def test_after_what_is_stored_is_the_value_as_it_was_reported(self, stage: Stage, name: str) -> None:
        def change(event: AttemptEvent) -> None:
            if isinstance(event, Finished) and isinstance(event.value, Live):
                value = event.value.value
                (value.data if isinstance(value, tasks.Big) else value)[:] = b"changed"

        stage.on_report = change
        attempt = stage.start(getattr(tasks, name), _BLOB, persistence=Persistence.AFTER)
        stored = stage.durable(attempt)
        assert isinstance(stored, Persisted)
        expected = list(range(_BLOB)) if name == "big_list" else tasks.Big(b"b" * _BLOB)
        assert stage.read(stored.payload) == expected, "a reader changed what was to be durable already"

    def test_buffers_are_stored_beside_the_pickle(self, stage: Stage) -> None:
        event = stage.call(tasks.big_buffer, _BLOB, persistence=Persistence.BEFORE)
        assert isinstance(event, Finished)
        assert event.payload is not None
        body, *buffers = event.payload.lengths
        assert buffers == [_BLOB]
        assert body < 1000

    def test_measured_a_value_is_kept_if_storing_it_is_quicker_than_computing_it(self, stage: Stage) -> None:
        stage.call(tasks.ready_text, 32 << 20)  # which costs nothing the second time
        quick = stage.call(tasks.ready_text, 32 << 20, persistence=Persistence.MEASURED)
        assert isinstance(quick, Finished)
        assert (quick.worth_keeping, quick.payload) == (False, None)
        assert len(stage.value_of(quick)) == 32 << 20
        slow = stage.call(tasks.big_text, 10, 0.05, persistence=Persistence.MEASURED)
        assert isinstance(slow, Finished)
        assert slow.worth_keeping
        assert slow.payload is not None
        assert stage.blobs() == []

    @pytest.mark.parametrize("mode", ["before", "after"])
    def test_a_value_that_cannot_be_stored_names_its_task_and_the_reason(self, stage: Stage, mode: str) -> None:
        attempt = stage.start(tasks.unstorable, persistence=Persistence(mode))
        event = stage.end_of(attempt)
        if isinstance(event, Failed) and mode == "after":
            error = event.error  # it could not travel to its readers either, who would not have waited
        else:
            assert isinstance(event, Finished)
            assert event.payload is None
            stored = stage.durable(attempt)
            assert isinstance(stored, CommitFailed)
            error = stored.error
        assert isinstance(error, UnserializableResultError)
        assert error.task == "unstorable"
        assert "generator" in error.problem
        assert type(_through_a_record(error)) is UnserializableResultError

    @pytest.mark.parametrize("mode", ["before", "after"])
    def test_a_store_that_refuses_takes_nothing_from_the_outcome(self, gated_stage: Stage, mode: str) -> None:
        gated_stage.store.refuses = True  # type: ignore[attr-defined]
        attempt = gated_stage.start(tasks.big_text, _BLOB, persistence=Persistence(mode))
        event = gated_stage.end_of(attempt)
        assert isinstance(event, Finished)
        assert event.payload is None
        assert gated_stage.value_of(event) == "x" * _BLOB
        stored = gated_stage.durable(attempt)
        assert isinstance(stored, CommitFailed)
        assert isinstance(stored.error, UnavailableError)

    # --- many -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("mode", ["none", "before"])
    def test_of_many_calls_each_is_reported_once(self, stage: Stage, mode: str) -> None:
        attempts = {}
        for number in range(self.many):
            task = tasks.add_later if number % 10 == 0 else tasks.add
            attempts[stage.start(task, number, persistence=Persistence(mode))] = number
        stage.wait_for(lambda: len(stage.events) >= self.many, f"each of {self.many} calls")
        stage.finish()
        assert sorted(event.attempt for event in stage.events) == sorted(attempts)
        for event in stage.events:
            assert stage.value_of(event) == attempts[event.attempt] + 1

    def test_a_blocked_call_leaves_the_others_alone(self, stage: Stage) -> None:
        if stage.executor.inline:
            pytest.skip("one after the other")
        blocked = [stage.start(*self._block(stage, n)) for n in range(self.at_once - 1)]
        assert stage.value(tasks.add, 1) == 2
        assert stage.value(tasks.add_later, 1) == 2
        assert stage.value(tasks.add, 2) == 3
        assert all(stage.of(attempt) == [] for attempt in blocked)
        stage.let_go()
        for attempt in blocked:
            assert stage.value_of(stage.end_of(attempt)) == "blocked"

    # --- stopping -------------------------------------------------------------------------------------------------

    def test_an_attempt_that_is_not_here_has_ended(self, stage: Stage) -> None:
        attempt = stage.start(tasks.add, 1)
        stage.end_of(attempt)
        stage.executor.stop(attempt)
        stage.wait_for(lambda: Ended(attempt) in stage.of(attempt), "the end of a call that had ended")

    def test_a_call_that_has_not_begun_is_dropped(self, stage: Stage) -> None:
        if stage.executor.inline:
            pytest.skip("every call has begun")
        blocked = [stage.start(*self._block(stage, n)) for n in range(self.at_once)]
        for n in range(self.at_once):
            stage.wait_for_file(f"begun-{n}")
        queued = stage.start(tasks.leave_a_trace, stage.path("trace"))
        stage.executor.stop(queued)
        assert stage.end_of(queued) == Ended(queued)
        assert all(stage.of(attempt) == [] for attempt in blocked)
        stage.let_go()
        for attempt in blocked:
            assert stage.value_of(stage.end_of(attempt)) == "blocked"
        assert stage.value(tasks.add, 1) == 2
        assert not stage.has_file("trace")
        assert stage.of(queued) == [Ended(queued)]

    def test_a_call_that_runs_has_ended_when_nothing_of_it_runs_any_more(self, stage: Stage) -> None:
        if stage.executor.inline:
            pytest.skip("nothing can be stopped while it runs")

        def look(event: AttemptEvent) -> None:
            if isinstance(event, Ended) and not stage.has_file("ended-0"):
                assert not self.is_alive(int((stage.folder / "begun-0").read_text())), "it runs all the same"

        stage.on_report = look
        attempt = stage.start(*self._block(stage, 0))
        stage.wait_for_file("begun-0")
        stage.executor.stop(attempt)
        assert stage.value(tasks.add, 1) == 2
        stage.let_go()
        assert stage.end_of(attempt) == Ended(attempt)
        again = stage.start(*self._block(stage, 1))
        assert stage.value_of(stage.end_of(again)) == "blocked"
        assert stage.of(attempt) == [Ended(attempt)], "a stopped attempt has no outcome"

    def test_a_coroutine_is_cancelled(self, stage: Stage) -> None:
        attempt = stage.start(tasks.block_later, stage.path("begun"), stage.path("ended"))
        pid = int(stage.wait_for_file("begun"))
        stage.executor.stop(attempt)
        assert stage.end_of(attempt) == Ended(attempt)
        assert stage.has_file("ended") or not self.is_alive(pid)
        assert stage.value(tasks.add_later, 1) == 2
        assert stage.of(attempt) == [Ended(attempt)]

    def test_a_coroutine_that_was_only_just_started_can_be_stopped(self, stage: Stage) -> None:
        attempts = [
            stage.start(tasks.block_later, stage.path(f"begun-{n}"), stage.path(f"ended-{n}")) for n in range(20)
        ]
        for attempt in attempts:
            stage.executor.stop(attempt)
        for attempt in attempts:
            assert stage.end_of(attempt) == Ended(attempt)

    def test_closing_twice_is_harmless_and_ends_the_reports(self, stage: Stage) -> None:
        stage.start(tasks.block_later, stage.path("begun"), stage.path("ended"))
        stage.wait_for_file("begun")
        stage.finish()
        stage.executor.close()
        assert stage.events == []

    # --- context --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ["who_am_i", "who_am_i_later"])
    def test_a_task_knows_who_it_is(self, stage: Stage, name: str) -> None:
        for number in (1, 2):
            attempt = f"journal.{number}"
            assert stage.value(getattr(tasks, name), attempt=attempt) == {
                "workflow_id": "workflow-1",
                "task_id": name,
                "incarnation": number,
                "attempt": attempt,
                "idempotency_key": f"key of {attempt}",
            }

    # --- undo and resolve -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["stored", "live", "stored later", "live later"])
    def test_an_undo_is_called_with_what_was_kept_for_it(self, stage: Stage, how: str) -> None:
        arguments: Any = (stage.path("undone"),), {}
        inputs = [stage.payload(arguments, "intent") if "stored" in how else Live(arguments)]
        task = tasks.undoable_later if "later" in how else tasks.undoable
        attempt = stage.start(task, kind=CallKind.UNDO, inputs=inputs)
        assert stage.end_of(attempt) == Undone(attempt)
        assert ast.literal_eval(stage.wait_for_file("undone"))["attempt"] == attempt

    @pytest.mark.parametrize("how", ["loudly", "exit"])
    def test_an_undo_that_raises_has_failed(self, stage: Stage, how: str) -> None:
        inputs = [Live(((stage.path("undone"),), {"how": how}))]
        event = stage.call(tasks.undoable, kind=CallKind.UNDO, inputs=inputs)
        assert isinstance(event, UndoFailed)
        assert isinstance(event.error, Exception)
        assert {"loudly": "cannot be undone", "exit": "SystemExit"}[how] in str(event.error)
        assert "in _undo" in _notes(event.error)

    def test_an_undo_may_run_beside_the_attempt_it_undoes(self, stage: Stage) -> None:
        if stage.executor.inline:
            pytest.skip("one after the other")
        attempt = stage.start(*self._block(stage, 0))
        stage.wait_for_file("begun-0")
        inputs = [Live(((stage.path("undone"),), {}))]
        stage.start(tasks.undoable, kind=CallKind.UNDO, inputs=inputs, attempt=attempt)
        assert stage.end_of(attempt) == Undone(attempt)
        stage.let_go()
        stage.wait_for(lambda: len(stage.of(attempt)) == 2, "the attempt itself")

    @pytest.mark.parametrize(
        "key", ["happened", "happened, bare", "not", "not, bare", "unknown", "unknown, bare", "later"]
    )
    def test_a_resolve_is_asked_by_its_key(self, stage: Stage, key: str) -> None:
        task = tasks.once_later if key == "later" else tasks.once
        event = stage.call(task, kind=CallKind.RESOLVE, key=key, persistence=Persistence.BEFORE)
        assert isinstance(event, Resolved)
        word = key.partition(",")[0]
        assert event.happened is {"happened": True, "later": True, "not": False, "unknown": None}[word]
        if event.happened:
            expected = None if key == "happened, bare" else key
            assert stage.value_of(event) == expected
            assert event.payload is not None
            assert stage.read(event.payload) == expected
        else:
            assert event.value is None
            assert event.payload is None

    def test_what_a_resolve_found_is_durable_when_it_is_reported(self, stage: Stage) -> None:
        event = stage.call(tasks.once, kind=CallKind.RESOLVE, key="big", persistence=Persistence.AFTER)
        assert isinstance(event, Resolved)
        assert event.payload is not None
        assert stage.blobs() == [event.payload.blob]
        assert stage.value_of(event) == tasks.Big(b"b" * 100_000)

    def test_what_a_resolve_found_looks_like_what_the_task_would_have_returned(self, stage: Stage) -> None:
        assert stage.value(tasks.once_and_caught, kind=CallKind.RESOLVE, key="happened") == ("happened", None)

    def test_a_resolve_that_answers_nonsense_has_failed(self, stage: Stage) -> None:
        event = stage.call(tasks.once, kind=CallKind.RESOLVE, key="nonsense")
        assert isinstance(event, UndoFailed)
        assert isinstance(event.error, UsageError)
        assert "perhaps" in str(event.error)

    # --- for heirs ------------------------------------------------------------------------------------------------

    def is_alive(self, pid: int) -> bool:
        """Whether a process that ran a task is there; override it if processes are on other machines."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _block(self, stage: Stage, number: int) -> tuple[Any, ...]:
        return tasks.block, stage.path(f"begun-{number}"), stage.path("go"), stage.path(f"ended-{number}")


def _notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def _through_a_record(error: BaseException) -> Any:
    assert isinstance(error, Exception)
    return pickle.loads(pickle.dumps(error, 5))
