"""Claims: which journal a workflow id leads to.

A claim finds, it does not fence: the fence is the seal of a journal. Ids that the library makes up name their journal
and need no claim until they move. The highest epoch counts; when a higher one may be created is decided in
`exoflow.journal.adoption`, and that exactly one creator gets it is the store's promise.
"""

import attrs

from exoflow.errors import CorruptCheckpointError, ObjectNotFoundError, UnsupportedFormatError
from exoflow.journal.checked_json import decode_checked, encode_checked
from exoflow.journal.creation import PATIENT, Patience, Won, create_exactly
from exoflow.journal.layout import claim_key, claims_of, epoch_of
from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["Claim", "claim", "highest_claim", "read_claim", "tombstone"]

_FORMAT = 1


@attrs.frozen(kw_only=True)
class Claim:
    """What one epoch of a workflow id says."""

    workflow_id: str
    epoch: int
    journal_id: str | None
    """The journal it leads to; None for a tombstone."""
    since: int = 1
    """The first batch of that journal in which records of the workflow count.

    A journal may hold older ones: of a claim it lost, or of a time before it gave the workflow away.
    """
    deleted_at: float | None = None

    @property
    def deleted(self) -> bool:
        """Whether it is a tombstone."""
        return self.journal_id is None


def claim(
    store: ObjectStore,
    workflow_id: str,
    epoch: int,
    journal_id: str,
    *,
    since: int = 1,
    patience: Patience = PATIENT,
) -> Claim:
    """Try to make an epoch of a workflow id lead to a journal.

    Args:
        store: Where.
        workflow_id: Whose.
        epoch: One above the highest there is.
        journal_id: The caller's own journal.
        since: The batch of it from which records of the workflow count.
        patience: How long to retry.

    Returns:
        The claim that this epoch holds: the caller won if it names its journal.

    Raises:
        UnknownOutcomeError: No answer. The claim may be there, or appear later.
        UnavailableError: The store refused.
    """
    made = Claim(workflow_id=workflow_id, epoch=epoch, journal_id=journal_id, since=since)
    return _create(store, made, patience)


def tombstone(store: ObjectStore, workflow_id: str, epoch: int, at: float, *, patience: Patience = PATIENT) -> Claim:
    """Try to make an epoch of a workflow id say that it is deleted. Answers and raises as `claim` does."""
    made = Claim(workflow_id=workflow_id, epoch=epoch, journal_id=None, deleted_at=at)
    return _create(store, made, patience)


def highest_claim(store: ObjectStore, workflow_id: str) -> Claim | None:
    """Return the claim that counts; None if there is none.

    Raises:
        CorruptCheckpointError: It cannot be read as one.
        UnsupportedFormatError: A newer version made it.
        UnavailableError: The store does not answer.
    """
    while True:
        key = None
        for key in store.list(claims_of(workflow_id)):  # noqa: B007
            pass
        if key is None:
            return None
        try:
            return _decode(workflow_id, key, store.read(key))
        except ObjectNotFoundError:
            continue  # collected in between; a higher one, or none, is there now


def read_claim(store: ObjectStore, workflow_id: str, epoch: int) -> Claim | None:
    """Return the claim of one epoch; None if there is none."""
    key = claim_key(workflow_id, epoch)
    try:
        return _decode(workflow_id, key, store.read(key))
    except ObjectNotFoundError:
        return None


def _create(store: ObjectStore, made: Claim, patience: Patience) -> Claim:
    key = claim_key(made.workflow_id, made.epoch)
    answer = create_exactly(store, key, _encode(made), patience)
    return made if isinstance(answer, Won) else _decode(made.workflow_id, key, answer.winner)


def _encode(made: Claim) -> bytes:
    fields = {"format": _FORMAT, "journal": made.journal_id, "since": made.since, "deleted_at": made.deleted_at}
    return encode_checked(fields)


def _decode(workflow_id: str, key: str, data: Buffer) -> Claim:
    fields = decode_checked(key, data, "a claim")
    try:
        if fields["format"] > _FORMAT:
            raise UnsupportedFormatError(f"the claim {key}", fields["format"], _FORMAT)
        return Claim(
            workflow_id=workflow_id,
            epoch=epoch_of(key),
            journal_id=fields["journal"],
            since=fields["since"],
            deleted_at=fields["deleted_at"],
        )
    except (KeyError, TypeError) as error:
        raise CorruptCheckpointError(key, f"this claim cannot be read ({error})") from error
