"""What this package tells the plugin manager; it imports nothing heavy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from exoflow.plugins import hookimpl

if TYPE_CHECKING:
    from exoflow.plugins.hookspecs import StoreOpener
    from exoflow.stores.contract import ObjectStore


@hookimpl
def exoflow_object_stores() -> "Mapping[str, StoreOpener]":
    """Folders, under ``file://``."""
    return {"file": _open_file}


def _open_file(url: str, **options: Any) -> "ObjectStore":
    from exoflow_storage.local import open_file_store

    return open_file_store(url, **options)
