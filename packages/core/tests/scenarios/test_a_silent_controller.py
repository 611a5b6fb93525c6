"""Scenario 2, with real engines: a controller that is only silent, and attempts of it that still run.

Where the kernel holds a lock for the controller, nobody takes over before it, and so every thread of it, is gone. Where
there is only a heartbeat, silence does not say that an attempt has ended: the records of the silent one are fenced, its
effects are not.
"""

import math
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow import Engine
from exoflow.journal.layout import OPEN
from exoflow.testing.faults import At, FaultyStore, Refuse, Scheduled

from .life import PATIENCE_S, Bucket, Ledger, charge, door, fresh, new_door, note, send, until


def _undo(ledger: str, name: str) -> None:
    note(ledger, "undid")


def _wait(name: str) -> None:
    door(name).entered.set()
    assert door(name).opened.wait(PATIENCE_S)


@exoflow.task(rollback=_undo)
def reserve_behind_door(ledger: str, name: str) -> str:
    _wait(name)
    note(ledger, "did")
    return "reserved"


@exoflow.task(effects="once")
def send_behind_door(ledger: str, name: str) -> str:
    _wait(name)
    note(ledger, "happened")
    return "sent"


@exoflow.task
def charge_behind_door(ledger: str, name: str) -> str:
    if not door(name).opened.is_set():
        _wait(name)
    note(ledger, "ran")
    return "charged"


class Silent:
    """A store of which one client is not heard any more: its heartbeats do not arrive."""

    def __init__(self, url: str) -> None:
        bucket: Any = Bucket(url)
        self.bucket = bucket
        self.theirs: Any = FaultyStore(bucket)

    def go_silent(self) -> None:
        self.theirs.plan = Scheduled(At("write", Refuse(), key=f"{OPEN}*", times=math.inf))
        self.bucket.let_time_pass()


@pytest.mark.parametrize("task", [reserve_behind_door, send_behind_door], ids=["rollback", "once"])
def test_a_controller_that_holds_its_lock_keeps_its_attempts_to_itself(task: Any, tmp_path: Path) -> None:
    storage, ledger, name = fresh(), Ledger(tmp_path / "ledger"), new_door()
    with Engine(storage) as owner, Engine(storage) as other:
        handle = owner.start(charge.bind(ledger.path, task.bind(ledger.path, name)), workflow_id="w")
        door(name).wait_until_entered()
        with pytest.raises(exoflow.WorkflowRunningError):
            other.resume("w")
        assert not list(ledger)
        door(name).opened.set()
        assert handle.result(PATIENCE_S)
    assert ledger.tasks() == [task.name, "charge"]


@pytest.mark.parametrize("kind", ["rollback", "once"])
def test_silence_does_not_say_that_an_attempt_has_ended(kind: str, tmp_path: Path) -> None:
    storage, ledger, name = Silent(fresh()), Ledger(tmp_path / "ledger"), new_door()
    asked: list[str] = []

    def resolve(key: str) -> Any:
        asked.append(key)
        return exoflow.DidNotHappen

    task = reserve_behind_door if kind == "rollback" else send_behind_door.options(resolve=resolve)
    node = charge.bind(ledger.path, task.bind(ledger.path, name))
    with Engine(storage.theirs) as owner, Engine(storage.bucket) as heir:
        owner.start(node, workflow_id="w")
        door(name).wait_until_entered()
        storage.go_silent()
        try:
            handle = heir.start(node, workflow_id="w")
            # The undo, or the question and a second attempt, must wait for the first; or else a person must.
            until(lambda: ledger.lines("undid") or asked or heir.status("w") == "needs_attention")
            early = bool(ledger.lines("undid") or asked)
        finally:
            door(name).opened.set()
        if early:
            handle.result(PATIENCE_S)
            until(lambda: len(ledger.lines("did") + ledger.lines("happened")) >= 2)
        assert not early, f"undone, or asked about, while it ran; what came of it: {[e['what'] for e in ledger]}"


def test_a_receiver_that_fences_is_all_an_heir_of_a_silent_controller_needs(tmp_path: Path) -> None:
    storage, ledger, name = Silent(fresh()), Ledger(tmp_path / "ledger"), new_door()
    refused: set[str] = set()

    def refuse(*_: Any) -> None:
        refused.add(exoflow.context().idempotency_key)

    @exoflow.task(rollback=refuse, fences=True)
    def reserve(ledger: str, name: str) -> str:
        if not door(name).entered.is_set():
            _wait(name)
        if exoflow.context().idempotency_key in refused:
            return "refused"
        note(ledger, "did")
        return "reserved"

    node = charge.bind(ledger.path, reserve.bind(ledger.path, name))
    with Engine(storage.theirs) as owner, Engine(storage.bucket) as heir:
        late = owner.start(node, workflow_id="w")
        door(name).wait_until_entered()
        storage.go_silent()
        assert heir.run(node, workflow_id="w")[-1] == "reserved"
        door(name).opened.set()
        with pytest.raises(exoflow.ExoFlowError):
            late.result(PATIENCE_S)
    assert len(ledger.lines("did")) == 1
    assert len(refused) == 1


def test_an_idempotent_attempt_of_a_silent_controller_overlaps_with_its_repetition(tmp_path: Path) -> None:
    storage, ledger, name = Silent(fresh()), Ledger(tmp_path / "ledger"), new_door()
    node = charge_behind_door.bind(ledger.path, name)
    with Engine(storage.theirs) as owner, Engine(storage.bucket) as heir:
        late = owner.start(node, workflow_id="w")
        door(name).wait_until_entered()
        storage.go_silent()
        handle = heir.start(node, workflow_id="w")
        door(name).opened.set()
        assert handle.result(PATIENCE_S) == "charged"
        with pytest.raises(exoflow.ExoFlowError):
            late.result(PATIENCE_S)
        until(lambda: len(ledger.lines("ran")) == 2)
    assert {line["key"] for line in ledger} == {"w/1/charge_behind_door"}, "one key: the receiver sees one charge"


def test_a_controller_that_was_taken_over_answers_nobody(tmp_path: Path) -> None:
    storage, ledger, name = Silent(fresh()), Ledger(tmp_path / "ledger"), new_door()
    held = exoflow.task(effects="none")(_held)
    node = charge.bind(ledger.path, held.bind(name), send.bind(ledger.path))
    with Engine(storage.theirs) as owner, Engine(storage.bucket) as heir:
        late = owner.start(node, workflow_id="w")
        door(name).wait_until_entered()
        until(lambda: ledger.lines("happened"))
        until(lambda: any(t.task_id == "send" and t.state == "committed" for t in heir.show("w").tasks))
        storage.go_silent()
        handle = heir.start(node, workflow_id="w")
        door(name).opened.set()
        answer = handle.result(PATIENCE_S)
        with pytest.raises(exoflow.FencedError):
            late.result(PATIENCE_S)
        assert heir.result("w") == answer
    assert len(ledger.lines("happened")) == 1


def _held(name: str) -> int:
    found = door(name)
    if not found.opened.is_set():
        _wait(name)
    return 1
