"""What a plugin author needs first: the marker that says "this function is an ExoFlow hook".

The hooks themselves are specified in `exoflow.plugins.hookspecs`. Importing this package imports neither them nor
anything else of ExoFlow, so that a plugin's module stays cheap to load.
"""

import pluggy

__all__ = ["hookimpl"]

hookimpl = pluggy.HookimplMarker("exoflow")
"""Decorates a plugin's implementation of an ``exoflow_*`` hook."""
