from collections.abc import Iterator

import pytest

from .nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where controllers are forked from."""
    with Nursery() as made:
        yield made
