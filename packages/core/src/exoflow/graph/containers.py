"""Finding and replacing things inside lists, tuples, dicts, deques, attrs and dataclass instances, at any depth.

Containers that hold nothing of interest are returned as they are, not copied: a task is given the very object its
caller bound. What is shared stays shared. Nothing here recurses, so depth is no limit.
"""

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import attrs

__all__ = ["ATOMS", "RingError", "replace", "walk"]

ATOMS = frozenset({int, str, float, bool, bytes, type(None), complex})
"""Types, not counting subclasses, whose values contain nothing else."""


class RingError(ValueError):
    """A container that contains itself holds something that is to be replaced."""


def walk(value: Any, wanted: tuple[type, ...]) -> Iterator[Any]:
    """Yield every instance of *wanted* inside *value*, left to right, also members of sets and keys of dicts."""
    seen: dict[int, Any] = {}
    levels: list[Iterator[Any]] = [iter((value,))]
    while levels:
        for part in levels[-1]:
            kind = type(part)
            if kind in ATOMS:
                continue
            if isinstance(part, wanted):
                yield part
                continue
            container = _container_of(kind)
            if container is None or id(part) in seen:
                continue
            everything = container.everything(part)
            if not ATOMS.issuperset(map(type, everything)):
                seen[id(part)] = part
                levels.append(iter(container.everything(part)))
                break
        else:
            levels.pop()


def replace(
    value: Any,
    wanted: tuple[type, ...],
    substitute: Callable[[Any], Any],
    misplaced: Callable[[Any, str], None] | None = None,
) -> Any:
    """Return *value* with every instance of *wanted* in it replaced by what *substitute* makes of it.

    Args:
        value: Anything; it stays as it is.
        wanted: The types looked for.
        substitute: Called from left to right.
        misplaced: Called with what was found as a member of a set or as a key, where nothing is replaced, and with a
            word for the place. Without it nobody looks there.

    Raises:
        RingError: What is wanted lies in a container that contains itself.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if isinstance(value, wanted):
        return substitute(value)
    container = _container_of(kind)
    if container is None:
        return value
    frame = _Frame(value, container)
    if misplaced is not None:
        _look_aside(value, container, wanted, misplaced)
    outer: list[_Frame] = []
    active = {id(value): frame}
    done: dict[int, tuple[Any, Any]] = {}
    while True:
        made = frame.made
        for part in frame.rest:
            kind = type(part)
            if kind in ATOMS:
                made.append(part)
                continue
            if isinstance(part, wanted):
                made.append(substitute(part))
                frame.changed = True
                continue
            container = _container_of(kind)
            if container is None:
                made.append(part)
                continue
            key = id(part)
            if key in done:
                made.append(done[key][1])
                frame.changed = frame.changed or done[key][1] is not part
                continue
            if key in active:
                active[key].ringed = True
                made.append(part)
                continue
            if misplaced is not None:
                _look_aside(part, container, wanted, misplaced)
            inner = _Frame(part, container)
            if ATOMS.issuperset(map(type, inner.parts)):
                made.append(part)
                continue
            active[key] = inner
            outer.append(frame)
            frame = inner
            break
        else:
            old = frame.value
            new = old
            if frame.changed:
                if frame.ringed:
                    raise RingError(f"a {type(old).__name__} contains itself")
                new = frame.container.rebuild(old, made)
            if not outer:
                return new
            del active[id(old)]
            done[id(old)] = (old, new)  # the old one too, for its id must stay taken
            frame = outer.pop()
            frame.made.append(new)
            frame.changed = frame.changed or new is not old


class _Frame:
    """A container on the way down, and what has become of its parts so far."""

    __slots__ = ("changed", "container", "made", "parts", "rest", "ringed", "value")

    def __init__(self, value: Any, container: "_Container") -> None:
        self.value = value
        self.container = container
        self.parts = container.parts(value)
        self.rest = iter(self.parts)
        self.made: list[Any] = []
        self.changed = False
        self.ringed = False


def _look_aside(
    value: Any, container: "_Container", wanted: tuple[type, ...], misplaced: Callable[[Any, str], None]
) -> None:
    aside = container.aside(value)
    if not ATOMS.issuperset(map(type, aside)):
        for part in aside:
            for found in walk(part, wanted):
                misplaced(found, container.place)


class _Container:
    """How one kind of container is taken apart and put together: here a list."""

    place = ""
    """A word for where `aside` lies."""

    def parts(self, value: Any) -> Sequence[Any]:
        """Return what can be replaced, from left to right."""
        return value  # type: ignore[no-any-return]

    def aside(self, value: Any) -> Iterable[Any]:
        """Return what is in it, too, but cannot be replaced."""
        return ()

    def everything(self, value: Any) -> Iterable[Any]:
        return self.parts(value)

    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        """Return a container like *value* with other *parts*."""
        return parts


# Subclasses are copied, the way they copy themselves, for they may carry more; only then are their parts exchanged.


class _ListSubclass(_Container):
    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        made = copy.copy(value)
        list.__setitem__(made, slice(None), parts)
        return made


class _Deque(_Container):
    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        made = copy.copy(value)
        for at, part in enumerate(parts):
            deque.__setitem__(made, at, part)
        return made


class _Tuple(_Container):
    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        return tuple(parts)


class _TupleSubclass(_Container):
    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        made = tuple.__new__(type(value), parts)
        if hasattr(made, "__dict__"):
            vars(made).update(vars(value))
        return made


class _Dict(_Container):
    place = "as a key"

    def parts(self, value: Any) -> Sequence[Any]:
        return [*value.values()]

    def aside(self, value: Any) -> Iterable[Any]:
        return value  # type: ignore[no-any-return]

    def everything(self, value: Any) -> Iterable[Any]:
        return chain(value, value.values())

    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        return dict(zip(value, parts, strict=True))


class _DictSubclass(_Dict):
    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        made = copy.copy(value)
        for key, part in zip(value, parts, strict=True):
            dict.__setitem__(made, key, part)
        return made


class _Set(_Container):
    place = "in a set"

    def parts(self, value: Any) -> Sequence[Any]:
        return ()

    def aside(self, value: Any) -> Iterable[Any]:
        return value  # type: ignore[no-any-return]

    def everything(self, value: Any) -> Iterable[Any]:
        return value  # type: ignore[no-any-return]


class _Fields(_Container):
    """Of attrs and dataclasses. Their constructors are not called: a field may be one that they do not take."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def parts(self, value: Any) -> Sequence[Any]:
        return [getattr(value, name, None) for name in self._names]

    def rebuild(self, value: Any, parts: list[Any]) -> Any:
        made = copy.copy(value)
        for name, part in zip(self._names, parts, strict=True):
            if part is not getattr(value, name, None):
                object.__setattr__(made, name, part)
        return made


_LIST, _LIST_SUBCLASS, _DEQUE, _TUPLE, _TUPLE_SUBCLASS = (
    _Container(), _ListSubclass(), _Deque(), _Tuple(), _TupleSubclass(),
)  # fmt: skip
_DICT, _DICT_SUBCLASS, _SET = _Dict(), _DictSubclass(), _Set()


def _find_container(kind: type) -> _Container | None:
    if issubclass(kind, list):
        return _LIST if kind is list else _LIST_SUBCLASS
    if issubclass(kind, tuple):
        return _TUPLE if kind is tuple else _TUPLE_SUBCLASS
    if issubclass(kind, dict):
        return _DICT if kind is dict else _DICT_SUBCLASS
    if issubclass(kind, set | frozenset):
        return _SET
    if issubclass(kind, deque):
        return _DEQUE
    if attrs.has(kind):
        return _Fields(tuple([field.name for field in attrs.fields(kind)]))
    if dataclasses.is_dataclass(kind):
        return _Fields(tuple([field.name for field in dataclasses.fields(kind)]))
    return None


_container_of: Callable[[type], _Container | None] = lru_cache(maxsize=1024)(_find_container)
