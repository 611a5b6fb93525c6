"""OpenTelemetry spans: one for each run of a workflow, and below it one for each attempt of a task.

Spans have the times that the engine tells, so they are right however late they are made. Nothing here imports
OpenTelemetry before the application has, and where no tracer provider is configured there is no observer.
"""

from typing import TYPE_CHECKING, Any

import attrs

import exoflow
from exoflow.plugins.observing import Happening, Moment, Observer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["SpanObserver", "observe_with_spans"]

_STARTS = (Moment.TASK_STARTED, Moment.TASK_RETRIED)
_ENDS = (Moment.TASK_FINISHED, Moment.TASK_FAILED)
_NOTED = (Moment.TASK_LOADED, Moment.TASK_UNDONE)


def observe_with_spans() -> Observer | None:
    """Return an observer for one engine; None if no tracer provider is configured, or if it was switched off."""
    from opentelemetry import trace

    tracer = trace.get_tracer_provider().get_tracer("exoflow", exoflow.__version__)
    if isinstance(tracer, trace.NoOpTracer | trace.ProxyTracer):
        return None
    return SpanObserver(tracer)


@attrs.frozen
class _Workflow:
    span: "Span"
    context: "Context"
    """Has `span` as the parent of what is started in it."""
    attempts: "dict[str, Span]" = attrs.field(factory=dict)


class SpanObserver:
    """Makes a span of each workflow run and each attempt, when it ends.

    A run that its engine leaves unfinished (because the engine was closed, or its store failed) has no end to tell;
    its spans end where the same engine takes it up again.

    Args:
        tracer: Makes the spans.
    """

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer
        self._workflows: dict[str, _Workflow] = {}

    def observe(self, happening: Happening) -> None:
        """Start, end or annotate the span that *happening* belongs to."""
        moment = happening.moment
        if moment is Moment.WORKFLOW_STARTED:
            self._end_workflow(happening)  # one that was left, and is now gone on with
            self._start_workflow(happening)
            return
        workflow = self._workflows.get(happening.workflow_id)
        if workflow is None:
            return
        if moment in _STARTS:
            workflow.attempts[happening.attempt] = self._tracer.start_span(
                _name_of(happening),
                context=workflow.context,
                attributes=_attributes_of(happening),
                start_time=_nanoseconds(happening.at),
            )
        elif moment in _ENDS and happening.attempt in workflow.attempts:
            _end(workflow.attempts.pop(happening.attempt), happening)
        elif moment in _NOTED or moment is Moment.TASK_FAILED:  # failed before it began: its arguments, its timer
            attributes = _attributes_of(happening)
            if happening.problem:
                attributes["exception.message"] = happening.problem
            workflow.span.add_event(moment.value, attributes, _nanoseconds(happening.at))
        elif moment is Moment.WORKFLOW_ENDED:
            self._end_workflow(happening)

    def _start_workflow(self, happening: Happening) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        # An empty context: the thread that happens to tell this may be in a span of something else.
        span = self._tracer.start_span(
            "exoflow.workflow",
            context=Context(),
            attributes={"exoflow.workflow_id": happening.workflow_id},
            start_time=_nanoseconds(happening.at),
        )
        self._workflows[happening.workflow_id] = _Workflow(span, set_span_in_context(span, Context()))

    def _end_workflow(self, happening: Happening) -> None:
        workflow = self._workflows.pop(happening.workflow_id, None)
        if workflow is None:
            return
        for attempt in workflow.attempts.values():  # nobody waits for them any longer
            attempt.set_attribute("exoflow.unfinished", True)
            attempt.end(_nanoseconds(happening.at))
        if happening.moment is not Moment.WORKFLOW_ENDED:
            workflow.span.set_attribute("exoflow.unfinished", True)
        _end(workflow.span, happening)


def _end(span: "Span", happening: Happening) -> None:
    at = _nanoseconds(happening.at)
    if happening.problem:
        from opentelemetry.trace import Status, StatusCode

        span.add_event("exception", {"exception.message": happening.problem}, at)
        span.set_status(Status(StatusCode.ERROR, happening.problem))
    span.end(at)


def _name_of(happening: Happening) -> str:
    # Tasks of a continuation are told apart by the attempt that made them: no name to count spans by.
    return "exoflow.task" if "/" in happening.task_id else happening.task_id


def _attributes_of(happening: Happening) -> dict[str, Any]:
    return {
        "exoflow.workflow_id": happening.workflow_id,
        "exoflow.task_id": happening.task_id,
        "exoflow.attempt": happening.attempt,
        "exoflow.incarnation": happening.number,
    }


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
