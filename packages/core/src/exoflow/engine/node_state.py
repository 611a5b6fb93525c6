"""What the engine knows of one node: data, changed by `exoflow.engine.state` alone."""

from enum import IntEnum
from typing import Any

from exoflow.graph.dag import NodeSpec
from exoflow.tasks.policy import Checkpoint, Effects

__all__ = ["NodeState", "Phase"]


class Phase(IntEnum):
    """Where a node stands."""

    WAITING = 0
    """For results of other nodes."""
    PARKED = 1
    """For what it reads to be settled, or for records to be durable."""
    INTENDING = 2
    """For its intent to be durable."""
    RUNNING = 3
    """An attempt runs, a timer is armed or a message is awaited."""
    ENDING = 4
    """For an attempt that was given up to end."""
    UNDOING = 5
    RESOLVING = 6
    BACKOFF = 7
    FINISHED = 8
    """It has an outcome."""
    ATTENTION = 9
    DROPPED = 10
    """The workflow ends without it."""


class NodeState:
    """One node of a running workflow.

    "Committed" here means that the record is in the log, in order: whatever is logged later is durable only if this
    is. What must wait for the disk itself compares `position` with what was acknowledged.
    """

    __slots__ = (
        "attempt",
        "awaited_error",
        "blocked_on",
        "catch",
        "closed",
        "committed",
        "committing",
        "completed",
        "deadline",
        "deps",
        "deterministic",
        "effects",
        "failures",
        "head",
        "incarnation",
        "intent",
        "is_result",
        "keep_incarnation",
        "lost",
        "message_key",
        "mode",
        "must_commit",
        "number",
        "open_readers",
        "parent",
        "payload",
        "pending_readers",
        "phase",
        "position",
        "provider",
        "readers",
        "reads",
        "seconds",
        "settled",
        "spec",
        "started_at",
        "system_failures",
        "task_id",
        "traced",
        "value",
        "waiting",
        "walk",
        "watchers",
        "what",
    )

    def __init__(self, task_id: str, spec: NodeSpec, parent: "NodeState | None" = None) -> None:
        policy = spec.task.policy
        self.task_id = task_id
        self.spec = spec
        self.parent = parent
        self.effects: Effects = policy.effects
        self.mode: Checkpoint = policy.checkpoint
        # Failures are not deterministic, and where they are caught they are values.
        self.deterministic: bool = policy.deterministic and not policy.catch_exceptions
        self.catch: bool = policy.catch_exceptions
        self.deps: tuple[NodeState, ...] = ()
        """Whose values fill the arguments; `provider` says who has them after a continuation."""
        self.readers: list[NodeState] = []
        self.reads: tuple[NodeState, ...] = ()
        """Fixed when an attempt starts: the nodes whose incarnations it depends on."""
        self.waiting = 0
        """How many of the nodes it waits for are not available yet."""
        self.phase = Phase.WAITING
        self.attempt = ""
        self.incarnation = ""
        self.keep_incarnation = False
        """A deterministic task that runs again after a crash is the same incarnation."""
        self.number = 0
        self.what = "value"
        self.value: Any = None
        self.payload: Any = None
        self.seconds = 0.0
        self.started_at = 0.0
        self.committing = False
        """The value is on its way to the store."""
        self.committed = False
        """A record with the value is in the log."""
        self.completed = False
        """A record that the effect is over is in the log."""
        self.traced = False
        """Some record of this incarnation is in the log."""
        self.position = 0
        """Of the record in the log that committed or closed this incarnation, or else traced it."""
        self.must_commit = False
        self.is_result = False
        self.open_readers = 0
        """Readers that may still ask for the value, now or after a crash."""
        self.pending_readers = 0
        """Readers that have not finished and hold the value in memory."""
        self.closed = False
        """Nothing can ask for it again."""
        self.settled = 0
        """0, or 1 + the log position that must be durable for the past of this incarnation to be fixed for ever."""
        self.blocked_on: NodeState | None = None
        self.watchers: list[NodeState] | None = None
        self.walk: Any = None
        self.provider: NodeState | None = None
        """For a node that returned a continuation: the node whose result is its result."""
        self.head: NodeState | None = None
        """For the last node of a continuation: the node it answers for."""
        self.intent: Any = None
        self.failures = 0
        self.system_failures = 0
        self.awaited_error: BaseException | None = None
        self.lost = False
        """Whether the last failure was the system's, not the task's own."""
        self.deadline: float | None = None
        self.message_key: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it has an outcome."""
        return self.phase is Phase.FINISHED

    @property
    def open(self) -> bool:
        """Nondeterministic, not committed, and it may be asked for again."""
        return not (self.committed or self.deterministic or self.closed)

    def __repr__(self) -> str:
        return f"<{self.task_id} {self.phase.name.lower()}>"
