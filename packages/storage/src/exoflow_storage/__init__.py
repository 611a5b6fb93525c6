"""Places that keep what ExoFlow must not lose.

Importing this package opens nothing and registers nothing: `exoflow` finds the stores through
`exoflow_storage.plugin`, by the scheme of the URL it is given. A store's module is imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exoflow_storage.local import FileStore, LocalFileStore, open_file_store

__version__ = "0.1.0"

__all__ = ["FileStore", "LocalFileStore", "__version__", "open_file_store"]

_HOMES = {"FileStore": "local", "LocalFileStore": "local", "open_file_store": "local"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
