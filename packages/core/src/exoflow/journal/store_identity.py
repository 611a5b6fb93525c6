"""What a store is: its format, and an id that tells it from every other store.

An executor on another machine compares the id before it writes a blob, since the same path may be another disk there.
The first opening also tries whether the store keeps its promise that of two creations one wins. That finds stores
which ignore the condition; one with a narrow race may pass.
"""

import secrets
import threading
from collections.abc import Callable

import attrs

from exoflow.errors import (
    CorruptCheckpointError,
    ObjectNotFoundError,
    UnsuitableStoreError,
    UnsupportedFormatError,
)
from exoflow.journal.checked_json import decode_checked, encode_checked
from exoflow.journal.creation import PATIENT, Lost, Patience, create_exactly
from exoflow.journal.layout import PROBES, STORE
from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["STORE_FORMAT", "StoreIdentity", "identify", "open_store", "probe"]

STORE_FORMAT = 1

_ROUNDS = 4  # a store that ignores the condition lets both win in the first


@attrs.frozen(kw_only=True)
class StoreIdentity:
    """What ``store.json`` says."""

    store_id: str
    """Random; the same for everybody who has this store open, and for its copies."""
    format: int = STORE_FORMAT


def identify(store: ObjectStore) -> StoreIdentity | None:
    """Return what a store is; None if nobody has opened it yet. Writes nothing.

    Raises:
        UnsupportedFormatError: A newer version made it.
        CorruptCheckpointError: ``store.json`` cannot be read as what it is.
        UnavailableError: The store does not answer.
    """
    try:
        return _decode(store.read(STORE))
    except ObjectNotFoundError:
        return None


def open_store(
    store: ObjectStore, *, random_bits: Callable[[int], int] = secrets.randbits, patience: Patience = PATIENT
) -> StoreIdentity:
    """Return what a store is, and make it one if it is new.

    Args:
        store: Which.
        random_bits: Source of randomness for a new store's id.
        patience: How long to retry.

    Raises:
        UnsuitableStoreError: The store lets two creations of one key win.
        UnsupportedFormatError: A newer version made it.
        CorruptCheckpointError: ``store.json`` cannot be read as what it is.
        UnavailableError: The store refused or does not answer.
    """
    known = identify(store)
    if known is not None:
        return known
    probe(store, random_bits=random_bits)
    made = StoreIdentity(store_id=f"{random_bits(128):032x}")
    text = encode_checked({"format": made.format, "store_id": made.store_id})
    answer = create_exactly(store, STORE, text, patience)
    return _decode(answer.winner) if isinstance(answer, Lost) else made


def probe(store: ObjectStore, *, random_bits: Callable[[int], int] = secrets.randbits) -> None:
    """Try whether of several creations of one key exactly one wins, and everybody finds its bytes.

    Raises:
        UnsuitableStoreError: It is not so.
        UnavailableError: The store refused or does not answer.
    """
    for _ in range(_ROUNDS):
        key = f"{PROBES}{random_bits(80):020x}"
        try:
            _race(store, key)
        finally:
            store.delete(key)


def _race(store: ObjectStore, key: str) -> None:
    contenders = (b"one", b"the other")
    start = threading.Barrier(len(contenders))
    answers: list[bool | Exception] = [False] * len(contenders)

    def contend(number: int) -> None:
        start.wait()
        try:
            answers[number] = store.create(key, contenders[number])
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(len(contenders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = next((answer for answer in answers if isinstance(answer, Exception)), None)
    if failed is not None:
        raise failed
    winners = [data for data, answer in zip(contenders, answers, strict=True) if answer is True]
    problem = None
    if len(winners) != 1:
        problem = f"of two creations of one key {len(winners)} won"
    elif store.create(key, b"a third"):
        problem = "a key that exists could be created again"
    elif bytes(store.read(key)) != winners[0]:
        problem = "a key holds other bytes than those of the creation that won"
    elif key not in set(store.list(PROBES)):
        problem = "a key that was just created is not listed"
    if problem is not None:
        raise UnsuitableStoreError(
            f"{store.url}: {problem}, so nothing would stop two controllers from running one workflow; use a local "
            f"folder, or a bucket whose server knows conditional writes"
        )


def _decode(data: Buffer) -> StoreIdentity:
    fields = decode_checked(STORE, data, "the description of a store")
    try:
        version, store_id = fields["format"], fields["store_id"]
        if not isinstance(version, int) or not isinstance(store_id, str):
            raise TypeError("expected a number and a text")
    except (KeyError, TypeError) as error:
        raise CorruptCheckpointError(STORE, f"not the description of a store ({error})") from error
    if version > STORE_FORMAT:
        raise UnsupportedFormatError("the store", version, STORE_FORMAT)
    return StoreIdentity(store_id=store_id, format=version)
