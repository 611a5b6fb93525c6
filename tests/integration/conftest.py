"""Children to kill, a folder to keep workflows in, and a ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .children import Nursery
from .flows import Ledger


@pytest.fixture(scope="session")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("children"))
    yield nursery
    nursery.close()


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"file://{tmp_path}/flows"


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")
