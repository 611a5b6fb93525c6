"""A simulated store: honest about its contract, and as unkind as that allows.

A call takes place at a moment between its beginning and its end, and other processes act before, between and after. It may be
refused, lose its answer, or (on a bucket) reach the store after its caller has given up, or died. A listing shows what is
created or deleted meanwhile, or not, key by key. An append may arrive in part and then fails. There are four kinds,
for the two abilities a store may have beside the five verbs; each process has a client of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import attrs

from exoflow.errors import ObjectNotFoundError, UnavailableError, UnknownOutcomeError, UsageError
from exoflow.stores.contract import Buffer
from exoflow.testing.simulation.fibers import DeadlockError, Died
from exoflow.testing.simulation.machines import Machine

__all__ = ["LATEST_S", "Disk", "Weather", "open_client"]

LATEST_S = 40.0
"""How long after its caller has given up a call may reach a store."""

_MOST_CALLS = 100_000
"""Of one simulation. What makes more goes round in circles."""


@attrs.define(kw_only=True)
class Weather:
    """How likely a store is to misbehave, for each call."""

    instant: float = 0.5
    """That nothing else happens during the call."""
    slow: float = 0.05
    """That it takes long."""
    slow_s: float = 1.0
    """How long that is, at most."""
    refuses: float = 0.0
    loses: float = 0.0
    """That the answer is lost; the call took place, or not, or takes place later."""
    tears: float = 0.0

    def clear_up(self) -> None:
        """Misbehave no more."""
        self.refuses = self.loses = self.tears = 0.0


class Disk:
    """What all clients of a simulated store share.

    Args:
        chance: Of the simulation.
        weather: How the store behaves.
        appends: Whether objects can be added to.
        locks: Whether the kernel knows who lives.
        patchy: Whether a listing shows what is created or deleted meanwhile key by key, or as it is in the end.
        note: Takes a line for the trace.
    """

    def __init__(
        self, chance: Random, weather: Weather, *, appends: bool, locks: bool, patchy: bool, note: Callable[..., None]
    ) -> None:
        self.chance, self.weather, self.note = chance, weather, note
        self.appends, self.locks, self.patchy = appends, locks, patchy
        self.objects: dict[str, bytes | bytearray] = {}
        self.holders: dict[str, _Lock] = {}
        self.flights: dict[Machine, dict[_Flight, None]] = {}
        self.calls = 0
        self.ambushes: dict[int, Callable[[Machine], None]] = {}
        """What happens to whoever makes the call of that number, counted over all processes: somewhere in the midst of it."""

    @property
    def remote(self) -> bool:
        """Whether a call may reach the store after its caller has given up."""
        return not self.locks

    def forget(self, machine: Machine) -> None:
        """A process died: decide about calls it was in, and take its locks back."""
        for flight in list(self.flights.pop(machine, ())):
            if flight.landed:
                continue
            fate = self.chance.random()
            if fate < 0.4:
                flight.land()
            elif fate < 0.7 or not self.remote:
                if flight.tear is not None and fate < 0.6:
                    flight.tear()
                flight.landed = True  # it never will
        for key in [key for key, lock in self.holders.items() if lock.machine is machine]:
            del self.holders[key]


@attrs.define(eq=False)
class _Flight:
    """One call on its way."""

    effect: Callable[[], Any]
    tear: Callable[[], Any] | None = None
    landed: bool = False
    answer: Any = None
    error: Exception | None = None

    def land(self) -> None:
        if self.landed:
            return
        self.landed = True
        try:
            self.answer = self.effect()
        except Exception as error:
            self.error = error


class _Client:
    """One process' way to the store; the five verbs."""

    shared = True

    def __init__(self, disk: Disk, machine: Machine) -> None:
        self.url = "simulated://store"
        self.cut_until = 0.0
        """Until when nothing gets through."""
        self._disk, self._machine = disk, machine
        self._flights = disk.flights.setdefault(machine, {})

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        """See `ObjectStore.create`."""
        content, objects = bytes(data), self._disk.objects

        def effect() -> bool:
            if key in objects:
                return False
            objects[key] = content
            return True

        return self._call("create", key, effect, unknown=True)  # type: ignore[no-any-return]

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """See `ObjectStore.read`."""

        def effect() -> bytes:
            content = self._disk.objects.get(key)
            if content is None:
                raise ObjectNotFoundError(key)
            return bytes(content[start:end])

        return self._call("read", key, effect)  # type: ignore[no-any-return]

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""
        content = b"".join([bytes(chunk) for chunk in chunks])

        def effect() -> None:
            self._disk.objects[key] = content
            self._disk.holders.pop(key, None)

        self._call("write", key, effect, changes=True)

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        objects, chance = self._disk.objects, self._disk.chance
        before = {key for key in objects if key.startswith(prefix)}

        def effect() -> list[str]:
            after = {key for key in objects if key.startswith(prefix)}
            if before == after or not self._disk.patchy:
                return sorted(after)
            return [key for key in sorted(before | after) if (key in before and key in after) or chance.random() < 0.5]

        return iter(self._call("list", prefix, effect, at_the_end=True))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""

        def effect() -> None:
            self._disk.objects.pop(key, None)
            self._disk.holders.pop(key, None)

        self._call("delete", key, effect, changes=True)

    def close(self) -> None:
        """See `ObjectStore.close`."""

    # --- how a call goes ------------------------------------------------------------------------------------------

    def _call(
        self,
        verb: str,
        key: str,
        effect: Callable[[], Any],
        *,
        changes: bool = False,
        unknown: bool = False,
        tear: Callable[[], Any] | None = None,
        at_the_end: bool = False,
        may_fail: bool = True,
    ) -> Any:
        disk, machine = self._disk, self._machine
        chance, weather, schedule = disk.chance, disk.weather, machine.schedule
        if machine.dead:
            raise Died
        disk.calls += 1
        if disk.calls > _MOST_CALLS:
            schedule.fail(DeadlockError(f"no end after {_MOST_CALLS} calls of the store"))
            schedule.sleep(0.0)
        ambush = disk.ambushes.pop(disk.calls, None)
        if ambush is not None:
            schedule.at(0.002 * chance.random() ** 2, lambda: ambush(machine))
        cut = may_fail and schedule.now < self.cut_until
        draw = chance.random() if may_fail and not cut else 1.0
        refused = cut or draw < weather.refuses
        lost = not refused and (changes or unknown) and draw < weather.refuses + weather.loses
        torn = not refused and not lost and tear is not None and draw < weather.refuses + weather.loses + weather.tears
        if not (refused or lost or torn or ambush) and chance.random() < weather.instant:
            flight = _Flight(effect)
            flight.land()
        else:
            flight = self._fly(effect, tear, lost=lost, never=refused or torn, at_the_end=at_the_end)
            if torn and tear is not None:
                tear()
        fate = "refused" if refused else "lost" if lost else "torn" if torn else ""
        disk.note(machine.name, verb, key, fate or flight.answer if verb != "read" else fate or flight.error is None)
        if refused or torn:
            raise UnavailableError(f"{verb} {key}: the simulated store refused")
        if lost:
            raise (UnknownOutcomeError if unknown else UnavailableError)(f"{verb} {key}: the answer was lost")
        if flight.error is not None:
            raise flight.error
        return flight.answer

    def _fly(
        self, effect: Callable[[], Any], tear: Callable[[], Any] | None, *, lost: bool, never: bool, at_the_end: bool
    ) -> _Flight:
        disk, machine = self._disk, self._machine
        chance, weather, schedule = disk.chance, disk.weather, machine.schedule
        takes = 0.0005 + 0.002 * chance.random()
        if chance.random() < weather.slow:
            takes += weather.slow_s * chance.random() ** 2
        there = takes if at_the_end else takes * chance.random()
        if lost:
            fate = chance.random()
            never = fate < 0.4
            if disk.remote and fate > 0.8:
                there = takes + LATEST_S * chance.random() ** 3
        flight = _Flight(effect, tear, landed=never)
        if not never:
            self._flights[flight] = None
            schedule.at(there, flight.land)  # the store does it, whatever has become of the caller
        try:
            schedule.sleep(takes)
        finally:
            if flight.landed:
                self._flights.pop(flight, None)
        if not lost and not never and not flight.landed:
            flight.land()  # both moments are the same
        return flight


class _Appends:
    """What a disk can do beside the five verbs."""

    _disk: Disk
    _call: Callable[..., Any]

    def appender(self, key: str) -> "_Appender | None":
        """See `SupportsAppend.appender`."""
        log, objects = bytearray(), self._disk.objects

        def effect() -> bool:
            if key in objects:
                return False
            objects[key] = log
            return True

        return _Appender(self, key, log) if self._call("appender", key, effect, unknown=True) else None

    def peek(self, key: str) -> Callable[[], bool]:
        """See `exoflow.journal.writer.SupportsPeek`."""
        return lambda: self._call("peek", key, lambda: key in self._disk.objects)


class _Appender:
    def __init__(self, store: _Appends, key: str, log: bytearray) -> None:
        self._store, self._key, self._log = store, key, log
        self._usable = True

    def append(self, data: Buffer) -> None:
        """See `Appender.append`."""
        if not self._usable:
            raise UsageError(f"the appender of {self._key} is closed, or has failed")
        content, log = bytes(data), self._log
        kept = int(self._store._disk.chance.random() * len(content))
        try:
            self._store._call(
                "append", self._key, lambda: log.extend(content), changes=True, tear=lambda: log.extend(content[:kept])
            )
        except BaseException:
            self._usable = False
            raise

    def close(self) -> None:
        """See `Appender.close`."""
        self._usable = False


class _Locks:
    """What a kernel knows."""

    _disk: Disk
    _machine: Machine
    _call: Callable[..., Any]

    def lock(self, key: str) -> "_Lock | None":
        """See `SupportsLocks.lock`."""
        disk = self._disk

        def effect() -> _Lock | None:
            if key not in disk.objects:
                raise ObjectNotFoundError(key)
            if key in disk.holders:
                return None
            made = disk.holders[key] = _Lock(disk, key, self._machine)
            return made

        return self._call("lock", key, effect, may_fail=False)  # type: ignore[no-any-return]

    def is_locked(self, key: str) -> bool:
        """See `SupportsLocks.is_locked`."""
        return self._call("is_locked", key, lambda: key in self._disk.holders, may_fail=False)  # type: ignore[no-any-return]


@attrs.define(eq=False)
class _Lock:
    disk: Disk
    key: str
    machine: Machine

    def release(self) -> None:
        """See `Lock.release`."""
        if self.disk.holders.get(self.key) is self:
            del self.disk.holders[self.key]

    def __repr__(self) -> str:
        return f"lock of {self.machine.name}"


class _Disk(_Client, _Appends, _Locks):
    pass


class _Bucket(_Client):
    pass


class _RemoteDisk(_Client, _Appends):
    pass


class _LockingBucket(_Client, _Locks):
    pass


_KINDS: dict[tuple[bool, bool], type[_Client]] = {
    (True, True): _Disk,
    (False, False): _Bucket,
    (True, False): _RemoteDisk,
    (False, True): _LockingBucket,
}


def open_client(disk: Disk, machine: Machine) -> "_Client":
    """Return the store as *machine* sees it."""
    client = _KINDS[disk.appends, disk.locks](disk, machine)
    machine.on_death.append(lambda: disk.forget(machine))
    return client
