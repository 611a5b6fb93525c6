import logging

import attrs
import pytest

from exoflow.errors import UsageError
from exoflow.executors.inline import InlineExecutor
from exoflow.stores.memory import MemoryStore
from exoflow.tasks.context import context, continuation
from exoflow.tasks.task import task
from exoflow.tasks.verdicts import DidNotHappen, Happened, Unknown, read_verdict
from exoflow.testing.executors import Stage


def test_outside_of_a_task_there_is_no_context_and_the_error_says_where_to_call_it():
    with pytest.raises(UsageError, match="outside of a task; call it in the task's own function"):
        context()


def test_a_continuation_is_its_node_so_that_functions_can_be_called_as_functions():
    node = task(len).bind("abc")
    assert continuation(node) is node


@pytest.mark.parametrize("wrong", [None, 3, task(len), [task(len).bind("abc")]])
def test_a_continuation_of_anything_but_a_node_is_refused(wrong):
    with pytest.raises(UsageError, match="expected a node"):
        continuation(wrong)


def test_the_logger_says_which_task_speaks(tmp_path, caplog):
    @task
    def speak():
        context().logger.info("%d rows", 3, extra={"rows": 3})
        return context()

    caplog.set_level(logging.INFO, "exoflow.task")
    stage = Stage(InlineExecutor, MemoryStore(), tmp_path, 60.0)
    found = stage.value(speak)
    (record,) = caplog.records
    assert record.getMessage() == "[workflow-1 speak#1] 3 rows"
    assert (record.workflow_id, record.task_id, record.incarnation, record.rows) == ("workflow-1", "speak", 1, 3)
    assert record.attempt == found.attempt
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.attempt = "another"
    stage.finish()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Happened(3), (True, 3)),
        (Happened(), (True, None)),
        (Happened, (True, None)),
        (DidNotHappen(), (False, None)),
        (DidNotHappen, (False, None)),
        (Unknown(), (None, None)),
        (Unknown, (None, None)),
    ],
)
def test_a_verdict_may_be_a_class_or_an_instance(answer, expected):
    assert read_verdict("pay", answer) == expected


@pytest.mark.parametrize("answer", [None, True, "happened", Exception])
def test_anything_else_is_no_verdict(answer):
    with pytest.raises(UsageError, match=r"'pay'.*expected exoflow.Happened"):
        read_verdict("pay", answer)
