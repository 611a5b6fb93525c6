"""How a controller lives and dies: several threads, journals that fail, attempts that cannot be stopped, closing."""

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.api import controllers
from exoflow.api.engine import Engine
from exoflow.controller import closing, listening
from exoflow.controller import controller as controller_module
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import At, Delay, FaultyStore, LoseAnswer, Refuse, Scheduled

from ..witness import PATIENCE_S, Bucket, Ledger, charge, door, draw, fresh, gather, note, pass_door, send, until


def _undo(book: str, name: str = "") -> None:
    note(book, "undid")


@exoflow.task(rollback=_undo)
def reserve_behind_door(book: str, name: str) -> str:
    found = door(name)
    found.visitors += 1
    found.entered.set()
    found.opened.wait(PATIENCE_S)
    note(book, "did")
    return "reserved"


@exoflow.task(effects="once")
def send_behind_door(book: str, name: str) -> str:
    found = door(name)
    found.visitors += 1
    found.entered.set()
    found.opened.wait(PATIENCE_S)
    note(book, "happened", value="sent")
    return "sent"


@exoflow.task(effects="none")
def large() -> bytes:
    return bytes(100_000)


@exoflow.task(effects="none")
def _large_behind_door(name: str) -> bytes:
    found = door(name)
    found.entered.set()
    assert found.opened.wait(PATIENCE_S)
    return bytes(100_000)


@exoflow.task(effects="none")
def quick(value: Any = 1) -> Any:
    return value


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(controllers, "_PATIENCE_S", 0.1)


@pytest.fixture
def bucket_beats(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(controller_module, "_BEAT_S", 0.01)
    return


# --- several threads --------------------------------------------------------------------------------------------------


def _at_once(count: int, call: Any) -> list[Any]:
    barrier = threading.Barrier(count)

    def wait_and_call(number: int) -> Any:
        barrier.wait(PATIENCE_S)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_call, range(count)))


@pytest.mark.parametrize("executor", ["thread", "inline"])
def test_one_id_started_by_many_threads_at_once_is_one_workflow(executor: str, tmp_path: Path) -> None:
    with Engine(executor=executor) as engine:
        for number in range(20):
            book = Ledger(tmp_path / f"ledger-{number}")
            node, workflow_id = send.bind(book.path), f"w{number}"
            handles = _at_once(4, lambda _, n=node, i=workflow_id: engine.start(n, workflow_id=i))
            assert len({str(handle.result(PATIENCE_S)) for handle in handles}) == 1
            assert len(list(book)) == 1


def test_one_dead_workflow_resumed_by_many_threads_at_once_runs_once(tmp_path: Path) -> None:
    for number in range(20):
        storage, book = fresh(), Ledger(tmp_path / f"ledger-{number}")
        node = charge.bind(book.path, draw.bind(book.path), send.bind(book.path))
        with Engine(storage, failures=["charge.crash"]) as engine, pytest.raises(SimulatedCrash):
            engine.run(node, workflow_id="w")
        with Engine(storage) as engine:
            handles = _at_once(4, lambda _, e=engine: e.resume("w"))
            assert len({str(handle.result(PATIENCE_S)) for handle in handles}) == 1
        book.check()
        assert len(book.lines("happened")) == 1


def test_two_engines_that_resume_one_dead_workflow_at_once_do_not_both_get_it(tmp_path: Path) -> None:
    for number in range(20):
        storage, book = fresh(), Ledger(tmp_path / f"ledger-{number}")
        node = charge.bind(book.path, pass_door.bind(f"race-{number}"))
        with Engine(storage, failures=["pass_door.crash@1,after_run_before_record"]) as engine:
            handle = engine.start(node, workflow_id="w")
            door(f"race-{number}").opened.set()
            with pytest.raises(SimulatedCrash):
                handle.result(PATIENCE_S)
        door(f"race-{number}").opened.clear()
        engines = [Engine(storage) for _ in range(3)]

        def resume(at: int, engines: list[Engine] = engines) -> Any:
            try:
                return engines[at].resume("w")
            except exoflow.WorkflowRunningError as error:
                return error

        answers = _at_once(3, resume)
        won = [a for a in answers if not isinstance(a, Exception)]
        assert len(won) == 1, answers
        door(f"race-{number}").opened.set()
        assert won[0].result(PATIENCE_S)[0] == "charge"
        for engine in engines:
            engine.close()
        assert len(list(book)) == 1


def test_hundreds_of_workflows_from_several_threads_all_end(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    storage = fresh()
    with Engine(storage) as engine:

        def work(at: int) -> list[Any]:
            chooser = random.Random(at)
            handles = []
            for number in range(60):
                node = gather.bind(quick.bind(number), charge.bind(book.path, draw.bind(book.path), at, number))
                name = f"w-{at}-{number}" if chooser.random() < 0.5 else None
                handles.append(engine.start(node, workflow_id=name))
            return [handle.result(PATIENCE_S) for handle in handles]

        for at, answers in enumerate(_at_once(5, work)):
            assert [answer[0] for answer in answers] == list(range(60))
            assert [answer[1][-2:] for answer in answers] == [[at, number] for number in range(60)]
    assert len(list(book)) == 300
    with Engine(storage) as engine:
        assert [info.status for info in engine.list()] == ["succeeded"] * 300


def test_many_threads_that_take_over_and_flush_at_once_leave_a_sound_journal(tmp_path: Path) -> None:
    storage = fresh()
    for number in range(12):
        with Engine(storage, failures=["charge.crash"]) as engine, pytest.raises(SimulatedCrash):
            engine.run(charge.bind(str(tmp_path / f"dead-{number}")), workflow_id=f"dead-{number}")
    with Engine(storage) as engine:

        def work(at: int) -> None:
            for number in range(12):
                if at == 0:
                    engine.resume(f"dead-{number}").result(PATIENCE_S)
                else:
                    engine.run(gather.bind(*(quick.bind(i) for i in range(4))), workflow_id=f"new-{at}-{number}")

        _at_once(4, work)
    with Engine(storage) as engine:
        assert {info.status for info in engine.list()} == {"succeeded"}
        assert len(engine.list()) == 48


def test_many_started_together_are_all_durable(tmp_path: Path) -> None:
    storage = fresh()
    with Engine(storage) as engine:
        handles = engine.start_many([quick.bind(n) for n in range(300)], metadata={"a": 1})
        assert [handle.result(PATIENCE_S) for handle in handles] == list(range(300))
    with Engine(storage) as engine:
        assert [engine.result(handle.workflow_id) for handle in handles[:5]] == list(range(5))
        assert len(engine.list("succeeded")) == 300


# --- asyncio ----------------------------------------------------------------------------------------------------------


def test_a_handle_is_awaited_in_any_loop(tmp_path: Path) -> None:
    with Engine() as engine:

        async def main() -> list[Any]:
            handles = [engine.start(quick.bind(n)) for n in range(20)]
            return await asyncio.gather(*(_await(handle) for handle in handles))

        assert asyncio.run(main()) == list(range(20))
        done = engine.start(quick.bind("again"))
        done.result(PATIENCE_S)
        assert asyncio.run(_await(done)) == "again"


async def _await(handle: exoflow.Handle) -> Any:
    return await handle


def test_the_error_of_a_workflow_is_raised_where_it_is_awaited() -> None:
    with Engine() as engine:
        handle = engine.start(_fail.bind())

        with pytest.raises(exoflow.TaskFailedError) as caught:
            asyncio.run(_await(handle))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@exoflow.task(effects="none")
def _fail() -> float:
    return 1 / 0


def test_a_loop_that_was_closed_while_it_waited_disturbs_nobody() -> None:
    with Engine() as engine:

        async def give_up() -> exoflow.Handle:
            handle = engine.start(pass_door.bind("closed loop", 1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_await(handle), 0.01)
            return handle

        handle = asyncio.run(give_up())
        other = engine.start(pass_door.bind("closed loop", 2))
        door("closed loop").opened.set()

        assert (handle.result(PATIENCE_S), other.result(PATIENCE_S)) == (1, 2)
        assert engine.run(quick.bind(3)) == 3


def test_async_tasks_run_beside_each_other_and_may_start_nothing_of_the_engine(tmp_path: Path) -> None:
    with Engine() as engine:
        assert engine.run(gather.bind(*(_sleep_a_little.bind(n) for n in range(50)))) == list(range(50))


@exoflow.task(effects="none")
async def _sleep_a_little(value: int) -> int:
    await asyncio.sleep(0.01)
    return value


def test_a_task_may_use_the_engine_it_runs_in() -> None:
    storage = fresh()
    with Engine(storage) as engine:
        _engines[storage] = engine
        assert engine.run(_nest.bind(storage, 3)) == ["nested", 3]


_engines: dict[str, Engine] = {}


@exoflow.task(effects="none")
def _nest(storage: str, value: int) -> Any:
    return ["nested", _engines[storage].run(quick.bind(value))]


# --- two engines ------------------------------------------------------------------------------------------------------


def test_two_engines_on_one_store_run_side_by_side_and_see_each_others_results(tmp_path: Path) -> None:
    storage = fresh()
    with Engine(storage) as one, Engine(storage) as two:
        mine = [one.start(quick.bind(n), workflow_id=f"one-{n}") for n in range(20)]
        theirs = [two.start(quick.bind(n), workflow_id=f"two-{n}") for n in range(20)]
        assert [h.result(PATIENCE_S) for h in (*mine, *theirs)] == [*range(20), *range(20)]
        assert [two.result(f"one-{n}") for n in range(20)] == list(range(20))
        assert one.run(quick.bind(3), workflow_id="two-3") == 3
        assert len(one.list()) == len(two.list()) == 40


def test_a_cancellation_comes_from_another_engine() -> None:
    storage = fresh()
    with Engine(storage) as one, Engine(storage) as two:
        handle = one.start(exoflow.sleep(3600), workflow_id="w")
        two.cancel("w")
        with pytest.raises(exoflow.WorkflowCancelledError):
            handle.result(PATIENCE_S)
        with pytest.raises(exoflow.WorkflowCancelledError):
            two.result("w")
        assert two.status("w") == "cancelled"


def test_what_was_not_resumed_of_a_dead_journal_is_free_for_others(tmp_path: Path) -> None:
    storage = fresh()
    books = [Ledger(tmp_path / f"ledger-{number}") for number in range(4)]
    dead = Engine(storage, failures=["last.crash"])
    for number, book in enumerate(books[:3]):
        dead.start(charge.bind(book.path, exoflow.sleep(0.05)), workflow_id=f"w{number}")
    with pytest.raises(SimulatedCrash):
        dead.run(charge.options(task_id="last").bind(books[3].path), workflow_id="w3")
    with Engine(storage) as one, Engine(storage) as two, Engine(storage) as three:
        assert one.resume("w0").result(PATIENCE_S)
        assert [two.status(f"w{number}") for number in range(4)] == ["succeeded", *["resumable"] * 3]
        with pytest.raises(exoflow.UnavailableError, match="exoflow resume w1"):
            two.result("w1", timeout_s=PATIENCE_S)
        assert two.resume("w1").result(PATIENCE_S)
        assert len(three.resume_all()) == 2
        assert three.result("w2", PATIENCE_S)
        assert three.result("w3", PATIENCE_S)
        assert {info.status for info in one.list()} == {"succeeded"}
    for book in books:
        book.check()
        assert len(list(book)) == 1


# --- the journal fails ------------------------------------------------------------------------------------------------


def _faulty(storage: str, *entries: At) -> Any:
    return FaultyStore(MemoryStore.open(storage), Scheduled(*entries))


@pytest.mark.parametrize("fault", [Refuse(), LoseAnswer(), LoseAnswer(happens=False)], ids=["refused", "lost", "sunk"])
@pytest.mark.parametrize("nth", range(2, 8))
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_an_engine_whose_journal_failed_goes_on_in_a_new_one(
    fault: Any, nth: int, executor: str, tmp_path: Path
) -> None:
    book = Ledger(tmp_path / "ledger")
    node = gather.bind(charge.options(task_id="b").bind(book.path, charge.options(task_id="a").bind(book.path)))
    with Engine(_faulty(fresh(), At("append", fault, nth=nth)), executor) as engine:
        answer = _despite_one_fault(lambda: engine.run(node, workflow_id="w"))
        assert _despite_one_fault(lambda: engine.run(node, workflow_id="w")) == answer
        assert _despite_one_fault(lambda: engine.run(quick.bind(1))) == 1
        assert engine.status("w") == "succeeded"
    book.check()


def _despite_one_fault(call: Any) -> Any:
    try:
        return call()
    except exoflow.UnavailableError:
        return call()


@pytest.mark.parametrize("verb", ["append", "create", "read", "list"])
def test_an_engine_that_could_not_take_a_workflow_over_can_do_so_later(verb: str, tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    with Engine(storage, failures=["charge.crash"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(charge.bind(book.path), workflow_id="w")
    store = _faulty(storage)
    with Engine(store) as engine:
        engine.run(quick.bind())
        store.plan = Scheduled(At(verb, Refuse(), times=math.inf))
        with pytest.raises(exoflow.UnavailableError):
            engine.resume("w").result(PATIENCE_S)
        store.plan = None
        assert engine.resume("w").result(PATIENCE_S)
        assert engine.run(quick.bind(7)) == 7
    book.check()


def test_every_thread_hears_of_it_when_the_controller_dies_under_its_request(tmp_path: Path) -> None:
    """None of the calls under way may wait for ever, whatever moment the controller dies in."""
    for number in range(30):
        engine = Engine(fresh(), failures=[f"*.crash@{number % 7 + 1},before_flush"])

        def work(at: int, engine: Engine = engine) -> str:
            try:
                for turn in range(8):
                    engine.start(quick.bind(turn), workflow_id=f"w-{at}-{turn}").result(PATIENCE_S)
            except SimulatedCrash:
                return "crashed"
            except exoflow.ExoFlowError as error:
                assert "has not ended within" not in str(error), error
                return "refused"
            return "ran"

        assert set(_at_once(4, work)) <= {"crashed", "refused", "ran"}
        engine.close()


def test_a_controllers_mistake_of_its_own_is_logged_and_ends_every_wait(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine() as engine:
        handle = engine.start(pass_door.bind("mistake"), workflow_id="w")
        door("mistake").wait_until_entered()
        monkeypatch.setattr(listening.Listener, "discard", None)
        controller = engine._controllers.current
        assert controller is not None
        with caplog.at_level(logging.ERROR):
            controller.post(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
            with pytest.raises(ZeroDivisionError):
                handle.result(PATIENCE_S)
        assert "mistake of its own" in caplog.text
        door("mistake").opened.set()
        assert engine.resume("w").result(PATIENCE_S) is None


def test_a_heartbeat_that_is_not_taken_stops_nobody(bucket_beats: None) -> None:
    store = FaultyStore(Bucket(fresh()), Scheduled(At("write", Refuse(), key="open/*", times=5)))  # type: ignore[arg-type]
    with Engine(store) as engine:
        handle = engine.start(pass_door.bind("beat", "alive"))
        until(lambda: store.calls["write"] > 8)
        door("beat").opened.set()
        assert handle.result(PATIENCE_S) == "alive"


def test_a_busy_journal_goes_on_saying_that_it_lives(bucket_beats: None) -> None:
    bucket = Bucket(fresh())
    store = FaultyStore(bucket, Scheduled(At("create", Delay(delay_s=0.005), key="journals/*", times=math.inf)))  # type: ignore[arg-type]
    with Engine(store, "inline") as engine:
        engine.run(quick.bind())
        (key,) = bucket.inner.list("open/")
        stop = threading.Event()

        def keep_busy() -> None:
            while not stop.is_set():
                engine.run(quick.bind())

        seen: set[bytes] = set()
        with ThreadPoolExecutor(3) as pool:
            busy = [pool.submit(keep_busy) for _ in range(3)]
            try:
                until(lambda: seen.add(bytes(bucket.inner.read(key))) or len(seen) > 3)
            finally:
                stop.set()
        for one in busy:
            one.result(PATIENCE_S)


# --- attempts that still run ------------------------------------------------------------------------------------------


def test_nobody_takes_over_while_an_attempt_of_a_failed_journal_runs(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    node = gather.bind(reserve_behind_door.bind(book.path, "failing"), charge.bind(book.path, exoflow.sleep(0.05)))
    store = _faulty(storage, At("append", Refuse(), nth=4, times=math.inf))
    with Engine(store) as engine, Engine(storage) as other:
        handle = engine.start(node, workflow_id="w")
        door("failing").wait_until_entered()
        with pytest.raises(exoflow.UnavailableError):
            handle.result(PATIENCE_S)
        store.plan = None
        with pytest.raises(exoflow.WorkflowRunningError):
            other.resume("w")
        assert not book.lines("undid")
        door("failing").opened.set()
        resumed = until(lambda: _try(lambda: other.resume("w")))
        assert resumed.result(PATIENCE_S)
    book.check()
    assert [entry["what"] for entry in book.lines(task="reserve_behind_door")] == ["did", "undid", "did"]


def _try(call: Any) -> Any:
    try:
        return call()
    except exoflow.WorkflowRunningError:
        return None


def test_the_engine_itself_waits_for_attempts_of_its_failed_journal(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    node = gather.bind(reserve_behind_door.bind(book.path, "own"), charge.bind(book.path, exoflow.sleep(0.05)))
    store = _faulty(storage, At("append", Refuse(), nth=4))
    with Engine(store) as engine:
        handle = engine.start(node, workflow_id="w")
        door("own").wait_until_entered()
        with pytest.raises(exoflow.UnavailableError):
            handle.result(PATIENCE_S)
        threading.Timer(0.2, door("own").opened.set).start()
        assert engine.resume("w").result(PATIENCE_S)
    book.check()


def test_closing_waits_for_an_effect_that_runs_and_records_it(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    engine = Engine(storage)
    node = charge.bind(book.path, send_behind_door.bind(book.path, "closing"))
    handle = engine.start(node, workflow_id="w")
    door("closing").wait_until_entered()
    closing = threading.Thread(target=engine.close)
    closing.start()
    with Engine(storage) as other:
        with pytest.raises(exoflow.WorkflowRunningError):
            other.resume("w")
        door("closing").opened.set()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        with pytest.raises(exoflow.UnavailableError, match="exoflow resume w"):
            handle.result(PATIENCE_S)
        assert other.resume("w").result(PATIENCE_S)
    book.check()
    assert book.tasks() == ["send_behind_door", "charge"]


@pytest.mark.parametrize("kind", ["reserve", "send"])
def test_closing_before_an_attempt_has_ended_lets_nobody_in_until_it_has(
    kind: str, tmp_path: Path, short_patience: None
) -> None:
    storage, book, name = fresh(), Ledger(tmp_path / "ledger"), f"left behind {kind}"
    task = reserve_behind_door if kind == "reserve" else send_behind_door
    engine = Engine(storage)
    handle = engine.start(charge.bind(book.path, task.bind(book.path, name)), workflow_id="w")
    door(name).wait_until_entered()
    engine.close()
    with pytest.raises(exoflow.UnavailableError):
        handle.result(PATIENCE_S)
    with Engine(storage) as other:
        for _ in range(3):
            with pytest.raises(exoflow.WorkflowRunningError):
                other.resume("w")
        assert not list(book)
        door(name).opened.set()
        resumed = until(lambda: _try(lambda: other.resume("w")))
        assert resumed.result(PATIENCE_S)
    book.check()
    assert len(book.lines(task=task.name)) == 1, "what it came to was recorded, late as it was"


@pytest.mark.parametrize("fences", [False, True])
def test_an_attempt_past_its_timeout_is_undone_after_its_thread_has_ended_unless_undo_fences(
    fences: bool, tmp_path: Path
) -> None:
    book, name = Ledger(tmp_path / "ledger"), f"timeout fences={fences}"
    task = reserve_behind_door.options(timeout_s=0.05, fences=fences)
    with Engine() as engine:
        handle = engine.start(task.bind(book.path, name), workflow_id="w")
        door(name).wait_until_entered()
        if fences:
            until(lambda: book.lines("undid"))
            assert not book.lines("did")
            with pytest.raises(exoflow.TaskFailedError, match="did not finish within"):
                handle.result(PATIENCE_S)
            door(name).opened.set()
            return
        with pytest.raises(exoflow.UnavailableError):
            handle.result(0.2)
        assert not list(book)
        door(name).opened.set()
        with pytest.raises(exoflow.TaskFailedError, match="did not finish within"):
            handle.result(PATIENCE_S)
    assert [entry["what"] for entry in book] == ["did", "undid"]


def test_closing_waits_for_an_attempt_past_its_timeout(tmp_path: Path, short_patience: None) -> None:
    storage, book, name = fresh(), Ledger(tmp_path / "ledger"), "timeout and closed"
    engine = Engine(storage)
    task = reserve_behind_door.options(timeout_s=0.02, retries=1, retry_delay_s=0)
    engine.start(task.bind(book.path, name), workflow_id="w")
    door(name).wait_until_entered()
    controller = engine._controllers.current
    assert controller is not None
    until(lambda: controller.attempts.lingering)
    engine.close()
    with Engine(storage) as other:
        with pytest.raises(exoflow.WorkflowRunningError):
            other.resume("w")
        assert not list(book)
        door(name).opened.set()
        resumed = until(lambda: _try(lambda: other.resume("w")))
        resumed.result(PATIENCE_S)
    book.check()


def test_a_task_without_effects_that_cannot_be_stopped_holds_nobody_up(tmp_path: Path, short_patience: None) -> None:
    storage = fresh()
    engine = Engine(storage)
    node = pass_door.options(timeout_s=0.02).bind("endless")
    handle = engine.start(node, workflow_id="w")
    with pytest.raises(exoflow.TaskFailedError):
        handle.result(PATIENCE_S)
    engine.close()
    with Engine(storage) as other:
        assert other.status("w") == "failed"
        assert other.run(quick.bind(1)) == 1
    door("endless").opened.set()


# --- a store that fails for one workflow ------------------------------------------------------------------------------


def test_a_blob_that_cannot_be_written_stops_its_workflow_and_loses_nothing(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    before = charge.options(task_id="before").bind(book.path)
    node = charge.options(task_id="after").bind(book.path, _len.bind(large.options(after=[before]).bind()), before)
    store = _faulty(storage, At("write", Refuse(), key="blobs/w/*"))
    with Engine(store) as engine, Engine(storage) as other:
        with pytest.raises(exoflow.UnavailableError, match="resume"):
            engine.run(_len.bind(node), workflow_id="w")
        until(lambda: other.status("w") == "resumable")
        assert engine.run(quick.bind(1)) == 1
        assert other.resume("w").result(PATIENCE_S) == 4
    book.check()
    assert len(book.lines(task="before")) == len(book.lines(task="after")) == 1


@exoflow.task(effects="none")
def _len(value: Any) -> int:
    return len(value)


@pytest.mark.parametrize("who", ["the same engine", "another"])
def test_a_workflow_stopped_by_its_store_is_not_resumed_before_its_attempts_have_ended(
    who: str, tmp_path: Path
) -> None:
    storage, book, name = fresh(), Ledger(tmp_path / "ledger"), f"abandoned by {who}"
    node = gather.bind(reserve_behind_door.bind(book.path, name), _large_behind_door.bind("then " + name))
    store = _faulty(storage, At("write", Refuse(), key="blobs/w/*"))
    with Engine(store) as engine, Engine(storage) as another:
        handle = engine.start(node, workflow_id="w")
        door(name).wait_until_entered()
        door("then " + name).opened.set()
        with pytest.raises(exoflow.UnavailableError):
            handle.result(PATIENCE_S)
        resuming = engine if who == "the same engine" else another
        with pytest.raises(exoflow.WorkflowRunningError):
            another.resume("w")
        threading.Timer(0.1, door(name).opened.set).start()
        resumed = until(lambda: _try(lambda: resuming.resume("w")))
        assert resumed.result(PATIENCE_S)[0] == "reserved"
    book.check()


def test_an_intent_that_became_durable_after_its_workflow_was_stopped_starts_nothing(tmp_path: Path) -> None:
    storage, book = fresh(), Ledger(tmp_path / "ledger")
    slow = threading.Event()

    def plan(call: Any) -> Any:
        if call.verb == "append" and slow.is_set():
            return Delay(delay_s=0.2)
        return Refuse() if call.verb == "write" and call.key.startswith("blobs/w/") else None

    store = FaultyStore(MemoryStore.open(storage), plan)
    before = pass_door.options(checkpoint="async", effects="idempotent").bind("intent 1")
    node = gather.bind(send.bind(book.path, before), _large_behind_door.bind("intent 2"))
    with Engine(store) as engine:
        handle = engine.start(node, workflow_id="w")
        door("intent 1").wait_until_entered()
        door("intent 2").wait_until_entered()
        slow.set()
        appends = store.calls["append"]
        door("intent 1").opened.set()
        until(lambda: store.calls["append"] > appends)  # the intent of `send` is on its way
        door("intent 2").opened.set()
        with pytest.raises(exoflow.UnavailableError):
            handle.result(PATIENCE_S)
        slow.clear()
        store.plan = None
        with Engine(storage) as other:
            until(lambda: other.status("w") == "resumable")
            assert other.resume("w").result(PATIENCE_S)[0][0] == "send"
    assert len(book.lines("happened")) == 1, "nobody had to ask: it was known never to have begun"


# --- observers and injectors ------------------------------------------------------------------------------------------


class Angry:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def observe(self, happening: Any) -> None:
        self.seen.append(str(happening.moment))
        raise RuntimeError("observers may fail")


def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    angry = Angry()
    with Engine(observers=[angry]) as engine:
        assert engine.run(gather.bind(quick.bind(1), quick.bind(2))) == [1, 2]
    assert len(angry.seen) > 6
    assert "observers may fail" in caplog.text


def test_an_observer_is_told_of_everything_once() -> None:
    seen: list[tuple[str, str]] = []

    class Watching:
        def observe(self, happening: Any) -> None:
            seen.append((str(happening.moment), happening.task_id))

    with Engine(observers=[Watching()]) as engine:
        engine.run(quick.options(task_id="b").bind(quick.options(task_id="a").bind()), workflow_id="w")
    assert seen[0] == ("workflow_started", "")
    assert seen[-1] == ("workflow_ended", "")
    for task_id in ("a", "b"):
        moments = [moment for moment, task in seen if task == task_id]
        assert moments[:2] == ["task_started", "task_finished"]
        assert len(moments) == len(set(moments))


@pytest.mark.parametrize("point", FailurePoint)
def test_every_failure_point_is_reached(point: FailurePoint, tmp_path: Path) -> None:
    reached: list[tuple[FailurePoint, str]] = []

    class Watching:
        def reach(self, point: FailurePoint, *, task_id: str = "", **_: Any) -> None:
            reached.append((point, task_id))

    storage, book = fresh(), Ledger(tmp_path / "ledger")
    sent = send.options(resolve=_ask).bind(book.path)
    node = charge.options(task_id="bad").bind(book.path, _reserve_plain.bind(book.path), sent, _len.bind(large.bind()))
    for failures in (["send.crash@1,after_run_before_record"], ["bad.raise"]):
        with Engine(storage, failures=[Watching(), *failures]) as engine:
            try:
                engine.run(node, workflow_id="w")
            except (SimulatedCrash, exoflow.TaskFailedError):
                pass
    assert point in {found for found, _ in reached}, sorted({str(found) for found, _ in reached})
    about_tasks = {task for found, task in reached if found is point}
    from exoflow.failures.points import TASK_POINTS

    assert ("" in about_tasks) == (point not in TASK_POINTS)


def _ask(key: str) -> Any:
    return exoflow.Happened("asked")


@exoflow.task(rollback=_undo)
def _reserve_plain(book: str) -> str:
    note(book, "did")
    return "reserved"


def test_a_controller_that_crashes_while_a_blob_is_written_leaves_nothing_that_counts(tmp_path: Path) -> None:
    for executor in ("inline", "thread"):
        storage = fresh()
        node = _len.bind(large.bind())
        with Engine(storage, executor, failures=["large.crash@1,during_blob_write"]) as engine:
            with pytest.raises(SimulatedCrash):
                engine.run(node, workflow_id="w")
        with Engine(storage, executor) as engine:
            assert engine.run(node, workflow_id="w") == 100_000


def test_timers_and_waits_hold_no_thread() -> None:
    before = threading.active_count()
    with Engine(max_workers=2) as engine:
        handles = [engine.start(exoflow.sleep(0.3)) for _ in range(100)]
        handles += [engine.start(exoflow.wait_for_event("go", timeout_s=0.3, default=5)) for _ in range(100)]
        assert threading.active_count() < before + 8
        started = time.monotonic()
        for handle in handles:
            handle.result(PATIENCE_S)
        assert time.monotonic() - started < PATIENCE_S
