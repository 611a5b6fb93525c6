"""Bytes that are not what was written: a torn end is the trace of a crash, anything else is said and never acted upon."""

import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

import exoflow

from . import ledger, oracle
from .campaign import seed
from .flows import flow
from .nursery import Nursery
from .world import World

HEADER_BYTES = 16
BATCH = struct.Struct("<3sBB3xQQII")
"""The head of a batch, as `docs/reference/store-format.md` has it."""


@attrs.frozen
class Wreck:
    """A store whose controllers were killed, and what they had done."""

    store: Path
    book: Path

    def copy_to(self, folder: Path) -> "Wreck":
        """Return a copy that may be damaged and resumed."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.store, folder / "store")
        shutil.copy(self.book, folder / "ledger.jsonl")
        return Wreck(folder / "store", folder / "ledger.jsonl")

    def files(self, pattern: str) -> list[str]:
        """Return the keys that match."""
        return sorted(str(path.relative_to(self.store)) for path in self.store.glob(pattern) if path.is_file())

    def change(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Replace an object by what *change* makes of it."""
        path = self.store / key
        data = change(path.read_bytes())
        path.chmod(0o644)
        path.write_bytes(data)

    def resume(self, monkeypatch: pytest.MonkeyPatch, *, start: bool = False) -> list[str]:
        """Go on with it here; return what the result was made of."""
        monkeypatch.setenv(ledger.BOOK, str(self.book))
        with exoflow.Engine(f"file://{self.store}", "inline") as engine:
            value = engine.run(flow("chain"), workflow_id="w") if start else engine.resume("w").result()
        past: list[str] = value["past"]
        return past

    def check(self, past: list[str]) -> None:
        """Hold what was done, before and after, against the promises."""
        oracle.check_flow(ledger.read(self.book), flow("chain"), past)


@pytest.fixture(scope="module")
def wrecks(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> list[Wreck]:
    """Stores killed after a flush of which nobody was told: as far as anybody knows, its bytes may be torn."""
    made = []
    for flushes in range(2, 9, 2):
        world = World(tmp_path_factory.mktemp("wreck"), nursery, {"w": "chain"}, executor="inline")
        life, _ = world.begin(failures=[f"*.kill@{flushes},after_flush"])
        assert life.end() == -9
        made.append(Wreck(world.store, world.book))
    return made


@pytest.fixture(scope="module")
def inherited(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Wreck:
    """A store with everything in it: blobs, claims, and a journal that a second one, killed too, has taken over."""
    world = World(tmp_path_factory.mktemp("inherited"), nursery, {"w": "chain"}, executor="inline")
    for flushes in (5, 3):
        life, _ = world.begin(failures=[f"*.kill@{flushes},after_flush"])
        assert life.end() == -9
    return Wreck(world.store, world.book)


def batches(data: bytes) -> Iterator[int]:
    """Yield where each batch of a segment begins."""
    offset = HEADER_BYTES
    while offset < len(data):
        yield offset
        offset += BATCH.size + BATCH.unpack_from(data, offset)[4]


def flip(position: int, bit: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


def cut(length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:length]


def blank(length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:length].ljust(len(data), b"\0")


def drawn(what: str, count: int, of: range) -> list[int]:
    """Return some of a range, its ends among them."""
    rng = random.Random(f"{seed()}/{what}")
    return sorted({of[0], of[-1], *rng.sample(of, min(count, len(of)))})


def test_a_torn_end_is_cut_wherever_it_is_torn(
    wrecks: list[Wreck], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, wreck in enumerate(wrecks):
        (key,) = wreck.files("journals/*/*")
        data = (wreck.store / key).read_bytes()
        last = list(batches(data))[-1]
        for length in drawn(f"cut/{number}", 2, range(last, len(data))):
            torn = wreck.copy_to(tmp_path / "torn")
            torn.change(key, cut(length))

            torn.check(torn.resume(monkeypatch, start=number == 0))


def test_an_end_of_nothing_but_zeros_is_cut_too(
    wrecks: list[Wreck], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems grow a file before they write it: after a power cut its end is zeros."""
    for number, wreck in enumerate(wrecks):
        (key,) = wreck.files("journals/*/*")
        data = (wreck.store / key).read_bytes()
        last = list(batches(data))[-1]
        for length in drawn(f"zeros/{number}", 1, range(last, len(data))):
            torn = wreck.copy_to(tmp_path / "torn")
            torn.change(key, blank(length))

            torn.check(torn.resume(monkeypatch, start=number == 0))


def test_a_flipped_bit_before_the_end_is_refused_with_its_place_and_nothing_is_done(
    wrecks: list[Wreck], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wreck = wrecks[-1]
    (key,) = wreck.files("journals/*/*")
    data = (wreck.store / key).read_bytes()
    starts = list(batches(data))
    versions = [start + 3 for start in starts[:-1]]  # a flipped one is no newer format
    for position in [*drawn("flip", 40, range(starts[-1])), *versions]:
        damaged = wreck.copy_to(tmp_path / "damaged")
        damaged.change(key, flip(position, position % 8))
        begin = max((start for start in starts if start <= position), default=0)

        with pytest.raises(exoflow.CorruptCheckpointError) as caught:
            damaged.resume(monkeypatch, start=position % 2 == 0)

        assert str(caught.value).startswith(f"{key}: "), caught.value
        assert f"at byte {begin} " in str(caught.value)
        assert "restore them from a copy" in str(caught.value)
        assert damaged.book.read_bytes() == wreck.book.read_bytes(), "it acted on what it could not read"


KINDS = ["journals/*/*", "claims/*/*", "blobs/*/*", "open/*", "store.json"]


@pytest.mark.parametrize("pattern", KINDS)
def test_whatever_is_damaged_the_result_is_right_or_there_is_none(
    pattern: str, inherited: Wreck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = []
    for key in inherited.files(pattern):
        bits = 8 * (inherited.store / key).stat().st_size
        wrong += flip_each(inherited, key, drawn(key.partition("/")[0], 12, range(bits)), tmp_path, monkeypatch)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pattern", KINDS)
def test_whichever_bit_is_damaged_the_result_is_right_or_there_is_none(
    pattern: str, inherited: Wreck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = []
    for key in inherited.files(pattern):
        bits = 8 * (inherited.store / key).stat().st_size
        wrong += flip_each(inherited, key, drawn(key.partition("/")[0], 1000, range(bits)), tmp_path, monkeypatch)
    assert not wrong, "\n".join(wrong)


def flip_each(wreck: Wreck, key: str, bits: list[int], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flip one bit of an object and resume, for each of *bits*; return what was wrong about it."""
    wrong = []
    for bit in bits:
        damaged = wreck.copy_to(folder / "damaged")
        damaged.change(key, flip(bit // 8, bit % 8))
        try:
            # The last batch of the last journal was told to nobody, so it may be taken for torn.
            damaged.check(damaged.resume(monkeypatch, start=bit % 2 == 0))
        except exoflow.CorruptCheckpointError as error:
            if key not in str(error) and str(Path(key).parent) not in str(error):
                wrong.append(f"{key}, bit {bit}: the message does not name it: {error}")
        except Exception as error:
            wrong.append(f"{key}, bit {bit}: {type(error).__name__}: {error}".splitlines()[0][:300])
    return wrong
