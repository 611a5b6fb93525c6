"""How a controller ends: in good order, or because its journal cannot be believed any longer.

Either way the journal is let go of only when nothing runs any more: until then its lock tells others that somebody is here, whose
attempts must not meet their own undo.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from exoflow.controller.run import WorkflowRun
from exoflow.errors import ExoFlowError, UnavailableError
from exoflow.failures.points import SimulatedCrash
from exoflow.tasks.policy import Effects

if TYPE_CHECKING:
    from exoflow.controller.controller import Controller

__all__ = ["Closing"]

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long closing waits for attempts that cannot be stopped."""


class Closing:
    """The last part of a controller's life.

    Args:
        controller: Whose. All but the waiting happens in its turns.
    """

    def __init__(self, controller: "Controller") -> None:
        self._controller = controller
        self._attempts, self._flusher = controller.attempts, controller.flusher
        self._patient_until = 0.0
        self._waited, self._gone = threading.Event(), threading.Event()
        """Whether closing need not be waited for any longer, and whether nothing of the controller is left."""
        self.live_left = False
        """Whether workflows that have not ended lie in the journal, though nobody works on them here."""

    def wait(self) -> None:
        """Wait until it is closed, or until attempts have shown that they take their time."""
        self._waited.wait(6 * _PATIENCE_S)

    def wait_until_gone(self, timeout_s: float) -> bool:
        """Wait until nothing of it runs and its journal is let go of; return whether that is so."""
        return self._gone.wait(timeout_s)

    # --- the journal failed -------------------------------------------------------------------------------------

    def die(self, problem: BaseException) -> None:
        """The journal can no longer be believed, or the controller was crashed on purpose: decide nothing more."""
        controller = self._controller
        if controller.problem is not None:
            return
        controller.problem = problem
        if isinstance(problem, SimulatedCrash):
            log.debug("controller %s: %s", controller.journal_id, problem)
            self._attempts.close()  # a real crash ends its threads, too: nothing of it may begin from now on
            self._abandon_journal()
        elif isinstance(problem, ExoFlowError):
            log.warning("controller %s stops: %s", controller.journal_id, problem)
            self._attempts.stop_all(Effects.NONE, Effects.IDEMPOTENT, Effects.ROLLBACK)
            self._let_go()
        else:
            log.error("controller %s stops, by a mistake of its own", controller.journal_id, exc_info=problem)
            self._let_go()

    def _let_go(self) -> None:
        if not self._attempts:
            self._abandon_journal()
            return
        self._tell_all()
        self._wait_longer(self._let_go)

    def _abandon_journal(self) -> None:
        """Let the journal go, and only then tell: whoever hears of it may resume at once."""

        def told(_: None = None, problem: BaseException | None = None) -> None:
            self._tell_all()
            self._shut(problem)

        if self._flusher.busy:  # its thread has the writer
            self._flusher.submit(self._flusher.writer.abandon, told)
        else:
            self._flusher.writer.abandon()
            told()

    def _tell_all(self) -> None:
        problem = self._controller.problem
        assert problem is not None
        self._controller.refuse_all(problem)
        for run in list(self._controller.runs.values()):
            self._controller.settle(run, problem)

    # --- in good order ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Start nothing more, stop what can be stopped, and retire the journal when the rest has ended."""
        controller = self._controller
        if controller.problem is not None:
            return
        controller.commands.draining = True
        self.live_left = self.live_left or bool(controller.runs)
        controller.refuse_all(UnavailableError("the engine was closed before the workflow was accepted"))
        self._attempts.stop_all(Effects.NONE, Effects.IDEMPOTENT)
        self._drained()

    def _drained(self) -> None:
        """Retire the journal once nothing runs any more: whoever resumes must not meet an attempt of ours."""
        controller = self._controller
        if controller.problem is not None:
            return
        if self._attempts:
            self._wait_longer(self._drained)
            if self._waited.is_set():
                for run in controller.runs.values():  # known all the same, for what the attempts will come to
                    run.done.reject(_closed(run))
            return
        if controller.batch.records or self._flusher.busy or controller.commands.backlog:
            controller.later(0.005, self._drained)
            return
        controller.problem = UnavailableError("the engine was closed; open another and resume")
        for run in list(controller.runs.values()):
            controller.settle(run, _closed(run))
        writer, live_left, now = self._flusher.writer, self.live_left, controller.runtime.time()
        self._flusher.submit(lambda: writer.retire(now, live_left=live_left), lambda _, problem: self._shut(problem))

    # --- both ---------------------------------------------------------------------------------------------------

    def _wait_longer(self, then: Callable[[], None]) -> None:
        """Look again soon whether attempts have ended; after a while let nobody wait for that any longer."""
        now = self._controller.runtime.monotonic()
        if not self._patient_until:
            self._patient_until = now + _PATIENCE_S
        if now > self._patient_until and not self._waited.is_set():
            left = self._attempts.names
            log.warning(
                "%d attempts still run (%s, ...): their workflows can be resumed when they have ended, "
                "or when this process is gone",
                len(left), left[0],
            )  # fmt: skip
            self._waited.set()
        self._controller.later(0.1 if self._waited.is_set() else 0.005, then)

    def _shut(self, problem: BaseException | None = None) -> None:
        if isinstance(problem, SimulatedCrash):
            log.debug("journal %s was not retired: %s", self._controller.journal_id, problem)
        elif problem is not None:
            log.warning("journal %s could not be retired: %s", self._controller.journal_id, problem)
        self._controller.shut()
        self._gone.set()
        self._waited.set()


def _closed(run: WorkflowRun) -> UnavailableError:
    return UnavailableError(
        f"the engine was closed before workflow {run.workflow_id!r} had ended; "
        f"`exoflow resume {run.workflow_id}` goes on"
    )
