"""From a record of the engine to the bytes the journal takes.

The engine passes values through unseen, so a few of its records still hold live objects when they come out of it: a
caught exception, a continuation nobody has stored yet, the arguments an undo will need.
"""

from typing import Any

import attrs

from exoflow.controller.run import WorkflowRun, arguments_of
from exoflow.engine.node_state import NodeState
from exoflow.errors import (
    CorruptCheckpointError,
    ObjectNotFoundError,
    UnavailableError,
    UnserializableResultError,
)
from exoflow.executors.portable import portable
from exoflow.journal import records
from exoflow.journal.layout import blob_key
from exoflow.stores.contract import ObjectStore
from exoflow.tasks.policy import Effects
from exoflow.values import Codec, Live, Payload, inline, persist

__all__ = ["Recorder"]


class Recorder:
    """Encodes records, on the driver's thread: what it has to store itself is small by nature.

    Args:
        codec: How values become bytes.
        store: Where the arguments of an undo go when they are large.
    """

    def __init__(self, codec: Codec, store: ObjectStore) -> None:
        self._codec, self._store = codec, store

    def encode(self, run: WorkflowRun, record: Any) -> bytes:
        """Return *record* as bytes.

        Raises:
            UnavailableError: The store does not take, or give, what an undo will need.
            UnserializableResultError: The engine believes this committed, and it cannot be. Nothing more may be done
                for the workflow here; resumed, it goes on from what is durable.
        """
        if type(record) is records.Intent:
            record = self._with_undo(run, record)
        elif type(getattr(record, "payload", None)) is Live:
            record = self._with_payload(record)
        return records.encode(record)

    def _with_undo(self, run: WorkflowRun, intent: records.Intent) -> records.Intent:
        node = run.state.nodes[intent.task_id]
        if node.effects is not Effects.ROLLBACK:
            return intent
        try:
            payload = self._undo_payload(run, node)
        except (UnavailableError, CorruptCheckpointError, ObjectNotFoundError):
            raise  # the store's trouble is not the task's
        except Exception as error:
            # The record must keep its place in the log; the attempt will fail instead of starting.
            run.poisoned[intent.attempt] = error
            return intent
        run.undo_payloads[intent.attempt] = payload
        return attrs.evolve(intent, payload=payload)

    def _undo_payload(self, run: WorkflowRun, node: NodeState) -> Payload:
        args, kwargs = arguments_of(node, self._codec, self._store)
        choose = node.spec.task.policy.undo_args
        if choose is not None:
            chosen = choose(*args, **kwargs)
            args, kwargs = (chosen if isinstance(chosen, tuple) else (chosen,)), {}
        key = blob_key(run.workflow_id, node.attempt, 1)
        return persist(self._codec.encode((args, kwargs)), self._codec.name, self._store, key)

    def _with_payload(self, record: Any) -> Any:
        value = record.payload.value
        if isinstance(value, BaseException):
            value = portable(value)
        elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], BaseException):
            value = (None, portable(value[1]))
        try:
            return attrs.evolve(record, payload=inline(self._codec.encode(value), self._codec.name))
        except Exception as error:
            raise UnserializableResultError(record.task_id, f"{type(error).__name__}: {error}") from error
