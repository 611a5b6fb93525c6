"""What a task promises, and what it wants in return.

A policy is data: the engine derives from it what must be durable before what may start. It is checked when
it is made, so that a task with a contradictory policy cannot be declared.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from numbers import Integral, Real
from typing import Any, TypeVar

import attrs

from exoflow.errors import UnknownOptionError

__all__ = ["Checkpoint", "Effects", "TaskPolicy", "is_duration"]


class Effects(StrEnum):
    """What a task changes outside the workflow, and what may be done about it."""

    NONE = "none"
    """Nothing: an attempt that is thrown away was never seen by anyone."""

    IDEMPOTENT = "idempotent"
    """Something, keyed: repeating it with the same key changes nothing, even while the first still runs."""

    ROLLBACK = "rollback"
    """Something that ``undo`` takes back; ``undo`` accepts that nothing had happened."""

    ONCE = "once"
    """Something that must not be repeated; only ``resolve`` can say whether it happened."""


class Checkpoint(StrEnum):
    """When a task's outcome becomes durable."""

    SYNC = "sync"
    """Before its dependents start."""

    ASYNC = "async"
    """While its dependents run; effects and the answer wait for it where they must."""

    SKIP = "skip"
    """Not, unless output commit needs it. An effect's completion is recorded all the same."""

    AUTO = "auto"
    """``async`` if storing the value took less time than computing it, else ``skip``: measured."""


E = TypeVar("E", bound=StrEnum)


def _choice(kind: type[E], value: Any) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(str(member)) for member in kind)
        raise UnknownOptionError(f"{kind.__name__.lower()}={value!r} is not known; expected one of {known}") from None


def _effects(value: Any) -> Effects:
    return _choice(Effects, value)


def _checkpoint(value: Any) -> Checkpoint:
    return _choice(Checkpoint, value)


def _exceptions(value: Any) -> Any:
    """One class is as good as a list of one; what is neither is left for the validator."""
    if isinstance(value, type):
        return (value,)
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else value


def _resources(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _expect(what: str, holds: Callable[[Any], bool]) -> Callable[[object, "attrs.Attribute[Any]", Any], None]:
    """Return a validator that names the option, its value and *what* was expected."""

    def validate(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if not holds(value):
            name = "rollback" if attribute.name == "undo" else attribute.name
            raise UnknownOptionError(f"{name}={value!r}: expected {what}")

    return validate


def is_duration(value: object) -> bool:
    """Whether *value* is a number of at least 0, of seconds for instance."""
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) >= 0


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


_count = _expect("a whole number of at least 0", lambda v: isinstance(v, Integral) and is_duration(v))
_duration = _expect("a number of at least 0", is_duration)
_duration_or_none = _expect("a number of at least 0", lambda v: v is None or is_duration(v))
_share = _expect("a number from 0 to 1", lambda v: is_duration(v) and v <= 1)
_yes_or_no = _expect("True or False", lambda v: isinstance(v, bool))
_text_or_none = _expect("a text", lambda v: v is None or isinstance(v, str))
_callable_or_none = _expect("a function", lambda v: v is None or callable(v))
_exception_types = _expect(
    "an exception class, or a list of them", lambda v: isinstance(v, tuple) and all(map(_is_exception, v))
)
_amounts = _expect(
    "a dict with names as keys", lambda v: isinstance(v, Mapping) and all(isinstance(name, str) for name in v)
)


@attrs.frozen(kw_only=True)
class TaskPolicy:
    """The promises and wishes of one task.

    Raises:
        UnknownOptionError: A value that does not exist, or two that contradict each other.
    """

    effects: Effects = attrs.field(default=Effects.IDEMPOTENT, converter=_effects)
    deterministic: bool = attrs.field(default=False, validator=_yes_or_no)
    """The same inputs always give the same value. Failures are never deterministic."""
    checkpoint: Checkpoint = attrs.field(default=Checkpoint.SYNC, converter=_checkpoint)
    retries: int = attrs.field(default=0, validator=_count)
    """How often an attempt that raised one of ``retry_on`` is followed by another."""
    retry_on: tuple[type[BaseException], ...] = attrs.field(
        default=(Exception,), converter=_exceptions, validator=_exception_types
    )
    system_retries: int = attrs.field(default=3, validator=_count)
    """The same for attempts whose process died, counted apart."""
    retry_delay_s: float = attrs.field(default=0.1, validator=_duration)
    """Before the first retry; it doubles each time up to ``retry_delay_max_s``."""
    retry_delay_max_s: float = attrs.field(default=60.0, validator=_duration)
    retry_jitter: float = attrs.field(default=0.5, validator=_share)
    """The share of each delay that is drawn at random, 0 to 1."""
    timeout_s: float | None = attrs.field(default=None, validator=_duration_or_none)
    catch_exceptions: bool = attrs.field(default=False, validator=_yes_or_no)
    """The result is ``(value, None)`` or ``(None, exception)``."""
    undo: Callable[..., Any] | None = attrs.field(default=None, validator=_callable_or_none)
    """Called with what ``undo_args`` chose, by default the task's own arguments."""
    undo_args: Callable[..., Any] | None = attrs.field(default=None, validator=_callable_or_none)
    """Called with the task's arguments before it starts; returns the tuple ``undo`` will be given."""
    resolve: Callable[[str], Any] | None = attrs.field(default=None, validator=_callable_or_none)
    """Called with the key of a ``once`` task whose outcome is unknown; returns Happened, DidNotHappen or Unknown."""
    fences: bool = attrs.field(default=False, validator=_yes_or_no)
    """After ``undo`` or ``resolve`` the receiver refuses a late arrival of that key; so each attempt has its own."""
    not_happened: tuple[type[BaseException], ...] = attrs.field(
        default=(), converter=_exceptions, validator=_exception_types
    )
    """Exceptions of a ``once`` task that mean its effect did not happen."""
    executor: str | None = attrs.field(default=None, validator=_text_or_none)
    """The executor that runs it; the engine's own when None."""
    isolation: bool = attrs.field(default=False, validator=_yes_or_no)
    """A process of its own."""
    resources: Mapping[str, Any] = attrs.field(factory=dict, converter=_resources, validator=_amounts)
    version: str | None = attrs.field(default=None, validator=_text_or_none)
    """Replaces the hash of the source as the fingerprint of the code."""

    def __attrs_post_init__(self) -> None:
        if (self.undo is not None) != (self.effects is Effects.ROLLBACK):
            raise UnknownOptionError(
                "effects='rollback' and rollback=<the undo function> belong together: give rollback=... alone"
            )
        if self.effects in (Effects.ROLLBACK, Effects.ONCE) and self.checkpoint in (Checkpoint.SKIP, Checkpoint.AUTO):
            raise UnknownOptionError(
                f"checkpoint={str(self.checkpoint)!r} with effects={str(self.effects)!r}: its outcome could not be told "
                f"again after a crash, and it may not run again; use 'sync' or 'async'"
            )
        if self.undo_args is not None and self.undo is None:
            raise UnknownOptionError("undo_args=... without rollback=...: nothing would be called with them")
        if self.effects is not Effects.ONCE and (self.resolve is not None or self.not_happened):
            raise UnknownOptionError("resolve=... and not_happened=... belong to effects='once'")
        if self.fences and self.undo is None and self.resolve is None:
            raise UnknownOptionError("fences=True says something of rollback=... or resolve=...; give one of them")
        if self.effects is Effects.ONCE and self.retries and not (self.not_happened or self.resolve):
            raise UnknownOptionError(
                "retries=... with effects='once': only what did not happen may be retried; name the exceptions that say "
                "so in not_happened=(...), or give resolve=..."
            )
