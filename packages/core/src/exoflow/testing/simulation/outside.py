"""The outside of all workflows: what tasks do to it, and the witness of that, whom no crash makes forget.

A value is a name, under which the witness knows what it was made of: so a lost incarnation cannot hide in anything that was
seen. What must never happen is found when it happens (`begin`, `undo`, `resolve`); what must be true in the end, by
`exoflow.testing.simulation.promises`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import attrs

from exoflow.executors.contract import Call
from exoflow.graph.node import Node
from exoflow.tasks.context import current_call
from exoflow.tasks.policy import Effects, TaskPolicy
from exoflow.tasks.verdicts import DidNotHappen, Happened
from exoflow.testing.simulation.fibers import here
from exoflow.testing.simulation.machines import Machine
from exoflow.testing.simulation.tasks import NotHappenedError, TaskError, random_dag

__all__ = ["BrokenPromiseError", "Made", "Outside", "RefusedError", "Start", "id_of", "kept"]

_LARGE = "." * 17_000
"""What makes a value too large for its record."""


class BrokenPromiseError(AssertionError):
    """Something happened that must not."""


def kept(condition: bool, otherwise: str) -> None:
    """Hold a promise against what happened."""
    if not condition:
        raise BrokenPromiseError(otherwise)


class RefusedError(TaskError):
    """The receiver does not let an effect in any more."""


@attrs.frozen
class Made:
    """What a task made, and of what."""

    id: str
    workflow: str
    name: str
    sources: tuple[str, ...]
    """The names of what it read."""
    inputs: tuple[str, ...]
    """What it read, in the same order."""
    deterministic: bool
    attempt: str
    """That made it; of a deterministic task, the first."""
    failed: bool = False


@attrs.define(eq=False)
class Start:
    """One attempt."""

    attempt: str
    workflow: str
    task_id: str
    name: str
    key: str
    policy: TaskPolicy
    how: dict[str, Any]
    inputs: tuple[str, ...]
    machine: Machine
    running: bool = True
    happened: bool = False
    undone: bool = False
    denied: bool = False
    """It was said that it did not happen."""
    failed: bool = False
    made: str | None = None
    value: Any = None

    @property
    def stands(self) -> bool:
        """Whether its effect is in the world."""
        return self.happened and not self.undone


def id_of(value: Any) -> str:
    """Return which value this is: its name without its weight; that of an exception, if it was caught."""
    if type(value) is tuple and len(value) == 2:
        value, error = value
        if isinstance(error, TaskError):
            return str(error.args[0])
        if error is not None:
            return f"{type(error).__name__}"
    return str(value).rstrip(".")


class Outside:
    """What is outside of every simulated process.

    Args:
        chance: Of the simulation.
        fallible: Whether a process that lives may be taken for dead.
        fences: Whether every receiver refuses what was undone or denied.
        fails: How likely a task is to raise.
        confused: How likely an undo is to.
        note: Takes a line for the trace.
    """

    def __init__(
        self, chance: Random, *, fallible: bool, fences: bool, fails: float, confused: float, note: Callable[..., None]
    ) -> None:
        self.chance, self.fallible, self.note = chance, fallible, note
        self.fences, self.fails, self.confused = fences, fails, confused
        self.lasts_s = 2.0
        """How long a task that takes its time takes."""
        self.made: dict[str, Made] = {}
        self.starts: dict[str, Start] = {}
        self.by_name: dict[tuple[str, str], list[Start]] = {}
        self.fixed: dict[tuple[str, str], str] = {}
        """What nondeterministic tasks made of which somebody outside has seen something."""
        self.told: dict[str, tuple[str, str]] = {}
        """How a workflow ended, once anybody was told."""
        self.refused: set[str] = set()
        """Keys that receivers let in no more."""
        self._deterministic: dict[tuple[Any, ...], str] = {}
        self._growths: dict[str, Node] = {}

    # --- what tasks do --------------------------------------------------------------------------------------------

    def act(self, name: str, how: dict[str, Any], inputs: tuple[Any, ...]) -> Any:
        """Be a task."""
        with _watched():
            start = self._begin(_call(), _machine(), name, how, inputs)
            try:
                return self._act(start)
            finally:
                start.running = False

    def _act(self, start: Start) -> Any:
        chance, policy = self.chance, start.policy
        self._pause()
        draw = chance.random()
        if draw < self.fails / 2:
            raise self._error(start, chance.random() < 0.5 and NotHappenedError in policy.not_happened)
        if policy.effects is not Effects.NONE:
            self._happen(start)
        self._pause()
        if draw < self.fails and policy.effects is not Effects.ONCE:
            raise self._error(start, False)
        made = self._make(start, failed=False)
        return self._growth(made, start.how) if "grow" in start.how else self._value(start)

    def _value(self, start: Start) -> str:
        assert start.made is not None
        return start.made + _LARGE if "large" in start.how else start.made

    def _growth(self, made: Made, how: dict[str, Any]) -> Node:
        found = self._growths.get(made.id)
        if found is None:
            chance = Random(f"{made.id} {made.workflow}")
            found = self._growths[made.id] = random_dag(
                chance, chance.randint(1, 3), grow=how["grow"] - 1, waits=0.0, fences=self.fences, within=made.id
            )
        return found

    def _begin(self, call: Call, machine: Machine, name: str, how: dict[str, Any], inputs: tuple[Any, ...]) -> Start:
        policy, attempt, workflow = call.task.policy, call.attempt, call.workflow_id
        seen = tuple(id_of(each) for each in inputs)
        start = Start(attempt, workflow, call.task_id, name, call.key, policy, how, seen, machine)
        self.note(machine.name, "begins", attempt, name, *seen)
        what = f"{workflow} {name}: {attempt}"
        kept(attempt not in self.starts, f"{what} was started before")
        earlier = self.by_name.setdefault((workflow, name), [])
        # What a process does that was taken for dead and woke up: without effects, or refused, or under the same key.
        excused = self.fallible and (start.key in self.refused or policy.effects in (Effects.NONE, Effects.IDEMPOTENT))
        if not excused:
            self._nothing_is_known_of_it_yet(start, what)
            for other in earlier:
                self._is_out_of_the_way(other, start, what)
        if policy.effects in (Effects.IDEMPOTENT, Effects.ONCE):
            for other in earlier:
                if other.key == start.key:
                    kept(other.inputs == seen, f"{what}: the key {start.key} is used with {other.inputs} and {seen}")
        if policy.effects in (Effects.IDEMPOTENT, Effects.ONCE):
            self.fix(how.get("within"), *seen)
        self.starts[attempt] = start
        earlier.append(start)
        return start

    def _nothing_is_known_of_it_yet(self, start: Start, what: str) -> None:
        if start.policy.effects is not Effects.NONE:
            kept(start.workflow not in self.told, f"{what} starts, and its workflow has ended")
        if not start.policy.deterministic or start.policy.catch_exceptions:
            fixed = self.fixed.get((start.workflow, start.name))
            kept(fixed is None, f"{what} starts, and somebody outside has seen what it made before: {fixed}")

    def _is_out_of_the_way(self, other: Start, start: Start, what: str) -> None:
        effects = start.policy.effects
        if effects not in (Effects.ROLLBACK, Effects.ONCE):
            return
        if effects is Effects.ONCE:
            kept(not other.happened, f"{what} starts, and {other.attempt} happened")
        if other.key in self.refused and not other.stands:
            return  # nothing of it can come any more, whatever it is at
        kept(not other.running, f"{what} starts while {other.attempt} runs")
        if effects is Effects.ROLLBACK:
            kept(other.undone, f"{what} starts, and {other.attempt} was not undone")
        else:
            kept(other.denied, f"{what} starts, and nobody said that {other.attempt} did not happen")

    def _happen(self, start: Start) -> None:
        """Let the effect in."""
        if start.key in self.refused:
            raise RefusedError(f"refused {start.key}")
        self.note(start.machine.name, "happens", start.attempt)
        effects = start.policy.effects
        if effects in (Effects.ONCE, Effects.ROLLBACK):
            for other in self.by_name[start.workflow, start.name]:
                kept(not other.stands, f"{start.attempt} of {start.name} happens, and {other.attempt} has happened")
            kept(not start.undone, f"{start.attempt} of {start.name} happens, and was undone before")
        start.happened = True

    def _error(self, start: Start, denied: bool) -> TaskError:
        start.failed = True
        made = self._make(start, failed=True)
        if denied:
            start.denied = True
            return NotHappenedError(made.id)
        return TaskError(made.id)

    def _make(self, start: Start, *, failed: bool) -> Made:
        if start.made is not None and not failed:  # the receiver was asked for it meanwhile
            return self.made[start.made]
        how = start.how
        deterministic = bool(start.policy.deterministic) and not failed
        within = (how["within"],) if "within" in how else ()
        identity = (start.workflow, start.name, start.inputs)
        if deterministic and identity in self._deterministic:
            start.made = self._deterministic[identity]
            return self.made[start.made]
        made = Made(
            f"m{len(self.made)}",
            start.workflow,
            start.name,
            (*("within" for _ in within), *how["from"]),
            (*within, *start.inputs),
            deterministic,
            start.attempt,
            failed,
        )
        self.made[made.id] = made
        start.made = made.id
        if deterministic:
            self._deterministic[identity] = made.id
        return made

    def _pause(self) -> None:
        draw, machine = self.chance.random(), _machine()
        if draw < 0.3:
            return
        machine.schedule.sleep((0.02 if draw < 0.8 else self.lasts_s) * self.chance.random())

    # --- what is asked of receivers -------------------------------------------------------------------------------

    def undo(self, name: str, inputs: tuple[Any, ...]) -> None:
        """Be an undo function."""
        with _watched():
            self._undo(_call(), _machine(), name, inputs)

    def _undo(self, call: Call, machine: Machine, name: str, inputs: tuple[Any, ...]) -> None:
        attempt, workflow = call.attempt, call.workflow_id
        self.note(machine.name, "undoes", attempt, name)
        if call.task.policy.fences:
            self.refused.add(call.key)
        start = self.starts.get(attempt)
        if start is not None:
            what = f"{workflow} {name}: {attempt}"
            seen = tuple(id_of(each) for each in inputs)
            kept(seen == start.inputs, f"the undo of {what} is given {seen}, and it had {start.inputs}")
            kept(not start.running or start.policy.fences, f"{what} is undone while it runs")
            if not self.fallible:  # an heir of an heir undoes again what a zombie has just begun to
                self._nobody_built_on_it(start, what)
        self._pause()
        if self.chance.random() < self.confused:
            raise TaskError("the undo is confused")
        if start is None:
            start = self.starts.get(attempt)
        if start is not None:
            start.undone = True
        self._pause()

    def _nobody_built_on_it(self, start: Start, what: str) -> None:
        if start.made is None:
            return
        for other in self.starts.values():
            if other.workflow == start.workflow and other is not start and other.policy.effects is Effects.ROLLBACK:
                behind = other.stands and start.made in self.behind(other.inputs)
                kept(not behind, f"{what} is undone before {other.attempt}, which read it")

    def resolve(self, key: str) -> Happened | type[DidNotHappen]:
        """Be a resolve function."""
        with _watched():
            return self._resolve(_call(), _machine(), key)

    def _resolve(self, call: Call, machine: Machine, key: str) -> Happened | type[DidNotHappen]:
        self.note(machine.name, "resolves", key)
        starts = [start for start in self.starts.values() if start.key == key]
        for start in starts:
            kept(not start.running or start.policy.fences, f"somebody asks about {start.attempt} while it runs")
        self._pause()
        happened = next((s for s in self.starts.values() if s.key == key and s.happened), None)
        if happened is not None:
            return Happened(self.receipt(happened))
        if call.task.policy.fences:
            self.refused.add(key)
        for start in starts:
            start.denied = True
        self._pause()
        return DidNotHappen

    def receipt(self, start: Start) -> str:
        """Return the value of an attempt whose effect happened: the receiver knows it, even if it was cut off behind that."""
        self._make(start, failed=False)
        return self._value(start)

    def person_looks(self, workflow: str, task_id: str) -> tuple[bool, str | None]:
        """See what became of a task, take back by hand what an undo did not, and see to it that no more comes of it.

        Returns:
            Whether the effect of a once task happened, and with which value.
        """
        happened: Start | None = None
        for start in self.starts.values():
            if start.workflow != workflow or start.task_id != task_id:
                continue
            if start.policy.effects is Effects.ONCE and start.happened:
                happened = start
            elif not start.happened or start.policy.effects is Effects.ROLLBACK:
                start.undone = start.denied = True
        return (False, None) if happened is None else (True, self.receipt(happened))

    # --- what is known --------------------------------------------------------------------------------------------

    def behind(self, ids: Iterable[str | None]) -> dict[str, Made]:
        """Return what *ids* were made of, themselves included."""
        found: dict[str, Made] = {}
        stack = [each for each in ids if each is not None]
        while stack:
            each = stack.pop()
            made = self.made.get(each)
            if made is not None and each not in found:
                found[each] = made
                stack += made.inputs
        return found

    def fix(self, *ids: str | None) -> None:
        """Somebody outside sees *ids*: nothing behind them may change any more."""
        for made in self.behind(ids).values():
            if not made.deterministic:
                known = self.fixed.setdefault((made.workflow, made.name), made.id)
                kept(known == made.id, f"two incarnations of {made.name} were seen: {known} and {made.id}")


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Let a broken promise end the simulation, not the task that found it."""
    try:
        yield
    except BrokenPromiseError as error:
        _machine().schedule.fail(error)
        raise


def _call() -> Call:
    return current_call.get()


def _machine() -> Machine:
    fiber = here()
    assert fiber is not None
    assert isinstance(fiber.group, Machine)
    return fiber.group
