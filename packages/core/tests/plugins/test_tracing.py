import subprocess
import sys

import pytest

import exoflow
from exoflow.failures.points import SimulatedCrash
from exoflow.plugins import builtin
from exoflow.plugins.observing import Happening, Moment
from exoflow.plugins.tracing import SpanObserver

trace = pytest.importorskip("opentelemetry.trace")
pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import StatusCode  # noqa: E402


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def configured(provider, monkeypatch):
    """Tracing, configured for one test: the real setter can be called once per process."""
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)


def spans_of(exporter):
    """The workflow's span, and those of its tasks in the order in which they started."""
    spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)
    (workflow,) = (span for span in spans if span.name == "exoflow.workflow")
    return workflow, [span for span in spans if span is not workflow]


@exoflow.task(effects="none")
def double(n):
    return 2 * n


@exoflow.task
def add(a, b):
    return a + b


@exoflow.task
def grow(n):
    return exoflow.continuation(double.bind(n))


@exoflow.task
def explode(n):
    raise LookupError(f"nothing at {n}")


# --- on the engine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["thread", "inline"])
@pytest.mark.usefixtures("configured")
def test_a_workflow_is_a_span_with_a_span_for_each_task_below_it(exporter, executor):
    with exoflow.Engine("memory://", executor) as engine:
        assert engine.run(add.bind(double.bind(1), grow.bind(2)), workflow_id="w") == 6

    workflow, tasks = spans_of(exporter)
    assert workflow.parent is None
    assert dict(workflow.attributes) == {"exoflow.workflow_id": "w"}
    assert workflow.status.status_code is StatusCode.UNSET
    assert workflow.instrumentation_scope.name == "exoflow"
    assert workflow.instrumentation_scope.version == exoflow.__version__
    assert sorted(span.name for span in tasks) == ["add", "double", "exoflow.task", "grow"]
    for span in tasks:
        assert span.parent.span_id == workflow.context.span_id
        assert workflow.start_time <= span.start_time <= span.end_time <= workflow.end_time
        assert span.attributes["exoflow.workflow_id"] == "w"
        assert span.name in (span.attributes["exoflow.task_id"], "exoflow.task")
        assert span.attributes["exoflow.incarnation"] == 1
        assert span.status.status_code is StatusCode.UNSET
    assert len({span.attributes["exoflow.attempt"] for span in tasks}) == 4


@pytest.mark.usefixtures("configured")
def test_each_attempt_has_a_span_and_a_failed_one_says_why(exporter):
    attempts = []

    @exoflow.task(retries=1, retry_delay_s=0.0)
    def flaky():
        attempts.append(exoflow.context().attempt)
        if len(attempts) == 1:
            raise ConnectionError("no route")
        return 7

    with exoflow.Engine() as engine:
        assert engine.run(flaky.bind()) == 7

    workflow, (first, second) = spans_of(exporter)
    assert [span.attributes["exoflow.attempt"] for span in (first, second)] == attempts
    assert [span.attributes["exoflow.incarnation"] for span in (first, second)] == [1, 2]
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "ConnectionError('no route')"
    (event,) = first.events
    assert event.name == "exception"
    assert dict(event.attributes) == {"exception.message": "ConnectionError('no route')"}
    assert second.status.status_code is StatusCode.UNSET
    assert workflow.status.status_code is StatusCode.UNSET


@pytest.mark.usefixtures("configured")
def test_a_failed_workflow_says_why(exporter):
    with exoflow.Engine() as engine, pytest.raises(exoflow.TaskFailedError):
        engine.run(explode.bind(3))

    workflow, (task,) = spans_of(exporter)
    assert task.status.description == "LookupError('nothing at 3')"
    assert workflow.status.status_code is StatusCode.ERROR
    assert "nothing at 3" in workflow.status.description


@pytest.mark.usefixtures("configured")
def test_what_recovery_found_done_is_an_event_of_the_workflow(exporter):
    node = add.bind(grow.bind(1), 5)
    with (
        exoflow.Engine("memory://traced", failures=["add.crash"]) as engine,
        pytest.raises(SimulatedCrash),
    ):
        engine.run(node, workflow_id="w")
    exporter.clear()

    with exoflow.Engine("memory://traced") as engine:
        assert engine.run(node, workflow_id="w") == 7

    workflow, tasks = spans_of(exporter)
    assert [span.name for span in tasks] == ["add"]
    assert "grow" in {event.attributes["exoflow.task_id"] for event in workflow.events}
    assert {event.name for event in workflow.events} == {"task_loaded"}


@pytest.mark.usefixtures("configured")
def test_a_span_of_the_caller_is_not_taken_for_the_parent_of_a_workflow(exporter, provider):
    with provider.get_tracer("caller").start_as_current_span("request"), exoflow.Engine(executor="inline") as engine:
        engine.run(double.bind(1))

    assert all(span.parent is None for span in exporter.get_finished_spans() if span.name == "exoflow.workflow")


# --- without an engine --------------------------------------------------------------------------------------------------


def happening(moment, at, **fields):
    return Happening(moment=moment, workflow_id="w", at=at, **fields)


@pytest.fixture
def observer(provider):
    return SpanObserver(provider.get_tracer("test"))


def test_spans_have_the_times_of_what_happened(observer, exporter):
    of_task = {"task_id": "a", "attempt": "j.1", "number": 3}
    observer.observe(happening(Moment.WORKFLOW_STARTED, 1.5))
    observer.observe(happening(Moment.TASK_STARTED, 2.25, **of_task))
    observer.observe(happening(Moment.TASK_FINISHED, 3.25, **of_task))
    observer.observe(happening(Moment.TASK_COMMITTED, 3.5, **of_task))
    observer.observe(happening(Moment.WORKFLOW_ENDED, 4.0))

    task, workflow = exporter.get_finished_spans()
    assert (workflow.start_time, workflow.end_time) == (1_500_000_000, 4_000_000_000)
    assert (task.start_time, task.end_time) == (2_250_000_000, 3_250_000_000)
    assert task.attributes["exoflow.incarnation"] == 3
    assert not workflow.events


def test_attempts_that_nobody_waits_for_end_with_their_workflow(observer, exporter):
    observer.observe(happening(Moment.WORKFLOW_STARTED, 1.0))
    observer.observe(happening(Moment.TASK_STARTED, 2.0, task_id="slow", attempt="j.1", number=1))
    observer.observe(happening(Moment.WORKFLOW_ENDED, 3.0))
    observer.observe(happening(Moment.TASK_FINISHED, 4.0, task_id="slow", attempt="j.1", number=1))

    task, _ = exporter.get_finished_spans()
    assert task.end_time == 3_000_000_000
    assert task.attributes["exoflow.unfinished"] is True


def test_a_workflow_that_was_left_ends_where_it_is_gone_on_with(observer, exporter):
    observer.observe(happening(Moment.WORKFLOW_STARTED, 1.0))
    observer.observe(happening(Moment.TASK_STARTED, 2.0, task_id="a", attempt="j.1", number=1))
    observer.observe(happening(Moment.WORKFLOW_STARTED, 3.0))
    assert len(exporter.get_finished_spans()) == 2
    observer.observe(happening(Moment.WORKFLOW_ENDED, 4.0))

    left, whole = [span for span in exporter.get_finished_spans() if span.name == "exoflow.workflow"]
    assert left.attributes["exoflow.unfinished"] is True
    assert "exoflow.unfinished" not in whole.attributes


def test_what_has_no_span_of_its_own_is_an_event_of_the_workflow(observer, exporter):
    observer.observe(happening(Moment.WORKFLOW_STARTED, 1.0))
    observer.observe(happening(Moment.TASK_FAILED, 2.0, task_id="a", attempt="j.1", number=1, problem="ValueError()"))
    observer.observe(happening(Moment.TASK_UNDONE, 3.0, task_id="b", attempt="j.2", number=1))
    observer.observe(happening(Moment.WORKFLOW_ENDED, 4.0))

    (workflow,) = exporter.get_finished_spans()
    assert [event.name for event in workflow.events] == ["task_failed", "task_undone"]
    assert workflow.events[0].attributes["exception.message"] == "ValueError()"


def test_what_is_told_of_a_workflow_nobody_saw_start_is_ignored(observer, exporter):
    for moment in set(Moment) - {Moment.WORKFLOW_STARTED}:
        observer.observe(happening(moment, 1.0, task_id="a", attempt="j.1"))

    assert exporter.get_finished_spans() == ()


# --- whether there is anything to do ------------------------------------------------------------------------------------


def test_without_a_provider_there_is_no_observer(monkeypatch):
    for provider in (trace.ProxyTracerProvider(), trace.NoOpTracerProvider()):
        monkeypatch.setattr(trace, "get_tracer_provider", lambda provider=provider: provider)
        assert builtin.opentelemetry() is None


def test_where_the_sdk_is_switched_off_there_is_no_observer(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)

    assert builtin.opentelemetry() is None


@pytest.mark.usefixtures("configured")
def test_each_engine_has_an_observer_of_its_own():
    first, second = builtin.opentelemetry(), builtin.opentelemetry()

    assert isinstance(first, SpanObserver)
    assert first is not second


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_nothing_imports_opentelemetry_for_who_did_not():
    code = """
import sys
import exoflow, exoflow.plugins.tracing
from exoflow.plugins.manager import manager
made = manager()
made.plugins(), made.observers()
engine = exoflow.Engine()
engine.run(exoflow.task(len).bind("abc"))
print(made.observers(), engine._observers, [name for name in sys.modules if name.startswith("opentelemetry")])
engine.close()
"""
    assert run(code) == "[] () []"


def test_an_application_that_sets_a_provider_gets_spans():
    code = """
import exoflow
from opentelemetry import trace
assert not exoflow.Engine()._observers
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"{span.name} ")))
trace.set_tracer_provider(provider)
with exoflow.Engine() as engine:
    engine.run(exoflow.task(len).bind("abc"))
"""
    assert run(code) == "len exoflow.workflow"
