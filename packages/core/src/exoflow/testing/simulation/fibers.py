"""Fibers, of which one runs at a time, and virtual time, which passes only while all of them wait.

The library's code blocks: in a store call, on a promise, in a sleep. So a fiber is a thread, and what makes a run
repeatable is a baton: only who has it runs, and it is handed over at those calls alone, to whom the schedule says. The
schedule is a heap of moments; a moment either does something itself or wakes a fiber. Nothing here looks at a real clock.

A fiber belongs to a `Group`, which plays a process: while it is stopped none of its fibers wakes, and when it is killed each
of them ends with `Died` at the call in which it waits.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from exoflow.failures.points import FailurePoint, SimulatedCrash

__all__ = ["DeadlockError", "Died", "Event", "Fiber", "Group", "Mutex", "Schedule", "here"]

Moment = Callable[[], "Fiber | None"]
"""Something that happens in the schedule; returns the fiber that goes on because of it, if any."""


class Died(SimulatedCrash):
    """The fiber's process was killed. No handler survives it, as none survives SIGKILL."""

    def __init__(self) -> None:
        super().__init__(FailurePoint.BEFORE_FLUSH)


class DeadlockError(AssertionError):
    """Somebody waits, and nothing will ever happen any more."""


class _Here(threading.local):
    fiber: "Fiber | None" = None


_here: Final = _Here()


def here() -> "Fiber | None":
    """Return the fiber this code runs on; None outside of a simulation."""
    return _here.fiber


class Group:
    """Fibers that are stopped, woken and killed together.

    Args:
        schedule: Of the simulation.
        name: For traces.
    """

    def __init__(self, schedule: "Schedule", name: str) -> None:
        self.schedule, self.name = schedule, name
        self.dead = self.stopped = False
        self.fibers: dict[Fiber, None] = {}
        self._frozen: list[Moment] = []

    def spawn(self, job: Callable[[], None], after_s: float = 0.0) -> None:
        """Run *job* on a fiber of its own, in a while."""
        if self.dead:
            return
        fiber = _idle.pop() if _idle else Fiber()
        fiber.group, fiber.job = self, job
        self.fibers[fiber] = None
        self.schedule.wake(fiber, after_s)

    def later(self, after_s: float, call: Callable[[], None]) -> None:
        """Make *call*, which does not block, in a while: if the group lives then, and not while it is stopped."""

        def moment() -> None:
            if self.dead:
                return
            if self.stopped:
                self._frozen.append(moment)
            else:
                call()

        self.schedule.at(after_s, moment)

    def freeze(self, moment: Moment) -> None:
        """Have *moment* once the group goes on."""
        self._frozen.append(moment)

    def stop(self) -> None:
        """Let nothing of it run."""
        self.stopped = True

    def go_on(self) -> None:
        """Let it run again: at once, with all that should have happened meanwhile."""
        self.stopped = False
        frozen, self._frozen = self._frozen, []
        for moment in frozen:
            self.schedule.at(0.0, moment)

    def kill(self) -> None:
        """End every fiber of it, now."""
        self.dead, self.stopped = True, False
        self._frozen.clear()
        for fiber in list(self.fibers):
            if fiber is not _here.fiber:
                self.schedule.wake(fiber, -1.0)  # before anything else happens


class Fiber:
    """One flow of control; a thread that is used again."""

    __slots__ = ("baton", "group", "job", "turn")

    def __init__(self, *, thread: bool = True) -> None:
        self.group: Group
        self.job: Callable[[], None] | None = None
        self.turn = 0
        """Counts its waits: what would have ended an earlier one does not end this."""
        self.baton = threading.Lock()
        self.baton.acquire()
        if thread:
            threading.Thread(target=self._live, name="exoflow-fiber", daemon=True).start()

    def _live(self) -> None:
        while True:
            self.baton.acquire()
            _here.fiber = self
            group, job = self.group, self.job
            assert job is not None
            try:
                if not group.dead:
                    job()
            except Died:
                pass
            except BaseException as error:
                group.schedule.fail(error)
            self.turn += 1
            self.job = None
            del group.fibers[self]
            _here.fiber = None
            # Idle while it still has the baton, so that the next one to spawn may take this thread.
            _idle.append(self)
            schedule = group.schedule
            del group, job
            schedule.pass_on(None)
            del schedule


_idle: list[Fiber] = []


class Schedule:
    """What happens next, and the time.

    Args:
        limit: How many moments there may be at most.
    """

    def __init__(self, limit: int = 1_000_000) -> None:
        self.now = 0.0
        self.moments = 0
        self.failure: BaseException | None = None
        self._limit = limit
        self._heap: list[tuple[float, int, Moment]] = []
        self._count = 0
        self.main = Fiber(thread=False)
        self.main.group = Group(self, "main")
        self.main.group.fibers[self.main] = None

    def __enter__(self) -> Self:
        _here.fiber = self.main
        return self

    def __exit__(self, *_: object) -> None:
        _here.fiber = None

    def at(self, after_s: float, moment: Moment) -> None:
        """Have *moment* in a while."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + after_s, self._count, moment))

    def wake(self, fiber: Fiber, after_s: float = 0.0, turn: int | None = None) -> None:
        """End a wait of *fiber*, in a while; unless something else ends it before.

        Args:
            fiber: Which.
            after_s: In how many seconds.
            turn: Which wait; the one it is in, or is about to begin, when None.
        """
        if turn is None:
            turn = fiber.turn

        def moment() -> Fiber | None:
            if fiber.turn != turn:
                return None
            if fiber.group.stopped:
                fiber.group.freeze(moment)
                return None
            return fiber

        self.at(after_s, moment)

    def sleep(self, seconds: float) -> None:
        """Let time pass for the fiber this is called on."""
        fiber = _here.fiber
        assert fiber is not None
        if fiber.group.dead:
            raise Died
        self.wake(fiber, seconds)
        self.wait()

    def wait(self) -> None:
        """Wait until somebody wakes the fiber this is called on.

        Raises:
            Died: Its group was killed.
            DeadlockError: Nobody will.
        """
        fiber = _here.fiber
        assert fiber is not None
        if fiber.group.dead:
            raise Died
        self.pass_on(fiber)
        if fiber.group.dead:
            raise Died
        if self.failure is not None and fiber is self.main:
            raise self.failure

    def fail(self, error: BaseException) -> None:
        """Let the simulation end with *error*; the first one counts."""
        if self.failure is None:
            self.failure = error

    def pass_on(self, fiber: Fiber | None) -> None:
        """Go on with whatever is next, and return when it is the turn of *fiber* again; at once for None."""
        _here.fiber = None  # what happens in the schedule itself happens on nobody's behalf
        chosen = self._next()
        chosen.turn += 1
        if chosen is not fiber:
            chosen.baton.release()
            if fiber is None:
                return
            fiber.baton.acquire()
        _here.fiber = fiber

    def _next(self) -> Fiber:
        heap = self._heap
        while heap and self.failure is None:
            when, _, moment = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            self.moments += 1
            try:
                if self.moments > self._limit:
                    raise DeadlockError(f"no end after {self._limit} moments")
                chosen = moment()
            except BaseException as error:
                self.fail(error)
                break
            if chosen is not None:
                return chosen
        if self.failure is None:
            self.failure = DeadlockError("somebody waits, and nothing will ever happen any more")
        return self.main

    def drain(self, groups: "list[Group]") -> None:
        """Kill *groups* and let their fibers end, whatever has failed before."""
        failure, self.failure = self.failure, None
        self._heap.clear()
        for group in groups:
            group.kill()
        self._limit += 1_000_000
        while any(group.fibers for group in groups):
            self.wake(self.main)
            self.pass_on(self.main)
            self.failure, failure = None, failure or self.failure
        self._heap.clear()
        self.failure = failure


class Event:
    """As `threading.Event`, for fibers."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[tuple[Fiber, int]] = []

    def is_set(self) -> bool:
        """Whether it is."""
        return self._set

    def set(self) -> None:
        """Wake everybody who waits, from now on for ever."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for fiber, turn in waiting:
            fiber.group.schedule.wake(fiber, turn=turn)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it is."""
        fiber = _here.fiber
        if self._set or fiber is None:
            return self._set
        if timeout is not None and timeout <= 0:
            return False
        schedule = fiber.group.schedule
        waiting = fiber, fiber.turn
        self._waiting.append(waiting)
        if timeout is not None:
            schedule.wake(fiber, timeout)
        schedule.wait()
        if not self._set:
            self._waiting.remove(waiting)
        return self._set


class Mutex:
    """As `threading.RLock`, for fibers."""

    def __init__(self) -> None:
        self._owner: Fiber | None = None
        self._depth = 0
        self._waiting: deque[tuple[Fiber, int]] = deque()

    def __enter__(self) -> Self:
        fiber = _here.fiber
        assert fiber is not None
        while self._owner is not None and self._owner is not fiber:
            self._waiting.append((fiber, fiber.turn))
            fiber.group.schedule.wait()
        self._owner = fiber
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            if self._waiting:
                fiber, turn = self._waiting.popleft()
                fiber.group.schedule.wake(fiber, turn=turn)
