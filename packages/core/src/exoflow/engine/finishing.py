"""Outcomes: what follows from a value, a continuation, a message or a timer."""

from typing import Any

from exoflow.engine import events as ev
from exoflow.engine.ending import Ending
from exoflow.engine.machine import INTENDED
from exoflow.engine.node_state import NodeState, Phase
from exoflow.errors import TaskTimeoutError
from exoflow.graph.dag import Dag
from exoflow.journal.records import TimerArmed
from exoflow.tasks.policy import Checkpoint, Effects
from exoflow.values import Live

__all__ = ["Finishing"]


class Finishing(Ending):
    """Gives nodes their outcomes."""

    def _on_finished(self, event: ev.Finished) -> None:
        self._let_go(event.attempt)
        node = self._by_attempt.get(event.attempt)
        if node is None:
            return
        if node.phase is Phase.ENDING:
            self._late_outcome(node, event)
            return
        if node.phase is not Phase.RUNNING:
            return
        node.seconds = event.seconds
        if event.continuation is not None:
            node.what = "continuation"
            self._finish(node, Live(event.continuation), event.payload)
            return
        node.what = "value"
        mode = node.mode
        if mode is Checkpoint.AUTO:
            node.mode = Checkpoint.ASYNC if event.worth_keeping else Checkpoint.SKIP
        self._finish(node, event.value, event.payload)

    def _late_outcome(self, node: NodeState, event: ev.Finished) -> None:
        """An attempt past its timeout returned after all. A once task has then happened, and this is its value."""
        if node.effects is Effects.ONCE and event.continuation is None:
            node.what = "value"
            node.seconds = event.seconds
            self._finish(node, event.value, event.payload)
        else:
            self._ended_at_last(node)

    def _ended_at_last(self, node: NodeState) -> None:
        self._running -= 1
        if self.ended is not None and self.ended != "attention":
            self._after_end(node, ended=True, lost=True)
        else:
            self._clear_up(node)

    def _let_go(self, attempt: str) -> None:
        if attempt in self._abandoned:
            self._abandoned.remove(attempt)
            if self.ended is not None:
                self._roll_back_if_idle()

    def _finish(self, node: NodeState, value: Any, payload: Any) -> None:
        """Give *node* its outcome."""
        node.phase = Phase.FINISHED
        self._running -= 1
        if not node.keep_incarnation:
            node.incarnation = node.attempt
        node.value = value
        node.payload = payload
        for read in node.reads:
            read.pending_readers -= 1
            if read.pending_readers == 0:
                self._release(read)
        if self.ended is not None and self.ended != "attention":
            # Nobody will read it; an effect's completion is worth knowing all the same.
            if node.effects is not Effects.NONE:
                self._log_outcome(node, keep=False)
            self._roll_back_if_idle()
            return
        if node.what == "continuation":
            self._grow(node, value.value)
        if node.watchers:
            self._wake(node)
        mode = node.mode
        if payload is not None:
            self._log_outcome(node, keep=True)
        elif mode is Checkpoint.SKIP or mode is Checkpoint.AUTO:
            effect = node.effects is not Effects.NONE
            if node.must_commit or node.is_result or (effect and node.what == "continuation"):
                self._commit(node)
            if effect and not node.committed:
                self._log_outcome(node, keep=False)
        elif node.what in ("caught", "fired"):
            node.payload = value
            self._log_outcome(node, keep=True)
        else:
            # Under sync and async the executor makes it durable unasked, and says so.
            node.committing = True
            self._persisting += 1
        if self.growth.order_readers and node in self.growth.order_readers and not node.traced:
            # Those that only come after it do not read it. Had no record told of it, though, it would have to run
            # again before them, and ask again for what it read.
            self._tell_of([node])
        if mode is not Checkpoint.SYNC:
            self._deliver(node, None)
        elif node.committed:
            self._deliver(node, True)
        if not node.committing:
            self._by_attempt.pop(node.attempt, None)
        self._close(node)
        if node.is_result and node.committed:
            self._result_finished(node)

    def _grow(self, node: NodeState, dag: Dag) -> None:
        self.growth.grow(node, dag)
        for child in node.readers:
            child.waiting += 1  # for the node that made it, like for any other it reads

    def _on_persisted(self, event: ev.Persisted) -> None:
        node = self._by_attempt.get(event.attempt)
        if node is None or not node.committing or node.committed:
            return
        node.payload = event.payload
        if self.ended is not None and self.ended != "attention":
            if node.effects is not Effects.NONE and not node.completed:
                self._log_outcome(node, keep=True)
            else:
                node.committing = False
                self._persisting -= 1
            self._roll_back_if_idle()
            return
        self._log_outcome(node, keep=True)
        if node.mode is Checkpoint.SYNC:
            self._deliver(node, True)
        if node.is_result:
            self._result_finished(node)

    def _on_commit_failed(self, event: ev.CommitFailed) -> None:
        node = self._by_attempt.get(event.attempt)
        if node is None or not node.committing:
            return
        node.committing = False
        self._persisting -= 1
        if node.effects is not Effects.NONE and not node.completed:
            self._log_outcome(node, keep=False)  # it happened; only its value cannot be kept
        self._fail(node, event.error)

    def _on_armed(self, event: ev.Armed) -> None:
        node = self._by_attempt.get(event.attempt)
        if node is None or node.phase is not Phase.RUNNING:
            return
        node.deadline = event.deadline
        self._log(TimerArmed(self.workflow_id, node.task_id, event.deadline), None, None)

    def _on_fired(self, event: ev.Fired) -> None:
        node = self._by_attempt.get(event.attempt)
        if node is None:
            return
        if node.phase is Phase.BACKOFF:
            self._running -= 1
            self._by_attempt.pop(event.attempt, None)
            if self.ended is not None:
                node.phase = Phase.DROPPED
                self._roll_back_if_idle()
            elif node.effects in INTENDED:
                self._intend(node)
            else:
                self._start(node)
        elif node.phase is Phase.RUNNING and node.spec.kind != "task":
            self._waiting_outside -= 1
            if node.spec.kind == "sleep":
                node.what = "fired"
                self._finish(node, Live(None), None)
                return
            default = node.spec.kwargs
            if "default" in default:
                node.what = "fired"
                self._finish(node, Live(default["default"]), None)
            else:
                self._running -= 1
                self._fail(node, TaskTimeoutError(node.task_id, default.get("timeout_s") or 0.0))

    def _on_received(self, event: ev.Received) -> None:
        node = self._by_attempt.get(event.attempt)
        if node is None or node.phase is not Phase.RUNNING:
            return
        self._waiting_outside -= 1
        node.what = "message"
        node.message_key = event.key
        self._finish(node, event.payload, event.payload)
