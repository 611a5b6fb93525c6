"""The engine people hold: a store, an executor, and everything that can be done with workflows in them."""

import asyncio
import builtins
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import attrs

from exoflow.api.bulk import collector_paused
from exoflow.api.controllers import Controllers
from exoflow.api.forking import fork_records
from exoflow.api.handle import Handle
from exoflow.api.reading import Reader, is_live
from exoflow.api.settling import open_intent, settlement
from exoflow.api.submitting import check_id, encode_dag, prepare
from exoflow.controller.controller import Controller
from exoflow.controller.promise import Promise
from exoflow.controller.run import WorkflowRun
from exoflow.engine.restoring import restore
from exoflow.engine.state import WorkflowState
from exoflow.errors import (
    ExoFlowError,
    NeedsAttentionError,
    UnavailableError,
    UnknownOptionError,
    UsageError,
    WorkflowMismatchError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from exoflow.failures.injectors import combine, describe
from exoflow.failures.points import Injector
from exoflow.graph.dag import Dag
from exoflow.graph.node import Node
from exoflow.journal import adoption, garbage, inbox
from exoflow.journal import records as rec
from exoflow.journal.garbage import GarbageReport
from exoflow.journal.layout import new_journal_id
from exoflow.journal.messages import encode_payload
from exoflow.journal.pins import pin
from exoflow.journal.writer import JournalWriter
from exoflow.plugins.manager import manager
from exoflow.plugins.observing import Observer
from exoflow.recovery.history import History
from exoflow.states import WorkflowDetail, WorkflowInfo, WorkflowStatus
from exoflow.stores.contract import ObjectStore
from exoflow.tasks.context import current_call
from exoflow.values import Encoded, inline

__all__ = ["Engine"]

log = logging.getLogger(__name__)

_CHANGES_OF_MIND = 20
"""How often a start may find a workflow that is gone when it is looked at."""


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
        if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
            raise UnknownOptionError(f"max_workers={max_workers!r}: expected a number of at least 1")
        self._executor = executor
        self._codec = plugins.make_codec(codec)
        injectors = plugins.make_injectors((failures,) if isinstance(failures, str) else failures)
        self._reach = combine(injectors)
        self._failures = describe(injectors)
        """What makes the same failures happen again; kept with each workflow."""
        self._observers = (*observers, *plugins.observers())
        for observer in self._observers:
            if not callable(getattr(observer, "observe", None)):
                raise UsageError(f"observers={observer!r}: expected something with a method `observe`")
        self._executor_options = {} if max_workers is None else {"max_workers": max_workers}
        plugins.check_executor(executor, **self._executor_options)
        if isinstance(storage, str | os.PathLike):
            self.store: ObjectStore = plugins.open_store(storage, **(store_options or {}))
            self._own_store = True
        else:
            self.store = storage
            self._own_store = False
        self._reader = Reader(self.store, self._codec)
        self._controllers = Controllers(self._open_controller)

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
        self._refuse_to_wait_in_a_task()
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
        check_id(workflow_id)
        with self._controllers.alone([workflow_id]):
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
        with self._controllers.alone([workflow_id]):
            return self._resume(workflow_id, None, accept_code_change)

    def resume_all(self) -> builtins.list[Handle]:
        """Go on with every workflow that can be resumed. One that cannot is logged and left alone."""
        goes_on = (WorkflowStatus.RESUMABLE, WorkflowStatus.ROLLING_BACK)
        wanted = [info.workflow_id for info in self.list() if info.status in goes_on]
        if not wanted:
            return []
        controller, now = self._controllers.running(), time.time()
        handles = []
        with self._controllers.alone(wanted):
            missing = dict.fromkeys(each for each in wanted if self._controllers.run_of(controller, each) is None)
            # Together: each journal is read once, and what was in one dead journal moves in one flush.
            writer = controller.flusher.writer
            taken = controller.ask(
                lambda: adoption.acquire_many(self.store, writer, now, missing.__contains__)
            ).result()
            for workflow_id in missing:
                try:
                    if workflow_id in taken:
                        records = taken[workflow_id].records
                        handles.append(self._go_on(controller, workflow_id, records, None, accept_code_change=False))
                    else:  # in our own journal, or somebody else's by now
                        handles.append(self._resume(workflow_id, None, False))
                except Exception as error:  # a task's module that is gone, for one
                    log.warning("workflow %s was not resumed: %s: %s", workflow_id, type(error).__name__, error)
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
        controller = self._controllers.running()
        made = self._controllers.new_id(controller) if new_id is None else new_id
        check_id(made, "new_id")
        now = time.time()
        self._reader.must_be_whole(self._reader.look_up(workflow_id, now))
        pin(self.store, workflow_id, made)  # before its history is read, so that no collector takes what is shared
        history, dag, decoded = self._reader.decode(self._reader.look_up(workflow_id, now, whole=True).history.records)
        records = fork_records(history, dag, decoded, from_task, made)
        writer = controller.flusher.writer
        with self._controllers.alone([made]):
            if new_id is not None:
                epoch = controller.ask(lambda: adoption.begin(self.store, writer, made, now)).result()
                if epoch is None:
                    raise UsageError(f"new_id={made!r} is taken by another workflow; choose another id")
            self._flush(controller, records)
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
        controller = self._controllers.current
        if controller is not None and (run := controller.runs.get(workflow_id)) is not None:
            return self._handle(run).result(timeout_s)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 0.01
        while True:
            standing = self._reader.look_up(workflow_id, time.time())
            if self._reader.has_finished(standing):
                return self._ended_handle(workflow_id, standing.history.records).result()
            info = self._reader.describe(standing)
            if info.status is WorkflowStatus.NEEDS_ATTENTION:
                task_id, _, reason = (info.problem or ": ").partition(": ")
                raise NeedsAttentionError(workflow_id, task_id, reason)
            if not is_live(standing):
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
        return self._reader.describe(self._reader.look_up(workflow_id, time.time())).status

    def list(self, status: WorkflowStatus | str | None = None) -> builtins.list[WorkflowInfo]:
        """Return every workflow the store knows, oldest first; only those of one *status* if that is given."""
        try:
            wanted = None if status is None else WorkflowStatus(status)
        except ValueError:
            known = ", ".join(repr(str(member)) for member in WorkflowStatus)
            raise UnknownOptionError(f"status={status!r} is not known; expected one of {known}") from None
        found = [info for info in self._reader.describe_all(time.time()) if wanted in (None, info.status)]
        return sorted(found, key=lambda info: (info.created_at, info.workflow_id))

    def show(self, workflow_id: str) -> WorkflowDetail:
        """Return a workflow with its tasks.

        Raises:
            WorkflowNotFoundError: No such workflow.
        """
        return self._reader.detail(workflow_id, time.time())

    # --- intervening --------------------------------------------------------------------------------------------

    def cancel(self, workflow_id: str) -> None:
        """Ask for a workflow to end. It ends as cancelled, with its rollback tasks undone, unless it ended before.

        Raises:
            WorkflowNotFoundError: No such workflow.
        """
        standing = self._reader.look_up(workflow_id, time.time())
        if self._reader.has_finished(standing):
            return
        inbox.send(self.store, workflow_id, inbox.CANCEL, "cancel", b"")
        controller = self._controllers.current
        if controller is not None and workflow_id in controller.runs:
            controller.post(controller.listener.nudge)
        elif not is_live(standing):
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
        check_id(workflow_id)
        if not isinstance(event, str) or not event or "\0" in event:
            raise UsageError(f"event={event!r}: expected a non-empty text without NUL")
        self._reader.check()
        data = inline(self._encode(payload, f"the payload of event {event!r}"), self._codec.name)
        made = message_id or inbox.new_message_id(time.time())
        inbox.send(self.store, workflow_id, event, made, encode_payload(data))
        controller = self._controllers.current
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
        controller = self._controllers.running()
        # Everything that can be wrong is found before the workflow is taken over.
        known = self._reader.look_up(workflow_id, time.time(), whole=True).history.records
        open_intent(History.of(known), workflow_id, task_id, happened=happened)
        given = self._encode(value, f"the value of task {task_id!r}") if happened else None
        with self._controllers.alone([workflow_id]):
            if self._controllers.run_of(controller, workflow_id) is not None:
                raise UsageError(f"workflow {workflow_id!r} is running here; settle it when it has stopped")
            taken = self._acquire(controller, workflow_id)
            try:
                intent = open_intent(History.of(taken.records), workflow_id, task_id, happened=happened)
                said = settlement(intent, given, codec=self._codec.name, store=self.store, now=time.time())
            except BaseException:
                self._release(controller, workflow_id)
                raise
            # Given up in the same flush: whoever resumes it may be another process.
            self._flush(controller, [*said, rec.Released(workflow_id)])
            controller.leave_live()

    def delete(self, workflow_id: str) -> None:
        """Remove a workflow that has ended, with all its values. Its id is free again.

        Raises:
            WorkflowNotFoundError: No such workflow.
            WorkflowRunningError: It is running; cancel it first.
        """
        standing = self._reader.look_up(workflow_id, time.time())
        if not self._reader.has_finished(standing) and is_live(standing):
            raise WorkflowRunningError(workflow_id, "a live controller; cancel it first")
        controller = self._controllers.running()
        controller.ask(lambda: garbage.delete(self.store, controller.flusher.writer, workflow_id, time.time())).result()

    def gc(self, *, older_than_s: float = 30 * 86400.0) -> GarbageReport:
        """Remove what is finished and older than that: records, values and ids. Safe at any time, beside anybody."""
        if not older_than_s >= 0:
            raise UsageError(f"older_than_s={older_than_s!r}: expected seconds, at least 0")
        self._reader.check()
        controller = self._controllers.running()
        report: GarbageReport = controller.ask(
            lambda: garbage.collect(self.store, time.time(), older_than_s, writer=controller.flusher.writer)
        ).result()
        return report

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop. Workflows that have not ended are resumable at once, here or elsewhere."""
        # Closing the store lets go of locks, and who runs an attempt still must hold his.
        if self._controllers.close() and self._own_store:
            self._own_store = False
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _open_controller(self) -> Controller:
        self._reader.check()
        now = time.time()
        writer = JournalWriter.open(
            self.store, new_journal_id(now), socket.gethostname(), os.getpid(), now, fail=self._reach
        )
        return Controller(
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

    def _prepare(
        self, node: Node, inputs: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, name: str | None
    ) -> "tuple[Dag, rec.Submission]":
        if self._failures:
            metadata = {**(metadata or {}), "exoflow.failures": self._failures}
        return prepare(node, inputs=inputs, metadata=metadata, name=name, now=time.time())

    def _submit_new(self, prepared: "Sequence[tuple[Dag, rec.Submission]]") -> builtins.list[Handle]:
        controller = self._controllers.running()
        made = [
            self._new_run(controller, self._controllers.new_id(controller), 1, dag, submission)
            for dag, submission in prepared
        ]
        return self._submit(controller, made)

    def _submit_named(self, workflow_id: str, dag: Dag, submission: rec.Submission) -> Handle:
        controller = self._controllers.running()
        run = self._controllers.run_of(controller, workflow_id)
        if run is not None:
            _check_same(workflow_id, run.digest, dag)
            return self._handle(run)
        writer = controller.flusher.writer
        for _ in range(_CHANGES_OF_MIND):
            epoch = self._controllers.take(
                controller, lambda: adoption.begin(self.store, writer, workflow_id, time.time())
            )
            if epoch is not None:
                return self._submit(controller, [self._new_run(controller, workflow_id, epoch, dag, submission)])[0]
            try:
                return self._resume(workflow_id, dag, False)
            except WorkflowNotFoundError:
                continue  # what was there a moment ago was deleted, or its owner never got to submit it
        raise UnavailableError(f"workflow {workflow_id!r} is begun and given up again and again; try later")

    def _new_run(
        self, controller: Controller, workflow_id: str, generation: int, dag: Dag, submission: rec.Submission
    ) -> "tuple[WorkflowRun, rec.Submission | None]":
        prefix = controller.new_prefix()
        state = WorkflowState(dag, workflow_id=workflow_id, generation=generation, prefix=prefix)
        payload = encode_dag(dag, self._codec, self.store, workflow_id, prefix)
        record = attrs.evolve(submission, workflow_id=workflow_id, generation=generation, payload=payload)
        return WorkflowRun(workflow_id, prefix, state, submission.digest), record

    def _submit(
        self, controller: Controller, made: "Sequence[tuple[WorkflowRun, rec.Submission | None]]"
    ) -> builtins.list[Handle]:
        """Run new workflows; return when they cannot be forgotten."""
        if not made:
            return []
        self._refuse_to_wait_in_a_task(briefly=True)
        accepted: Promise[None] = Promise()
        controller.submit(made, accepted)
        accepted.result()
        return [self._handle(run) for run, _ in made]

    def _resume(self, workflow_id: str, dag: Dag | None, accept_code_change: bool) -> Handle:
        controller = self._controllers.running()
        run = self._controllers.run_of(controller, workflow_id)
        if run is not None:
            if dag is not None:
                _check_same(workflow_id, run.digest, dag)
            return self._handle(run)
        if dag is not None:
            # Before it is taken over: a wrong DAG must not take the workflow away from who has the right one.
            found = self._reader.look_up(workflow_id, time.time()).history.records
            submission = next(record for record in found if isinstance(record, rec.Submission))
            _check_same(workflow_id, submission.digest, dag)
        taken = self._acquire(controller, workflow_id)
        if taken.finished:
            return self._ended_handle(workflow_id, taken.records)
        return self._go_on(controller, workflow_id, taken.records, dag, accept_code_change=accept_code_change)

    def _acquire(self, controller: Controller, workflow_id: str) -> adoption.Acquired:
        writer = controller.flusher.writer
        taken: adoption.Acquired = self._controllers.take(
            controller, lambda: adoption.acquire(self.store, writer, workflow_id, time.time())
        )
        return taken

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
                history, stored, decoded = self._reader.decode(records)
                prefix = controller.new_prefix()
                state, _ = restore(
                    # The caller's DAG is the same by digest, and has the code that is here now.
                    dag or stored, history, decoded, prefix=prefix, accept_code_change=accept_code_change,
                )  # fmt: skip
            if history.end is not None and history.end.status == "failed":
                state.error = self._reader.failure(workflow_id, history.end)
        except BaseException:
            # Somebody with the right code, or nobody, may have it.
            self._release(controller, workflow_id)
            raise
        assert history.submission is not None
        run = WorkflowRun(workflow_id, prefix, state, history.submission.digest)
        run.taken.update(o.message for o in history.outcomes.values() if o.message)
        run.discarded.update(run.taken)
        controller.submit([(run, None)])
        return self._handle(run)

    def _release(self, controller: Controller, workflow_id: str) -> None:
        """Give up a workflow that was taken over and that nobody runs here."""
        self._flush(controller, [rec.Released(workflow_id)])
        controller.leave_live()

    def _flush(self, controller: Controller, records: "Sequence[rec.WorkflowRecord]") -> None:
        encoded = [rec.encode(record) for record in records]
        controller.ask(lambda: controller.flusher.flush(encoded)).result()

    def _encode(self, value: Any, what: str) -> Encoded:
        try:
            return self._codec.encode(value)
        except Exception as error:
            raise UsageError(f"{what} cannot be stored ({error}); pass something that pickles") from error

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
                self._flush(controller, [end])
                records = [*records, end]
            for message in waiting[inbox.CANCEL]:
                inbox.remove(self.store, message)
        return records

    def _handle(self, run: WorkflowRun) -> Handle:
        return Handle(run.workflow_id, run.done, self._reader.load, self.status, self._refuse_to_wait_in_a_task)

    def _ended_handle(self, workflow_id: str, records: "Sequence[rec.WorkflowRecord]") -> Handle:
        return Handle(workflow_id, self._reader.outcome(workflow_id, records), self._reader.load, self.status)

    def _refuse_to_wait_in_a_task(self, *, briefly: bool = False) -> None:
        """A task that waits in the engine's own turn, or on the loop of all coroutines, would wait for itself."""
        call, controller = current_call.get(None), self._controllers.current
        if call is None or controller is None or call.workflow_id not in controller.runs:
            return
        if (call.task.policy.executor or self._executor) == "inline" or (
            not briefly and asyncio._get_running_loop() is not None
        ):
            raise UsageError(
                f"task {call.task_id!r} would wait for a workflow of its own engine, which may wait for the task: return the node "
                "as a continuation (`return exoflow.continuation(node)`), or await `exoflow.start(node)` in an async task"
            )

    def _wait(self, handle: Handle) -> Any:
        try:
            return handle.result()
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"workflow {handle.workflow_id!r} was interrupted and lost nothing; go on with "
                f"`exoflow resume {handle.workflow_id} --storage {self.store.url}` or by running it again under its id"
            )
            raise


def _check_same(workflow_id: str, digest: str, dag: Dag) -> None:
    if dag.digest != digest:
        raise WorkflowMismatchError(workflow_id, f"digest {digest[:8]}, given {dag.digest[:8]}")
