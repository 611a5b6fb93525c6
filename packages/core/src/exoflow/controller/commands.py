"""Carrying out what the engine asks for: a record, a call, a timer, a message, an answer."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from exoflow.controller.points import failure_of
from exoflow.controller.recording import Recorder
from exoflow.controller.run import WorkflowRun, arguments_of, call_of, call_resolve, call_undo
from exoflow.controller.runtime import Workers
from exoflow.engine import events as ev
from exoflow.engine.node_state import NodeState, Phase
from exoflow.errors import ExoFlowError, TaskTimeoutError, WorkflowCancelledError
from exoflow.executors.calling import make_durable
from exoflow.executors.contract import Call, CallKind
from exoflow.failures.points import FailurePoint
from exoflow.journal import records
from exoflow.journal.layout import blob_key
from exoflow.plugins.observing import Moment
from exoflow.stores.contract import ObjectStore
from exoflow.tasks.policy import Effects
from exoflow.values import Codec, Value

if TYPE_CHECKING:
    from exoflow.controller.controller import Controller

__all__ = ["Commands"]

log = logging.getLogger(__name__)


class Commands:
    """Does what the machines ask for, in the controller's turn; whatever comes of it is an event in the mailbox.

    Args:
        controller: Whose.
        store: Where values go: the controller's own, or one that injects failures.
        codec: How values become bytes.
    """

    def __init__(self, controller: "Controller", store: ObjectStore, codec: Codec) -> None:
        self._controller = controller
        self._store, self._codec = store, codec
        self._recorder = Recorder(codec, store)
        self._attempts = controller.attempts
        self._mail = controller.mail
        self._points, self._teller = controller.points, controller.teller
        self._watch_records = self._points is not None or self._teller is not None
        self._blobs: Workers | None = None
        self.backlog: OrderedDict[str, tuple[WorkflowRun, ev.Run]] = OrderedDict()
        """Attempts that are due, by id. A workflow of 100,000 tasks side by side must not keep a turn from its end."""
        self.draining = False
        """Whether nothing new is started: the controller closes once what runs has ended."""

    def obey(self, run: WorkflowRun, commands: list[ev.Command]) -> None:
        """Carry *commands* out, in order."""
        logged = 0
        for command in commands:
            kind = type(command)
            if kind is ev.Run:
                self.backlog[command.attempt] = run, command  # type: ignore[union-attr, assignment]
            elif run.abandoned:
                continue
            elif kind is ev.Commit:
                self._record(run, command.record)  # type: ignore[union-attr]
                logged += 1
            else:
                _CARRY_OUT[kind](self, run, command)
        if logged:
            self._controller.batch.runs.append((run, logged))

    def start_next(self) -> None:
        """Start the first attempt of the backlog."""
        attempt, (run, command) = self.backlog.popitem(last=False)
        if self.draining or run.abandoned:
            self._never_ran(run, command.node, attempt)
        else:
            self._run(run, command)

    def waits(self, run: WorkflowRun) -> bool:
        """Whether an attempt of *run* is in the backlog."""
        return any(owner is run for owner, _ in self.backlog.values())

    def close(self) -> None:
        """Store no more values."""
        if self._blobs is not None:
            self._blobs.close()

    # --- records ------------------------------------------------------------------------------------------------

    def _record(self, run: WorkflowRun, record: Any) -> None:
        try:
            data = self._recorder.encode(run, record)
        except Exception as error:
            self._controller.abandon(run, error)
            return
        batch = self._controller.batch
        batch.records.append(data)
        if self._watch_records and type(record) is records.Outcome and record.payload is not None:
            batch.outcomes.append((run, run.state.nodes[record.task_id]))

    def _persist(self, run: WorkflowRun, command: ev.Persist) -> None:
        """Make a value durable that its mode alone would not have stored."""
        attempt = command.attempt
        if self._blobs is None:
            self._blobs = self._controller.runtime.workers("exoflow-blobs", 4)
        self._attempts.outstanding[attempt] = run, command.node
        key = blob_key(run.workflow_id, attempt, 0)
        self._blobs.submit(partial(self._persist_now, command.node, command.node.value, attempt, key))

    def _persist_now(self, node: NodeState, value: Value, attempt: str, key: str) -> None:
        try:
            event = make_durable(attempt, node.task_id, value, store=self._store, codec=self._codec, blob_key=key)
        except BaseException as error:  # a simulated crash, which nobody waits for here
            event = ev.CommitFailed(attempt, error)
        self._controller.report(event)

    # --- calls --------------------------------------------------------------------------------------------------

    def _run(self, run: WorkflowRun, command: ev.Run) -> None:
        node: NodeState = command.node
        attempt = command.attempt
        if run.poisoned and attempt in run.poisoned:
            self._mail.append(ev.Failed(attempt, run.poisoned[attempt]))
            return
        if self._teller is not None:
            self._teller.tell(Moment.TASK_RETRIED if node.number > 1 else Moment.TASK_STARTED, run, node)
        if self._points is not None:
            try:
                self._points.at(FailurePoint.BEFORE_RUN, run, node, attempt)
            except Exception as error:
                self._mail.append(failure_of(attempt, error))
                return
        timeout_s = node.spec.task.policy.timeout_s
        if timeout_s is not None:
            self._attempts.limit(
                attempt, self._controller.later(timeout_s, partial(self._timed_out, run, node, attempt))
            )
        self._start(run, node, call_of(run, command))

    def _start(self, run: WorkflowRun, node: NodeState, call: Call) -> None:
        try:
            self._attempts.start(run, node, call)
        except Exception as error:
            failed = ev.Failed if call.kind is CallKind.TASK else ev.UndoFailed
            self._mail.append(failed(call.attempt, error))

    def _never_ran(self, run: WorkflowRun, node: NodeState, attempt: str) -> None:
        """Say of an attempt whose intent is durable that nothing came of it: the engine closes before it began."""
        if node.effects is Effects.ROLLBACK:
            undone = records.UndoRecord(run.workflow_id, node.task_id, attempt)
            self._controller.batch.records.append(records.encode(undone))
        elif node.effects is Effects.ONCE:
            settled = records.Settlement(run.workflow_id, node.task_id, attempt, False)
            self._controller.batch.records.append(records.encode(settled))

    def _timed_out(self, run: WorkflowRun, node: NodeState, attempt: str) -> None:
        if not self._attempts.expire(attempt) or node.attempt != attempt or node.phase is not Phase.RUNNING:
            return
        policy = node.spec.task.policy
        log.warning("%s: task %s ran past its timeout of %s s", run.workflow_id, node.task_id, policy.timeout_s)
        self._mail.append(ev.Failed(attempt, TaskTimeoutError(node.task_id, policy.timeout_s or 0.0), ended=False))
        if node.effects is not Effects.ONCE or policy.resolve is not None:
            # Of a once task that nobody could ask about afterwards, the outcome is worth waiting for.
            self._attempts.stop(node, attempt)

    def _stop(self, run: WorkflowRun, command: ev.Stop) -> None:
        if self.backlog.pop(command.attempt, None) is not None:
            self._mail.append(ev.Ended(command.attempt))
            return
        node = run.state.node_of(command.attempt)
        if node is not None:
            self._attempts.stop(node, command.attempt)

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
        self._controller.expect(run, attempt)
        if self._reached(FailurePoint.BEFORE_UNDO, run, node, attempt):
            self._start(run, node, call_undo(run, node, attempt, payload))

    def _resolve(self, run: WorkflowRun, command: ev.Resolve) -> None:
        node: NodeState = command.node
        self._controller.expect(run, command.attempt)
        if self._reached(FailurePoint.BEFORE_RESOLVE, run, node, command.attempt):
            self._start(run, node, call_resolve(run, node, command.attempt, command.key))

    def _reached(self, point: FailurePoint, run: WorkflowRun, node: NodeState, attempt: str) -> bool:
        """Whether the call behind *point* is to be made."""
        if self._points is not None:
            try:
                self._points.at(point, run, node, attempt)
            except Exception as error:
                self._mail.append(ev.UndoFailed(attempt, error))
                return False
        return True

    # --- timers and messages ------------------------------------------------------------------------------------

    def _arm(self, run: WorkflowRun, command: ev.Arm) -> None:
        attempt = command.attempt
        runtime = self._controller.runtime
        if command.delay_s is not None:
            delay = command.delay_s * (1.0 - command.jitter * runtime.random())
        else:
            deadline = command.deadline
            if deadline is None:
                try:
                    args, _ = arguments_of(command.node, self._codec, self._store)
                    deadline = runtime.time() + float(args[0])
                except Exception as error:
                    self._mail.append(ev.Failed(attempt, error, system=isinstance(error, ExoFlowError)))
                    return
                self._mail.append(ev.Armed(attempt, deadline))
            delay = deadline - runtime.time()
        self._controller.later(delay, partial(self._mail.append, ev.Fired(attempt)))

    def _listen(self, run: WorkflowRun, command: ev.Listen) -> None:
        node: NodeState = command.node
        timeout_s = node.spec.kwargs.get("timeout_s")
        if timeout_s is not None:
            now, deadline = self._controller.runtime.time(), command.deadline
            if deadline is None:
                deadline = now + timeout_s
                self._mail.append(ev.Armed(command.attempt, deadline))
            self._controller.later(deadline - now, partial(self._mail.append, ev.Fired(command.attempt)))
        self._controller.listener.listen(run, node.spec.args[0], command.attempt)

    def _discard(self, run: WorkflowRun, command: ev.Discard) -> None:
        self._controller.listener.discard(run, command.key)

    # --- answers ------------------------------------------------------------------------------------------------

    def _answer(self, run: WorkflowRun, command: ev.Answer) -> None:
        if self._points is not None:
            self._points.reach(FailurePoint.BEFORE_ANSWER, workflow_id=run.workflow_id)
        if self._teller is not None:
            problem = str(command.error) if command.error is not None else ""
            self._teller.tell(Moment.WORKFLOW_ENDED, run, problem=problem)
        settle = self._controller.settle
        if command.status == "succeeded":
            value = command.node.value if command.node.value is not None else command.node.payload
            settle(run, None, value)
        elif command.status == "cancelled" and command.error is None:
            settle(run, WorkflowCancelledError(run.workflow_id))
        else:
            error = command.error or ExoFlowError(f"{run.workflow_id}: {command.status}")
            if command.status == "attention":
                # Whoever settles it may be another process: give it up before anybody is told.
                self._controller.release(run, error)
            else:
                settle(run, error)


_CARRY_OUT: dict[type, Callable[[Commands, WorkflowRun, Any], None]] = {
    ev.Persist: Commands._persist,
    ev.Undo: Commands._undo,
    ev.Resolve: Commands._resolve,
    ev.Stop: Commands._stop,
    ev.Arm: Commands._arm,
    ev.Listen: Commands._listen,
    ev.Discard: Commands._discard,
    ev.Answer: Commands._answer,
}
