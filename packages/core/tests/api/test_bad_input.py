"""What somebody gets who gives the engine something it cannot take: an error that says what to do, and no damage."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.api import functions
from exoflow.api.engine import Engine
from exoflow.failures.points import SimulatedCrash
from exoflow.stores.memory import MemoryStore

from ..witness import PATIENCE_S, Ledger, charge, door, fresh, note, pass_door, until


@exoflow.task(effects="none")
def quick(value: Any = 1) -> Any:
    return value


class Unstorable:
    """Pickles as little as a lock does."""

    def __reduce__(self) -> Any:
        raise TypeError("an Unstorable cannot be pickled")


@exoflow.task(effects="none")
def unstorable(book: str = "") -> Any:
    if book:
        note(book, "ran")
    return Unstorable()


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"storage": "nope://x"}, exoflow.UnknownStoreError, "nope://x"),
        ({"storage": "s3://bucket/x"}, exoflow.UnknownStoreError, "s3://bucket/x"),
        ({"executor": "nope"}, exoflow.UnknownExecutorError, "nope"),
        ({"executor": "ray"}, exoflow.UnknownExecutorError, "pip install exoflow-ray"),
        ({"codec": "nope"}, exoflow.UnknownOptionError, "nope"),
        ({"failures": ["nonsense"]}, exoflow.UnknownOptionError, "nonsense"),
        ({"failures": ["a.explode"]}, exoflow.UnknownOptionError, "explode"),
        ({"store_options": {"x": 1}}, exoflow.UnknownOptionError, "x"),
        ({"max_workers": 0}, exoflow.UnknownOptionError, "max_workers=0"),
        ({"max_workers": -1}, exoflow.UnknownOptionError, "max_workers=-1"),
        ({"max_workers": "many"}, exoflow.UnknownOptionError, "many"),
        ({"observers": [object()]}, exoflow.UsageError, "observe"),
        ({"executor": "inline", "max_workers": 2}, exoflow.UnknownOptionError, "max_workers"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_does_not_exist_is_refused_when_the_engine_is_made(
    options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error) as caught:
        Engine(**options)

    assert named in str(caught.value)
    assert isinstance(caught.value, exoflow.UsageError)


def test_a_task_for_an_executor_nobody_installed_is_refused_before_anything_starts(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    with Engine() as engine:
        with pytest.raises(exoflow.UnknownExecutorError, match="nope"):
            engine.run(quick.options(executor="nope").bind(charge.bind(book.path)), workflow_id="w")

        assert not engine.list()
    assert not list(book)


@pytest.mark.parametrize("workflow_id", ["", 5, "x" * 201, "ü" * 200])
def test_a_workflow_id_that_is_no_name_is_refused(workflow_id: Any) -> None:
    with Engine() as engine, pytest.raises(exoflow.UsageError):
        engine.run(quick.bind(), workflow_id=workflow_id)


@pytest.mark.parametrize("workflow_id", ["a/b", "..", ".", "a b", "ü" * 20, "\0", "x" * 200, "~7E", "CON", "-"])
def test_any_other_text_is_a_workflow_id(workflow_id: str) -> None:
    storage = fresh()
    with Engine(storage) as engine:
        assert engine.run(quick.bind(5), workflow_id=workflow_id) == 5
    with Engine(storage) as engine:
        assert engine.result(workflow_id) == 5
        assert [info.workflow_id for info in engine.list()] == [workflow_id]
        engine.delete(workflow_id)
        assert not engine.list()


def test_metadata_that_is_not_json_is_refused_and_harms_no_other_workflow() -> None:
    with Engine() as engine:
        other = engine.start(pass_door.bind("metadata", "unharmed"), workflow_id="other")
        with pytest.raises(exoflow.UsageError, match="metadata"):
            engine.start(quick.bind(), workflow_id="w", metadata={"x": object()})
        door("metadata").opened.set()

        assert other.result(PATIENCE_S) == "unharmed"
        assert engine.run(quick.bind(2), workflow_id="w") == 2


def test_metadata_that_is_json_is_kept() -> None:
    storage, metadata = fresh(), {"a": [1, 2.5, None, True], "b": {"c": "ü"}}
    with Engine(storage) as engine:
        engine.run(quick.bind(), workflow_id="w", metadata=metadata, name="nice")
    with Engine(storage) as engine:
        (info,) = engine.list()
    assert (info.metadata, info.name) == (metadata, "nice")


@pytest.mark.parametrize("call", ["status", "result", "show", "resume", "cancel", "delete"])
def test_a_workflow_nobody_knows_is_an_error_that_names_it(call: str) -> None:
    with Engine() as engine, pytest.raises(exoflow.WorkflowNotFoundError, match="nobody-knows"):
        getattr(engine, call)("nobody-knows")


def test_a_fork_or_settlement_of_a_workflow_nobody_knows_is_an_error_that_names_it() -> None:
    with Engine() as engine:
        with pytest.raises(exoflow.WorkflowNotFoundError, match="nobody-knows"):
            engine.fork("nobody-knows", "task")
        with pytest.raises(exoflow.WorkflowNotFoundError, match="nobody-knows"):
            engine.settle("nobody-knows", "task", happened=True)


def test_a_status_that_does_not_exist_is_an_unknown_option() -> None:
    with Engine() as engine, pytest.raises(exoflow.UnknownOptionError, match="sleeping"):
        engine.list("sleeping")


def test_what_is_no_node_cannot_be_run() -> None:
    with Engine() as engine, pytest.raises(exoflow.UsageError, match="expected a node"):
        engine.run(quick)  # type: ignore[arg-type]


def test_a_closed_engine_says_so() -> None:
    engine = Engine()
    engine.run(quick.bind())
    engine.close()
    engine.close()

    with pytest.raises(exoflow.UsageError, match="closed"):
        engine.run(quick.bind())


# --- ids --------------------------------------------------------------------------------------------------------------


def test_an_id_with_another_dag_is_refused_while_it_runs_when_it_ended_and_elsewhere() -> None:
    storage = fresh()
    with Engine(storage) as engine:
        handle = engine.start(pass_door.bind("mismatch"), workflow_id="w")
        with pytest.raises(exoflow.WorkflowMismatchError, match="'w'"):
            engine.run(quick.bind(), workflow_id="w")
        door("mismatch").opened.set()
        handle.result(PATIENCE_S)
        with pytest.raises(exoflow.WorkflowMismatchError):
            engine.run(quick.bind(), workflow_id="w")
        with pytest.raises(exoflow.WorkflowMismatchError):
            engine.run(pass_door.bind("other argument"), workflow_id="w")
    with Engine(storage) as engine, pytest.raises(exoflow.WorkflowMismatchError):
        engine.run(quick.bind(), workflow_id="w")


def test_a_wrong_dag_for_a_crashed_workflow_leaves_it_resumable() -> None:
    storage = fresh()
    node, other = quick.options(effects="idempotent").bind(7), quick.options(effects="idempotent").bind(8)
    with Engine(storage, failures=["quick.crash"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(node, workflow_id="w")
    with Engine(storage) as wrong:
        with pytest.raises(exoflow.WorkflowMismatchError):
            wrong.run(other, workflow_id="w")
        with Engine(storage) as right:
            assert right.run(node, workflow_id="w") == 7


def test_an_id_that_another_engine_runs_is_refused_and_its_result_can_be_awaited() -> None:
    storage = fresh()
    with Engine(storage) as first, Engine(storage) as second:
        handle = first.start(pass_door.bind("running", "result"), workflow_id="w")
        door("running").wait_until_entered()
        for attempt in (
            lambda: second.run(pass_door.bind("running", "result"), workflow_id="w"),
            lambda: second.resume("w"),
        ):
            with pytest.raises(exoflow.WorkflowRunningError, match=r"exoflow\.result\('w'\)"):
                attempt()
        with pytest.raises(exoflow.UnavailableError, match="has not ended within"):
            second.result("w", timeout_s=0.01)
        found: list[Any] = []
        waiter = threading.Thread(target=lambda: found.append(second.result("w", PATIENCE_S)))
        waiter.start()
        door("running").opened.set()
        waiter.join(PATIENCE_S)

        assert found == ["result"] == [handle.result(PATIENCE_S)]
        assert second.run(pass_door.bind("running", "result"), workflow_id="w") == "result"
        assert door("running").visitors == 1


# --- what cannot be stored --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "argument"),
    [
        (lambda: quick.bind(Unstorable()), "value"),
        (lambda: quick.bind(value=Unstorable()), "value"),
        (lambda: quick.bind({"deep": [Unstorable()]}), "value"),
        (lambda: quick.bind(quick.options(task_id="inner").bind(Unstorable())), "value"),
    ],
)
@pytest.mark.parametrize("workflow_id", [None, "w"])
def test_an_argument_that_cannot_be_pickled_is_named_with_its_task(
    node: Any, argument: str, workflow_id: str | None
) -> None:
    with Engine() as engine:
        with pytest.raises(exoflow.ArgumentError) as caught:
            engine.start(node(), workflow_id=workflow_id)

        assert caught.value.argument == argument
        assert caught.value.task in ("quick", "inner")
        assert "cannot be stored" in str(caught.value)
        assert not engine.list()
        assert engine.run(quick.bind(3), workflow_id="w") == 3


def test_an_input_that_cannot_be_pickled_is_named() -> None:
    with Engine() as engine, pytest.raises(exoflow.ArgumentError):
        engine.start(quick.bind(exoflow.Input("x")), inputs={"x": Unstorable()})


@pytest.mark.parametrize("checkpoint", ["sync", "async"])
@pytest.mark.parametrize("effects", ["none", "idempotent", "rollback"])
def test_a_result_that_cannot_be_pickled_fails_the_workflow_before_anything_acts_on_it(
    checkpoint: str, effects: str, tmp_path: Path
) -> None:
    book = Ledger(tmp_path / "ledger")
    changed: dict[str, Any] = {"rollback": _undo} if effects == "rollback" else {"effects": effects}
    node = charge.bind(book.path, unstorable.options(checkpoint=checkpoint, **changed).bind(book.path))
    with Engine() as engine:
        with pytest.raises(exoflow.TaskFailedError, match="unstorable") as caught:
            engine.run(node, workflow_id="w")

        assert isinstance(caught.value.__cause__, exoflow.UnserializableResultError)
        assert "unstorable" in str(caught.value.__cause__)
        assert engine.status("w") == "failed"
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(node, workflow_id="w")
    assert not book.lines(task="charge")
    assert len(book.lines("ran")) == 1
    assert len(book.lines("undid")) == (effects == "rollback")


def _undo(book: str) -> None:
    note(book, "undid")


def test_a_skipped_result_need_not_be_pickled_until_the_answer_or_an_effect_needs_it(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger")
    skipped = unstorable.options(checkpoint="skip").bind()
    with Engine() as engine:
        assert engine.run(_name_of_type.bind(skipped)) == "Unstorable"
        with pytest.raises(exoflow.TaskFailedError) as caught:
            engine.run(charge.bind(book.path, skipped))
        assert isinstance(caught.value.__cause__, exoflow.UnserializableResultError)
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(skipped)
    assert not list(book)


@exoflow.task(effects="none", deterministic=True)
def _name_of_type(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("checkpoint", ["sync", "async"])
def test_a_once_task_whose_result_cannot_be_pickled_has_happened_and_is_never_run_again(
    checkpoint: str, tmp_path: Path
) -> None:
    book = Ledger(tmp_path / "ledger")
    storage = fresh()
    node = unstorable.options(effects="once", checkpoint=checkpoint).bind(book.path)
    with Engine(storage) as engine, pytest.raises(exoflow.TaskFailedError) as caught:
        engine.run(node, workflow_id="w")
    assert isinstance(caught.value.__cause__, exoflow.UnserializableResultError)
    with Engine(storage) as engine:
        with pytest.raises(exoflow.TaskFailedError):
            engine.resume("w").result()
        with pytest.raises(exoflow.TaskFailedError):
            engine.run(node, workflow_id="w")
        assert engine.status("w") == "failed"
        (task,) = engine.show("w").tasks
        assert task.state in ("recorded", "failed")
    assert len(list(book)) == 1


def test_a_payload_that_cannot_be_pickled_is_not_sent() -> None:
    with Engine() as engine:
        with pytest.raises(exoflow.UsageError, match="approved"):
            engine.send_event("w", "approved", Unstorable())
        with pytest.raises(exoflow.UsageError):
            engine.settle("w", "t", happened=True, value=Unstorable())


@pytest.mark.parametrize("event", ["", 5, "\0cancel", "a\0b"])
def test_an_event_whose_name_is_none_is_refused(event: Any) -> None:
    with Engine() as engine:
        handle = engine.start(exoflow.wait_for_event("go"), workflow_id="w")
        with pytest.raises(exoflow.UsageError):
            engine.send_event("w", event)
        engine.send_event("w", "go", 1)
        assert handle.result(PATIENCE_S) == 1


# --- tasks that misbehave ---------------------------------------------------------------------------------------------


@exoflow.task(effects="none")
def leave(book: str) -> None:
    note(book, "ran")
    raise SystemExit(3)


@exoflow.task(effects="none")
def interrupt(book: str) -> None:
    note(book, "ran")
    raise KeyboardInterrupt


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize(("task", "named"), [(leave, r"sys\.exit\(3\)"), (interrupt, "KeyboardInterrupt")])
def test_a_task_that_would_end_the_process_fails_its_workflow_alone(
    executor: str, task: Any, named: str, tmp_path: Path
) -> None:
    book = Ledger(tmp_path / "ledger")
    with Engine(executor=executor) as engine:
        with pytest.raises(exoflow.TaskFailedError, match=named):
            engine.run(task.bind(book.path))

        assert engine.run(quick.bind("unharmed")) == "unharmed"
    assert len(list(book)) == 1


def test_an_exit_can_be_caught_like_any_failure(tmp_path: Path) -> None:
    with Engine() as engine:
        value, error = engine.run(leave.options(catch_exceptions=True).bind(str(tmp_path / "ledger")))
    assert value is None
    assert isinstance(error, Exception), "a SystemExit that is raised again would end the process after all"
    assert "sys.exit(3)" in str(error)


class Secretive(Exception):
    """An exception that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


@exoflow.task(effects="none")
def fail_secretly() -> None:
    raise Secretive("the message matters")


@pytest.mark.parametrize("catch", [True, False])
def test_an_exception_that_cannot_be_pickled_is_told_all_the_same(catch: bool) -> None:
    storage = fresh()
    node = _read_error.bind(fail_secretly.options(catch_exceptions=True).bind()) if catch else fail_secretly.bind()
    with Engine(storage) as engine:
        if catch:
            assert "the message matters" in engine.run(node, workflow_id="w")
            return
        with pytest.raises(exoflow.TaskFailedError, match="the message matters"):
            engine.run(node, workflow_id="w")
    with Engine(storage) as engine, pytest.raises(exoflow.TaskFailedError, match="the message matters"):
        engine.result("w")


@exoflow.task(effects="none")
def _read_error(outcome: Any) -> str:
    return str(outcome[1])


# --- damaged bytes ----------------------------------------------------------------------------------------------------


def _journals(storage: str) -> list[str]:
    return sorted(key for key in MemoryStore.open(storage).list("journals/"))


def _flip(storage: str, key: str, at: int) -> None:
    data = MemoryStore.open(storage)._space.objects[key]
    changed = bytearray(data)
    changed[at] ^= 0x40
    MemoryStore.open(storage)._space.objects[key] = changed


def _crashed(storage: str, tmp_path: Path) -> Ledger:
    """Leave a workflow behind whose second task was about to run."""
    book = Ledger(tmp_path / "ledger")
    with Engine(storage, "inline", failures=["last.crash"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(_two(book), workflow_id="w")
    return book


def _two(book: Ledger) -> exoflow.Node:
    return charge.options(task_id="last").bind(book.path, charge.options(task_id="first").bind(book.path))


def test_a_damaged_byte_in_the_middle_of_a_journal_is_reported_and_nothing_runs(tmp_path: Path) -> None:
    storage = fresh()
    book = _crashed(storage, tmp_path)
    (key,) = _journals(storage)
    before = list(book)
    data = bytes(MemoryStore.open(storage).read(key))
    _flip(storage, key, data.index(b'"charge"') + 2)  # in the submission; the outcome of a task follows
    with Engine(storage) as engine:
        for call in (
            lambda: engine.run(_two(book), workflow_id="w"), lambda: engine.resume("w"), lambda: engine.result("w"),
            lambda: engine.status("w"), lambda: engine.show("w"), engine.list,
        ):  # fmt: skip
            with pytest.raises(exoflow.CorruptCheckpointError) as caught:
                call()
            assert key in str(caught.value)
            assert "restore them from a copy" in str(caught.value)
        assert engine.run(quick.bind(4), workflow_id="another") == 4, "other journals are not concerned"
    assert list(book) == before
    _flip(storage, key, data.index(b'"charge"') + 2)
    with Engine(storage) as engine:
        assert engine.run(_two(book), workflow_id="w")
    book.check()


def test_a_damaged_tail_counts_as_torn_and_costs_one_flush(tmp_path: Path) -> None:
    storage = fresh()
    book = _crashed(storage, tmp_path)
    (key,) = _journals(storage)
    _flip(storage, key, len(MemoryStore.open(storage).read(key)) - 1)
    with Engine(storage) as engine:
        assert engine.run(_two(book), workflow_id="w")
    assert len(book.lines(task="first")) == 2, "the torn flush recorded it; with its key it may be repeated"
    assert {entry["key"] for entry in book.lines(task="first")} == {"w/1/first"}
    assert len(book.lines(task="last")) == 1


def test_a_journal_of_a_newer_format_asks_for_a_newer_version(tmp_path: Path) -> None:
    import struct
    import zlib

    storage = fresh()
    book = _crashed(storage, tmp_path)
    (key,) = _journals(storage)
    data = bytearray(MemoryStore.open(storage).read(key))
    head = bytes(data[:8]) + struct.pack("<HH", 99, 1)
    data[: len(head) + 4] = head + struct.pack("<I", zlib.crc32(head))
    MemoryStore.open(storage)._space.objects[key] = data
    with Engine(storage) as engine:
        for call in (lambda: engine.run(_two(book), workflow_id="w"), lambda: engine.resume("w"), engine.list):
            with pytest.raises(exoflow.UnsupportedFormatError, match="pip install --upgrade exoflow-core"):
                call()
        assert engine.run(quick.bind(4), workflow_id="another") == 4


def test_a_damaged_blob_is_reported_and_fails_nothing(tmp_path: Path) -> None:
    storage, book = fresh(), str(tmp_path / "ledger")
    node = _length.bind(_large.bind(book))
    with Engine(storage, "inline", failures=["_length.crash"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(node, workflow_id="w")
    (key,) = list(MemoryStore.open(storage).list("blobs/"))
    _flip(storage, key, 100)
    with Engine(storage) as engine:
        for _ in range(2):
            with pytest.raises(exoflow.CorruptCheckpointError, match="blobs/"):
                engine.run(node, workflow_id="w")
        assert engine.status("w") == "resumable"
    _flip(storage, key, 100)
    with Engine(storage) as engine:
        assert engine.run(node, workflow_id="w") == 100_000
    assert len(list(Ledger(book))) == 1


@exoflow.task
def _large(book: str) -> bytes:
    note(book, "ran")
    return bytes(range(250)) * 400


@exoflow.task(effects="none")
def _length(data: bytes) -> int:
    return len(data)


def test_a_message_that_cannot_be_read_stops_its_workflow_alone() -> None:
    storage = fresh()
    with Engine(storage) as engine:
        other = engine.start(exoflow.wait_for_event("go"), workflow_id="other")
        handle = engine.start(exoflow.wait_for_event("go"), workflow_id="w")
        MemoryStore.open(storage).create("inbox/w/go/0001", b"garbage")
        engine.send_event("other", "go", "unharmed")

        assert other.result(PATIENCE_S) == "unharmed"
        with pytest.raises(exoflow.CorruptCheckpointError, match="inbox/w/go/0001"):
            handle.result(PATIENCE_S)
        assert engine.status("w") == "resumable"
        MemoryStore.open(storage).delete("inbox/w/go/0001")
        engine.send_event("w", "go", "repaired")
        assert engine.resume("w").result(PATIENCE_S) == "repaired"


def test_something_foreign_in_the_inbox_stops_nobody() -> None:
    storage = fresh()
    MemoryStore.open(storage).create("inbox/stray", b"")
    MemoryStore.open(storage).create("inbox/w2/go/a/b", b"")
    with Engine(storage) as engine:
        handle = engine.start(exoflow.wait_for_event("go"), workflow_id="w")
        engine.send_event("w", "go", 1)
        assert until(handle.done)
        assert handle.result() == 1


# --- what a stranger tries ----------------------------------------------------------------------------------------------


@exoflow.task(effects="none")
def returns_nodes(kind: str) -> Any:
    made = [quick.bind(at) for at in range(3)]
    return {"list": made, "tuple": tuple(made), "dict": dict(enumerate(made))}[kind]


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_a_container_of_nodes_is_no_result_because_they_would_never_run(kind: str) -> None:
    with Engine() as engine, pytest.raises(exoflow.TaskFailedError, match=r"return collect\.bind") as caught:
        engine.run(returns_nodes.bind(kind))
    assert isinstance(caught.value.__cause__, exoflow.UsageError)


_engines: list[Engine] = []


@exoflow.task(effects="none")
def runs_another() -> Any:
    return _engines[-1].run(quick.bind(1))


@exoflow.task(effects="none")
def starts_another() -> Any:
    return _engines[-1].start(quick.bind(1)).workflow_id


@exoflow.task(effects="none")
async def waits_on_the_loop() -> Any:
    return _engines[-1].run(quick.bind(1))


@pytest.mark.parametrize(
    ("task", "executor"), [(runs_another, "inline"), (starts_another, "inline"), (waits_on_the_loop, "thread")]
)
def test_a_task_does_not_wait_for_itself(task: Any, executor: str) -> None:
    with Engine("memory://", executor) as engine:
        _engines.append(engine)
        with pytest.raises(exoflow.TaskFailedError, match="continuation"):
            engine.run(task.bind())


def test_an_id_that_no_terminal_could_show_is_refused() -> None:
    with Engine() as engine, pytest.raises(exoflow.UsageError, match="UTF-8"):
        engine.run(quick.bind(), workflow_id="x\ud800")


def test_an_age_below_nothing_is_refused() -> None:
    with Engine() as engine, pytest.raises(exoflow.UsageError, match="older_than_s=-1"):
        engine.gc(older_than_s=-1)


def test_who_only_looks_makes_no_storage() -> None:
    store = MemoryStore()
    with Engine(store) as engine:
        assert engine.list() == []
        for ask in (engine.show, engine.status, engine.result, engine.cancel):
            with pytest.raises(exoflow.WorkflowNotFoundError):
                ask("w")
    assert list(store.list("")) == []


FORKING = """
import os, sys
import exoflow

@exoflow.task(effects="none")
def one():
    return 1

assert exoflow.run(one.bind()) == 1
child = os.fork()
if not child:
    assert exoflow.run(one.bind()) == 1
    sys.exit(0)  # with all that is registered for the end of a process
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_has_engines_of_its_own_and_comes_to_its_end() -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "EXOFLOW_STORAGE": ""}
    done = subprocess.run([sys.executable, "-c", FORKING], env=environment, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


def test_one_storage_has_one_engine_however_and_from_wherever_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("exoflow_storage", reason="core's tests run without the other packages too")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()

    monkeypatch.chdir(tmp_path / "here")
    here, absolute = functions.engine("./flows"), functions.engine(tmp_path / "shared")
    assert functions.engine(f"file://{tmp_path}/here/flows") is here

    monkeypatch.chdir(tmp_path / "there")
    assert functions.engine("./flows") is not here
    assert functions.engine(tmp_path / "shared") is absolute
    for engine in (here, absolute, functions.engine("./flows")):
        engine.close()
