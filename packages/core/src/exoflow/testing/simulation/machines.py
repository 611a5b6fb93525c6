"""A simulated process: its clock, its threads, and how it dies.

`Machine` is a group of fibers and a `Runtime`: a controller that is given it has its turns, its flushes and its looks into the
inbox on fibers, in virtual time. Between any two jobs an arbitrary while passes, as it does between threads.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from exoflow.controller.runtime import Timer
from exoflow.testing.simulation.fibers import Group, Schedule, here

if TYPE_CHECKING:
    from exoflow.testing.simulation.outside import Outside

__all__ = ["EPOCH", "Machine"]

EPOCH = 1_700_000_000.0
"""What clocks that are right show when a simulation begins."""


class Machine(Group):
    """One process, and the clock of the machine it runs on.

    Args:
        schedule: Of the simulation.
        chance: Of the simulation.
        number: Its pid.
        outside: What its tasks act on.
    """

    def __init__(self, schedule: Schedule, chance: Random, number: int, outside: "Outside") -> None:
        super().__init__(schedule, f"p{number}")
        self.number, self.chance, self.outside = number, chance, outside
        self.ahead_s = 0.0
        """How far its clock is ahead of the right time."""
        self.on_death: list[Callable[[], None]] = []

    # --- the runtime ----------------------------------------------------------------------------------------------

    def time(self) -> float:
        """See `Runtime.time`."""
        return EPOCH + self.schedule.now + self.ahead_s

    def monotonic(self) -> float:
        """See `Runtime.monotonic`."""
        return self.schedule.now

    def random(self) -> float:
        """See `Runtime.random`."""
        return self.chance.random()

    def loop(self, turn: Callable[[], None], ring: Callable[[Callable[[], None]], None]) -> "_Loop":
        """See `Runtime.loop`."""
        return _Loop(self, turn, ring)

    def workers(self, name: str, count: int) -> "_Workers":
        """See `Runtime.workers`."""
        return _Workers(self, count)

    # --- the process ----------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Let it die as it stands: nothing of it runs any more, and the kernel takes its locks back."""
        if self.dead:
            return
        super().kill()
        for call in self.on_death:
            call()

    def hop_s(self) -> float:
        """Return how long a thread takes to wake up, for once."""
        chance = self.chance.random()
        if chance < 0.5:
            return 0.0
        return 0.0001 * chance if chance < 0.97 else 0.05 * self.chance.random()


class _Workers:
    def __init__(self, machine: Machine, count: int) -> None:
        self._machine, self._count = machine, count
        self._jobs: deque[Callable[[], None]] = deque()
        self._working = 0
        self._closed = False

    def submit(self, job: Callable[[], None]) -> None:
        if self._closed:
            return
        self._jobs.append(job)
        if self._working < self._count:
            self._working += 1
            self._machine.spawn(self._work, self._machine.hop_s())

    def close(self) -> None:
        self._closed = True

    def _work(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
        self._working -= 1


class _Loop:
    def __init__(self, machine: Machine, turn: Callable[[], None], ring: Callable[[Callable[[], None]], None]) -> None:
        self._machine, self._turn, self._ring = machine, turn, ring
        self._jobs: deque[Callable[[], None]] = deque()
        self._working = self._signalled = self._ended = False
        self._fiber: object = None

    def later(self, after_s: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        self._machine.later(max(0.0, after_s), lambda: self._due(timer))
        return timer

    def wake(self) -> None:
        if self._ended:
            self._turn()
        elif not self._signalled:
            self._signalled = True
            self._do(self._woken)

    def stop(self) -> None:
        self._do(self._end)

    def is_here(self) -> bool:
        fiber = here()
        return fiber is not None and fiber is self._fiber

    def _due(self, timer: Timer) -> None:
        if timer.call is not None and not self._ended:
            self._do(lambda: self._ring(timer.call) if timer.call is not None else None)

    def _woken(self) -> None:
        self._signalled = False
        self._turn()

    def _end(self) -> None:
        self._ended = True
        self._jobs.clear()
        self._turn()

    def _do(self, job: Callable[[], None]) -> None:
        if self._ended:
            return
        self._jobs.append(job)
        if not self._working:
            self._working = True
            self._machine.spawn(self._work, self._machine.hop_s())

    def _work(self) -> None:
        self._fiber = here()
        while self._jobs:
            self._jobs.popleft()()
        self._working, self._fiber = False, None
