import pickle

import pytest

from exoflow.failures.points import TASK_POINTS, FailurePoint, SimulatedCrash


def test_no_handler_of_exceptions_survives_a_simulated_crash():
    assert not issubclass(SimulatedCrash, Exception)


def test_a_simulated_crash_can_be_told_without_importing_its_class():
    assert SimulatedCrash(FailurePoint.ON_SEAL).exoflow_simulated_crash is True


@pytest.mark.parametrize("task_id", ["", "train"])
def test_a_simulated_crash_pickles_there_and_back(task_id):
    crash = pickle.loads(pickle.dumps(SimulatedCrash(FailurePoint.AFTER_RECORD, task_id)))

    assert (crash.point, crash.task_id) == (FailurePoint.AFTER_RECORD, task_id)
    assert "after_record" in str(crash)


def test_points_that_concern_all_workflows_name_no_task():
    assert set(FailurePoint) - TASK_POINTS == {"before_flush", "after_flush", "on_claim", "on_seal", "before_answer"}
