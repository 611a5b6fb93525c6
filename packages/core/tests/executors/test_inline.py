import pytest

from exoflow.engine.events import Finished, Persisted
from exoflow.executors.contract import Persistence
from exoflow.executors.inline import InlineExecutor
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.stores.memory import MemoryStore
from exoflow.tasks.task import task
from exoflow.testing import executor_tasks as tasks
from exoflow.testing.executors import ExecutorContract, GatedStore, Stage


class TestInlineExecutor(ExecutorContract):
    @pytest.fixture
    def open_executor(self):
        return InlineExecutor


@pytest.fixture
def stage(tmp_path):
    stage = Stage(InlineExecutor, MemoryStore(), tmp_path, 60.0)
    yield stage
    stage.finish()


def test_a_function_has_been_reported_when_start_returns(stage):
    attempt = stage.start(tasks.add, 1)
    assert [type(event) for event in stage.of(attempt)] == [Finished]


def test_an_interrupt_on_the_main_thread_is_the_users_and_not_the_tasks(stage):
    @task
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.start(interrupted)
    assert stage.events == []


def test_a_simulated_crash_goes_through(stage):
    @task
    def crash():
        raise SimulatedCrash(FailurePoint.BEFORE_RUN)

    with pytest.raises(SimulatedCrash):
        stage.start(crash)
    assert stage.events == []


def test_a_large_outcome_is_written_beside_the_next_call(tmp_path):
    store = GatedStore()
    stage = Stage(InlineExecutor, store, tmp_path, 60.0)
    attempt = stage.start(tasks.big_text, 100_000, persistence=Persistence.AFTER)
    assert stage.value(tasks.add, 1) == 2
    assert [type(event) for event in stage.of(attempt)] == [Finished]
    stage.executor.stop(attempt)
    store.gate.set()
    stage.wait_for(lambda: len(stage.of(attempt)) == 3, "what became of writing it, and its end")
    assert isinstance(stage.of(attempt)[1], Persisted)
    stage.finish()
