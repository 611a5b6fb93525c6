import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from exoflow.engine.events import Ended, Failed, Finished, Persisted, UndoFailed
from exoflow.errors import ArgumentError, TaskLostError, UnserializableResultError, UsageError
from exoflow.executors.contract import CallKind, Persistence
from exoflow.executors.nursery import nursery
from exoflow.executors.processes import ProcessExecutor
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.graph.dag import Upstream
from exoflow.stores.memory import MemoryStore
from exoflow.tasks.context import context
from exoflow.tasks.task import task
from exoflow.testing import executor_tasks as tasks
from exoflow.testing.executors import ExecutorContract, Stage
from exoflow.values import Live, Payload


class TestProcessExecutor(ExecutorContract):
    at_once = 2
    coroutines_at_once = 2
    many = 500

    @pytest.fixture
    def open_executor(self):
        return functools.partial(ProcessExecutor, workers=2)


def folder_opener():
    """What opens a store that several processes share. All of it travels by value: workers cannot import this module."""

    class FolderStore:
        shared = True

        def __init__(self, url):
            self.url = url
            self.root = pathlib.Path(url.removeprefix("folder://"))

        def write(self, key, chunks):
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            if "die while writing" in key and os.environ["OWNER"] != str(os.getpid()):
                os.kill(os.getpid(), signal.SIGKILL)
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(b"".join(chunks) + b"|%d" % os.getpid())
            partial.rename(path)

        def read(self, key, *, start=0, end=None):
            from exoflow.errors import ObjectNotFoundError

            try:
                return bytearray((self.root / key).read_bytes().rpartition(b"|")[0][start:end])
            except FileNotFoundError:
                raise ObjectNotFoundError(key) from None

        def writer(self, key):
            return int((self.root / key).read_bytes().rpartition(b"|")[2])

        def list(self, prefix):
            found = (str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
            return iter(sorted(key for key in found if key.startswith(prefix)))

        def delete(self, key):
            (self.root / key).unlink(missing_ok=True)

        def close(self):
            pass

    return lambda url: FolderStore(url)


TOUCHES_THE_STORE = (
    "test_a_call_reports",
    "test_a_continuation_is_stored",
    "test_a_small_value",
    "test_a_task_may_change",
    "test_a_value_",
    "test_after_",
    "test_an_input_",
    "test_an_undo_is_called",
    "test_arguments",
    "test_before_",
    "test_buffers",
    "test_measured",
    "test_of_many",
    "test_what_a_resolve",
    "test_without",
)


class TestProcessExecutorWithAStoreThatWorkersOpen(ExecutorContract):
    # The rest is the same with any store, and every test starts a process.
    locals().update(
        {
            name: None
            for name in dir(ExecutorContract)
            if name.startswith("test_") and not name.startswith(TOUCHES_THE_STORE)
        }
    )
    at_once = 2
    coroutines_at_once = 2
    many = 200
    writes_through_services = False

    @pytest.fixture
    def store(self, tmp_path):
        return folder_opener()(f"folder://{tmp_path / 'store'}")

    @pytest.fixture
    def open_executor(self):
        return functools.partial(ProcessExecutor, workers=2, opener=folder_opener())


@pytest.fixture
def stage(tmp_path):
    stage = Stage(functools.partial(ProcessExecutor, workers=2), MemoryStore(), tmp_path, 60.0)
    yield stage
    stage.finish()


@pytest.fixture
def shared_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("OWNER", str(os.getpid()))
    opener = folder_opener()
    store = opener(f"folder://{tmp_path / 'store'}")
    stage = Stage(functools.partial(ProcessExecutor, workers=2, opener=opener), store, tmp_path, 60.0)
    yield stage
    stage.finish()


@task(effects="none")
def my_pid():
    return os.getpid()


@task(effects="none")
def my_pid_noted(path):
    tasks.note(path, str(os.getpid()))
    tasks.wait_for(f"{path}-go")
    return os.getpid()


def is_dead(pid):
    """Gone, or waiting to be reaped by whoever it was left to."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# --- death ------------------------------------------------------------------------------------------------------------


def test_a_killed_worker_takes_only_its_own_call_with_it(stage):
    victim = stage.start(my_pid_noted, stage.path("victim"))
    other = stage.start(my_pid_noted, stage.path("other"))
    pid = int(stage.wait_for_file("victim"))
    stage.wait_for_file("other")
    os.kill(pid, signal.SIGKILL)
    event = stage.end_of(victim)
    assert isinstance(event, Failed)
    assert event.system
    assert event.ended
    assert isinstance(event.error, TaskLostError)
    assert "my_pid_noted" in str(event.error)
    assert "SIGKILL" in str(event.error)
    assert is_dead(pid)
    assert stage.of(other) == []
    assert stage.value(my_pid) != pid
    stage.let_go("other-go")
    assert stage.value_of(stage.end_of(other)) not in (pid, os.getpid())


@pytest.mark.parametrize(
    ("how", "said"), [(lambda: os._exit(3), "status 3"), (lambda: os.abort(), "SIGABRT"), (lambda: _crash(), "SIGKILL")]
)
def test_a_worker_that_dies_by_itself_says_how(stage, how, said, capfd):
    event = stage.call(task(how))
    assert isinstance(event, Failed)
    assert event.system
    assert said in str(event.error)
    assert stage.value(tasks.add, 1) == 2


def _crash():
    raise SimulatedCrash(FailurePoint.BEFORE_RUN)


def test_an_undo_whose_process_dies_has_failed(stage):
    undone = task(rollback=lambda: os._exit(3))(my_pid.function)
    event = stage.call(undone, kind=CallKind.UNDO, inputs=[Live(((), {}))])
    assert isinstance(event, UndoFailed)
    assert isinstance(event.error, TaskLostError)


def test_an_idle_worker_that_was_killed_is_replaced_unnoticed(stage):
    pid = stage.value(my_pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_dead(pid))
    assert stage.value(my_pid) != pid


def test_a_nursery_that_was_killed_is_replaced_and_its_workers_are_lost(stage):
    attempt = stage.start(my_pid_noted, stage.path("victim"))
    stage.wait_for_file("victim")
    nursery._popen.kill()
    event = stage.end_of(attempt)
    assert isinstance(event.error, TaskLostError)
    assert stage.value(tasks.add, 1) == 2


def test_stopping_kills_what_the_task_has_started_too(stage):
    @task
    def start_another(path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        tasks.note(path, f"{os.getpid()} {child.pid}")
        child.wait()

    attempt = stage.start(start_another, stage.path("pids"))
    pids = [int(pid) for pid in stage.wait_for_file("pids").split()]
    stage.executor.stop(attempt)
    assert stage.end_of(attempt) == Ended(attempt)
    wait_until(lambda: all(map(is_dead, pids)))
    assert stage.value(tasks.add, 1) == 2


def test_a_worker_is_lost_even_if_something_it_forked_keeps_its_socket_open(stage):
    @task
    def fork(path):
        if not os.fork():
            os.setsid()  # out of the group that is killed
            tasks.wait_for(path)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    event = stage.call(fork, stage.path("go"))
    assert isinstance(event.error, TaskLostError)


def test_workers_die_with_the_process_that_started_them(tmp_path):
    program = f"""
        import os, queue, sys, time
        from exoflow.executors.contract import *
        from exoflow.executors.processes import ProcessExecutor
        from exoflow.stores.memory import MemoryStore
        from exoflow.tasks.task import task
        from exoflow.values import PickleCodec

        @task
        def hang(path):
            open(path, "w").write(str(os.getpid()))
            os.rename(path, path + "-pid")
            while True:
                pass

        executor = ProcessExecutor(Services(MemoryStore(), PickleCodec(), print))
        call = Call(CallKind.TASK, "j.1", "w", "t", 1, "k", hang, ({str(tmp_path / "worker")!r},), {{}}, [],
                    Persistence.NONE, "b")
        executor.start(call)
        time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], env=_environment())
    wait_until((tmp_path / "worker-pid").exists)
    pid = int((tmp_path / "worker-pid").read_text())
    assert not is_dead(pid)
    process.kill()
    process.wait()
    wait_until(lambda: is_dead(pid))


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# --- which process ----------------------------------------------------------------------------------------------------


def test_workers_are_used_again(stage):
    pids = {stage.value(my_pid) for _ in range(20)}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_isolation_gets_a_fresh_process_which_is_gone_afterwards(stage):
    alone = my_pid.options(isolation=True)
    ordinary = stage.value(my_pid)
    pids = [stage.value(alone) for _ in range(3)]
    assert len({ordinary, os.getpid(), *pids}) == 5
    wait_until(lambda: all(not pathlib.Path(f"/proc/{pid}").exists() for pid in pids))
    assert stage.value(my_pid) == ordinary


def test_nothing_is_left_when_it_is_closed(stage):
    pids = [stage.value(my_pid)]
    attempt = stage.start(my_pid_noted, stage.path("busy"))
    pids.append(int(stage.wait_for_file("busy")))
    stage.finish()
    assert all(not pathlib.Path(f"/proc/{pid}").exists() for pid in pids)
    assert stage.of(attempt) == []


def test_no_descriptor_is_lost_with_a_process(stage):
    alone = my_pid.options(isolation=True)
    stage.value(alone)
    before = _descriptors()
    for _ in range(3):
        stage.value(alone)
        stage.call(task(lambda: os._exit(1)))
    wait_until(lambda: _descriptors() <= before + 2)  # of the process that is just being reaped


def _descriptors():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def test_a_worker_inherits_no_file_of_this_process(stage, tmp_path):
    @task
    def open_files():
        found = []
        for each in pathlib.Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the listing's own
                found.append(str(each.readlink()))
        return found

    with (tmp_path / "journal").open("w") as journal:
        os.set_inheritable(journal.fileno(), False)
        assert str(tmp_path / "journal") not in stage.value(open_files)


def test_a_worker_finds_the_surroundings_of_this_moment(stage, monkeypatch, tmp_path, capfd):
    @task
    def look():
        print("seen", flush=True)
        print("also seen", file=sys.stderr)
        return os.environ.get("EXOFLOW_TEST"), str(pathlib.Path.cwd()), "marked" in sys.path

    stage.value(my_pid.options(isolation=True))  # whatever is started early is there by now
    monkeypatch.setenv("EXOFLOW_TEST", "now")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("marked")
    assert stage.value(look.options(isolation=True)) == ("now", str(tmp_path), True)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("seen\n", "also seen\n")


# --- what travels -----------------------------------------------------------------------------------------------------


def test_tasks_of_main_and_their_exceptions_keep_their_identity(tmp_path):
    program = """
        import queue
        from exoflow.executors.contract import *
        from exoflow.executors.processes import ProcessExecutor
        from exoflow.graph.dag import Upstream
        from exoflow.stores.memory import MemoryStore
        from exoflow.tasks.task import task
        from exoflow.values import *

        class MyError(Exception):
            pass

        class Seat:
            def __init__(self, number):
                self.number = number

        helper = lambda seat: Seat(seat.number + 1)

        @task
        def next_seat(seat):
            if seat.number > 1:
                raise MyError(seat.number)
            return helper(seat)

        reports = queue.SimpleQueue()
        store, codec = MemoryStore(), PickleCodec()
        executor = ProcessExecutor(Services(store, codec, reports.put), workers=1)

        def call(value):
            executor.start(Call(CallKind.TASK, "j.1", "w", "t", 1, "k", next_seat, (Upstream(0),), {}, [value],
                                Persistence.BEFORE, "b"))
            return reports.get(timeout=60)

        first = call(Live(Seat(1)))
        seat = restore(first.value, codec, store)
        assert type(seat) is Seat and seat.number == 2, seat
        failed = call(first.value)
        assert type(failed.error) is MyError and failed.error.args == (2,), failed
        executor.close()
        print("good")
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, script], env=_environment(), capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_a_task_of_a_module_that_is_no_importable_name_is_found_by_its_file(stage):
    assert not my_pid.function.__module__.startswith("exoflow")
    assert stage.value(my_pid) > 0


def test_an_argument_that_cannot_travel_names_its_task(stage):
    for event in (
        stage.call(tasks.everything, threading.Lock()),
        stage.call(tasks.everything, Upstream(0), inputs=[Live(threading.Lock())]),
    ):
        assert isinstance(event, Failed)
        assert isinstance(event.error, ArgumentError)
        assert event.error.task == "everything"
        assert "lock" in event.error.problem
    assert stage.value(tasks.add, 1) == 2


def test_a_task_that_cannot_travel_is_told_so(stage):
    lock = threading.Lock()
    event = stage.call(task(lambda: lock))
    assert isinstance(event.error, UsageError)
    assert "top level of a module" in str(event.error)


def test_a_result_that_cannot_travel_has_failed_even_if_it_is_not_to_be_stored(stage):
    event = stage.call(tasks.unstorable)
    assert isinstance(event, Failed)
    assert isinstance(event.error, UnserializableResultError)
    assert not event.system


def test_a_result_that_cannot_be_read_here_does_not_harm_the_executor(stage):
    @task
    def trick():
        class OnlyThereError(Exception):
            def __reduce__(self):
                return eval, (f"ValueError() if __import__('os').getpid() == {os.getpid()} else 1 / 0",)

        raise OnlyThereError

    event = stage.call(trick)
    assert isinstance(event, Failed)
    assert isinstance(event.error, Exception)
    assert stage.value(tasks.add, 1) == 2


def test_a_worker_is_sent_a_task_once_and_forgets_when_there_are_too_many(stage, monkeypatch):
    monkeypatch.setattr("exoflow.executors.processes._TASKS_KNOWN", 3)
    made = [task(functools.partial(pow, base)).options(task_id=f"t{base}") for base in range(8)]
    for _ in range(2):
        assert [stage.value(each, 2) for each in made] == [base**2 for base in range(8)]


def test_a_coroutine_knows_its_context_in_a_worker(stage):
    @task
    async def who():
        return context().attempt

    assert stage.value(who, attempt="j.77") == "j.77"


# --- a store that workers open ----------------------------------------------------------------------------------------


def test_a_worker_reads_and_writes_blobs_itself(shared_stage):
    event = shared_stage.call(tasks.big_text, 100_000, persistence=Persistence.BEFORE)
    assert event.value is event.payload, "the bytes did not come here"
    assert shared_stage.store.writer(event.payload.blob) not in (os.getpid(), nursery._popen.pid)
    assert shared_stage.value(task(len), Upstream(0), inputs=[event.value]) == 100_000


def test_after_the_value_comes_at_once_and_the_worker_writes_it(shared_stage):
    attempt = shared_stage.start(tasks.big_text, 100_000, persistence=Persistence.AFTER)
    event = shared_stage.end_of(attempt)
    assert event.payload is None
    assert isinstance(event.value, Payload)
    assert event.value.blob is None
    stored = shared_stage.durable(attempt)
    assert shared_stage.store.writer(stored.payload.blob) != os.getpid()


def test_an_outcome_whose_worker_dies_storing_it_is_stored_from_here(shared_stage):
    attempt = shared_stage.start(tasks.big_text, 100_000, persistence=Persistence.AFTER, attempt="die while writing")
    assert isinstance(shared_stage.end_of(attempt), Finished)
    stored = shared_stage.durable(attempt)
    assert isinstance(stored, Persisted)
    assert shared_stage.store.writer(stored.payload.blob) == os.getpid()
    assert shared_stage.of(attempt)[-1] == stored


def test_before_an_outcome_whose_worker_dies_storing_it_is_lost(shared_stage):
    event = shared_stage.call(tasks.big_text, 100_000, persistence=Persistence.BEFORE, attempt="die while writing")
    assert isinstance(event, Failed)
    assert event.system
    assert isinstance(event.error, TaskLostError)
