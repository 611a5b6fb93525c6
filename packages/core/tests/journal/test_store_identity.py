"""A store says what it is, and is refused if it lets two creations win."""

from typing import Any

import pytest

from exoflow.errors import CorruptCheckpointError, UnsuitableStoreError, UnsupportedFormatError
from exoflow.journal.checked_json import encode_checked
from exoflow.journal.store_identity import identify, open_store, probe
from exoflow.stores.contract import Buffer, ObjectStore
from exoflow.stores.memory import MemoryStore


def test_a_store_keeps_its_id_for_all_who_open_it(store: ObjectStore) -> None:
    assert identify(store) is None

    made = open_store(store)

    assert open_store(store) == made == identify(store)
    assert open_store(MemoryStore()) != made
    assert list(store.list("")) == ["store.json"]


def test_the_first_opening_alone_probes(monkeypatch: pytest.MonkeyPatch, store: ObjectStore) -> None:
    open_store(store)
    monkeypatch.setattr("exoflow.journal.store_identity.probe", lambda *_, **__: pytest.fail("probed again"))

    open_store(store)


def test_openings_at_once_agree(store: ObjectStore, together: Any) -> None:
    answers = together([lambda: open_store(store)] * 4)

    assert len(set(answers)) == 1


class Overwriting(MemoryStore):
    """Ignores the condition, as fsspec's default does for two that race."""

    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        self.write(key, (data,))
        return True


class Forgetful(MemoryStore):
    def create(self, key: str, data: Buffer, *, timeout_s: float = 30.0) -> bool:
        if key in set(self.list("")):
            return False
        return super().create(key, b"")


class Secretive(MemoryStore):
    def list(self, prefix: str) -> Any:
        return iter(())


@pytest.mark.parametrize("kind", [Overwriting, Forgetful, Secretive])
def test_a_store_that_breaks_the_promise_is_refused(kind: type[MemoryStore]) -> None:
    with pytest.raises(UnsuitableStoreError):
        probe(kind())
    with pytest.raises(UnsuitableStoreError):
        open_store(kind())


def test_a_store_of_a_newer_version_is_refused() -> None:
    store = MemoryStore()
    store.create("store.json", encode_checked({"format": 99, "store_id": "x"}))

    with pytest.raises(UnsupportedFormatError, match="99"):
        open_store(store)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", encode_checked({"format": "x", "store_id": 1})])
def test_a_damaged_description_is_refused(text: bytes) -> None:
    store = MemoryStore()
    store.create("store.json", text)

    with pytest.raises(CorruptCheckpointError, match=r"store\.json"):
        open_store(store)
