import inspect
import sys

import attrs
import click
import pytest
from click.testing import CliRunner

import exoflow
from exoflow.cli import main
from exoflow.cli.main import cli
from exoflow.errors import WorkflowNotFoundError
from exoflow.plugins import hookimpl, manager
from exoflow.plugins.observing import Happening, Moment
from exoflow.states import TaskInfo, TaskState, WorkflowDetail, WorkflowInfo, WorkflowStatus


@attrs.define
class Garbage:
    workflows_removed: int = 0
    blobs_removed: int = 0


class FakeHandle:
    def __init__(self, workflow_id, outcome, observers=()):
        self.workflow_id = workflow_id
        self._outcome = outcome
        self._observers = observers

    def result(self, timeout_s=None):
        for observer in self._observers:
            observer.observe(
                Happening(moment=Moment.WORKFLOW_STARTED, workflow_id=self.workflow_id, at=0.0, tasks_total=1)
            )
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome() if callable(self._outcome) else self._outcome

    def status(self):
        return WorkflowStatus.FAILED if isinstance(self._outcome, BaseException) else WorkflowStatus.SUCCEEDED


class FakeEngine:
    """Stands for the engine: notes how it is called, and answers what a test has set."""

    def __init__(self):
        self.opened = []
        self.calls = []
        self.outcomes = {}
        self.outcome = "the result"
        self.infos = []
        self.tasks = ()
        self.closed = 0
        self.state = WorkflowStatus.RUNNING
        self.missing = 0

    def __call__(
        self, storage="memory://", executor="thread", *, codec="pickle", failures=(), observers=(), max_workers=None
    ):
        self.opened.append(
            {"storage": storage, "executor": executor, "codec": codec, "failures": failures, "max_workers": max_workers}
        )
        self.observers = observers
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed += 1

    def _answer(self, workflow_id):
        outcome = self.outcomes.get(workflow_id, self.outcome)
        return FakeHandle(workflow_id, outcome, self.observers)

    def _call(self, method, *args, **kwargs):
        self.calls.append((method, args, kwargs))

    def start(self, node, *, workflow_id=None, inputs=None, metadata=None, name=None):
        self._call("start", node, workflow_id=workflow_id, inputs=inputs, metadata=metadata, name=name)
        return self._answer(workflow_id or "made-up")

    def resume(self, workflow_id, *, accept_code_change=False):
        if self.missing:
            self.missing -= 1
            raise ModuleNotFoundError("No module named 'trip'", name="trip")
        self._call("resume", workflow_id, accept_code_change=accept_code_change)
        return self._answer(workflow_id)

    def status(self, workflow_id):
        return self.state

    def fork(self, workflow_id, from_task, *, new_id=None):
        self._call("fork", workflow_id, from_task, new_id=new_id)
        return self._answer(new_id or "made-up")

    def result(self, workflow_id, timeout_s=None):
        self._call("result", workflow_id, timeout_s=timeout_s)
        return self._answer(workflow_id).result()

    def list(self, status=None):
        return [info for info in self.infos if status is None or info.status == status]

    def show(self, workflow_id):
        for info in self.infos:
            if info.workflow_id == workflow_id:
                return WorkflowDetail(info=info, tasks=self.tasks)
        raise WorkflowNotFoundError(workflow_id, "file://./flows")

    def cancel(self, workflow_id):
        self._call("cancel", workflow_id)

    def delete(self, workflow_id):
        self._call("delete", workflow_id)

    def send_event(self, workflow_id, event, payload=None, *, message_id=None):
        self._call("send_event", workflow_id, event, payload, message_id=message_id)

    def settle(self, workflow_id, task_id, *, happened, value=None):
        self._call("settle", workflow_id, task_id, happened=happened, value=value)

    def gc(self, *, older_than_s):
        self._call("gc", older_than_s=older_than_s)
        return Garbage(workflows_removed=2, blobs_removed=5)


@pytest.fixture
def engine(monkeypatch):
    fake = FakeEngine()
    monkeypatch.setattr(exoflow, "Engine", fake, raising=False)
    return fake


@pytest.fixture
def info():
    def make(workflow_id="trip-42", status=WorkflowStatus.SUCCEEDED, created_at=1_700_000_000.0, **fields):
        return WorkflowInfo(workflow_id=workflow_id, name="book", status=status, created_at=created_at, **fields)

    return make


@pytest.fixture
def task():
    def make(task_id, state=TaskState.COMMITTED, **fields):
        return TaskInfo(task_id=task_id, state=state, **fields)

    return make


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the command in an empty folder, with a storage named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXOFLOW_STORAGE", "file://./flows")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    # click before 8.2 has to be told to keep stderr apart
    told = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    yield lambda *words, **options: CliRunner(**told).invoke(cli, words, **options)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def plugin_command(monkeypatch):
    """Install a plugin with commands, as far as the command can tell."""

    def install(**factories):
        class Plugin:
            @staticmethod
            @hookimpl
            def exoflow_cli_commands():
                return factories

        class Manager(manager.PluginManager):
            def __init__(self, **options):
                super().__init__(entry_points=[], blocked=[], **options)
                self._load("extra", None, Plugin)

        monkeypatch.setattr(manager, "PluginManager", Manager)
        monkeypatch.setattr(manager, "manager", lambda: Manager())
        main._tolerant.cache_clear()

    yield install
    main._tolerant.cache_clear()


@pytest.fixture
def hello():
    @click.command("hello", short_help="Says hello.")
    def command():
        click.echo("hello")

    return command


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the output must not depend on how wide the terminal of whoever runs the tests is."""
    monkeypatch.setenv("COLUMNS", "200")
