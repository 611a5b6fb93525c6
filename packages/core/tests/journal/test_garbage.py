"""What is finished and old goes; nothing that anybody may want does; and a crash anywhere changes neither."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from exoflow.errors import FencedError, WorkflowNotFoundError
from exoflow.journal import adoption, inbox, records
from exoflow.journal.garbage import collect, delete
from exoflow.journal.layout import ARCHIVE, BLOBS, CLAIMS, INBOX, JOURNALS, OPEN, blob_key, segment_key, segments_of
from exoflow.journal.listing import iterate_workflows
from exoflow.journal.pins import pin
from exoflow.journal.reader import find_end, read_journal
from exoflow.values import Payload

DAY = 86400.0


def blob(world: Any, controller: Any, workflow_id: str, number: int) -> Payload:
    key = blob_key(workflow_id, f"{controller.id}.1.{number}")
    world.store.write(key, (b"blob",))
    return Payload("pickle", (4,), None, key, 1)


def finish(world: Any, controller: Any, workflow_id: str) -> None:
    """Let a workflow succeed with a blob for its result, one on the way, and one that nothing names."""
    controller.outcome(workflow_id, "1", blob(world, controller, workflow_id, 1))
    blob(world, controller, workflow_id, 2)
    result = blob(world, controller, workflow_id, 3)
    controller.outcome(workflow_id, "3", result)
    controller.end(workflow_id, payload=result)


def test_nothing_young_is_touched(world: Any) -> None:
    first = world.controller()
    finish(world, first, first.submit())
    first.retire()
    before = world.objects()

    collect(world.store, world.now + DAY, 30 * DAY, archive_after_s=2 * DAY)

    assert world.objects() == before


def test_an_archived_workflow_keeps_its_result_and_nothing_else(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit("order")
    finish(world, first, mine)
    first.retire()

    report = collect(world.store, world.now + 3 * DAY, 30 * DAY, archive_after_s=2 * DAY)

    assert (report.journals_archived, report.segments > 0, report.blobs) == (1, True, 2)
    assert list(world.objects(BLOBS)) == [blob_key(mine, f"{first.id}.1.3")]
    assert list(world.store.list(segments_of(first.id))) == [
        segment_key(first.id, find_end(world.store, first.id).number)
    ]
    acquired = second.acquire(mine)
    assert acquired.finished
    assert acquired.records[-1].payload.blob in world.objects(BLOBS)
    assert adoption.begin(world.store, second.writer, mine, world.now) is None


def test_a_forgotten_workflow_leaves_a_seal_and_its_id_is_free(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine, auto = first.submit("order"), first.submit()
    finish(world, first, mine)
    finish(world, first, auto)
    inbox.send(world.store, mine, "late", "m", b"")
    first.retire()

    report = collect(world.store, world.now + 31 * DAY, 30 * DAY)

    assert report.workflows_forgotten == 2
    for prefix in (BLOBS, CLAIMS, ARCHIVE, INBOX):
        assert world.objects(prefix) == {}
    assert len(list(world.store.list(segments_of(first.id)))) == 1
    for gone in (mine, auto):
        with pytest.raises(WorkflowNotFoundError):
            second.acquire(gone)
    assert second.submit("order")


def test_an_id_whose_journal_is_forgotten_before_its_heirs_is_not_found(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    first.end(mine)
    first.crash()
    second.submit()
    second.adopt(first.id)

    collect(world.store, world.now + 31 * DAY, 30 * DAY)

    assert read_journal(world.store, first.id).forgotten
    with pytest.raises(WorkflowNotFoundError):
        second.acquire(mine)


def test_a_writer_that_wakes_after_its_journal_was_collected_is_still_fenced(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    first.end(mine)
    first.sleep()
    second.adopt(first.id)
    second.retire()
    for days in (31, 62, 93):
        collect(world.store, world.now + days * DAY, 30 * DAY)
    assert not read_journal(world.store, first.id).records

    with pytest.raises(FencedError):
        first.append(records.Released(mine))


def test_a_journal_with_unfinished_workflows_stays(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine, left = first.submit(), first.submit()
    finish(world, first, mine)
    first.outcome(left, "1")
    first.retire()
    expected = world.history(left)

    collect(world.store, world.now + 99 * DAY, 30 * DAY)

    assert world.history(left) == expected
    assert second.acquire(left).records == expected
    collect(world.store, world.now + 99 * DAY, 30 * DAY)
    assert world.history(left) == expected
    with pytest.raises(WorkflowNotFoundError):
        second.acquire(mine)


@pytest.mark.parametrize("ending", ["crash", "retire"])
def test_the_journals_before_the_last_go_and_the_workflow_goes_on(world: Any, ending: str) -> None:
    mine, named, chain = None, "named", []
    for number in range(4):
        controller = world.controller()
        chain.append(controller.id)
        if mine is None:
            mine = controller.submit()
            controller.submit(named)
        for workflow_id in (mine, named):
            if number:
                controller.acquire(workflow_id)
            controller.outcome(workflow_id, str(number), blob(world, controller, workflow_id, number))
        getattr(controller, ending)()
    blob(world, controller, mine, 99)
    expected = {workflow_id: world.history(workflow_id) for workflow_id in (mine, named)}
    assert all(len(history) == 5 for history in expected.values())

    collect(world.store, world.now + 99 * DAY, 30 * DAY)

    assert {workflow_id: world.history(workflow_id) for workflow_id in (mine, named)} == expected
    assert len(world.objects(BLOBS)) == 2 * 4 + 1
    left = [journal for journal in chain if not read_journal(world.store, journal).archived]
    assert left == chain[-1:]
    last = world.controller()
    assert {w: last.acquire(w).records for w in (mine, named)} == expected
    last.end(mine)
    last.end(named)
    last.retire()
    collect(world.store, world.now + 200 * DAY, 30 * DAY)
    assert set(world.objects()) == {
        key for j in [*chain, last.id] for key in list(world.store.list(segments_of(j)))[-1:]
    }


def test_an_end_found_in_a_journal_long_adopted_survives_its_archive(world: Any) -> None:
    first, second = world.controller(), world.controller()
    ended, other = first.submit("ended"), first.submit("other")
    finish(world, first, ended)
    first.crash()
    second.acquire(other)

    collect(world.store, world.now + 3 * DAY, 30 * DAY, archive_after_s=DAY)

    assert read_journal(world.store, first.id).archived
    assert world.controller().acquire(ended).finished
    assert world.owner("other") == second.id


def test_a_dead_journal_in_which_all_has_ended_is_adopted_and_goes(world: Any) -> None:
    first, collector = world.controller(), world.controller()
    mine = first.submit()
    first.end(mine)
    unfinished = world.controller()
    unfinished.submit()
    unfinished.crash()
    first.crash()

    collect(world.store, world.now + 99 * DAY, 30 * DAY)
    assert not find_end(world.store, first.id).seal
    collect(world.store, world.now + 99 * DAY, 30 * DAY, writer=collector.writer)

    assert not read_journal(world.store, first.id).records
    assert set(world.store.list(OPEN)) == {f"{OPEN}{unfinished.id}", f"{OPEN}{collector.id}"}


def test_a_deleted_workflows_tombstone_stays_as_long_as_its_id_is_remembered(world: Any) -> None:
    first = world.controller()
    mine = first.submit("order")
    first.end(mine)
    world.now += 20 * DAY
    delete(world.store, first.writer, mine, world.now)
    first.retire()

    collect(world.store, world.now + 20 * DAY, 30 * DAY)
    assert len(world.objects(CLAIMS)) == 2
    report = collect(world.store, world.now + 31 * DAY, 30 * DAY)

    assert report.claims == 2
    assert set(world.objects()) == {segment_key(first.id, find_end(world.store, first.id).number)}


def test_blobs_a_fork_shares_stay_until_the_fork_is_forgotten(world: Any) -> None:
    first = world.controller()
    parent, fork = first.submit("parent"), first.submit("fork")
    finish(world, first, parent)
    pin(world.store, parent, fork)
    first.end(fork)
    first.retire()
    shared = world.objects(BLOBS)

    collect(world.store, world.now + 3 * DAY, 30 * DAY, archive_after_s=DAY)
    assert world.objects(BLOBS) == shared

    second = world.controller()
    delete(world.store, second.writer, fork, world.now)
    second.retire()
    collect(world.store, world.now + 3 * DAY, 30 * DAY, archive_after_s=DAY)
    assert len(world.objects(BLOBS)) == 1
    collect(world.store, world.now + 99 * DAY, 30 * DAY)
    assert {key.split("/")[0] for key in world.objects()} == {"journals"}


def test_an_unnamed_blob_of_a_living_writer_is_not_garbage(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine = first.submit()
    blob(world, first, mine, 1)
    first.crash()
    second.acquire(mine)
    being_written = blob(world, second, mine, 2)

    report = collect(world.store, world.now, 1e9)

    assert report.blobs == 1
    assert set(world.objects(BLOBS)) == {being_written.blob}


def test_a_submission_whose_claim_is_under_way_is_not_garbage(world: Any, make: Any) -> None:
    first, second = world.controller(), world.controller()
    first.append(attrs.evolve(make.submission("order"), created_at=world.now))
    key = blob(world, first, "order", 1).blob
    first.sleep()
    second.adopt(first.id)

    collect(world.store, world.now, 0.0, writer=second.writer)

    assert key in world.objects(BLOBS)
    assert read_journal(world.store, first.id).records


def test_a_damaged_journal_is_left_alone_and_the_others_collected(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    first, second = world.controller(), world.controller()
    for controller in (first, second):
        controller.end(controller.submit())
        controller.retire()
    key = segment_key(first.id, 1)
    damaged = bytearray(world.store.read(key))
    damaged[30] ^= 1
    world.store.delete(key)
    world.store.create(key, damaged)

    report = collect(world.store, world.now + 99 * DAY, 30 * DAY)

    assert report.journals_archived == 1
    assert first.id in caplog.text
    assert bytes(world.store.read(key)) == damaged


def test_the_archive_that_says_how_much_of_another_journal_counts_outlives_it(world: Any) -> None:
    first, second, third = world.controller(), world.controller(), world.controller()
    left = first.submit()
    first.sleep()
    second.adopt(first.id, lambda workflow_id: False)
    with pytest.raises(FencedError):
        first.end(left)
    second.retire()

    for days in (99, 199):
        collect(world.store, world.now + days * DAY, 30 * DAY)

    assert f"{ARCHIVE}{second.id}" in world.objects()
    assert not third.acquire(left).finished


def test_a_forgotten_workflow_does_not_come_back_from_the_journal_it_began_in(world: Any) -> None:
    first, second = world.controller(), world.controller()
    mine, left = first.submit(), first.submit()
    first.retire()
    second.acquire(mine)
    second.end(mine)
    second.retire()

    collect(world.store, world.now + 99 * DAY, 30 * DAY)

    third = world.controller()
    assert third.acquire(mine).finished
    third.acquire(left)
    third.end(left)
    third.retire()
    for days in (99, 199):
        collect(world.store, world.now + days * DAY, 30 * DAY)
    for workflow_id in (mine, left):
        with pytest.raises(WorkflowNotFoundError):
            world.controller().acquire(workflow_id)
    assert world.objects(CLAIMS) == {}


def test_an_id_used_again_while_its_old_use_is_forgotten_keeps_its_claim(world: Any) -> None:
    first, second = world.controller(), world.controller()
    first.submit("order")
    first.end("order")
    first.retire()
    listing, done = world.store.list, []

    def quick(prefix: str) -> Any:
        if prefix == "inbox/order/" and not done:
            done.append(prefix)
            delete(world.store, second.writer, "order", world.now)
            second.submit("order")
        return listing(prefix)

    world.store.list = quick
    collect(world.store, world.now + 99 * DAY, 30 * DAY)

    assert done
    assert world.owner("order") == second.id
    assert world.history("order")


# --- crashing -------------------------------------------------------------------------------------------------------


def history_of_a_store(make: Any, store: Any) -> Any:
    """Fill a store with a bit of everything, always the same."""
    world = make.World(store)
    first, second, third = world.controller(), world.controller(), world.controller()
    first.submit("ended")
    finish(world, first, "ended")
    auto = first.submit()
    first.outcome(auto, "1", blob(world, first, auto, 1))
    first.submit("given up")
    first.submit("deleted")
    finish(world, first, "deleted")
    delete(store, second.writer, "deleted", world.now)
    inbox.send(store, "ended", "late", "m", b"")
    first.crash()
    second.acquire(auto)
    finish(world, second, auto)
    second.submit("pinned")
    finish(world, second, "pinned")
    pin(store, "pinned", "fork")
    second.retire()
    third.acquire("given up")
    third.outcome("given up", "1", blob(world, third, "given up", 1))
    third.submit("fork")
    third.retire()
    world.collector = world.controller()
    lost = world.controller()
    lost.end(lost.submit())
    lost.crash()
    return world


@pytest.mark.parametrize(("kind", "done"), [("memory", False), ("bucket", True)], ids=["before", "after"])
@pytest.mark.parametrize(("days", "forget"), [(3, 30), (40, 30)], ids=["archive", "forget"])
def test_a_collector_that_dies_anywhere_is_finished_by_the_next(
    make: Any, tmp_path: Path, kind: str, done: bool, days: float, forget: float
) -> None:
    world = history_of_a_store(make, make.make_store(kind, tmp_path))
    before, now = world.objects(), world.now + days * DAY

    def run(crash_at: int) -> tuple[dict[str, bytes], list[Any], bool]:
        store = make.make_store(kind, tmp_path)
        for key, data in before.items():
            store.create(key, data)
        struck = False
        dying = make.FaultyStore(store, make.CrashAt(crash_at, done=done))
        try:
            collect(dying, now, forget * DAY, archive_after_s=DAY, patience=make.IMPATIENT)
        except make.SimulatedCrash:
            struck = True
        for _ in range(2):
            collect(store, now, forget * DAY, archive_after_s=DAY)
        listed = sorted(iterate_workflows(store, now), key=lambda summary: summary.workflow_id)
        return make.everything_of(store), listed, struck

    expected, listed, struck = run(10**9)
    assert not struck
    names = {summary.workflow_id for summary in listed}
    assert {"given up", "pinned", "fork"} <= names
    assert ("ended" in names) == (days < forget)
    number = 0
    while True:
        number += 1
        objects, found, struck = run(number)
        assert objects == expected
        assert found == listed
        if not struck:
            break
    assert number > 10


def test_two_collectors_at_once_do_what_one_does(make: Any, together: Callable[..., list[Any]]) -> None:
    def run(collectors: int) -> dict[str, bytes]:
        store = make.make_store("memory", Path())
        world = history_of_a_store(make, store)
        now = world.now + 40 * DAY
        answers = together([lambda: collect(store, now, 30 * DAY, archive_after_s=DAY)] * collectors)
        assert not [answer for answer in answers if isinstance(answer, Exception)]
        for _ in range(3):
            collect(store, now, 30 * DAY, archive_after_s=DAY)
        return dict(world.objects())

    assert run(3) == run(1)


def test_a_collection_beside_workflows_that_move_loses_nothing(world: Any, together: Callable[..., list[Any]]) -> None:
    chance = random.Random(1)
    first = world.controller()
    ids = [first.submit() for _ in range(4)] + [first.submit(f"w{n}") for n in range(4)]
    expected = {}
    for workflow_id in ids:
        first.outcome(workflow_id, "1")
        expected[workflow_id] = world.history(workflow_id)
    first.crash()

    for _ in range(3):
        heirs = [world.controller(), world.controller()]
        chance.shuffle(ids)

        def take(heir: Any) -> None:
            for workflow_id in ids:
                try:
                    heir.acquire(workflow_id)
                except adoption.WorkflowRunningError:
                    continue

        answers = together(
            [lambda h=h: take(h) for h in heirs] + [lambda: collect(world.store, world.now + 99 * DAY, 0.0)]
        )
        assert not [answer for answer in answers if isinstance(answer, Exception)], answers
        assert {workflow_id: world.history(workflow_id) for workflow_id in ids} == expected
        for heir in heirs:
            heir.retire()
    assert set(world.objects(JOURNALS))
