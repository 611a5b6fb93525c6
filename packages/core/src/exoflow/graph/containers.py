"""Finding and replacing things inside lists, tuples, dicts, attrs and dataclass instances, at any depth.

Containers that hold nothing of interest are returned as they are, not copied: a task is given the very object its
caller bound.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import attrs

__all__ = ["replace", "walk"]

_ATOMS = frozenset({int, str, float, bool, bytes, type(None), complex})


def walk(value: Any, wanted: tuple[type, ...]) -> Iterator[Any]:
    """Yield every instance of *wanted* inside *value*, left to right."""
    kind = type(value)
    if kind in _ATOMS:
        return
    if isinstance(value, wanted):
        yield value
    elif kind is list or kind is tuple or isinstance(value, list | tuple):
        for item in value:
            if type(item) not in _ATOMS:
                yield from walk(item, wanted)
    elif kind is dict or isinstance(value, dict):
        for item in value.values():
            if type(item) not in _ATOMS:
                yield from walk(item, wanted)
    elif not isinstance(value, type) and attrs.has(kind):
        for field in attrs.fields(kind):
            yield from walk(getattr(value, field.name), wanted)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for member in dataclasses.fields(value):
            yield from walk(getattr(value, member.name), wanted)


def replace(value: Any, wanted: tuple[type, ...], substitute: Callable[[Any], Any]) -> Any:
    """Return *value* with every instance of *wanted* in it replaced by what *substitute* makes of it."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if isinstance(value, wanted):
        return substitute(value)
    if kind is list:
        return _sequence(value, list, wanted, substitute)
    if kind is tuple:
        return _sequence(value, tuple, wanted, substitute)
    if kind is dict:
        items = {key: replace(item, wanted, substitute) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in items) else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _sequence(value, lambda items: kind(*items), wanted, substitute)
    if not isinstance(value, type) and attrs.has(kind):
        changes = {f.alias: replace(getattr(value, f.name), wanted, substitute) for f in attrs.fields(kind) if f.init}
        same = all(changes[f.alias] is getattr(value, f.name) for f in attrs.fields(kind) if f.init)
        return value if same else attrs.evolve(value, **changes)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.init]
        changes = {f.name: replace(getattr(value, f.name), wanted, substitute) for f in fields}
        same = all(changes[f.name] is getattr(value, f.name) for f in fields)
        return value if same else dataclasses.replace(value, **changes)
    return value


def _sequence(
    value: Any, build: Callable[[list[Any]], Any], wanted: tuple[type, ...], substitute: Callable[[Any], Any]
) -> Any:
    items = [item if type(item) in _ATOMS else replace(item, wanted, substitute) for item in value]
    return build(items) if any(new is not old for new, old in zip(items, value, strict=True)) else value
