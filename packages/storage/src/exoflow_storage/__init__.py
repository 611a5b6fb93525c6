"""Places that keep what ExoFlow must not lose.

Importing this package opens nothing and registers nothing: `exoflow` finds the stores through
`exoflow_storage.plugin`, by the scheme of the URL it is given.
"""

from exoflow_storage.local import FileStore, LocalFileStore, open_file_store

__version__ = "0.1.0"

__all__ = ["FileStore", "LocalFileStore", "__version__", "open_file_store"]
