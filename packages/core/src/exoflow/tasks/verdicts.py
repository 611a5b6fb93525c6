"""What a ``resolve`` function may answer about an attempt whose outcome is unknown.

`DidNotHappen` and `Unknown` say everything by their name, so that ``return DidNotHappen`` is as good as
``return DidNotHappen()``; ``Happened`` alone stands for ``Happened(None)``.
"""

from typing import Any

import attrs

from exoflow.errors import UsageError

__all__ = ["DidNotHappen", "Happened", "Unknown", "read_verdict"]


@attrs.frozen
class Happened:
    """The effect happened, and the task's result is `value`."""

    value: Any = None


@attrs.frozen
class DidNotHappen:
    """The effect did not happen and will not any more: the task may run again."""


@attrs.frozen
class Unknown:
    """Nobody can tell: a person has to."""


def read_verdict(task_id: str, answer: object) -> tuple[bool | None, Any]:
    """Return whether the effect happened (None: not known), and with which result.

    Raises:
        UsageError: *answer* is not a verdict.
    """
    if isinstance(answer, Happened):
        return True, answer.value
    if answer is Happened:
        return True, None
    if answer is DidNotHappen or isinstance(answer, DidNotHappen):
        return False, None
    if answer is Unknown or isinstance(answer, Unknown):
        return None, None
    raise UsageError(
        f"the resolve function of task {task_id!r} returned {answer!r}; expected exoflow.Happened(value), "
        f"exoflow.DidNotHappen or exoflow.Unknown"
    )
