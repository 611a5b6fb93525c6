import contextlib
import fcntl
import functools
import os
from pathlib import Path

import pytest

from exoflow.errors import ObjectNotFoundError
from exoflow.testing.stores import ObjectStoreContract
from exoflow.testing.suites import run_suite
from exoflow_storage import LocalFileStore

RACE = "test_of_racing_threads_exactly_one_creates_a_key_and_no_reader_sees_a_part"


class OpensTheNameItself(LocalFileStore):
    """What O_EXCL alone gives: exactly one wins, and readers see the object grow."""

    fails = (RACE,)

    def create(self, key, data, *, timeout_s=30.0):
        path = Path(self.root) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(data)
                os.fsync(file.fileno())
        except FileExistsError:
            return False
        return True


class LooksAndThenRenames(LocalFileStore):
    """What fsspec's ``mode="create"`` gives: whole objects, and two who win."""

    fails = (RACE,)

    def create(self, key, data, *, timeout_s=30.0):
        with contextlib.suppress(ObjectNotFoundError):
            self.read(key)
            return False
        self.write(key, [data])
        return True


class LooksAtALockByTakingIt(LocalFileStore):
    """What `flock` alone gives: who asks is in the way of who locks."""

    fails = ("test_asking_for_a_lock_never_gets_in_its_way",)

    def is_locked(self, key):
        with (Path(self.root) / key).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@pytest.mark.parametrize(
    "kind",
    [OpensTheNameItself, LooksAndThenRenames, LooksAtALockByTakingIt],
    ids=lambda kind: kind.__name__,
)
def test_the_contract_finds_what_the_obvious_ways_get_wrong(tmp_path, kind):
    roots = (tmp_path / str(number) for number in range(1000))

    def fixtures():
        store = kind(next(roots))
        return {"store": store, "reopen": functools.partial(kind, store.root)}

    assert set(run_suite(ObjectStoreContract(), fixtures, only=kind.fails).failed) == set(kind.fails)
