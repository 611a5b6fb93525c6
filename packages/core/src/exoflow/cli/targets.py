"""From ``module:attribute`` or ``file.py:attribute`` to the node it names."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from exoflow.errors import UsageError
from exoflow.graph.node import Node
from exoflow.tasks.task import Task

__all__ = ["Target", "extend_path", "load_target"]

_extended: set[str] = set()
"""Folders this command put on the path that modules are imported from."""


@attrs.frozen
class Target:
    """What is to be run."""

    node: Node
    name: str
    """For people: the attribute's name."""
    folder: str | None
    """Where its code was found: needed again to import its tasks. None for what is installed."""


def extend_path(*folders: str) -> None:
    """Put *folders* on the path that modules are imported from, first named first."""
    for folder in reversed(folders):
        absolute = str(Path(folder).resolve())
        _extended.add(absolute)
        if absolute in sys.path:
            sys.path.remove(absolute)
        sys.path.insert(0, absolute)


def load_target(text: str) -> Target:
    """Import what *text* names and make a node of it.

    A file is imported as `python file.py` would find its neighbours: under its own name, from its own folder. So its
    tasks are stored as names that another process can import from that folder.

    Args:
        text: ``module:attribute`` or ``path/to/file.py:attribute``; the attribute, dotted if need be, is a node, a
            task, or a function without arguments that returns a node.

    Raises:
        UsageError: There is no such thing, or it is not a node.
    """
    where, _, attribute = text.rpartition(":")
    if not where or not attribute:
        raise UsageError(f"{text!r}: expected module:name or file.py:name, such as pipeline:dag")
    is_file = where.endswith(".py") or "/" in where
    module = _import_file(Path(where)) if is_file else _import_module(where)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f"{where} has no {attribute!r}{_candidates(module)}") from None
    return Target(_as_node(text, found), attribute, _folder(module))


def _folder(module: ModuleType) -> str | None:
    """The folder that *module*, or the package it is in, was imported from, if this command had put it on the path."""
    package = sys.modules[module.__name__.partition(".")[0]]
    places = [Path(place) for place in getattr(package, "__path__", ())] or [
        Path(getattr(package, "__file__", None) or "")
    ]
    return next((str(place.resolve().parent) for place in places if str(place.resolve().parent) in _extended), None)


def _as_node(text: str, found: Any) -> Node:
    if isinstance(found, Node):
        return found
    if isinstance(found, Task):
        return found.bind()
    if callable(found):
        try:
            made = found()
        except Exception as error:
            raise UsageError(
                f"{text}: calling {getattr(found, '__name__', found)}() raised {type(error).__name__}: {error}"
            ) from error
        if isinstance(made, Node):
            return made
        raise UsageError(f"{text}: expected a function that returns a node (task.bind(...)), it returned {made!r}")
    raise UsageError(f"{text}: expected a node (task.bind(...)) or a function that returns one, found {found!r}")


def _candidates(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Node | Task) and name[0] != "_"]
    return f"; its nodes and tasks: {', '.join(names)}" if names else "; it has no node (task.bind(...)) either"


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            file = Path(*name.split(".")).with_suffix(".py")
            hint = f"is it a file? Then {file}:..." if file.exists() else "the current folder and --path are searched"
            raise UsageError(f"no module {error.name!r}; {hint}") from error
        raise UsageError(f"{name} cannot be imported: {error}") from error
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no file {str(path)!r}")
    name = path.stem
    if "." in name:
        raise UsageError(f"{str(path)!r}: a file with a dot in its name cannot be imported; rename it")
    extend_path(str(path.parent))
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
        if origin is not None and Path(origin).resolve() == path.resolve():
            return loaded
        raise UsageError(f"{str(path)!r}: another module is called {name!r} ({origin or 'built in'}); rename the file")
    module = _import_module(name)
    if Path(module.__file__ or "").resolve() != path.resolve():
        del sys.modules[name]
        raise UsageError(f"{str(path)!r}: {module.__file__} is found under its name; rename the file")
    return module
