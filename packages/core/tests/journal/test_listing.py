"""What a store knows."""

from typing import Any

from exoflow.journal import garbage, records
from exoflow.journal.listing import iterate_workflows, list_journals


def summaries(world: Any) -> dict[str, Any]:
    return {summary.workflow_id: summary for summary in iterate_workflows(world.store, world.now)}


def test_every_workflow_is_listed_once_with_where_it_stands(world: Any, make: Any) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    moved, ended, given_up = first.submit(), first.submit("order/1"), first.submit()
    first.end(ended)
    first.outcome(moved, "a")
    first.crash()
    second.acquire(moved)
    running = third.submit()

    found = summaries(world)

    assert found.keys() == {moved, ended, given_up, running}
    assert {w: s.live for w, s in found.items()} == {moved: True, ended: True, given_up: False, running: True}
    assert {w for w, s in found.items() if s.finished} == {ended}
    assert found[moved].ownership.last == second.id
    assert [type(r) for r in found[ended].records] == [records.Submission, records.End]
    assert not any(isinstance(r, records.Outcome) for r in found[moved].records)
    assert list(list_journals(world.store)) == [first.id, second.id, third.id]


def test_what_is_deleted_or_leads_nowhere_is_not_listed(world: Any, make: Any) -> None:
    first, second = world.controller(), world.controller()
    gone = first.submit("gone")
    first.end(gone)
    garbage.delete(world.store, second.writer, gone, world.now)
    second.append(make.submission("unclaimed"))

    assert summaries(world) == {}


def test_archived_workflows_are_listed_like_others(world: Any, make: Any) -> None:
    first = world.controller()
    ended = first.submit("order")
    first.end(ended, "failed")
    first.retire()
    before = summaries(world)

    garbage.collect(world.store, world.now, 1e9, archive_after_s=0.0)

    assert summaries(world) == before
    assert before[ended].finished


def test_a_failure_with_a_once_task_that_happened_is_finished(world: Any, make: Any) -> None:
    first = world.controller()
    mine = first.submit()
    first.append(records.Intent(mine, "o", f"{first.id}.1.1", "key", ()))
    first.append(make.outcome(mine, "o", f"{first.id}.1.1"))
    first.end(mine, "failed")

    assert summaries(world)[mine].finished
    assert world.controller().acquire(mine).finished
