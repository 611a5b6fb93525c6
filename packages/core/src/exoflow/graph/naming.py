"""Names of functions and classes that are the same in every process, however their module was started.

A file that is run calls its module ``__main__``; a file that is imported, by its own name. Both are the same code, so
here both have the name that an import would give.
"""

import os
import sys
from types import FunctionType
from typing import Any

__all__ = ["Named", "module_of", "qualified_name"]

_STARTED = frozenset({"__main__", "__mp_main__"})


class Named:
    """Something that is told apart by its name alone, whatever else it carries."""

    __slots__ = ()

    @property
    def qualified_name(self) -> str:
        """Module and qualified name."""
        raise NotImplementedError


def qualified_name(thing: Any) -> str:
    """Return ``module:name`` of a function or a class."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or type(thing).__qualname__
    return f"{module_of(thing)}:{name}"


def module_of(thing: Any) -> str:
    """Return the name of the module that *thing* is from; of a file that was started, the name it is imported by.

    What a shell or a notebook defines has no such name, and stays in ``__main__``.
    """
    module = getattr(thing, "__module__", None) or "?"
    if module not in _STARTED:
        return str(module)
    space = _globals_of(thing, module)
    file = space.get("__file__")
    if not isinstance(file, str):
        return "__main__"
    package = space.get("__package__")
    stem = os.path.splitext(os.path.basename(file))[0]  # noqa: PTH119, PTH122 - pathlib takes 8 ms to import
    return f"{package}.{stem}" if package else stem


def _globals_of(thing: Any, module: str) -> dict[str, Any]:
    # A function that another process started is here by value. Its own globals still know their file; this process'
    # __main__ is another one.
    found = thing
    while isinstance(found, FunctionType):
        if found.__globals__.get("__name__") == module:
            return found.__globals__
        found = getattr(found, "__wrapped__", None)
    return vars(sys.modules[module]) if module in sys.modules else {}
