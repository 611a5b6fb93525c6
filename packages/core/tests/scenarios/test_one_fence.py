"""Scenario 6: two fences without an order between them.

If a claim could take a workflow from a living journal, it would have two owners; if it took a claim for each workflow to
take a journal over, a crash would leave half of them. So the seal is the only fence, and it names the heir: the owner of
a workflow is found by following seals from the journal that its highest claim, or its own id, names. A take-over is one
create for all workflows together. A claim finds; a higher one is legal only when nobody can add to the old journal's
story of that workflow any more.
"""

from typing import Any

import pytest

from exoflow.errors import FencedError, UnknownOutcomeError, WorkflowNotFoundError, WorkflowRunningError
from exoflow.journal import adoption, claims, records
from exoflow.journal.layout import CLAIMS, JOURNALS, OPEN
from exoflow.journal.ownership import look_up
from exoflow.journal.reader import read_journal
from exoflow.testing.faults import At, Call, FaultyStore, LoseAnswer, Scheduled

from .controllers import World, submission


def test_a_nobody_can_claim_a_workflow_whose_journal_is_not_sealed(world: World) -> None:
    owner, other = world.controller(), world.controller()
    owner.submit("order")
    before = world.objects()

    with pytest.raises(WorkflowRunningError):
        other.acquire("order")
    assert adoption.begin(world.store, other.writer, "order", world.now) is None

    assert world.objects() == before, "neither a claim nor a seal was tried"
    owner.outcome("order", "charge")
    assert world.owner("order") == owner.id


def test_a_seal_moves_every_workflow_and_needs_no_claim(world: World) -> None:
    owner = world.controller()
    mine = [owner.submit("named"), *(owner.submit() for _ in range(200))]
    owner.crash()
    creates: list[str] = []
    watched = FaultyStore(world.store, lambda call: creates.append(call.key) if call.verb == "create" else None)
    heir = world.controller(watched)
    del creates[:]

    assert set(heir.adopt(owner.id)) == set(mine)

    assert [key for key in creates if key.startswith(CLAIMS)] == []
    assert len([key for key in creates if key.startswith(f"{JOURNALS}{owner.id}/")]) == 1
    assert {world.owner(workflow_id) for workflow_id in mine} == {heir.id}


def test_b_moving_one_workflow_is_its_owners_decision_and_costs_a_healthy_controller_nothing_else(world: World) -> None:
    owner, other = world.controller(), world.controller()
    owner.submit("stays")
    owner.submit("goes")
    with pytest.raises(WorkflowRunningError):
        other.acquire("goes")

    owner.append(records.Released("goes"))

    assert other.acquire("goes").epoch == 2
    assert not read_journal(world.store, owner.id).sealed
    owner.outcome("stays", "charge")
    assert (world.owner("stays"), world.owner("goes")) == (owner.id, other.id)
    owner.outcome("goes", "zombie")
    assert not any(isinstance(r, records.Outcome) for r in world.history("goes")), "what it says after that is ignored"


def test_c_an_heir_that_dies_right_after_its_seal_leaves_all_workflows_in_one_place(world: World) -> None:
    owner, first = world.controller(), world.controller()
    mine = [owner.submit("named"), *(owner.submit() for _ in range(50))]
    owner.crash()
    adoption.seal(world.store, owner.id, first.id)

    assert {world.owner(workflow_id) for workflow_id in mine} == {first.id}

    first.crash()
    second = world.controller()
    assert set(adoption.acquire_many(world.store, second.writer, world.now)) == set(mine)
    assert {world.owner(workflow_id) for workflow_id in mine} == {second.id}


def test_c_of_two_heirs_the_seal_chooses_one(world: World) -> None:
    owner, first, second = (world.controller() for _ in range(3))
    mine = owner.submit()
    owner.crash()
    assert first.adopt(owner.id) is not None

    assert second.adopt(owner.id) is None
    with pytest.raises(WorkflowRunningError):
        second.acquire(mine)
    assert world.owner(mine) == first.id


@pytest.mark.parametrize("ending", ["crashes", "closes", "retires"])
def test_d_an_id_claimed_by_one_that_never_submitted_is_not_lost(world: World, ending: str) -> None:
    owner, other = world.controller(), world.controller()
    assert adoption.begin(world.store, owner.writer, "order", world.now) == 1
    with pytest.raises(WorkflowRunningError):
        adoption.begin(world.store, other.writer, "order", world.now)
    {"crashes": owner.crash, "closes": owner.close, "retires": owner.retire}[ending]()

    with pytest.raises(WorkflowNotFoundError):
        other.acquire("order")
    assert other.submit("order") == "order"
    assert world.owner("order") == other.id
    assert [type(r) for r in world.history("order")] == [records.Submission]


def test_e_a_submission_to_which_no_claim_leads_is_nobodys(world: World) -> None:
    winner, loser = world.controller(), world.controller()
    winner.submit("order")
    loser.append(submission("order", 1))
    loser.outcome("order", "spurious")

    assert world.owner("order") == winner.id
    assert world.history("order") == [submission("order", 1)]
    loser.crash()
    heir = world.controller()
    assert heir.adopt(loser.id) == {}, "nor its heir's"
    winner.outcome("order", "charge")
    assert len(world.history("order")) == 2


def test_e_a_claim_whose_answer_was_lost_is_not_believed_lost(world: World) -> None:
    store = FaultyStore(world.store)
    owner, other = world.controller(store), world.controller()
    store.plan = Scheduled(At("create", LoseAnswer(), key="claims/*"))
    with pytest.raises(UnknownOutcomeError):
        owner.submit("order")
    assert world.history("order") == [], "no submission follows a claim of which nobody knows"

    assert owner.submit("order") == "order", "asked again, it finds that the claim is its own"
    assert adoption.begin(world.store, other.writer, "order", world.now) is None
    assert world.owner("order") == owner.id
    assert list(world.objects(CLAIMS)) == ["claims/order/00000001"]


def test_f_an_id_that_names_its_journal_is_found_through_all_heirs(world: World) -> None:
    first = world.controller()
    mine = first.submit()
    last = first
    for number in range(4):
        last.crash()
        last = world.controller()
        last.acquire(mine)
        last.outcome(mine, f"task{number}")

    assert mine.startswith(first.id)
    assert world.owner(mine) == last.id
    assert [r.task_id for r in world.history(mine) if isinstance(r, records.Outcome)] == [f"task{n}" for n in range(4)]
    assert list(world.objects(CLAIMS)) == []


def test_a_fenced_owner_adds_nothing_to_any_of_its_workflows(world: World) -> None:
    owner, heir = world.controller(), world.controller()
    mine = [owner.submit(), owner.submit("named")]
    owner.sleep()
    heir.acquire(mine[0])
    before = {workflow_id: world.history(workflow_id) for workflow_id in mine}

    for workflow_id in mine:
        with pytest.raises(FencedError):
            owner.end(workflow_id)
    with pytest.raises(FencedError):
        owner.submit("another")

    assert {workflow_id: world.history(workflow_id) for workflow_id in mine} == before
    standing = look_up(world.store, "another", world.now)
    assert standing is None or not standing.history.records


def test_a_start_lists_journals_that_may_need_an_heir_and_not_all_there_ever_were(world: World) -> None:
    for _ in range(20):
        done = world.controller()
        done.end(done.submit())
        done.retire()
    dead = world.controller()
    mine = dead.submit()
    dead.crash()
    listed: list[str] = []

    def plan(call: Call) -> Any:
        if call.verb == "list":
            listed.append(call.key)

    heir = world.controller(FaultyStore(world.store, plan))

    assert set(adoption.acquire_many(heir.store, heir.writer, world.now)) == {mine}
    assert OPEN in listed
    assert JOURNALS not in listed
    visited = {key for key in listed if key.startswith(JOURNALS)}
    assert len(visited) <= 2, f"a start costs live journals, not history: {visited}"


def test_a_claim_by_hand_against_the_rule_would_have_two_owners_so_nothing_makes_one(world: World) -> None:
    """What the rule forbids, made by hand: it shows that claims do not fence, and why only the seal may."""
    owner, thief = world.controller(), world.controller()
    owner.submit("order")
    claims.claim(world.store, "order", 2, thief.id)

    owner.outcome("order", "charge")  # nothing stops it

    assert world.owner("order") == thief.id
    assert world.history("order") == []
