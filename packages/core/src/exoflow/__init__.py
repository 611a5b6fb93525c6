"""Run DAGs of tasks exactly once through any crash, and choose per task what durability may cost.

Declare functions with `task`, bind them into a DAG, and `run` it under an id. After a crash, run it again, or
`resume` it: what was committed is not done again, and what was not is done again only where that can never be seen.
"""

from typing import TYPE_CHECKING, Any

from exoflow.api.functions import (
    cancel,
    delete,
    fork,
    gc,
    list,  # noqa: A004 - the name users meet
    result,
    resume,
    resume_all,
    run,
    send_event,
    settle,
    show,
    start,
    start_many,
    status,
)
from exoflow.errors import (
    ArgumentError,
    CodeChangedError,
    CorruptCheckpointError,
    CycleError,
    ExoFlowError,
    FencedError,
    NeedsAttentionError,
    ObjectNotFoundError,
    PluginConflictError,
    TaskFailedError,
    TaskLostError,
    TaskTimeoutError,
    UnavailableError,
    UnknownExecutorError,
    UnknownOptionError,
    UnknownOutcomeError,
    UnknownStoreError,
    UnserializableResultError,
    UnsuitableStoreError,
    UnsupportedFormatError,
    UsageError,
    WorkflowCancelledError,
    WorkflowMismatchError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from exoflow.graph.node import Input, Node
from exoflow.states import TaskInfo, TaskState, WorkflowDetail, WorkflowInfo, WorkflowStatus
from exoflow.tasks.context import Context, context, continuation
from exoflow.tasks.policy import Checkpoint, Effects, TaskPolicy
from exoflow.tasks.task import Task, task
from exoflow.tasks.verdicts import DidNotHappen, Happened, Unknown
from exoflow.tasks.waits import sleep, wait_for_event

if TYPE_CHECKING:
    from exoflow.api.engine import Engine
    from exoflow.api.handle import Handle

__version__ = "0.1.0"

__all__ = [
    "ArgumentError", "Checkpoint", "CodeChangedError", "Context", "CorruptCheckpointError", "CycleError",
    "DidNotHappen", "Effects", "Engine", "ExoFlowError", "FencedError", "Handle", "Happened", "Input",
    "NeedsAttentionError", "Node", "ObjectNotFoundError", "PluginConflictError", "Task", "TaskFailedError", "TaskInfo",
    "TaskLostError", "TaskPolicy", "TaskState", "TaskTimeoutError", "UnavailableError", "Unknown",
    "UnknownExecutorError", "UnknownOptionError", "UnknownOutcomeError", "UnknownStoreError",
    "UnserializableResultError", "UnsuitableStoreError", "UnsupportedFormatError", "UsageError",
    "WorkflowCancelledError", "WorkflowDetail", "WorkflowInfo", "WorkflowMismatchError", "WorkflowNotFoundError",
    "WorkflowRunningError", "WorkflowStatus", "cancel", "context", "continuation", "delete", "fork", "gc", "list",
    "result", "resume", "resume_all", "run", "send_event", "settle", "show", "sleep", "start", "start_many", "status",
    "task", "wait_for_event",
]  # fmt: skip

_LATER = {"Engine": "exoflow.api.engine", "Handle": "exoflow.api.handle"}


def __getattr__(name: str) -> Any:
    # The engine is worth a tenth of a second; who only declares tasks, as every worker process does, need not pay it.
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'exoflow' has no attribute {name!r}")


def __dir__() -> Any:
    return sorted({*globals(), *_LATER})
