"""Processes that take one another for dead in the middle of each other's store calls: the journal's promises, by chance.

Everything is one thread. When a process calls the store, another one may do something whole just before or just after
that call, one of its own calls may be interrupted in turn; or the process dies there. So one that was stopped in the middle
of a flush wakes up when its workflows are long somebody else's. The store has no locks: silence looks like death.

What is held against it needs no knowledge of segments, seals and claims:

- what a flush was believed to hold is known to whoever owns the workflow from then on, in that order;
- nobody believes what the owner does not know: of two that think they own a workflow only one can add to it;
- what the owner does not know never comes back: all who own it later know the same of the past;
- what was accepted can always be gone on with.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from exoflow.errors import (
    CorruptCheckpointError,
    FencedError,
    UnavailableError,
    UnknownOutcomeError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.journal import adoption, records
from exoflow.journal.creation import Patience
from exoflow.journal.garbage import collect
from exoflow.journal.layout import new_journal_id
from exoflow.journal.ownership import look_up
from exoflow.journal.reader import find_end
from exoflow.journal.writer import JournalWriter
from exoflow.stores.contract import Appender, Buffer
from exoflow.stores.memory import MemoryStore

__all__ = ["play_takeovers"]

_STEPS = 40
_CALLS = 8000
"""Of the store, by all processes together: some ten times as many as it takes."""
_DEPTH = 3
"""How many processes may be in the middle of something at once."""
_NEVER = 1e12
_NAMES = ("v", "w")


def play_takeovers(seed: int, *, collects: bool = False) -> None:
    """Play one world of processes.

    Args:
        seed: Of everything.
        collects: Whether some of them remove what others have adopted.

    Raises:
        AssertionError: A promise was broken.
    """
    _World(random.Random(seed), collects=collects).play()


class _World:
    """One store, its processes, and what they may rely on."""

    def __init__(self, chance: random.Random, *, collects: bool) -> None:
        self.chance, self.collects = chance, collects
        self.memory = MemoryStore()
        self.appends = chance.random() < 0.6
        self.lossy, self.deadly = chance.choice([0.0, 0.02]), chance.choice([0.0, 0.01, 0.03])
        self.meddling = chance.choice([0.01, 0.03, 0.1])
        self.now = 1_000_000.0
        self.processes: list[_Process] = []
        self.acting: list[_Process] = []
        self.owner: dict[str, _Process] = {}
        self.holders: dict[str, set[_Process]] = {}
        """The owner, and those that think they are since it took over."""
        self.known: dict[str, list[str]] = {}
        """What the owner of a workflow knows: what it found, and what it believes to have added."""
        self.doubtful: dict[str, list[str]] = {}
        """What its owner tried to add last, and never heard of."""
        self.notes = self.born = self.calls = 0
        self.steps = _STEPS

    def play(self) -> None:
        while self.steps:
            self.let_somebody_act()
        self.meddling = self.lossy = self.deadly = 0.0
        self.now += 3600.0
        last = self.newcomer()
        assert last is not None
        assert last.does(last.acquire_all)
        for workflow_id in list(self.known):
            if self.owner[workflow_id] is not last:  # somebody had given it up
                last.acquire(workflow_id)
            assert self.owner[workflow_id] is last, f"{workflow_id} was accepted, and nobody goes on with it"
            last.note([workflow_id])

    def newcomer(self) -> "_Process | None":
        self.born += 1
        made = _Process(self, self.born)
        return made if made.does(made.open) else None

    def let_somebody_act(self) -> None:
        if len(self.acting) == _DEPTH or not self.steps:
            return
        self.steps -= 1
        self.now += self.chance.choice([0.0, 1.0, 3600.0])
        idle = [each for each in self.processes if each not in self.acting and not each.gone]
        if not idle or (len(self.processes) < 5 and self.chance.random() < 0.15):
            self.newcomer()
        else:
            process = self.chance.choice(idle)
            process.does(process.act)

    # --- what may be relied on ------------------------------------------------------------------------------------

    def takes_over(self, process: "_Process", workflow_id: str, found: list[str]) -> None:
        """Somebody owns a workflow from now on, and this is what it was told of the past."""
        known, doubtful = self.known.get(workflow_id, []), self.doubtful.get(workflow_id, [])
        what = f"{process} takes over {workflow_id} with {found}, and {known} was believed"
        if find_end(self.memory, process.writer.journal_id).seal is not None:
            # It has lost the workflow again since it got it. What it still tries may be found, and must not be believed.
            self.holders[workflow_id].add(process)
            return
        assert found[: len(known)] == known, f"something is lost: {what}"
        self.doubtful.pop(workflow_id, None)
        more = found[len(known) :]
        assert more == doubtful[: len(more)], f"something came back, or out of nothing: {what}, in doubt {doubtful}"
        self.owner[workflow_id], self.known[workflow_id] = process, found
        self.holders[workflow_id] = {process}

    def believes(self, process: "_Process", workflow_id: str, note: str) -> None:
        """Somebody was told that a note is durable."""
        if self.owner.get(workflow_id) is process:
            self.known[workflow_id].append(note)
        else:
            known = self.known.get(workflow_id, [])
            assert note in known, f"{process} believes {note} of {workflow_id}, whose owner knows only {known}"

    def sees(self, workflow_id: str, found: list[str]) -> None:
        """Somebody was told the past of a workflow to which nobody can add any more before taking it over."""
        known, doubtful = self.known[workflow_id], self.doubtful.get(workflow_id, [])
        more = found[len(known) :]
        what = f"{workflow_id} is read as {found}, and {known} was believed, {doubtful} in doubt"
        assert found[: len(known)] == known, f"something is lost: {what}"
        assert more == doubtful[: len(more)], f"something came back, or out of nothing: {what}"
        self.known[workflow_id] = found
        self.doubtful.pop(workflow_id, None)

    def doubts(self, process: "_Process", workflow_id: str, note: str) -> None:
        """Somebody tried to add a note, and did not hear what became of it."""
        if process in self.holders[workflow_id]:
            self.doubtful.setdefault(workflow_id, []).append(note)


class _Process:
    """A writer of a journal, and what it believes to own."""

    def __init__(self, world: _World, number: int) -> None:
        self.world, self.number = world, number
        self.gone = False
        self.store: Any = _Appending(self) if world.appends else _Way(self)
        self.writer: JournalWriter
        self.mine: list[str] = []
        self.left_some = False
        """Whether its journal holds what may be gone on with."""

    def __repr__(self) -> str:
        return f"p{self.number}"

    def does(self, action: Callable[[], None]) -> bool:
        """Do something, come what may; return whether it came to its end."""
        self.world.acting.append(self)
        try:
            action()
        except (SimulatedCrash, FencedError):
            self.gone = True
        except (UnavailableError, WorkflowRunningError):
            self.gone = self.gone or not hasattr(self, "writer") or self.writer.dead
        except CorruptCheckpointError as error:
            raise AssertionError(f"{self} takes something for damaged: {error}") from error
        else:
            return True
        finally:
            self.world.acting.remove(self)
        return False

    def open(self) -> None:
        world = self.world
        clock = iter(range(1, 1 << 30))
        patience = Patience(total_s=4.0, clock=lambda: float(next(clock)), sleep=lambda seconds: None)
        journal_id = new_journal_id(world.now + self.number / 1000, lambda bits: self.number)
        self.writer = JournalWriter.open(
            self.store, journal_id, "here", self.number, world.now, segment_bytes=400, patience=patience
        )
        world.processes.append(self)

    def act(self) -> None:
        chance = self.world.chance
        draw = chance.random()
        if draw < 0.45 and self.mine:
            self.note(chance.sample(self.mine, chance.randint(1, len(self.mine))))
        elif draw < 0.6:
            self.submit(chance.choice(_NAMES))
        elif draw < 0.85:
            self.acquire(chance.choice([*self.world.known, *_NAMES]))
        elif draw < 0.88:
            self.acquire_all()
        elif draw < 0.91:
            self.look(chance.choice(_NAMES))
        elif draw < 0.93:
            if self.world.collects:
                collect(self.store, self.world.now, _NEVER, archive_after_s=0.0, writer=self.writer)
        elif draw < 0.95:
            self.writer.beat(self.world.now)
        elif draw < 0.98 and self.mine:
            self.release(chance.choice(self.mine))
        else:
            self.retire()

    def submit(self, workflow_id: str) -> None:
        world = self.world
        epoch = adoption.begin(self.store, self.writer, workflow_id, world.now)
        if epoch is None:
            return
        record = records.Submission(workflow_id, epoch, f"{workflow_id} of {self}", "name", world.now, {}, {})
        self.writer.append([records.encode(record)])
        if find_end(world.memory, self.writer.journal_id).seal is None:  # else it is its heir's by now
            assert workflow_id not in world.known, f"{self} begins {workflow_id}, which {world.owner[workflow_id]} has"
            world.takes_over(self, workflow_id, [])
            self.mine.append(workflow_id)
        self.left_some = True

    def note(self, workflow_ids: Iterable[str]) -> None:
        """Add to workflows, in one flush."""
        world, notes, batch = self.world, {}, []
        for workflow_id in workflow_ids:
            world.notes += 1
            notes[workflow_id] = note = f"n{world.notes}"
            batch.append(
                records.encode(
                    records.Outcome(workflow_id, note, note, note, (), "value", True, "code", 1, world.now, 0.0)
                )
            )
        for workflow_id, note in notes.items():
            world.doubts(self, workflow_id, note)
        self.writer.append(batch)
        for workflow_id, note in notes.items():
            doubtful = world.doubtful.get(workflow_id, [])
            if note in doubtful:
                doubtful.remove(note)
            world.believes(self, workflow_id, note)

    def acquire(self, workflow_id: str) -> None:
        was_accepted = workflow_id in self.world.known
        try:
            taken = adoption.acquire(self.store, self.writer, workflow_id, self.world.now)
        except WorkflowNotFoundError:
            assert not was_accepted, f"{workflow_id} was accepted, and {self} is told it never was"
            return
        self._has(workflow_id, taken)

    def acquire_all(self) -> None:
        for workflow_id, taken in adoption.acquire_many(self.store, self.writer, self.world.now).items():
            self._has(workflow_id, taken)

    def _has(self, workflow_id: str, taken: adoption.Acquired) -> None:
        self.left_some = True
        found = _notes_in(taken.records)
        if self.world.owner.get(workflow_id) is self and workflow_id in self.mine:
            known = self.world.known[workflow_id]
            assert found == known, f"{self} owns {workflow_id}, knows {known}, and is told {found}"
            return
        self.world.takes_over(self, workflow_id, found)
        if workflow_id not in self.mine:
            self.mine.append(workflow_id)

    def look(self, workflow_id: str) -> None:
        """Read, without taking anything over."""
        world = self.world
        before = world.owner.get(workflow_id), list(world.known.get(workflow_id, ()))
        standing = look_up(self.store, workflow_id, world.now)
        if before[0] is None or before != (world.owner[workflow_id], world.known[workflow_id]):
            return
        assert standing is not None, f"{workflow_id} was accepted, and leads nowhere"
        if standing.history.settled and find_end(world.memory, before[0].writer.journal_id).seal is not None:
            world.sees(workflow_id, _notes_in(standing.history.records))

    def release(self, workflow_id: str) -> None:
        self.writer.append([records.encode(records.Released(workflow_id))])
        self.mine.remove(workflow_id)

    def retire(self) -> None:
        self.gone = True
        self.writer.retire(self.world.now, live_left=self.left_some)


def _notes_in(found: Iterable[records.Record]) -> list[str]:
    return [record.task_id for record in found if isinstance(record, records.Outcome)]


class _Way:
    """A process' way to the store: the five verbs, and what happens meanwhile."""

    shared = True

    def __init__(self, process: _Process) -> None:
        self.process, self.world = process, process.world
        self.memory = self.world.memory
        self.url = "takeovers://"

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        return self._call(lambda: self.memory.create(key, data), loses=True)  # type: ignore[no-any-return]

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        return self._call(lambda: self.memory.read(key, start=start, end=end))  # type: ignore[no-any-return]

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        data = list(chunks)
        self._call(lambda: self.memory.write(key, data))

    def list(self, prefix: str) -> Iterator[str]:
        return self._call(lambda: self.memory.list(prefix))  # type: ignore[no-any-return]

    def delete(self, key: str) -> None:
        self._call(lambda: self.memory.delete(key))

    def close(self) -> None:
        pass

    def _call(self, effect: Callable[[], Any], *, loses: bool = False, tear: Callable[[], Any] | None = None) -> Any:
        world, chance = self.world, self.world.chance
        world.calls += 1
        assert world.calls < _CALLS, "they go round in circles"
        self._meanwhile()
        if loses and chance.random() < world.lossy:
            if chance.random() < 0.5:
                effect()
            raise UnknownOutcomeError("the answer is lost")
        if tear is not None and chance.random() < world.lossy:
            tear()
            raise UnavailableError("the disk is full")
        answer = effect()
        self._meanwhile()
        return answer

    def _meanwhile(self) -> None:
        chance = self.world.chance
        while chance.random() < self.world.meddling:
            self.world.let_somebody_act()
        if chance.random() < self.world.deadly:
            raise SimulatedCrash(FailurePoint.BEFORE_FLUSH)


class _Appending(_Way):
    """The way to a store that appends too."""

    def appender(self, key: str) -> "Appender | None":
        made = self._call(lambda: self.memory.appender(key))
        return None if made is None else _Appender(self, made)


class _Appender:
    def __init__(self, way: _Way, inner: Appender) -> None:
        self._way, self._inner = way, inner

    def append(self, data: Buffer) -> None:
        world = self._way.world
        if world.chance.random() < world.meddling:  # a writer that sleeps just here sleeps through its own take-over
            for _ in range(4):
                world.let_somebody_act()
        half = bytes(data)[: len(data) // 2]
        self._way._call(lambda: self._inner.append(data), tear=lambda: self._inner.append(half))

    def close(self) -> None:
        self._inner.close()
