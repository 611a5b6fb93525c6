"""A workflow of the user's, run once without failure and then once for each place where it can crash.

What is compared is what its user would notice: the result, the effects, and whether the functions keep what their
declarations say. Every run has a store of its own, and a crashed one is resumed until it ends. Functions run one after
the other (``inline``), so that a place is found again by its name.
"""

import contextlib
import copy
import itertools
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from exoflow import Engine
from exoflow.errors import NeedsAttentionError, TaskFailedError, UsageError
from exoflow.executors.contract import CallKind
from exoflow.failures.injectors import FailureInjector, parse
from exoflow.failures.points import TASK_POINTS, FailurePoint, Injector, SimulatedCrash
from exoflow.failures.triggers import pattern_of
from exoflow.graph.node import Node
from exoflow.plugins.manager import make_injectors, open_store
from exoflow.tasks.policy import Effects
from exoflow.tasks.task import Task
from exoflow.tasks.verdicts import Unknown
from exoflow.testing.ledger import Ledger
from exoflow.testing.witness import EXECUTOR, Called, Snapshot, Witness, witnessed

__all__ = ["CrashTest", "CrashTestError", "Plan", "Report", "Scenario"]

SOME = 12
"""Scenarios of the quick form."""

_IN_RECOVERY = frozenset(
    {
        FailurePoint.ON_SEAL,
        FailurePoint.BEFORE_UNDO,
        FailurePoint.AFTER_UNDO,
        FailurePoint.BEFORE_RESOLVE,
        FailurePoint.AFTER_RESOLVE,
    }
)
"""Points that lie on the way back from a crash: a second crash is to hit them."""

_ENDS_PROCESS = frozenset({"kill", "cluster_crash"})
_THEN = " then "
_SHOWN = 5

Place = tuple[FailurePoint, str]
"""Where the controller was: the point, and the task as `pattern_of` calls it."""


class CrashTestError(AssertionError):
    """A workflow came to something else by way of a failure than without one."""

    def __init__(self, problem: str, scenario: "Scenario") -> None:
        self.problem, self.scenario = problem, scenario
        super().__init__(problem, scenario)

    def __str__(self) -> str:
        return self.problem


@attrs.frozen
class Scenario:
    """Failures, one for each life of the workflow; after the last one it lives to its end."""

    failures: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """Read failures, with ``then`` between lives, as `str` writes them.

        Raises:
            UnknownOptionError: Not the text of a failure.
            UsageError: A failure that would end the process of the test.
        """
        failures = tuple(text.split(_THEN))
        for failure in failures:
            if parse(failure).action in _ENDS_PROCESS:
                raise UsageError(
                    f"{failure!r} would kill the tests' own process; 'crash' lets the controller die in it"
                )
        return cls(failures)

    def __str__(self) -> str:
        return _THEN.join(self.failures) or "none"


@attrs.frozen(kw_only=True)
class Plan:
    """Which scenarios to run: ``all``, ``some``, ``none``, or one that is given."""

    choice: str = attrs.field(default="some")
    seed: int = 0
    """What ``some`` are drawn from."""

    @choice.validator
    def _is_known(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value not in ("all", "some", "none"):
            Scenario.parse(value)

    def pick(self, scenarios: list[Scenario], count: int = SOME) -> list[Scenario]:
        """Return those of *scenarios* to run, in their order."""
        if self.choice != "some" or len(scenarios) <= count:
            return scenarios if self.choice != "none" else []
        chosen = random.Random(self.seed).sample(range(len(scenarios)), count)
        return [scenarios[at] for at in sorted(chosen)]


@attrs.frozen(kw_only=True)
class Report:
    """What a crash test did, when all went well."""

    result: Any
    """Of the run without failure; the exception that ended it, if it failed."""
    plan: Plan
    scenarios: tuple[Scenario, ...]
    """Those that were run."""
    missed: tuple[Scenario, ...]
    """Those of them whose first failure was not met: something ran in another order than without it."""


class _Places:
    """An injector that does nothing but remember where it was reached."""

    def __init__(self) -> None:
        self.reached: list[Place] = []

    def reach(self, point: FailurePoint, *, task_id: str = "", **about: Any) -> None:
        self.reached.append((point, pattern_of(task_id) if point in TASK_POINTS else "*"))

    def crashes(self, only: frozenset[FailurePoint] = frozenset(FailurePoint)) -> Iterator[tuple[Place, str]]:
        """Return the text of a crash at each place, and at each time it was reached."""
        times: dict[Place, int] = {}
        for place in self.reached:
            nth = times[place] = times.get(place, 0) + 1
            point, task = place
            if point in only:
                yield place, f"{task}.crash@{point}" if nth == 1 else f"{task}.crash@{nth},{point}"


_NOTHING: Any = object()


@attrs.define
class _Run:
    """One scenario, played to its end."""

    scenario: Scenario
    outcome: Any = _NOTHING
    effects: Any = None
    lives: list[_Places] = attrs.field(factory=list)
    performed: list[bool] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)
    witness: Witness = attrs.field(factory=Witness)

    def forget(self) -> None:
        """Keep what is to be said of it, and nothing that grows with the workflow."""
        self.lives, self.witness, self.effects = [], Witness(), None
        if not self.problems:
            self.outcome = _NOTHING


class CrashTest:
    """Runs a workflow through its failure points and compares what comes of it.

    Args:
        plan: Which of them.
        storage: A URL under which every run gets a store of its own.
    """

    def __init__(self, plan: Plan | None = None, *, storage: str = "memory://") -> None:
        self.plan = plan or Plan()
        self._storage = storage

    def __call__(
        self,
        workflow: Node | Task[..., Any] | Callable[[], Node],
        *,
        effects: Ledger | Callable[[], Any] | None = None,
        reset: Callable[[], object] | None = None,
        check: Callable[[Any], object] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Report:
        """Run *workflow* without failure, then with, and compare.

        Args:
            workflow: A node, or a task without arguments; or what makes one: called once for each life, as a program that
                is started again would.
            effects: What the world looks like, asked when a run has ended: a `Ledger`, or a function that returns
                something with ``==``. Must be the same after every run.
            reset: Makes the world as it was before the first run. A `Ledger` is cleared without it.
            check: Called with each run's result, or the exception that it ended with; raises if that is wrong. Without
                it every result must equal the first.
            inputs: For the `exoflow.Input` placeholders.

        Raises:
            CrashTestError: Something differs; the message names the failures, to be given again.
        """
        __tracebackhide__ = True
        session = _Session(self._storage, workflow, effects, reset, check, inputs)
        base = session.play(Scenario())
        session.judge(base, base)
        played = [] if base.problems else [*self._runs(session, base)]
        wrong = [run for run in (base, *played) if run.problems]
        if wrong:
            raise CrashTestError(self._say(wrong, len(played)), wrong[0].scenario)
        return Report(
            result=base.outcome,
            plan=self.plan,
            scenarios=tuple(run.scenario for run in played),
            missed=tuple(run.scenario for run in played if not run.performed[0]),
        )

    def _runs(self, session: "_Session", base: _Run) -> Iterator[_Run]:
        if self.plan.choice not in ("all", "some", "none"):
            run = session.judge(session.play(Scenario.parse(self.plan.choice)), base)
            if not all(run.performed):
                never = run.scenario.failures[run.performed.index(False)]
                run.problems.append(f"the failure {never!r} never happened: no task came to its point, or not so often")
            yield run
            return
        again: list[Scenario] = []
        seen: set[Place] = {place for place, _ in base.lives[0].crashes()}
        for scenario in self.plan.pick([Scenario((text,)) for _, text in base.lives[0].crashes()]):
            run = session.judge(session.play(scenario), base)
            yield run
            for place, text in run.lives[1].crashes(_IN_RECOVERY) if len(run.lives) > 1 else ():
                if place not in seen:
                    seen.add(place)
                    again.append(Scenario((*scenario.failures, text)))
            run.forget()
        for scenario in self.plan.pick(again):
            run = session.judge(session.play(scenario), base)
            yield run
            run.forget()

    def _say(self, wrong: list[_Run], played: int) -> str:
        drawn = f"{self.plan.choice}, seed {self.plan.seed}" if self.plan.choice == "some" else self.plan.choice
        what = f"{len(wrong)} of {played} runs with failures ({drawn})" if played else "the run without failure"
        lines = [f"{what} went wrong"]
        for run in wrong[:_SHOWN]:
            lines.append(f"{run.scenario}:" if run.scenario.failures else "without failure:")
            lines += [f"  {problem}" for problem in run.problems]
        if len(wrong) > _SHOWN:
            lines.append(f"... and {len(wrong) - _SHOWN} more")
        return "\n".join(lines)


_numbers = itertools.count(1)


class _Session:
    """One workflow and its world."""

    def __init__(
        self,
        storage: str,
        workflow: Node | Task[..., Any] | Callable[[], Node],
        effects: Ledger | Callable[[], Any] | None,
        reset: Callable[[], object] | None,
        check: Callable[[Any], object] | None,
        inputs: Mapping[str, Any] | None,
    ) -> None:
        self._storage, self._workflow, self._inputs = storage, workflow, inputs
        self._ledger = effects if isinstance(effects, Ledger) else None
        self._look = effects.standing if isinstance(effects, Ledger) else effects
        self._reset, self._check = reset, check
        # One id for all runs, because the keys of effects begin with it.
        self._id = f"crash-test-{next(_numbers)}"

    def play(self, scenario: Scenario) -> _Run:
        """Live through *scenario* in a new world."""
        if self._ledger is not None:
            self._ledger.clear()
        if self._reset is not None:
            self._reset()
        slash = "" if self._storage.endswith("/") else "/"
        store = f"{self._storage}{slash}{uuid.uuid4().hex}"
        run = _Run(scenario)
        with witnessed(self._id) as witness:
            run.witness = witness
            left: deque[str | None] = deque((*scenario.failures, None))
            while left and not run.problems:
                try:
                    if self._live(store, run, left.popleft()):
                        left.append(None)
                except Exception as error:
                    error.add_note(f"in the scenario {str(scenario)!r}")
                    raise
        if self._look is not None:
            run.effects = copy.deepcopy(self._look())
        if store.startswith("memory://"):  # it would stay as long as this process, and there are hundreds of them
            with contextlib.closing(open_store(store)) as left_behind:
                for key in [*left_behind.list("")]:
                    left_behind.delete(key)
        return run

    def _live(self, store: str, run: _Run, failure: str | None) -> bool:
        """Run or resume the workflow once; return whether it is to be resumed because a person settled an effect."""
        places = _Places()
        run.lives.append(places)
        injectors = make_injectors([] if failure is None else [failure])
        outcome, settled = _NOTHING, False
        with Engine(store, EXECUTOR, failures=[places, *injectors]) as engine:
            try:
                outcome = engine.run(
                    self._node(), workflow_id=self._id, inputs=self._inputs, metadata={"failures": str(run.scenario)}
                )
            except SimulatedCrash:
                pass
            except TaskFailedError as error:
                outcome = error
            except NeedsAttentionError as error:
                settled = self._settle(engine, run, error)
        # Only now: the last flush of an engine is that of its closing.
        run.performed += [_performed(injector) for injector in injectors]
        if not (run.outcome is _NOTHING or outcome is _NOTHING) and not _alike(run.outcome, outcome):
            run.problems.append(f"asked again, the workflow says {_told(outcome)} instead of {_told(run.outcome)}")
        run.outcome = run.outcome if outcome is _NOTHING else outcome
        return settled

    def _node(self) -> Node:
        workflow: Any = self._workflow
        made = workflow if isinstance(workflow, Node | Task) else workflow()
        return made.bind() if isinstance(made, Task) else made

    def _settle(self, engine: Engine, run: _Run, error: NeedsAttentionError) -> bool:
        """Say what became of an effect, as a person would who looked: a task that nobody else can ask about may stop."""
        calls = [c for c in run.witness.calls if c.task_id == error.task_id]
        attempts = [c for c in calls if c.kind is CallKind.TASK]
        once = all(c.policy.effects is Effects.ONCE for c in calls)  # if never called, nothing but its intent is there
        answered = any(c.kind is CallKind.RESOLVE and not _unknown(c) for c in calls)
        if not once or answered or len(run.lives) > len(run.scenario.failures) + 3:
            run.problems.append(f"it stopped: {error}")
            return False
        returned = [attempt.result for attempt in attempts if attempt.result is not None]
        value = returned[-1].value if returned else None
        engine.settle(self._id, error.task_id, happened=bool(returned), value=value)
        return True

    def judge(self, run: _Run, base: _Run) -> _Run:
        """Write down what is wrong with *run*."""
        problems = run.problems
        problems += run.witness.broken_claims()
        problems += run.witness.contradicts(base.witness)
        if self._ledger is not None:
            problems += _undeclared(self._ledger)
        if self._check is not None and run.outcome is not _NOTHING:
            try:
                self._check(run.outcome)
            except Exception as error:
                problems.append(f"the check of its result says {type(error).__name__}: {error}")
        elif run.outcome is not _NOTHING and not _alike(base.outcome, run.outcome):
            problems.append(f"result: expected {_told(base.outcome)}, found {_told(run.outcome)}")
        if base.effects != run.effects:
            problems.append(f"effects: {_differences(base.effects, run.effects)}")
        return run


def _unknown(resolve: Called) -> bool:
    return resolve.result is not None and resolve.result.value in (Unknown, Unknown())


def _performed(injector: Injector) -> bool:
    return not isinstance(injector, FailureInjector) or injector.performed > 0


def _alike(one: object, other: object) -> bool:
    if isinstance(one, TaskFailedError) and isinstance(other, TaskFailedError):
        return _told(one) == _told(other)
    return type(one) is type(other) and Snapshot(one).same(Snapshot(other))


def _told(outcome: object) -> str:
    if isinstance(outcome, TaskFailedError):
        return f"failure of task {pattern_of(outcome.task_id)!r}: {outcome.problem}"
    return repr(Snapshot(outcome))


def _undeclared(ledger: Ledger) -> Iterator[str]:
    for task in dict.fromkeys(pattern_of(e.task_id) for e in ledger.entries if e.effects is Effects.NONE):
        yield f"task {task!r} is declared effects='none' and has an effect"


def _differences(expected: Any, found: Any) -> str:
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        keys: Iterable[Any] = dict.fromkeys((*expected, *found))
        return "; ".join(
            f"{key}: expected {expected.get(key, 'nothing')!r}, found {found.get(key, 'nothing')!r}"
            for key in keys
            if key not in expected or key not in found or expected[key] != found[key]
        )
    return f"expected {expected!r}, found {found!r}"
