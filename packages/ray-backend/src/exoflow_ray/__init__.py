"""ExoFlow on a Ray cluster; empty in this version.

It will hold an executor whose results stay in Ray's object store, controllers that take over from one another, and
references to Ray objects and actors as values of tasks. Until then it registers no plugin, and does not require Ray.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
