"""What a workflow's functions were really called with and what they returned, held against what the tasks declare.

A witness sees calls from inside of an executor. What it can tell without knowing the world: a task declared
deterministic that is not, a key that came with two sets of inputs, a resolve function that says what is not so.
"""

import contextlib
import functools
import inspect
import io
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from exoflow.errors import UsageError
from exoflow.executors.calling import function_of
from exoflow.executors.contract import Call, CallKind, Services
from exoflow.executors.inline import InlineExecutor
from exoflow.failures.triggers import pattern_of
from exoflow.graph.node import Node
from exoflow.plugins import hookimpl
from exoflow.plugins.manager import manager
from exoflow.tasks.policy import Effects, TaskPolicy
from exoflow.tasks.task import Task
from exoflow.tasks.verdicts import read_verdict

__all__ = ["EXECUTOR", "Called", "Snapshot", "Witness", "Witnessing", "witnessed"]

EXECUTOR = "witnessed"
"""The name of the executor, once a witness was made: ``inline``, and somebody looks on."""


class Snapshot:
    """A value as it was, to be compared later. What cannot be pickled is not known, and compares as equal."""

    def __init__(self, value: object) -> None:
        self._bytes = _pickled(value)

    @property
    def known(self) -> bytes | None:
        """The same for equal values, mostly; None if it is not known."""
        return self._bytes

    @property
    def value(self) -> Any:
        """A copy of it; None if it is not known."""
        return None if self._bytes is None else pickle.loads(self._bytes)

    def same(self, other: "Snapshot") -> bool:
        """Whether both are the same value, as far as that is known."""
        if self._bytes is None or other._bytes is None or self._bytes == other._bytes:
            return True
        try:
            return bool(self.value == other.value)
        except Exception:  # arrays do not say whether they are equal, but their bytes do
            return False

    def __repr__(self) -> str:
        return "a value that cannot be pickled" if self._bytes is None else _short(self.value)


@attrs.define(kw_only=True)
class Called:
    """One call of a function of the user's."""

    kind: CallKind
    task_id: str
    name: str
    """Of the task: what makes two of them the same."""
    policy: TaskPolicy
    key: str
    inputs: Snapshot
    result: Snapshot | None = None
    """None if it has not returned, or returned a node."""


class Witness:
    """All calls of one workflow id, in one world."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self._lock = threading.Lock()

    def watch(self, call: Call) -> Call:
        """Return *call*, to be noted when its function is called and when that returns."""
        policy: TaskPolicy = call.task.policy
        try:
            watched = self._watched(call, function_of(call))
        except UsageError:  # there is no such function: let the executor say so
            return call
        if call.kind is CallKind.TASK:
            task: Any = Task(watched, policy)
        else:
            undoing = call.kind is CallKind.UNDO
            evolved = attrs.evolve(policy, undo=watched) if undoing else attrs.evolve(policy, resolve=watched)
            task = Task(call.task.function, evolved)
        return attrs.evolve(call, task=task)

    def _watched(self, call: Call, function: Callable[..., Any]) -> Callable[..., Any]:
        name = call.task.qualified_name

        def begin(args: Any, kwargs: Any) -> Called:
            called = Called(
                kind=call.kind, task_id=call.task_id, name=name, policy=call.task.policy, key=call.key,
                inputs=Snapshot((args, kwargs)),
            )  # fmt: skip
            with self._lock:
                self.calls.append(called)
            return called

        def end(called: Called, result: Any) -> Any:
            if not isinstance(result, Node):
                called.result = Snapshot(result)
            return result

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
                called = begin(args, kwargs)
                return end(called, await function(*args, **kwargs))

            return watched_coroutine

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            called = begin(args, kwargs)
            return end(called, function(*args, **kwargs))

        return watched

    def of(self, kind: CallKind, key: str) -> list[Called]:
        """Return the calls of one kind with one key, in their order."""
        return [called for called in self.calls if called.kind is kind and called.key == key]

    def broken_claims(self) -> Iterator[str]:
        """Say which declarations the calls of this world contradict."""
        seen: dict[str, Called] = {}
        for called in self.calls:
            keyed = called.policy.effects in (Effects.IDEMPOTENT, Effects.ONCE)
            if called.kind is CallKind.TASK and keyed:
                first = seen.setdefault(called.key, called)
                if not first.inputs.same(called.inputs):
                    yield (
                        f"task {called.task_id!r} was called with two sets of inputs under the key {called.key!r}: "
                        f"{first.inputs} and {called.inputs}; something it reads is not as deterministic as declared"
                    )
            elif called.kind is CallKind.RESOLVE:
                yield from self._broken_verdict(called)

    def _broken_verdict(self, resolve: Called) -> Iterator[str]:
        if resolve.result is None:
            return
        try:
            happened, value = read_verdict(resolve.task_id, resolve.result.value)
        except UsageError:
            return  # the engine says so
        before = self.calls[: self.calls.index(resolve)]
        attempts = [c for c in before if c.kind is CallKind.TASK and c.key == resolve.key]
        returned = [attempt.result for attempt in attempts if attempt.result is not None]
        said = f"the resolve function of task {resolve.task_id!r} said {resolve.result} of the key {resolve.key!r}"
        if happened is False and returned:
            yield f"{said}, and an attempt with it had returned {returned[0]}"
        elif happened and not attempts:
            yield f"{said}, and the task had never been called with it"
        elif happened and returned and not any(each.same(Snapshot(value)) for each in returned):
            yield f"{said}, and the attempt with it had returned {returned[0]}"

    def contradicts(self, other: "Witness") -> Iterator[str]:
        """Say which deterministic tasks returned one value here and another in the world of *other*."""
        known: dict[tuple[str, bytes], Snapshot] = {}
        for called in (*other.calls, *self.calls):
            if called.kind is not CallKind.TASK or not called.policy.deterministic or called.result is None:
                continue
            inputs = called.inputs.known
            if inputs is None:
                continue
            before = known.setdefault((called.name, inputs), called.result)
            if not before.same(called.result):
                yield (
                    f"task {pattern_of(called.task_id)!r} is declared deterministic, and returned {before} and "
                    f"{called.result} for the inputs {called.inputs}"
                )
                return


# --- the executor -----------------------------------------------------------------------------------------------------

_witnesses: "weakref.WeakValueDictionary[str, Witness]" = weakref.WeakValueDictionary()
"""By workflow id: an executor is made by name, and knows nothing but the calls it is given."""


class Witnessing(InlineExecutor):
    """``inline``, where the witness of a workflow, if it has one, is shown its calls."""

    name = EXECUTOR

    def __init__(self, services: Services) -> None:
        super().__init__(services)

    def start(self, call: Call) -> None:
        """See `Executor.start`."""
        witness = _witnesses.get(call.workflow_id)
        super().start(call if witness is None else witness.watch(call))


class _Plugin:
    @hookimpl
    def exoflow_executors(self) -> Any:
        return {EXECUTOR: Witnessing}


@contextlib.contextmanager
def witnessed(workflow_id: str) -> Iterator[Witness]:
    """Let a new witness see the calls of one workflow id, where the executor is `EXECUTOR`."""
    if EXECUTOR not in manager().executors():
        manager().register(_Plugin(), EXECUTOR)
    witness = _witnesses[workflow_id] = Witness()
    try:
        yield witness
    finally:
        _witnesses.pop(workflow_id, None)


def _pickled(value: object) -> bytes | None:
    # Equal values may share their parts differently. Without a memo that leaves no trace, but cycles need one.
    for forgetful in (True, False):
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=5)
        pickler.fast = forgetful
        try:
            pickler.dump(value)
        except Exception:
            continue
        return buffer.getvalue()
    return None


def _short(value: object, longest: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
