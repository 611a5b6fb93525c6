"""The controllers of one engine: opened when first needed, one at a time, and another when its journal has failed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from exoflow.controller.controller import Controller
from exoflow.controller.run import WorkflowRun
from exoflow.errors import UsageError, WorkflowRunningError

__all__ = ["Controllers"]

_PATIENCE_S = 10.0
"""How long to wait for attempts of this engine that cannot be stopped."""


class Controllers:
    """Keeps an engine's controller.

    Args:
        make: Opens a controller with a journal of its own.
    """

    def __init__(self, make: Callable[[], Controller]) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._counter = 0
        self._old: list[Controller] = []
        """Those whose journal failed, and of which attempts may still run."""
        self._ids: dict[str, list[Any]] = {}
        """Of workflow ids somebody is at: a lock, and how many want it."""
        self._closed = False
        self.current: Controller | None = None
        """The one that was opened last, if any."""

    def running(self) -> Controller:
        """Return a controller that runs; open one if there is none.

        Raises:
            UsageError: The engine is closed.
            ExoFlowError: A journal cannot be opened.
        """
        with self._lock:
            if self._closed:
                raise UsageError("this engine is closed; open another")
            if self.current is not None:
                if self.current.problem is None:
                    return self.current
                self._old.append(self.current)
                self.current = None
            self._old = [old for old in self._old if not old.wait_until_gone(0)]
            self.current = self._make()
            return self.current

    def new_id(self, controller: Controller) -> str:
        """Return a workflow id that begins with the controller's journal: it needs no claim."""
        with self._lock:
            self._counter += 1
            return f"{controller.journal_id}-{self._counter}"

    @contextlib.contextmanager
    def alone(self, workflow_ids: Iterable[str]) -> Iterator[None]:
        """Keep other threads from doing the same with these workflows: two that start one id must not both run it."""
        wanted = sorted(set(workflow_ids))  # in one order, so that no two wait for each other
        with self._lock:
            entries = [self._ids.setdefault(workflow_id, [threading.RLock(), 0]) for workflow_id in wanted]
            for entry in entries:
                entry[1] += 1
        try:
            with contextlib.ExitStack() as held:
                for entry in entries:
                    held.enter_context(entry[0])
                yield
        finally:
            with self._lock:
                for workflow_id, entry in zip(wanted, entries, strict=True):
                    entry[1] -= 1
                    if not entry[1]:
                        del self._ids[workflow_id]

    def take(self, controller: Controller, job: Callable[[], Any]) -> Any:
        """Have *job* take workflows over; wait for attempts that are in its way and will soon have ended."""
        until, waited = time.monotonic() + _PATIENCE_S, False
        while True:
            try:
                return controller.ask(job).result()
            except WorkflowRunningError as error:
                if time.monotonic() > until:
                    raise
                with self._lock:
                    old = list(self._old)
                if error.left_behind:
                    time.sleep(0.02)  # worker processes of a controller that was killed, which end with it
                elif waited or not old or not all(one.wait_until_gone(until - time.monotonic()) for one in old):
                    raise
                else:
                    waited = True

    def run_of(self, controller: Controller, workflow_id: str) -> WorkflowRun | None:
        """Return the workflow if it runs here; one that was stopped must have ended here first.

        Raises:
            WorkflowRunningError: It was stopped, and attempts of it take their time.
        """
        run = controller.runs.get(workflow_id)
        if run is None or not run.abandoned:
            return run
        try:
            run.left.result(_PATIENCE_S)
        except TimeoutError:
            raise WorkflowRunningError(workflow_id, "this process, in attempts that cannot be stopped") from None
        return None

    def close(self) -> bool:
        """Close every controller; return whether nothing of them is left."""
        with self._lock:
            self._closed = True
            controllers = [*self._old, *([self.current] if self.current is not None else [])]
            for controller in controllers:
                controller.close()
            return all(controller.wait_until_gone(0) for controller in controllers)
