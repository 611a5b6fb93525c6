"""Reading what a store knows of workflows. Nothing is run here, nothing is taken over, nothing is written."""

from collections.abc import Iterator, Sequence
from typing import Any

from exoflow.api.inspecting import describe_tasks, describe_workflow
from exoflow.controller.promise import Promise
from exoflow.errors import TaskFailedError, UsageError, WorkflowCancelledError, WorkflowNotFoundError
from exoflow.graph.dag import Dag
from exoflow.journal import adoption, ownership
from exoflow.journal.listing import iterate_workflows
from exoflow.journal.ownership import Standing, has_finished
from exoflow.journal.records import Deleted, End, Submission, WorkflowRecord
from exoflow.journal.store_identity import identify, open_store
from exoflow.plugins.manager import manager
from exoflow.recovery.history import History
from exoflow.states import WorkflowDetail, WorkflowInfo
from exoflow.stores.contract import ObjectStore
from exoflow.values import Codec, Live, Payload, Value, restore

__all__ = ["Reader", "is_live"]


def is_live(standing: Standing) -> bool:
    """Whether a live controller has the workflow: its owner is alive and has not given it up."""
    return standing.ownership.live and standing.history.given_up is None


class Reader:
    """Finds workflows in a store, and makes values of what is recorded of them.

    Args:
        store: Where they are.
        codec: What encodes values now; others are looked up by the names in the records.
    """

    def __init__(self, store: ObjectStore, codec: Codec) -> None:
        self._store, self._codec = store, codec
        self._checked = False

    def check(self) -> None:
        """Check that the store keeps the promise everything rests on; once.

        Raises:
            UnsuitableStoreError: It does not.
        """
        if not self._checked:
            open_store(self._store)
            self._checked = True

    def _exists(self) -> bool:
        """Whether there is a store at all: who only looks makes none."""
        if not self._checked:
            if identify(self._store) is None:
                return False
            self.check()
        return True

    def look_up(self, workflow_id: str, now: float, *, whole: bool = False) -> Standing:
        """Return where a workflow stands, and its records: all of them, or those that say where it stands.

        Raises:
            WorkflowNotFoundError: No such workflow.
        """
        if not self._exists():
            raise WorkflowNotFoundError(workflow_id, self._store.url)
        found = ownership.look_up(self._store, workflow_id, now, None if whole else adoption.LIGHT)
        if found is None or found.ownership.deleted or not found.history.records:
            raise WorkflowNotFoundError(workflow_id, self._store.url)
        if isinstance(found.history.given_up, Deleted):
            raise WorkflowNotFoundError(workflow_id, self._store.url)
        return found

    def has_finished(self, standing: Standing) -> bool:
        """Whether nothing is left to do."""
        return has_finished(self._store, standing.ownership, standing.history)

    def must_be_whole(self, standing: Standing) -> None:
        """Refuse a workflow of which only the end was kept.

        Raises:
            UsageError: Such a one.
        """
        for record in standing.history.records:
            if isinstance(record, Submission) and record.payload is None:
                raise _archived(record.workflow_id)

    def describe(self, standing: Standing) -> WorkflowInfo:
        """Return one line about a workflow."""
        finished = self.has_finished(standing)
        return describe_workflow(standing.history.records, live=is_live(standing), finished=finished)

    def describe_all(self, now: float) -> Iterator[WorkflowInfo]:
        """Yield a line about every workflow the store knows."""
        if not self._exists():
            return
        for summary in iterate_workflows(self._store, now):
            yield describe_workflow(summary.records, live=summary.live, finished=summary.finished)

    def detail(self, workflow_id: str, now: float) -> WorkflowDetail:
        """Return a workflow with its tasks."""
        standing = self.look_up(workflow_id, now, whole=True)
        history, dag, decoded = self.decode(standing.history.records)
        continuations = {i: d for i, d in decoded.items() if isinstance(d, Dag)}
        return WorkflowDetail(info=self.describe(standing), tasks=describe_tasks(dag, history, continuations))

    def decode(self, records: Sequence[WorkflowRecord]) -> tuple[History, Dag, dict[str, Any]]:
        """Return a workflow's history, its DAG, and by incarnation the continuations and final errors in it.

        Raises:
            UsageError: It has ended long ago, and only its end was kept.
        """
        history = History.of(records)
        assert history.submission is not None
        if history.submission.payload is None:
            raise _archived(history.submission.workflow_id)
        dag = self.load(history.submission.payload)
        decoded = {
            outcome.incarnation: self.load(outcome.payload)
            for outcome in history.outcomes.values()
            if outcome.what in ("continuation", "error") and outcome.payload is not None
        }
        return history, dag, decoded

    def load(self, payload: Payload) -> Any:
        """Return the value a payload stands for."""
        codec = self._codec if payload.codec == self._codec.name else manager().make_codec(payload.codec)
        return restore(payload, codec, self._store)

    def outcome(self, workflow_id: str, records: Sequence[WorkflowRecord]) -> Promise[Value]:
        """Return what a workflow that has ended came to, as its handle would have it."""
        end = next(r for r in records if isinstance(r, End) and r.status != "rolled_back")
        promise: Promise[Value] = Promise()
        if end.status == "succeeded":
            promise.resolve(end.payload if end.payload is not None else Live(None))
        elif end.status == "cancelled":
            promise.reject(WorkflowCancelledError(workflow_id))
        else:
            promise.reject(self.failure(workflow_id, end))
        return promise

    def failure(self, workflow_id: str, end: End) -> TaskFailedError:
        """Return the error of a workflow that failed."""
        cause = self.load(end.payload) if end.payload is not None else None
        problem = TaskFailedError(workflow_id, end.task_id, f"{type(cause).__name__}: {cause}")
        problem.__cause__ = cause
        return problem


def _archived(workflow_id: str) -> UsageError:
    return UsageError(
        f"workflow {workflow_id!r} ended long ago: its result is kept, its tasks are not; run it again under another id"
    )
