"""A value as bytes that say what it is: the same for equal values in every process, and different for different ones.

A pickle is neither: it has the hash seed's order of a set, and it tells which parts are one object and which are two
equal ones. Here sets and dicts have no order, an object is its class and its parts, an array is its bytes, and a
function or a class is its name.

Nothing recurses, so depth is no limit. What is reached twice is described once. Objects that refer to each other in a
ring are described by how far back a reference reaches.
"""

import copyreg
import dataclasses
import enum
import functools
import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import Any, TypeAlias

import attrs

from exoflow.graph.naming import Named, module_of, qualified_name

__all__ = ["LEAVES", "Describer"]

_SHORT = 64
"""Longer descriptions are replaced by their hash: what holds them need not copy them again at each level."""

_FEW = 8
"""Containers of as many parts may be described at once, without being remembered."""

_DEEPEST = 100_000
"""No pickle goes as deep. An object that makes up new parts whenever it is taken apart would go deeper for ever."""

_Steps: TypeAlias = Generator[Any, bytes, bytes]
"""Yields a part, is sent the part's description, and in the end returns that of the whole."""


class Describer:
    """Describes values; what it has described it knows again, so one should serve all values of a DAG.

    Args:
        leaves: Types whose values have no parts, and what describes them: `LEAVES`, or more than those.
    """

    def __init__(self, leaves: Mapping[type, Callable[[Any], bytes]] | None = None) -> None:
        self._leaves = LEAVES if leaves is None else leaves
        self._closed: dict[int, tuple[Any, bytes]] = {}
        # What is not closed yet, in the order it was met: a part of it may still turn out to refer back to it. (The
        # stack of Tarjan's algorithm for strongly connected components.)
        self._open: dict[int, tuple[int, Any]] = {}

    def describe(self, value: Any) -> bytes:
        """Return what *value* is. Descriptions can be joined: none is the beginning of another.

        Raises:
            ValueError: A set or a dict whose members refer to what holds them, in an order that only this process has.
            Exception: What cannot be pickled cannot be described; this is the error of the attempt.
        """
        answer: Any = self._shallow(value, type(value), 1)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        self._open.clear()
        frame = _Frame(value, 0)
        answer = self._told(value, frame)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        self._open[id(value)] = (0, value)
        frame.steps = _way_of(type(value))(self, value)
        outer: list[_Frame] = []
        send: Callable[[Any], Any] = frame.steps.send
        while True:
            try:
                part = send(answer)
            except StopIteration as stop:
                answer = self._leave(frame, stop.value)
                if not outer:
                    return answer  # type: ignore[no-any-return]
                inner, frame = frame, outer.pop()
                frame.lowest = min(frame.lowest, inner.lowest)
                send = frame.steps.send
                continue
            answer = self._told(part, frame)
            if answer is None:
                if len(outer) >= _DEEPEST:
                    raise ValueError(f"a {type(value).__name__} with parts more than {_DEEPEST} deep")
                outer.append(frame)
                frame = _Frame(part, len(self._open))
                self._open[id(part)] = (frame.place, part)
                frame.steps = _way_of(type(part))(self, part)
                send = frame.steps.send

    def _told(self, value: Any, frame: "_Frame") -> bytes | None:
        """Return the description of *value* if that needs no further steps."""
        kind = type(value)
        leaf = self._leaves.get(kind)
        if leaf is not None:
            return leaf(value)
        shallow = self._shallow(value, kind, 1)
        if shallow is not None:
            return shallow
        known = self._closed.get(id(value))
        if known is not None:
            return known[1]
        met = self._open.get(id(value))
        if met is not None:
            frame.lowest = min(frame.lowest, met[0])
            return b"<%d;" % (len(self._open) - met[0])
        return None

    def _leave(self, frame: "_Frame", description: bytes) -> bytes:
        answer = _closed(description)
        if frame.lowest >= frame.place:
            # Nothing in it refers to what it lies in: it is the same wherever it lies.
            while len(self._open) > frame.place:
                self._open.popitem()
            self._closed[id(frame.value)] = (frame.value, answer)
        return answer

    def _shallow(self, value: Any, kind: type, levels: int) -> bytes | None:
        """Return the description of a small container of small things, None of anything else.

        It says what the steps below would say. Most arguments are so small that taking steps would be the greater work.
        """
        leaves = self._leaves
        if kind is list or kind is tuple:
            head, parts, keys = b"%s%d[" % (kind.__name__.encode(), len(value)), value, None
        elif kind is dict:
            head, parts, keys = b"dict%d[" % len(value), value.values(), None
        else:
            fields = _fields_of(kind)
            if fields is None:
                return None
            head, parts, keys = fields.head, [getattr(value, name, _UNSET) for name in fields.names], fields.keys
        if len(parts) > _FEW:
            return None
        described = []
        for part in parts:
            of = type(part)
            leaf = leaves.get(of)
            one = leaf(part) if leaf else self._shallow(part, of, levels - 1) if levels else None
            if one is None:
                return None
            described.append(one)
        if kind is dict:
            try:
                described = sorted([leaves[type(key)](key) + one for key, one in zip(value, described, strict=True)])
            except KeyError:
                return None
        elif keys is not None:
            described = [key + one for key, one in zip(keys, described, strict=True)]
        return _closed(head + b"".join(described))

    # --- one kind of value each ---------------------------------------------------------------------------------------

    def _plain(self, value: list[Any] | tuple[Any, ...]) -> _Steps:
        return self._sequence(value, b"list" if type(value) is list else b"tuple")

    def _sequence(self, value: list[Any] | tuple[Any, ...], tag: bytes) -> _Steps:
        leaves = self._leaves
        parts = [b"%s%d[" % (tag, len(value))]
        append = parts.append
        for part in value:
            leaf = leaves.get(type(part))
            append(leaf(part) if leaf else (yield part))
        return b"".join(parts)

    def _dict(self, value: dict[Any, Any]) -> _Steps:
        return self._mapping(value.items())

    def _mapping(self, items: Iterable[tuple[Any, Any]]) -> _Steps:
        leaves = self._leaves
        met = len(self._open)
        named = []
        for key, value in items:
            leaf = leaves.get(type(key))
            named.append((leaf(key) if leaf else (yield key), value))
        if len(named) > 1:
            self._check_order(met)
            named.sort(key=_first)
        pairs = []
        for name, value in named:
            leaf = leaves.get(type(value))
            pairs.append(name + (leaf(value) if leaf else (yield value)))
        return b"dict%d[%s" % (len(pairs), b"".join(pairs))

    def _set(self, value: set[Any] | frozenset[Any]) -> _Steps:
        met = len(self._open)
        kind = type(value)
        leaves = self._leaves
        members = []
        for member in value:
            leaf = leaves.get(type(member))
            members.append(leaf(member) if leaf else (yield member))
        if len(members) > 1:
            self._check_order(met)
            members.sort()
        described = b"%s%d(%s" % (kind.__name__.encode(), len(members), b"".join(members))
        if kind in (set, frozenset):
            return described
        more = _reduced(value)
        return b"%s%s%s" % ((yield kind), described, (yield more[2] if len(more) > 2 else None))

    def _check_order(self, met: int) -> None:
        if len(self._open) > met:
            raise ValueError(
                "members of a set, or keys of a dict, that refer back to what holds them have another order in every "
                "process; use a list"
            )

    def _enum(self, value: enum.Enum) -> _Steps:
        return self._sequence((type(value), value._name_ or value._value_), b"enum")

    def _path(self, value: PurePath) -> _Steps:
        return self._sequence((type(value), str(value)), b"path")

    def _class(self, value: type) -> _Steps:
        return b"class" + _text(qualified_name(value))
        yield

    def _named(self, value: Named) -> _Steps:
        return b"named" + _text(value.qualified_name)
        yield

    def _module(self, value: ModuleType) -> _Steps:
        return b"module" + _text(value.__name__)
        yield

    def _function(self, function: FunctionType) -> _Steps:
        named = b"function" + _text(qualified_name(function))
        if "<locals>" not in function.__qualname__:
            return named
        # Many functions have this name. What they were made with tells them apart.
        parts = [named]
        for cell in function.__closure__ or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # not filled yet
                parts.append(b"empty;")
            else:
                parts.append((yield inside))
        parts.append((yield function.__defaults__))
        parts.append((yield function.__kwdefaults__))
        return b"".join(parts)

    def _method(self, method: Any) -> _Steps:
        owner = method.__self__
        if owner is None or isinstance(owner, ModuleType):
            return b"function" + _text(qualified_name(method))
        return b"method%s%s" % (_text(method.__name__), (yield owner))

    def _buffer(self, value: Any) -> _Steps:
        with memoryview(value) as view:
            head = f"{type(value).__name__}{view.format}{view.shape}"
            return b"buffer%s%s" % (_text(head), _bytes(_raw(view)))
        yield

    def _array(self, array: Any) -> _Steps:
        head = b"array%s%s" % (_text(str(array.shape)), (yield array.dtype))
        if array.dtype.hasobject:
            return head + (yield array.ravel().tolist())
        try:
            with memoryview(array) as view:
                return head + _bytes(_raw(view))
        except (TypeError, ValueError, BufferError):  # dates, for instance, are in no format that a buffer has
            return head + _bytes(array.tobytes())

    def _object(self, value: Any) -> _Steps:
        kind = type(value)
        fields = _fields_of(kind)
        if fields is not None:
            parts = [fields.head]
            for name, key in zip(fields.names, fields.keys, strict=True):
                parts.append(key + (yield getattr(value, name, _UNSET)))
            return b"".join(parts)
        reduced = _reduced(value)
        if isinstance(reduced, str):
            return b"global" + _text(f"{module_of(value)}:{reduced}")
        make, arguments, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
        parts = [b"object", (yield make), (yield from self._sequence(arguments, b"arguments"))]
        if type(state) is dict:
            parts.append((yield from self._mapping(state.items())))
        else:
            parts.append((yield state))
        if items is not None:
            parts.append((yield from self._sequence(tuple(items), b"items")))
        if pairs is not None and isinstance(value, OrderedDict):
            parts.append((yield from self._sequence(tuple(pairs), b"pairs")))
        elif pairs is not None:
            parts.append((yield from self._mapping(pairs)))
        if setter is not None:
            parts.append((yield setter))
        return b"".join(parts)


class _Frame:
    """A value that is being described."""

    __slots__ = ("lowest", "place", "steps", "value")
    steps: _Steps

    def __init__(self, value: Any, place: int) -> None:
        self.value = value
        self.place = place
        self.lowest = place
        """The place of the first open value that something in this one refers to."""


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _closed(description: bytes) -> bytes:
    if len(description) <= _SHORT:
        return b"(%d:%s" % (len(description), description)
    return b"#" + hashlib.blake2b(description, digest_size=16).digest()


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%d:%s" % (len(data), data) if len(data) <= 1024 else b"S" + _bytes(data)


def _bytes(data: Any) -> bytes:
    if len(data) <= _SHORT:
        return b"b%d:%s" % (len(data), data)
    return b"B" + hashlib.blake2b(data, digest_size=16).digest()


def _raw(view: memoryview) -> Any:
    if view.c_contiguous and all(view.shape or ()):
        return view.cast("B")
    return view.tobytes()


LEAVES: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"none;",
    bool: lambda value: b"true;" if value else b"false;",
    int: lambda value: b"i%x;" % value,
    float: lambda value: b"f%s;" % repr(value).encode(),
    complex: lambda value: b"c%s;" % repr(value).encode(),
    str: _text,
    bytes: _bytes,
}


def _reduced(value: Any) -> Any:
    """Return the parts that a pickle of *value* would be made of."""
    kind = type(value)
    reducer = copyreg.dispatch_table.get(kind)
    if reducer is not None:
        return reducer(value)
    try:
        return value.__reduce_ex__(5)
    except Exception:
        from cloudpickle import CloudPickler

        reducer = CloudPickler.dispatch_table.get(kind)
        if reducer is None:
            raise
        return reducer(value)


class _Field(enum.Enum):
    UNSET = enum.auto()
    """Stands for a field that has no value."""


_UNSET = _Field.UNSET


@attrs.frozen
class _Fields:
    """What describing an instance of an attrs class or a dataclass by its state comes to."""

    head: bytes
    names: list[str]
    keys: list[bytes]
    """The names, described; in the order of a dict."""


def _find_fields(kind: type) -> _Fields | None:
    """Return the fields that are all there is to an instance, or None if it has to say so itself.

    Whatever else lies in such an object, a cached property or a hash, was computed from them.
    """
    if kind in copyreg.dispatch_table or any(getattr(kind, name) is not getattr(object, name) for name in _OWN_WAYS):
        return None
    # Those with slots have a __getstate__ that returns just the fields.
    state: Any = kind.__getstate__
    if state is not object.__getstate__ and getattr(state, "__globals__", {}).get("__name__") not in _MAKERS:
        return None
    if "__attrs_attrs__" in vars(kind):
        names = [field.name for field in attrs.fields(kind)]
    elif "__dataclass_fields__" in vars(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        return None
    names.sort(key=_text)
    make, described = (Describer().describe(each) for each in (copyreg.__newobj__, kind))  # type: ignore[attr-defined]
    head = b"object%sarguments1[%sdict%d[" % (make, described, len(names))
    return _Fields(head, names, [_text(name) for name in names])


_fields_of: Callable[[type], _Fields | None] = functools.lru_cache(maxsize=1024)(_find_fields)
_MAKERS = frozenset({"attr._make", "dataclasses"})
_OWN_WAYS = ("__new__", "__reduce__", "__reduce_ex__")
"""What a class with a way of its own to be made, and made again, would have changed."""


def _find_way(kind: type) -> Callable[[Describer, Any], _Steps]:
    """Return the method that describes values of this type."""
    if kind is list or kind is tuple:
        return Describer._plain
    if kind is dict:
        return Describer._dict
    if kind.__module__ == "numpy" and kind.__qualname__ == "ndarray":
        return Describer._array
    for base, way in _WAYS.items():
        if issubclass(kind, base):
            return way
    return Describer._object


_WAYS: dict[type, Callable[[Describer, Any], _Steps]] = {
    set: Describer._set,
    frozenset: Describer._set,
    type: Describer._class,
    Named: Describer._named,
    ModuleType: Describer._module,
    FunctionType: Describer._function,
    MethodType: Describer._method,
    MethodWrapperType: Describer._method,
    BuiltinFunctionType: Describer._method,
    enum.Enum: Describer._enum,
    PurePath: Describer._path,
    memoryview: Describer._buffer,
    bytearray: Describer._buffer,
    pickle.PickleBuffer: Describer._buffer,
}

_way_of: Callable[[type], Callable[[Describer, Any], _Steps]] = functools.lru_cache(maxsize=1024)(_find_way)
