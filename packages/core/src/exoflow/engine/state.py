"""One workflow as a state machine: events in, commands out, nothing else.

No I/O, no clock, no randomness: the driver passes the time in, attempt ids are counted, and what the
machine asks for it gets told as an event. A test can therefore drive any interleaving and stop between any two
events. All cascades are loops, so that neither long chains nor deep continuations meet Python's recursion limit.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from exoflow.engine import events as ev
from exoflow.engine.growth import Growth, answer_to, connect
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.settled import Walk, closes_without, needed_for
from exoflow.errors import NeedsAttentionError, TaskFailedError, TaskLostError, TaskTimeoutError
from exoflow.graph.dag import Dag
from exoflow.journal.records import Attention, End, Intent, Outcome, Settlement, Submission, TimerArmed, UndoRecord
from exoflow.tasks.policy import Checkpoint, Effects
from exoflow.values import Live

__all__ = ["WorkflowState"]

_INTENT = (Effects.ROLLBACK, Effects.ONCE)


class WorkflowState:
    """The pure core of one workflow's execution.

    Args:
        dag: What to run.
        workflow_id: Its id.
        generation: How often the id has been used before, plus one; part of idempotency keys.
        prefix: Attempts are named ``<prefix>.<counter>``; a prefix is never used for two states.
    """

    def __init__(self, dag: Dag, *, workflow_id: str, generation: int, prefix: str) -> None:
        self.workflow_id = workflow_id
        self.generation = generation
        self.ended: str | None = None
        """``succeeded``, ``failed`` or ``cancelled`` once that is in the log; ``attention`` when it stopped."""
        self.error: BaseException | None = None
        self._prefix = prefix
        self._counter = 0
        self.now = 0.0
        self._out: list[ev.Command] = []
        self._todo: deque[tuple[Callable[[NodeState], None], NodeState]] = deque()
        self._by_attempt: dict[str, NodeState] = {}
        self._logged = 0
        self._acked = 0
        self._acks: deque[tuple[Callable[[NodeState], None] | None, Any]] = deque()
        self._at_position: dict[int, list[NodeState]] = {}
        self._parked: dict[NodeState, None] = {}
        self._running = 0
        self._persisting = 0
        self._waiting_outside = 0
        """Sleeps and waits: running, but not for long-run progress of anything else."""
        self.to_undo: dict[str, tuple[NodeState, Any]] = {}
        """Attempts of rollback tasks that are in the world, in the order of their intents, with those."""
        self._undoing: str | None = None
        self._rolled_back = False
        self._answered = False
        self._abandoned: set[str] = set()
        """Attempts of idempotent tasks that were given up and may still act."""
        self._cancel_key: str | None = None
        self._end_position = 0
        self._attention = False
        self._base = 1
        self.superseded = 0
        """How many of the last entries of `to_undo` recovery must undo before anything starts."""
        self.failed: tuple[NodeState, BaseException] | None = None
        """A task whose recorded outcome is an error nobody catches."""
        self.unresolved: list[NodeState] = []
        """Once tasks of which recovery knows an intent and no end: whether they happened is asked first."""
        self.unasked: dict[NodeState, None] = {}
        """Those that will be asked about when what they read has been made again, by other code than before."""
        self.growth = Growth(dag)
        self.nodes = self.growth.nodes
        self.result_node = self.growth.root
        self._answer_node: NodeState | None = None

    # --- entry points -------------------------------------------------------------------------------------------

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

    def key_of(self, node: NodeState) -> str:
        """The idempotency key of a node's current attempt."""
        if node.effects is Effects.ROLLBACK:
            return node.attempt
        return f"{self.workflow_id}/{self.generation}/{node.task_id}"

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing is on its way to the store."""
        return not (self._running or self._persisting or self._acks)

    # --- starting -----------------------------------------------------------------------------------------------

    def _ready(self, node: NodeState) -> None:
        if self.ended is not None:
            return
        node.reads = connect(node)
        kind = node.spec.kind
        if node.effects is Effects.NONE and (kind == "task" or not (node.spec.deps or kind == "event")):
            self._start(node)
        elif node.effects is Effects.ROLLBACK:
            self._intend(node)
        else:
            self._await_settled(node)

    def _await_settled(self, node: NodeState) -> None:
        """Start an effect, or give the answer, once what it reads is settled.

        A message is taken for good and a deadline holds for good: whoever waits for one must not be superseded either.
        """
        if self.ended is not None or node.phase not in (Phase.WAITING, Phase.PARKED):
            return
        walk: Walk | None = node.walk
        if walk is None:
            if not node.reads and self._acked >= self._base:  # nothing to look at: the usual first task
                if node.effects is Effects.ONCE:
                    self._intend(node)
                else:
                    self._start(node)
                return
            node.phase = Phase.PARKED
            needed = needed_for(node.reads)
            if needed < 0:
                node.walk = walk = Walk(node.reads)
                for read in node.reads:
                    if not read.deterministic:
                        self._commit(read)  # it stays open at least as long as this effect, its reader, has not finished
        if walk is not None:
            blocker = walk.go_on()
            if blocker is not None:
                self._parked[node] = None
                _watch(blocker, node)
                for crossed in walk.crossed:
                    _watch(crossed, node)
                walk.crossed.clear()
                self._unblock(node, walk.root, blocker)
                return
            needed = walk.needed
        self._parked.pop(node, None)
        # An intent and the answer are records themselves: they cannot be durable before what was logged earlier.
        needed = max(needed, self._base)
        if node.parent is not None and node.effects is Effects.IDEMPOTENT:
            # Its key names the incarnation that made it. Even a deterministic one would come back under another
            # name, had no record told of it.
            self._trace(node)
            needed = max(needed, node.parent.position)
        if node.effects is Effects.IDEMPOTENT and self._acked < needed:
            self._at_position.setdefault(needed, []).append(node)
            return
        node.walk = None
        if node is self._answer_node:
            self._succeed(node.reads[0])
        elif node.effects is Effects.ONCE:
            if node in self.unasked:
                del self.unasked[node]
                node.intent = None  # should it have happened, its record names what there is to read now
                self._clear_up(node)
            else:
                self._intend(node)
        else:
            self._start(node)

    def _unblock(self, effect: NodeState, root: NodeState | None, blocker: NodeState) -> None:
        """Commit what only *effect* and its descendants would close; else wait for somebody else to close it."""
        if root is not None and not root.committed:
            # Nearest to the effect: often a small value made from a large one.
            self._commit(root)
            if root is not blocker and not root.committed:
                _watch(root, effect)
        elif not closes_without(blocker, effect):
            self._commit(blocker)

    def _intend(self, node: NodeState) -> None:
        self._new_attempt(node)
        node.phase = Phase.INTENDING
        reads = tuple(read.incarnation for read in node.reads)
        self._trace(node)
        node.intent = Intent(self.workflow_id, node.task_id, node.attempt, self.key_of(node), reads)
        if node.effects is Effects.ROLLBACK:
            self.to_undo[node.attempt] = (node, node.intent)
        self._log(node.intent, self._intended, node)

    def _intended(self, node: NodeState) -> None:
        if node.phase is not Phase.INTENDING:
            return
        if self.ended is None:
            self._run(node)
            return
        # The workflow ended before the attempt began: nothing happened, and that is known.
        node.phase = Phase.DROPPED
        if node.effects is Effects.ROLLBACK:
            self.to_undo.pop(node.attempt, None)
            self._log(UndoRecord(self.workflow_id, node.task_id, node.attempt), None, None)
        else:
            self._did_not_happen(node)

    def _start(self, node: NodeState) -> None:
        self._new_attempt(node)
        self._run(node)

    def _new_attempt(self, node: NodeState) -> None:
        self._counter += 1
        node.attempt = attempt = f"{self._prefix}.{self._counter}"
        self._by_attempt[attempt] = node

    def _run(self, node: NodeState) -> None:
        node.phase = Phase.RUNNING
        node.number += 1
        node.started_at = self.now
        self._running += 1
        kind = node.spec.kind
        if kind == "task":
            self._out.append(ev.Run(node, node.attempt))
            return
        self._waiting_outside += 1
        if kind == "sleep":
            self._out.append(ev.Arm(node.attempt, deadline=node.deadline, node=node))
        else:
            self._out.append(ev.Listen(node, node.attempt, node.deadline))

    # --- outcomes -----------------------------------------------------------------------------------------------

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

    def _commit(self, node: NodeState) -> None:
        """Make an outcome durable, whatever its mode."""
        stack, seen = [node], {node}
        while stack:
            at = stack.pop()
            if at.committed or at.committing or not at.finished:
                continue
            if at.payload is not None:
                self._log_outcome(at, keep=True)
            elif at.what == "continuation":
                at.payload = at.value
                self._log_outcome(at, keep=True)
            elif at.value is None:
                # Released: all its readers have finished, and committing those closes it.
                for reader in at.readers:
                    if reader not in seen and not reader.closed:
                        seen.add(reader)
                        stack.append(reader)
            else:
                at.committing = True
                self._persisting += 1
                self._by_attempt[at.attempt] = at
                self._out.append(ev.Persist(at, at.attempt))

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

    def _log_outcome(self, node: NodeState, *, keep: bool) -> None:
        if node.intent is None and not (keep and node.is_result and self._is_last(node)):
            self._trace(node)  # whatever logged an intent has done that before
        payload = node.payload if keep else None
        self._log(self._outcome(node, payload, completed=True), self._outcome_durable, node)
        node.traced = True
        node.completed = True
        node.position = self._logged
        if keep:
            node.committed = True
            if node.committing:  # its upload is not needed any more; should it be reported, that is old news
                node.committing = False
                self._persisting -= 1
            self._by_attempt.pop(node.attempt, None)
            node.blocked_on = None
            if node.watchers:
                if node.closed:  # they came by here on their way to its readers, which does not count any more
                    for watcher in node.watchers:
                        watcher.walk = None
                self._wake(node)
            self._release(node)
        self._close(node)

    def _is_last(self, node: NodeState) -> bool:
        """Whether the end follows the record of this result in the same batch.

        Then what was not recorded until now will never be asked for again, and need not be traced either.
        """
        node.committed = True
        self._close(node)
        return self.ended is None and self._answer_node is None and Walk((node,)).go_on() is None

    def _outcome(self, node: NodeState, payload: Any, *, completed: bool) -> Outcome:
        reads = node.intent.reads if node.intent is not None else tuple([read.incarnation for read in node.reads])
        return Outcome(
            self.workflow_id, node.task_id, node.attempt, node.incarnation, reads, node.what, completed,
            node.spec.task.fingerprint, node.number, self.now, node.seconds, node.message_key or "", payload,
        )  # fmt: skip

    def _trace(self, node: NodeState) -> None:
        """Log, before a record that names them, incarnations no record tells of: what they read must be known."""
        if not all(read.traced for read in node.reads):
            self._tell_of([read for read in node.reads if not read.traced])

    def _tell_of(self, stack: list[NodeState]) -> None:
        while stack:
            at = stack[-1]
            if at.traced:
                stack.pop()
                continue
            before = [read for read in at.reads if not read.traced]
            if before:
                stack.extend(before)
                continue
            stack.pop()
            at.traced = True
            if at.what == "continuation" and at.payload is None:
                at.payload = at.value  # what grew from it can only be told with it
            if at.payload is not None:
                self._log_outcome(at, keep=True)
            else:
                self._log(self._outcome(at, None, completed=True), None, None)
                at.position = self._logged
                at.completed = True
                self._close(at)

    def _outcome_durable(self, node: NodeState) -> None:
        if node.message_key is not None:
            self._out.append(ev.Discard(node.message_key))
            node.message_key = None
        if not node.committed or node.position > self._acked:
            return  # what is durable is an earlier record, of the effect alone
        if node.mode is Checkpoint.SYNC:
            self._deliver(node, False)
        if self.growth.commit_readers:
            for reader in self.growth.commit_readers.pop(node, ()):
                self._arrive(reader)

    def _deliver(self, node: NodeState, intending: bool | None) -> None:
        """Tell readers that the value is there: all, or (under sync) those that log an intent first, or the others."""
        for reader in node.readers:
            if intending is None or (reader.effects in _INTENT) is intending:
                self._arrive(reader)
        if intending is not True and self.growth.order_readers and node.what != "continuation":
            for reader in self.growth.order_readers.pop(node, ()):
                self._arrive(reader)

    def _arrive(self, reader: NodeState) -> None:
        reader.waiting -= 1
        if reader.waiting == 0 and reader.phase is Phase.WAITING:
            self._ready(reader)

    def _release(self, node: NodeState) -> None:
        """Let go of a value nobody holds on to. What is open can still be committed through its readers."""
        if node.pending_readers == 0 and not node.is_result and not node.committing:
            if node.what == "continuation" and not node.traced:
                return  # records of what grew from it will have to tell the DAG
            node.value = None
            if node.committed:
                node.payload = None

    def _close(self, node: NodeState) -> None:
        stack = [node]
        while stack:
            at = stack.pop()
            if at.closed or at.phase is not Phase.FINISHED:
                continue
            if not at.committed:
                if at.open_readers or at.is_result:
                    continue
                if at.effects is not Effects.NONE and not at.completed:
                    continue
            at.closed = True
            if not at.committed:
                at.position = self._logged  # it is its readers' records, logged by now, that close it
            if at.watchers:
                self._wake(at)
            for read in at.reads:
                read.open_readers -= 1
                if read.open_readers == 0:
                    stack.append(read)

    def _wake(self, node: NodeState) -> None:
        watchers, node.watchers = node.watchers, None
        for watcher in watchers or ():
            self._todo.append((self._await_settled, watcher))

    # --- what cannot be an outcome yet ----------------------------------------------------------------------------

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
        if node.effects in _INTENT and (lost or node.effects is Effects.ROLLBACK):
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

    def _let_go(self, attempt: str) -> None:
        if attempt in self._abandoned:
            self._abandoned.remove(attempt)
            if self.ended is not None:
                self._roll_back_if_idle()

    def _ended_at_last(self, node: NodeState) -> None:
        self._running -= 1
        if self.ended is not None and self.ended != "attention":
            self._after_end(node, ended=True, lost=True)
        else:
            self._clear_up(node)

    def _late_outcome(self, node: NodeState, event: ev.Finished) -> None:
        """An attempt past its timeout returned after all. A once task has then happened, and this is its value."""
        if node.effects is Effects.ONCE and event.continuation is None:
            node.what = "value"
            node.seconds = event.seconds
            self._finish(node, event.value, event.payload)
        else:
            self._ended_at_last(node)

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
        elif node.effects is Effects.ONCE and not isinstance(error, policy.not_happened):
            # Its exception is its outcome. After a timeout, resolve has said that nothing happened.
            again, count = isinstance(error, TaskTimeoutError) and node.failures <= policy.retries, node.failures
        else:
            again = node.failures <= policy.retries and isinstance(error, policy.retry_on)
            count = node.failures
        if node.effects is Effects.ONCE and isinstance(error, policy.not_happened):
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
            if isinstance(error, TaskTimeoutError) and node.effects not in _INTENT:
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

    def _record_error(self, node: NodeState, error: BaseException) -> None:
        """The exception of a once task is its outcome."""
        if not node.keep_incarnation:
            node.incarnation = node.attempt
        node.what, node.payload = "error", Live(error)
        self._log_outcome(node, keep=True)

    def _did_not_happen(self, node: NodeState) -> None:
        self._log(Settlement(self.workflow_id, node.task_id, node.attempt, False), None, None)

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
            elif node.effects in _INTENT:
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

    # --- ends ---------------------------------------------------------------------------------------------------

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
        self._log(End(self.workflow_id, "succeeded", node.task_id, self.now, node.payload), self._succeeded, node)
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
            End(self.workflow_id, status, task_id, self.now, None if error is None else Live(error)),  # type: ignore[arg-type]
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
        if not ended and node.effects in _INTENT:
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
            if isinstance(error, node.spec.task.policy.not_happened):
                self._did_not_happen(node)
            else:
                self._record_error(node, error)
        self._roll_back_if_idle()

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

    # --- plumbing -----------------------------------------------------------------------------------------------

    def _log(self, record: Any, action: Callable[[Any], None] | None, node: Any) -> None:
        self._logged += 1
        self._acks.append((action, node))
        self._out.append(ev.Commit(record))

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


def _watch(node: NodeState, effect: NodeState) -> None:
    if node.watchers is None:
        node.watchers = []
    node.watchers.append(effect)


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
