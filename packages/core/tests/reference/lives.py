"""A workflow's lives: each is one engine on the same store, with what goes wrong in it; the last one has no troubles."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import attrs

import exoflow
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, Delay, Fault, FaultyStore, LoseAnswer, Refuse, Scheduled

from ..witness import Bucket
from .interpreter import complaints
from .ledger import Entry
from .plans import Brief, Plan, tokens_in
from .tasks import WORLDS, Made, World, workflow

__all__ = ["FAULTS", "Life", "Story", "check", "play"]

FAULTS: dict[str, Fault] = {
    "refuse": Refuse(),
    "lose": LoseAnswer(),
    "lose before": LoseAnswer(happens=False),
    "delay": Delay(delay_s=0.0005),
}
PATIENCE_S = 60.0
"""Nothing here takes so long: a workflow that has not ended by then never will."""
MOST_LIVES = 30

_numbers = itertools.count(1)


@attrs.frozen(repr=False, kw_only=True)
class Life(Brief):
    """What happens to one engine."""

    crash: tuple[str, int] | None = None
    """The controller dies where it reaches this point for the n-th time."""
    lose: tuple[str, int] | None = None
    """An attempt's process dies there."""
    faults: tuple[tuple[str, int, str], ...] = ()
    """The n-th call of a verb of the store, and what goes wrong with it: a key of `FAULTS`."""
    cancel: int | None = None
    """The workflow is cancelled when a step begins for the n-th time; before anything else if 0."""
    early: bool = False
    """Messages are sent before the workflow is started or resumed, not after."""


@attrs.frozen(repr=False)
class Story(Brief):
    """A plan and its lives."""

    plan: Plan
    lives: tuple[Life, ...] = attrs.field(default=(), kw_only=True)
    executor: str = attrs.field(default="inline", kw_only=True)
    bucket: bool = attrs.field(default=False, kw_only=True)
    """A store with the five verbs alone."""


def check(story: Story) -> World:
    """Play *story*, and hold what happened against the promises."""
    world = play(story)
    wrong = list(complaints(story.plan, world.ledger))
    if wrong:
        told = "\n".join(f"  {entry}" for entry in world.ledger)
        raise AssertionError("\n".join([*wrong, "the ledger:", told, "again:", f"  check({story!r})"]))
    return world


def play(story: Story) -> World:
    """Live through all lives, and then ask for the end again; return what happened."""
    name = f"w{next(_numbers)}"
    world = WORLDS[name] = World(story.plan)
    space = f"memory://reference-{name}"
    keep = MemoryStore.open(space)
    try:
        lives: Iterator[Life] = iter((*story.lives, *[Life()] * MOST_LIVES))
        while not _Living(story, next(lives), world, name, space).until_it_ends():
            pass
        again = _Living(story, Life(), world, name, space).until_it_ends()
        assert again, f"asked again, it does not say how it ended: check({story!r})"
    except StopIteration:
        raise AssertionError(f"it never ended: check({story!r})") from None
    finally:
        del WORLDS[name]
        for key in [*keep.list("")]:  # named spaces stay as long as the process
            keep.delete(key)
        keep.close()
    return world


class _Injector:
    """Lets the controller die, or an attempt be lost, and says so in the ledger."""

    def __init__(self, life: Life, world: World) -> None:
        self.life, self.world = life, world
        self.lock = threading.Lock()
        self.reached: dict[str, int] = {}
        self.others = set(threading.enumerate())

    def reach(self, point: FailurePoint, *, task_id: str = "", attempt: str = "", **_: Any) -> None:
        with self.lock:
            nth = self.reached[str(point)] = self.reached.get(str(point), 0) + 1
        if (str(point), nth) == self.life.lose:
            self.world.ledger.note("lost", attempt=attempt)
            raise exoflow.TaskLostError(task_id, "on purpose")
        if (str(point), nth) == self.life.crash:
            self.world.ledger.kill(set(threading.enumerate()) - self.others)
            raise SimulatedCrash(point, task_id)


class _Living:
    """One life of a workflow."""

    def __init__(self, story: Story, life: Life, world: World, name: str, space: str) -> None:
        self.story, self.life, self.world, self.name, self.space = story, life, world, name, space
        self.ledger = world.ledger
        self.begun = 0

    def until_it_ends(self) -> bool:
        """Live; return whether the end was told."""
        with contextlib.closing(MemoryStore.open(self.space)) as client:
            faults = Scheduled(*(At(verb, FAULTS[fault], nth=nth) for verb, nth, fault in self.life.faults))
            store: Any = FaultyStore(self._bucket() if self.story.bucket else client, faults)
            with exoflow.Engine(store, self.story.executor, failures=[_Injector(self.life, self.world)]) as engine:
                self.world.when_called = lambda: self._called(engine)
                try:
                    if self._live(engine):
                        return True
                except (SimulatedCrash, exoflow.UnavailableError, exoflow.FencedError, exoflow.WorkflowRunningError):
                    pass
        # Only now: threads go on after a crash, and engines write a last time when they are closed.
        self.ledger.note("died", status="silent" if self.story.bucket else "")
        self._look()
        return False

    def _bucket(self) -> Any:
        bucket = Bucket(self.space)
        bucket.let_time_pass()
        return bucket

    def _live(self, engine: exoflow.Engine) -> bool:
        try:
            if self.life.cancel == 0:
                self._cancel(engine)
            if self.life.early:
                self._send(engine)
            handle = engine.start(workflow(self.story.plan), workflow_id=self.name)
            self._send(engine)
            answer = handle.result(PATIENCE_S)
            self.ledger.note("told", status="succeeded", token=next(tokens_in([answer])))
        except exoflow.TaskFailedError as error:
            self.ledger.note("told", status="failed", token=next(tokens_in(error.__cause__), ""))
        except exoflow.WorkflowCancelledError:
            self.ledger.note("told", status="cancelled")
        except exoflow.NeedsAttentionError as error:
            self._settle(engine, error)
            return False
        return True

    def _send(self, engine: exoflow.Engine) -> None:
        """Send what the plan waits for, as a sender does that does not know whether it had done so before."""
        for number, step in enumerate(step for step in self.story.plan.steps if step.kind == "event"):
            message = f"{step.event}@{number}"
            engine.send_event(self.name, step.event, Made(message), message_id=message)

    def _called(self, engine: exoflow.Engine) -> None:
        self.begun += 1
        if self.begun == self.life.cancel:
            self._cancel(engine)

    def _cancel(self, engine: exoflow.Engine) -> None:
        self.ledger.note("cancelling")
        # What does not exist yet cannot be cancelled, and a store that does not answer was not asked.
        with contextlib.suppress(exoflow.WorkflowNotFoundError, exoflow.UnavailableError):
            engine.cancel(self.name)

    def _settle(self, engine: exoflow.Engine, error: exoflow.NeedsAttentionError) -> None:
        """Say what became of an effect, as a person would who looked, and undoes what can be undone."""
        calls = [e for e in self.ledger if e.what == "began" and e.task_id == error.task_id]
        where = calls[-1].where if calls else error.task_id
        self.ledger.note("stopped", where=where if "/" not in error.task_id or calls else "", task_id=error.task_id)
        found = self.ledger.happened(task_id=error.task_id)
        if calls and self.story.plan.find(where).effects == "rollback":
            for call in calls:
                self.ledger.note("undone", where=where, level=call.level, attempt=call.attempt, key=call.key)
            found = None
        self.ledger.note("asked", task_id=error.task_id, token=found.token if found else "")
        value = Made(found.token) if found is not None else None
        engine.settle(self.name, error.task_id, happened=found is not None, value=value)

    def _look(self) -> None:
        """Note which values the store says it keeps."""
        kept: set[str] = set()
        with contextlib.suppress(exoflow.WorkflowNotFoundError):
            with contextlib.closing(MemoryStore.open(self.space)) as client, exoflow.Engine(client) as engine:
                kept = {task.task_id for task in engine.show(self.name).tasks if task.state == "committed"}
        returned: dict[str, list[Entry]] = {}
        for entry in self.ledger:
            if entry.what == "returned" and entry.task_id in kept:
                returned.setdefault(entry.task_id, []).append(entry)
        for entries in returned.values():
            if len({entry.inputs for entry in entries}) == 1:
                # Of several calls it is not said which one is kept; with the same inputs none need follow.
                for entry in entries:
                    about = {"where": entry.where, "level": entry.level, "token": entry.token}
                    self.ledger.note("durable", **about)
