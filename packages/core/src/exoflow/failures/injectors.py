"""Failures as data: a task, a point, a trigger and an action, written as one word.

::

    train_12.crash                     the controller dies when train_12 is first about to start
    preprocess.task_crash@2            the second attempt of preprocess loses its process
    *.delay=0.05@p=0.1,seed=7          every tenth attempt or so starts 50 ms late, the same ones in every run
    *.kill@3,before_flush              SIGKILL before the third flush

The form is ``TASK.ACTION[=VALUE][@TRIGGER]``. TASK is a task id, or a pattern with ``*`` and ``?``. TRIGGER is a
comma-separated choice of: a number *n* (the n-th time; 1 unless told), ``always``, ``p=`` a probability for each time, ``seed=``
for it, and the name of a `FailurePoint`. An injector counts on its own and for one engine; a process that was killed
and started again counts from the beginning, so a run that resumes is usually given no failures.
"""

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs

from exoflow.errors import TaskLostError, UnknownOptionError, UsageError
from exoflow.failures.points import TASK_POINTS, FailurePoint, Injector, Reach, SimulatedCrash

__all__ = [
    "ACTIONS",
    "FailureInjector",
    "FailureSpec",
    "InjectedError",
    "Trigger",
    "combine",
    "crash",
    "delay",
    "kill",
    "parse",
    "raise_in_task",
    "task_crash",
]


class InjectedError(Exception):
    """What an injector raises in place of a task's own exception."""


def _probability(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise UnknownOptionError(f"p={value!r}: expected a probability from 0 to 1")


def _positive(instance: object, attribute: "attrs.Attribute[Any]", value: int | None) -> None:
    if value is not None and value < 1:
        raise UnknownOptionError(f"@{value!r}: times are counted from 1")


@attrs.frozen(kw_only=True)
class Trigger:
    """When a failure happens: at one point, for some tasks, at one time or with a probability."""

    task: str = "*"
    """A task id, or a pattern with ``*`` and ``?``. Points that concern no task are matched by ``*`` alone."""
    point: FailurePoint = FailurePoint.BEFORE_RUN
    time: int | None = attrs.field(default=1, validator=_positive)
    """Only the n-th time that *point* is reached by a task that matches; every time when None."""
    probability: float | None = attrs.field(default=None, validator=_probability)
    """Each time (that `time` lets through) with this probability."""
    seed: int = 0
    """Of the generator that draws for `probability`; the same seed draws the same."""

    def __attrs_post_init__(self) -> None:
        if self.point not in TASK_POINTS and self.task != "*":
            raise UnknownOptionError(
                f"failure point {str(self.point)!r} concerns no single task, so {self.task!r} would never be met there; use '*'"
            )


@attrs.frozen(kw_only=True)
class FailureSpec:
    """The text ``TASK.ACTION[=VALUE][@TRIGGER]``, parsed."""

    text: str
    action: str
    """A key of `ACTIONS`, or an action that a plugin brings."""
    value: str | None
    trigger: Trigger


Action = Callable[[FailurePoint, str], None]
"""Makes the failure happen, given the point and the task id."""


class FailureInjector:
    """Performs *action* whenever *trigger* says so.

    The draw of a trigger with a probability depends on its seed and on how often the point was reached before, so the
    same order of events fails in the same way.
    """

    def __init__(self, trigger: Trigger, action: Action) -> None:
        self.trigger = trigger
        self.action = action
        self._lock = threading.Lock()  # points inside blob writes are reached from executors' threads
        self._times = 0
        self._random = random.Random(trigger.seed)

    def reach(
        self, point: FailurePoint, *, workflow_id: str = "", task_id: str = "", attempt: str = "", number: int = 0
    ) -> None:
        """Perform the action, or do nothing."""
        trigger = self.trigger
        if point != trigger.point or not (trigger.task == "*" or fnmatchcase(task_id, trigger.task)):
            return
        with self._lock:
            self._times += 1
            due = trigger.time is None or self._times == trigger.time
            if due and trigger.probability is not None:
                due = self._random.random() < trigger.probability
        if due:
            self.action(point, task_id)

    def __repr__(self) -> str:
        return f"<failure {self.action!r} at {self.trigger!r}>"


def crash(point: FailurePoint, task_id: str) -> None:
    """Let the controller die where it stands, inside this process: `SimulatedCrash`."""
    raise SimulatedCrash(point, task_id)


def kill(point: FailurePoint, task_id: str) -> None:
    """Kill this process, as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def task_crash(point: FailurePoint, task_id: str) -> None:
    """Let the attempt be lost, as if its process had died: a system failure, counted apart from the task's own."""
    raise TaskLostError(task_id, f"injected at {point}")


@attrs.frozen
class raise_in_task:  # noqa: N801 - an action like the functions beside it
    """Fail the attempt with an exception of its own."""

    error: type[BaseException] = InjectedError

    def __call__(self, point: FailurePoint, task_id: str) -> None:
        """Raise it."""
        raise self.error(f"injected at {point} of task {task_id!r}")


@attrs.frozen
class delay:  # noqa: N801
    """Let whoever reached the point wait there."""

    seconds: float = 0.1
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, point: FailurePoint, task_id: str) -> None:
        """Wait."""
        self.sleep(self.seconds)


def _make_raise(value: str | None) -> Action:
    if value is None:
        return raise_in_task()
    import builtins

    found = getattr(builtins, value, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise UnknownOptionError(f"raise={value}: expected the name of a built-in exception, such as raise=OSError")
    return raise_in_task(found)


def _make_delay(value: str | None) -> Action:
    try:
        seconds = 0.1 if value is None else float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UnknownOptionError(f"delay={value}: expected a number of seconds, such as delay=0.5")
    return delay(seconds)


def _without_value(name: str, action: Action) -> Callable[[str | None], Action]:
    def make(value: str | None) -> Action:
        if value is not None:
            raise UnknownOptionError(f"{name}={value}: {name!r} takes no value")
        return action

    return make


_MAKERS: Mapping[str, Callable[[str | None], Action]] = {
    "cluster_crash": _without_value("cluster_crash", kill),
    "crash": _without_value("crash", crash),
    "delay": _make_delay,
    "kill": _without_value("kill", kill),
    "raise": _make_raise,
    "task_crash": _without_value("task_crash", task_crash),
}


def make(spec: FailureSpec) -> Injector:
    """Return the built-in injector that *spec* asks for.

    Raises:
        UnknownOptionError: No such action, or a value it does not take.
    """
    maker = _MAKERS.get(spec.action)
    if maker is None:
        raise UnknownOptionError(f"{spec.text!r}: no built-in action {spec.action!r} ({', '.join(sorted(_MAKERS))})")
    return FailureInjector(spec.trigger, maker(spec.value))


ACTIONS: Mapping[str, Callable[[FailureSpec], Injector]] = dict.fromkeys(_MAKERS, make)
"""The actions that come with core. On one machine the cluster is this process: ``cluster_crash`` kills it."""

_FORM = re.compile(
    r"(?P<task>[^=@]+)\.(?P<action>[A-Za-z_][A-Za-z0-9_-]*)(?:=(?P<value>[^@]*))?(?:@(?P<trigger>[^@]+))?"
)


def parse(text: str) -> FailureSpec:
    """Read ``TASK.ACTION[=VALUE][@TRIGGER]``.

    Raises:
        UnknownOptionError: The text has another form, or a trigger that does not exist. An unknown action is found by
            whoever makes the injector, since plugins bring actions too.

    Example:
        >>> parse("train_12.crash@2").trigger.time
        2
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UnknownOptionError(f"failure {text!r}: expected TASK.ACTION[=VALUE][@TRIGGER], such as train_12.crash@2")
    return FailureSpec(
        text=text,
        action=match["action"],
        value=match["value"],
        trigger=_parse_trigger(text, match["task"], match["trigger"] or ""),
    )


def _parse_trigger(text: str, task: str, words: str) -> Trigger:
    point = FailurePoint.BEFORE_RUN
    time: int | None = None
    always, probability, seed = False, None, 0
    for word in filter(None, (word.strip() for word in words.split(","))):
        key, _, value = word.partition("=")
        try:
            if word == "always":
                always = True
            elif key == "p":
                probability = float(value)
            elif key == "seed":
                seed = int(value)
            elif key == "n" or word.isdecimal():
                time = int(value or word)
            else:
                point = FailurePoint(word)
        except ValueError:
            raise UnknownOptionError(
                f"failure {text!r}: trigger {word!r} is not known; expected a number, always, p=0.1, seed=7 or one of "
                f"{', '.join(FailurePoint)}"
            ) from None
    if time is None and not always and probability is None:
        time = 1
    if time is not None and always:
        raise UnknownOptionError(f"failure {text!r}: 'always' and the {time}. time contradict each other")
    return Trigger(task=task, point=point, time=time, probability=probability, seed=seed)


def combine(injectors: Iterable[Injector]) -> Reach | None:
    """Return one function that reaches all *injectors* in their order, or None if there are none.

    The driver keeps the answer and asks ``if reach is not None`` at each point: without injectors a point costs that.

    Raises:
        UsageError: Something among them has no ``reach``.
    """
    each = tuple(injectors)
    for injector in each:
        if not callable(getattr(injector, "reach", None)):
            raise UsageError(f"failures={injector!r}: expected an injector, or a text such as 'train_12.crash'")
    if not each:
        return None
    if len(each) == 1:
        return each[0].reach

    def reach(
        point: FailurePoint, *, workflow_id: str = "", task_id: str = "", attempt: str = "", number: int = 0
    ) -> None:
        for injector in each:
            injector.reach(point, workflow_id=workflow_id, task_id=task_id, attempt=attempt, number=number)

    return reach
