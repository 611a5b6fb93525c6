"""Whose a workflow is and what counts of it, whatever controllers do."""

import itertools
from typing import Any

import hypothesis.stateful as hs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from exoflow.errors import FencedError, WorkflowNotFoundError, WorkflowRunningError
from exoflow.journal import adoption, records
from exoflow.journal.adoption import LIGHT
from exoflow.journal.garbage import collect, delete
from exoflow.journal.layout import segment_key
from exoflow.journal.ownership import follow, look_up, trace
from exoflow.journal.shelf import Shelf


def test_an_id_nobody_gave_leads_nowhere(world: Any) -> None:
    world.controller()
    for workflow_id in ("order", "j0123456789abcde-1"):
        assert trace(Shelf(world.store), workflow_id, world.now) is None
        assert look_up(world.store, workflow_id, world.now) is None


def test_seals_are_followed_to_the_last_heir(world: Any) -> None:
    controllers = [world.controller() for _ in range(4)]
    mine = controllers[0].submit()
    for victim, heir in itertools.pairwise(controllers):
        adoption.seal(world.store, victim.id, heir.id)

    own = trace(Shelf(world.store), mine, world.now)

    assert own is not None
    assert own.chain == tuple(controller.id for controller in controllers)
    assert own.live
    assert not own.retired
    assert own.epoch == 0
    controllers[-1].retire()
    own = trace(Shelf(world.store), mine, world.now)
    assert own is not None
    assert (own.retired, own.live) == (True, False)


def test_a_circle_of_seals_ends(world: Any) -> None:
    first, second, third = (world.controller() for _ in range(3))
    for victim, heir in ((first, second), (second, third), (third, second)):
        adoption.seal(world.store, victim.id, heir.id)

    assert follow(Shelf(world.store), first.id) == ((first.id, second.id, third.id), True, True)


def test_a_look_at_a_journal_sealed_meanwhile_is_taken_again(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    original, done = world.store.read, []

    def read(key: str, **options: Any) -> Any:
        if key == segment_key(first.id, 1) and not options and not done:
            done.append(key)
            adoption.seal(world.store, first.id, second.id)
        return original(key, **options)

    world.store.read = read
    standing = look_up(world.store, mine, world.now)

    assert standing is not None
    assert standing.ownership.chain == (first.id, second.id)
    assert not standing.history.settled


def test_an_end_with_an_intent_is_looked_at_with_outcomes(world: Any, make: Any) -> None:
    first = world.controller()
    mine = first.submit()
    first.append(records.Intent(mine, "o", f"{first.id}.1.1", "key", ()), make.outcome(mine, "o", f"{first.id}.1.1"))

    light = look_up(world.store, mine, world.now, LIGHT)
    assert light is not None
    assert not any(isinstance(r, records.Outcome) for r in light.history.records)
    first.end(mine, "failed")
    ended = look_up(world.store, mine, world.now, LIGHT)
    assert ended is not None
    assert ended.history.finished


# --- anything can happen --------------------------------------------------------------------------------------------


class Workflow:
    """What an onlooker who sees only believed appends knows of a workflow."""

    def __init__(self, workflow_id: str, holder: Any) -> None:
        self.id = workflow_id
        self.holder = holder  # who may append; None once it is dead, asleep and taken over, or gave it up
        self.tasks: list[str] = []
        self.ended = self.deleted = False


class Controllers(hs.RuleBasedStateMachine):
    """Controllers that work, crash, sleep, wake up, take over, and collect, on one store."""

    kind = "memory"
    make: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make.World(self.make.make_store(self.kind, None))
        self.awake: list[Any] = []
        self.asleep: list[Any] = []
        self.workflows: list[Workflow] = []
        self.counter = 0

    def pick(self, draw: int, among: list[Any]) -> Any:
        return among[draw % len(among)]

    def open(self, store: Any = None) -> Any:
        made = self.world.controller(store, segment_bytes=300)
        self.awake.append(made)
        return made

    @hs.initialize()
    def begin(self) -> None:
        self.open()

    @hs.rule()
    @hs.precondition(lambda self: len(self.awake) < 4)
    def a_controller_starts(self) -> None:
        self.open()

    @hs.rule(draw=st.integers(0, 99), named=st.booleans())
    @hs.precondition(lambda self: self.awake and len(self.workflows) < 6)
    def a_workflow_starts(self, draw: int, named: bool) -> None:
        controller = self.pick(draw, self.awake)
        workflow_id = controller.submit(f"named/{len(self.workflows)}" if named else None)
        self.workflows.append(Workflow(workflow_id, controller))

    @hs.rule(draw=st.integers(0, 99), times=st.integers(1, 4))
    @hs.precondition(lambda self: self.workflows)
    def a_task_ends(self, draw: int, times: int) -> None:
        workflow = self.pick(draw, self.workflows)
        if workflow.holder not in self.awake or workflow.ended or workflow.deleted:
            return
        for _ in range(times):
            self.counter += 1
            workflow.holder.outcome(workflow.id, f"t{self.counter}")
            workflow.tasks.append(f"t{self.counter}")

    @hs.rule(draw=st.integers(0, 99))
    @hs.precondition(lambda self: self.workflows)
    def a_workflow_ends(self, draw: int) -> None:
        workflow = self.pick(draw, self.workflows)
        if workflow.holder in self.awake and not workflow.ended and not workflow.deleted:
            workflow.holder.end(workflow.id)
            workflow.ended = True

    @hs.rule(draw=st.integers(0, 99))
    @hs.precondition(lambda self: self.awake)
    def a_controller_crashes(self, draw: int) -> None:
        controller = self.pick(draw, self.awake)
        self.awake.remove(controller)
        controller.crash()

    @hs.rule(draw=st.integers(0, 99), live_left=st.booleans())
    @hs.precondition(lambda self: self.awake)
    def a_controller_retires(self, draw: int, live_left: bool) -> None:
        controller = self.pick(draw, self.awake)
        self.awake.remove(controller)
        controller.retire(live_left=live_left)

    @hs.rule(who=st.integers(0, 99))
    @hs.precondition(lambda self: self.awake)
    def somebody_acquires_all(self, who: int) -> None:
        controller = self.pick(who, self.awake)
        for workflow_id, acquired in adoption.acquire_many(self.world.store, controller.writer, self.world.now).items():
            [workflow] = [workflow for workflow in self.workflows if workflow.id == workflow_id]
            assert not workflow.deleted
            assert not workflow.ended
            assert workflow.holder not in self.awake
            assert [r.task_id for r in acquired.records if isinstance(r, records.Outcome)] == workflow.tasks
            self.lost(workflow.holder)
            workflow.holder = controller

    @hs.rule(draw=st.integers(0, 99))
    @hs.precondition(lambda self: self.awake)
    def a_controller_falls_asleep(self, draw: int) -> None:
        controller = self.pick(draw, self.awake)
        self.awake.remove(controller)
        self.asleep.append(controller)
        controller.sleep()

    @hs.rule(draw=st.integers(0, 99), ends=st.booleans())
    @hs.precondition(lambda self: self.asleep)
    def a_sleeper_stirs(self, draw: int, ends: bool) -> None:
        controller = self.pick(draw, self.asleep)
        held = [w for w in self.workflows if w.holder is controller and not w.ended and not w.deleted]
        believed = True
        self.counter += 1
        workflow = held[draw % len(held)] if held else None
        try:
            if workflow is None:
                controller.append(records.Released("nothing"))
            elif ends:
                controller.end(workflow.id)
            else:
                controller.outcome(workflow.id, f"t{self.counter}")
        except FencedError:
            believed = False
            self.asleep.remove(controller)
        if believed and workflow is not None:
            if ends:
                workflow.ended = True
            else:
                workflow.tasks.append(f"t{self.counter}")

    @hs.rule(draw=st.integers(0, 99), who=st.integers(0, 99))
    @hs.precondition(lambda self: self.workflows and self.awake)
    def somebody_acquires(self, draw: int, who: int) -> None:
        workflow, controller = self.pick(draw, self.workflows), self.pick(who, self.awake)
        try:
            acquired = controller.acquire(workflow.id)
        except WorkflowRunningError:
            assert workflow.holder in self.awake
            assert workflow.holder is not controller
            return
        except WorkflowNotFoundError:
            assert workflow.deleted
            return
        assert not workflow.deleted
        assert acquired.finished == workflow.ended
        if not workflow.ended:
            assert [r.task_id for r in acquired.records if isinstance(r, records.Outcome)] == workflow.tasks
            assert workflow.holder is controller or workflow.holder not in self.awake
            self.lost(workflow.holder)
            workflow.holder = controller

    def lost(self, victim: Any) -> None:
        """A dead or sleeping controller was taken over: what it held is nobody's."""
        if victim in self.awake:
            return
        for workflow in self.workflows:
            if workflow.holder is victim:
                workflow.holder = None

    @hs.rule(draw=st.integers(0, 99), at=st.integers(1, 6), done=st.booleans())
    @hs.precondition(lambda self: self.workflows)
    def somebody_dies_while_acquiring(self, draw: int, at: int, done: bool) -> None:
        workflow = self.pick(draw, self.workflows)
        plan = self.make.CrashAt(10**9, done=done)
        controller = self.world.controller(self.make.FaultyStore(self.world.store, plan))
        plan.number = plan.changes + at
        try:
            controller.acquire(workflow.id)
        except (WorkflowRunningError, WorkflowNotFoundError, self.make.SimulatedCrash):
            pass
        else:
            if not workflow.ended:
                self.lost(workflow.holder)
                workflow.holder = controller
        controller.crash()

    @hs.rule(draw=st.integers(0, 99), who=st.integers(0, 99))
    @hs.precondition(lambda self: self.workflows and self.awake)
    def somebody_deletes(self, draw: int, who: int) -> None:
        workflow, controller = self.pick(draw, self.workflows), self.pick(who, self.awake)
        try:
            delete(controller.store, controller.writer, workflow.id, self.world.now)
        except WorkflowRunningError:
            assert workflow.holder in self.awake
            assert not workflow.ended
            return
        self.lost(workflow.holder)
        workflow.deleted = True

    @hs.rule(who=st.integers(0, 99), writes=st.booleans())
    @hs.precondition(lambda self: self.awake)
    def somebody_collects(self, who: int, writes: bool) -> None:
        controller = self.pick(who, self.awake)
        collect(
            self.world.store,
            self.world.now + 1e6,
            1e9,
            archive_after_s=0.0,
            writer=controller.writer if writes and self.kind != "bucket" else None,
        )

    @hs.invariant()
    def what_was_believed_is_what_counts(self) -> None:
        for workflow in self.workflows:
            standing = look_up(self.world.store, workflow.id, self.world.now)
            assert standing is not None
            if workflow.deleted:
                assert standing.ownership.deleted or standing.history.given_up
                continue
            found = standing.history.records
            assert isinstance(found[0], records.Submission)
            if workflow.ended:
                assert standing.history.finished
            elif standing.history.settled:
                assert [r.task_id for r in found if isinstance(r, records.Outcome)] == workflow.tasks
                assert not standing.history.finished


@pytest.mark.parametrize("kind", ["memory", "bucket"])
def test_whatever_controllers_do_a_workflow_has_one_owner_and_one_history(kind: str, make: Any) -> None:
    machine = type("Machine", (Controllers,), {"kind": kind, "make": make})

    hs.run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
