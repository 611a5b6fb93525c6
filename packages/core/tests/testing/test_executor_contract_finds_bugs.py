import asyncio
import contextvars
import functools
import itertools
from pathlib import Path

import attrs
import pytest

from exoflow.engine.events import CommitFailed, Ended, Failed, Finished, Persisted, Resolved
from exoflow.executors import calling
from exoflow.executors.calling import Caller, Kept, key_of, parts_of
from exoflow.executors.contract import CallKind, Persistence
from exoflow.executors.threads import ThreadExecutor
from exoflow.stores.memory import MemoryStore
from exoflow.testing.executors import ExecutorContract, GatedStore, Stage
from exoflow.testing.suites import run_suite
from exoflow.values import Live, persist


class QuickContract(ExecutorContract):
    at_once = 4
    coroutines_at_once = 20
    many = 100


class ExecutorWithABug(ThreadExecutor):
    """A good executor, with means to go round it."""

    fails = ()
    """Tests that must notice."""
    caller = Caller

    def __init__(self, services):
        super().__init__(attrs.evolve(services, report=functools.partial(self.tell, services.report)), workers=4)
        self.started = []
        for part in (self, self._coroutines):
            part._caller = self.caller(services.store, services.codec)

    def start(self, call):
        self.started.append(call)
        super().start(call)

    def tell(self, report, event):
        report(event)


class ReportsBeforeItIsDurable(ExecutorWithABug):
    fails = (
        "test_before_a_large_value_is_durable_when_it_is_reported[False]",
        "test_before_a_large_value_is_durable_when_it_is_reported[True]",
        "test_before_nothing_is_reported_while_the_store_is_at_it",
        "test_after_what_is_stored_is_the_value_as_it_was_reported[big_list]",
    )

    class caller(Caller):  # noqa: N801
        def write(self, call, encoded):
            self.left = functools.partial(super().write, call, encoded)
            return Persisted(call.attempt, persist(encoded, self.codec.name, MemoryStore(), call.blob_key))

    def tell(self, report, event):
        report(event)
        for part in (self, self._coroutines):
            getattr(part._caller, "left", lambda: None)()


class StoresNothingAtAll(ExecutorWithABug):
    fails = (
        "test_a_small_value_is_reported_once_with_its_bytes[before]",
        "test_before_a_large_value_is_durable_when_it_is_reported[True]",
        "test_a_continuation_is_stored_as_a_value_would_be[small]",
        "test_buffers_are_stored_beside_the_pickle",
        "test_a_resolve_is_asked_by_its_key[happened]",
    )

    def start(self, call):
        super().start(attrs.evolve(call, persistence=Persistence.NONE))


class StoresEverything(ExecutorWithABug):
    fails = (
        "test_without_persistence_nothing_is_stored",
        "test_measured_a_value_is_kept_if_storing_it_is_quicker_than_computing_it",
    )

    def start(self, call):
        super().start(attrs.evolve(call, persistence=Persistence.BEFORE))


class KnowsOnlyBefore(ExecutorWithABug):
    fails = ("test_after_a_large_value_is_reported_at_once_and_again_when_it_is_durable[False]",)

    def start(self, call):
        after = call.persistence is Persistence.AFTER
        super().start(attrs.evolve(call, persistence=Persistence.BEFORE) if after else call)


class AliasesWhatItIsToSnapshot(ExecutorWithABug):
    fails = (
        "test_after_what_is_stored_is_the_value_as_it_was_reported[big_buffer]",
        "test_after_what_is_stored_is_the_value_as_it_was_reported[big_buffer_later]",
    )

    class caller(Caller):  # noqa: N801
        def keep(self, call, encoded, seconds, *, owned=False):
            return super().keep(call, encoded, seconds, owned=True)


class EncodesAfterReporting(ExecutorWithABug):
    fails = (
        "test_after_what_is_stored_is_the_value_as_it_was_reported[big_buffer]",
        "test_after_what_is_stored_is_the_value_as_it_was_reported[big_list]",
    )

    class caller(Caller):  # noqa: N801
        def outcome(self, call, stored, value, dag, seconds):
            if call.persistence is not Persistence.AFTER:
                return super().outcome(call, stored, value, dag, seconds)
            kept = Kept(None, later=lambda: self.write(call, self.codec.encode(stored)))
            return calling.told(call, value, dag, seconds, kept)


class KeepsEveryMeasuredValue(ExecutorWithABug):
    fails = ("test_measured_a_value_is_kept_if_storing_it_is_quicker_than_computing_it",)

    class caller(Caller):  # noqa: N801
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.speed.seconds_for = lambda size: 0.0


class SwallowsExceptions(ExecutorWithABug):
    fails = (
        "test_an_exception_is_reported_as_itself_with_its_traceback_as_a_note[False]",
        "test_an_exception_is_reported_as_itself_with_its_traceback_as_a_note[True]",
        "test_a_task_that_wants_to_end_the_process_has_failed[exit]",
        "test_caught_exceptions_leave_room_for_one_beside_the_value",
    )

    class caller(Caller):  # noqa: N801
        def raised(self, call, error, seconds):
            return Finished(call.attempt, Live(None))


class ReportsExceptionsAsTheyAre(ExecutorWithABug):
    fails = (
        "test_an_exception_that_cannot_be_recorded_is_replaced_by_one_that_says_the_same[raise_private]",
        "test_an_exception_that_cannot_be_recorded_is_replaced_by_one_that_says_the_same[raise_shouted]",
        "test_nothing_of_an_exception_is_lost_when_it_is_recorded",
        "test_a_task_that_wants_to_end_the_process_has_failed[exit]",
        "test_a_task_that_wants_to_end_the_process_has_failed[cancel later]",
    )

    class caller(Caller):  # noqa: N801
        def raised(self, call, error, seconds):
            return Failed(call.attempt, error)


class CatchesByItself(ExecutorWithABug):
    fails = ("test_caught_exceptions_leave_room_for_one_beside_the_value",)

    class caller(Caller):  # noqa: N801
        def raised(self, call, error, seconds):
            return Finished(call.attempt, Live((None, error)))


class ForgetsToCatch(ExecutorWithABug):
    fails = (
        "test_caught_exceptions_leave_room_for_one_beside_the_value",
        "test_what_a_resolve_found_looks_like_what_the_task_would_have_returned",
    )

    def start(self, call):
        super().start(attrs.evolve(call, task=call.task.options(catch_exceptions=False)))


class BlamesTheTaskForWhatTheStoreLost(ExecutorWithABug):
    fails = ("test_an_input_that_cannot_be_read_is_not_the_tasks_own_failure",)

    def tell(self, report, event):
        report(attrs.evolve(event, system=False) if isinstance(event, Failed) else event)


class KeepsQuietAboutWhatItCannotStore(ExecutorWithABug):
    fails = (
        "test_a_value_that_cannot_be_stored_names_its_task_and_the_reason[before]",
        "test_a_store_that_refuses_takes_nothing_from_the_outcome[after]",
    )

    def tell(self, report, event):
        if not isinstance(event, CommitFailed):
            report(event)


class GivesUpAValueItCannotStore(ExecutorWithABug):
    fails = (
        "test_a_value_that_cannot_be_stored_names_its_task_and_the_reason[before]",
        "test_a_store_that_refuses_takes_nothing_from_the_outcome[before]",
    )

    class caller(Caller):  # noqa: N801
        def returned(self, call, value, seconds):
            event, later = super().returned(call, value, seconds)
            if later is not None and isinstance(failed := later(), CommitFailed):
                return Failed(call.attempt, failed.error), None
            return event, later


class LosesACall(ExecutorWithABug):
    fails = ("test_of_many_calls_each_is_reported_once[none]", "test_of_many_calls_each_is_reported_once[before]")

    def start(self, call):
        super().start(call)
        if len(self.started) == 57:
            with self._lock:
                self._calls.pop(key_of(call), None)


class ReportsTwice(ExecutorWithABug):
    fails = (
        "test_of_many_calls_each_is_reported_once[none]",
        "test_a_small_value_is_reported_once_with_its_bytes[after]",
    )

    def tell(self, report, event):
        report(event)
        report(event)


class ReportsAgainInTheNameOfAnother(ExecutorWithABug):
    fails = ("test_of_many_calls_each_is_reported_once[none]",)

    def tell(self, report, event):
        report(event)
        if len(self.started) > 10:
            report(attrs.evolve(event, attempt=self.started[-10].attempt))


class NamesAnAttemptThatNobodyStarted(ExecutorWithABug):
    fails = ("test_a_call_reports_what_its_function_returned", "test_a_call_that_has_not_begun_is_dropped")

    def tell(self, report, event):
        report(attrs.evolve(event, attempt="another"))


class MixesUpAttempts(ExecutorWithABug):
    fails = ("test_of_many_calls_each_is_reported_once[none]",)

    def tell(self, report, event):
        others = itertools.islice(reversed(self.started), 1)
        report(attrs.evolve(event, attempt=next(others).attempt))


class EndsWhatRunsOn(ExecutorWithABug):
    fails = ("test_a_call_that_runs_has_ended_when_nothing_of_it_runs_any_more",)

    def stop(self, attempt):
        super().stop(attempt)
        self._tell(Ended(attempt))


class ReportsTheOutcomeOfWhatWasStopped(ExecutorWithABug):
    fails = ("test_a_call_that_runs_has_ended_when_nothing_of_it_runs_any_more",)

    def stop(self, attempt):
        if self._calls.get(attempt, 0) == 0:
            super().stop(attempt)


class NeverSaysWhatHasEnded(ExecutorWithABug):
    fails = (
        "test_an_attempt_that_is_not_here_has_ended",
        "test_a_coroutine_is_cancelled",
        "test_a_coroutine_that_was_only_just_started_can_be_stopped",
    )

    def tell(self, report, event):
        if not isinstance(event, Ended):
            report(event)


class RunsWhatWasDropped(ExecutorWithABug):
    fails = ("test_a_call_that_has_not_begun_is_dropped",)

    def stop(self, attempt):
        kept = dict(self._calls)
        super().stop(attempt)
        self._calls.update(kept)


class RunsOneAfterTheOther(ExecutorWithABug):
    fails = ("test_functions_overlap", "test_a_blocked_call_leaves_the_others_alone")

    def __init__(self, services):
        super().__init__(services)
        self._pool._limit = 1


class AwaitsOneAfterTheOther(ExecutorWithABug):
    fails = ("test_coroutines_overlap",)

    def __init__(self, services):
        super().__init__(services)
        self._coroutines._limit = 1


class ReportsAfterItWasClosed(ExecutorWithABug):
    fails = ("test_closing_twice_is_harmless_and_ends_the_reports",)

    def close(self):
        super().close()
        for call in self.started:
            self._report(Ended(call.attempt))


class TellsTasksWhoWasStartedLast(ExecutorWithABug):
    fails = ("test_a_task_knows_who_it_is[who_am_i]",)

    class caller(Caller):  # noqa: N801
        def prepare(self, call):
            function, args, kwargs = super().prepare(call)
            other = attrs.evolve(call, attempt="another")
            return (lambda: calling._call(other, function, args, kwargs)), (), {}


class TellsCoroutinesNothing(ExecutorWithABug):
    fails = ("test_a_task_knows_who_it_is[who_am_i_later]",)

    class caller(Caller):  # noqa: N801
        def prepare(self, call):
            function, args, kwargs = super().prepare(call)

            async def elsewhere():
                return await asyncio.create_task(function(*args, **kwargs), context=contextvars.Context())

            return (elsewhere if calling.runs_on_loop(call) else function), args, kwargs


class UndoesWithoutArguments(ExecutorWithABug):
    fails = ("test_an_undo_is_called_with_what_was_kept_for_it[stored]",)

    def start(self, call):
        super().start(attrs.evolve(call, inputs=[]) if call.kind is CallKind.UNDO else call)


class TakesAnyAnswerForAYes(ExecutorWithABug):
    fails = (
        "test_a_resolve_is_asked_by_its_key[not]",
        "test_a_resolve_is_asked_by_its_key[unknown, bare]",
        "test_a_resolve_that_answers_nonsense_has_failed",
    )

    class caller(Caller):  # noqa: N801
        def returned(self, call, value, seconds):
            if call.kind is CallKind.RESOLVE:
                return Resolved(call.attempt, True, Live(value)), None
            return super().returned(call, value, seconds)


class HandsOutTheBytesOfAPayload(ExecutorWithABug):
    fails = ("test_a_task_may_change_what_it_read_and_nobody_else_sees_it",)

    class caller(Caller):  # noqa: N801
        def _read(self, call, value):
            data = bytearray(value.data or self.store.read(value.blob))
            self.read = getattr(self, "read", {})
            return self.codec.decode(parts_of(attrs.evolve(value, data=self.read.setdefault(id(value), data))))


def _outcomes(kind, folder, only=None, deadline_s=60.0):
    numbers = itertools.count()

    def fixtures():
        def stage(store):
            own = Path(folder, str(next(numbers)))
            own.mkdir()
            return Stage(kind, store, own, deadline_s)

        gated = stage(GatedStore())
        return {"stage": stage(MemoryStore()), "gate": _Opened(gated.store), "gated_stage": gated}

    return run_suite(QuickContract(), fixtures, only=only)


class _Opened:
    """Opens the gate when a test is over, so that what waits for it can end."""

    def __init__(self, store):
        self.store = store

    def close(self):
        self.store.gate.set()


def test_an_executor_without_a_bug_passes_the_contract(tmp_path):
    outcomes = _outcomes(ExecutorWithABug, tmp_path)
    assert outcomes.failed == {}
    assert len(outcomes.passed) > 60


@pytest.mark.parametrize("kind", ExecutorWithABug.__subclasses__(), ids=lambda kind: kind.__name__)
def test_the_contract_finds_a_planted_bug(kind, tmp_path):
    assert kind.fails
    assert set(_outcomes(kind, tmp_path, only=kind.fails, deadline_s=0.5).failed) == set(kind.fails)
