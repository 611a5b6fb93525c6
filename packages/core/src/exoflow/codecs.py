"""JSON as a codec: values that other programs, and other languages, can read from the store.

It stores exactly what comes back equal and of the same type, and refuses everything else with an error that names the
place. A stored value is one line of JSON text, in UTF-8. JSON has no tuples, so a tuple is written as
``{"$tuple": [...]}``, and every key of a dict that begins with ``$`` gets a second one.

Three things that an engine stores beside its users' values are never JSON, and are pickled: compiled DAGs, which hold
functions; exceptions; and the pair of nothing and an exception that a task with ``catch_exceptions=True`` ends with. The
two forms are told apart by the first byte, 0x80, with which pickles begin and no UTF-8 text does. So a reader of
this codec unpickles what its store says is a pickle: it protects nobody from a store that strangers write to.
The arguments of an undo are values like others; where they are not, ``undo_args=`` chooses some that are.
"""

import json
from collections.abc import Sequence
from typing import Any

from exoflow.errors import CorruptCheckpointError, UsageError
from exoflow.graph.dag import Dag
from exoflow.values import Encoded, PickleCodec

__all__ = ["JsonCodec"]

_DEEPEST = 100
"""So deep may containers be nested. Python's parser recurses, and must not fail where its writer did not."""

_TUPLE = "$tuple"
_PICKLED = 0x80
_ATOMS = frozenset({bool, int, type(None)})
_pickle = PickleCodec()


class JsonCodec:
    """JSON for None, bool, int, float, str, list, tuple and dict; a pickle for the engine's own DAGs and errors."""

    name = "json"

    def encode(self, value: Any) -> Encoded:
        """Return *value* as one line of text.

        Raises:
            UsageError: It has a part that JSON would lose or change; the message says where.
        """
        if _is_the_engines(value):
            return _pickle.encode(value)
        try:
            text = json.dumps(_plain(value, "value", 0), ensure_ascii=False, separators=(",", ":"))
        except UsageError:
            raise
        except ValueError as error:  # an integer of more digits than Python converts
            raise UsageError(f"the codec 'json' cannot store the value: {error}") from error
        return Encoded((text.encode() + b"\n",))

    def decode(self, parts: Sequence[memoryview]) -> Any:
        """Return the value.

        Raises:
            CorruptCheckpointError: These are not bytes that `encode` has made.
        """
        body = parts[0]
        if len(body) and body[0] == _PICKLED:
            return _pickle.decode(parts)
        # Without the end of the line, a number that was cut short would pass for a smaller one.
        if len(parts) != 1 or bytes(body[-1:]) != b"\n":
            raise _corrupt("is cut short")
        try:
            return _original(json.loads(str(body, "utf-8"), parse_constant=_refuse))
        except (ValueError, RecursionError) as error:
            raise _corrupt(f"is no JSON of this codec: {error}") from error


def _is_the_engines(value: Any) -> bool:
    if isinstance(value, Dag | BaseException):
        return True
    return type(value) is tuple and len(value) == 2 and value[0] is None and isinstance(value[1], BaseException)


def _plain(value: Any, where: str, depth: int) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is str:
        return _text(value, where)
    if kind is float:
        if value - value != 0.0:
            raise _unsuitable(where, f"is {value!r}, which JSON has no number for")
        return value
    if depth == _DEEPEST:
        raise UsageError(
            f"the codec 'json' stores values nested {_DEEPEST} deep at most; this one is deeper, or contains itself"
        )
    if kind is list:
        return [_plain(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
    if kind is tuple:
        return {_TUPLE: [_plain(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]}
    if kind is dict:
        made = {}
        for key, item in value.items():
            if type(key) is not str:
                raise _unsuitable(where, f"has the key {key!r}, and keys in JSON are texts")
            name = _text(key, where)
            made[f"${name}" if name.startswith("$") else name] = _plain(item, f"{where}[{key!r}]", depth + 1)
        return made
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise _unsuitable(where, f"is of the type {name}")


def _text(text: str, where: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _unsuitable(where, f"has text that is not Unicode ({error.reason})") from error
    return text


def _original(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return [_original(item) for item in value]
    if kind is dict:
        if len(value) == 1 and type(value.get(_TUPLE)) is list:
            return tuple(_original(item) for item in value[_TUPLE])
        made = {}
        for key, item in value.items():
            if key.startswith("$"):
                if not key.startswith("$$"):
                    raise ValueError(f"the key {key!r}")
                key = key[1:]
            made[key] = _original(item)
        return made
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _unsuitable(where: str, problem: str) -> UsageError:
    return UsageError(
        f"the codec 'json' cannot store it as it is: {where} {problem}; it stores None, bool, int, float, str, list, "
        f"tuple and dict, nothing derived from them: convert it, or use codec='pickle'"
    )


def _corrupt(problem: str) -> CorruptCheckpointError:
    return CorruptCheckpointError("a value stored with the codec 'json'", problem)
