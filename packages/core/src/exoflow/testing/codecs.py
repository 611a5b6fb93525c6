"""The contract suite every codec's tests inherit.

::

    class TestArrowCodec(CodecContract):
        values = (pyarrow.table({"a": [1, 2]}),)

        @pytest.fixture
        def codec(self):
            return ArrowCodec()

A codec keeps its promise if what comes back is equal and of the same type, whatever memory it comes back from; what it
cannot keep, it refuses to encode. What the engine itself stores with its codec is asked for too, unless an heir says that
no engine is to use it.
"""

# ruff: noqa: D102 - the tests' names are sentences

import copy
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import pytest

from exoflow.graph.dag import compile_dag
from exoflow.stores.memory import MemoryStore
from exoflow.tasks.task import task
from exoflow.values import INLINE_BYTES, Codec, Encoded, inline, persist, restore

__all__ = ["CodecContract"]

_NUMBERS = (0, -1, 2**53 + 1, 10**40, 0.1, -0.0, 1e308)
_TEXTS = ("", "text", "naïve 日本 🙂", "line\nand\0nothing")
_CONTAINERS: tuple[Any, ...] = (
    [],
    {},
    [1, "two", [3.0, None]],
    {"a": 1, "b": {"c": [True]}},
    {"": 0, "$key": 1, "b": 2, "a": 3},
    {"z": 1, "a": 2},
    [[[[[[]]]]]],
    [{"id": n, "name": f"number {n}"} for n in range(100)],
)
_GARBAGE = (b"", b"\xff\xfe garbage \x00", b"\0" * 100)


class CodecContract:
    """Inherit it, and give it a codec."""

    values: ClassVar[Sequence[Any]] = (None, True, False, *_NUMBERS, *_TEXTS, *_CONTAINERS)
    """What it must bring back. An heir adds what its codec is for, or replaces what it was not made for."""
    refused: ClassVar[Sequence[Any]] = ()
    """What it must refuse to encode, because it could not bring it back."""
    deterministic: bool = False
    """Whether equal values give equal bytes."""
    exceptions: bool = True
    """Whether it takes exceptions; an engine's codec does."""
    dags: bool = True
    """Whether it takes compiled DAGs; an engine's codec does."""
    big_bytes: int = 4 << 20
    """How large a large value is."""
    racers: int = 4
    """How many threads share it."""

    @pytest.fixture
    def codec(self) -> Codec:
        """A codec, to be given by the heir."""
        raise NotImplementedError("give this suite a fixture `codec` that returns a codec")

    def big_value(self) -> Any:
        """Return a value of about `big_bytes`."""
        return [f"{number:01000}" for number in range(self.big_bytes // 1000)]

    def same(self, found: Any, value: Any) -> bool:
        """Whether *found* is what *value* was; for values that `==` cannot compare, such as arrays."""
        return type(found) is type(value) and repr(found) == repr(value) and bool(found == value)

    # --- there and back -----------------------------------------------------------------------------------------------

    def test_a_value_comes_back_equal_and_of_its_type(self, codec: Codec) -> None:
        for value in self.values:
            self._check(codec, value, _copied(codec.encode(value), bytes))

    def test_a_value_comes_back_from_memory_that_can_be_written_to(self, codec: Codec) -> None:
        for value in self.values:
            self._check(codec, value, _copied(codec.encode(value), bytearray))

    def test_a_value_comes_back_from_the_middle_of_a_larger_buffer(self, codec: Codec) -> None:
        for value in self.values:
            parts = [
                memoryview(b"\x80before" + part + b"after")[7 : 7 + len(part)]
                for part in _copied(codec.encode(value), bytes)
            ]
            self._check(codec, value, parts)

    def test_a_value_comes_back_as_often_as_it_is_asked_for(self, codec: Codec) -> None:
        for value in self.values:
            parts = _copied(codec.encode(value), bytearray)
            before = [bytes(part) for part in parts]
            self._check(codec, value, parts)
            assert [bytes(part) for part in parts] == before, f"decoding {value!r} changed what it was decoded from"
            self._check(codec, value, parts)

    def test_values_are_encoded_and_decoded_in_any_order(self, codec: Codec) -> None:
        encoded = [_copied(codec.encode(value), bytes) for value in self.values]
        for value, parts in zip(reversed(self.values), reversed(encoded), strict=True):
            self._check(codec, value, parts)

    def test_encoding_leaves_the_value_as_it_was(self, codec: Codec) -> None:
        for value in self.values:
            before = copy.deepcopy(value)
            codec.encode(value)
            assert self.same(value, before), f"encoding made {value!r} of {before!r}"

    def test_a_value_goes_through_a_store_and_back(self, codec: Codec) -> None:
        store = MemoryStore.open("memory://")
        for number, value in enumerate(self.values):
            payload = persist(codec.encode(value), codec.name, store, f"blobs/workflow/{number}")
            found = restore(payload, codec, store)
            assert self.same(found, value), f"{value!r} came back as {found!r}"

    def test_a_large_value_goes_through_a_store_and_back(self, codec: Codec) -> None:
        value, store = self.big_value(), MemoryStore.open("memory://")
        payload = persist(codec.encode(value), codec.name, store, "blobs/workflow/big")
        assert payload.size_bytes > INLINE_BYTES, "big_value() is not large; give a larger one"
        assert payload.blob == "blobs/workflow/big"
        assert self.same(restore(payload, codec, store), value)

    def test_a_large_value_travels_in_memory(self, codec: Codec) -> None:
        value = self.big_value()
        payload = inline(codec.encode(value), codec.name)
        assert self.same(restore(payload, codec, MemoryStore.open("memory://")), value)

    # --- what it must be ----------------------------------------------------------------------------------------------

    def test_its_name_is_a_text_that_stays(self, codec: Codec) -> None:
        name = codec.name
        assert isinstance(name, str)
        assert name
        assert name.isprintable()
        assert not name.isspace()
        codec.decode(_copied(codec.encode(self.values[0]), bytes))
        assert codec.name == name
        assert type(codec).name == name, "a codec is found again by its name, so all of a class have the same"

    def test_it_makes_parts_that_can_be_written_to_a_store(self, codec: Codec) -> None:
        for value in (*self.values, self.big_value()):
            encoded = codec.encode(value)
            assert isinstance(encoded, Encoded)
            assert len(encoded.parts) > 0
            for part in encoded.parts:
                assert isinstance(part, bytes | bytearray | memoryview), f"{type(part).__name__} is no buffer"
                assert memoryview(part).c_contiguous

    def test_its_parts_stay_what_they_are_while_others_are_encoded(self, codec: Codec) -> None:
        encoded = [codec.encode(value) for value in self.values]
        first = [[bytes(part) for part in one.parts] for one in encoded]
        codec.encode(self.big_value())
        assert [[bytes(part) for part in one.parts] for one in encoded] == first

    def test_a_copy_for_another_process_reads_what_it_wrote(self, codec: Codec) -> None:
        other = pickle.loads(pickle.dumps(codec))
        assert other.name == codec.name
        for value in self.values:
            self._check(other, value, _copied(codec.encode(value), bytes))

    def test_equal_values_give_equal_bytes(self, codec: Codec) -> None:
        if not self.deterministic:
            pytest.skip("it does not say so")
        for value in self.values:
            first = [bytes(part) for part in codec.encode(value).parts]
            assert [bytes(part) for part in codec.encode(value).parts] == first, f"{value!r}, twice"
            equal = copy.deepcopy(value)
            assert [bytes(part) for part in codec.encode(equal).parts] == first, f"{value!r}, and a copy of it"

    def test_threads_that_share_it_do_not_meet(self, codec: Codec) -> None:
        start, problems = threading.Barrier(self.racers), list[str]()

        def race(number: int) -> None:
            start.wait(60)
            try:
                for turn in range(len(self.values) * 3):
                    value = self.values[(number * 7 + turn) % len(self.values)]
                    parts = _copied(codec.encode(value), bytes)
                    time.sleep(0)
                    found = codec.decode(parts)
                    if not self.same(found, value):
                        problems.append(f"{value!r} came back as {found!r}")
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=race, args=(number,)) for number in range(self.racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []

    # --- what it must not take ----------------------------------------------------------------------------------------

    def test_what_it_cannot_bring_back_is_refused(self, codec: Codec) -> None:
        for value in self.refused:
            _must_raise(partial(codec.encode, value), f"encoding a {type(value).__name__} that it cannot bring back")

    def test_bytes_that_were_cut_short_are_refused(self, codec: Codec) -> None:
        for value in self.values:
            parts = _copied(codec.encode(value), bytes)
            whole = parts[0]
            step = max(1, len(whole) // 50)
            for length in {*range(0, len(whole), step), len(whole) - 1} if len(whole) else ():
                _must_raise(
                    partial(codec.decode, [whole[:length], *parts[1:]]),
                    f"decoding {length} of the {len(whole)} bytes of {value!r}",
                )

    def test_a_part_that_is_missing_is_noticed(self, codec: Codec) -> None:
        for value in (*self.values, self.big_value()):
            parts = _copied(codec.encode(value), bytes)
            if len(parts) > 1:
                _must_raise(partial(codec.decode, parts[:-1]), "decoding without the last part")

    @pytest.mark.parametrize("garbage", _GARBAGE)
    def test_bytes_it_never_wrote_are_refused(self, codec: Codec, garbage: bytes) -> None:
        _must_raise(partial(codec.decode, [memoryview(garbage)]), f"decoding {garbage!r}")

    # --- what the engine stores with it -------------------------------------------------------------------------------

    def test_an_exception_comes_back_with_its_type_message_and_notes(self, codec: Codec) -> None:
        if not self.exceptions:
            pytest.skip("it takes no exceptions")
        error = KeyError("seat", 7)
        error.add_note("Where the task raised it")
        for found in (_through(codec, error), _through(codec, (None, error))[1]):
            assert type(found) is KeyError
            assert found.args == ("seat", 7)
            assert found.__notes__ == ["Where the task raised it"]
        assert type(_through(codec, (None, error))) is tuple

    def test_the_result_of_a_task_that_catches_exceptions_comes_back_as_a_pair(self, codec: Codec) -> None:
        if not self.exceptions:
            pytest.skip("it takes no exceptions")
        for value in self.values:
            found, error = _through(codec, (value, None))
            assert self.same(found, value)
            assert error is None
            assert type(_through(codec, (value, None))) is tuple, (
                "what is fresh is a tuple, so what is read must be one"
            )

    def test_the_arguments_of_an_undo_come_back(self, codec: Codec) -> None:
        if not self.exceptions:
            pytest.skip("no engine uses it")
        for value in self.values:
            args, kwargs = _through(codec, ((value, "seat"), {"at": value}))
            assert len(args) == 2
            assert self.same(args[0], value)
            assert self.same(kwargs["at"], value)

    def test_a_dag_comes_back(self, codec: Codec) -> None:
        if not self.dags:
            pytest.skip("it takes no DAGs")
        dag = compile_dag(_add.bind(_add.bind(1, 2), [3, {"four": (5,)}]))
        found = _through(codec, dag)
        assert found.digest == dag.digest
        assert [spec.task_id for spec in found.nodes] == [spec.task_id for spec in dag.nodes]
        assert found.root.task.function(1, 2) == 3

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _check(self, codec: Codec, value: Any, parts: Sequence[memoryview]) -> None:
        found = codec.decode(parts)
        assert self.same(found, value), f"{value!r} came back as {found!r}"


@task(effects="none")
def _add(a: Any, b: Any) -> Any:
    return a + b


def _copied(encoded: Encoded, kind: type[bytes] | type[bytearray]) -> list[memoryview]:
    """Return the parts in memory of their own: read-only if *kind* is bytes."""
    return [memoryview(kind(part)) for part in encoded.parts]


def _through(codec: Codec, value: Any) -> Any:
    return codec.decode(_copied(codec.encode(value), bytes))


def _must_raise(call: Callable[[], Any], what: str) -> None:
    try:
        found = call()
    except Exception:
        return
    pytest.fail(f"{what} gave {found!r}; expected an error")
