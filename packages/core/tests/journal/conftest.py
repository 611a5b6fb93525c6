"""Controllers as the journal sees them: they open one, write workflows, crash, and are found dead by others."""

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.journal import adoption, records
from exoflow.journal.creation import Patience
from exoflow.journal.layout import new_journal_id
from exoflow.journal.ownership import look_up
from exoflow.journal.writer import JournalWriter
from exoflow.stores.contract import Buffer, ObjectStore
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import Call, Fault, FaultyStore, LoseAnswer, Refuse
from exoflow.values import Payload

IMPATIENT = Patience(total_s=0.0, sleep=lambda seconds: None)


class Bucket:
    """A store with the five verbs alone."""

    shared = False

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.url = "bucket://" + inner.url
        self.create, self.read, self.write = inner.create, inner.read, inner.write
        self.list, self.delete, self.close = inner.list, inner.delete, inner.close


def make_store(kind: str, folder: Path) -> ObjectStore:
    if kind == "memory":
        return MemoryStore()
    if kind == "bucket":
        return Bucket(MemoryStore())
    storage = pytest.importorskip("exoflow_storage.local", reason="core's tests run without the other packages too")
    return storage.open_file_store(f"file://{folder}/store")


class World:
    """One store, a clock, and controllers on it."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.now = 1_000_000.0
        self.controllers: list[Controller] = []
        self.numbers = itertools.count(1)

    def controller(self, store: ObjectStore | None = None, **options: Any) -> "Controller":
        made = Controller(self, store or self.store, **options)
        self.controllers.append(made)
        return made

    def pass_time(self, seconds: float = 3600.0) -> None:
        """Let time pass; the living say that they live."""
        self.now += seconds
        for controller in self.controllers:
            if not controller.gone:
                controller.writer.beat(self.now)

    def history(self, workflow_id: str) -> list[records.WorkflowRecord]:
        standing = look_up(self.store, workflow_id, self.now)
        return standing.history.records if standing else []

    def owner(self, workflow_id: str) -> str | None:
        standing = look_up(self.store, workflow_id, self.now)
        return standing.ownership.last if standing else None

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        return {key: bytes(self.store.read(key)) for key in self.store.list(prefix)}


class Controller:
    """A process with a journal."""

    def __init__(self, world: World, store: ObjectStore, **options: Any) -> None:
        self.world, self.store = world, store
        self.gone = False
        number = next(world.numbers)
        journal_id = new_journal_id(world.now + number / 1000, lambda bits: number)
        options.setdefault("patience", IMPATIENT)
        self.writer = JournalWriter.open(store, journal_id, "here", os.getpid(), world.now, **options)
        self._workflows = itertools.count(1)

    @property
    def id(self) -> str:
        return self.writer.journal_id

    def append(self, *batch: records.Record) -> None:
        self.writer.append([records.encode(record) for record in batch])

    def submit(self, workflow_id: str | None = None, generation: int = 1) -> str:
        """Start a workflow; without an id, one that the library makes up."""
        if workflow_id is None:
            workflow_id = f"{self.id}-{next(self._workflows)}"
        else:
            epoch = adoption.begin(self.store, self.writer, workflow_id, self.world.now)
            assert epoch is not None, f"{workflow_id} exists"
            generation = epoch
        self.append(submission(workflow_id, generation))
        return workflow_id

    def outcome(self, workflow_id: str, task_id: str, payload: Payload | None = None) -> None:
        self.append(outcome(workflow_id, task_id, f"{self.id}.1.{task_id}", payload))

    def end(self, workflow_id: str, status: str = "succeeded", payload: Payload | None = None) -> None:
        self.append(end(workflow_id, status, self.world.now, payload))

    def acquire(self, workflow_id: str) -> adoption.Acquired:
        return adoption.acquire(self.store, self.writer, workflow_id, self.world.now)

    def adopt(self, journal_id: str, wanted: Callable[[str], bool] = lambda workflow_id: True) -> Any:
        return adoption.adopt(self.store, self.writer, journal_id, wanted, self.world.now)

    def retire(self, *, live_left: bool = False) -> None:
        self.writer.retire(self.world.now, live_left=live_left)
        self.gone = True

    def close(self) -> None:
        """Stop in good order while workflows have not ended."""
        self.retire(live_left=True)

    def crash(self) -> None:
        """Die, and be silent for long enough to be found dead."""
        self.writer.abandon()
        self.gone = True
        self.world.pass_time()

    def sleep(self) -> None:
        """Seem dead to the others: a suspended laptop, a paused machine."""
        self.gone = True
        lock, self.writer._lock = self.writer._lock, None
        if lock is not None:
            lock.release()
        self.world.pass_time()


def submission(workflow_id: str, generation: int = 1, payload: Payload | None = None) -> records.Submission:
    return records.Submission(workflow_id, generation, "digest", "name", 1.0, {}, {}, payload)


def outcome(workflow_id: str, task_id: str, attempt: str, payload: Payload | None = None) -> records.Outcome:
    return records.Outcome(
        workflow_id, task_id, attempt, attempt, (), "value", True, "code", 1, 2.0, 0.5, payload=payload
    )


def end(workflow_id: str, status: str = "succeeded", at: float = 3.0, payload: Payload | None = None) -> records.End:
    return records.End(workflow_id, status, "", at, "", payload)


class CrashAt:
    """A plan by which the process dies at its n-th change of the store, having made it or not."""

    def __init__(self, number: int, *, done: bool) -> None:
        self.number, self.done = number, done
        self.changes = 0

    def __call__(self, call: Call) -> Fault | None:
        if call.verb not in LoseAnswer.verbs:
            return LoseRead() if self.changes >= self.number else None
        self.changes += 1
        if self.changes < self.number:
            return None
        happens = self.done and self.changes == self.number
        return LoseAnswer(happens=happens, error=lambda: SimulatedCrash(FailurePoint.BEFORE_FLUSH))

    @property
    def struck(self) -> bool:
        return self.changes >= self.number


class LoseRead(Fault):
    """After its death a process reads nothing either."""

    def __init__(self) -> None:
        object.__setattr__(self, "error", lambda: SimulatedCrash(FailurePoint.BEFORE_FLUSH))


@pytest.fixture(params=["memory", "bucket", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    made = make_store(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def world(store: ObjectStore) -> World:
    return World(store)


@pytest.fixture(params=["memory-before", "bucket-after", "disk-after"])
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[World, bool]]:
    """A world to die in at every change of the store, and whether each deadly change is made."""
    kind, moment = request.param.split("-")
    store = make_store(kind, tmp_path)
    yield World(store), moment == "after"
    store.close()


@pytest.fixture
def make() -> Any:
    """What tests make things with: this module."""
    return sys.modules[__name__]


@pytest.fixture
def together() -> Callable[[list[Callable[[], Any]]], list[Any]]:
    """Call functions at the same moment, and return what each returned or raised."""

    def run(functions: list[Callable[[], Any]]) -> list[Any]:
        start = threading.Barrier(len(functions))
        answers: list[Any] = [None] * len(functions)

        def call(number: int) -> None:
            start.wait()
            try:
                answers[number] = functions[number]()
            except Exception as error:
                answers[number] = error

        threads = [threading.Thread(target=call, args=(number,)) for number in range(len(functions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    return run


def everything_of(store: ObjectStore) -> dict[str, Buffer]:
    return {key: bytes(store.read(key)) for key in store.list("")}


__all__ = ["FaultyStore", "Refuse"]
