"""What the next flush takes."""

from collections.abc import Callable

from exoflow.controller.run import WorkflowRun
from exoflow.engine.node_state import NodeState

__all__ = ["Batch"]


class Batch:
    """Records of all workflows, in the order in which they were logged, and what is to be done when they are durable."""

    __slots__ = ("outcomes", "records", "runs", "then")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.runs: list[tuple[WorkflowRun, int]] = []
        """Which engines are to be told, and of how many of their commits."""
        self.outcomes: list[tuple[WorkflowRun, NodeState]] = []
        """Outcomes among the records, if anybody wants to know when they are durable."""
        self.then: list[Callable[[], None]] = []
        """What else is to be done."""
