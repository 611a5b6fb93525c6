"""Somebody's program: an engine in a simulated process, and what is done with it.

Each call may fail in the ways its documentation names, and in no other. What a call has answered is written down: from
then on it is a promise.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from random import Random
from typing import Any, TypeVar

import attrs

from exoflow.api.engine import Engine
from exoflow.api.handle import Handle
from exoflow.controller.controller import Controller
from exoflow.errors import (
    ExoFlowError,
    FencedError,
    NeedsAttentionError,
    TaskFailedError,
    UnavailableError,
    UsageError,
    WorkflowCancelledError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from exoflow.graph.node import Node
from exoflow.journal.layout import new_journal_id
from exoflow.journal.writer import JournalWriter
from exoflow.states import WorkflowStatus
from exoflow.stores.contract import ObjectStore
from exoflow.testing.simulation.executors import SimulatedExecutor
from exoflow.testing.simulation.machines import Machine
from exoflow.testing.simulation.outside import Outside, id_of, kept

__all__ = ["Books", "Program", "Workflow"]

T = TypeVar("T")

_TROUBLE = (UnavailableError, FencedError)
"""What any call may come to while stores fail and processes take each other for dead."""


class SimulatedEngine(Engine):
    """An engine whose controllers live on a machine of the simulation."""

    def __init__(self, store: ObjectStore, machine: Machine, *, workers: int, loses: float) -> None:
        super().__init__(store)
        self._machine, self._workers, self._loses = machine, workers, loses

    def _open_controller(self) -> Controller:
        self._reader.check()
        machine, now = self._machine, self._machine.time()
        journal_id = new_journal_id(now, machine.chance.getrandbits)
        writer = JournalWriter.open(self.store, journal_id, machine.name, machine.number, now)
        return Controller(
            self.store,
            writer,
            executor="simulated",
            make_executor=lambda _, services: SimulatedExecutor(
                services, machine, workers=self._workers, loses=self._loses
            ),
            codec=self._codec,
            runtime=machine,
        )


@attrs.define(eq=False)
class Workflow:
    """What somebody wants to have run."""

    workflow_id: str
    root: Node
    waits: dict[str, int]
    """How many of its nodes wait for each event."""


@attrs.define(eq=False)
class Books:
    """What was answered to anybody."""

    outside: Outside
    workflows: dict[str, Workflow] = attrs.field(factory=dict)
    accepted: dict[str, Workflow] = attrs.field(factory=dict)
    cancelled: set[str] = attrs.field(factory=set)
    sent: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """How many messages are durable, by workflow and event."""
    messages: int = 0
    over: bool = False
    """Whether nobody begins anything any more."""

    def accept(self, workflow_id: str, workflow: Workflow) -> None:
        """A handle was given out."""
        self.accepted[workflow_id] = workflow

    def tell(self, workflow_id: str, status: str, about: str) -> None:
        """Somebody was told how a workflow ended."""
        told = self.outside.told.setdefault(workflow_id, (status, about))
        kept(told == (status, about), f"{workflow_id}: first {told} was told, then {(status, about)}")
        if status == "succeeded":
            self.outside.fix(about)


class Program:
    """One process that uses the library.

    Args:
        machine: Where it runs.
        store: Its way to the store.
        books: Of the simulation.
        workers: Of its executor.
        loses: See `SimulatedExecutor`.
    """

    def __init__(self, machine: Machine, store: ObjectStore, books: Books, *, workers: int, loses: float) -> None:
        self.machine, self.books = machine, books
        self.outside = books.outside
        self.closed = False
        self._store, self._workers, self._loses = store, workers, loses

    @cached_property
    def engine(self) -> SimulatedEngine:
        """The engine, made where its locks are those of the simulation: on a fiber."""
        return SimulatedEngine(self._store, self.machine, workers=self._workers, loses=self._loses)

    def try_to(self, call: Callable[[], T], *errors: type[ExoFlowError]) -> T | None:
        """Make a call; return None if it fails in a way that is allowed."""
        allowed: tuple[type[ExoFlowError], ...] = (*_TROUBLE, *errors)
        try:
            return call()
        except allowed as error:
            self.outside.note(self.machine.name, type(error).__name__)
        except UsageError as error:
            if type(error) is not UsageError or not self.closed:
                raise
            self.outside.note(self.machine.name, "has closed its engine")
        return None

    def close(self) -> None:
        """Stop in good order, whatever its threads are at."""
        self.closed = True
        self.engine.close()

    # --- what programs do -----------------------------------------------------------------------------------------

    def start(self, workflow: Workflow, *, named: bool = True) -> None:
        """Start a workflow, and wait for it beside whatever else is done."""
        workflow_id = workflow.workflow_id if named else None
        handle = self.try_to(
            lambda: self.engine.start(workflow.root, workflow_id=workflow_id), WorkflowRunningError, NeedsAttentionError
        )
        if handle is not None:
            self.books.accept(handle.workflow_id, workflow)
            self.watch(handle)

    def resume(self, workflow_id: str) -> None:
        """Go on with a workflow."""
        handle = self.try_to(lambda: self.engine.resume(workflow_id), WorkflowRunningError, *self._missing(workflow_id))
        if handle is not None:
            self.watch(handle)

    def resume_all(self) -> None:
        """Go on with all there are."""
        for handle in self.try_to(self.engine.resume_all) or ():
            self.watch(handle)

    def cancel(self, workflow_id: str) -> None:
        """Ask for an end. It is asked for when that returns."""

        def call() -> bool:
            self.engine.cancel(workflow_id)
            return True

        missing = self._missing(workflow_id)
        if self.try_to(call, WorkflowRunningError, NeedsAttentionError, *missing):
            self.books.cancelled.add(workflow_id)

    def send(self, workflow_id: str, event: str) -> None:
        """Send a message."""
        self.books.messages += 1
        message = f"message{self.books.messages}"

        def call() -> bool:
            self.engine.send_event(workflow_id, event, message, message_id=message)
            return True

        if self.try_to(call):
            sent = self.books.sent
            sent[workflow_id, event] = sent.get((workflow_id, event), 0) + 1

    def look(self, workflow_id: str) -> WorkflowStatus | None:
        """Ask where a workflow stands."""
        return self.try_to(lambda: self.engine.status(workflow_id), *self._missing(workflow_id))

    def result(self, workflow_id: str, timeout_s: float | None = None) -> None:
        """Ask for a result, of whoever works on it."""
        missing = self._missing(workflow_id)
        self._hear(workflow_id, lambda: self.engine.result(workflow_id, timeout_s), *missing)

    def settle(self, workflow_id: str, task_id: str, happened: bool, value: str | None) -> None:
        """Say what became of an effect."""
        try:
            self.try_to(
                lambda: self.engine.settle(workflow_id, task_id, happened=happened, value=value), WorkflowRunningError
            )
        except UsageError as error:
            # The question is durable, and so told by `list`; the controller that asked it has not heard yet that it is.
            if "is running here" not in str(error):
                raise

    def watch(self, handle: Handle) -> None:
        """Wait for a handle, on a thread of its own."""
        self.machine.spawn(lambda: self._hear(handle.workflow_id, handle.result))

    def _missing(self, workflow_id: str) -> tuple[type[ExoFlowError], ...]:
        """Return what may be said of a workflow of which it was never said that it was accepted."""
        return () if workflow_id in self.books.accepted else (WorkflowNotFoundError,)

    def _hear(self, workflow_id: str, call: Callable[[], Any], *errors: type[ExoFlowError]) -> None:
        try:
            about = self.try_to(lambda: id_of(call()), NeedsAttentionError, WorkflowRunningError, *errors)
            status = "succeeded"
        except TaskFailedError as error:
            status, about = "failed", f"{error.task_id} {id_of((None, error.__cause__))}"
        except WorkflowCancelledError:
            status, about = "cancelled", ""
        if about is not None:
            self.outside.note(self.machine.name, "hears", workflow_id, status, about)
            self.books.tell(workflow_id, status, about)

    # --- what they do when left to themselves -----------------------------------------------------------------------

    def script(self, chance: Random, firsts: Iterable[Callable[[], None]], steps: int, pause_s: float) -> None:
        """Do this and that."""
        for first in firsts:
            first()
        for _ in range(steps):
            self.machine.schedule.sleep(pause_s * chance.random() ** 3)
            if self.closed or self.books.over:
                return
            self._step(chance)

    def _step(self, chance: Random) -> None:
        workflow = chance.choice(list(self.books.workflows.values()))
        workflow_id = chance.choice([workflow.workflow_id, *self.books.accepted])
        draw = chance.random()
        if draw < 0.3:
            self.start(workflow)
        elif draw < 0.35:
            self.start(workflow, named=False)
        elif draw < 0.55:
            self.resume(workflow_id)
        elif draw < 0.75:
            self.resume_all()
        elif draw < 0.83:
            self.cancel(workflow_id)
        elif draw < 0.91:
            self.send(workflow_id, chance.choice(["ping", "pong"]))
        elif draw < 0.95:
            self.result(workflow_id, chance.choice([0.1, 5.0]))
        else:
            self.look(workflow_id)
