"""The controller: an event loop, a journal, and executors; the only place where they meet.

Everything that happens becomes an event in one mailbox. A turn of the controller feeds events to the workflows' state
machines, carries out the commands that come back, and when nothing is left to do sends what they logged to
the journal as one batch. The machines know nothing of all this, and nothing here decides anything about a workflow.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from exoflow.engine import events as ev
from exoflow.engine.blob_point import BlobPoint
from exoflow.engine.flushing import Flusher
from exoflow.engine.listening import Listener
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.promise import Promise
from exoflow.engine.recording import Recorder
from exoflow.engine.run import WorkflowRun, arguments_of, call_of, call_resolve, call_undo
from exoflow.engine.telling import Teller
from exoflow.errors import (
    CorruptCheckpointError,
    ExoFlowError,
    ObjectNotFoundError,
    TaskTimeoutError,
    UnavailableError,
    WorkflowCancelledError,
)
from exoflow.executors.calling import make_durable
from exoflow.executors.contract import Call, CallKind, Executor, Services
from exoflow.failures.points import FailurePoint, Reach, SimulatedCrash
from exoflow.journal import records
from exoflow.journal.layout import blob_key
from exoflow.journal.liveness import HEARTBEAT_PATIENCE_S
from exoflow.journal.writer import JournalWriter
from exoflow.plugins.observing import Moment, Observer
from exoflow.stores.contract import ObjectStore, SupportsAppend, SupportsLocks
from exoflow.tasks.policy import Effects
from exoflow.values import Codec, Live, Value

__all__ = ["Controller"]

log = logging.getLogger(__name__)

_BEAT_S = HEARTBEAT_PATIENCE_S / 6
_DRAIN_S = 10.0
"""How long closing waits for attempts that cannot be stopped."""

_TURN_EVENTS = 256
"""Events fed before the loop gets to look at timers and other callers again."""

_PROBLEMS = (ev.Failed, ev.UndoFailed, ev.CommitFailed)
_REPORTS = (ev.Finished, ev.Failed, ev.Undone, ev.UndoFailed, ev.Resolved)
_ENDS = (ev.Finished, ev.Failed, ev.Ended)


class Timer:
    """A call to be made later, unless it is cancelled."""

    __slots__ = ("call", "handle")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Make it not happen. In a turn, on whatever thread; asyncio's own cancel only counts what is left to sweep."""
        self.call = None
        if self.handle is not None:
            self.handle.cancel()


class Controller:
    """Runs workflows until it is closed, fenced, or its journal fails.

    Args:
        store: What must survive.
        writer: A journal of its own.
        executor: The name of the executor for tasks that name none.
        make_executor: Opens an executor by name.
        codec: How values become bytes.
        reach: Called at failure points; None when there is nothing to call.
        observers: Told of everything that happens.
    """

    def __init__(
        self,
        store: ObjectStore,
        writer: JournalWriter,
        *,
        executor: str,
        make_executor: Callable[[str, Services], Executor],
        codec: Codec,
        reach: Reach | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.store, self.codec = store, codec
        self.journal_id = writer.journal_id
        self._appends = isinstance(store, SupportsAppend)
        self.problem: BaseException | None = None
        """Why it stopped, once it has."""
        self.runs: dict[str, WorkflowRun] = {}
        """By workflow id: those that have not been answered."""
        self._by_prefix: dict[str, WorkflowRun] = {}
        self._numbers = itertools.count(1)
        self._default_executor = executor
        self._make_executor = make_executor
        self._executors: dict[str, Executor] = {}
        self._reach = reach
        if reach is not None:
            store = cast(ObjectStore, BlobPoint(store, self._within_blob))
        self._services = Services(store, codec, self._report, self._report_and_turn)
        self._teller = Teller(observers) if observers else None
        self._recorder = Recorder(codec, store)
        self._watch_records = reach is not None or bool(observers)
        self._after_flush: list[Callable[[], None]] = []
        """What is to be done when the batch is durable, beside telling the engine."""
        self._batch_outcomes: list[tuple[WorkflowRun, NodeState]] = []
        """Outcomes in the batch, if anybody wants to know when they are durable."""
        self._draining = False
        """Whether nothing new is started: the engine closes once what runs has ended."""
        self._mail: deque[ev.Event] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._turning = threading.Lock()
        """Held by the thread that has its turn. It may be any: what matters is that it is one at a time."""
        self._signalled = False
        self._outstanding: dict[str, tuple[WorkflowRun, NodeState]] = {}
        """Attempts that an executor has, and has not said to have ended."""
        self._lingering: dict[str, tuple[WorkflowRun, NodeState]] = {}
        """Attempts that were given up and still run, of tasks whose effect must not meet its own undo or a second one."""
        self._batch: list[bytes] = []
        self._batch_runs: list[tuple[WorkflowRun, int]] = []
        self._accepting: list[tuple[WorkflowRun, Promise[None]]] = []
        """Callers that wait for submissions, each with the last of them."""
        self._closing = False
        self._waited, self._gone = threading.Event(), threading.Event()
        """Whether closing need not be waited for any longer, and whether nothing of this controller is left."""
        self._live_left = False
        self._drain_until = 0.0
        """Whether workflows that have not ended lie in the journal, though nobody works on them here."""
        self._random = random.Random()
        self._timers: dict[str, Timer] = {}
        self._loop = asyncio.new_event_loop()
        self._loop_ended = False
        self.flusher = Flusher(writer, self._flush_ended)
        self._blobs: ThreadPoolExecutor | None = None
        self._listener = Listener(store, self)
        self._thread = threading.Thread(target=self._live, name="exoflow-controller", daemon=True)
        self._thread.start()
        if not isinstance(store, SupportsLocks):
            self.later(_BEAT_S, self._beat)

    # --- from other threads -------------------------------------------------------------------------------------

    def post(self, call: Callable[[], None]) -> None:
        """Have *call* made in a turn, soon."""
        self._calls.append(call)
        if not self._turning.locked():
            self._wake()

    def ask(self, job: Callable[[], Any]) -> Promise[Any]:
        """Have *job* done on the journal's thread, alone; promise its result."""
        promise: Promise[Any] = Promise()

        def done(result: Any, problem: BaseException | None) -> None:
            if problem is not None:
                if self.flusher.writer.dead:
                    self._die(problem)
                promise.reject(problem)
            else:
                promise.resolve(result)

        self.post(lambda: self._refuse(promise) if self.problem else self.flusher.submit(job, done))
        return promise

    def _refuse(self, promise: Promise[Any]) -> None:
        assert self.problem is not None
        promise.reject(self.problem)

    def new_prefix(self) -> str:
        """Return a prefix for attempts that no other run of a workflow ever has."""
        return f"{self.journal_id}.{next(self._numbers)}"

    def submit(
        self, runs: Sequence[tuple[WorkflowRun, records.Submission | None]], accepted: Promise[None] | None = None
    ) -> None:
        """Run workflows: new ones, whose submission is given, and recovered ones.

        Args:
            runs: The workflows.
            accepted: Told when every submission is durable.
        """
        for run, _ in runs:
            self.runs[run.workflow_id] = run  # at once: whoever asks for it next must find it
        self.post(lambda: self._submit(runs, accepted))

    def nudge(self) -> None:
        """Look into the inbox soon. In a turn only."""
        self._listener.nudge()

    def leave_live(self) -> None:
        """Note that a workflow which has not ended lies in the journal, though nobody works on it here."""
        self._live_left = True

    def later(self, after_s: float, call: Callable[[], None]) -> Timer:
        """Have *call* made in a turn, after a while."""
        timer = Timer(call)
        if threading.current_thread() is self._thread:
            self._set(timer, after_s)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: there will be no turn
                self._loop.call_soon_threadsafe(self._set, timer, after_s)
        return timer

    def _set(self, timer: Timer, after_s: float) -> None:
        if timer.call is not None:
            timer.handle = self._loop.call_later(max(0.0, after_s), self._ring, timer)

    def _ring(self, timer: Timer) -> None:
        if timer.call is not None:
            self._calls.append(timer.call)
            self._turn()

    def tell(self, run: WorkflowRun, event: ev.Event) -> None:
        """Feed a workflow something that is not of an executor. In a turn only."""
        self._obey(run, run.state.handle(event, time.time()))

    def close(self) -> None:
        """Stop in good order: what has not ended can be resumed, by anyone, at once."""
        if not self._closing:
            self._closing = True
            self.post(self._close)
        if threading.current_thread() is not self._thread:
            self._waited.wait(6 * _DRAIN_S)

    def wait_until_gone(self, timeout_s: float) -> bool:
        """Wait until nothing of it runs and its journal is let go of; return whether that is so."""
        return self._gone.wait(timeout_s)

    def _report(self, event: ev.Event) -> None:
        self._mail.append(event)
        # Whoever has its turn looks once more after it: then nobody need be woken.
        if not self._turning.locked():
            self._wake()

    def _flush_ended(self, call: Callable[[], None]) -> None:
        """Go on where the journal's thread has just ended a job: on that thread, if no task would run on it."""
        self._calls.append(call)
        if any(executor.inline for executor in self._executors.values()):
            self._wake()
        else:
            self._turn()

    def _report_and_turn(self, event: ev.Event) -> None:
        """Take a report, and the worker thread that brings it: handing over to another would cost two wake-ups."""
        self._mail.append(event)
        self._turn()

    def _wake(self) -> None:
        if self._loop_ended:
            self._turn()  # nobody else would: whoever asks for something is told that this controller is no more
        elif not self._signalled:
            self._signalled = True
            with contextlib.suppress(RuntimeError):  # the loop has just ended, and its thread has the last turn
                self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        self._signalled = False
        self._turn()

    # --- the loop -----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop_ended = True
            self._turn()
            self._loop.close()

    def _turn(self) -> None:
        """Feed what has come; then send what was logged. On any thread, unless one is at it already."""
        while self._turning.acquire(blocking=False):
            try:
                finished = self._work()
            except BaseException as error:
                # SimulatedCrash among them: the controller dies as it stands and writes nothing more.
                self._die(error)
                finished = True
            finally:
                self._turning.release()
            if not finished:
                self._wake()  # timers and callers first, then the rest
                return
            if not (self._mail or self._calls):
                return

    def _work(self) -> bool:
        """Have a turn; return whether everything that has come was fed."""
        mail, calls, flusher = self._mail, self._calls, self.flusher
        budget = _TURN_EVENTS
        while True:
            while calls:
                calls.popleft()()
            while mail and budget:
                budget -= 1
                self._feed(mail.popleft())
            more = bool(mail or calls)
            if more and budget:
                continue
            if self.problem is not None or not self._batch or flusher.busy:
                return not more
            batch, self._batch = self._batch, []
            runs, self._batch_runs = self._batch_runs, []
            outcomes, self._batch_outcomes = self._batch_outcomes, []
            then, self._after_flush = self._after_flush, []
            if more or self._outstanding or not self._appends:
                flusher.submit(partial(flusher.flush, batch), partial(self._flushed, runs, outcomes, then))
                return not more
            # Nothing else can happen before this is durable: a hop to another thread would only cost time.
            problem = None
            try:
                flusher.flush(batch)
            except ExoFlowError as error:
                problem = error
            self._flushed(runs, outcomes, then, None, problem)

    def _flushed(
        self,
        runs: list[tuple[WorkflowRun, int]],
        outcomes: list[tuple[WorkflowRun, NodeState]],
        then: list[Callable[[], None]],
        _: None,
        problem: BaseException | None,
    ) -> None:
        if problem is not None:
            self._die(problem)
            return
        for run, node in outcomes:
            if self._reach is not None:
                self._reach(
                    FailurePoint.AFTER_RECORD,
                    workflow_id=run.workflow_id, task_id=node.task_id, attempt=node.attempt, number=node.number,
                )  # fmt: skip
            if self._teller is not None:
                self._teller.tell(Moment.TASK_COMMITTED, run, node)
        now = time.time()
        if self._accepting:
            self._accept(runs)
        for run, count in runs:
            self._obey(run, run.state.handle(ev.Committed(count), now))
        for call in then:
            call()

    def _accept(self, runs: list[tuple[WorkflowRun, int]]) -> None:
        flushed = {id(run) for run, _ in runs}
        waiting = []
        for run, accepted in self._accepting:
            if id(run) in flushed:
                accepted.resolve(None)
            else:
                waiting.append((run, accepted))
        self._accepting = waiting

    def _feed(self, event: ev.Event) -> None:
        attempt: str = event.attempt  # type: ignore[union-attr]
        known = self._outstanding.pop(attempt, None)
        run = self._by_prefix.get(attempt.rpartition(".")[0])
        if known is not None and type(event) is ev.Failed and not event.ended and _must_have_ended(known[1]):
            self._lingering[attempt] = known
        if self._lingering and isinstance(event, _ENDS) and (type(event) is not ev.Failed or event.ended):
            self._lingering.pop(attempt, None)
        if run is None:
            return
        if self._reach is not None and known is not None and isinstance(event, _REPORTS):
            event = self._after_run(run, known[1], event)
        if self._timers:
            timer = self._timers.pop(attempt, None)
            if timer is not None:
                timer.cancel()
        if isinstance(event, _PROBLEMS) and self._cannot_go_on(run, event):
            return
        if self._teller is not None:
            self._teller.event(run, event)
        self._obey(run, run.state.handle(event, time.time()))

    def _cannot_go_on(self, run: WorkflowRun, event: ev.Failed | ev.UndoFailed | ev.CommitFailed) -> bool:
        """Stop where the trouble is the store's, not the task's: nothing is decided, and resuming goes on."""
        error = event.error
        if getattr(error, "exoflow_simulated_crash", False):
            raise error
        store_failed = type(event) is ev.CommitFailed or (type(event) is ev.Failed and event.system)
        if store_failed and isinstance(error, UnavailableError | CorruptCheckpointError | ObjectNotFoundError):
            self.abandon(run, error)
            return True
        if type(event) is ev.UndoFailed and isinstance(error, UnavailableError):
            self.abandon(run, error)
            return True
        return False

    def _submit(
        self, runs: Sequence[tuple[WorkflowRun, records.Submission | None]], accepted: Promise[None] | None
    ) -> None:
        if self.problem is not None:
            for run, _ in runs:
                self._settle(run, self.problem)
            if accepted is not None:
                accepted.reject(self.problem)
            return
        now = time.time()
        # One flush takes what is in the batch: whatever is logged below goes out together, and in order.
        if accepted is not None:
            self._accepting.append((runs[-1][0], accepted))
        for run, submission in runs:
            self.runs[run.workflow_id] = run
            self._by_prefix[run.prefix] = run
            if submission is not None:
                if self._teller is not None:
                    self._teller.started(run)
                self._obey(run, run.state.begin(submission, now))
            else:
                self._go_on(run)
        self._listener.watch()

    def _go_on(self, run: WorkflowRun) -> None:
        if self.runs.get(run.workflow_id) is not run:
            return
        if self._still_runs(run):
            # An attempt from before it was stopped here has not ended, and must not meet its own undo, or a second one.
            self.later(0.005, partial(self._go_on, run))
            return
        if self._teller is not None:
            self._teller.started(run)
        self._obey(run, run.state.go_on(time.time()))

    def _still_runs(self, again: WorkflowRun) -> bool:
        return any(
            run.workflow_id == again.workflow_id and node.effects in (Effects.ROLLBACK, Effects.ONCE)
            for run, node in self._of_executors()
        )

    # --- commands -----------------------------------------------------------------------------------------------

    def _obey(self, run: WorkflowRun, commands: list[ev.Command]) -> None:
        logged = 0
        for command in commands:
            kind = type(command)
            if run.abandoned:
                if kind is ev.Run:
                    self._never_ran(run, command.node, command.attempt)  # type: ignore[union-attr]
            elif kind is ev.Run:
                self._run(run, command)  # type: ignore[arg-type]
            elif kind is ev.Commit:
                self._record(run, command.record)  # type: ignore[union-attr]
                logged += 1
            else:
                _CARRY_OUT[kind](self, run, command)
        if logged:
            self._batch_runs.append((run, logged))

    def _record(self, run: WorkflowRun, record: Any) -> None:
        try:
            data = self._recorder.encode(run, record)
        except Exception as error:
            self.abandon(run, error)
            return
        self._batch.append(data)
        if self._watch_records and type(record) is records.Outcome and record.payload is not None:
            self._batch_outcomes.append((run, run.state.nodes[record.task_id]))

    def _run(self, run: WorkflowRun, command: ev.Run) -> None:
        node: NodeState = command.node
        attempt = command.attempt
        if self._draining:
            self._never_ran(run, node, attempt)
            return
        if run.poisoned and attempt in run.poisoned:
            self._mail.append(ev.Failed(attempt, run.poisoned[attempt]))
            return
        if self._teller is not None:
            self._teller.tell(Moment.TASK_RETRIED if node.number > 1 else Moment.TASK_STARTED, run, node)
        if self._reach is not None:
            try:
                self._reach(
                    FailurePoint.BEFORE_RUN,
                    workflow_id=run.workflow_id, task_id=node.task_id, attempt=attempt, number=node.number,
                )  # fmt: skip
            except Exception as error:
                self._mail.append(_failure(attempt, error))
                return
        policy = node.spec.task.policy
        if policy.timeout_s is not None:
            self._timers[attempt] = self.later(policy.timeout_s, partial(self._timed_out, run, node, attempt))
        self._start(run, node, call_of(run, command))

    def _start(self, run: WorkflowRun, node: NodeState, call: Call) -> None:
        self._outstanding[call.attempt] = run, node
        try:
            self._executor_of(node).start(call)
        except Exception as error:  # no such executor, or it broke its promise not to raise
            failed = ev.Failed if call.kind is CallKind.TASK else ev.UndoFailed
            self._mail.append(failed(call.attempt, error))

    def _stop_call(self, node: NodeState, attempt: str) -> None:
        name = self._executor_name(node)
        if name in self._executors:
            self._executors[name].stop(attempt)

    def _executor_name(self, node: NodeState) -> str:
        policy = node.spec.task.policy
        return policy.executor or ("process" if policy.isolation else self._default_executor)

    def _executor_of(self, node: NodeState) -> Executor:
        name = self._executor_name(node)
        executor = self._executors.get(name)
        if executor is None:
            executor = self._executors[name] = self._make_executor(name, self._services)
        return executor

    def _never_ran(self, run: WorkflowRun, node: NodeState, attempt: str) -> None:
        """Say of an attempt whose intent is durable that nothing came of it: the engine closes before it began."""
        if node.effects is Effects.ROLLBACK:
            self._batch.append(records.encode(records.UndoRecord(run.workflow_id, node.task_id, attempt)))
        elif node.effects is Effects.ONCE:
            self._batch.append(records.encode(records.Settlement(run.workflow_id, node.task_id, attempt, False)))

    def _timed_out(self, run: WorkflowRun, node: NodeState, attempt: str) -> None:
        if self._timers.pop(attempt, None) is None or node.attempt != attempt or node.phase is not Phase.RUNNING:
            return
        policy = node.spec.task.policy
        log.warning("%s: task %s ran past its timeout of %s s", run.workflow_id, node.task_id, policy.timeout_s)
        self._mail.append(ev.Failed(attempt, TaskTimeoutError(node.task_id, policy.timeout_s or 0.0), ended=False))
        if node.effects is not Effects.ONCE or policy.resolve is not None:
            # Of a once task that nobody could ask about afterwards, the outcome is worth waiting for.
            self._stop_call(node, attempt)

    def _stop(self, run: WorkflowRun, command: ev.Stop) -> None:
        node = run.state.node_of(command.attempt)
        if node is not None:
            self._stop_call(node, command.attempt)

    def _undo(self, run: WorkflowRun, command: ev.Undo) -> None:
        attempt = command.attempt
        if attempt in run.poisoned:  # it never started
            self._mail.append(ev.Undone(attempt))
            return
        payload = run.undo_payloads.get(attempt)
        if payload is None and command.payload is not None:
            payload = command.payload.payload  # type: ignore[attr-defined]
        if payload is None:
            self._mail.append(ev.Undone(attempt))
            return
        node: NodeState = command.node
        self._expect(run, attempt)
        if self._at(FailurePoint.BEFORE_UNDO, run, node, attempt):
            self._start(run, node, call_undo(run, node, attempt, payload))

    def _resolve(self, run: WorkflowRun, command: ev.Resolve) -> None:
        node: NodeState = command.node
        self._expect(run, command.attempt)
        if self._at(FailurePoint.BEFORE_RESOLVE, run, node, command.attempt):
            self._start(run, node, call_resolve(run, node, command.attempt, command.key))

    def _expect(self, run: WorkflowRun, attempt: str) -> None:
        """Route what comes of an attempt to *run*, also if it began in an earlier life of it."""
        prefix = attempt.rpartition(".")[0]
        if prefix != run.prefix:
            run.earlier.add(prefix)
            self._by_prefix[prefix] = run

    def _at(self, point: FailurePoint, run: WorkflowRun, node: NodeState, attempt: str) -> bool:
        if self._reach is not None:
            try:
                self._reach(
                    point, workflow_id=run.workflow_id, task_id=node.task_id, attempt=attempt, number=node.number
                )
            except Exception as error:
                self._mail.append(ev.UndoFailed(attempt, error))
                return False
        return True

    def _after_run(self, run: WorkflowRun, node: NodeState, event: Any) -> Any:
        """Let injectors at the points behind a call have their say."""
        assert self._reach is not None
        point = {ev.Undone: FailurePoint.AFTER_UNDO, ev.Resolved: FailurePoint.AFTER_RESOLVE}.get(
            type(event), FailurePoint.AFTER_RUN_BEFORE_RECORD
        )
        try:
            self._reach(
                point, workflow_id=run.workflow_id, task_id=node.task_id, attempt=event.attempt, number=node.number
            )
        except Exception as error:
            return _failure(event.attempt, error) if point is FailurePoint.AFTER_RUN_BEFORE_RECORD else event
        return event

    def _persist(self, run: WorkflowRun, command: ev.Persist) -> None:
        """Make a value durable that its mode alone would not have stored."""
        attempt = command.attempt
        if self._blobs is None:
            self._blobs = ThreadPoolExecutor(4, thread_name_prefix="exoflow-blobs")
        self._outstanding[attempt] = run, command.node
        key = blob_key(run.workflow_id, attempt, 0)
        self._blobs.submit(self._persist_now, command.node, command.node.value, attempt, key)

    def _persist_now(self, node: NodeState, value: Value, attempt: str, key: str) -> None:
        store, codec = self._services.store, self.codec
        try:
            event = make_durable(attempt, node.task_id, value, store=store, codec=codec, blob_key=key)
        except BaseException as error:  # a simulated crash, which nobody waits for here
            event = ev.CommitFailed(attempt, error)
        self._report(event)

    def _within_blob(self, key: str) -> None:
        assert self._reach is not None
        attempt = key.rsplit("/", 1)[1].rpartition("-")[0]
        run = self._by_prefix.get(attempt.rpartition(".")[0])
        node = run.state.node_of(attempt) if run is not None else None
        if run is not None and node is not None:
            self._reach(
                FailurePoint.DURING_BLOB_WRITE,
                workflow_id=run.workflow_id, task_id=node.task_id, attempt=attempt, number=node.number,
            )  # fmt: skip

    def _arm(self, run: WorkflowRun, command: ev.Arm) -> None:
        attempt = command.attempt
        if command.delay_s is not None:
            delay = command.delay_s * (1.0 - command.jitter * self._random.random())
        else:
            deadline = command.deadline
            if deadline is None:
                try:
                    args, _ = arguments_of(command.node, self.codec, self.store)
                    deadline = time.time() + float(args[0])
                except Exception as error:
                    self._mail.append(ev.Failed(attempt, error, system=isinstance(error, ExoFlowError)))
                    return
                self._mail.append(ev.Armed(attempt, deadline))
            delay = deadline - time.time()
        self.later(delay, partial(self._mail.append, ev.Fired(attempt)))

    def _listen(self, run: WorkflowRun, command: ev.Listen) -> None:
        node: NodeState = command.node
        timeout_s = node.spec.kwargs.get("timeout_s")
        if timeout_s is not None:
            deadline = command.deadline
            if deadline is None:
                deadline = time.time() + timeout_s
                self._mail.append(ev.Armed(command.attempt, deadline))
            self.later(deadline - time.time(), partial(self._mail.append, ev.Fired(command.attempt)))
        self._listener.listen(run, node.spec.args[0], command.attempt)

    def _discard(self, run: WorkflowRun, command: ev.Discard) -> None:
        self._listener.discard(command.key)

    def _answer(self, run: WorkflowRun, command: ev.Answer) -> None:
        if self._reach is not None:
            self._reach(FailurePoint.BEFORE_ANSWER, workflow_id=run.workflow_id)
        if self._teller is not None:
            problem = str(command.error) if command.error is not None else ""
            self._teller.tell(Moment.WORKFLOW_ENDED, run, problem=problem)
        if command.status == "succeeded":
            value = command.node.value if command.node.value is not None else command.node.payload
            self._settle(run, None, value)
        elif command.status == "cancelled" and command.error is None:
            self._settle(run, WorkflowCancelledError(run.workflow_id))
        else:
            error = command.error or ExoFlowError(f"{run.workflow_id}: {command.status}")
            if command.status == "attention":
                # Whoever settles it may be another process: give it up before anybody is told.
                self._live_left = True
                self._batch.append(records.encode(records.Released(run.workflow_id)))
                self._after_flush.append(partial(self._settle, run, error))
            else:
                self._settle(run, error)

    def _settle(self, run: WorkflowRun, problem: BaseException | None, value: Value | None = None) -> None:
        """Tell whoever waits, and forget the workflow."""
        self._forget(run)
        if problem is not None:
            for waiting, accepted in self._accepting:
                if waiting is run:
                    accepted.reject(problem)
            run.done.reject(problem)
        else:
            run.done.resolve(value if value is not None else Live(None))

    def _forget(self, run: WorkflowRun) -> None:
        if self.runs.get(run.workflow_id) is run:
            del self.runs[run.workflow_id]
        for prefix in (run.prefix, *run.earlier):
            self._by_prefix.pop(prefix, None)
        self._listener.forget(run)
        run.left.resolve(None)

    def abandon(self, run: WorkflowRun, problem: BaseException) -> None:
        """Stop working on one workflow without deciding anything: once nothing of it runs, anybody can go on with it."""
        if run.abandoned or self.problem is not None:
            return
        run.abandoned = self._live_left = True
        if self._runs_still(run):
            run.done.reject(problem)  # that may take long
            for attempt, (owner, node) in list(self._outstanding.items()):
                if owner is run and node.effects is not Effects.ONCE:
                    self._stop_call(node, attempt)
        self._give_up(run, problem)

    def _give_up(self, run: WorkflowRun, problem: BaseException) -> None:
        if self.problem is not None:
            return
        if self._batch or self.flusher.busy or self._runs_still(run):
            # What is on its way to the journal must come before the record that ends it here.
            self.later(0.005, partial(self._give_up, run, problem))
            return
        self._batch.append(records.encode(records.Released(run.workflow_id)))
        self._after_flush.append(partial(self._settle, run, problem))

    def _runs_still(self, run: WorkflowRun) -> bool:
        return any(owner is run for owner, _ in self._of_executors())

    def _of_executors(self) -> tuple[tuple[WorkflowRun, NodeState], ...]:
        return (*self._outstanding.values(), *self._lingering.values())

    # --- the end ------------------------------------------------------------------------------------------------

    def _die(self, problem: BaseException) -> None:
        """The journal can no longer be believed, or the controller was crashed on purpose: decide nothing more."""
        if self.problem is not None:
            return
        self.problem = problem
        if isinstance(problem, SimulatedCrash):
            log.debug("controller %s: %s", self.journal_id, problem)
            self._abandon_journal(self._tell_all)
        elif isinstance(problem, ExoFlowError):
            log.warning("controller %s stops: %s", self.journal_id, problem)
            for attempt, (_, node) in list(self._outstanding.items()):
                if node.effects is not Effects.ONCE:
                    self._stop_call(node, attempt)
            self._let_go()
        else:
            log.error("controller %s stops, by a mistake of its own", self.journal_id, exc_info=problem)
            self._let_go()

    def _let_go(self) -> None:
        """Give the journal up once nothing runs any more; until then its lock says that somebody is here."""
        if not (self._outstanding or self._lingering):
            self._abandon_journal(self._tell_all)
            return
        self._tell_all()
        self._wait_longer(self._let_go)

    def _abandon_journal(self, then: Callable[[], None]) -> None:
        """Let the journal go, and only then tell: whoever hears of it may resume at once."""

        def told(_: None = None, problem: BaseException | None = None) -> None:
            then()
            self._shut(problem)

        if self.flusher.busy:  # its thread has the writer
            self.flusher.submit(self.flusher.writer.abandon, told)
        else:
            self.flusher.writer.abandon()
            told()

    def _tell_all(self) -> None:
        assert self.problem is not None
        for _, accepted in self._accepting:
            accepted.reject(self.problem)
        for run in list(self.runs.values()):
            self._settle(run, self.problem)

    def _wait_longer(self, then: Callable[[], None]) -> None:
        """Look again soon whether attempts have ended; after a while let nobody wait for that any longer."""
        if not self._drain_until:
            self._drain_until = time.monotonic() + _DRAIN_S
        if time.monotonic() > self._drain_until and not self._waited.is_set():
            left = sorted({*self._outstanding, *self._lingering})
            log.warning(
                "%d attempts still run (%s, ...): their workflows can be resumed when they have ended, "
                "or when this process is gone",
                len(left), left[0],
            )  # fmt: skip
            self._waited.set()
        self.later(0.1 if self._waited.is_set() else 0.005, then)

    def _close(self) -> None:
        if self.problem is not None:
            return
        self._draining = True
        self._live_left = self._live_left or bool(self.runs)
        for _, accepted in self._accepting:
            accepted.reject(UnavailableError("the engine was closed before the workflow was accepted"))
        for attempt, (_, node) in list(self._outstanding.items()):
            if node.effects in (Effects.NONE, Effects.IDEMPOTENT):
                self._stop_call(node, attempt)
        self._drained()

    def _drained(self) -> None:
        """Retire the journal once nothing runs any more: whoever resumes must not meet an attempt of ours."""
        if self.problem is not None:
            return
        if self._outstanding or self._lingering:
            self._wait_longer(self._drained)
            if self._waited.is_set():
                for run in self.runs.values():  # known all the same, for what the attempts will come to
                    run.done.reject(_closed(run))
            return
        if self._batch or self.flusher.busy:
            self.later(0.005, self._drained)
            return
        self.problem = UnavailableError("the engine was closed; open another and resume")
        for run in list(self.runs.values()):
            self._settle(run, _closed(run))
        writer, live_left, now = self.flusher.writer, self._live_left, time.time()
        self.flusher.submit(lambda: writer.retire(now, live_left=live_left), lambda _, problem: self._shut(problem))

    def _beat(self) -> None:
        """Say that this controller lives, where no lock says so."""
        if self.problem is None:
            writer, now = self.flusher.writer, time.time()
            self.flusher.submit(lambda: writer.beat(now), self._beaten)
            self.later(_BEAT_S, self._beat)

    def _beaten(self, _: None, problem: BaseException | None) -> None:
        if problem is not None:  # that costs at most a needless take-over, which the next flush will notice
            log.warning("controller %s could not say that it lives, trying again: %s", self.journal_id, problem)

    def _shut(self, problem: BaseException | None = None) -> None:
        if problem is not None:
            log.warning("journal %s could not be retired: %s", self.journal_id, problem)
        self._listener.close()
        for executor in self._executors.values():
            executor.close()
        if self._blobs is not None:
            self._blobs.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        threading.Thread(target=self.flusher.close, daemon=True).start()
        self._gone.set()
        self._waited.set()


def _closed(run: WorkflowRun) -> UnavailableError:
    return UnavailableError(
        f"the engine was closed before workflow {run.workflow_id!r} had ended; "
        f"`exoflow resume {run.workflow_id}` goes on"
    )


def _must_have_ended(node: NodeState) -> bool:
    """Whether nobody may go on with the workflow while an attempt of *node* runs somewhere."""
    return node.effects in (Effects.ROLLBACK, Effects.ONCE) and not node.spec.task.policy.fences


def _failure(attempt: str, error: Exception) -> ev.Failed:
    from exoflow.errors import TaskLostError

    return ev.Failed(attempt, error, system=isinstance(error, TaskLostError))


_CARRY_OUT: dict[type, Callable[[Controller, WorkflowRun, Any], None]] = {
    ev.Persist: Controller._persist,
    ev.Undo: Controller._undo,
    ev.Resolve: Controller._resolve,
    ev.Stop: Controller._stop,
    ev.Arm: Controller._arm,
    ev.Listen: Controller._listen,
    ev.Discard: Controller._discard,
    ev.Answer: Controller._answer,
}
