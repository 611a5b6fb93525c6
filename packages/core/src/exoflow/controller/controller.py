"""The controller: a mailbox, a journal and executors, and the turns in which they meet.

Everything that happens becomes an event in one mailbox. A turn of the controller feeds events to the workflows' state
machines, carries out the commands that come back, and when nothing is left to do sends what they logged to
the journal as one batch. The machines know nothing of all this, and nothing here decides anything about a workflow.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from exoflow.controller.attempts import Attempts
from exoflow.controller.batch import Batch
from exoflow.controller.blob_point import BlobPoint
from exoflow.controller.closing import Closing
from exoflow.controller.commands import Commands
from exoflow.controller.flushing import Flusher
from exoflow.controller.listening import Listener
from exoflow.controller.points import Points
from exoflow.controller.promise import Promise
from exoflow.controller.run import WorkflowRun
from exoflow.controller.runtime import Runtime, ThreadRuntime, Timer
from exoflow.controller.telling import Teller
from exoflow.engine import events as ev
from exoflow.errors import (
    CorruptCheckpointError,
    ExoFlowError,
    ObjectNotFoundError,
    UnavailableError,
)
from exoflow.executors.contract import Executor, Services
from exoflow.failures.points import FailurePoint, Reach
from exoflow.journal import adoption, records
from exoflow.journal.liveness import HEARTBEAT_PATIENCE_S
from exoflow.journal.writer import JournalWriter
from exoflow.plugins.observing import Moment, Observer
from exoflow.stores.contract import ObjectStore, SupportsAppend, SupportsLocks
from exoflow.tasks.policy import Effects
from exoflow.values import Codec, Live, Value

__all__ = ["Controller"]

log = logging.getLogger(__name__)

_BEAT_S = HEARTBEAT_PATIENCE_S / 6

_DEBT_S = 2.0
"""How soon a take-over that failed half-way is gone on with."""

_TURN_EVENTS = 256
"""Events fed before the loop gets to look at timers and other callers again."""

_PROBLEMS = (ev.Failed, ev.UndoFailed, ev.CommitFailed)
_REPORTS = (ev.Finished, ev.Failed, ev.Undone, ev.UndoFailed, ev.Resolved)


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
        runtime: Time and threads; the real ones when None.
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
        runtime: Runtime | None = None,
    ) -> None:
        self.journal_id = writer.journal_id
        self.problem: BaseException | None = None
        """Why it stopped, once it has."""
        self.runs: dict[str, WorkflowRun] = {}
        """By workflow id: those that have not been answered."""
        self.mail: deque[ev.Event] = deque()
        self.batch = Batch()
        self.runtime: Runtime = runtime if runtime is not None else ThreadRuntime()
        self.points = Points(reach) if reach is not None else None
        self.teller = Teller(observers) if observers else None
        self._appends = isinstance(store, SupportsAppend)
        self._by_prefix: dict[str, WorkflowRun] = {}
        self._numbers = itertools.count(1)
        self._calls: deque[Callable[[], None]] = deque()
        self._turning = threading.Lock()
        """Held by the thread that has its turn. It may be any: what matters is that it is one at a time."""
        self._accepting: list[tuple[WorkflowRun, Promise[None]]] = []
        """Callers that wait for submissions, each with the last of them."""
        self._closing = self._paying = False
        self._store = store
        executors_store = store if reach is None else cast(ObjectStore, BlobPoint(store, self._within_blob))
        services = Services(executors_store, codec, self.report, writer.lifeline, self._report_and_turn)
        self.attempts = Attempts(services, make_executor, executor)
        self.commands = Commands(self, executors_store, codec)
        self.flusher = Flusher(writer, self.runtime.workers("exoflow-journal", 1), self._flush_ended)
        self.listener = Listener(store, self)
        self._end = Closing(self)
        self._loop = self.runtime.loop(self._turn, self._call_and_turn)
        if not isinstance(store, SupportsLocks):
            self.later(_BEAT_S, self._beat)

    # --- from other threads -------------------------------------------------------------------------------------

    def post(self, call: Callable[[], None]) -> None:
        """Have *call* made in a turn, soon."""
        self._calls.append(call)
        if not self._turning.locked():
            self._loop.wake()

    def report(self, event: ev.Event) -> None:
        """Have *event* fed to the workflow whose attempt it names, soon."""
        self.mail.append(event)
        # Whoever has its turn looks once more after it: then nobody need be woken.
        if not self._turning.locked():
            self._loop.wake()

    def later(self, after_s: float, call: Callable[[], None]) -> Timer:
        """Have *call* made in a turn, after a while."""
        return self._loop.later(after_s, call)

    def ask(self, job: Callable[[], Any]) -> Promise[Any]:
        """Have *job* done on the journal's thread, alone; promise its result."""
        promise: Promise[Any] = Promise()

        def done(result: Any, problem: BaseException | None) -> None:
            if problem is not None:
                if self.flusher.writer.dead:
                    self._end.die(problem)
                elif self.flusher.writer.owed:
                    self._pay_later()
                promise.reject(problem)
            else:
                promise.resolve(result)

        def submit() -> None:
            if self.problem is not None:
                promise.reject(self.problem)
            else:
                self.flusher.submit(job, done)

        self.post(submit)
        return promise

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

    def leave_live(self) -> None:
        """Note that a workflow which has not ended lies in the journal, though nobody works on it here."""
        self._end.live_left = True

    def close(self) -> None:
        """Stop in good order: what has not ended can be resumed, by anyone, at once."""
        if not self._closing:
            self._closing = True
            self.post(self._end.close)
        if not self._loop.is_here():
            self._end.wait()

    def wait_until_gone(self, timeout_s: float) -> bool:
        """Wait until nothing of it runs and its journal is let go of; return whether that is so."""
        return self._end.wait_until_gone(timeout_s)

    # --- turns --------------------------------------------------------------------------------------------------

    def _report_and_turn(self, event: ev.Event) -> None:
        """Take a report, and the worker thread that brings it: handing over to another would cost two wake-ups."""
        self.mail.append(event)
        self._turn()

    def _call_and_turn(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        self._turn()

    def _flush_ended(self, call: Callable[[], None]) -> None:
        """Go on where the journal's thread has just ended a job: on that thread, if no task would run on it."""
        self._calls.append(call)
        if self.attempts.inline:
            self._loop.wake()
        else:
            self._turn()

    def _turn(self) -> None:
        """Feed what has come; then send what was logged. On any thread, unless one is at it already."""
        while self._turning.acquire(blocking=False):
            try:
                finished = self._work()
            except BaseException as error:
                # SimulatedCrash among them: the controller dies as it stands and writes nothing more.
                self._end.die(error)
                finished = True
            finally:
                self._turning.release()
            if not finished:
                self._loop.wake()  # timers and callers first, then the rest
                return
            if not (self.mail or self._calls):
                return

    def _work(self) -> bool:
        """Have a turn; return whether everything that has come was fed."""
        mail, calls, flusher, backlog = self.mail, self._calls, self.flusher, self.commands.backlog
        budget = _TURN_EVENTS
        while True:
            while calls:
                calls.popleft()()
            while mail and budget:
                budget -= 1
                self._feed(mail.popleft())
            while backlog and budget and not mail and self.problem is None:
                budget -= 1
                self.commands.start_next()
            more = bool(mail or calls or (backlog and self.problem is None))
            if more and budget:
                continue
            if self.problem is not None or not self.batch.records or flusher.busy:
                return not more
            batch, self.batch = self.batch, Batch()
            if more or self.attempts.outstanding or not self._appends:
                flusher.submit(partial(flusher.flush, batch.records), partial(self._flushed, batch))
                return not more
            # Nothing else can happen before this is durable: a hop to another thread would only cost time.
            problem = None
            try:
                flusher.flush(batch.records)
            except ExoFlowError as error:
                problem = error
            self._flushed(batch, None, problem)

    def _flushed(self, batch: Batch, _: None, problem: BaseException | None) -> None:
        if problem is not None:
            self._end.die(problem)
            return
        for run, node in batch.outcomes:
            if self.points is not None:
                self.points.at(FailurePoint.AFTER_RECORD, run, node, node.attempt)
            if self.teller is not None:
                self.teller.tell(Moment.TASK_COMMITTED, run, node)
        if self._accepting:
            self._accept(batch)
        now = self.runtime.time()
        for run, count in batch.runs:
            self.commands.obey(run, run.state.handle(ev.Committed(count), now))
        for call in batch.then:
            call()

    def _accept(self, batch: Batch) -> None:
        flushed = {id(run) for run, _ in batch.runs}
        waiting = []
        for run, accepted in self._accepting:
            if id(run) in flushed:
                accepted.resolve(None)
            else:
                waiting.append((run, accepted))
        self._accepting = waiting

    def _feed(self, event: ev.Event) -> None:
        attempt: str = event.attempt  # type: ignore[union-attr]
        node = self.attempts.reported(attempt, event)
        run = self._by_prefix.get(attempt.rpartition(".")[0])
        if run is None:
            return
        if self.points is not None and node is not None and isinstance(event, _REPORTS):
            event = self.points.behind(run, node, event)
        if isinstance(event, _PROBLEMS) and self._cannot_go_on(run, event):
            return
        if self.teller is not None:
            self.teller.event(run, event)
        self.tell(run, event)

    def tell(self, run: WorkflowRun, event: ev.Event) -> None:
        """Feed *event* to a workflow, and do what comes back."""
        self.commands.obey(run, run.state.handle(event, self.runtime.time()))

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

    def _within_blob(self, key: str) -> None:
        assert self.points is not None
        attempt = key.rsplit("/", 1)[1].rpartition("-")[0]
        run = self._by_prefix.get(attempt.rpartition(".")[0])
        node = run.state.node_of(attempt) if run is not None else None
        if run is not None and node is not None:
            self.points.at(FailurePoint.DURING_BLOB_WRITE, run, node, attempt)

    # --- workflows come and go: in a turn only --------------------------------------------------------------------

    def _submit(
        self, runs: Sequence[tuple[WorkflowRun, records.Submission | None]], accepted: Promise[None] | None
    ) -> None:
        if self.problem is not None:
            for run, _ in runs:
                self.settle(run, self.problem)
            if accepted is not None:
                accepted.reject(self.problem)
            return
        now = self.runtime.time()
        # One flush takes what is in the batch: whatever is logged below goes out together, and in order.
        if accepted is not None:
            self._accepting.append((runs[-1][0], accepted))
        for run, submission in runs:
            self.runs[run.workflow_id] = run
            self._by_prefix[run.prefix] = run
            if submission is not None:
                if self.teller is not None:
                    self.teller.started(run)
                self.commands.obey(run, run.state.begin(submission, now))
            else:
                self._go_on(run)
        self.listener.watch()

    def _go_on(self, run: WorkflowRun) -> None:
        if self.runs.get(run.workflow_id) is not run:
            return
        if self._still_runs(run):
            # An attempt from before it was stopped here has not ended, and must not meet its own undo, or a second one.
            self.later(0.005, partial(self._go_on, run))
            return
        if self.teller is not None:
            self.teller.started(run)
        self.commands.obey(run, run.state.go_on(self.runtime.time()))

    def _still_runs(self, again: WorkflowRun) -> bool:
        return any(
            run.workflow_id == again.workflow_id and node.effects in (Effects.ROLLBACK, Effects.ONCE)
            for run, node in self.attempts
        )

    def expect(self, run: WorkflowRun, attempt: str) -> None:
        """Route what comes of an attempt to *run*, also if it began in an earlier life of it."""
        prefix = attempt.rpartition(".")[0]
        if prefix != run.prefix:
            run.earlier.add(prefix)
            self._by_prefix[prefix] = run

    def settle(self, run: WorkflowRun, problem: BaseException | None, value: Value | None = None) -> None:
        """Tell whoever waits for a workflow how it ended, and forget it."""
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
        self.listener.forget(run)
        run.left.resolve(None)

    def refuse_all(self, problem: BaseException) -> None:
        """Tell whoever waits for a submission that it will not be accepted."""
        for _, accepted in self._accepting:
            accepted.reject(problem)

    def release(self, run: WorkflowRun, problem: BaseException) -> None:
        """Give a workflow up: anybody may have it as soon as that is durable, and only then is its caller told."""
        self.leave_live()
        self.batch.records.append(records.encode(records.Released(run.workflow_id)))
        self.batch.then.append(partial(self.settle, run, problem))

    def abandon(self, run: WorkflowRun, problem: BaseException) -> None:
        """Stop working on one workflow without deciding anything: once nothing of it runs, anybody can go on with it."""
        if run.abandoned or self.problem is not None:
            return
        run.abandoned = True
        self.leave_live()
        if self.attempts.runs_of(run):
            run.done.reject(problem)  # that may take long
            for attempt, (owner, node) in list(self.attempts.outstanding.items()):
                if owner is run and node.effects is not Effects.ONCE:
                    self.attempts.stop(node, attempt)
        self._release_when_idle(run, problem)

    def _release_when_idle(self, run: WorkflowRun, problem: BaseException) -> None:
        if self.problem is not None:
            return
        if self.batch.records or self.flusher.busy or self.attempts.runs_of(run) or self.commands.waits(run):
            # What is on its way to the journal must come before the record that ends it here.
            self.later(0.005, partial(self._release_when_idle, run, problem))
            return
        self.release(run, problem)

    # --- liveness -----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Say that this controller lives, where no lock says so."""
        if self.problem is None:
            writer, now = self.flusher.writer, self.runtime.time()
            self.flusher.submit(lambda: writer.beat(now), self._beaten)
            self.later(_BEAT_S, self._beat)

    def _beaten(self, _: None, problem: BaseException | None) -> None:
        if problem is not None:  # that costs at most a needless take-over, which the next flush will notice
            log.warning("controller %s could not say that it lives, trying again: %s", self.journal_id, problem)

    def _pay_later(self) -> None:
        """A take-over failed half-way: go on with it by and by, even if nobody asks for those workflows again."""
        if not self._paying and self.problem is None:
            self._paying = True
            self.later(_DEBT_S, self._pay)

    def _pay(self) -> None:
        self._paying = False
        if self.problem is None:
            store, writer, now = self._store, self.flusher.writer, self.runtime.time()
            self.flusher.submit(lambda: adoption.pay_debts(store, writer, now), self._paid)

    def _paid(self, done: bool | None, problem: BaseException | None) -> None:
        if self.flusher.writer.dead and problem is not None:
            self._end.die(problem)
        elif not done:
            self._pay_later()

    def shut(self) -> None:
        """Let go of every thread and executor. The last thing that happens."""
        self.listener.close()
        self.attempts.close()
        self.commands.close()
        self._loop.stop()
        self.flusher.close()
