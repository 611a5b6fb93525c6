"""A store in an SQLite file and an executor that respects tags, as a third party would bring them to ExoFlow."""

__version__ = "0.1.0"

__all__ = ["__version__"]
