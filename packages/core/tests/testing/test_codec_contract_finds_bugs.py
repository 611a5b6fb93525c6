import itertools
import json
import pickle
import threading
import time

import pytest

from exoflow.graph.dag import Dag
from exoflow.testing.codecs import CodecContract
from exoflow.testing.suites import run_suite
from exoflow.values import Encoded, PickleCodec

COMES_BACK = "test_a_value_comes_back_equal_and_of_its_type"
CUT_SHORT = "test_bytes_that_were_cut_short_are_refused"
ANY_ORDER = "test_values_are_encoded_and_decoded_in_any_order"
PAIR = "test_the_result_of_a_task_that_catches_exceptions_comes_back_as_a_pair"


class QuickContract(CodecContract):
    big_bytes = 1 << 18
    deterministic = True
    refused = (threading.Lock(),)


class CodecWithABug(PickleCodec):
    """A good codec, with one thing wrong."""

    fails = ()
    """Tests that must notice."""


class MakesFloatsOfIntegers(CodecWithABug):
    fails = (COMES_BACK, "test_a_value_goes_through_a_store_and_back")

    def encode(self, value):
        return super().encode(float(value) if type(value) is int else value)


class SortsKeys(CodecWithABug):
    fails = (COMES_BACK,)

    def encode(self, value):
        return super().encode(dict(sorted(value.items())) if type(value) is dict else value)


class MakesListsOfTuples(CodecWithABug):
    fails = (PAIR,)

    def decode(self, parts):
        found = super().decode(parts)
        return list(found) if type(found) is tuple else found


class WritesToWhatItReads(CodecWithABug):
    fails = (COMES_BACK,)

    def decode(self, parts):
        parts[0][0] = parts[0][0]
        return super().decode(parts)


class ReadsWhatIsReadOnlyAlone(CodecWithABug):
    fails = ("test_a_value_comes_back_from_memory_that_can_be_written_to",)

    def decode(self, parts):
        hash(parts[0])
        return super().decode(parts)


class ReadsTheWholeBuffer(CodecWithABug):
    fails = ("test_a_value_comes_back_from_the_middle_of_a_larger_buffer",)

    def decode(self, parts):
        return super().decode([memoryview(part.obj) for part in parts])


class UsesUpWhatItReads(CodecWithABug):
    fails = ("test_a_value_comes_back_as_often_as_it_is_asked_for",)

    def decode(self, parts):
        found = super().decode(parts)
        if not parts[0].readonly:
            parts[0][:] = bytes(len(parts[0]))
        return found


class KnowsWhatItEncodedLast(CodecWithABug):
    fails = (ANY_ORDER,)

    def encode(self, value):
        self.last = value
        return super().encode(value)

    def decode(self, parts):
        super().decode(parts)
        return self.last


class SortsTheValueItself(CodecWithABug):
    fails = ("test_encoding_leaves_the_value_as_it_was",)

    def encode(self, value):
        if type(value) is dict:
            value["seen"] = True
        return super().encode(value)


class CountsInTwoBytes(CodecWithABug):
    fails = ("test_a_large_value_goes_through_a_store_and_back", "test_a_large_value_travels_in_memory")

    def encode(self, value):
        (body,) = super().encode(value).parts
        return Encoded(((len(body) & 0xFFFF).to_bytes(2) + body,))

    def decode(self, parts):
        length = int.from_bytes(parts[0][:2])
        return super().decode([parts[0][2 : 2 + length]])


class HasANameForEach(CodecWithABug):
    fails = ("test_its_name_is_a_text_that_stays",)
    numbers = itertools.count()

    def __init__(self):
        self.name = f"pickle-{next(self.numbers)}"


class MakesNoBytes(CodecWithABug):
    fails = ("test_it_makes_parts_that_can_be_written_to_a_store",)

    def encode(self, value):
        (body,) = super().encode(value).parts
        return Encoded((memoryview(body[::-1])[::-1],))


class ReusesItsBuffer(CodecWithABug):
    fails = ("test_its_parts_stay_what_they_are_while_others_are_encoded",)

    def __init__(self):
        self.buffer = bytearray(1 << 19)

    def encode(self, value):
        (body,) = super().encode(value).parts
        self.buffer[: len(body)] = body
        return Encoded((memoryview(self.buffer)[: len(body)],))


class StaysInItsProcess(CodecWithABug):
    fails = ("test_a_copy_for_another_process_reads_what_it_wrote",)

    def __init__(self):
        self.lock = threading.Lock()


class AddsANumber(CodecWithABug):
    fails = ("test_equal_values_give_equal_bytes",)
    numbers = itertools.count()

    def encode(self, value):
        (body,) = super().encode(value).parts
        return Encoded((body + next(self.numbers).to_bytes(8),))


class IsForOneThread(CodecWithABug):
    fails = ("test_threads_that_share_it_do_not_meet",)

    def encode(self, value):
        self.value = value
        for _ in range(5):
            time.sleep(0)
        return super().encode(self.value)


class EncodesWhatItCannotDecode(CodecWithABug):
    fails = ("test_what_it_cannot_bring_back_is_refused",)

    def encode(self, value):
        try:
            return super().encode(value)
        except TypeError:
            return super().encode(repr(value))


class ReturnsNothingForWhatIsBroken(CodecWithABug):
    fails = (CUT_SHORT, *(f"test_bytes_it_never_wrote_are_refused[{each}]" for each in (b"", b"\xff\xfe garbage \x00")))

    def decode(self, parts):
        try:
            return super().decode(parts)
        except Exception:
            return None


class WritesNumbersWithoutAnEnd(CodecWithABug):
    fails = (CUT_SHORT,)

    def encode(self, value):
        return Encoded((str(value).encode(),)) if type(value) is int else super().encode(value)

    def decode(self, parts):
        return int(bytes(parts[0])) if bytes(parts[0][-1:]).isdigit() else super().decode(parts)


class TakesThePartsThereAre(CodecWithABug):
    fails = ("test_a_part_that_is_missing_is_noticed",)

    def encode(self, value):
        if type(value) is list and value:
            return Encoded((b"\0", *(pickle.dumps(item) for item in value)))
        return super().encode(value)

    def decode(self, parts):
        if bytes(parts[0]) == b"\0":
            return [pickle.loads(part) for part in parts[1:]]
        return super().decode(parts)


class ForgetsNotes(CodecWithABug):
    fails = ("test_an_exception_comes_back_with_its_type_message_and_notes",)

    def decode(self, parts):
        found = super().decode(parts)
        return type(found)(*found.args) if isinstance(found, Exception) else found


class ForgetsKeywords(CodecWithABug):
    fails = ("test_the_arguments_of_an_undo_come_back",)

    def decode(self, parts):
        found = super().decode(parts)
        return (found[0], {}) if type(found) is tuple and type(found[1]) is dict else found


class TakesNoDags(CodecWithABug):
    fails = ("test_a_dag_comes_back",)

    def encode(self, value):
        if isinstance(value, Dag):
            raise TypeError("a DAG")
        return super().encode(value)


def _outcomes(kind, only=None, suite=QuickContract):
    return run_suite(suite(), lambda: {"codec": kind()}, only=only)


def test_a_codec_without_a_bug_passes_the_contract():
    outcomes = _outcomes(PickleCodec)
    assert outcomes.failed == {}
    assert outcomes.skipped == []
    assert len(outcomes.passed) > 20


@pytest.mark.parametrize("kind", CodecWithABug.__subclasses__(), ids=lambda kind: kind.__name__)
def test_the_contract_finds_a_planted_bug(kind):
    assert kind.fails
    assert set(_outcomes(kind, only=kind.fails).failed) == set(kind.fails)


def test_every_test_of_the_contract_finds_some_bug():
    found = {name for kind in CodecWithABug.__subclasses__() for name in kind.fails}
    tests = set(_outcomes(PickleCodec).passed)
    assert tests - found == {f"test_bytes_it_never_wrote_are_refused[{bytes(100)}]"}


class PlainJson:
    """A codec no engine is to use: it knows neither tuples nor exceptions."""

    name = "plain-json"

    def encode(self, value):
        return Encoded((json.dumps(value).encode() + b"\n",))

    def decode(self, parts):
        text = bytes(parts[0])
        if not text.endswith(b"\n"):
            raise ValueError("cut short")
        return json.loads(text)


def test_a_codec_that_says_it_is_for_no_engine_is_not_asked_for_what_engines_store():
    class Contract(QuickContract):
        exceptions = False
        dags = False

    outcomes = _outcomes(PlainJson, suite=Contract)

    assert outcomes.failed == {}
    assert "test_a_dag_comes_back" in outcomes.skipped
    assert PAIR in _outcomes(PlainJson).failed
