import functools

import pytest

from exoflow.executors.threads import ThreadExecutor
from exoflow.testing.executors import ExecutorContract


class TestThreadExecutor(ExecutorContract):
    at_once = 4

    @pytest.fixture
    def open_executor(self):
        return functools.partial(ThreadExecutor, workers=4)
