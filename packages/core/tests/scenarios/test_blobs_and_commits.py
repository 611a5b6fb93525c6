"""Scenario 15: two values under one name, a record without its bytes, and an upload that fails for good.

A blob is named after the attempt that made it, never after what it holds, and the record that names it follows when its
bytes are durable. That an outcome cannot be kept is an event of its own: the workflow fails before anything that
needed it durable begins, and a once task has happened all the same.
"""

from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow import Engine
from exoflow.failures.points import SimulatedCrash
from exoflow.journal.layout import BLOBS, JOURNALS, names_in
from exoflow.journal.ownership import look_up
from exoflow.journal.reader import read_journal
from exoflow.journal.records import End, Intent, Outcome
from exoflow.journal.store_identity import open_store
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import Call, FaultyStore

from .controllers import Bucket
from .life import charge, fresh, gather
from .stage import Stage, book, draw, pay, send


@exoflow.task(effects="none")
def large(_: int = 0) -> bytes:
    return bytes(50_000)


@exoflow.task(effects="none", deterministic=True)
def size(*values: bytes) -> int:
    return sum(len(value) for value in values)


def test_equal_values_of_two_attempts_are_two_blobs_named_after_them() -> None:
    storage = fresh()
    with Engine(storage) as engine:
        engine.run(gather.bind(large.bind(1), large.bind(2)), workflow_id="w")
        standing = look_up(engine.store, "w", 0.0)
        assert standing is not None
        outcomes = [r for r in standing.history.records if isinstance(r, Outcome) and r.payload is not None]

        blobs = {r.payload.blob: r.attempt for r in outcomes if r.payload is not None and r.payload.blob is not None}
        assert len(blobs) >= 2
        for key, attempt in blobs.items():
            assert names_in(key)[1].startswith(f"{attempt}-"), "whose journal may still name it is in its name"
            assert engine.store.read(key)


@pytest.mark.parametrize("kind", ["appends", "objects"])
def test_a_record_is_sent_after_every_byte_it_names_is_durable(kind: str) -> None:
    inner: Any = MemoryStore() if kind == "appends" else Bucket(MemoryStore())
    there: list[set[str]] = []
    verb = "append" if kind == "appends" else "create"

    def plan(call: Call) -> None:
        if call.verb == verb and call.key.startswith(JOURNALS):
            there.append(set(inner.list(BLOBS)))

    with Engine(FaultyStore(inner, plan)) as engine:
        modes = ["sync", "async", "skip", "auto"]
        engine.run(size.bind(*(large.options(checkpoint=mode).bind(n) for n, mode in enumerate(modes))))
    (journal_id,) = {names_in(key)[0] for key in inner.list(JOURNALS)}
    contents = read_journal(inner, journal_id)
    named = 0
    for record, position in zip(contents.records, contents.positions, strict=True):
        payload = getattr(record, "payload", None)
        if payload is not None and payload.blob is not None:
            named += 1
            assert payload.blob in there[position - 1], f"{record} was sent before its bytes were there"
    assert named >= 1


def test_a_crash_between_a_blob_and_its_record_runs_the_task_again_under_another_name(tmp_path: Path) -> None:
    storage = fresh()
    # After an effect, and so after the submission is durable.
    node = size.bind(large.options(after=[charge.bind(str(tmp_path / "ledger"))]).bind())
    with Engine(storage, failures=["large.crash@1,after_run_before_record"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(node, workflow_id="w")
    before = set(MemoryStore.open(storage).list(BLOBS))
    with Engine(storage) as engine:
        assert engine.resume("w").result() == 50_000
        after = set(engine.store.list(BLOBS))
        engine.gc()
        assert set(engine.store.list(BLOBS)) == after - before, (
            "what nobody named is garbage once its journal is adopted"
        )
    assert len(before) == 1
    assert before < after


def test_two_stores_are_never_taken_for_one() -> None:
    one, two = MemoryStore(), MemoryStore()
    assert open_store(one) == open_store(one) != open_store(two)


# --- what cannot be kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pay, book, send])
def test_a_value_that_cannot_be_kept_fails_the_workflow_before_an_effect_that_needed_it(kind: Any) -> None:
    drawn = draw("draw", "async").bind()
    stage = Stage(draw("h").bind(kind("act").bind(drawn), draw("looks", "skip").bind(drawn)))
    stage.returns("draw", stored=False)
    stage.flush()
    if kind is not book:
        assert not stage.attempts("act")

    stage.cannot_be_stored("draw")
    stage.to_the_end()

    assert stage.answer == "failed"
    assert not stage.standing("act")
    assert stage.records(End)[0].status == "failed"


def test_a_once_task_whose_value_cannot_be_kept_has_happened() -> None:
    stage = Stage(draw("h").bind(send("mail").bind()))
    stage.flush()
    stage.cannot_be_stored("mail")
    stage.world.flush()
    stage.crash(landed=True)

    (outcome,) = stage.records(Outcome, "mail")
    assert outcome.completed
    assert outcome.payload is None
    assert stage.asking == []
    stage.to_the_end()
    assert stage.answer == "failed"
    assert len(stage.attempts("mail")) == len(stage.records(Intent, "mail")) == 1


def test_a_reservation_whose_value_cannot_be_kept_is_undone() -> None:
    stage = Stage(draw("h").bind(book("reserve").bind()))
    stage.flush()
    stage.cannot_be_stored("reserve")
    stage.to_the_end()

    assert stage.answer == "failed"
    assert not stage.standing("reserve")


def test_an_upload_that_fails_when_nobody_can_ask_for_its_value_any_more_is_no_failure_of_the_workflow() -> None:
    drawn = draw("draw", "async").bind()
    stage = Stage(draw("h").bind(draw("reads").bind(drawn)))
    stage.returns("draw", stored=False)
    stage.returns("reads")
    stage.flush()
    stage.returns("h")
    stage.flush()
    assert stage.answer == "succeeded", "the answer rests on what is stored"

    stage.cannot_be_stored("draw")
    stage.to_the_end()

    assert [end.status for end in stage.records(End)] == ["succeeded"]
