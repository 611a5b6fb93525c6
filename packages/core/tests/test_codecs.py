import enum
import json
import math
import sys
import time

import pytest

import exoflow
from exoflow.codecs import JsonCodec
from exoflow.errors import CorruptCheckpointError, UnserializableResultError, UsageError
from exoflow.failures.points import SimulatedCrash
from exoflow.plugins.manager import manager
from exoflow.testing import CodecContract
from exoflow.values import PickleCodec


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


class TestPickleCodec(CodecContract):
    values = (*CodecContract.values, (1, (2,)), {1: "a", None: "b"}, b"bytes", bytearray(b"more"), {1, 2}, Colour.RED)

    @pytest.fixture
    def codec(self):
        return PickleCodec()


_CIRCLE = []
_CIRCLE.append(_CIRCLE)


class TestJsonCodec(CodecContract):
    deterministic = True
    values = (
        *CodecContract.values,
        (),
        (1, ("two", [3, (4,)])),
        {"$tuple": [1, 2]},
        {"$tuple": [1], "$$tuple": [2]},
        {"$": 1, "$$": {"$a": ()}},
        [{"deep": [[(None,)]]}],
    )
    refused = (
        b"bytes",
        {1, 2},
        {1: "a"},
        {Name("a"): 1},
        [math.nan],
        math.inf,
        -math.inf,
        "\ud83d\ude00",
        {"\ud800": 1},
        {"$\ud800": 1},
        Colour.RED,
        Name("text"),
        1j,
        object(),
        _CIRCLE,
        10**5000,
        [ValueError("inside")],
        (1, ValueError("with a value")),
        int,
    )

    @pytest.fixture
    def codec(self):
        return JsonCodec()


# --- what the JSON codec writes, and says -------------------------------------------------------------------------------


def stored(value):
    (body,) = JsonCodec().encode(value).parts
    return bytes(body)


def test_what_json_stores_is_one_line_that_any_program_can_read():
    assert stored({"name": "Zoë", "rows": [1, 2.5, None]}) == '{"name":"Zoë","rows":[1,2.5,null]}\n'.encode()
    assert stored(("a", {"$x": 1})) == b'{"$tuple":["a",{"$$x":1}]}\n'


def test_json_pickles_the_dags_and_errors_of_the_engine_and_nothing_else():
    assert stored(ValueError("a"))[0] == 0x80
    assert stored((None, ValueError("a")))[0] == 0x80
    assert stored((None, None)) == b'{"$tuple":[null,null]}\n'


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"rows": [0, {1}]}, r"value\['rows'\]\[1\] is of the type set; it stores None, bool"),
        ([{"a": {2: 3}}], r"value\[0\]\['a'\] has the key 2, and keys in JSON are texts"),
        ((math.nan,), r"value\[0\] is nan, which JSON has no number for"),
        (["\ud800"], r"value\[0\] has text that is not Unicode \(surrogates not allowed\)"),
        (Colour.RED, rf"value is of the type {__name__}\.Colour"),
        (_CIRCLE, "100 deep at most; this one is deeper, or contains itself"),
        (10**5000, "Exceeds the limit"),
    ],
    ids=["set", "key", "nan", "surrogate", "subclass", "circle", "long"],
)
def test_json_says_where_a_value_has_something_it_cannot_store(value, problem):
    with pytest.raises(UsageError, match=problem):
        JsonCodec().encode(value)


@pytest.mark.parametrize(
    "body", [b"12", b"", b"{\n", b"NaN\n", b'{"$other":[1]}\n', b'"\xff"\n', b"[" * 10**5 + b"\n"], ids=range(7)
)
def test_json_says_that_stored_bytes_are_wrong(body):
    with pytest.raises(CorruptCheckpointError, match="stored with the codec 'json'"):
        JsonCodec().decode([memoryview(body)])


def test_a_value_nested_as_deep_as_is_allowed_can_be_read_on_a_deep_stack():
    value = None
    for _ in range(100):
        value = (value,)
    parts = [memoryview(stored(value))]

    def dig(depth):
        return dig(depth - 1) if depth else JsonCodec().decode(parts)

    assert dig(sys.getrecursionlimit() // 2) == value


def test_json_is_found_by_its_name():
    assert type(manager().make_codec("json")) is JsonCodec


# --- an engine that uses it ---------------------------------------------------------------------------------------------

DONE = []


@pytest.fixture(autouse=True)
def _forget():
    DONE.clear()


@exoflow.task(effects="none")
def sizes(names):
    DONE.append("sizes")
    return {name: len(name) for name in names}


@exoflow.task
def charge(prices, options):
    DONE.append("charge")
    return {"total": sum(prices.values()), "options": options}


@exoflow.task
def grow(prices):
    DONE.append("grow")
    return exoflow.continuation(charge.bind(prices, {"grown": True}))


@exoflow.task(catch_exceptions=True)
def fail(total):
    raise LookupError(f"no {total['total']}")


@exoflow.task
def note(pair):
    value, error = pair
    return [value, type(error).__name__, str(error)]


@exoflow.task(effects="none")
def make_a_set():
    return {1, 2}


def cancel_seat(seat, **how):
    DONE.append(("cancel", seat, how))


@exoflow.task(rollback=cancel_seat)
def reserve(seat, **how):
    DONE.append("reserve")
    return (seat, how)


@exoflow.task(retries=0)
def explode(seat):
    raise RuntimeError("no money")


def order():
    return note.bind(fail.bind(grow.bind(sizes.bind(["a", "bcd"]))))


def payloads_of(engine, workflow_id):
    records = engine._reader.look_up(workflow_id, time.time(), whole=True).history.records
    return {
        getattr(record, "task_id", ""): record.payload
        for record in records
        if getattr(record, "payload", None) is not None
    }


@pytest.mark.parametrize("executor", ["thread", "inline", "process"])
def test_a_workflow_runs_with_json_and_keeps_results_that_others_can_read(executor):
    with exoflow.Engine(f"memory://json-{executor}", executor, codec="json") as engine:
        assert engine.run(order(), workflow_id="w") == [None, "LookupError", "no 4"]
        payloads = payloads_of(engine, "w")

    assert json.loads(payloads["sizes"].data) == {"a": 1, "bcd": 3}
    assert {payload.codec for payload in payloads.values()} == {"json"}


@pytest.mark.parametrize("start", range(1, 6))
def test_a_workflow_with_json_goes_on_after_a_crash(start):
    storage = f"memory://json-crash-{start}"
    with exoflow.Engine(storage, codec="json", failures=[f"*.crash@{start}"]) as engine, pytest.raises(SimulatedCrash):
        engine.run(order(), workflow_id="w")

    with exoflow.Engine(storage, codec="json") as engine:
        assert engine.run(order(), workflow_id="w") == [None, "LookupError", "no 4"]


def test_what_json_wrote_is_read_by_an_engine_that_writes_pickles():
    with exoflow.Engine("memory://json-read", codec="json") as engine:
        expected = engine.run(grow.bind(sizes.bind(["a"])), workflow_id="w")

    with exoflow.Engine("memory://json-read") as engine:
        assert engine.result("w") == expected == {"total": 1, "options": {"grown": True}}
        assert engine.run(grow.bind(sizes.bind(["a"])), workflow_id="w") == expected
        assert len(engine.show("w").tasks) == 3

    assert DONE == ["sizes", "grow", "charge"]


@exoflow.task
def total_of(message):
    return message["total"]


@pytest.mark.parametrize(("first", "second"), [("json", "pickle"), ("pickle", "json")])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_workflow_is_resumed_by_an_engine_with_another_codec(first, second, executor):
    storage = f"memory://json-mixed-{first}-{executor}"
    node = charge.bind(sizes.bind(["a", "b"]), (1, 2))
    with (
        exoflow.Engine(storage, codec=first, failures=["charge.crash"]) as engine,
        pytest.raises(SimulatedCrash),
    ):
        engine.run(node, workflow_id="w")

    with exoflow.Engine(storage, executor, codec=second) as engine:
        assert engine.resume("w").result() == {"total": 2, "options": (1, 2)}
    assert DONE.count("sizes") == 1


@pytest.mark.parametrize(("sender", "receiver"), [("json", "pickle"), ("pickle", "json")])
def test_a_message_is_read_by_an_engine_with_another_codec(sender, receiver):
    storage = f"memory://json-message-{sender}"
    with exoflow.Engine(storage, codec=sender) as engine:
        engine.send_event("w", "paid", {"total": 3})

    with exoflow.Engine(storage, codec=receiver) as engine:
        assert engine.run(total_of.bind(exoflow.wait_for_event("paid")), workflow_id="w") == 3


def test_the_arguments_of_an_undo_go_through_json():
    with (
        exoflow.Engine("memory://json-undo", codec="json") as engine,
        pytest.raises(exoflow.TaskFailedError, match="no money") as raised,
    ):
        engine.run(explode.bind(reserve.bind(("row", 7), window=True)), workflow_id="w")

    assert isinstance(raised.value.__cause__, RuntimeError)
    assert DONE == ["reserve", ("cancel", ("row", 7), {"window": True})]


def test_arguments_of_an_undo_that_json_cannot_store_fail_the_task_before_it_starts():
    with (
        exoflow.Engine("memory://json-undo-bad", codec="json") as engine,
        pytest.raises(exoflow.TaskFailedError, match=r"value\[0\]\[0\] is of the type set"),
    ):
        engine.run(reserve.bind({1, 2}))

    assert DONE == []


def test_a_result_that_json_cannot_store_is_an_error_that_says_why():
    with (
        exoflow.Engine("memory://json-set", codec="json") as engine,
        pytest.raises((exoflow.TaskFailedError, UnserializableResultError), match="is of the type set"),
    ):
        engine.run(make_a_set.bind())
