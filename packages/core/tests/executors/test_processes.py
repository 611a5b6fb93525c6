import functools

import pytest

from exoflow.executors.processes import ProcessExecutor
from exoflow.testing.executors import ExecutorContract


class TestProcessExecutor(ExecutorContract):
    at_once = 2
    coroutines_at_once = 2
    many = 1000

    @pytest.fixture
    def open_executor(self):
        return functools.partial(ProcessExecutor, workers=2)
