"""Messages to workflows: events and requests to cancel, from any process.

A message is an object that its sender creates; its id makes a retry the same message. The owner of the workflow records
which waiting node took it, and deletes it after that record is durable: a crash in between leaves an object that is
known to be taken. A retry that arrives after the deletion creates it anew: owners drop messages whose key is recorded.
"""

import secrets
from collections.abc import Callable

import attrs

from exoflow.errors import UsageError
from exoflow.journal.creation import PATIENT, Lost, Patience, create_exactly
from exoflow.journal.layout import INBOX, inbox_of, message_key, names_in
from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["CANCEL", "Message", "new_message_id", "pending", "read", "remove", "send"]

CANCEL = "\0cancel"
"""The event that asks for a workflow to be cancelled. Users' events contain no NUL."""


@attrs.frozen(order=True)
class Message:
    """One message, not yet read."""

    workflow_id: str
    event: str
    message_id: str

    @property
    def key(self) -> str:
        """Where it lies."""
        return message_key(self.workflow_id, self.event, self.message_id)


def new_message_id(now: float, random_bits: Callable[[int], int] = secrets.randbits) -> str:
    """Return an id that sorts by time, so that messages are taken in about the order in which they were sent."""
    return f"{int(now * 1e6):016x}-{random_bits(48):012x}"


def send(
    store: ObjectStore,
    workflow_id: str,
    event: str,
    message_id: str,
    payload: Buffer,
    *,
    patience: Patience = PATIENT,
) -> Message:
    """Leave a message for a workflow, which need not exist yet. Calling it again sends nothing more.

    Args:
        store: Where the workflow is, or will be.
        workflow_id: For whom.
        event: What waiting nodes call it.
        message_id: The sender's own, the same for each retry.
        payload: At most 16 MiB.
        patience: How long to retry.

    Returns:
        The message, durable.

    Raises:
        UsageError: Another message has this id.
        UnknownOutcomeError: No answer. Send it again with the same id.
        UnavailableError: The store refused.
    """
    message = Message(workflow_id, event, message_id)
    if isinstance(create_exactly(store, message.key, payload, patience), Lost):
        raise UsageError(
            f"workflow {workflow_id!r} has another message {message_id!r} for {event!r}; give each message an id of its own"
        )
    return message


def pending(store: ObjectStore, workflow_id: str | None = None) -> dict[str, dict[str, list[Message]]]:
    """Return what was sent and not removed, with one listing.

    Args:
        store: Where.
        workflow_id: To whom; None for all.

    Returns:
        By workflow id and event, in ascending order of message ids.
    """
    found: dict[str, dict[str, list[Message]]] = {}
    for key in store.list(INBOX if workflow_id is None else inbox_of(workflow_id)):
        names = names_in(key)
        if len(names) != 3:  # no message: something else that somebody put there
            continue
        message = Message(*names)
        found.setdefault(message.workflow_id, {}).setdefault(message.event, []).append(message)
    return found


def read(store: ObjectStore, message: Message) -> Buffer:
    """Return what a message says.

    Raises:
        ObjectNotFoundError: It was taken.
        UnavailableError: The store does not answer.
    """
    return store.read(message.key)


def remove(store: ObjectStore, message: Message) -> None:
    """Remove a message that a durable record has taken, or that nobody will take."""
    store.delete(message.key)
