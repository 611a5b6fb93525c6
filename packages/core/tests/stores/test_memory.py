import functools
import gc

import pytest

from exoflow.errors import ObjectNotFoundError, UnknownOptionError, UsageError
from exoflow.stores.memory import MemoryStore
from exoflow.testing.stores import ObjectStoreContract


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        with_name = MemoryStore()
        yield with_name
        with_name.close()

    @pytest.fixture
    def reopen(self, store):
        return functools.partial(MemoryStore.open, store.url)


def test_stores_of_one_name_share_their_bytes_for_as_long_as_the_process_lives():
    name = "test-stores-of-one-name"
    with_bytes = MemoryStore.open(f"memory://{name}")
    assert with_bytes.create("key", b"kept")
    with_bytes.close()
    del with_bytes
    gc.collect()
    assert MemoryStore.open(f"memory://{name}").read("key") == b"kept"
    assert MemoryStore(name).read("key") == b"kept"


def test_a_store_without_a_name_is_alone_and_can_be_reopened_while_it_is_in_use():
    one, two = MemoryStore.open("memory://"), MemoryStore.open("memory://")
    one.create("key", b"mine")
    assert list(two.list("")) == []
    assert MemoryStore.open(one.url).read("key") == b"mine"
    url = one.url
    del one
    gc.collect()
    with pytest.raises(ObjectNotFoundError):
        MemoryStore.open(url).read("key")


def test_a_url_of_another_scheme_or_with_an_impossible_name_is_refused():
    with pytest.raises(UsageError, match=r"memory://<name>"):
        MemoryStore.open("file:///tmp")
    with pytest.raises(UsageError):
        MemoryStore.open("memory://a b")


def test_options_are_refused_by_name():
    with pytest.raises(UnknownOptionError, match="colour, size"):
        MemoryStore.open("memory://", size=1, colour="red")


def test_an_object_and_a_key_beneath_it_are_refused_as_a_folder_would_refuse_them():
    store = MemoryStore()
    store.create("a/b", b"")
    with pytest.raises(UsageError, match="other keys lie beneath"):
        store.create("a", b"")
    with pytest.raises(UsageError, match="which holds an object"):
        store.create("a/b/c", b"")
    store.delete("a/b")
    assert store.create("a", b"")
