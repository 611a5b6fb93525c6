"""Every error a user of ExoFlow can meet, sorted by what its reader does next.

::

    ExoFlowError
    ├── UsageError (ValueError)        change the code or the settings
    │   ├── UnknownStoreError          install the plugin that opens this URL
    │   ├── UnknownExecutorError       name an executor that is installed
    │   ├── UnknownOptionError         spell the option as one that exists
    │   ├── ArgumentError              give the task the argument it lacks, or one that can be stored
    │   ├── CycleError                 break the cycle
    │   ├── WorkflowMismatchError      take another workflow id, or the DAG this id began with
    │   ├── WorkflowNotFoundError      check the id and the storage URL
    │   ├── WorkflowRunningError       wait for the process that runs it
    │   ├── UnserializableResultError  return something that can be pickled, or choose checkpoint="skip"
    │   ├── CodeChangedError           bring the old code back, or accept the change
    │   ├── UnsupportedFormatError     install a newer exoflow-core
    │   ├── UnsuitableStoreError       take a store that can create an object if it is absent
    │   └── PluginConflictError        block one of two plugins
    ├── TaskFailedError                fix the task; ``__cause__`` is its own error
    ├── TaskTimeoutError               give the task more time, or less to do
    ├── TaskLostError                  find out what killed its process
    ├── WorkflowCancelledError         nothing: somebody asked for it
    ├── NeedsAttentionError            say what became of the effect, then resume; nothing was lost
    ├── UnavailableError               wait, then resume; nothing was lost
    │   └── UnknownOutcomeError        read back before believing either
    ├── ObjectNotFoundError (KeyError) the store has nothing under this key
    ├── FencedError                    stop: another controller owns this workflow
    └── CorruptCheckpointError         do not retry; the stored bytes are wrong

Messages name the value, what was expected and the next step. Every class pickles there and back: its
constructor's arguments are its ``args``.
"""

from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "CodeChangedError",
    "CorruptCheckpointError",
    "CycleError",
    "ExoFlowError",
    "FencedError",
    "NeedsAttentionError",
    "ObjectNotFoundError",
    "PluginConflictError",
    "TaskFailedError",
    "TaskLostError",
    "TaskTimeoutError",
    "UnavailableError",
    "UnknownExecutorError",
    "UnknownOptionError",
    "UnknownOutcomeError",
    "UnknownStoreError",
    "UnserializableResultError",
    "UnsuitableStoreError",
    "UnsupportedFormatError",
    "UsageError",
    "WorkflowCancelledError",
    "WorkflowMismatchError",
    "WorkflowNotFoundError",
    "WorkflowRunningError",
]


class ExoFlowError(Exception):
    """Base of everything this library raises on purpose."""


class UsageError(ExoFlowError, ValueError):
    """The code or the settings must change; trying again changes nothing."""


class UnknownStoreError(UsageError):
    """No installed plugin opens stores under this URL's scheme."""

    def __init__(self, url: str, schemes: Iterable[str]) -> None:
        self.url, self.schemes = url, tuple(sorted(schemes))
        super().__init__(url, self.schemes)

    def __str__(self) -> str:
        known = ", ".join(self.schemes) or "none"
        missing = "`pip install exoflow-storage`, then " if "file" not in self.schemes else ""
        return f"no plugin opens {self.url!r} (schemes installed: {known}); try {missing}`exoflow plugins`"


class UnknownExecutorError(UsageError):
    """No installed plugin offers an executor of this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(sorted(known))
        super().__init__(name, self.known)

    def __str__(self) -> str:
        hint = "`pip install exoflow-ray`" if self.name == "ray" else "`exoflow plugins`"
        return f"no executor is called {self.name!r} (installed: {', '.join(self.known) or 'none'}); try {hint}"


class UnknownOptionError(UsageError):
    """An option that does not exist, or a value it does not take."""


class ArgumentError(UsageError):
    """A task was bound to arguments it cannot be called with, or that cannot be stored."""

    def __init__(self, task: str, argument: str, problem: str) -> None:
        self.task, self.argument, self.problem = task, argument, problem
        super().__init__(task, argument, problem)

    def __str__(self) -> str:
        return f"task {self.task!r}, argument {self.argument!r}: {self.problem}"


class CycleError(UsageError):
    """Nodes that wait for each other in a circle."""


class WorkflowMismatchError(UsageError):
    """The id is taken by a workflow with another DAG."""

    def __init__(self, workflow_id: str, detail: str = "") -> None:
        self.workflow_id, self.detail = workflow_id, detail
        super().__init__(workflow_id, detail)

    def __str__(self) -> str:
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"workflow {self.workflow_id!r} was started with another DAG{more}; the id is an idempotency key: "
            f"take a new id for new work, or `exoflow delete {self.workflow_id}` first"
        )


class WorkflowNotFoundError(UsageError):
    """The storage knows no workflow of this id."""

    def __init__(self, workflow_id: str, store: str = "") -> None:
        self.workflow_id, self.store = workflow_id, store
        super().__init__(workflow_id, store)

    def __str__(self) -> str:
        return (
            f"no workflow {self.workflow_id!r} in {self.store or 'this storage'}; `exoflow list` shows those there are"
        )


class WorkflowRunningError(UsageError):
    """A live controller, perhaps in another process, runs this workflow; or what a dead one has left behind does."""

    left_behind: bool = False
    """Whether the owner is gone, and attempts of it still run in other processes."""

    def __init__(self, workflow_id: str, owner: str) -> None:
        self.workflow_id, self.owner = workflow_id, owner
        super().__init__(workflow_id, owner)

    def __str__(self) -> str:
        if self.left_behind:
            return (
                f"attempts of workflow {self.workflow_id!r} still run in processes that {self.owner} left behind; "
                f"they end soon, and `exoflow resume {self.workflow_id}` goes on then"
            )
        return (
            f"workflow {self.workflow_id!r} is being run by {self.owner}; "
            f"wait for it with `exoflow.result({self.workflow_id!r})`"
        )


class UnserializableResultError(UsageError):
    """A task's result cannot be stored."""

    def __init__(self, task: str, problem: str) -> None:
        self.task, self.problem = task, problem
        super().__init__(task, problem)

    def __str__(self) -> str:
        return (
            f"the result of task {self.task!r} cannot be stored: {self.problem}; "
            f'return something that can be pickled, or give the task checkpoint="skip"'
        )


class CodeChangedError(UsageError):
    """A deterministic task's code changed while an effect may rest on its old value."""

    def __init__(self, workflow_id: str, tasks: Iterable[str], effects: Iterable[str]) -> None:
        self.workflow_id, self.tasks, self.effects = workflow_id, tuple(tasks), tuple(effects)
        super().__init__(workflow_id, self.tasks, self.effects)

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: the code of {', '.join(self.tasks)} changed, and "
            f"{', '.join(self.effects)} may have acted on a value of the old code; resume with the old code, "
            f"or with accept_code_change=True (`exoflow resume --accept-code-change`)"
        )


class UnsupportedFormatError(UsageError):
    """Bytes of a format this version does not know."""

    def __init__(self, what: str, found: int, supported: int) -> None:
        self.what, self.found, self.supported = what, found, supported
        super().__init__(what, found, supported)

    def __str__(self) -> str:
        return (
            f"{self.what} has format {self.found}, this version reads up to {self.supported}; "
            f"`pip install --upgrade exoflow-core`"
        )


class UnsuitableStoreError(UsageError):
    """A store that breaks the contract recovery rests on."""


class PluginConflictError(UsageError):
    """Two plugins claim one name, or a plugin is not built as its hook asks."""


class TaskFailedError(ExoFlowError):
    """A task failed for good, and the workflow with it. ``__cause__`` is the task's own error."""

    def __init__(self, workflow_id: str, task_id: str, problem: str) -> None:
        self.workflow_id, self.task_id, self.problem = workflow_id, task_id, problem
        super().__init__(workflow_id, task_id, problem)

    def __str__(self) -> str:
        return f"task {self.task_id!r} of workflow {self.workflow_id!r} failed: {self.problem}"


class TaskTimeoutError(ExoFlowError):
    """An attempt ran longer than its ``timeout_s``."""

    def __init__(self, task_id: str, timeout_s: float) -> None:
        self.task_id, self.timeout_s = task_id, timeout_s
        super().__init__(task_id, timeout_s)

    def __str__(self) -> str:
        return f"task {self.task_id!r} did not finish within {self.timeout_s} s"


class TaskLostError(ExoFlowError):
    """The process that ran an attempt died: a system failure, not the task's own."""

    def __init__(self, task_id: str, problem: str) -> None:
        self.task_id, self.problem = task_id, problem
        super().__init__(task_id, problem)

    def __str__(self) -> str:
        return f"the process running task {self.task_id!r} was lost: {self.problem}"


class WorkflowCancelledError(ExoFlowError):
    """The workflow was cancelled."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(workflow_id)

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} was cancelled"


class NeedsAttentionError(ExoFlowError):
    """The library cannot learn what became of an effect, and will not guess. Nothing was lost."""

    def __init__(self, workflow_id: str, task_id: str, reason: str) -> None:
        self.workflow_id, self.task_id, self.reason = workflow_id, task_id, reason
        super().__init__(workflow_id, task_id, reason)

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r} stopped at task {self.task_id!r}: {self.reason}; find out what became of "
            f"it, say so with `exoflow.settle({self.workflow_id!r}, {self.task_id!r}, ...)`, then resume"
        )


class UnavailableError(ExoFlowError):
    """The store or the executor does not answer. Wait, then resume; nothing was lost."""


class UnknownOutcomeError(UnavailableError):
    """A write was sent and no answer came: it may have happened. Read back before believing either."""


class ObjectNotFoundError(ExoFlowError, KeyError):
    """The store holds nothing under this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"the store holds no object {self.key!r}"


class FencedError(ExoFlowError):
    """Another controller took over; whatever this one wrote since does not count."""

    def __init__(self, journal_id: str, heir: str) -> None:
        self.journal_id, self.heir = journal_id, heir
        super().__init__(journal_id, heir)

    def __str__(self) -> str:
        return f"journal {self.journal_id} was sealed by {self.heir}; this controller stops, its workflows go on there"


class CorruptCheckpointError(ExoFlowError):
    """Stored bytes are not what was written. Retrying will not help."""

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(key, problem)

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}; the stored bytes are wrong, restore them from a copy"
