"""Taking messages from the inbox: one list call now and then serves every workflow of a controller.

A message feeds one node: which, is decided by the record its controller writes, and only then is the object deleted. Nodes
that wait for the same event are fed in the order in which they began to wait, which is the order of the DAG.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from exoflow.controller.run import WorkflowRun
from exoflow.controller.runtime import Timer, Workers
from exoflow.engine import events as ev
from exoflow.engine.node_state import Phase
from exoflow.errors import ExoFlowError, ObjectNotFoundError
from exoflow.journal import inbox
from exoflow.journal.messages import decode_payload
from exoflow.stores.contract import ObjectStore

if TYPE_CHECKING:
    from exoflow.controller.controller import Controller

__all__ = ["Listener"]

log = logging.getLogger(__name__)

_SOONEST_S = 0.02
_LATEST_S = 0.5


class Listener:
    """Looks into the inbox while anybody has a reason to."""

    def __init__(self, store: ObjectStore, controller: "Controller") -> None:
        self._store, self._controller = store, controller
        self._waiting: dict[WorkflowRun, dict[str, deque[str]]] = {}
        self._workers: Workers | None = None
        self._looking = False
        self._timer: Timer | None = None
        self._due = 0.0
        """When the next look is due, if there is a timer for it."""
        self._pause_s = _SOONEST_S
        self._closed = False

    def listen(self, run: WorkflowRun, event: str, attempt: str) -> None:
        """Feed the next message of *event* to *attempt*. On the controller's thread, like all but `_look`."""
        self._waiting.setdefault(run, {}).setdefault(event, deque()).append(attempt)
        self.nudge()

    def nudge(self) -> None:
        """Look again soon: something may have come."""
        self._pause_s = _SOONEST_S
        self._schedule(0.0)

    def watch(self) -> None:
        """Look now and then while anything runs: it may be cancelled, from another process."""
        self._schedule(_LATEST_S)

    def forget(self, run: WorkflowRun) -> None:
        """The workflow is over for this controller."""
        self._waiting.pop(run, None)

    def discard(self, run: WorkflowRun, key: str) -> None:
        """Delete a message; should that fail, recovery finds it taken and deletes it then."""
        run.discarded.add(key)
        self._ask(partial(self._delete, key))

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._workers is not None:
            self._workers.close()

    def _delete(self, key: str) -> None:
        try:
            self._store.delete(key)
        except ExoFlowError as error:
            log.debug("message %s, which was taken, could not be deleted: %s", key, error)

    def _ask(self, job: Callable[[], None]) -> None:
        if self._closed:
            return
        if self._workers is None:
            self._workers = self._controller.runtime.workers("exoflow-inbox", 1)
        self._workers.submit(job)

    def _schedule(self, after_s: float) -> None:
        if self._closed or self._looking:
            return
        due = self._controller.runtime.monotonic() + after_s
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._timer, self._due = self._controller.later(after_s, self._begin), due

    def _begin(self) -> None:
        self._timer = None
        if self._looking or self._closed or not self._controller.runs:
            return
        self._looking = True
        wanted = dict(self._controller.runs)
        self._ask(lambda: self._look(wanted))

    def _next_in_line(self, run: WorkflowRun, event: str) -> str | None:
        """Return the attempt that has waited longest, and still does: a wait may have timed out."""
        queue = self._waiting.get(run, {}).get(event)
        while queue:
            attempt = queue.popleft()
            node = run.state.node_of(attempt)
            if node is not None and node.phase is Phase.RUNNING:
                return attempt
        return None

    def _look(self, wanted: dict[str, WorkflowRun]) -> None:
        """List the inbox and read what is for us. On a thread of its own."""
        found: list[tuple[WorkflowRun, str, str, bytes]] = []
        try:
            for workflow_id, events in inbox.pending(self._store).items():
                if workflow_id not in wanted:
                    continue
                for event, messages in events.items():
                    for message in messages:
                        try:
                            data = bytes(inbox.read(self._store, message))
                            found.append((wanted[workflow_id], event, message.key, data))
                        except ObjectNotFoundError:
                            continue
        except Exception as error:
            level = logging.WARNING if isinstance(error, ExoFlowError) else logging.ERROR
            log.log(level, "the inbox cannot be read, trying again: %s", error)
        self._controller.post(lambda: self._give_out(found))

    def _give_out(self, found: list[tuple[WorkflowRun, str, str, bytes]]) -> None:
        self._looking = False
        for run, event, key, data in found:
            if self._controller.runs.get(run.workflow_id) is not run:
                continue  # over by now; of another run under its id this is no message
            if key in run.taken:
                if key in run.discarded:  # its sender did not hear that it had arrived, and sent it again
                    self._ask(partial(self._delete, key))
                continue
            if event == inbox.CANCEL:
                run.taken.add(key)
                self._controller.tell(run, ev.Cancelled(key))
                continue
            attempt = self._next_in_line(run, event)
            if attempt is None:
                continue
            try:
                payload = decode_payload(key, data)
            except ExoFlowError as error:
                self._controller.abandon(run, error)
                continue
            run.taken.add(key)
            self._pause_s = _SOONEST_S
            self._controller.tell(run, ev.Received(attempt, key, payload))
        if self._controller.runs:
            # The less there is to do, the rarer the look; a cancel is noticed within the longest pause.
            self._schedule(self._pause_s)
            self._pause_s = min(self._pause_s * 1.5, _LATEST_S)
