"""Tasks that write into a ledger outside of the library, doors they stop at, and stores: those of the engine's tests."""

import uuid

# A scenario with real engines needs the same witnesses as the tests of the driver.
from ..witness import (
    PATIENCE_S,
    Bucket,
    Door,
    Ledger,
    charge,
    door,
    draw,
    fail,
    fresh,
    gather,
    note,
    pass_door,
    pure,
    reserve,
    send,
    until,
)

__all__ = [
    "PATIENCE_S",
    "Bucket",
    "Door",
    "Ledger",
    "charge",
    "door",
    "draw",
    "fail",
    "fresh",
    "gather",
    "new_door",
    "note",
    "pass_door",
    "pure",
    "reserve",
    "send",
    "until",
]


def new_door() -> str:
    """Return the name of a door nobody has opened yet."""
    return f"scenario-{uuid.uuid4().hex}"
