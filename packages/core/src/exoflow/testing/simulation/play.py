"""One simulation from its seed: who lives, what they do, what happens to them, and whether all was kept.

First there is trouble; then the weather clears up, somebody with a healthy process goes on with whatever is left, and in
the end everything must have ended and be explained. `play` of a seed that fails fails again.
"""

import contextlib
import gc
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any

import attrs

from exoflow.graph.dag import compile_dag
from exoflow.journal.layout import STORE
from exoflow.journal.liveness import HEARTBEAT_PATIENCE_S
from exoflow.journal.store_identity import open_store
from exoflow.states import WorkflowStatus
from exoflow.stores.memory import MemoryStore
from exoflow.testing.simulation import seams
from exoflow.testing.simulation.clients import Books, Program, Workflow
from exoflow.testing.simulation.fibers import Event, Schedule
from exoflow.testing.simulation.machines import Machine
from exoflow.testing.simulation.outside import Outside, kept
from exoflow.testing.simulation.promises import all_is_explained
from exoflow.testing.simulation.stores import LATEST_S, Disk, Weather, open_client
from exoflow.testing.simulation.tasks import random_dag

__all__ = ["Played", "SimulationError", "play"]

_PATIENCE_S = 3000.0
"""How long after the trouble everything may take to end."""


class SimulationError(AssertionError):
    """A seed that shows a flaw."""


@attrs.frozen(kw_only=True)
class Played:
    """What became of a seed."""

    seed: int
    trace: str
    """A digest of all that happened, in order."""
    moments: int
    lasted_s: float
    told: dict[str, tuple[str, str]]
    counts: dict[str, int]


def play(seed: int, *, tell: Callable[[str], None] | None = None) -> Played:
    """Play one simulation.

    Args:
        seed: Of everything.
        tell: Told each line of the trace, when somebody wants to read it.

    Raises:
        SimulationError: A promise was broken; the message says how, and what happened last.
    """
    game = _Game(seed, tell)
    with seams.installed(), _quiet(game), _uncollected(), game.schedule:
        try:
            game.run()
        except BaseException as error:
            last = "\n  ".join(game.last)
            raise SimulationError(
                f"play({seed}) shows it: {type(error).__name__}: {error}\n\nat {game.schedule.now:.4f} s, after\n  {last}"
            ) from error
        finally:
            game.schedule.drain(list(game.machines))
    return Played(
        seed=seed,
        trace=game.digest.hexdigest(),
        moments=game.schedule.moments,
        lasted_s=game.schedule.now,
        told=game.outside.told,
        counts=game.counts,
    )


class _Game:
    def __init__(self, seed: int, tell: Callable[[str], None] | None) -> None:
        self.seed, self.tell = seed, tell
        self.schedule = Schedule()
        self.chance = chance = Random(seed)
        self.digest = blake2b(digest_size=16)
        self.last: deque[str] = deque(maxlen=40)
        self.counts: dict[str, int] = {}
        appends, locks = chance.choices(
            [(True, True), (False, False), (True, False), (False, True)], weights=[3, 5, 3, 1]
        )[0]
        weather = chance.choice(
            [
                Weather(),
                Weather(instant=0.1),
                Weather(instant=0.3, slow=0.1, slow_s=5.0),
                Weather(loses=0.02, refuses=0.005),
                Weather(loses=0.05, instant=0.2, tears=0.02),
                Weather(refuses=0.02, tears=0.05, slow=0.02, slow_s=20.0),
            ]
        )
        patchy = chance.random() < 0.3
        self.disk = Disk(chance, weather, appends=appends, locks=locks, patchy=patchy, note=self.note)
        self.disk.objects[STORE] = _identity()
        self.outside = Outside(
            chance,
            fallible=not locks,
            fences=chance.random() < 0.5,
            fails=chance.choice([0.0, 0.0, 0.1, 0.3]),
            confused=chance.choice([0.0, 0.0, 0.1]),
            note=self.note,
        )
        self.outside.lasts_s = chance.choice([0.1, 2.0, 2.0, 60.0])
        self.books = Books(self.outside)
        for number in range(chance.randint(1, 3)):
            self._invent(f"w{number}")
        self.loses = chance.choice([0.0, 0.0, 0.1])
        self.machines: list[Machine] = []
        self.programs: dict[Machine, Program] = {}
        self.stores: dict[Machine, Any] = {}
        self.horizon_s = 0.05 * 2000.0 ** chance.random()

    def note(self, *words: Any) -> None:
        line = " ".join([f"{self.schedule.now:.6f}", *map(str, words)])
        self.digest.update(line.encode())
        self.last.append(line)
        if self.tell is not None:
            self.tell(line)

    def _invent(self, workflow_id: str) -> None:
        chance = self.chance
        root = random_dag(
            chance,
            chance.choice([1, 2, 3, 3, 4, 5, 6]),
            grow=chance.choice([0, 0, 1, 2]),
            waits=chance.choice([0.0, 0.0, 0.2]),
            fences=self.outside.fences,
        )
        waits: dict[str, int] = {}
        for spec in compile_dag(root).nodes:
            if spec.kind == "event":
                waits[spec.args[0]] = waits.get(spec.args[0], 0) + 1
        self.books.workflows[workflow_id] = Workflow(workflow_id, root, waits)

    # --- the parts of a play --------------------------------------------------------------------------------------

    def run(self) -> None:
        chance, schedule = self.chance, self.schedule
        for number in range(chance.choice([1, 2, 2, 3])):
            schedule.at(self.horizon_s * chance.random() ** 3 * (number > 0), self._newcomer)
        for _ in range(chance.choice([0, 0, 1, 2])):
            schedule.at(self.horizon_s * chance.random(), self._trouble)
        for _ in range(chance.choice([0, 1, 2, 3, 5])):
            # Most of what can go wrong goes wrong while somebody is in a call.
            self.disk.ambushes[int(5 * 120 ** chance.random())] = self._trouble
        schedule.sleep(self.horizon_s)
        self.note("the weather clears up")
        self.books.over = True
        self.disk.weather.clear_up()
        self.outside.fails = self.outside.confused = self.loses = 0.0
        for machine in self.machines:
            self._settle_down(machine)
        self._in_a_healthy_process(self._end_everything)
        for machine in self.machines:
            machine.kill()
        self._in_a_healthy_process(self._ask_again)
        all_is_explained(self.books)

    def _program(self) -> Program:
        chance = self.chance
        machine = Machine(self.schedule, chance, len(self.machines) + 1, self.outside)
        store = open_client(self.disk, machine)
        program = Program(machine, store, self.books, workers=chance.choice([1, 2, 8]), loses=self.loses)
        self.machines.append(machine)
        self.programs[machine], self.stores[machine] = program, store
        return program

    def _newcomer(self) -> None:
        chance = self.chance
        if self.books.over:
            return
        program = self._program()
        rude = self.outside.fallible and chance.random() < 0.4
        if rude:  # it takes everybody for dead, whoever lives
            program.machine.ahead_s = 2 * HEARTBEAT_PATIENCE_S
            self._count("ahead")
        steps = chance.choice([0, 1, 3, 6])
        firsts: list[Callable[[], None]] = []
        if len(self.machines) == 1 or chance.random() < (0.2 if rude else 0.5):
            workflows = list(self.books.workflows.values())
            if chance.random() < 0.5:
                workflows = [chance.choice(workflows)]
            firsts = [partial(program.start, workflow) for workflow in workflows]
        else:
            firsts = [program.resume_all]
        program.machine.spawn(lambda: program.script(chance, firsts, steps, self.horizon_s))

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _trouble(self, machine: Machine | None = None) -> None:
        """Let something happen to somebody, and perhaps let somebody else come because of that."""
        chance = self.chance
        if self.books.over:
            return
        living = [each for each in self.machines if not each.dead]
        if machine is None or machine.dead:
            if not living:
                return
            machine = chance.choice(living)
        what, for_s, soon_s = chance.random(), 0.01 * 10_000.0 ** chance.random(), 0.001 * 10_000.0 ** chance.random()
        if what < 0.4:
            self._kill(machine)
        elif what < 0.7:
            if self.outside.fallible and chance.random() < 0.6:
                # Long enough to be taken for dead, and to wake up while the heir is at it.
                soon_s = HEARTBEAT_PATIENCE_S + chance.random()
                for_s = soon_s + 0.5 * chance.random() ** 2
            self._stop(machine, for_s)
        elif what < 0.8:
            machine.ahead_s += chance.choice([-1, 1]) * for_s
            self.note(machine.name, "its clock jumps to", machine.ahead_s)
            self._count("jumped")
        elif what < 0.9:
            self.stores[machine].cut_until = self.schedule.now + for_s
            self.note(machine.name, "is cut off for", for_s)
            self._count("cut off")
        else:
            soon_s = 0.01 * chance.random()
        if chance.random() < 0.8:
            self.schedule.at(soon_s, self._newcomer)

    def _kill(self, machine: Machine) -> None:
        if not machine.dead:
            self.note(machine.name, "is killed")
            self._count("killed")
            machine.kill()

    def _stop(self, machine: Machine, for_s: float) -> None:
        if machine.stopped:
            return
        self.note(machine.name, "is stopped for", for_s)
        self._count("stopped")
        machine.stop()

        def wake() -> None:
            if not machine.dead:
                self.note(machine.name, "wakes up")
                machine.go_on()

        self.schedule.at(for_s, wake)

    def _settle_down(self, machine: Machine) -> None:
        """The trouble is over; some processes end, in this way or that."""
        self.stores[machine].cut_until = 0.0
        fate = self.chance.random()
        if fate < 0.5:
            self._kill(machine)
        elif fate < 0.7 and not machine.stopped:
            machine.spawn(self.programs[machine].close)

    def _in_a_healthy_process(self, call: Callable[[Program], None]) -> None:
        program, done = self._program(), Event()

        def go() -> None:
            call(program)
            done.set()

        program.machine.spawn(go)
        done.wait()

    # --- the end --------------------------------------------------------------------------------------------------

    def _end_everything(self, program: Program) -> None:
        until = self.schedule.now + _PATIENCE_S + 2 * max((abs(m.ahead_s) for m in self.machines), default=0.0)
        messages_for = {w for w in self.books.accepted if w not in self.books.cancelled or self.chance.random() < 0.5}
        pause_s, quiet = 1.0, False
        while True:
            infos = program.engine.list()
            if not all(info.status.ended for info in infos):
                program.resume_all()
                self.schedule.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 30.0)
                infos = program.engine.list()
            left = {info.workflow_id: info for info in infos if not info.status.ended}
            for workflow_id, info in left.items():
                if info.status is WorkflowStatus.NEEDS_ATTENTION:
                    self._attend(program, workflow_id, (info.problem or "").partition(": ")[0])
                if workflow_id in messages_for or workflow_id not in self.books.cancelled:
                    for event, count in self._waits_of(workflow_id).items():
                        while self.books.sent.get((workflow_id, event), 0) < count:
                            program.send(workflow_id, event)
            if not left:
                if quiet:
                    return
                # Whatever others have begun just now is somebody else's; what they have sent may arrive for a while.
                self._kill_all_but(program)
                self.schedule.sleep(LATEST_S)
                quiet = True
            if self.schedule.now > until:
                raise AssertionError(f"after {_PATIENCE_S} s of fine weather these have not ended: {left}")

    def _waits_of(self, workflow_id: str) -> dict[str, int]:
        workflow = self.books.accepted.get(workflow_id) or self.books.workflows.get(workflow_id)
        if workflow is not None:
            return workflow.waits
        # One without a name, of which nobody was told that it was accepted.
        waits = [each.waits for each in self.books.workflows.values()]
        return {event: max(each.get(event, 0) for each in waits) for event in ("ping", "pong")}

    def _attend(self, program: Program, workflow_id: str, task_id: str) -> None:
        """Be the person who finds out what became of an effect."""
        self._kill_all_but(program)  # nothing of it may go on while somebody looks
        if program.look(workflow_id) is not WorkflowStatus.NEEDS_ATTENTION:
            return  # somebody went on with it just before
        happened, value = self.outside.person_looks(workflow_id, task_id)
        self.note("a person says", workflow_id, task_id, happened)
        self._count("attended")
        program.settle(workflow_id, task_id, happened, value)

    def _kill_all_but(self, program: Program) -> None:
        for machine in self.machines:
            if machine is not program.machine:
                self._kill(machine)

    def _ask_again(self, program: Program) -> None:
        known = {info.workflow_id: info for info in program.engine.list()}
        for workflow_id in self.books.accepted:
            kept(workflow_id in known, f"{workflow_id} was accepted, and is not listed")
        for workflow_id, info in known.items():
            kept(info.status.ended, f"{workflow_id} had ended, and is {info.status} now")
            program.result(workflow_id)
            kept(workflow_id in self.outside.told, f"{workflow_id} has ended, and nobody can be told how")
            kept(
                self.outside.told[workflow_id][0] == info.status, f"{workflow_id} was told otherwise than {info.status}"
            )
            workflow = self.books.workflows.get(workflow_id)
            if workflow is not None:
                program.start(workflow)


_store: list[bytes] = []


def _identity() -> bytes:
    """Return what ``store.json`` says: made by the library itself, once."""
    if not _store:
        memory = MemoryStore()
        open_store(memory, random_bits=Random(0).getrandbits)
        _store.append(bytes(memory.read(STORE)))
    return _store[0]


class _Errors(logging.Handler):
    def __init__(self, game: _Game) -> None:
        super().__init__(logging.ERROR)
        self._game = game

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        problem = AssertionError(f"logged as an error: {record.getMessage()}")
        problem.__cause__ = error
        self._game.schedule.fail(problem)


@contextlib.contextmanager
def _quiet(game: _Game) -> Iterator[None]:
    """Keep the library's warnings, which are right in such weather, to itself; take its errors for what they are."""
    logger, handler = logging.getLogger("exoflow"), _Errors(game)
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector out of it: a simulation lives shorter than its garbage is worth."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
