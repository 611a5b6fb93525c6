"""One workflow as a state machine: events in, commands out, nothing else.

No I/O, no clock, no randomness: the driver passes the time in, attempt ids are counted, and what the
machine asks for it gets told as an event. A test can therefore drive any interleaving and stop between any two
events. All cascades are loops, so that neither long chains nor deep continuations meet Python's recursion limit.
"""

from collections.abc import Callable
from typing import Any

from exoflow.engine import events as ev
from exoflow.engine.failing import Failing
from exoflow.engine.node_state import NodeState
from exoflow.engine.settled import Walk
from exoflow.journal.records import Submission

__all__ = ["WorkflowState"]


class WorkflowState(Failing):
    """The pure core of one workflow's execution: what to do about everything that happens to it. Made as `Machine` says."""

    def begin(self, submission: Submission, now: float) -> list[ev.Command]:
        """Start from nothing: log the submission, run what needs nothing."""
        self.now = now
        self._base = 1  # the submission's own position: the arguments are settled once that is durable
        self._log(submission, None, None)
        for node in list(self.nodes.values()):
            if node.waiting == 0:
                self._ready(node)
        return self._drain()

    def go_on(self, now: float) -> list[ev.Command]:
        """Start from a state that `exoflow.engine.restoring` has filled, whose records are durable."""
        self.now = now
        self._base = 0
        if self.ended == "succeeded":
            self._answer(self.result_node.provider or self.result_node)
        elif self.unended:
            node, attempt = self.unended[0]
            self._need_attention(
                node, "its attempt began in a process that is not heard any more, and may still run", attempt
            )
        elif self.ended is not None:
            self._find_out()
            self._roll_back_if_idle()
        elif self.superseded:
            self._undo_next()
        else:
            self._start_again()
        return self._drain()

    def handle(self, event: ev.Event, now: float) -> list[ev.Command]:
        """Take one event; return what is to be done about it, in order.

        Args:
            event: What happened. One that names an attempt that is not current changes nothing.
            now: Seconds since the epoch, for records.

        Returns:
            Commands. Those of kind `Commit` go into one batch of the journal, in this order.
        """
        self.now = now
        _HANDLERS[type(event)](self, event)
        return self._drain()

    def node_of(self, attempt: str) -> NodeState | None:
        """The node whose current attempt this is."""
        return self._by_attempt.get(attempt)

    def _on_committed(self, event: ev.Committed) -> None:
        for _ in range(event.count):
            action, node = self._acks.popleft()
            self._acked += 1
            if action is not None:
                action(node)
            for waiter in self._at_position.pop(self._acked, ()):
                self._todo.append((self._await_settled, waiter))
        if self.ended is not None:
            self._roll_back_if_idle()

    def _drain(self) -> list[ev.Command]:
        todo = self._todo
        while True:
            while todo:
                step, node = todo.popleft()
                step(node)
            if self.ended is not None or not self._parked:
                break
            if self._running <= self._waiting_outside and not self._persisting and not self._acks:
                # Nothing that could close what the effects wait for is under way: they wait for each other.
                for effect in list(self._parked):
                    walk: Walk = effect.walk
                    blocker = walk.go_on()
                    if blocker is None:
                        todo.append((self._await_settled, effect))
                    else:
                        self._commit(blocker)
                if todo:
                    continue
            break
        if self._attention and not self._answered and self.idle:
            self._answered = True
            self._out.append(ev.Answer("attention", None, self.error))
        out, self._out = self._out, []
        return out


_HANDLERS: dict[type, Callable[[WorkflowState, Any], None]] = {
    ev.Finished: WorkflowState._on_finished,
    ev.Failed: WorkflowState._on_failed,
    ev.Ended: WorkflowState._on_ended,
    ev.Persisted: WorkflowState._on_persisted,
    ev.CommitFailed: WorkflowState._on_commit_failed,
    ev.Committed: WorkflowState._on_committed,
    ev.Undone: WorkflowState._on_undone,
    ev.UndoFailed: WorkflowState._on_undo_failed,
    ev.Resolved: WorkflowState._on_resolved,
    ev.Armed: WorkflowState._on_armed,
    ev.Fired: WorkflowState._on_fired,
    ev.Received: WorkflowState._on_received,
    ev.Cancelled: WorkflowState._on_cancelled,
}
