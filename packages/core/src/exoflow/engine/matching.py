"""Whether an exception is of a class that a policy names, also where another stands in its place."""

__all__ = ["is_one_of", "name_of"]


def is_one_of(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    """Whether an ``except`` clause with *classes* would have caught *error*.

    A `TaskError` stands for an exception that does not survive a pickle, and knows by name what that was.
    """
    if isinstance(error, classes):
        return True
    kinds = getattr(error, "kinds", ())
    return isinstance(kinds, tuple) and any(name_of(each) in kinds for each in classes)


def name_of(kind: type) -> str:
    """Return module and name of a class; of a builtin the name alone."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
