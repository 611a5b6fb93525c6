"""Where a workflow's code is, when another process has to import it again.

``exoflow run`` notes the folder it found the code in with the workflow; whoever looks at the workflow from elsewhere
and cannot import its tasks looks there, after the current folder and those named with ``--path``.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import exoflow
    from exoflow.cli.targets import Target

__all__ = ["metadata_of", "with_code"]

_KEY = "exoflow.folder"

T = TypeVar("T")


def metadata_of(target: "Target") -> dict[str, Any] | None:
    """Return what is kept with a workflow so that its code is found again."""
    return {_KEY: target.folder} if target.folder is not None else None


def with_code(engine: "exoflow.Engine", workflow_id: str, call: Callable[[], T]) -> T:
    """Return what *call* returns; if it lacks a module, look where the workflow's code was and call again."""
    try:
        return call()
    except ModuleNotFoundError:
        # The listing is asked only now: it may be long, and nearly always the code is where it should be.
        folders = [info.metadata.get(_KEY) for info in engine.list() if info.workflow_id == workflow_id]
        found = [folder for folder in folders if isinstance(folder, str) and Path(folder).is_dir()]
        if not [folder for folder in found if folder not in sys.path]:
            raise
        sys.path.extend(folder for folder in found if folder not in sys.path)
    return call()
