"""What makes a value a reference: data or a process that lives in an executor and travels between tasks uncopied.

A Ray ``ObjectRef``, an ``ActorHandle`` and a Spark table are references. Pickling one keeps its name, not what it
names; so each kind comes with a `ReferenceType` that can copy what is behind it into a checkpoint, bring it back, and
tell whether it is still there. Core has no reference types of its own: threads and processes pass plain values.
The Ray backend brings the first ones.
"""

from typing import Any, Protocol

from exoflow.stores.contract import Buffer

__all__ = ["ReferenceType"]


class ReferenceType(Protocol):
    """One kind of reference. Safe to call from any thread of a process that runs tasks."""

    name: str
    """Written into checkpoints, so that the reader finds the same type again; unique among plugins."""

    def recognise(self, value: Any) -> bool:
        """Whether *value* is a reference of this kind.

        Called for objects inside results, at any depth, so it must be quick and must not import the library whose
        references it knows: where that library was never imported, no value is one of its references.
        """
        ...

    def persist(self, reference: Any) -> Buffer:
        """Copy what *reference* names into bytes from which `restore` makes an equal.

        Raises:
            UnavailableError: What it names is gone, or does not answer.
        """
        ...

    def restore(self, state: Buffer) -> Any:
        """Return a new reference, to an equal of what was persisted.

        Raises:
            CorruptCheckpointError: *state* is not what `persist` returned.
            UnavailableError: The executor it would live in does not answer.
        """
        ...

    def alive(self, reference: Any) -> bool:
        """Whether what *reference* names can still be used. May be wrong a moment later; asks, and waits for nothing.

        Recovery prefers a living reference to its checkpoint, and its checkpoint to running its creator again.
        """
        ...
