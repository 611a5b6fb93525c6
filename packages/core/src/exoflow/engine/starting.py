"""What starts when: values arrive at their readers, effects wait until what they read is settled."""

from exoflow.engine import events as ev
from exoflow.engine.growth import connect
from exoflow.engine.keeping import Keeping, watch
from exoflow.engine.machine import INTENDED
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.settled import Walk, closes_without, needed_for
from exoflow.journal.records import Intent, UndoRecord
from exoflow.tasks.policy import Checkpoint, Effects

__all__ = ["Starting"]


class Starting(Keeping):
    """Starts attempts, each when the rules for its task's effects allow it."""

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
            if intending is None or (reader.effects in INTENDED) is intending:
                self._arrive(reader)
        if intending is not True and self.growth.order_readers and node.what != "continuation":
            for reader in self.growth.order_readers.pop(node, ()):
                self._arrive(reader)

    def _arrive(self, reader: NodeState) -> None:
        reader.waiting -= 1
        if reader.waiting == 0 and reader.phase is Phase.WAITING:
            self._ready(reader)

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
                        self._commit(
                            read
                        )  # it stays open at least as long as this effect, its reader, has not finished
        if walk is not None:
            blocker = walk.go_on()
            if blocker is not None:
                self._parked[node] = None
                watch(blocker, node)
                for crossed in walk.crossed:
                    watch(crossed, node)
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
                watch(root, effect)
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
