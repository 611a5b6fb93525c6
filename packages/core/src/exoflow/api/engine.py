"""The engine people hold: a store, an executor, and everything that can be done with workflows in them."""

import builtins
import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import attrs

from exoflow.api.bulk import collector_paused
from exoflow.api.handle import Handle
from exoflow.api.inspecting import describe_tasks, describe_workflow
from exoflow.controller.controller import Controller
from exoflow.controller.promise import Promise
from exoflow.controller.run import WorkflowRun
from exoflow.engine.restoring import restore
from exoflow.engine.state import WorkflowState
from exoflow.errors import (
    ArgumentError,
    ExoFlowError,
    NeedsAttentionError,
    TaskFailedError,
    UnavailableError,
    UnknownExecutorError,
    UnknownOptionError,
    UsageError,
    WorkflowCancelledError,
    WorkflowMismatchError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from exoflow.failures.injectors import combine
from exoflow.failures.points import Injector
from exoflow.graph.dag import Dag, compile_dag
from exoflow.graph.node import Node
from exoflow.journal import adoption, garbage, inbox, ownership
from exoflow.journal import records as rec
from exoflow.journal.garbage import GarbageReport
from exoflow.journal.layout import blob_key, new_journal_id
from exoflow.journal.listing import iterate_workflows
from exoflow.journal.messages import encode_payload
from exoflow.journal.ownership import has_finished
from exoflow.journal.pins import pin
from exoflow.journal.store_identity import open_store
from exoflow.journal.writer import JournalWriter
from exoflow.plugins.manager import manager
from exoflow.plugins.observing import Observer
from exoflow.recovery.history import History
from exoflow.states import WorkflowDetail, WorkflowInfo, WorkflowStatus
from exoflow.stores.contract import ObjectStore
from exoflow.values import Encoded, Live, Payload, Value, inline, persist
from exoflow.values import restore as restore_value

__all__ = ["Engine"]

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long to wait for attempts of this engine that cannot be stopped."""


class Engine:
    """Runs workflows on a store, with an executor. Safe to share between threads; close it, or use ``with``.

    Nothing is opened before the first workflow. Two engines on one store, in one process or many, are two
    controllers: each workflow belongs to one of them at a time.

    Args:
        storage: A URL (``file://./flows``), a path, or a store. ``memory://`` forgets with the process.
        executor: ``thread``, ``inline``, ``process``, or what a plugin offers. A task's own ``executor=`` goes first.
        codec: How values become bytes: the name of a codec.
        failures: Injectors, or their texts (``train_12.crash``); for tests.
        observers: Told of everything that happens.
        max_workers: Of the executor; its own default when None.
        store_options: For the store's opener.

    Raises:
        UnknownStoreError: No plugin opens this URL.
        UnknownExecutorError: No plugin has this executor.
    """

    def __init__(
        self,
        storage: str | os.PathLike[str] | ObjectStore = "memory://",
        executor: str = "thread",
        *,
        codec: str = "pickle",
        failures: Iterable[str | Injector] = (),
        observers: Iterable[Observer] = (),
        max_workers: int | None = None,
        store_options: Mapping[str, Any] | None = None,
    ) -> None:
        plugins = manager()
        if executor not in plugins.executors():
            raise UnknownExecutorError(executor, plugins.executors())
        if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
            raise UnknownOptionError(f"max_workers={max_workers!r}: expected a number of at least 1")
        self._executor = executor
        self._codec = plugins.make_codec(codec)
        self._reach = combine(plugins.make_injectors(failures))
        self._observers = (*observers, *plugins.observers())
        for observer in self._observers:
            if not callable(getattr(observer, "observe", None)):
                raise UsageError(f"observers={observer!r}: expected something with a method `observe`")
        self._executor_options = {} if max_workers is None else {"max_workers": max_workers}
        if isinstance(storage, str | os.PathLike):
            self.store: ObjectStore = plugins.open_store(storage, **(store_options or {}))
            self._own_store = True
        else:
            self.store = storage
            self._own_store = False
        self._controller: Controller | None = None
        self._counter = 0
        self._lock = threading.RLock()
        self._starting: dict[str, threading.Lock] = {}
        self._old: builtins.list[Controller] = []
        """Controllers whose journal failed, and of which attempts may still run."""
        self._ids: dict[str, builtins.list[Any]] = {}
        """Of workflow ids somebody is at: a lock, and how many want it."""
        self._rooted = False
        self._closed = False

    # --- running ------------------------------------------------------------------------------------------------

    def run(
        self,
        node: Node,
        *,
        workflow_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Run a workflow and return its result.

        Args:
            node: The root of the DAG, whose result is wanted.
            workflow_id: The idempotency key: the same id with the same DAG gives the same result, whatever happened
                in between. Made up when None.
            inputs: Values for the DAG's `Input` placeholders.
            metadata: Kept with the workflow and shown by `list`; must be JSON.
            name: For people; the root task's name when None.

        Raises:
            WorkflowMismatchError: The id belongs to another DAG.
            WorkflowRunningError: Another process is running it.
            TaskFailedError: A task failed for good.
            ExoFlowError: Whatever else `start` and `Handle.result` raise.
        """
        return self._wait(self.start(node, workflow_id=workflow_id, inputs=inputs, metadata=metadata, name=name))

    def start(
        self,
        node: Node,
        *,
        workflow_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Handle:
        """Start a workflow; return once it cannot be forgotten. Arguments and errors as for `run`."""
        dag, submission = self._prepare(node, inputs, metadata, name)
        if workflow_id is None:
            return self._submit_new([(dag, submission)])[0]
        _check_id(workflow_id)
        with self._alone(workflow_id):
            return self._submit_named(workflow_id, dag, submission)

    def start_many(
        self,
        nodes: Iterable[Node],
        *,
        metadata: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> builtins.list[Handle]:
        """Start many workflows, with ids made up, whose submissions become durable together.

        Args:
            nodes: A root for each.
            metadata: For all of them.
            name: For all of them.
        """
        with collector_paused():
            return self._submit_new([self._prepare(node, None, metadata, name) for node in nodes])

    def resume(self, workflow_id: str, *, accept_code_change: bool = False) -> Handle:
        """Go on with a workflow whose controller is gone; or get hold of one that has ended.

        Args:
            workflow_id: Which.
            accept_code_change: Go on although a deterministic task's code changed and an effect may have acted on a
                value of the old one.

        Raises:
            WorkflowNotFoundError: No such workflow.
            WorkflowRunningError: A live controller has it.
            CodeChangedError: See *accept_code_change*.
        """
        with self._alone(workflow_id):
            return self._resume(workflow_id, None, accept_code_change)

    def resume_all(self) -> builtins.list[Handle]:
        """Go on with every workflow that can be resumed. One that cannot is logged and left alone."""
        handles = []
        for info in self.list(WorkflowStatus.RESUMABLE) + self.list(WorkflowStatus.ROLLING_BACK):
            try:
                handles.append(self.resume(info.workflow_id))
            except ExoFlowError as error:
                log.warning("workflow %s was not resumed: %s", info.workflow_id, error)
        return handles

    def fork(self, workflow_id: str, from_task: str, *, new_id: str | None = None) -> Handle:
        """Run a copy of a workflow in which *from_task*, and all that depends on it, runs again.

        Everything else is taken over from the original: its values are shared, its effects are not repeated. Useful
        after a failure, which ends a workflow for good, and after a mistake.

        Args:
            workflow_id: The original, in whatever state.
            from_task: A task id of it.
            new_id: Of the copy; made up when None.

        Raises:
            WorkflowNotFoundError: No such workflow.
            UsageError: No such task, or *new_id* is taken.
        """
        from exoflow.api.forking import fork_records

        controller = self._running()
        made = self._new_id(controller) if new_id is None else new_id
        _check_id(made)
        self._look_up(workflow_id)
        pin(self.store, workflow_id, made)  # before its history is read, so that no collector takes what is shared
        history, dag, decoded = self._read(workflow_id)
        records = fork_records(history, dag, decoded, from_task, made)
        if new_id is not None:
            epoch = controller.ask(
                lambda: adoption.begin(self.store, controller.flusher.writer, made, time.time())
            ).result()
            if epoch is None:
                raise UsageError(f"new_id={made!r} is taken by another workflow; choose another id")
        controller.ask(lambda: controller.flusher.flush([rec.encode(r) for r in records])).result()
        return self._go_on(controller, made, records, None, accept_code_change=True)

    # --- asking -------------------------------------------------------------------------------------------------

    def result(self, workflow_id: str, timeout_s: float | None = None) -> Any:
        """Return the result of a workflow, waiting for whoever runs it. Runs nothing itself.

        Args:
            workflow_id: Which.
            timeout_s: Seconds to wait; None waits as long as it takes.

        Raises:
            WorkflowNotFoundError: No such workflow.
            UnavailableError: It has not ended: nobody runs it now, or *timeout_s* passed.
            TaskFailedError: It failed; so do the others `Handle.result` raises.
        """
        controller = self._controller
        if controller is not None and (run := controller.runs.get(workflow_id)) is not None:
            return self._handle(run).result(timeout_s)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 0.01
        while True:
            standing = self._look_up(workflow_id)
            if has_finished(self.store, standing.ownership, standing.history):
                return self._value_of(self._outcome(workflow_id, standing.history.records))
            live = _is_live(standing)
            info = describe_workflow(standing.history.records, live=live, finished=False)
            if info.status is WorkflowStatus.NEEDS_ATTENTION:
                task_id, _, reason = (info.problem or ": ").partition(": ")
                raise NeedsAttentionError(workflow_id, task_id, reason)
            if not live:
                raise UnavailableError(
                    f"workflow {workflow_id!r} is {info.status} and nobody runs it; "
                    f"`exoflow resume {workflow_id}` goes on"
                )
            if deadline is not None and time.monotonic() > deadline:
                raise UnavailableError(f"workflow {workflow_id!r} has not ended within {timeout_s} s; ask again")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.5)

    def status(self, workflow_id: str) -> WorkflowStatus:
        """Return where a workflow stands.

        Raises:
            WorkflowNotFoundError: No such workflow.
        """
        standing = self._look_up(workflow_id)
        records = standing.history.records
        return describe_workflow(
            records,
            live=_is_live(standing),
            finished=has_finished(self.store, standing.ownership, standing.history),
        ).status

    def list(self, status: WorkflowStatus | str | None = None) -> builtins.list[WorkflowInfo]:
        """Return every workflow the store knows, oldest first; only those of one *status* if that is given."""
        self._root()
        try:
            wanted = None if status is None else WorkflowStatus(status)
        except ValueError:
            known = ", ".join(repr(str(member)) for member in WorkflowStatus)
            raise UnknownOptionError(f"status={status!r} is not known; expected one of {known}") from None
        found = [
            describe_workflow(summary.records, live=summary.live, finished=summary.finished)
            for summary in iterate_workflows(self.store, time.time())
        ]
        return sorted((i for i in found if wanted in (None, i.status)), key=lambda i: (i.created_at, i.workflow_id))

    def show(self, workflow_id: str) -> WorkflowDetail:
        """Return a workflow with its tasks.

        Raises:
            WorkflowNotFoundError: No such workflow.
        """
        standing = self._look_up(workflow_id, whole=True)
        records = standing.history.records
        history, dag, decoded = self._decode(records)
        info = describe_workflow(
            records,
            live=_is_live(standing),
            finished=has_finished(self.store, standing.ownership, standing.history),
        )
        continuations = {i: d for i, d in decoded.items() if isinstance(d, Dag)}
        return WorkflowDetail(info=info, tasks=describe_tasks(dag, history, continuations))

    # --- intervening --------------------------------------------------------------------------------------------

    def cancel(self, workflow_id: str) -> None:
        """Ask for a workflow to end. It ends as cancelled, with its rollback tasks undone, unless it ended before.

        Raises:
            WorkflowNotFoundError: No such workflow.
        """
        standing = self._look_up(workflow_id)
        if has_finished(self.store, standing.ownership, standing.history):
            return
        inbox.send(self.store, workflow_id, inbox.CANCEL, "cancel", b"")
        controller = self._controller
        if controller is not None and workflow_id in controller.runs:
            controller.post(controller.listener.nudge)
        elif not _is_live(standing):
            # Nobody would notice: take it over, so that somebody does.
            handle = self.resume(workflow_id)
            with contextlib.suppress(ExoFlowError):
                handle.result()

    def send_event(self, workflow_id: str, event: str, payload: Any = None, *, message_id: str | None = None) -> None:
        """Send a message to a workflow, from any process. When this returns it is durable.

        Args:
            workflow_id: Whose. It need not exist yet.
            event: The name that `exoflow.wait_for_event` waits for.
            payload: What the waiting node returns.
            message_id: The same message sent twice under one id is one message. Made up when None.
        """
        _check_id(workflow_id)
        if not isinstance(event, str) or not event or "\0" in event:
            raise UsageError(f"event={event!r}: expected a non-empty text without NUL")
        self._root()
        data = inline(self._encode(payload, f"the payload of event {event!r}"), self._codec.name)
        inbox.send(
            self.store, workflow_id, event, message_id or inbox.new_message_id(time.time()), encode_payload(data)
        )
        controller = self._controller
        if controller is not None:
            controller.post(controller.listener.nudge)

    def settle(self, workflow_id: str, task_id: str, *, happened: bool, value: Any = None) -> None:
        """Say what became of an effect nobody else could tell; afterwards `resume` goes on.

        Args:
            workflow_id: A workflow that needs attention.
            task_id: The task it stopped at.
            happened: Whether the effect is in the world: of a once task, whether it took place; of a rollback task whose
                undo failed, False says that nothing of it is left.
            value: The task's result, if it happened.

        Raises:
            UsageError: It does not need attention at this task.
        """
        controller = self._running()
        # Everything that can be wrong is found before the workflow is taken over.
        _open_intent(History.of(self._look_up(workflow_id, whole=True).history.records), workflow_id, task_id, happened)
        given = self._encode(value, f"the value of task {task_id!r}") if happened else None
        with self._alone(workflow_id):
            if self._run_of(controller, workflow_id) is not None:
                raise UsageError(f"workflow {workflow_id!r} is running here; settle it when it has stopped")
            taken = self._take(
                controller, lambda: adoption.acquire(self.store, controller.flusher.writer, workflow_id, time.time())
            )
            try:
                intent = _open_intent(History.of(taken.records), workflow_id, task_id, happened)
                said = self._settlement(intent, given)
            except BaseException:
                self._release(controller, workflow_id)
                raise
            # Given up in the same flush: whoever resumes it may be another process.
            encoded = [rec.encode(one) for one in (*said, rec.Released(workflow_id))]
            controller.ask(lambda: controller.flusher.flush(encoded)).result()
            controller.leave_live()

    def _settlement(self, intent: rec.Intent, given: Encoded | None) -> "builtins.list[rec.WorkflowRecord]":
        workflow_id, task_id, attempt = intent.workflow_id, intent.task_id, intent.attempt
        if intent.key == attempt:
            return [rec.UndoRecord(workflow_id, task_id, attempt)]
        if given is None:
            return [rec.Settlement(workflow_id, task_id, attempt, False)]
        payload = persist(given, self._codec.name, self.store, blob_key(workflow_id, attempt, 3))
        outcome = rec.Outcome(
            workflow_id, task_id, attempt, attempt, intent.reads, "value", True, "", 1, time.time(), 0.0, "", payload
        )
        return [rec.Settlement(workflow_id, task_id, attempt, True), outcome]

    def _release(self, controller: Controller, workflow_id: str) -> None:
        """Give up a workflow that was taken over and that nobody runs here."""
        controller.ask(lambda: controller.flusher.flush([rec.encode(rec.Released(workflow_id))])).result()
        controller.leave_live()

    def delete(self, workflow_id: str) -> None:
        """Remove a workflow that has ended, with all its values. Its id is free again.

        Raises:
            WorkflowNotFoundError: No such workflow.
            WorkflowRunningError: It is running; cancel it first.
        """
        standing = self._look_up(workflow_id)
        if not has_finished(self.store, standing.ownership, standing.history) and _is_live(standing):
            raise WorkflowRunningError(workflow_id, "a live controller; cancel it first")
        controller = self._running()
        controller.ask(lambda: garbage.delete(self.store, controller.flusher.writer, workflow_id, time.time())).result()

    def gc(self, *, older_than_s: float = 30 * 86400.0) -> GarbageReport:
        """Remove what is finished and older than that: records, values and ids. Safe at any time, beside anybody."""
        self._root()
        controller = self._running()
        report: GarbageReport = controller.ask(
            lambda: garbage.collect(self.store, time.time(), older_than_s, writer=controller.flusher.writer)
        ).result()
        return report

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop. Workflows that have not ended are resumable at once, here or elsewhere."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            controllers = [*self._old, *([self._controller] if self._controller is not None else [])]
            for controller in controllers:
                controller.close()
            # Closing the store lets go of locks, and who runs an attempt still must hold his.
            if self._own_store and all(controller.wait_until_gone(0) for controller in controllers):
                self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _root(self) -> None:
        """Check that the store keeps the promise everything rests on; once for each engine."""
        if not self._rooted:
            open_store(self.store)
            self._rooted = True

    def _running(self) -> Controller:
        with self._lock:
            if self._closed:
                raise UsageError("this engine is closed; open another")
            if self._controller is not None:
                if self._controller.problem is None:
                    return self._controller
                self._old.append(self._controller)
                self._controller = None
            self._old = [old for old in self._old if not old.wait_until_gone(0)]
            self._root()
            now = time.time()
            fail = None if self._reach is None else self._reach
            writer = JournalWriter.open(
                self.store, new_journal_id(now), socket.gethostname(), os.getpid(), now, fail=fail
            )
            self._controller = Controller(
                self.store,
                writer,
                executor=self._executor,
                make_executor=lambda name, services: manager().make_executor(
                    name, services, **(self._executor_options if name == self._executor else {})
                ),
                codec=self._codec,
                reach=self._reach,
                observers=self._observers,
            )
            return self._controller

    @contextlib.contextmanager
    def _alone(self, workflow_id: str) -> Iterator[None]:
        """Keep other threads from doing the same with this workflow: two that start one id must not both run it."""
        with self._lock:
            entry = self._ids.setdefault(workflow_id, [threading.RLock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._lock:
                entry[1] -= 1
                if not entry[1]:
                    del self._ids[workflow_id]

    def _take(self, controller: Controller, job: Callable[[], Any]) -> Any:
        """Have *job* take a workflow over; wait for attempts of this very engine that may be in its way."""
        try:
            return controller.ask(job).result()
        except WorkflowRunningError:
            with self._lock:
                old = list(self._old)
            if not old or not all(one.wait_until_gone(_PATIENCE_S) for one in old):
                raise
        return controller.ask(job).result()

    def _new_id(self, controller: Controller) -> str:
        with self._lock:
            self._counter += 1
            return f"{controller.journal_id}-{self._counter}"

    def _prepare(
        self,
        node: Node,
        inputs: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        name: str | None,
    ) -> "tuple[Dag, rec.Submission]":
        dag = compile_dag(node, inputs)
        fingerprints = {}
        for task in {id(spec.task): spec.task for spec in dag.nodes}.values():
            if task.policy.deterministic and task.kind == "task":
                fingerprints[task.qualified_name] = task.fingerprint
            executor = task.policy.executor
            if executor is not None and executor not in manager().executors():
                raise UnknownExecutorError(executor, manager().executors())
        try:
            digest = dag.digest
        except Exception as error:
            raise _blame(dag, self._codec, error) from error
        kept = dict(metadata or {})
        try:
            if kept:
                json.dumps(kept)
        except (TypeError, ValueError) as error:
            raise UsageError(f"metadata={kept!r}: expected what JSON can say ({error})") from None
        submission = rec.Submission("", 0, digest, name or dag.root.task.name, time.time(), kept, fingerprints)
        return dag, submission

    def _encode(self, value: Any, what: str) -> Encoded:
        try:
            return self._codec.encode(value)
        except Exception as error:
            raise UsageError(f"{what} cannot be stored ({error}); pass something that pickles") from error

    def _encode_dag(self, dag: Dag, workflow_id: str, prefix: str) -> Payload:
        try:
            encoded = self._codec.encode(dag)
        except Exception as error:
            raise _blame(dag, self._codec, error) from error
        return persist(encoded, self._codec.name, self.store, blob_key(workflow_id, f"{prefix}.0", 0))

    def _submit_new(self, prepared: "Sequence[tuple[Dag, rec.Submission]]") -> builtins.list[Handle]:
        controller = self._running()
        runs: builtins.list[tuple[WorkflowRun, rec.Submission | None]] = []
        for dag, submission in prepared:
            workflow_id = self._new_id(controller)
            runs.append(self._new_run(controller, workflow_id, 1, dag, submission))
        accepted: Promise[None] = Promise()
        controller.submit(runs, accepted)
        accepted.result()
        return [self._handle(run) for run, _ in runs]

    def _new_run(
        self, controller: Controller, workflow_id: str, generation: int, dag: Dag, submission: rec.Submission
    ) -> "tuple[WorkflowRun, rec.Submission | None]":
        prefix = controller.new_prefix()
        state = WorkflowState(dag, workflow_id=workflow_id, generation=generation, prefix=prefix)
        payload = self._encode_dag(dag, workflow_id, prefix)
        record = attrs.evolve(submission, workflow_id=workflow_id, generation=generation, payload=payload)
        return WorkflowRun(workflow_id, prefix, state, submission.digest), record

    def _submit_named(self, workflow_id: str, dag: Dag, submission: rec.Submission) -> Handle:
        # Two threads that start one id are one start: the second finds what the first began.
        with self._lock:
            starting = self._starting.setdefault(workflow_id, threading.Lock())
        try:
            with starting:
                return self._submit_alone(workflow_id, dag, submission)
        finally:
            with self._lock:
                self._starting.pop(workflow_id, None)

    def _submit_alone(self, workflow_id: str, dag: Dag, submission: rec.Submission) -> Handle:
        controller = self._running()
        run = self._run_of(controller, workflow_id)
        if run is not None:
            self._check_same(workflow_id, run.digest, dag)
            return self._handle(run)
        epoch = self._take(
            controller, lambda: adoption.begin(self.store, controller.flusher.writer, workflow_id, time.time())
        )
        if epoch is None:
            return self._resume(workflow_id, dag, False)
        pair = self._new_run(controller, workflow_id, epoch, dag, submission)
        accepted: Promise[None] = Promise()
        controller.submit([pair], accepted)
        accepted.result()
        return self._handle(pair[0])

    def _run_of(self, controller: Controller, workflow_id: str) -> WorkflowRun | None:
        """Return the workflow if it runs here; one that was stopped must have ended here first."""
        run = controller.runs.get(workflow_id)
        if run is None or not run.abandoned:
            return run
        try:
            run.left.result(_PATIENCE_S)
        except TimeoutError:
            raise WorkflowRunningError(workflow_id, "this process, in attempts that cannot be stopped") from None
        return None

    def _resume(self, workflow_id: str, dag: Dag | None, accept_code_change: bool) -> Handle:
        controller = self._running()
        run = self._run_of(controller, workflow_id)
        if run is not None:
            if dag is not None:
                self._check_same(workflow_id, run.digest, dag)
            return self._handle(run)
        if dag is not None:
            # Before it is taken over: a wrong DAG must not take the workflow away from who has the right one.
            found = self._look_up(workflow_id).history.records
            submission = next(record for record in found if isinstance(record, rec.Submission))
            self._check_same(workflow_id, submission.digest, dag)
        taken = self._take(
            controller, lambda: adoption.acquire(self.store, controller.flusher.writer, workflow_id, time.time())
        )
        if taken.finished:
            return self._ended_handle(workflow_id, taken.records)
        return self._go_on(controller, workflow_id, taken.records, dag, accept_code_change=accept_code_change)

    def _go_on(
        self,
        controller: Controller,
        workflow_id: str,
        records: "Sequence[rec.WorkflowRecord]",
        dag: Dag | None,
        *,
        accept_code_change: bool,
    ) -> Handle:
        try:
            records = self._look_into_inbox(controller, workflow_id, records)
            with collector_paused():
                history, stored, decoded = self._decode(records)
                prefix = controller.new_prefix()
                state, _ = restore(
                    # The caller's DAG is the same by digest, and has the code that is here now.
                    dag or stored, history, decoded, prefix=prefix, accept_code_change=accept_code_change,
                )  # fmt: skip
            if history.end is not None and history.end.status == "failed":
                state.error = self._failure(workflow_id, history.end)
        except BaseException:
            # Somebody with the right code, or nobody, may have it.
            self._release(controller, workflow_id)
            raise
        assert history.submission is not None
        run = WorkflowRun(workflow_id, prefix, state, history.submission.digest)
        run.taken.update(o.message for o in history.outcomes.values() if o.message)
        controller.submit([(run, None)])
        return self._handle(run)

    def _look_into_inbox(
        self, controller: Controller, workflow_id: str, records: "Sequence[rec.WorkflowRecord]"
    ) -> "Sequence[rec.WorkflowRecord]":
        """Delete messages whose deletion was lost; let a cancellation count before anything is started again."""
        waiting = inbox.pending(self.store, workflow_id).get(workflow_id, {})
        taken = {record.message for record in records if isinstance(record, rec.Outcome)}
        for message in [message for messages in waiting.values() for message in messages if message.key in taken]:
            inbox.remove(self.store, message)
        if inbox.CANCEL in waiting:
            if not any(isinstance(record, rec.End) for record in records):
                end = rec.End(workflow_id, "cancelled", "", time.time())
                controller.ask(lambda: controller.flusher.flush([rec.encode(end)])).result()
                records = [*records, end]
            for message in waiting[inbox.CANCEL]:
                inbox.remove(self.store, message)
        return records

    def _check_same(self, workflow_id: str, digest: str, dag: Dag) -> None:
        if dag.digest != digest:
            raise WorkflowMismatchError(workflow_id, f"digest {digest[:8]}, given {dag.digest[:8]}")

    def _look_up(self, workflow_id: str, *, whole: bool = False) -> ownership.Standing:
        self._root()
        found = ownership.look_up(self.store, workflow_id, time.time(), None if whole else adoption.LIGHT)
        if found is None or found.ownership.deleted or not found.history.records:
            raise WorkflowNotFoundError(workflow_id, self.store.url)
        if isinstance(found.history.given_up, rec.Deleted):
            raise WorkflowNotFoundError(workflow_id, self.store.url)
        return found

    def _read(self, workflow_id: str) -> "tuple[History, Dag, dict[str, Any]]":
        return self._decode(self._look_up(workflow_id, whole=True).history.records)

    def _decode(self, records: "Sequence[rec.WorkflowRecord]") -> "tuple[History, Dag, dict[str, Any]]":
        history = History.of(records)
        assert history.submission is not None
        assert history.submission.payload is not None
        dag = self._load(history.submission.payload)
        decoded = {
            outcome.incarnation: self._load(outcome.payload)
            for outcome in history.outcomes.values()
            if outcome.what in ("continuation", "error") and outcome.payload is not None
        }
        return history, dag, decoded

    def _load(self, payload: Payload) -> Any:
        codec = self._codec if payload.codec == self._codec.name else manager().make_codec(payload.codec)
        return restore_value(payload, codec, self.store)

    def _outcome(self, workflow_id: str, records: "Sequence[rec.WorkflowRecord]") -> Promise[Value]:
        end = next(r for r in records if isinstance(r, rec.End) and r.status != "rolled_back")
        promise: Promise[Value] = Promise()
        if end.status == "succeeded":
            promise.resolve(end.payload if end.payload is not None else Live(None))
        elif end.status == "cancelled":
            promise.reject(WorkflowCancelledError(workflow_id))
        else:
            promise.reject(self._failure(workflow_id, end))
        return promise

    def _failure(self, workflow_id: str, end: rec.End) -> TaskFailedError:
        cause = self._load(end.payload) if end.payload is not None else None
        problem = TaskFailedError(workflow_id, end.task_id, f"{type(cause).__name__}: {cause}")
        problem.__cause__ = cause
        return problem

    def _value_of(self, promise: Promise[Value]) -> Any:
        value = promise.result()
        return value.value if isinstance(value, Live) else self._load(value)

    def _handle(self, run: WorkflowRun) -> Handle:
        return Handle(run.workflow_id, run.done, self._load, self.status)

    def _ended_handle(self, workflow_id: str, records: "Sequence[rec.WorkflowRecord]") -> Handle:
        return Handle(workflow_id, self._outcome(workflow_id, records), self._load, self.status)

    def _wait(self, handle: Handle) -> Any:
        try:
            return handle.result()
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"workflow {handle.workflow_id!r} was interrupted and lost nothing; go on with "
                f"`exoflow resume {handle.workflow_id} --storage {self.store.url}` or by running it again under its id"
            )
            raise


def _open_intent(history: History, workflow_id: str, task_id: str, happened: bool) -> rec.Intent:
    """Return the intent of a task of which nobody knows what became of it.

    Raises:
        UsageError: There is none, or it is not settled like this.
    """
    known = {outcome.attempt for outcome in history.outcomes.values() if outcome.payload is not None}
    asked = history.attention.attempt if history.attention is not None else None
    found = [
        intent for intent in history.intents.values()
        if intent.task_id == task_id and intent.attempt not in history.undone and intent.attempt not in history.settled
        and (intent.attempt == asked if intent.key == intent.attempt else intent.attempt not in known)
    ]  # fmt: skip
    if not found:
        raise UsageError(
            f"workflow {workflow_id!r} has no unsettled effect of task {task_id!r}; `exoflow show {workflow_id}`"
        )
    if happened and found[-1].key == found[-1].attempt:
        raise UsageError(
            f"task {task_id!r} is a rollback task whose undo failed: undo it by hand, then say happened=False"
        )
    return found[-1]


def _is_live(standing: ownership.Standing) -> bool:
    """Whether a live controller has the workflow: its owner is alive and has not given it up."""
    return standing.ownership.live and standing.history.given_up is None


def _check_id(workflow_id: str) -> None:
    if not isinstance(workflow_id, str) or not workflow_id or len(workflow_id) > 200:
        raise UsageError(f"workflow_id={workflow_id!r}: expected a text of 1 to 200 characters")


def _blame(dag: Dag, codec: Any, error: Exception) -> ExoFlowError:
    """Find the task and the argument that cannot be stored."""
    for spec in dag.nodes:
        named = [*((str(at), value) for at, value in enumerate(spec.args)), *spec.kwargs.items()]
        for argument, value in named:
            try:
                codec.encode(value)
            except Exception as problem:
                return ArgumentError(
                    spec.task_id, argument,
                    f"{type(value).__name__} cannot be stored ({problem}); pass something that pickles, or make it in a task",
                )  # fmt: skip
        try:
            codec.encode(spec.task)
        except Exception as problem:
            return ArgumentError(spec.task_id, "the task itself", f"its function cannot be stored ({problem})")
    return ArgumentError(dag.root.task_id, "*", f"the DAG cannot be stored ({error})")
