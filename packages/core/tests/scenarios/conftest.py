"""Stores for the scenarios of the journal: one that appends and locks, and one with the five verbs alone."""

import pytest

from exoflow.stores.contract import ObjectStore
from exoflow.stores.memory import MemoryStore

from .controllers import Bucket, World


@pytest.fixture(params=["disk-like", "bucket"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return MemoryStore() if request.param == "disk-like" else Bucket(MemoryStore())


@pytest.fixture
def world(store: ObjectStore) -> World:
    return World(store)
