"""What cannot be an outcome yet: attempts that raised, timed out or were lost, and the questions about them."""

from exoflow.engine import events as ev
from exoflow.engine.finishing import Finishing
from exoflow.engine.machine import INTENDED
from exoflow.engine.matching import is_one_of
from exoflow.engine.node_state import NodeState, Phase
from exoflow.errors import TaskLostError, TaskTimeoutError
from exoflow.journal.records import UndoRecord
from exoflow.tasks.policy import Effects
from exoflow.values import Live

__all__ = ["Failing"]


class Failing(Finishing):
    """Retries, undoes, or asks what became of an attempt; else the failure is the outcome."""

    def _on_failed(self, event: ev.Failed) -> None:
        if event.ended:
            self._let_go(event.attempt)
        node = self._by_attempt.get(event.attempt)
        if node is None:
            return
        if node.phase is Phase.ENDING:
            self._ended_at_last(node)
            return
        if node.phase is not Phase.RUNNING:
            return
        node.seconds = event.seconds
        node.awaited_error = event.error
        node.lost = event.system
        lost = event.system or isinstance(event.error, TaskTimeoutError)
        if event.system:
            node.system_failures += 1
        else:
            node.failures += 1
        self._running -= 1
        if node.spec.kind != "task":
            self._waiting_outside -= 1
        if not event.ended and node.effects is Effects.IDEMPOTENT:
            self._abandoned.add(event.attempt)
        if self.ended is not None and self.ended != "attention":
            self._after_end(node, ended=event.ended, lost=lost)
            return
        if node.effects in INTENDED and (lost or node.effects is Effects.ROLLBACK):
            if not event.ended and not node.spec.task.policy.fences:
                node.phase = Phase.ENDING
                self._running += 1
                return
            self._clear_up(node)
            return
        self._retry_or_fail(node)

    def _on_ended(self, event: ev.Ended) -> None:
        self._let_go(event.attempt)
        node = self._by_attempt.get(event.attempt)
        if node is not None and node.phase is Phase.ENDING:
            self._ended_at_last(node)
        elif node is not None and node.phase is Phase.RUNNING:
            if self.ended is None or self.ended == "attention":
                # Nobody asked for it: whoever ran it let go of it before it began, or was killed.
                self._on_failed(ev.Failed(event.attempt, TaskLostError(node.task_id, "it was stopped"), system=True))
                return
            self._running -= 1
            self._after_end(node, ended=True, lost=True)

    def _clear_up(self, node: NodeState) -> None:
        """Undo, or find out about, an attempt that has ended without an outcome."""
        if node.effects is Effects.ROLLBACK:
            node.phase = Phase.UNDOING
            self._running += 1
            self._out.append(ev.Undo(node, node.attempt, node.intent))
        elif node.spec.task.policy.resolve is not None:
            node.phase = Phase.RESOLVING
            self._running += 1
            self._out.append(ev.Resolve(node, node.attempt, self.key_of(node)))
        else:
            self._need_attention(node, "an attempt did not finish, and the task has no resolve=... to say what it did")

    def _on_undone(self, event: ev.Undone) -> None:
        if event.attempt == self._undoing:
            self._rolled_one_back()
            return
        node = self._by_attempt.get(event.attempt)
        if node is None or node.phase is not Phase.UNDOING:
            return
        self._running -= 1
        self.to_undo.pop(node.attempt, None)
        self._log(UndoRecord(self.workflow_id, node.task_id, node.attempt), None, None)
        if self.ended is not None and self.ended != "attention":
            node.phase = Phase.DROPPED
            self._roll_back_if_idle()
        else:
            self._retry_or_fail(node)

    def _on_undo_failed(self, event: ev.UndoFailed) -> None:
        if event.attempt == self._undoing:
            node = self.to_undo[event.attempt][0]
            self._undoing = None
            self._running -= 1
        else:
            found = self._by_attempt.get(event.attempt)
            if found is None or found.phase not in (Phase.UNDOING, Phase.RESOLVING):
                return
            node = found
            self._running -= 1
        what = "undo" if node.effects is Effects.ROLLBACK else "resolve"
        self._need_attention(node, f"its {what} raised {event.error!r}", event.attempt, event.error)

    def _on_resolved(self, event: ev.Resolved) -> None:
        node = self._by_attempt.get(event.attempt)
        if node is None or node.phase is not Phase.RESOLVING:
            return
        if event.happened is None:
            self._running -= 1
            self._need_attention(node, "its resolve does not know either whether the effect happened")
            return
        if event.happened:
            node.what = "value"
            self._finish(node, event.value, event.payload)
            return
        self._running -= 1
        self._did_not_happen(node)
        if self.ended is not None and self.ended != "attention":
            node.phase = Phase.DROPPED
            self._roll_back_if_idle()
        elif node.awaited_error is None:
            # After a crash: it had not happened, so it is simply due, once what it reads is there again.
            self._by_attempt.pop(node.attempt, None)
            node.phase = Phase.WAITING
            if node.waiting == 0:
                self._ready(node)
        else:
            self._retry_or_fail(node)

    def _retry_or_fail(self, node: NodeState) -> None:
        policy, error = node.spec.task.policy, node.awaited_error
        assert error is not None
        self._by_attempt.pop(node.attempt, None)
        if node.lost:
            again, count = node.system_failures <= policy.system_retries, node.system_failures
        elif node.effects is Effects.ONCE and not is_one_of(error, policy.not_happened):
            # Its exception is its outcome. After a timeout, resolve has said that nothing happened.
            again, count = isinstance(error, TaskTimeoutError) and node.failures <= policy.retries, node.failures
        else:
            again = node.failures <= policy.retries and is_one_of(error, policy.retry_on)
            count = node.failures
        if node.effects is Effects.ONCE and is_one_of(error, policy.not_happened):
            self._did_not_happen(node)
        if again and self.ended is None:
            node.phase = Phase.BACKOFF
            self._new_attempt(node)
            self._running += 1
            delay = min(policy.retry_delay_s * 2.0 ** (count - 1), policy.retry_delay_max_s)
            self._out.append(ev.Arm(node.attempt, delay_s=delay, jitter=policy.retry_jitter))
            return
        if again and self.ended == "attention":
            node.phase = Phase.DROPPED  # it is tried again when somebody has said what became of the other
            return
        self._running += 1  # `_finish` and `_fail` take it off again
        if node.catch:
            if isinstance(error, TaskTimeoutError) and node.effects not in INTENDED:
                self._new_attempt(node)  # what the other may still report is not about this outcome
            node.what = "caught"
            node.deterministic = False
            node.phase = Phase.RUNNING
            self._finish(node, Live((None, error)), None)
            return
        self._running -= 1
        if node.effects is Effects.ONCE:
            self._record_error(node, error)
        self._fail(node, error)
