"""Creating an object exactly once, over a store whose answers may be lost.

A write can land although its answer never came, and land late. So a retry sends the same bytes again, a refusal is
answered by reading back and comparing the whole object, and what stays unknown is raised as unknown: it never turns
into a defeat.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

import attrs

from exoflow.errors import ObjectNotFoundError, UnavailableError, UnknownOutcomeError
from exoflow.stores.contract import Buffer, ObjectStore

__all__ = ["PATIENT", "Creation", "Lost", "Patience", "Won", "create_exactly"]


@attrs.frozen
class Won:
    """These bytes are in the store."""


@attrs.frozen
class Lost:
    """Other bytes were there first."""

    winner: bytes


Creation: TypeAlias = Won | Lost


@attrs.frozen(kw_only=True)
class Patience:
    """How long to go on asking a store that does not answer."""

    total_s: float = 60.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


PATIENT = Patience()

_WON = Won()


def create_exactly(store: ObjectStore, key: str, data: Buffer, patience: Patience = PATIENT) -> Creation:
    """Create *key*, and find out who won.

    Calling it again with the same bytes, after a crash for example, gives the same answer.

    Args:
        store: Where.
        key: What.
        data: Bytes that no other writer would choose: whoever finds them there takes them for its own.
        patience: How long to retry.

    Returns:
        `Won` if *data* is what *key* holds, durably; else `Lost` with the bytes it does hold.

    Raises:
        UnknownOutcomeError: No answer in time. The bytes may be there, or appear later.
        UnavailableError: The store refused, and nothing was left in doubt.
    """
    deadline: float | None = None
    pause = patience.first_pause_s
    in_doubt = False
    while True:
        try:
            if store.create(key, data):
                return _WON
            in_doubt = True  # whose bytes are there is not known before they are read
            winner = store.read(key)
            return _WON if winner == data else Lost(bytes(winner))
        except UnknownOutcomeError as error:
            in_doubt, cause = True, error
        except UnavailableError as error:
            if not in_doubt:
                raise
            cause = UnknownOutcomeError(str(error))
            cause.__cause__ = error
        except ObjectNotFoundError as error:
            # The winner was deleted between our two calls. The next round decides anew.
            cause = UnknownOutcomeError(f"{key} existed and is gone")
            cause.__cause__ = error
        now = patience.clock()
        if deadline is None:
            deadline = now + patience.total_s
        if now >= deadline:
            raise cause
        patience.sleep(pause)
        pause = min(2 * pause, patience.longest_pause_s)
