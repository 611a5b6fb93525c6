"""When a failure happens: at one point, for some tasks, at one time or with a probability.

A draw is a function of the seed, of the failure, of the task and of how often that task came to the point, and of
nothing else: threads may come in any order, and the same tasks fail in every run.
"""

import functools
import hashlib
import re
import secrets
from typing import Any

import attrs

from exoflow.errors import UnknownOptionError
from exoflow.failures.points import TASK_POINTS, FailurePoint

__all__ = ["Trigger", "common_seed", "pattern_of"]


@functools.cache
def common_seed() -> int:
    """Return the seed of all failures of this process that were given none: drawn once, and told wherever it is used."""
    return secrets.randbits(32)


def _probability(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise UnknownOptionError(f"p={value!r}: expected a probability from 0 to 1")


def _positive(instance: object, attribute: "attrs.Attribute[Any]", value: int | None) -> None:
    if value is not None and value < 1:
        raise UnknownOptionError(f"@{value!r}: times are counted from 1")


@attrs.frozen(kw_only=True)
class Trigger:
    """When a failure happens.

    Raises:
        UnknownOptionError: It could never be met.
    """

    task: str = "*"
    """A task id, or a pattern with ``*`` and ``?``. Points that concern no task are matched by ``*`` alone."""
    point: FailurePoint = FailurePoint.BEFORE_RUN
    time: int | None = attrs.field(default=1, validator=_positive)
    """Only the n-th time that *point* is reached by a task that matches; every time when None."""
    probability: float | None = attrs.field(default=None, validator=_probability)
    """Each time (that `time` lets through) with this probability."""
    seed: int | None = None
    """What `probability` is drawn from; `common_seed` when None."""
    _matches: "re.Pattern[str] | None" = attrs.field(init=False, eq=False, repr=False)

    @_matches.default
    def _compile(self) -> "re.Pattern[str] | None":
        # Not fnmatch: a task id may have brackets, which mean themselves here.
        each = ({"*": ".*", "?": "."}.get(letter) or re.escape(letter) for letter in self.task)
        return None if self.task == "*" else re.compile("".join(each), re.DOTALL)

    def __attrs_post_init__(self) -> None:
        if self.point not in TASK_POINTS and self.task != "*":
            raise UnknownOptionError(
                f"failure point {str(self.point)!r} concerns no single task, so {self.task!r} would never be met there; use '*'"
            )

    def concerns(self, point: FailurePoint, task_id: str) -> bool:
        """Whether a task that comes to *point* counts."""
        return point == self.point and (self._matches is None or self._matches.fullmatch(task_id) is not None)

    def draw(self, failure: str, task: str, nth: int) -> bool:
        """Whether chance lets it happen when a task comes to the point for the *nth* time.

        Args:
            failure: What tells this failure from others with the same seed, which must not happen together.
            task: Which task, as `pattern_of` calls it.
            nth: Counts from 1.
        """
        assert self.probability is not None
        seed = common_seed() if self.seed is None else self.seed
        drawn = hashlib.blake2b(f"{seed}\0{failure}\0{task}\0{nth}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") < self.probability * 2**64


def pattern_of(task_id: str) -> str:
    """Return a TASK that means *task_id* in every run: a task of a continuation is known by its place alone.

    Its id begins with an attempt of its parent, which is another one each time.
    """
    _, slash, place = task_id.rpartition("/")
    return f"*/{place}" if slash else re.sub("[=@]", "?", task_id)
