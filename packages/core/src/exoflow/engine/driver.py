"""The controller: an event loop, a journal, and executors; the only place where they meet.

Everything that happens becomes an event in one mailbox. A turn of the controller feeds events to the workflows' state
machines, carries out the commands that come back, and when nothing is left to do sends what they logged to
the journal as one batch. The machines know nothing of all this, and nothing here decides anything about a workflow.
"""

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import attrs

from exoflow.engine import events as ev
from exoflow.engine.flushing import Flusher
from exoflow.engine.listening import Listener
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.run import (
    WorkflowRun,
    arguments_of,
    call_of,
    call_resolve,
    call_undo,
    error_payload,
    undo_payload,
)
from exoflow.errors import (
    ExoFlowError,
    TaskTimeoutError,
    UnavailableError,
    UnserializableResultError,
    WorkflowCancelledError,
)
from exoflow.executors.contract import Executor, Services
from exoflow.failures.points import FailurePoint, Reach
from exoflow.journal import records
from exoflow.journal.layout import blob_key
from exoflow.journal.writer import JournalWriter
from exoflow.plugins.observing import Happening, Moment, Observer
from exoflow.stores.contract import ObjectStore, SupportsAppend
from exoflow.tasks.policy import Effects
from exoflow.values import Codec, Live, Payload, Value, persist

__all__ = ["Controller"]

log = logging.getLogger(__name__)

_TURN_EVENTS = 256
"""Events fed before the loop gets to look at timers and other callers again."""

_REPORTS = (ev.Finished, ev.Failed, ev.Ended, ev.Undone, ev.UndoFailed, ev.Resolved)


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
        self._counter = 0
        self._default_executor = executor
        self._make_executor = make_executor
        self._executors: dict[str, Executor] = {}
        self._services = Services(store, codec, self._report)
        self._reach = reach
        self._observers = tuple(observers)
        self._mail: deque[ev.Event] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._awake = False
        self._outstanding: set[str] = set()
        self._batch: list[bytes] = []
        self._batch_runs: list[tuple[WorkflowRun, int]] = []
        self._accepting: list[tuple[WorkflowRun, Future[None]]] = []
        """Callers that wait for submissions, each with the last of them."""
        self._closing = False
        self._live_left = False
        """Whether workflows that have not ended lie in the journal, though nobody works on them here."""
        self._random = random.Random()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loop = asyncio.new_event_loop()
        self.flusher = Flusher(writer, self.post)
        self._blobs: ThreadPoolExecutor | None = None
        self._listener = Listener(store, self)
        self._thread = threading.Thread(target=self._live, name="exoflow-controller", daemon=True)
        self._thread.start()

    # --- from other threads -------------------------------------------------------------------------------------

    def post(self, call: Callable[[], None]) -> None:
        """Have *call* made on the controller's thread, soon."""
        self._calls.append(call)
        self._wake()

    def ask(self, job: Callable[[], Any]) -> "Future[Any]":
        """Have *job* done on the journal's thread, alone; return its future."""
        future: Future[Any] = Future()

        def done(result: Any, problem: BaseException | None) -> None:
            if problem is not None:
                future.set_exception(problem)
            else:
                future.set_result(result)
            self._turn()

        self.post(lambda: self._refuse(future) if self.problem else self.flusher.submit(job, done))
        return future

    def _refuse(self, future: "Future[Any]") -> None:
        assert self.problem is not None
        future.set_exception(self.problem)

    def new_prefix(self) -> str:
        """Return a prefix for attempts that no other run of a workflow ever has."""
        self._counter += 1
        return f"{self.journal_id}.{self._counter}"

    def submit(
        self, runs: Sequence[tuple[WorkflowRun, records.Submission | None]], accepted: "Future[None] | None" = None
    ) -> None:
        """Run workflows: new ones, whose submission is given, and recovered ones.

        Args:
            runs: The workflows.
            accepted: Told when every submission is durable.
        """
        self.post(lambda: self._submit(runs, accepted))

    def nudge(self) -> None:
        """Look into the inbox soon. On the controller's thread only."""
        self._listener.nudge()

    def leave_live(self) -> None:
        """Note that a workflow which has not ended lies in the journal, though nobody works on it here."""
        self._live_left = True

    def later(self, after_s: float, call: Callable[[], None]) -> None:
        """Have *call* made after a while. On the controller's thread only."""

        def make() -> None:
            self._calls.append(call)
            self._turn()

        self._loop.call_later(after_s, make)

    def tell(self, run: WorkflowRun, event: ev.Event) -> None:
        """Feed a workflow something that is not of an executor. On the controller's thread only."""
        self._obey(run, run.state.handle(event, time.time()))

    def close(self) -> None:
        """Stop in good order: what has not ended can be resumed, by anyone, at once."""
        if self._closing:
            return
        self._closing = True
        self.post(self._close)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=60)

    def _report(self, event: ev.Event) -> None:
        self._mail.append(event)
        if not self._awake:
            self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._turn)
            except RuntimeError:  # the loop is closed: nobody is there to tell
                pass

    # --- the loop -----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _turn(self) -> None:
        """Feed what has come; then send what was logged."""
        try:
            self._work()
        except BaseException as error:
            # SimulatedCrash among them: the controller dies as it stands and writes nothing more.
            self._die(error)

    def _work(self) -> None:
        mail, calls, flusher = self._mail, self._calls, self.flusher
        budget = _TURN_EVENTS
        self._awake = True
        while True:
            while calls:
                calls.popleft()()
            while mail and budget:
                budget -= 1
                self._feed(mail.popleft())
            if mail or calls:
                if budget:
                    continue
                self._loop.call_soon(self._turn)  # timers and callers first, then the rest
                return
            if self.problem is not None or not self._batch or flusher.busy:
                break
            batch, self._batch = self._batch, []
            runs, self._batch_runs = self._batch_runs, []
            if self._outstanding or not self._appends:
                flusher.submit(lambda: flusher.flush(batch), lambda _, problem: self._flushed(runs, problem))
                break
            # Nothing else can happen before this is durable: a hop to another thread would only cost time.
            problem = None
            try:
                flusher.flush(batch)
            except ExoFlowError as error:
                problem = error
            self._flushed(runs, problem)
        self._awake = False
        if mail or calls:  # something came between the last look and the flag
            self._wake()

    def _flushed(self, runs: list[tuple[WorkflowRun, int]], problem: BaseException | None) -> None:
        if problem is not None:
            self._die(problem)
            return
        now = time.time()
        if self._accepting:
            self._accept(runs)
        for run, count in runs:
            self._obey(run, run.state.handle(ev.Committed(count), now))

    def _accept(self, runs: list[tuple[WorkflowRun, int]]) -> None:
        flushed = {id(run) for run, _ in runs}
        waiting = []
        for run, accepted in self._accepting:
            if id(run) in flushed:
                accepted.set_result(None)
            else:
                waiting.append((run, accepted))
        self._accepting = waiting

    def _feed(self, event: ev.Event) -> None:
        attempt: str = event.attempt  # type: ignore[union-attr]
        if isinstance(event, _REPORTS):
            self._outstanding.discard(attempt)
            if self._reach is not None and type(event) is not ev.Ended:
                event = self._after_run(event)
        run = self._by_prefix.get(attempt.rpartition(".")[0])
        if run is None:
            return
        if self._timers:
            timer = self._timers.pop(attempt, None)
            if timer is not None:
                timer.cancel()
        if type(event) is ev.CommitFailed and isinstance(event.error, UnavailableError):
            self._abandon(run, event.error)
            return
        if self._observers:
            self._observe_event(run, event)
        self._obey(run, run.state.handle(event, time.time()))

    def _submit(
        self, runs: Sequence[tuple[WorkflowRun, records.Submission | None]], accepted: "Future[None] | None"
    ) -> None:
        if self.problem is not None:
            for run, _ in runs:
                self._settle(run, self.problem)
            if accepted is not None:
                accepted.set_exception(self.problem)
            return
        now = time.time()
        # One flush takes what is in the batch: whatever is logged below goes out together, and in order.
        if accepted is not None:
            self._accepting.append((runs[-1][0], accepted))
        for run, submission in runs:
            self.runs[run.workflow_id] = run
            self._by_prefix[run.prefix] = run
            if self._observers:
                self._observe_start(run)
            if submission is not None:
                self._obey(run, run.state.begin(submission, now))
            else:
                self._obey(run, run.state.go_on(now))

    # --- commands -----------------------------------------------------------------------------------------------

    def _obey(self, run: WorkflowRun, commands: list[ev.Command]) -> None:
        logged = 0
        for command in commands:
            kind = type(command)
            if kind is ev.Run:
                self._run(run, command)  # type: ignore[arg-type]
            elif kind is ev.Commit:
                self._batch.append(self._encode(run, command.record))  # type: ignore[union-attr]
                logged += 1
            else:
                _CARRY_OUT[kind](self, run, command)
        if logged:
            self._batch_runs.append((run, logged))

    def _encode(self, run: WorkflowRun, record: Any) -> bytes:
        if type(record) is records.Intent:
            node = run.state.nodes[record.task_id]
            if node.effects is Effects.ROLLBACK:
                try:
                    payload = undo_payload(run, node, self.codec, self.store)
                except Exception as error:
                    # The record must keep its place; the attempt will fail instead of starting.
                    run.poisoned[record.attempt] = error
                else:
                    run.undo_payloads[record.attempt] = payload
                    record = attrs.evolve(record, payload=payload)
        elif type(getattr(record, "payload", None)) is Live:
            record = self._encode_live(run, record)
        return records.encode(record)

    def _encode_live(self, run: WorkflowRun, record: Any) -> Any:
        try:
            return attrs.evolve(record, payload=error_payload(record.payload.value, self.codec))
        except Exception as error:
            # The engine believes it committed, so nothing more may be done for this workflow here.
            problem = UnserializableResultError(record.task_id, f"{type(error).__name__}: {error}")
            problem.__cause__ = error
            self.post(lambda: self._abandon(run, problem))
            return attrs.evolve(record, payload=None)

    def _run(self, run: WorkflowRun, command: ev.Run) -> None:
        node: NodeState = command.node
        attempt = command.attempt
        if run.poisoned and attempt in run.poisoned:
            self._mail.append(ev.Failed(attempt, run.poisoned[attempt]))
            return
        policy = node.spec.task.policy
        name = policy.executor or ("process" if policy.isolation else self._default_executor)
        executor = self._executors.get(name) or self._open_executor(name)
        if self._observers:
            self._tell(Moment.TASK_STARTED, run, node)
        if self._reach is not None:
            try:
                self._reach(
                    FailurePoint.BEFORE_RUN,
                    workflow_id=run.workflow_id, task_id=node.task_id, attempt=attempt, number=node.number,
                )  # fmt: skip
            except Exception as error:
                self._mail.append(_failure(attempt, error))
                return
        if policy.timeout_s is not None:
            self._timers[attempt] = self._loop.call_later(
                policy.timeout_s, self._timed_out, run, node, attempt, executor
            )
        if not executor.inline:
            self._outstanding.add(attempt)
        executor.start(call_of(run, command))

    def _open_executor(self, name: str) -> Executor:
        executor = self._executors[name] = self._make_executor(name, self._services)
        return executor

    def _timed_out(self, run: WorkflowRun, node: NodeState, attempt: str, executor: Executor) -> None:
        if self._timers.pop(attempt, None) is None or node.attempt != attempt or node.phase is not Phase.RUNNING:
            return
        policy = node.spec.task.policy
        log.warning("%s: task %s ran past its timeout of %s s", run.workflow_id, node.task_id, policy.timeout_s)
        executor.stop(attempt)
        self._outstanding.discard(attempt)
        self._mail.append(ev.Failed(attempt, TaskTimeoutError(node.task_id, policy.timeout_s or 0.0), ended=False))
        self._turn()

    def _stop(self, run: WorkflowRun, command: ev.Stop) -> None:
        node = run.state._by_attempt.get(command.attempt)
        if node is None:
            return
        policy = node.spec.task.policy
        name = policy.executor or ("process" if policy.isolation else self._default_executor)
        self._executors[name].stop(command.attempt)

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
        if self._at(FailurePoint.BEFORE_UNDO, run, node, attempt):
            self._start_elsewhere(node, call_undo(run, node, attempt, payload))

    def _resolve(self, run: WorkflowRun, command: ev.Resolve) -> None:
        node: NodeState = command.node
        if self._at(FailurePoint.BEFORE_RESOLVE, run, node, command.attempt):
            self._start_elsewhere(node, call_resolve(run, node, command.attempt, command.key))

    def _start_elsewhere(self, node: NodeState, call: Any) -> None:
        policy = node.spec.task.policy
        name = policy.executor or ("process" if policy.isolation else self._default_executor)
        executor = self._executors.get(name) or self._open_executor(name)
        if not executor.inline:
            self._outstanding.add(call.attempt)
        executor.start(call)

    def _at(self, point: FailurePoint, run: WorkflowRun, node: NodeState, attempt: str) -> bool:
        if self._reach is not None:
            try:
                self._reach(point, workflow_id=run.workflow_id, task_id=node.task_id, attempt=attempt, number=node.number)
            except Exception as error:
                self._mail.append(ev.UndoFailed(attempt, error))
                return False
        return True

    def _after_run(self, event: Any) -> Any:
        """Let injectors at the points behind a call have their say."""
        run = self._by_prefix.get(event.attempt.rpartition(".")[0])
        node = run.state._by_attempt.get(event.attempt) if run is not None else None
        if run is None or node is None or self._reach is None:
            return event
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
        value = command.node.value
        attempt = command.attempt
        if isinstance(value, Payload) and (value.blob is not None or value.size_bytes < 1 << 16):
            self._mail.append(ev.Persisted(attempt, value))
            return
        if self._blobs is None:
            self._blobs = ThreadPoolExecutor(4, thread_name_prefix="exoflow-blobs")
        self._outstanding.add(attempt)
        key = blob_key(run.workflow_id, attempt, 0)
        self._blobs.submit(self._persist_now, command.node, value, attempt, key)

    def _persist_now(self, node: NodeState, value: Value, attempt: str, key: str) -> None:
        from exoflow.executors.calling import parts_of

        try:
            encoded = parts_of(value) if isinstance(value, Payload) else self.codec.encode(value.value)
            name = value.codec if isinstance(value, Payload) else self.codec.name
            self._report(ev.Persisted(attempt, persist(encoded, name, self.store, key)))
        except UnavailableError as error:
            self._report(ev.CommitFailed(attempt, error))
        except Exception as error:
            problem = UnserializableResultError(node.task_id, f"{type(error).__name__}: {error}")
            problem.__cause__ = error
            self._report(ev.CommitFailed(attempt, problem))

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
                    self._mail.append(ev.Failed(attempt, error))
                    return
                self._mail.append(ev.Armed(attempt, deadline))
            delay = deadline - time.time()
        self._loop.call_later(max(0.0, delay), self._report, ev.Fired(attempt))

    def _listen(self, run: WorkflowRun, command: ev.Listen) -> None:
        node: NodeState = command.node
        timeout_s = node.spec.kwargs.get("timeout_s")
        if timeout_s is not None:
            deadline = command.deadline
            if deadline is None:
                deadline = time.time() + timeout_s
                self._mail.append(ev.Armed(command.attempt, deadline))
            self._loop.call_later(max(0.0, deadline - time.time()), self._report, ev.Fired(command.attempt))
        self._listener.listen(run, node.spec.args[0], command.attempt)

    def _discard(self, run: WorkflowRun, command: ev.Discard) -> None:
        self._listener.discard(command.key)

    def _answer(self, run: WorkflowRun, command: ev.Answer) -> None:
        if self._reach is not None:
            self._reach(FailurePoint.BEFORE_ANSWER, workflow_id=run.workflow_id)
        if self._observers:
            self._tell(Moment.WORKFLOW_ENDED, run, None, problem=str(command.error) if command.error else command.status)
        if command.status == "succeeded":
            value = command.node.value if command.node.value is not None else command.node.payload
            self._settle(run, None, value)
        elif command.status == "cancelled" and command.error is None:
            self._settle(run, WorkflowCancelledError(run.workflow_id))
        else:
            error = command.error
            self._live_left = self._live_left or command.status == "attention"
            self._settle(run, error if error is not None else ExoFlowError(f"{run.workflow_id}: {command.status}"))

    def _settle(self, run: WorkflowRun, problem: BaseException | None, value: Value | None = None) -> None:
        """Tell whoever waits, and forget the workflow."""
        if self.runs.get(run.workflow_id) is run:
            del self.runs[run.workflow_id]
        self._by_prefix.pop(run.prefix, None)
        self._listener.forget(run)
        if run.done.done():
            return
        if problem is not None:
            run.done.set_exception(problem)
        else:
            run.done.set_result(value if value is not None else Live(None))

    def _abandon(self, run: WorkflowRun, problem: BaseException) -> None:
        """Stop working on one workflow without deciding anything: it can be resumed."""
        self._live_left = True
        self._settle(run, problem)

    # --- the end ------------------------------------------------------------------------------------------------

    def _die(self, problem: BaseException) -> None:
        """The journal can no longer be believed, or the controller was crashed on purpose: decide nothing more."""
        if self.problem is not None:
            return
        self.problem = problem
        level = logging.WARNING if isinstance(problem, ExoFlowError) else logging.DEBUG
        log.log(level, "controller %s stops: %s", self.journal_id, problem, exc_info=problem)
        self.flusher.writer.abandon()
        for _, accepted in self._accepting:
            accepted.set_exception(problem)
        for run in list(self.runs.values()):
            self._settle(run, problem)
        self._shut()

    def _close(self) -> None:
        if self.problem is None:
            for _, accepted in self._accepting:
                accepted.set_exception(UnavailableError("the engine was closed before the workflow was accepted"))
            self.problem = UnavailableError("the engine was closed; open another and resume")
            self._live_left = self._live_left or bool(self.runs)
            for run in list(self.runs.values()):
                self._settle(
                    run,
                    UnavailableError(
                        f"the engine was closed before workflow {run.workflow_id!r} had ended; "
                        f"`exoflow resume {run.workflow_id}` goes on"
                    ),
                )
            self._by_prefix.clear()
            writer, left = self.flusher.writer, self.flusher.busy or bool(self._batch)
            now = time.time()
            live_left = self._live_left or left
            self.flusher.submit(
                lambda: writer.retire(now, live_left=live_left), lambda _, problem: self._shut(problem)
            )
        else:
            self._shut()

    def _shut(self, problem: BaseException | None = None) -> None:
        if problem is not None:
            log.warning("journal %s could not be retired: %s", self.journal_id, problem)
        self._listener.close()
        for timer in self._timers.values():
            timer.cancel()
        for executor in self._executors.values():
            executor.close()
        if self._blobs is not None:
            self._blobs.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon(self._loop.stop)
        threading.Thread(target=self.flusher.close, daemon=True).start()

    # --- telling ------------------------------------------------------------------------------------------------

    def _observe_start(self, run: WorkflowRun) -> None:
        self._tell(Moment.WORKFLOW_STARTED, run, None)
        for node in run.state.nodes.values():
            if node.finished:
                self._tell(Moment.TASK_LOADED, run, node)

    def _observe_event(self, run: WorkflowRun, event: ev.Event) -> None:
        moment = {
            ev.Finished: Moment.TASK_FINISHED, ev.Failed: Moment.TASK_FAILED, ev.Undone: Moment.TASK_UNDONE,
            ev.Persisted: Moment.TASK_COMMITTED,
        }.get(type(event))  # fmt: skip
        if moment is None:
            return
        node = run.state._by_attempt.get(event.attempt)  # type: ignore[union-attr]
        if node is not None:
            self._tell(moment, run, node, problem=repr(event.error) if isinstance(event, ev.Failed) else "")

    def _tell(self, moment: Moment, run: WorkflowRun, node: NodeState | None, *, problem: str = "") -> None:
        happening = Happening(
            moment=moment, workflow_id=run.workflow_id, at=time.time(),
            task_id=node.task_id if node is not None else "", attempt=node.attempt if node is not None else "",
            number=node.number if node is not None else 0, tasks_total=len(run.state.nodes), problem=problem,
        )  # fmt: skip
        for observer in self._observers:
            try:
                observer.observe(happening)
            except Exception:
                log.exception("observer %r raised; it is told the next thing all the same", observer)


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
