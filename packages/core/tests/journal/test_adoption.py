"""Workflows move to exactly one heir, and take with them exactly what counts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exoflow.errors import FencedError, UnavailableError, WorkflowNotFoundError, WorkflowRunningError
from exoflow.journal import adoption, claims, records
from exoflow.journal.layout import OPEN, open_key, segment_key
from exoflow.journal.ownership import look_up
from exoflow.journal.reader import find_end, read_journal

World, Controller, Make = Any, Any, Any


def test_the_workflow_of_a_crashed_controller_goes_on_elsewhere_with_all_its_records(world: World) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    first.outcome(mine, "a")
    before = world.history(mine)
    first.crash()

    acquired = second.acquire(mine)

    assert acquired.records == before
    assert not acquired.finished
    assert world.owner(mine) == second.id
    assert world.history(mine) == before
    second.outcome(mine, "b")
    assert [getattr(r, "task_id", "") for r in world.history(mine)] == ["", "a", "b"]


def test_a_running_workflow_is_refused_with_the_name_of_its_owner(world: World) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit("order/17")

    with pytest.raises(WorkflowRunningError, match=first.id):
        second.acquire(mine)
    assert first.acquire(mine).records == world.history(mine)


def test_an_unknown_id_is_not_found(world: World) -> None:
    with pytest.raises(WorkflowNotFoundError):
        world.controller().acquire("nobody")
    with pytest.raises(WorkflowNotFoundError):
        world.controller().acquire("j0123456789abcde-1")


def test_a_finished_workflow_is_answered_without_moving(world: World) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    first.end(mine)

    acquired = second.acquire(mine)

    assert acquired.finished
    assert world.owner(mine) == first.id
    first.crash()
    assert second.acquire(mine).finished
    assert world.owner(mine) == first.id


def test_workflows_nobody_asked_for_are_given_up_and_can_be_claimed_by_others(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    wanted, other, named = first.submit(), first.submit(), first.submit("named")
    first.outcome(other, "a")
    first.crash()

    second.acquire(wanted)

    assert third.acquire(other).records == world.history(other)
    assert world.owner(other) == third.id
    assert third.acquire(named).epoch == 2
    assert world.owner(named) == third.id
    assert world.owner(wanted) == second.id
    with pytest.raises(WorkflowRunningError):
        second.acquire(other)


def test_an_heir_can_claim_back_what_it_gave_up(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    wanted, other = first.submit(), first.submit()
    first.crash()
    second.acquire(wanted)

    assert not second.acquire(other).finished

    assert world.owner(other) == second.id
    with pytest.raises(WorkflowRunningError):
        third.acquire(other)


def test_a_journal_that_gave_something_up_stays_listed_until_nothing_is_left(world: World) -> None:
    first, second = world.controller(), world.controller()
    all_of_it, a, b = world.controller(), first.submit(), first.submit()
    second.submit()
    first.crash()

    all_of_it.acquire(a)

    assert open_key(first.id) in world.objects(OPEN)
    second.crash()
    assert all_of_it.adopt(second.id).keys() == {f"{second.id}-1"}
    assert open_key(second.id) not in world.objects(OPEN)
    assert all_of_it.acquire(b)


def test_a_retired_controllers_workflows_move_by_claim_without_a_seal(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    mine = first.submit()
    first.outcome(mine, "a")
    first.retire()

    acquired = second.acquire(mine)

    assert acquired.epoch == 1
    assert [type(r) for r in acquired.records] == [records.Submission, records.Outcome]
    assert world.owner(mine) == second.id
    with pytest.raises(WorkflowRunningError):
        third.acquire(mine)
    second.crash()
    third.outcome_before = world.history(mine)
    assert third.acquire(mine).records == third.outcome_before


def test_a_controller_that_closed_with_work_left_is_taken_over_at_once(world: World) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit("order")
    first.outcome(mine, "a")
    expected = world.history(mine)
    first.close()

    assert second.acquire(mine).records == expected
    assert second.acquire(mine).epoch == 1
    assert world.owner(mine) == second.id


def test_an_heir_that_died_before_writing_anything_leaves_both_journals_to_the_next(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    mine, theirs = first.submit(), second.submit()
    first.outcome(mine, "a")
    first.crash()
    adoption.seal(world.store, first.id, second.id)
    second.crash()

    assert [type(r) for r in third.acquire(mine).records] == [records.Submission, records.Outcome]
    assert world.owner(mine) == third.id
    assert third.acquire(theirs)
    adopted = [r for r in read_journal(world.store, third.id).records if isinstance(r, records.Adopted)]
    assert [a.journal_id for a in adopted] == [first.id, second.id]


def test_a_journal_sealed_by_an_heir_that_died_is_found_by_the_next_heir(world: World) -> None:
    first, second, third, fourth = (world.controller() for _ in range(4))
    lost = first.submit()
    theirs = second.submit()
    first.crash()
    adoption.seal(world.store, first.id, second.id)
    second.crash()
    third.adopt(second.id, lambda workflow_id: workflow_id == theirs)

    with pytest.raises(WorkflowRunningError):
        fourth.acquire(lost)

    assert adoption.orphans(world.store, third.id) == [first.id]
    assert third.adopt(first.id).keys() == {lost}
    assert adoption.orphans(world.store, third.id) == []
    assert world.owner(lost) == third.id


def test_what_a_sleeping_writer_appends_after_the_seal_counts_for_nobody(world: World) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    first.sleep()
    acquired = second.acquire(mine)

    with pytest.raises(FencedError) as caught:
        first.end(mine)

    assert caught.value.heir == second.id
    assert world.history(mine) == acquired.records
    with pytest.raises(FencedError):
        first.outcome(mine, "a")
    second.outcome(mine, "b")
    assert [getattr(r, "task_id", "") for r in world.history(mine)] == ["", "b"]


def test_no_reader_believes_an_end_that_the_heir_may_not_have_read(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    mine = first.submit()
    first.sleep()
    adoption.seal(world.store, first.id, second.id)
    with pytest.raises(FencedError):
        first.end(mine)

    standing = look_up(world.store, mine, world.now)
    assert standing is not None
    assert not standing.history.settled
    with pytest.raises(WorkflowRunningError):
        third.acquire(mine)


def test_two_writers_that_take_each_other_for_dead_leave_workflows_to_be_claimed(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    mine, theirs = first.submit(), second.submit()
    adoption.seal(world.store, first.id, second.id)
    adoption.seal(world.store, second.id, first.id)

    for controller, workflow_id in ((first, mine), (second, theirs)):
        with pytest.raises(FencedError):
            controller.end(workflow_id)
        assert third.acquire(workflow_id).records
        assert world.owner(workflow_id) == third.id


# --- claims ---------------------------------------------------------------------------------------------------------


def test_an_id_is_given_once(world: World) -> None:
    first, second = world.controller(), world.controller()
    first.submit("order")

    assert adoption.begin(world.store, second.writer, "order", world.now) is None
    assert adoption.begin(world.store, first.writer, "order", world.now) is None


def test_a_claimed_id_without_a_submission_is_refused_while_its_claimant_lives(world: World) -> None:
    first, second = world.controller(), world.controller()
    assert adoption.begin(world.store, first.writer, "order", world.now) == 1

    with pytest.raises(WorkflowRunningError):
        adoption.begin(world.store, second.writer, "order", world.now)
    with pytest.raises(WorkflowRunningError):
        second.acquire("order")
    assert adoption.begin(world.store, first.writer, "order", world.now) == 1


@pytest.mark.parametrize("ending", ["crash", "retire"])
def test_a_claimed_id_without_a_submission_is_free_once_its_journal_is_closed(world: World, ending: str) -> None:
    first, second = world.controller(), world.controller()
    adoption.begin(world.store, first.writer, "order", world.now)
    getattr(first, ending)()

    assert second.submit("order") == "order"

    assert world.owner("order") == second.id
    assert world.history("order")[0].generation == 2


def test_a_submission_whose_claim_was_lost_is_ignored(world: World, make: Make) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    first.submit("order")
    second.append(make.submission("order", 99))
    second.crash()
    first.crash()

    assert third.adopt(second.id) == {}
    assert third.acquire("order").records == [make.submission("order", 1)]


def test_a_submission_whose_claim_arrives_after_the_take_over_is_not_lost(world: World, make: Make) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    first.append(make.submission("order", 1))
    first.sleep()
    assert second.adopt(first.id) == {}

    claims.claim(world.store, "order", 1, first.id, since=2)

    assert third.acquire("order").records == [make.submission("order", 1)]
    assert world.owner("order") == third.id


def test_what_a_journal_said_of_a_workflow_before_it_claimed_it_does_not_count(world: World, make: Make) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    second.append(make.submission("order", 77), make.outcome("order", "spurious", "x.1.1"))
    first.submit("order")
    first.retire()
    second.acquire("order")

    assert world.history("order") == [make.submission("order", 1)]
    second.crash()
    assert third.acquire("order").records == [make.submission("order", 1)]


def test_records_repeated_for_a_claim_that_was_lost_change_nothing(world: World, make: Make) -> None:
    first, second, third, fourth = (world.controller() for _ in range(4))
    first.submit("order")
    first.retire()
    second.append(make.submission("order", 1))  # died before the claim, or lost it
    third.acquire("order")
    third.outcome("order", "a")
    second.crash()

    assert fourth.adopt(second.id) == {}
    assert world.owner("order") == third.id
    assert len(world.history("order")) == 2


def test_what_an_heir_said_of_a_workflow_before_it_adopted_it_does_not_count(world: World, make: Make) -> None:
    first, second = world.controller(), world.controller()
    second.append(make.submission("order", 77), make.outcome("order", "spurious", "x.1.1"))
    first.submit("order")
    first.crash()

    second.adopt(first.id, lambda workflow_id: False)

    assert world.history("order") == [make.submission("order", 1)]
    assert world.controller().acquire("order").records == [make.submission("order", 1)]


def test_a_journal_with_a_submission_whose_claim_was_lost_takes_nothing_from_its_heir(world: World, make: Make) -> None:
    first, spurious, heir = world.controller(), world.controller(), world.controller()
    first.submit("order")
    spurious.append(make.submission("order", 99))
    first.crash()
    heir.acquire("order")
    spurious.crash()

    heir.adopt(spurious.id, lambda workflow_id: False)

    heir.outcome("order", "a")
    assert len(world.history("order")) == 2
    assert heir.acquire("order").records == world.history("order")


def test_records_repeated_before_a_claim_do_not_bring_back_what_was_given_up(world: World, make: Make) -> None:
    first, second, third, fourth = (world.controller() for _ in range(4))
    mine = first.submit()
    first.crash()
    second.adopt(first.id, lambda workflow_id: False)
    second.append(make.submission(mine, 1))  # and died before the claim
    second.crash()

    assert third.adopt(second.id) == {}
    fourth.acquire(mine)
    assert world.owner(mine) == fourth.id
    with pytest.raises(WorkflowRunningError):
        third.acquire(mine)


def test_what_a_sleeper_appended_after_its_take_over_does_not_count_later_either(world: World) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    mine = first.submit()
    first.sleep()
    second.adopt(first.id, lambda workflow_id: False)
    with pytest.raises(FencedError):
        first.end(mine)

    assert not third.acquire(mine).finished


def test_what_a_sleeper_appends_while_its_heir_reads_counts_for_nobody(make: Make) -> None:
    world = make.World(make.MemoryStore())
    first, second = world.controller(), world.controller()
    mine, victim = first.submit(), segment_key(first.id, 1)
    first.sleep()
    read = world.store.read

    def stirring(key: str, **options: Any) -> Any:
        found = read(key, **options)
        if key == victim and not options and find_end(world.store, first.id).seal and not first.writer.dead:
            with pytest.raises(FencedError):
                first.end(mine)
        return found

    world.store.read = stirring
    acquired = second.acquire(mine)

    assert first.writer.dead
    assert not acquired.finished
    assert acquired.records == world.history(mine)
    assert len(acquired.records) == 1


def test_what_a_sleeper_appends_while_its_workflow_is_claimed_is_read_again(make: Make) -> None:
    world = make.World(make.MemoryStore())
    first, second, third = world.controller(), world.controller(), world.controller()
    mine = first.submit()
    # Two that took each other for dead: nobody ever says how much of their journals counts.
    adoption.seal(world.store, first.id, second.id)
    adoption.seal(world.store, second.id, first.id)
    create = world.store.create

    def stirring(key: str, data: Any, **options: Any) -> bool:
        if key.startswith("claims/"):
            with pytest.raises(FencedError):
                first.end(mine)
        return create(key, data, **options)

    world.store.create = stirring
    acquired = third.acquire(mine)

    assert acquired.finished
    assert acquired.records == world.history(mine)


def test_a_seal_comes_behind_the_segment_its_victim_begins_at_that_moment(world: World) -> None:
    first, second = world.controller(segment_bytes=1), world.controller()
    mine = first.submit()
    first.sleep()
    create, stirred = world.store.create, []

    def stirring(key: str, data: Any, **options: Any) -> bool:
        if key.startswith(f"journals/{first.id}/") and b"heir" in data and not stirred:
            stirred.append(key)
            first.outcome(mine, "a")
        return create(key, data, **options)

    world.store.create = stirring
    acquired = second.acquire(mine)

    assert stirred
    assert [type(r) for r in acquired.records] == [records.Submission, records.Outcome]
    with pytest.raises(FencedError):
        first.outcome(mine, "b")


# --- many -----------------------------------------------------------------------------------------------------------


def many(controller: Controller, wanted: Callable[[str], bool] = lambda workflow_id: True) -> dict[str, Any]:
    return adoption.acquire_many(controller.store, controller.writer, controller.world.now, wanted)


def test_a_start_takes_all_that_nobody_runs_and_nothing_else(world: World, make: Make) -> None:
    dead, closed, heir, alive, starter = (world.controller() for _ in range(5))
    mine = [dead.submit(), dead.submit("named/dead"), closed.submit(), closed.submit("named/closed"), dead.submit()]
    for workflow_id in mine:
        owner = closed if workflow_id in mine[2:4] else dead
        owner.outcome(workflow_id, "a")
    for controller in (dead, closed, alive):
        controller.end(controller.submit())
    running = alive.submit()
    closed.append(make.submission("unclaimed"))
    closed.close()
    dead.crash()
    heir.adopt(dead.id, lambda workflow_id: workflow_id == mine[0])
    expected = {workflow_id: world.history(workflow_id) for workflow_id in mine[1:]}

    found = many(starter)

    assert {workflow_id: acquired.records for workflow_id, acquired in found.items()} == expected
    assert not any(acquired.finished for acquired in found.values())
    for workflow_id, history in expected.items():
        assert world.owner(workflow_id) == starter.id
        assert world.history(workflow_id) == history
        assert starter.acquire(workflow_id).epoch == found[workflow_id].epoch
    assert world.owner(mine[0]) == heir.id
    assert world.owner(running) == alive.id
    assert many(starter) == {}


def test_a_start_does_not_disturb_a_controller_that_is_just_opening_its_journal(world: World) -> None:
    starter = world.controller()
    world.store.create(open_key("j0123456789abcde"), b"{}")

    assert many(starter) == {}
    assert find_end(world.store, "j0123456789abcde").number == 0


def test_a_start_leaves_what_is_not_wanted_to_others(world: World) -> None:
    dead, first, second = world.controller(), world.controller(), world.controller()
    a, b = dead.submit(), dead.submit()
    dead.crash()

    assert many(first, lambda workflow_id: workflow_id == a).keys() == {a}
    assert many(second).keys() == {b}


def test_of_many_that_start_at_once_each_workflow_gets_one(world: World, together: Callable[..., list[Any]]) -> None:
    dead, closed = world.controller(), world.controller()
    ids = [dead.submit() for _ in range(5)] + [closed.submit(f"w{n}") for n in range(5)]
    starters = [world.controller() for _ in range(3)]
    closed.close()
    dead.crash()

    answers = together([lambda s=s: many(s) for s in starters])

    assert sorted(workflow_id for answer in answers for workflow_id in answer) == sorted(ids)
    for starter, answer in zip(starters, answers, strict=True):
        assert all(world.owner(workflow_id) == starter.id for workflow_id in answer)


def test_a_damaged_journal_keeps_no_other_from_being_taken(world: World, caplog: pytest.LogCaptureFixture) -> None:
    damaged, dead, starter = world.controller(), world.controller(), world.controller()
    damaged.submit()
    mine = dead.submit()
    damaged.outcome(mine, "a")
    damaged.crash()
    dead.crash()
    key = segment_key(damaged.id, 1)
    data = bytearray(world.store.read(key))
    data[40] ^= 1
    world.store.delete(key)
    world.store.create(key, data)
    assert many(starter).keys() == {mine}
    assert damaged.id in caplog.text


@pytest.mark.parametrize("ending", ["crash", "close", "given up"])
def test_a_start_that_dies_anywhere_leaves_everything_to_the_next(mortal: Any, ending: str, make: Make) -> None:
    world, done = mortal
    struck, number = True, 0
    while struck:
        number += 1
        first = world.controller()
        ids = [first.submit(), first.submit(f"named-{number}")]
        for workflow_id in ids:
            first.outcome(workflow_id, "a")
        expected = {workflow_id: world.history(workflow_id) for workflow_id in ids}
        if ending == "given up":
            first.crash()
            assert world.controller().adopt(first.id, lambda workflow_id: False) == {}
        else:
            getattr(first, ending)()
        plan = make.CrashAt(10**9, done=done)
        dying = world.controller(make.FaultyStore(world.store, plan))
        plan.number = plan.changes + number
        struck = False
        try:
            many(dying)
        except make.SimulatedCrash:
            struck = True
        dying.crash()

        heir = world.controller()
        assert {workflow_id: acquired.records for workflow_id, acquired in many(heir).items()} == expected
        for workflow_id in ids:
            heir.end(workflow_id)
        heir.retire()
    assert number > 2


# --- racing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["crash", "close", "retire"])
def test_of_many_that_acquire_at_once_exactly_one_succeeds(
    world: World, ending: str, together: Callable[..., list[Any]]
) -> None:
    first = world.controller()
    mine, other = first.submit(), first.submit()
    contenders = [world.controller() for _ in range(4)]
    getattr(first, ending)()

    answers = together([lambda c=c: c.acquire(mine) for c in contenders])

    won = [c.id for c, answer in zip(contenders, answers, strict=True) if isinstance(answer, adoption.Acquired)]
    lost = [answer for answer in answers if not isinstance(answer, adoption.Acquired)]
    assert len(won) == 1
    assert all(isinstance(answer, WorkflowRunningError) for answer in lost)
    assert world.owner(mine) == won[0]
    assert world.history(mine)
    assert world.history(other)


def test_of_many_that_begin_at_once_exactly_one_succeeds(world: World, together: Callable[..., list[Any]]) -> None:
    contenders = [world.controller() for _ in range(4)]

    def begin(controller: Controller) -> Any:
        return adoption.begin(world.store, controller.writer, "order", world.now)

    answers = together([lambda c=c: begin(c) for c in contenders])

    assert sorted(str(a) for a in answers if not isinstance(a, WorkflowRunningError)) == ["1"]


CONTENDER = """
import os, sys, time
from exoflow.errors import WorkflowRunningError
from exoflow.journal.adoption import acquire
from exoflow.journal.layout import new_journal_id
from exoflow.journal.writer import JournalWriter
from exoflow_storage.local import open_file_store

store = open_file_store(sys.argv[1])
writer = JournalWriter.open(store, new_journal_id(time.time()), "here", os.getpid(), time.time())
print("ready", flush=True)
for line in sys.stdin:
    try:
        acquire(store, writer, line.strip(), time.time())
        print("won", writer.journal_id, flush=True)
    except WorkflowRunningError:
        print("lost", flush=True)
"""


def test_of_several_processes_that_acquire_at_once_exactly_one_succeeds(tmp_path: Path, make: Make) -> None:
    storage = pytest.importorskip("exoflow_storage.local")
    world = make.World(storage.open_file_store(f"file://{tmp_path}"))
    first, second = world.controller(), world.controller()
    ids = [first.submit() for _ in range(4)] + [second.submit() for _ in range(4)]
    first.crash()
    second.retire()
    command = [sys.executable, "-c", CONTENDER, f"file://{tmp_path}"]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(3)
    ]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for workflow_id in ids:
            for child in children:
                child.stdin.write(workflow_id + "\n")
            answers = [child.stdout.readline().split() for child in children]
            winners = [answer[1] for answer in answers if answer[0] == "won"]
            assert [answer[0] for answer in answers].count("lost") == 2, answers
            assert winners == [world.owner(workflow_id)]
    finally:
        for child in children:
            child.stdin.close()
            child.wait(timeout=20)
            child.stdout.close()
        world.store.close()


# --- crashing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["crash", "retire", "adopted"])
def test_an_acquirer_that_dies_anywhere_leaves_everything_to_the_next(mortal: Any, ending: str, make: Make) -> None:
    world, done = mortal
    struck = True
    number = 0
    while struck:
        number += 1
        first = world.controller()
        mine, other, named = first.submit(), first.submit(), first.submit(f"named-{ending}-{done}-{number}")
        for workflow_id in (mine, other, named):
            first.outcome(workflow_id, "a")
        expected = {workflow_id: world.history(workflow_id) for workflow_id in (mine, other, named)}
        if ending == "adopted":
            between = world.controller()
            first.crash()
            adoption.seal(world.store, first.id, between.id)
            between.crash()
        else:
            getattr(first, ending)()
        plan = make.CrashAt(10**9, done=done)
        dying = world.controller(make.FaultyStore(world.store, plan))
        plan.number = plan.changes + number
        struck = False
        try:
            dying.acquire(mine)
            dying.acquire(named)
        except make.SimulatedCrash:
            struck = True
        dying.crash()

        heir = world.controller()
        for workflow_id, history in expected.items():
            assert heir.acquire(workflow_id).records == history
            assert world.owner(workflow_id) == heir.id
            assert world.history(workflow_id) == history
        heir.retire()
    assert number > 3


def test_a_writer_that_owes_a_length_does_not_retire(world: World, make: Make) -> None:
    first, third = world.controller(), world.controller()
    mine = first.submit()
    first.crash()
    plan = make.CrashAt(10**9, done=True)
    faulty = make.FaultyStore(world.store, plan)
    second = world.controller(faulty)
    faulty.plan = _lost_seal(make, first.id)
    with pytest.raises(UnavailableError):
        second.acquire(mine)
    faulty.plan = None

    second.retire()
    world.pass_time()

    assert third.acquire(mine).records
    assert world.owner(mine) == third.id


def test_a_take_over_that_failed_half_way_is_gone_on_with(world: World, make: Make) -> None:
    first, third = world.controller(), world.controller()
    mine, other = first.submit(), first.submit()
    first.crash()
    faulty = make.FaultyStore(world.store, make.CrashAt(10**9, done=True))
    second = world.controller(faulty)
    faulty.plan = _lost_seal(make, first.id)
    with pytest.raises(UnavailableError):
        second.acquire(mine)
    with pytest.raises(UnavailableError):
        adoption.pay_debts(faulty, second.writer, world.now)
    with pytest.raises(WorkflowRunningError):
        third.acquire(other)
    faulty.plan = None

    assert adoption.pay_debts(faulty, second.writer, world.now)

    assert third.acquire(other).records
    assert second.acquire(mine).records
    assert not second.writer.owed


def _lost_seal(make: Make, victim: str) -> Callable[[Any], Any]:
    """A plan by which the seal of *victim* lands, but neither is that answered nor can it be read back."""
    sealed = False

    def plan(call: Any) -> Any:
        nonlocal sealed
        if not call.key.startswith(f"journals/{victim}/"):
            return None
        if call.verb == "create":
            sealed = True
            return make.LoseAnswer(happens=True)
        return make.Refuse() if sealed and call.verb == "read" else None

    return plan
