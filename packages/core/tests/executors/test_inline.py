import pytest

from exoflow.executors.inline import InlineExecutor
from exoflow.testing.executors import ExecutorContract


class TestInlineExecutor(ExecutorContract):
    @pytest.fixture
    def open_executor(self):
        return InlineExecutor
