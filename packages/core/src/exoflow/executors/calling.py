"""From a call to what is reported of it: the part of running a task that is the same in every executor.

`Caller.perform` runs a call to its end on the thread it is given; executors decide which thread, which process, and
what stopping means. An outcome is told in one event, or in two when its bytes become durable after its value is known.
"""

import mmap
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from itertools import islice
from types import CoroutineType
from typing import Any, TypeAlias

import attrs

from exoflow.engine.events import (
    AttemptEvent,
    CommitFailed,
    Failed,
    Finished,
    Persisted,
    Resolved,
    UndoFailed,
    Undone,
)
from exoflow.errors import UnserializableResultError, UsageError
from exoflow.executors.contract import Call, CallKind, Persistence
from exoflow.executors.portable import portable
from exoflow.graph.dag import Dag, Upstream, compile_dag, fill
from exoflow.graph.node import Node
from exoflow.stores.contract import Buffer, ObjectStore
from exoflow.tasks.context import current_call
from exoflow.tasks.verdicts import read_verdict
from exoflow.values import INLINE_BYTES, Codec, Encoded, Live, Payload, Value, persist, restore

__all__ = [
    "Begun",
    "Caller",
    "Kept",
    "Later",
    "Prepared",
    "StoreSpeed",
    "Told",
    "UnreadableInputError",
    "codec_of",
    "crashed",
    "finish",
    "function_of",
    "is_simulated_crash",
    "is_small",
    "key_of",
    "keys_of",
    "make_durable",
    "parts_of",
    "runs_on_loop",
    "told",
    "unless_crashed",
    "unserializable",
]

Later: TypeAlias = Callable[[], AttemptEvent]
"""Makes an outcome durable, which may take long, and returns what is to be reported of that. Does not raise."""

Told: TypeAlias = tuple[AttemptEvent, Later | None]
"""What to report now, and what is left to do after it has been reported."""

Prepared: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function with its arguments."""

# Looking up a member of an Enum class costs as much as a function call.
_TASK = CallKind.TASK
_UNDO = CallKind.UNDO
_NONE = Persistence.NONE
_BEFORE = Persistence.BEFORE
_MEASURED = Persistence.MEASURED

_ATOMS = frozenset({int, str, float, bool, bytes, type(None), complex})
_CO_COROUTINE = 0x80
_PIECE = 8 << 20


@attrs.frozen
class Begun:
    """A call that turned out to be a coroutine, which somebody has to await in this context."""

    coroutine: Coroutine[Any, Any, Any]
    context: Context
    started: float


@attrs.frozen
class Kept:
    """What was done for the durability of an outcome."""

    payload: Payload | None
    worth_keeping: bool = True
    later: Later | None = None


class StoreSpeed:
    """A running estimate of how long the store takes for a blob: so much for any, and so much per byte.

    It begins with a guess (an ordinary disk) and follows what is measured. Updates from several threads may get lost,
    which an estimate can bear.
    """

    def __init__(self) -> None:
        self.latency_s = 2e-3
        self.bytes_per_s = 200e6

    def seconds_for(self, size_bytes: int) -> float:
        """Return how long storing that much promises to take."""
        if size_bytes <= INLINE_BYTES:
            # It lies in the journal, whose flush is shared and happens anyway: encoding and copying is what it costs.
            return 20e-6 + size_bytes / self.bytes_per_s
        return self.latency_s + size_bytes / self.bytes_per_s

    def observe(self, size_bytes: int, seconds: float) -> None:
        """Learn from one blob that was written."""
        if size_bytes >= 1 << 20:
            rest = max(seconds - self.latency_s, seconds / 10, 1e-9)
            self.bytes_per_s += 0.3 * (size_bytes / rest - self.bytes_per_s)
        else:
            self.latency_s += 0.3 * (seconds - self.latency_s)


class Caller:
    """Runs calls. One for each executor; shared by its threads.

    Args:
        store: Where inputs are read and outcomes go.
        codec: How values become bytes.
        interruptible: Ctrl-C on the main thread is the user's, and goes through the task to whoever called.
    """

    def __init__(self, store: ObjectStore, codec: Codec, *, interruptible: bool = False) -> None:
        self.store = store
        self.codec = codec
        self.speed = StoreSpeed()
        self._interruptible = interruptible

    # --- the three steps ------------------------------------------------------------------------------------------

    def perform(self, call: Call) -> Told | Begun:
        """Do all of it: read the inputs, run the function, store the outcome as the call asks.

        Raises only what must not be survived: a simulated crash, and the user's Ctrl-C where that is possible.
        """
        try:
            function, args, kwargs = self.prepare(call)
        except Exception as error:
            return self.unprepared(call, error), None
        context = copy_context()
        started = time.perf_counter()
        try:
            value = context.run(_call, call, function, args, kwargs)
        except BaseException as error:
            return self.raised(call, error, time.perf_counter() - started), None
        if type(value) is CoroutineType:
            return Begun(value, context, started)
        return self.returned(call, value, time.perf_counter() - started)

    def prepare(self, call: Call) -> Prepared:
        """Return the function and its arguments, read and put together.

        Raises:
            UnreadableInputError: An input could not be read back.
            Exception: Whatever the classes of the arguments raise when they are put together.
        """
        inputs = call.inputs
        if call.kind is _TASK:
            function = call.task.function
            if not inputs:
                return function, call.args, call.kwargs
            values = [value.value if type(value) is Live else self._read(call, value) for value in inputs]
            kwargs = call.kwargs
            return function, _fill(call.args, values), fill(kwargs, values) if kwargs else kwargs
        function = function_of(call)
        if call.kind is not _UNDO:
            return function, (call.key,), {}
        if not inputs:
            return function, call.args, call.kwargs
        args, keywords = self._read(call, inputs[0])
        return function, tuple(args), dict(keywords)

    def returned(self, call: Call, value: Any, seconds: float) -> Told:
        """Return what to report of a function that returned *value*."""
        if call.kind is not _TASK:
            if call.kind is _UNDO:
                return Undone(call.attempt), None
            try:
                happened, value = read_verdict(call.task_id, value)
            except UsageError as error:
                return UndoFailed(call.attempt, portable(error)), None
            if not happened:
                return Resolved(call.attempt, happened), None
        elif isinstance(value, Node):
            try:
                dag = compile_dag(value)
            except Exception as error:
                return self.raised(call, error, seconds), None
            return self.outcome(call, dag, None, dag, seconds)
        elif isinstance(value, list | tuple | dict) and _holds_nodes(value):
            return self.raised(call, _nodes_in_vain(value), seconds), None
        if call.task.policy.catch_exceptions:
            value = (value, None)
        return self.outcome(call, value, Live(value), None, seconds)

    # --- the rest -------------------------------------------------------------------------------------------------

    def raised(self, call: Call, error: BaseException, seconds: float) -> AttemptEvent:
        """Return what to report of a function that raised.

        Raises:
            BaseException: *error* itself, if nobody may survive it.
        """
        if is_simulated_crash(error) or (
            self._interruptible
            and isinstance(error, KeyboardInterrupt)
            and threading.current_thread() is threading.main_thread()
        ):
            raise error
        if call.kind is _TASK:
            return Failed(call.attempt, portable(error), False, True, seconds)
        return UndoFailed(call.attempt, portable(error))

    def unprepared(self, call: Call, error: Exception) -> AttemptEvent:
        """Return what to report of a call whose function was never called."""
        if isinstance(error, UnreadableInputError) and error.__cause__ is not None:
            found = error.__cause__
            found.add_note(f"while reading an input of task {call.task_id!r}")
            if call.kind is _TASK:
                return Failed(call.attempt, portable(found), True)
            return UndoFailed(call.attempt, portable(found))
        return self.raised(call, error, 0.0)

    def outcome(self, call: Call, stored: Any, value: Value | None, dag: Dag | None, seconds: float) -> Told:
        """Return what to report of the outcome *value* or *dag*, whose durable form is that of *stored*."""
        if call.persistence is _NONE:
            if call.kind is _TASK:
                return Finished(call.attempt, value, None, dag, seconds), None
            return Resolved(call.attempt, True, value), None
        try:
            encoded = self.codec.encode(stored)
        except Exception as error:
            return told(call, value, dag, seconds, self.unstorable(call, error))
        return told(call, value, dag, seconds, self.keep(call, encoded, seconds))

    def unstorable(self, call: Call, error: Exception) -> Kept:
        """Return what became of an outcome that cannot be encoded."""
        if call.persistence is _MEASURED:
            return Kept(None, worth_keeping=False)
        failure = CommitFailed(call.attempt, unserializable(call.task_id, error))
        return Kept(None, later=lambda: failure)

    def keep(self, call: Call, encoded: Encoded, seconds: float, *, owned: bool = False) -> Kept:
        """Do for the durability of an outcome what the call asks for, which is not to be nothing.

        Args:
            call: Whose outcome it is.
            encoded: The outcome.
            seconds: How long computing it took.
            owned: Nobody else can change the memory of *encoded*, so it is a snapshot already.
        """
        size = sum(encoded.lengths)
        if call.persistence is _MEASURED and self.speed.seconds_for(size) > seconds:
            return Kept(None, worth_keeping=False)
        if size <= INLINE_BYTES:
            return Kept(persist(encoded, self.codec.name, self.store, call.blob_key))
        if call.persistence is _BEFORE or call.kind is not _TASK:
            event = self.write(call, encoded)
            if type(event) is Persisted:
                return Kept(event.payload)
            return Kept(None, later=lambda: event)
        snapshot = encoded if owned else _snapshot(encoded)
        return Kept(None, later=lambda: self.write(call, snapshot))

    def write(self, call: Call, encoded: Encoded) -> Persisted | CommitFailed:
        """Make an encoded outcome durable."""
        started = time.perf_counter()
        try:
            payload = persist(encoded, self.codec.name, self.store, call.blob_key)
        except Exception as error:
            return CommitFailed(call.attempt, portable(error))
        self.speed.observe(payload.size_bytes, time.perf_counter() - started)
        return Persisted(call.attempt, payload)

    def _read(self, call: Call, value: Value) -> Any:
        if type(value) is Live:
            return value.value
        assert isinstance(value, Payload)
        try:
            return restore(value, codec_of(value, self.codec), self.store)
        except Exception as error:
            raise UnreadableInputError from error


class UnreadableInputError(Exception):
    """An input could not be read back from the store; the cause says why. Never reported itself."""


def make_durable(
    attempt: str, task_id: str, value: Value, *, store: ObjectStore, codec: Codec, blob_key: str
) -> Persisted | CommitFailed:
    """Store the value of an attempt that ended long ago. May take long.

    Args:
        attempt: Named in the answer.
        task_id: Named in the error, if it cannot be stored.
        value: What it returned. A payload that is durable already is answered as it is.
        store: Where a large value goes.
        codec: How it becomes bytes.
        blob_key: Under which name; a key never used before.
    """
    try:
        if type(value) is Live:
            try:
                encoded = codec.encode(value.value)
            except Exception as error:
                return CommitFailed(attempt, unserializable(task_id, error))
            return Persisted(attempt, persist(encoded, codec.name, store, blob_key))
        assert isinstance(value, Payload)
        if value.data is None or len(value.data) <= INLINE_BYTES:
            return Persisted(attempt, value)
        return Persisted(attempt, persist(Encoded(parts_of(value)), value.codec, store, blob_key))
    except Exception as error:
        return CommitFailed(attempt, portable(error))


def codec_of(payload: Payload, usual: Codec) -> Codec:
    """Return the codec that wrote *payload*: nearly always the *usual* one, else that of its name."""
    if payload.codec == usual.name:
        return usual
    from exoflow.plugins.manager import make_codec

    return make_codec(payload.codec)


def parts_of(payload: Payload) -> tuple[memoryview, ...]:
    """Return the parts of a payload that is in memory, as views of it."""
    assert payload.data is not None
    view, end, parts = memoryview(payload.data), 0, []
    for length in payload.lengths:
        start = -(-end // 64) * 64
        end = start + length
        parts.append(view[start:end])
    return tuple(parts)


def function_of(call: Call) -> Callable[..., Any]:
    """Return what a call calls.

    Raises:
        UsageError: The task has no such function.
    """
    if call.kind is _TASK:
        return call.task.function  # type: ignore[no-any-return]
    policy = call.task.policy
    function: Callable[..., Any] | None = policy.undo if call.kind is _UNDO else policy.resolve
    if function is None:
        wanted = "rollback" if call.kind is _UNDO else "resolve"
        raise UsageError(f"task {call.task_id!r} has no {wanted}=... function; it had one when it was started")
    return function


def key_of(call: Call) -> str:
    """Return a name for a call among those that run: an undo may overlap the attempt that it undoes."""
    return call.attempt if call.kind is _TASK else f"{call.attempt} {call.kind.value}"


def keys_of(attempt: str) -> tuple[str, ...]:
    """Return all the names `key_of` may give to calls of an attempt."""
    return tuple(attempt if kind is _TASK else f"{attempt} {kind.value}" for kind in CallKind)


def runs_on_loop(call: Call) -> bool:
    """Whether a call is of a coroutine function."""
    if call.kind is _TASK:
        code = getattr(call.task.function, "__code__", None)
        # inspect.iscoroutinefunction says the same and takes ten times as long.
        return bool(code.co_flags & _CO_COROUTINE) if code is not None else call.task.is_async
    policy = call.task.policy
    code = getattr(policy.undo if call.kind is _UNDO else policy.resolve, "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


def crashed(call: Call, error: BaseException) -> AttemptEvent:
    """Return what tells the driver of a simulated crash, on a thread that nobody waits for.

    There the crash has no caller to go through to. It is reported as it is, and not as ended, for the driver to raise.
    """
    if call.kind is _TASK:
        return Failed(call.attempt, error, system=True, ended=False)
    return UndoFailed(call.attempt, error)


def unless_crashed(call: Call, work: Callable[[], Told]) -> Told:
    """Do *work* on a thread that nobody waits for."""
    try:
        return work()
    except BaseException as error:
        if not is_simulated_crash(error):
            raise
        return crashed(call, error), None


def finish(call: Call, later: Later) -> AttemptEvent:
    """Do what was left for later, on a thread that nobody waits for."""
    try:
        return later()
    except BaseException as error:
        if not is_simulated_crash(error):
            raise
        return CommitFailed(call.attempt, error)


def is_simulated_crash(error: BaseException) -> bool:
    """Whether an exception plays the death of this process, which no handler survives."""
    return getattr(error, "exoflow_simulated_crash", False) is True


def is_small(value: Any, budget: int = 4096) -> bool:
    """Whether a value is quick to encode, judged quickly: plain data, and not much of it."""
    return _cost(value, budget) <= budget


def _cost(value: Any, budget: int) -> int:
    kind = type(value)
    if kind is str or kind is bytes:
        return 16 + len(value)
    if kind in _ATOMS:
        return 16
    if (kind is list or kind is tuple or kind is dict) and len(value) <= budget // 16:
        cost = 64
        for item in (*value, *value.values()) if kind is dict else value:
            cost += _cost(item, budget - cost)
            if cost > budget:
                break
        return cost
    return budget + 1


def _holds_nodes(value: Any) -> bool:
    """Whether a container begins with nodes: looking at all of a large one would cost every task that returns one."""
    return any(isinstance(item, Node) for item in islice(value.values() if isinstance(value, dict) else value, 16))


def _nodes_in_vain(value: Any) -> UsageError:
    return UsageError(
        f"the task returned a {type(value).__name__} of nodes, which would never run: "
        "return one node that takes them, `return collect.bind([...])`, and it goes on with that"
    )


def _call(call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    current_call.set(call)  # in a context of its own, which ends with the call
    return function(*args, **kwargs)


def _fill(template: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    """As `fill`, but quick where arguments are results themselves or plain values, as they nearly always are."""
    filled = []
    for item in template:
        kind = type(item)
        if kind is Upstream:
            filled.append(values[item.position])
        elif kind in _ATOMS:
            filled.append(item)
        else:
            filled.append(fill(item, values))
    return tuple(filled)


def told(call: Call, value: Value | None, dag: Dag | None, seconds: float, kept: Kept) -> Told:
    """Return what to report of an outcome, given what was done for its durability."""
    if call.kind is _TASK:
        return Finished(call.attempt, value, kept.payload, dag, seconds, kept.worth_keeping), kept.later
    return Resolved(call.attempt, True, value, kept.payload), kept.later


def unserializable(task_id: str, error: Exception) -> BaseException:
    """Return the error of a task whose result the codec refused with *error*."""
    found = UnserializableResultError(task_id, f"{type(error).__name__}: {error}")
    found.__cause__ = error
    return portable(found)


def _snapshot(encoded: Encoded) -> Encoded:
    """Copy the parts that alias the value's own memory, which its readers may change from now on."""
    return Encoded(tuple(part if type(part) is bytes else _copy(part) for part in encoded.parts))


def _copy(part: Buffer) -> Buffer:
    view = memoryview(part).cast("B")
    if type(view.obj) is bytes:
        return view
    if view.nbytes < 1 << 20:
        return bytes(view)
    # bytes() would hold the interpreter for the whole copy (0.3 s for 1 GiB), and bytearray() would clear the memory
    # first. A mapping also goes back to the system when the blob is written.
    copy = mmap.mmap(-1, view.nbytes)
    for start in range(0, view.nbytes, _PIECE):
        copy[start : start + _PIECE] = view[start : start + _PIECE]
    return memoryview(copy)
