"""How a workflow ends: the first record of an end counts, and a failed or cancelled workflow is undone after it."""

from exoflow.engine import events as ev
from exoflow.engine.growth import answer_to
from exoflow.engine.machine import INTENDED
from exoflow.engine.matching import is_one_of
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.starting import Starting
from exoflow.errors import NeedsAttentionError, TaskFailedError
from exoflow.journal.records import Attention, End, UndoRecord
from exoflow.tasks.policy import Effects
from exoflow.values import Live

__all__ = ["Ending"]

_REASON_LENGTH = 200


class Ending(Starting):
    """Decides the end, rolls back, answers; and starts again after a recovery has undone what was superseded."""

    def _result_finished(self, node: NodeState) -> None:
        if self.ended is not None:
            return
        if not node.committed:
            self._commit(node)
            if not node.committed:
                return
        if self._answer_node is None:
            self._answer_node = answer_to(node)
            self._await_settled(self._answer_node)

    def _succeed(self, node: NodeState) -> None:
        self.ended = "succeeded"
        self._log(End(self.workflow_id, "succeeded", node.task_id, self.now, "", node.payload), self._succeeded, node)
        self._end_position = self._logged

    def _succeeded(self, node: NodeState) -> None:
        self._discard_cancel()
        self._answer(node)

    def _answer(self, node: NodeState | None) -> None:
        if not self._answered:
            self._answered = True
            assert self.ended is not None
            self._out.append(ev.Answer(self.ended, node, self.error))

    def _fail(self, node: NodeState, error: BaseException) -> None:
        if self.ended is not None:
            self._roll_back_if_idle()
            return
        node.phase = Phase.DROPPED if node.phase is not Phase.FINISHED else node.phase
        failure = TaskFailedError(self.workflow_id, node.task_id, f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        self._end("failed", node.task_id, failure, error)

    def _on_cancelled(self, event: ev.Cancelled) -> None:
        if event.key is not None:
            self._cancel_key = event.key
        if self.ended in (None, "attention"):
            self._end("cancelled", "", None, None)
        elif self._acked >= self._end_position:
            self._discard_cancel()

    def _end(self, status: str, task_id: str, failure: BaseException | None, error: BaseException | None) -> None:
        self.ended, self.error = status, failure
        self._log(
            End(self.workflow_id, status, task_id, self.now, _in_a_line(error), None if error is None else Live(error)),  # type: ignore[arg-type]
            self._end_durable, None,
        )  # fmt: skip
        self._end_position = self._logged
        for attempt, node in self._by_attempt.items():
            # What a once task did must be known: it is left to finish.
            if node.phase is Phase.RUNNING and node.spec.kind == "task" and node.effects is not Effects.ONCE:
                self._out.append(ev.Stop(attempt))
        self._drop_waiting()
        self._find_out()

    def _drop_waiting(self) -> None:
        """Forget what runs nowhere: timers, retries, waits for messages."""
        for node in self._by_attempt.values():
            if node.phase is Phase.BACKOFF or (node.phase is Phase.RUNNING and node.spec.kind != "task"):
                self._waiting_outside -= node.phase is Phase.RUNNING
                self._running -= 1
                node.phase = Phase.DROPPED

    def _end_durable(self, node: NodeState | None) -> None:
        self._discard_cancel()
        self._roll_back_if_idle()

    def _discard_cancel(self) -> None:
        # Not before there is an end: a crash would else forget that somebody wished for one.
        if self._cancel_key is not None:
            self._out.append(ev.Discard(self._cancel_key))
            self._cancel_key = None

    def _after_end(self, node: NodeState, *, ended: bool, lost: bool) -> None:
        """An attempt ended, or was given up, after the workflow's end was decided."""
        if not ended and node.effects in INTENDED:
            node.phase = Phase.ENDING
            self._running += 1
            return
        if node.effects is Effects.ONCE and lost:
            self._clear_up(node)
            return
        node.phase = Phase.DROPPED
        if node.effects is Effects.ONCE:
            error = node.awaited_error
            assert error is not None
            if is_one_of(error, node.spec.task.policy.not_happened):
                self._did_not_happen(node)
            else:
                self._record_error(node, error)
        self._roll_back_if_idle()

    def _record_error(self, node: NodeState, error: BaseException) -> None:
        """The exception of a once task is its outcome."""
        if not node.keep_incarnation:
            node.incarnation = node.attempt
        node.what, node.payload = "error", Live(error)
        self._log_outcome(node, keep=True)

    def _roll_back_if_idle(self) -> None:
        """Undo, in reverse causal order, once the end is durable and every attempt has ended."""
        if self.ended not in ("failed", "cancelled") or self._attention or not self.idle or self._answered:
            return
        if self.to_undo:
            if not self._abandoned:
                self._undo_next()
        elif self._rolled_back:
            self._rolled_back = False
            self._log(End(self.workflow_id, "rolled_back", "", self.now), self._answer, None)
        else:
            self._answer(None)

    def _undo_next(self) -> None:
        # Intents were logged after everything their attempts read, so the reverse of the log is causal.
        attempt, (node, intent) = next(reversed(self.to_undo.items()))
        self._undoing = attempt
        self._rolled_back = self._rolled_back or self.ended is not None
        self._running += 1
        self._out.append(ev.Undo(node, attempt, intent))

    def _rolled_one_back(self) -> None:
        attempt, (node, _) = self.to_undo.popitem()
        self._undoing = None
        self._running -= 1
        self._log(UndoRecord(self.workflow_id, node.task_id, attempt), None, None)
        if self.ended is not None:
            self._roll_back_if_idle()
            return
        self.superseded -= 1
        if self.superseded > 0:
            self._undo_next()
        else:
            self._start_again()

    def _start_again(self) -> None:
        """Set going what recovery left to do, now that nothing superseded is left in the world."""
        if self.failed is not None:
            self._fail(*self.failed)
            return
        self._find_out()
        for node in list(self.nodes.values()):
            if node.phase is Phase.WAITING and node.waiting == 0:
                self._ready(node)
        result = self.result_node.provider or self.result_node
        if result.finished:
            self._todo.append((self._result_finished, result))

    def _find_out(self) -> None:
        """Ask about the once attempts of which recovery knows no end, whatever becomes of the workflow."""
        unresolved, self.unresolved = self.unresolved, []
        if self.ended is not None:  # nothing will be made again first
            unresolved.extend(self.unasked)
            self.unasked.clear()
        for node in unresolved:
            self._clear_up(node)

    def _need_attention(
        self, node: NodeState, reason: str, attempt: str = "", error: BaseException | None = None
    ) -> None:
        node.phase = Phase.ATTENTION
        self._attention = True
        self._log(Attention(self.workflow_id, node.task_id, attempt or node.attempt, reason), None, None)
        self.ended = self.ended or "attention"
        before, self.error = self.error, NeedsAttentionError(self.workflow_id, node.task_id, reason)
        self.error.__cause__ = error or before
        self._drop_waiting()


def _in_a_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _REASON_LENGTH else f"{text[: _REASON_LENGTH - 3]}..."
