"""Writing histories by hand: tasks without bodies, and records as terse as a sketch of them."""

from collections.abc import Mapping
from typing import Any

from exoflow.graph.dag import Dag, compile_dag
from exoflow.graph.node import Node
from exoflow.journal.records import End, FellSilent, Intent, Outcome, Settlement, Submission, UndoRecord, WorkflowRecord
from exoflow.recovery.history import History
from exoflow.recovery.plan import RecoveryPlan, plan_recovery
from exoflow.tasks.task import Task, task
from exoflow.values import Payload

__all__ = ["STORED", "Story", "a_task", "undo"]

STORED = Payload("pickle", (1,), b"1")


def undo(*args: Any) -> None:
    """Stand for an undo function; nothing here calls any."""


def a_task(name: str, effects: str = "none", *, version: str = "1", **options: Any) -> Task[Any, Any]:
    def function(*args: Any) -> None:
        raise AssertionError("recovery calls no task")

    function.__name__ = function.__qualname__ = name
    if effects == "rollback":
        options["rollback"] = undo
    made: Task[Any, Any] = task(effects=effects, version=version, **options)(function)
    return made


class Story:
    """What a workflow's journal says, in the order in which the methods are called."""

    def __init__(self, root: Node, *, fingerprints: Mapping[str, str] | None = None) -> None:
        self.dag = compile_dag(root)
        self.continuations: dict[str, Dag] = {}
        self.records: list[WorkflowRecord] = [
            Submission("w", 1, self.dag.digest, "", 0.0, {}, dict(fingerprints or {}))
        ]

    def outcome(
        self,
        task_id: str,
        attempt: str,
        reads: str = "",
        *,
        incarnation: str = "",
        what: str = "value",
        stored: bool = True,
        fingerprint: str = "v:1",
    ) -> "Story":
        """A value with its payload, unless *stored* is False: then a trace."""
        self.records.append(
            Outcome(
                "w", task_id, attempt, incarnation or attempt, tuple(reads.split()), what, True, fingerprint,
                1, 0.0, 0.0, "", STORED if stored else None,
            )
        )  # fmt: skip
        return self

    def trace(self, task_id: str, attempt: str, reads: str = "", **more: Any) -> "Story":
        return self.outcome(task_id, attempt, reads, stored=False, **more)

    def continued(self, task_id: str, attempt: str, root: Node, reads: str = "") -> "Story":
        self.continuations[attempt] = compile_dag(root)
        return self.outcome(task_id, attempt, reads, what="continuation")

    def intent(self, task_id: str, attempt: str, reads: str = "") -> "Story":
        self.records.append(Intent("w", task_id, attempt, f"key of {attempt}", tuple(reads.split())))
        return self

    def undone(self, task_id: str, attempt: str) -> "Story":
        self.records.append(UndoRecord("w", task_id, attempt))
        return self

    def settled(self, task_id: str, attempt: str, *, happened: bool) -> "Story":
        self.records.append(Settlement("w", task_id, attempt, happened))
        return self

    def fell_silent(self, journal_id: str) -> "Story":
        self.records.append(FellSilent("w", journal_id))
        return self

    def ended(self, status: str) -> "Story":
        self.records.append(End("w", status, "", 0.0))
        return self

    @property
    def history(self) -> History:
        return History.of(self.records)

    def plan(self, *live: str) -> RecoveryPlan:
        """What is to be done if the controller died now; *live* are incarnations that an executor still holds."""
        return plan_recovery(self.dag, self.history, self.continuations, live_references=frozenset(live))


def attempts(intents: tuple[Intent, ...]) -> list[str]:
    return [intent.attempt for intent in intents]
