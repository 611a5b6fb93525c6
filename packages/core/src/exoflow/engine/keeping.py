"""What is recorded of an incarnation, and when its value may be forgotten.

An outcome is committed as its mode says, or because an effect needs it. A record names what it read, so whatever
it names is told of first. An incarnation is *closed* when nothing can ask for it again.
"""

from typing import Any

from exoflow.engine import events as ev
from exoflow.engine.machine import Machine
from exoflow.engine.node_state import NodeState, Phase
from exoflow.engine.settled import Walk
from exoflow.journal.records import Outcome, Settlement
from exoflow.tasks.policy import Effects

__all__ = ["Keeping", "watch"]


class Keeping(Machine):
    """Commits, traces, closes and releases incarnations."""

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

    def _did_not_happen(self, node: NodeState) -> None:
        self._log(Settlement(self.workflow_id, node.task_id, node.attempt, False), None, None)

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


def watch(node: NodeState, effect: NodeState) -> None:
    """Look at *effect* again when *node* is committed or closed."""
    if node.watchers is None:
        node.watchers = []
    node.watchers.append(effect)
