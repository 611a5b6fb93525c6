"""What can be done with workflows: every call of the engine, in every state a workflow can be in."""

from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.api.engine import Engine
from exoflow.failures.points import SimulatedCrash
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, FaultyStore, Refuse, Scheduled

from ..witness import PATIENCE_S, Ledger, charge, door, draw, fail, fresh, gather, note, pass_door, reserve, send, until


def crash(storage: str, node: exoflow.Node, failure: str, workflow_id: str = "w", **options: Any) -> None:
    with Engine(storage, "inline", failures=[failure], **options) as engine, pytest.raises(SimulatedCrash):
        engine.run(node, workflow_id=workflow_id)


@exoflow.task(effects="none")
def quick(value: Any = 1) -> Any:
    return value


@exoflow.task(effects="none")
def big(value: int = 0) -> bytes:
    return bytes([value]) * 50_000


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_workflow_is_told_of_in_each_of_its_states(tmp_path: Path) -> None:
    storage, book = fresh(), str(tmp_path / "ledger")
    crash(storage, charge.bind(book), "charge.crash", "resumable")
    crash(storage, send.bind(book), "send.crash@1,after_run_before_record", "attention")
    crash(storage, fail.bind(reserve.bind(book)), "*.crash@1,before_undo", "rolling")
    with Engine(storage) as engine:
        handle = engine.start(pass_door.bind("states"), workflow_id="running")
        engine.run(quick.bind(), workflow_id="succeeded", name="nice")
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(fail.bind(), workflow_id="failed")
        waiting = engine.start(exoflow.sleep(3600), workflow_id="cancelled")
        engine.cancel("cancelled")
        with pytest.raises(exoflow.WorkflowCancelledError):
            waiting.result(PATIENCE_S)
        with pytest.raises(exoflow.NeedsAttentionError):
            engine.resume("attention").result(PATIENCE_S)
        expected = {
            "resumable": "resumable", "attention": "needs_attention", "rolling": "rolling_back", "running": "running",
            "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled",
        }  # fmt: skip
        for other in (engine, Engine(storage)):
            assert {info.workflow_id: str(info.status) for info in other.list()} == expected
            for workflow_id, status in expected.items():
                assert other.status(workflow_id) == status
                shown = other.show(workflow_id)
                assert shown.info.status == status
                assert shown.info == next(info for info in other.list() if info.workflow_id == workflow_id)
                assert [info.workflow_id for info in other.list(status)] == [workflow_id]
        problems = {info.workflow_id: info.problem for info in engine.list()}
        assert problems["failed"] == problems["rolling"] == "task fail failed: ValueError: on purpose"
        assert str(problems["attention"]).startswith("send: an attempt did not finish")
        assert problems["succeeded"] is problems["running"] is None
        ended = {info.workflow_id for info in engine.list() if info.ended_at is not None}
        assert ended == {"succeeded", "failed", "cancelled", "rolling"}
        other.close()
        door("states").opened.set()
        handle.result(PATIENCE_S)


def test_tasks_are_shown_with_what_became_of_them(tmp_path: Path) -> None:
    storage, book = fresh(), str(tmp_path / "ledger")
    kept = big.bind()
    skipped = draw.options(checkpoint="skip", task_id="skipped").bind(book)
    node = gather.bind(kept, charge.bind(book, skipped), reserve.bind(book), _grow.bind(book))
    with Engine(storage) as engine:
        engine.run(node, workflow_id="w")
        tasks = {task.task_id: task for task in engine.show("w").tasks}
    assert tasks["big"].state == "committed"
    assert tasks["big"].stored_bytes is not None
    assert tasks["big"].stored_bytes >= 50_000
    assert tasks["charge"].depends_on == ("skipped",)
    assert (tasks["charge"].effects, tasks["reserve"].effects) == ("idempotent", "rollback")
    assert tasks["_grow"].state == "continued"
    grown = [task for task in tasks.values() if task.parent is not None]
    assert [task.state for task in grown] == ["committed"]
    assert tasks["gather"].number == 1


@exoflow.task(effects="none")
def _grow(book: str) -> Any:
    return charge.bind(book, "grown")


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_resuming_what_has_ended_tells_how(tmp_path: Path) -> None:
    with Engine() as engine:
        engine.run(quick.bind(5), workflow_id="w")
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(fail.bind(), workflow_id="f")
        assert engine.resume("w").result() == 5
        assert engine.resume("w").done()
        with pytest.raises(exoflow.TaskFailedError) as caught:
            engine.resume("f").result()
        assert isinstance(caught.value.__cause__, ValueError)


def test_all_that_can_be_resumed_is_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    for number in range(3):
        crash(storage, charge.bind(book.path, number), "charge.crash", f"w{number}")
    crash(storage, fail.bind(reserve.bind(book.path)), "*.crash@1,before_undo", "rolling")
    crash(storage, send.bind(book.path), "send.crash@1,after_run_before_record", "attention")
    with Engine(storage) as engine:
        with pytest.raises(exoflow.NeedsAttentionError):
            engine.resume("attention").result(PATIENCE_S)
        handles = engine.resume_all()
        assert sorted(handle.workflow_id for handle in handles) == ["rolling", "w0", "w1", "w2"]
        for handle in handles:
            if handle.workflow_id == "rolling":
                with pytest.raises(exoflow.TaskFailedError):
                    handle.result(PATIENCE_S)
            else:
                assert handle.result(PATIENCE_S)
        assert engine.resume_all() == []
        assert engine.status("attention") == "needs_attention"
    assert len(book.lines("ran")) == 3
    assert len(book.lines("undid")) == 1


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_cancelled_workflow_takes_back_what_it_did(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    with Engine() as engine:
        node = gather.bind(exoflow.sleep(3600, after=[reserve.bind(book.path, "only")]))
        handle = engine.start(node, workflow_id="w")
        until(lambda: book.lines("did"))
        engine.cancel("w")
        with pytest.raises(exoflow.WorkflowCancelledError):
            handle.result(PATIENCE_S)
        assert engine.status("w") == "cancelled"
        engine.cancel("w")
        with pytest.raises(exoflow.WorkflowCancelledError):
            engine.run(node, workflow_id="w")
    book.check(failed=True)


def test_a_dead_workflow_is_cancelled_without_running_anything_more(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    crash(storage, charge.bind(book.path, reserve.bind(book.path)), "charge.crash")
    with Engine(storage) as engine:
        engine.cancel("w")
        assert engine.status("w") == "cancelled"
        with pytest.raises(exoflow.WorkflowCancelledError):
            engine.result("w")
    book.check(failed=True)
    assert not book.lines("ran")


def test_a_cancellation_nobody_could_heed_counts_when_the_workflow_is_resumed(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    crash(storage, charge.bind(book.path, reserve.bind(book.path)), "charge.crash")
    MemoryStore.open(storage).create("inbox/w/~00cancel/cancel", b"")
    with Engine(storage) as engine:
        with pytest.raises(exoflow.WorkflowCancelledError):
            engine.resume("w").result(PATIENCE_S)
        assert engine.status("w") == "cancelled"
        assert not list(MemoryStore.open(storage).list("inbox/"))
    book.check(failed=True)
    assert not book.lines("ran")


@pytest.mark.parametrize("resolvable", [True, False])
def test_a_dead_workflow_with_an_effect_in_doubt_is_cancelled_once_the_doubt_is_gone(
    resolvable: bool, tmp_path: Path
) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    task = send.options(resolve=_ask_nobody) if resolvable else send
    crash(storage, task.bind(book.path, reserve.bind(book.path)), "send.crash@1,after_run_before_record")
    with Engine(storage) as engine:
        engine.cancel("w")
        if not resolvable:
            assert engine.status("w") == "needs_attention"
            engine.settle("w", "send", happened=True, value="by hand")
            with pytest.raises(exoflow.WorkflowCancelledError):
                engine.resume("w").result(PATIENCE_S)
        assert engine.status("w") == "cancelled"
        with pytest.raises(exoflow.WorkflowCancelledError):
            engine.result("w")
    assert len(book.lines("happened")) == 1
    assert len(book.lines("undid")) == 1


def _ask_nobody(key: str) -> Any:
    return exoflow.Happened("found out")


def test_a_workflow_that_needs_attention_can_be_cancelled(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    crash(storage, send.bind(book.path, reserve.bind(book.path)), "send.crash@1,after_run_before_record")
    with Engine(storage) as engine:
        with pytest.raises(exoflow.NeedsAttentionError):
            engine.resume("w").result(PATIENCE_S)
        engine.cancel("w")
        engine.settle("w", "send", happened=False)
        with pytest.raises(exoflow.WorkflowCancelledError):
            engine.resume("w").result(PATIENCE_S)
        assert engine.status("w") == "cancelled"
    assert len(book.lines("happened")) == 1, "it was settled by hand, and is not run again"
    assert len(book.lines("undid")) == 1


def test_a_cancellation_while_it_rolls_back_changes_nothing(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    with Engine(storage) as engine:
        handle = engine.start(fail.bind(_slow_undo.bind(book.path, "rolling")), workflow_id="w")
        door("rolling").wait_until_entered()
        assert engine.status("w") == "rolling_back"
        engine.cancel("w")
        door("rolling").opened.set()
        with pytest.raises(exoflow.TaskFailedError):
            handle.result(PATIENCE_S)
        assert engine.status("w") == "failed"
    book.check(failed=True)


def _undo_behind_door(book: str, name: str) -> None:
    door(name).entered.set()
    assert door(name).opened.wait(PATIENCE_S)
    note(book, "undid")


@exoflow.task(rollback=_undo_behind_door)
def _slow_undo(book: str, name: str) -> str:
    note(book, "did")
    return "done"


@pytest.mark.parametrize("task", ["thread", "async"])
def test_a_running_attempt_has_ended_before_a_cancelled_workflow_is_undone(task: str, tmp_path: Path) -> None:
    book, name = Ledger(tmp_path / "ledger"), f"cancel {task}"
    running = _did_behind_door if task == "thread" else _did_async
    with Engine() as engine:
        handle = engine.start(running.bind(book.path, name), workflow_id="w")
        door(name).wait_until_entered()
        engine.cancel("w")
        if task == "thread":
            until(lambda: engine.status("w") == "rolling_back")
            assert not list(book)
            door(name).opened.set()
        with pytest.raises(exoflow.WorkflowCancelledError):
            handle.result(PATIENCE_S)
    assert [entry["what"] for entry in book] == ["did", "undid"]


def _undo(book: str, name: str = "") -> None:
    note(book, "undid")


@exoflow.task(rollback=_undo)
def _did_behind_door(book: str, name: str) -> None:
    door(name).entered.set()
    assert door(name).opened.wait(PATIENCE_S)
    note(book, "did")


@exoflow.task(rollback=_undo)
async def _did_async(book: str, name: str) -> None:
    import asyncio

    door(name).entered.set()
    try:
        await asyncio.sleep(3600)
    finally:
        note(book, "did")


# --- what nobody can know ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("who", ["the same engine", "another"])
def test_a_person_says_what_became_of_an_effect_and_the_workflow_goes_on(
    happened: bool, who: str, tmp_path: Path
) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    node = charge.bind(book.path, send.bind(book.path))
    crash(storage, node, "send.crash@1,after_run_before_record")
    with Engine(storage) as engine, Engine(storage) as another:
        for _ in range(2):
            with pytest.raises(exoflow.NeedsAttentionError, match=r"exoflow\.settle\('w', 'send'"):
                engine.run(node, workflow_id="w")
        with pytest.raises(exoflow.NeedsAttentionError):
            another.result("w")
        person = engine if who == "the same engine" else another
        for wrong in ("charge", "nonsense"):
            with pytest.raises(exoflow.UsageError, match=wrong):
                person.settle("w", wrong, happened=True)
        person.settle("w", "send", happened=happened, value="by hand")
        assert engine.status("w") == another.status("w") == "resumable"
        with pytest.raises(exoflow.UsageError):
            person.settle("w", "send", happened=happened)
        answer = another.resume("w").result(PATIENCE_S)
        assert (answer[-1] == "by hand") == happened
        assert engine.run(node, workflow_id="w") == answer
    assert len(book.lines("happened")) == (1 if happened else 2), "a person who says it did not happen has it run again"
    assert len(book.lines("ran")) == 1


def test_an_undo_that_fails_is_settled_by_hand(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    node = fail.bind(_undo_fails.bind(book.path), reserve.bind(book.path))
    with Engine(storage) as engine:
        with pytest.raises(exoflow.NeedsAttentionError, match="its undo raised") as caught:
            engine.run(node, workflow_id="w")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert engine.status("w") == "needs_attention"
        with pytest.raises(exoflow.UsageError, match="undo by hand"):
            engine.settle("w", "_undo_fails", happened=True)
        with pytest.raises(exoflow.UsageError):
            engine.settle("w", "reserve", happened=False)
        engine.settle("w", "_undo_fails", happened=False)
        with pytest.raises(exoflow.TaskFailedError) as failed:
            engine.resume("w").result(PATIENCE_S)
        assert isinstance(failed.value.__cause__, ValueError)
        assert engine.status("w") == "failed"
    assert len(book.lines("undid", "reserve")) == 1


def _cannot_undo(book: str) -> None:
    note(book, "tried")
    raise RuntimeError("the receiver is closed")


@exoflow.task(rollback=_cannot_undo)
def _undo_fails(book: str) -> str:
    note(book, "did")
    return "done"


def test_a_healthy_effect_cannot_be_settled_away(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    node = charge.bind(book.path, reserve.bind(book.path), send.bind(book.path))
    crash(storage, node, "charge.crash")
    with Engine(storage) as engine:
        for task in ("reserve", "send"):
            with pytest.raises(exoflow.UsageError, match="no unsettled effect"):
                engine.settle("w", task, happened=False)
        assert engine.status("w") == "resumable"
        assert engine.resume("w").result(PATIENCE_S)
    book.check()
    assert not book.lines("undid")


@pytest.mark.parametrize("answer", [exoflow.Happened("found"), exoflow.DidNotHappen, exoflow.Unknown, "nonsense", None])
def test_what_resolve_answers_is_believed(answer: Any, tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    _answers[storage] = answer
    task = send.options(resolve=_Resolve(storage, book.path))
    crash(storage, task.bind(book.path), "send.crash@1,after_run_before_record")
    with Engine(storage) as engine:
        handle = engine.resume("w")
        if isinstance(answer, exoflow.Happened):
            assert handle.result(PATIENCE_S) == "found"
            assert len(book.lines("happened")) == 1
        elif answer is exoflow.DidNotHappen:
            assert handle.result(PATIENCE_S)[0] == "send"
            assert len(book.lines("happened")) == 2
        else:
            with pytest.raises(exoflow.NeedsAttentionError):
                handle.result(PATIENCE_S)
            assert len(book.lines("happened")) == 1
            _answers[storage] = exoflow.Happened("now it is known")
            assert engine.resume("w").result(PATIENCE_S) == "now it is known"
    keys = {entry["key"] for entry in book.lines("asked")}
    assert keys == {"w/1/send"}


_answers: dict[str, Any] = {}


class _Resolve:
    def __init__(self, storage: str, book: str) -> None:
        self.storage, self.book = storage, book

    def __call__(self, key: str) -> Any:
        note(self.book, "asked")
        return _answers[self.storage]


# --- forks ------------------------------------------------------------------------------------------------------------


def test_a_fork_repeats_what_depends_on_a_task_and_nothing_before(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    first, beside = charge.options(task_id="first").bind(book.path), charge.options(task_id="beside").bind(book.path)
    middle = charge.options(task_id="middle").bind(book.path, first)
    node = gather.bind(charge.options(task_id="last").bind(book.path, middle), beside, big.bind(3))
    with Engine(storage) as engine:
        before = engine.run(node, workflow_id="w")
        made = engine.fork("w", "middle", new_id="f")
        after = made.result(PATIENCE_S)
        assert made.workflow_id == "f"
        assert after[1:] == before[1:]
        assert after[0] != before[0]
        assert engine.result("w") == before
        assert engine.fork("w", "middle").result(PATIENCE_S)[1:] == before[1:]
    counts = {task: len(book.lines("ran", task)) for task in ("first", "beside", "middle", "last")}
    assert counts == {"first": 1, "beside": 1, "middle": 3, "last": 3}
    assert len({entry["key"] for entry in book.lines("ran", "middle")}) == 3, "each fork has keys of its own"


def test_a_fork_keeps_its_values_when_its_parent_is_deleted(tmp_path: Path) -> None:
    storage = fresh()
    node = _length.bind(big.bind(7), _fails_unless.bind(str(tmp_path / "repaired")))
    with Engine(storage) as engine:
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(node, workflow_id="w")
        (tmp_path / "repaired").touch()
        crashed = Engine(storage, failures=["_length.crash"])
        with pytest.raises(SimulatedCrash):
            crashed.fork("w", "_fails_unless", new_id="f").result(PATIENCE_S)
        crashed.close()
        engine.delete("w")
        with pytest.raises(exoflow.WorkflowNotFoundError):
            engine.status("w")
        assert engine.resume("f").result(PATIENCE_S) == 50_000
        engine.delete("f")
    with Engine(storage) as engine:
        engine.gc(older_than_s=0)
    assert not list(MemoryStore.open(storage).list("blobs/"))


@exoflow.task(effects="none")
def _fails_unless(path: str) -> None:
    if not Path(path).exists():
        raise ValueError("not repaired")


@exoflow.task(effects="none")
def _length(value: bytes, _: Any) -> int:
    return len(value)


def test_a_fork_of_a_failed_workflow_does_again_what_was_rolled_back(tmp_path: Path) -> None:
    storage, book, repaired = fresh(), Ledger(tmp_path / "ledger"), str(tmp_path / "repaired")
    reserved, charged = reserve.bind(book.path), charge.bind(book.path)
    node = gather.bind(reserved, charged, _fails_unless.options(after=[reserved, charged]).bind(repaired))
    with Engine(storage) as engine:
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(node, workflow_id="w")
        assert engine.status("w") == "failed"
        Path(repaired).touch()
        assert engine.fork("w", "_fails_unless", new_id="f").result(PATIENCE_S)[0][0] == "reserve"
    assert len(book.lines("did")) == 2
    assert len(book.lines("undid")) == 1
    assert len(book.lines("ran")) == 1, "what stands is not repeated"


def test_a_fork_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with Engine() as engine:
        engine.run(quick.bind(), workflow_id="w")
        engine.run(quick.bind(), workflow_id="taken")
        with pytest.raises(exoflow.UsageError, match="no such task"):
            engine.fork("w", "nonsense")
        with pytest.raises(exoflow.UsageError, match="taken"):
            engine.fork("w", "quick", new_id="taken")
        with pytest.raises(exoflow.UsageError):
            engine.fork("w", "quick", new_id="")
        assert engine.fork("w", "quick", new_id="free").result(PATIENCE_S) == 1


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_workflow_leaves_nothing_and_its_id_begins_anew(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    node = gather.bind(charge.bind(book.path), big.bind(1))
    with Engine(storage) as engine:
        first = engine.run(node, workflow_id="w")
        engine.delete("w")
        for call in (engine.status, engine.result, engine.show, engine.resume, engine.delete):
            with pytest.raises(exoflow.WorkflowNotFoundError):
                call("w")
        assert not list(MemoryStore.open(storage).list("blobs/"))
        second = engine.run(node, workflow_id="w")
        assert second != first
        assert engine.run(quick.bind(), workflow_id="other") == 1
    with Engine(storage) as engine:
        assert engine.result("w") == second
        engine.delete("w")
        assert engine.run(quick.bind(9), workflow_id="w") == 9, "even with another DAG"
    keys = [entry["key"] for entry in book.lines("ran")]
    assert len(set(keys)) == len(keys) == 2, "a receiver must not take the second use of the id for the first"


def test_a_running_workflow_is_not_deleted_but_a_dead_one_is(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    crash(storage, charge.bind(book.path), "charge.crash", "dead")
    crash(storage, send.bind(book.path), "send.crash@1,after_run_before_record", "doubt")
    with Engine(storage) as engine, Engine(storage) as other:
        handle = engine.start(pass_door.bind("delete"), workflow_id="w")
        for one in (engine, other):
            with pytest.raises(exoflow.WorkflowRunningError, match="cancel it first"):
                one.delete("w")
        engine.delete("dead")
        with pytest.raises(exoflow.NeedsAttentionError):
            engine.resume("doubt").result(PATIENCE_S)
        other.delete("doubt")
        door("delete").opened.set()
        handle.result(PATIENCE_S)
        other.delete("w")
        assert engine.list() == other.list() == []


def test_garbage_goes_by_age_and_nothing_else_does(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    kept = _length.bind(big.bind(2), None)
    crash(storage, gather.bind(big.bind(1), charge.bind(book.path, kept)), "charge.crash", "dead")
    with Engine(storage) as engine:
        for number in range(5):
            engine.run(gather.bind(big.bind(number)), workflow_id=f"w{number}")
    with Engine(storage) as engine:
        engine.gc()
        assert len(engine.list()) == 6
        assert len(engine.result("w3")[0]) == 50_000
        report = engine.gc(older_than_s=0)
        assert report.workflows_forgotten == 5
        assert [info.workflow_id for info in engine.list()] == ["dead"]
        assert engine.resume("dead").result(PATIENCE_S)
        assert engine.run(quick.bind(4), workflow_id="w3") == 4, "the id is free again"
    book.check()


# --- events and timers ------------------------------------------------------------------------------------------------


def test_a_message_that_comes_early_is_kept_and_one_message_feeds_one_node() -> None:
    storage = fresh()
    with Engine(storage) as engine:
        engine.send_event("w", "go", "first")
        engine.send_event("w", "go", "first of another", message_id="zzz")
        engine.send_event("w", "go", "first of another", message_id="zzz")
        engine.send_event("elsewhere", "go", "not ours")
        a, b, c = (exoflow.wait_for_event("go", task_id=name) for name in "abc")
        handle = engine.start(gather.bind(a, b, c), workflow_id="w")
        with pytest.raises(exoflow.UnavailableError):
            handle.result(0.05)
        engine.send_event("w", "go", "third")
        answer = handle.result(PATIENCE_S)
        assert sorted(answer) == ["first", "first of another", "third"]
        until(lambda: [*MemoryStore.open(storage).list("inbox/w/")] == [])
        assert len(list(MemoryStore.open(storage).list("inbox/"))) == 1


def test_another_message_under_a_known_id_is_refused() -> None:
    with Engine() as engine:
        engine.send_event("w", "go", 1, message_id="m")
        with pytest.raises(exoflow.UsageError, match="'m'"):
            engine.send_event("w", "go", 2, message_id="m")


def test_a_message_goes_to_a_wait_that_still_waits() -> None:
    with Engine() as engine:
        short = exoflow.wait_for_event("go", timeout_s=0.02, default="too late", task_id="short")
        long = exoflow.wait_for_event("go", task_id="long")
        handle = engine.start(gather.bind(short, long), workflow_id="w")
        until(lambda: engine.show("w").tasks[0].state == "committed")
        engine.send_event("w", "go", "in time")
        assert handle.result(PATIENCE_S) == ["too late", "in time"]


def test_a_wait_without_default_fails_when_its_time_is_up() -> None:
    with Engine() as engine:
        with pytest.raises(exoflow.TaskFailedError) as caught:
            engine.run(exoflow.wait_for_event("go", timeout_s=0.01))
    assert isinstance(caught.value.__cause__, exoflow.TaskTimeoutError)


def test_messages_from_many_senders_are_each_taken_once() -> None:
    with Engine() as engine:
        waits = [exoflow.wait_for_event("go", task_id=f"wait{number}") for number in range(60)]
        handle = engine.start(gather.bind(*waits), workflow_id="w")
        for number in range(60):
            engine.send_event("w", "go", number)
        assert sorted(handle.result(PATIENCE_S)) == list(range(60))


@pytest.mark.parametrize("point", ["after_flush", "before_flush", "after_record"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_message_is_taken_once_whatever_moment_its_workflow_crashes_in(point: str, nth: int, tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    a, b = (exoflow.wait_for_event("go", task_id=name) for name in "ab")
    node = gather.bind(
        charge.options(task_id="one").bind(book.path, a), charge.options(task_id="two").bind(book.path, b)
    )
    with Engine(storage) as engine:
        engine.send_event("w", "go", "x")
        engine.send_event("w", "go", "y")
    with Engine(storage, failures=[f"*.crash@{nth},{point}"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(node, workflow_id="w")
    with Engine(storage) as engine:
        answer = engine.run(node, workflow_id="w")
        assert sorted(value[-1] for value in answer) == ["x", "y"]
        until(lambda: not list(MemoryStore.open(storage).list("inbox/")))
    book.check()
    book.check_explained(answer)


def test_a_message_whose_deletion_was_lost_is_deleted_later_and_feeds_nobody_again() -> None:
    storage = fresh()
    store = FaultyStore(MemoryStore.open(storage), Scheduled(At("delete", Refuse(), key="inbox/*", times=1000)))
    a = exoflow.wait_for_event("go", task_id="a")
    b = exoflow.wait_for_event("go", task_id="b", after=[a])
    with Engine(store) as engine:
        engine.send_event("w", "go", 1)
        handle = engine.start(gather.bind(a, b), workflow_id="w")
        until(lambda: engine.show("w").tasks[0].state == "committed")
        with pytest.raises(exoflow.UnavailableError):
            handle.result(0.1)
    assert list(MemoryStore.open(storage).list("inbox/"))
    with Engine(storage) as engine:
        handle = engine.resume("w")
        assert not list(MemoryStore.open(storage).list("inbox/"))
        engine.send_event("w", "go", 2)
        assert handle.result(PATIENCE_S) == [1, 2]


@pytest.mark.parametrize("seconds", ["soon", None, [1]])
def test_a_sleep_for_no_number_fails_its_task(seconds: Any) -> None:
    with Engine() as engine, pytest.raises(exoflow.TaskFailedError) as caught:
        engine.run(exoflow.sleep(quick.bind(seconds)))
    assert isinstance(caught.value.__cause__, TypeError | ValueError)


@pytest.mark.parametrize("seconds", [0, -5, 0.001])
def test_a_sleep_may_be_over_at_once(seconds: float) -> None:
    with Engine() as engine:
        assert engine.run(exoflow.sleep(quick.bind(seconds))) is None


@pytest.mark.parametrize("seconds", [1e9, 1e30, float("inf")])
def test_a_sleep_may_last_for_ever_and_be_cancelled(seconds: float) -> None:
    storage = fresh()
    with Engine(storage) as engine:
        engine.start(exoflow.sleep(seconds), workflow_id="w")
    with Engine(storage) as engine:
        handle = engine.resume("w")
        engine.cancel("w")
        with pytest.raises(exoflow.WorkflowCancelledError):
            handle.result(PATIENCE_S)


# --- failures of tasks ------------------------------------------------------------------------------------------------


@exoflow.task(effects="none", retry_delay_s=0)
def flaky(book: str, times: int) -> str:
    note(book, "tried")
    if len(Ledger(book).lines("tried")) <= times:
        raise OSError("on purpose")
    return "at last"


@pytest.mark.parametrize(("retries", "times", "ends"), [(0, 0, True), (0, 1, False), (3, 3, True), (3, 4, False)])
def test_a_task_is_retried_as_often_as_it_wants(retries: int, times: int, ends: bool, tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    with Engine() as engine:
        if ends:
            assert engine.run(flaky.options(retries=retries).bind(book.path, times)) == "at last"
        else:
            with pytest.raises(exoflow.TaskFailedError) as caught:
                engine.run(flaky.options(retries=retries).bind(book.path, times))
            assert isinstance(caught.value.__cause__, OSError)
    assert len(list(book)) == min(retries, times) + 1


def test_a_failed_attempt_of_a_rollback_task_is_undone_before_the_next(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    with Engine() as engine:
        assert engine.run(_half_done.options(retries=2, retry_delay_s=0).bind(book.path)) == "whole"
    whats = [entry["what"] for entry in book]
    assert whats == ["did", "undid", "did", "undid", "did"]
    assert len({entry["key"] for entry in book.lines("did")}) == 3


@exoflow.task(rollback=_undo)
def _half_done(book: str) -> str:
    note(book, "did")
    if len(Ledger(book).lines("did")) < 3:
        raise OSError("half done")
    return "whole"


def test_a_once_task_is_not_retried_unless_its_error_says_that_nothing_happened(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    with Engine() as engine:
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(_fails_once.options(not_happened=ValueError, retries=5, retry_delay_s=0).bind(book.path))
        assert len(list(book)) == 1
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(_fails_once.options(not_happened=OSError, retries=2, retry_delay_s=0).bind(book.path))
    assert len(list(book)) == 4


@exoflow.task(effects="once")
def _fails_once(book: str) -> None:
    note(book, "tried")
    raise OSError("on purpose")


def test_a_caught_exception_is_a_value_that_survives_a_crash(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    caught = flaky.options(catch_exceptions=True).bind(book.path, 1)
    node = gather.bind(caught, charge.bind(book.path, _text.bind(caught)))
    crash(storage, node, "charge.crash@1,after_record")
    with Engine(storage) as engine:
        (value, error), _ = engine.run(node, workflow_id="w")
    assert value is None
    assert isinstance(error, OSError)
    assert len(book.lines("tried")) == 1


@exoflow.task(effects="none", deterministic=True)
def _text(outcome: Any) -> str:
    return str(outcome)


def test_the_error_of_a_failed_workflow_is_its_cause_wherever_it_is_told() -> None:
    storage = fresh()
    with Engine(storage) as engine:
        with pytest.raises(
            exoflow.TaskFailedError, match="task 'fail' of workflow 'w' failed: ValueError: on purpose"
        ) as one:
            engine.run(fail.bind(), workflow_id="w")
    with Engine(storage) as engine, pytest.raises(exoflow.TaskFailedError) as two:
        engine.result("w")
    for caught in (one, two):
        assert isinstance(caught.value.__cause__, ValueError)
        assert "witness.py" in "".join(caught.value.__cause__.__notes__), "where it was raised is known"
    assert str(one.value) == str(two.value)


# --- code that changed ------------------------------------------------------------------------------------------------


def test_changed_code_behind_an_effect_is_not_run_without_consent(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")

    def make(version: str, factor: int) -> exoflow.Node:
        priced = exoflow.task(effects="none", deterministic=True, checkpoint="skip", version=version)(_price(factor))
        return charge.bind(book.path, priced.bind(5))

    crash(storage, make("1", 2), "charge.crash@1,after_run_before_record")
    assert [entry["inputs"] for entry in book.lines("ran")] == [[10]]
    with Engine(storage) as engine, Engine(storage) as other:
        with pytest.raises(exoflow.CodeChangedError, match="accept_code_change=True"):
            engine.run(make("2", 3), workflow_id="w")
        assert engine.status("w") == "resumable"
        assert other.run(make("1", 2), workflow_id="w")[-1] == 10, "whoever has the old code goes on"
    assert [entry["inputs"] for entry in book.lines("ran")] == [[10], [10]]
    book.check()


def test_consent_to_changed_code_is_given_when_resuming(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    _prices["v"] = 2
    crash(storage, charge.bind(book.path, _priced.bind(5)), "charge.crash@1,after_run_before_record")
    _prices["v"] = 3
    _priced._fingerprint = "s:changed"
    try:
        with Engine(storage) as engine:
            with pytest.raises(exoflow.CodeChangedError) as caught:
                engine.resume("w")
            assert caught.value.effects == ("charge",)
            assert "_priced" in str(caught.value)
            assert engine.resume("w", accept_code_change=True).result(PATIENCE_S)[-1] == 15
    finally:
        _priced._fingerprint = None


_prices = {"v": 2}


@exoflow.task(effects="none", deterministic=True, checkpoint="skip")
def _priced(amount: int) -> int:
    return amount * _prices["v"]


def _price(factor: int) -> Any:
    def price(amount: int) -> int:
        return amount * factor

    return price


def test_changed_code_that_no_effect_rests_on_just_runs(tmp_path: Path) -> None:
    storage = fresh()

    def make(version: str, factor: int) -> exoflow.Node:
        priced = exoflow.task(effects="none", deterministic=True, checkpoint="skip", version=version)(_price(factor))
        return gather.bind(priced.bind(5), draw.options(task_id="slow").bind(""))

    with Engine(storage, "inline", failures=["slow.crash"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(make("1", 2), workflow_id="w")
    with Engine(storage) as engine:
        assert engine.run(make("2", 3), workflow_id="w")[0] in (10, 15)
