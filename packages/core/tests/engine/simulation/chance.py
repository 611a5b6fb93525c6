"""A world left to chance: one seed decides what runs, what happens next, and when everything dies."""

import random
from typing import Any

import attrs

from exoflow.controller.run import persistence_of
from exoflow.engine.node_state import NodeState
from exoflow.errors import CodeChangedError
from exoflow.executors.contract import Persistence
from exoflow.graph.dag import Dag, compile_dag
from exoflow.journal.ends import is_finished

from . import promises
from .dags import NotHappenedError, random_dag
from .world import World

__all__ = ["Chances", "drive", "run_to_crash"]


@attrs.frozen(kw_only=True)
class Chances:
    """How likely things are."""

    crash: float = 0.04
    """That the controller dies, at each step."""
    fails: float = 0.0
    lost: float = 0.0
    times_out: float = 0.0
    cannot_store: float = 0.0
    confused: float = 0.0
    """That an undo or resolve function raises, or resolve does not know."""
    cancels: float = 0.0
    changes_code: float = 0.0
    """That code changes between two lives."""


def drive(world: World, chooser: random.Random, chances: Chances, *, crashes: int = 0, resume: bool = False) -> World:
    """Let things happen until the workflow has been answered, twice; hold the promises.

    Args:
        world: A new one, or with *resume* one that has just crashed.
        chooser: Of everything.
        chances: How likely things are.
        crashes: How many times the controller dies, at most.
        resume: Whether to go on from what *world* has in its log.
    """
    _Driver(world, chooser, chances, crashes).run(resume)
    promises.all_is_explained(world)
    return world


def run_to_crash(world: World, chooser: random.Random, chances: Chances) -> bool:
    """Let things happen until the controller dies; return False if the workflow was answered before."""
    driver = _Driver(world, chooser, chances, 1)
    world.begin()
    return driver.live()


class _Driver:
    def __init__(self, world: World, chooser: random.Random, chances: Chances, crashes: int) -> None:
        self.world, self.chooser, self.chances, self.crashes = world, chooser, chances, crashes
        self.cancels = chances.cancels
        self.steps = 0

    def run(self, resume: bool) -> None:
        world = self.world
        if resume:
            self._resume()
        else:
            world.begin()
        settlements = 0
        while True:
            crashed = self.live()
            if crashed:
                self._resume()
                continue
            assert world.answer is not None
            if world.answer.status != "attention":
                break
            settlements += 1
            assert settlements < 200, "nothing a person says helps"
            world.crash()
            world.settle()
            self._resume()
        self._ask_again()

    def _resume(self) -> None:
        world, chooser = self.world, self.chooser
        before = dict(world.versions)
        if world.log and chooser.random() < self.chances.changes_code:
            names = {spec.task.name for dag in (world.submitted, *world.growths.values()) for spec in dag.nodes}
            for name in sorted(names):
                if chooser.random() < 0.3:
                    world.versions[name] = chooser.choice("123")
        try:
            world.resume()
        except CodeChangedError:
            world.refused += 1
            if chooser.random() < 0.3:
                world.accepted = True
            else:
                world.versions = before
            try:
                world.resume()
            except CodeChangedError:
                # The last life ran with this very code, but no record says so of a task without a record.
                world.refused_in_vain += 1
                world.accepted = True
                world.resume()

    def _ask_again(self) -> None:
        world = self.world
        assert is_finished(world.log), "answered, and yet something is left to do"
        world.crash()
        before = len(world.log)
        world.resume()
        for _ in range(100):
            if world.answer is not None:
                break
            if not self._step():
                raise AssertionError("asked again, it does not answer")
        assert world.answer is not None
        assert world.answer.status == world.outside.told[0][0], world.answer
        assert not world.ran, f"asked again, it runs {world.ran}"
        assert before == len(world.log), f"asked again, it logs {world.log[before:]}"

    # --- one life -------------------------------------------------------------------------------------------------

    def live(self) -> bool:
        """Return whether it ended in a crash."""
        world = self.world
        while True:
            if self.crashes and self.chooser.random() < self.chances.crash:
                self.crashes -= 1
                world.crash(landed=self.chooser.random() < 0.5, happen=lambda start: self.chooser.random() < 0.5)
                return True
            if not self._step():
                return False

    def _step(self) -> bool:
        """Let one thing happen; return False when all is over, late reports included."""
        world, chooser = self.world, self.chooser
        self.steps += 1
        assert self.steps < 50_000, "no progress"
        choices = self._choices()
        if not choices:
            if world.answer is None:
                stuck = [n for n in world.state.nodes.values() if not n.finished]
                raise AssertionError(
                    f"deadlock: {stuck} parked={list(world.state._parked)} ended={world.state.ended} {vars(world.state)}"
                )
            return False
        if self.cancels and world.answer is None and chooser.random() < self.cancels:
            self.cancels = 0.0
            world.cancel()
            return True
        kind, what = chooser.choice(choices)
        getattr(self, "_" + kind)(what)
        return True

    def _choices(self) -> list[tuple[str, Any]]:
        world = self.world
        choices: list[tuple[str, Any]] = [("outcome", a) for a in world.running]
        choices += [("late", a) for a in world.abandoned]
        choices += [("stopped", a) for a in world.stopping]
        choices += [("upload", u) for u in world.uploads]
        choices += [("undo", a) for _, a in world.undoing]
        choices += [("resolve", a) for _, a, _ in world.resolving]
        choices += [("retry", a) for a in world.retrying]
        choices += [("arm", a) for a in world.unarmed]
        choices += [("fire", a) for a in world.sleeping if a not in world.unarmed]
        for attempt, node in world.listening.items():
            if "timeout_s" in node.spec.kwargs and attempt not in world.unarmed:
                choices.append(("fire", attempt))
            messages = world.messages(attempt)
            choices.append(("receive", (attempt, messages[0])) if messages else ("send", node))
        if world.buffer and world.in_flight is None:
            choices += [("flush", None)] * 2
        if world.in_flight is not None:
            choices += [("flushed", None)] * 2
        return choices

    def _flush(self, _: None) -> None:
        self.world.flush()

    def _flushed(self, _: None) -> None:
        self.world.flushed()

    def _outcome(self, attempt: str) -> None:
        world, chooser, chances = self.world, self.chooser, self.chances
        node = world.running[attempt]
        chance = chooser.random()
        some = chooser.random() < 0.5
        if (chance := chance - chances.lost) < 0:
            world.fail(attempt, lost=True, happened=some)
        elif (chance := chance - chances.fails) < 0:
            declared = NotHappenedError in node.spec.task.policy.not_happened
            world.fail(attempt, happened=some, not_happened=declared and chooser.random() < 0.7)
        elif (chance := chance - chances.times_out) < 0:
            world.time_out(attempt, queued=some and chooser.random() < 0.5)
        elif (chance := chance - chances.cannot_store) < 0 and persistence_of(node) is Persistence.BEFORE:
            world.cannot_store(attempt)
        else:
            world.finish(
                attempt,
                stored=some,
                worth_keeping=chooser.random() < 0.6,
                continuation=self._continuation(node, attempt),
            )

    def _continuation(self, node: NodeState, attempt: str) -> Dag | None:
        grow = node.spec.kwargs.get("grow", 0)
        if not grow or (node.catch and self.world.state.ended is not None):
            return None
        made = self.world.returns(self.world.outside.starts[attempt])
        known = self.world.growths.get(made.number)
        if known is not None:
            return known
        return compile_dag(
            random_dag(
                self.chooser, self.chooser.randint(1, 3), grow=grow - 1, prefix=f"{node.spec.task.name}.", waits=0.1
            )
        )

    def _late(self, attempt: str) -> None:
        world, chooser = self.world, self.chooser
        chance = chooser.random()
        if chance < 0.4:
            world.ended(attempt, happened=chooser.random() < 0.5)
        elif chance < 0.7:
            world.finish(attempt, stored=chooser.random() < 0.5)
        else:
            world.fail(attempt, happened=chooser.random() < 0.5, lost=chooser.random() < 0.5)

    def _stopped(self, attempt: str) -> None:
        world = self.world
        world.stopping.remove(attempt)
        if attempt in world.running:
            world.ended(attempt, happened=self.chooser.random() < 0.5)

    def _upload(self, upload: tuple[str, Any]) -> None:
        self.world.uploaded(upload, fails=self.chooser.random() < self.chances.cannot_store)

    def _undo(self, attempt: str) -> None:
        self.world.undone(attempt, fails=self.chooser.random() < self.chances.confused)

    def _resolve(self, attempt: str) -> None:
        confused = self.chooser.random() < self.chances.confused
        doubts = confused and self.chooser.random() < 0.5
        self.world.resolved(attempt, unknown=doubts, fails=confused and not doubts)

    def _retry(self, attempt: str) -> None:
        self.world.retry(attempt)

    def _arm(self, attempt: str) -> None:
        self.world.armed(attempt)

    def _fire(self, attempt: str) -> None:
        self.world.fired(attempt)

    def _receive(self, what: tuple[str, str]) -> None:
        self.world.receive(*what)

    def _send(self, node: NodeState) -> None:
        # One message for each node that waits, so that one which is lost is missed.
        name = node.spec.args[0]
        specs = [n.spec for n in self.world.state.nodes.values()]
        waiting = sum(spec.kind == "event" and spec.args[0] == name for spec in specs)
        already = self.world.outside.sent_to.get(name, 0)
        assert already < waiting or self.world.accepted, (
            f"a message {name!r} was lost: {already} were sent for {waiting} nodes"
        )
        self.world.send(name)
