"""A store that fails on purpose, around any store that does not.

What fails is decided by a plan: `Scheduled` names the calls, `Chances` draws them from a `random.Random` that the
caller seeds. Nothing here is global, so tests with faults run side by side. What the wrapped store can do beyond the
five verbs, appends and locks, the faulty one can too.
"""

import fnmatch
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Self, TypeAlias, TypeVar

import attrs

from exoflow.errors import UnavailableError, UnknownOutcomeError, UsageError
from exoflow.stores.contract import Appender, Buffer, Lock, ObjectStore, SupportsAppend, SupportsLocks

__all__ = [
    "At",
    "Call",
    "Chances",
    "Delay",
    "Fault",
    "FaultyStore",
    "LoseAnswer",
    "Plan",
    "Refuse",
    "Scheduled",
    "StaleList",
    "Tear",
]

T = TypeVar("T")

_CHANGING: Final = frozenset({"append", "appender", "create", "delete", "write"})
_VERBS: Final = _CHANGING | {"is_locked", "list", "lock", "read"}
_REMEMBERED = 1000


@attrs.frozen
class Call:
    """One call of a store, as a plan sees it before it happens."""

    verb: str
    key: str
    """The prefix, for ``list``."""
    number: int
    """Counts the calls of this verb from 1."""


@attrs.frozen(kw_only=True)
class Fault:
    """Something that goes wrong with one call."""

    verbs: ClassVar[frozenset[str]] = _VERBS
    """The calls it can happen to."""

    error: Callable[[], BaseException] | None = None
    """Makes what is raised instead of the store's own error: a `SimulatedCrash`, where the controller dies of it."""


@attrs.frozen(kw_only=True)
class Refuse(Fault):
    """Nothing happens, and the caller is told so: `UnavailableError`."""


@attrs.frozen(kw_only=True)
class LoseAnswer(Fault):
    """The caller does not hear what became of the call: `UnknownOutcomeError`."""

    verbs: ClassVar[frozenset[str]] = _CHANGING

    happens: bool = True
    """Whether the call took place; its answer is lost in either case."""


@attrs.frozen(kw_only=True)
class Tear(Fault):
    """Only the first bytes arrive, and the call fails: `UnavailableError`.

    To an append this happens wherever a disk is full or a machine loses power. No honest store does it to a ``create``
    or a ``write``; tests of how damage is found may.
    """

    verbs: ClassVar[frozenset[str]] = frozenset({"append", "create", "write"})

    keep_bytes: int = attrs.field(validator=attrs.validators.ge(0))


@attrs.frozen(kw_only=True)
class Delay(Fault):
    """The call takes longer, and then goes well or not."""

    delay_s: float = attrs.field(validator=attrs.validators.ge(0))
    then: Fault | None = None


@attrs.frozen(kw_only=True)
class StaleList(Fault):
    """The listing comes from a cache: it lacks the newest objects, up to *missing* of them. No honest store does it."""

    verbs: ClassVar[frozenset[str]] = frozenset({"list"})

    missing: int = attrs.field(default=1, validator=attrs.validators.ge(1))


Plan: TypeAlias = Callable[[Call], Fault | None]
"""What goes wrong with a call, if anything. Asked once for each call, one call at a time."""


@attrs.frozen
class At:
    """A fault and the calls it happens to: from the *nth* of *verb* on a matching key, *times* in a row."""

    verb: str = attrs.field(validator=attrs.validators.in_(_VERBS))
    fault: Fault
    nth: int = attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))
    times: float = attrs.field(default=1, kw_only=True)
    """`math.inf` for all that follow."""
    key: str = attrs.field(default="*", kw_only=True)
    """A pattern as of the shell: ``journals/*``."""

    def __attrs_post_init__(self) -> None:
        if self.verb not in self.fault.verbs:
            raise UsageError(f"{self.fault} cannot happen to {self.verb!r}: expected one of {sorted(self.fault.verbs)}")


class Scheduled:
    """A plan that names the calls that fail.

    ::

        Scheduled(At("append", Tear(keep_bytes=7), nth=3), At("create", LoseAnswer(), key="claims/*"))
    """

    def __init__(self, *entries: At) -> None:
        self._entries = entries
        self._met = [0] * len(entries)

    def __call__(self, call: Call) -> Fault | None:
        """Return the fault of the first entry that applies."""
        found = None
        for number, entry in enumerate(self._entries):
            if entry.verb == call.verb and fnmatch.fnmatchcase(call.key, entry.key):
                self._met[number] += 1
                if found is None and entry.nth <= self._met[number] < entry.nth + entry.times:
                    found = entry.fault
        return found


class Chances:
    """A plan that leaves it to chance.

    Args:
        chance: Seeded by the caller, who prints the seed.
        faults: Each with its probability, for every call it can happen to.
    """

    def __init__(self, chance: random.Random, faults: Mapping[Fault, float]) -> None:
        self._chance = chance
        self._faults = dict(faults)

    def __call__(self, call: Call) -> Fault | None:
        """Draw once for each fault that can happen to the call; the first that is drawn happens."""
        for fault, probability in self._faults.items():
            if call.verb in fault.verbs and self._chance.random() < probability:
                return fault
        return None


class FaultyStore:
    """A store around *store*, whose calls fail as *plan* says.

    Args:
        store: Where the bytes go. Several faulty stores may share one, each a client with troubles of its own.
        plan: Without one, nothing fails. May be replaced at any time.
        capacity_bytes: How much may be stored through this client before the store is full, as a disk is: a ``create``
            or ``write`` is then refused, and of an ``append`` as much is stored as there is room for. Deleting makes
            room again. May be changed at any time; None is no limit.
        sleep: Waits for so many seconds; a simulation passes its own.
    """

    def __new__(cls, store: ObjectStore, *_: object, **__: object) -> Self:
        """Choose the kind of faulty store that has the abilities of *store*."""
        kind: Any = cls
        if cls is FaultyStore:
            kind = _KINDS[isinstance(store, SupportsAppend), isinstance(store, SupportsLocks)]
        made: Self = object.__new__(kind)
        return made

    def __init__(
        self,
        store: ObjectStore,
        plan: Plan | None = None,
        *,
        capacity_bytes: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner: Any = store
        self.plan = plan
        self.capacity_bytes = capacity_bytes
        self.url: str = store.url
        self.shared: bool = store.shared
        self.calls: Counter[str] = Counter()
        """How often each verb was called."""
        self._sleep = sleep
        self._mutex = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._newest: deque[str] = deque(maxlen=_REMEMBERED)

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        """See `ObjectStore.create`."""

        def act(part: Buffer) -> bool:
            won: bool = self.inner.create(key, part, timeout_s=timeout_s)
            if won:
                self._made(key, memoryview(part).nbytes)
            return won

        fault = self._meet("create", key)
        if memoryview(data).nbytes > self._room():
            raise _full(f"create {key}")
        return _suffer(fault, f"create {key}", lambda: act(data), lambda keep: act(_first(data, keep)))

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Buffer:
        """See `ObjectStore.read`."""
        fault = self._meet("read", key)
        answer: Buffer = _suffer(fault, f"read {key}", lambda: self.inner.read(key, start=start, end=end))
        return answer

    def write(self, key: str, chunks: Iterable[Buffer]) -> None:
        """See `ObjectStore.write`."""

        def act(part: Iterable[Buffer]) -> None:
            size = 0

            def counted() -> Iterator[Buffer]:
                nonlocal size
                for chunk in part:
                    size += memoryview(chunk).nbytes
                    if size > self._room():
                        raise _full(f"write {key}")
                    yield chunk

            self.inner.write(key, counted())
            self._made(key, size)

        fault = self._meet("write", key)
        _suffer(fault, f"write {key}", lambda: act(chunks), lambda keep: act(_first_of_all(chunks, keep)))

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        fault = self._meet("list", prefix)
        listing: Iterator[str] = _suffer(fault, f"list {prefix}", lambda: self.inner.list(prefix))
        if not isinstance(fault, StaleList):
            return listing
        with self._mutex:
            newest = [key for key in self._newest if key.startswith(prefix)]
        return filter(lambda key: key not in newest[-fault.missing :], listing)

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""

        def act() -> None:
            self.inner.delete(key)
            with self._mutex:
                self._sizes.pop(key, None)

        _suffer(self._meet("delete", key), f"delete {key}", act)

    def close(self) -> None:
        """See `ObjectStore.close`. Never fails."""
        self.inner.close()

    def _meet(self, verb: str, key: str) -> Fault | None:
        """Count a call, wait as long as the plan wants, and return what else goes wrong with it."""
        with self._mutex:
            self.calls[verb] += 1
            fault = self.plan and self.plan(Call(verb, key, self.calls[verb]))
        while isinstance(fault, Delay):
            self._sleep(fault.delay_s)
            fault = fault.then
        return fault

    def _room(self) -> float:
        if self.capacity_bytes is None:
            return math.inf
        with self._mutex:
            return self.capacity_bytes - sum(self._sizes.values())

    def _made(self, key: str, size: int) -> None:
        with self._mutex:
            self._sizes[key] = size
            self._newest.append(key)

    def _grew(self, key: str, size: int) -> None:
        with self._mutex:
            self._sizes[key] = self._sizes.get(key, 0) + size

    def __repr__(self) -> str:
        return f"<FaultyStore around {self.inner!r}>"


class _WithAppend(FaultyStore):
    def appender(self, key: str) -> Appender | None:
        """See `SupportsAppend.appender`."""

        def act() -> Appender | None:
            log: Appender | None = self.inner.appender(key)
            if log is None:
                return None
            self._made(key, 0)
            return _FaultyAppender(self, key, log)

        return _suffer(self._meet("appender", key), f"create {key}", act)


class _WithLocks(FaultyStore):
    def lock(self, key: str) -> Lock | None:
        """See `SupportsLocks.lock`."""
        lock: Lock | None = _suffer(self._meet("lock", key), f"lock {key}", lambda: self.inner.lock(key))
        return lock

    def is_locked(self, key: str) -> bool:
        """See `SupportsLocks.is_locked`."""
        fault = self._meet("is_locked", key)
        answer: bool = _suffer(fault, f"look at the lock of {key}", lambda: self.inner.is_locked(key))
        return answer


class _WithAppendAndLocks(_WithAppend, _WithLocks):
    pass


_KINDS: Final = {
    (False, False): FaultyStore,
    (True, False): _WithAppend,
    (False, True): _WithLocks,
    (True, True): _WithAppendAndLocks,
}


class _FaultyAppender:
    def __init__(self, store: FaultyStore, key: str, log: Appender) -> None:
        self._store = store
        self._key = key
        self._log = log
        self._sound = True

    def append(self, data: Buffer) -> None:
        """See `Appender.append`."""

        def act(part: Buffer) -> None:
            self._log.append(part)
            self._store._grew(self._key, memoryview(part).nbytes)

        doing = f"append to {self._key}"
        if not self._sound:
            raise UnavailableError(f"cannot {doing}: an earlier append failed; go on in an object of another key")
        fault = self._store._meet("append", self._key)
        self._sound = False
        room = self._store._room()
        if memoryview(data).nbytes > room:
            act(_first(data, int(max(0, room))))
            raise _full(doing)
        _suffer(fault, doing, lambda: act(data), lambda keep: act(_first(data, keep)))
        self._sound = True

    def close(self) -> None:
        """See `Appender.close`."""
        self._log.close()


def _suffer(fault: Fault | None, doing: str, act: Callable[[], T], torn: Callable[[int], object] | None = None) -> T:
    """Do *act* as *fault* lets it."""
    if fault is None or isinstance(fault, StaleList):
        return act()
    if isinstance(fault, LoseAnswer):
        if fault.happens:
            act()
        error: BaseException = UnknownOutcomeError(f"no answer came when trying to {doing} (on purpose); read it back")
    else:
        if isinstance(fault, Tear) and torn is not None:
            torn(fault.keep_bytes)
        error = UnavailableError(f"cannot {doing}: the store refused (on purpose); wait, then resume")
    raise fault.error() if fault.error is not None else error


def _full(doing: str) -> UnavailableError:
    return UnavailableError(f"cannot {doing}: no space left (on purpose); free some space, then resume")


def _first(data: Buffer, count: int) -> memoryview:
    return memoryview(data).cast("B")[:count] if memoryview(data).nbytes else memoryview(b"")


def _first_of_all(chunks: Iterable[Buffer], count: int) -> Iterator[Buffer]:
    for chunk in chunks:
        part = _first(chunk, count)
        yield part
        count -= part.nbytes
