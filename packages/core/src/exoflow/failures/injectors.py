"""Failures as data: a task, a point, a trigger and an action, written as one word.

::

    train_12.crash                     the controller dies when train_12 is first about to start
    preprocess.task_crash@2            the second attempt of preprocess loses its process
    *.delay=0.05@p=0.1,seed=7          every tenth attempt or so starts 50 ms late, the same ones in every run
    *.kill@3,before_flush              SIGKILL before the third flush

The form is ``TASK.ACTION[=VALUE][@TRIGGER]``. TASK is a task id, or a pattern with ``*`` and ``?``; a number in it is part
of the id. TRIGGER is a comma-separated choice of: a number *n* (the n-th time; 1 unless told), ``always``, ``p=`` a
probability for each time, ``seed=`` for it, and the name of a `FailurePoint`. An injector counts on its own and for one
engine; a process that was killed and started again counts from the beginning, so a run that resumes is usually given no
failures.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping

import attrs

from exoflow.errors import UnknownOptionError, UsageError
from exoflow.failures.actions import (
    Action,
    InjectedError,
    cluster_crash,
    crash,
    delay,
    kill,
    make_action,
    names,
    raise_in_task,
    task_crash,
)
from exoflow.failures.points import FailurePoint, Injector, Reach
from exoflow.failures.triggers import Trigger, common_seed, pattern_of

__all__ = [
    "ACTIONS",
    "Action",
    "FailureInjector",
    "FailureSpec",
    "InjectedError",
    "Trigger",
    "cluster_crash",
    "combine",
    "crash",
    "delay",
    "describe",
    "kill",
    "make",
    "parse",
    "raise_in_task",
    "task_crash",
]

log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class FailureSpec:
    """The text ``TASK.ACTION[=VALUE][@TRIGGER]``, parsed."""

    text: str
    action: str
    """A key of `ACTIONS`, or an action that a plugin brings."""
    value: str | None
    trigger: Trigger


class FailureInjector:
    """Performs *action* whenever *trigger* says so.

    Args:
        trigger: When.
        action: What.
        text: What it was made from, as far as that is known.

    Attributes:
        text: With the seed, so that an engine which is given it does the same again.
        performed: How often it happened.
    """

    def __init__(self, trigger: Trigger, action: Action, text: str = "") -> None:
        if trigger.probability is not None and trigger.seed is None:
            trigger = attrs.evolve(trigger, seed=common_seed())
            text = f"{text},seed={trigger.seed}" if text else ""
        self.trigger = trigger
        self.action = action
        self.text = text or f"<{action!r} at {trigger!r}>"
        self.performed = 0
        self._drawn_for = text or getattr(action, "__qualname__", type(action).__qualname__)
        self._lock = threading.Lock()  # points inside blob writes are reached from executors' threads
        self._times = 0
        self._times_of: dict[str, int] = {}

    def reach(
        self, point: FailurePoint, *, workflow_id: str = "", task_id: str = "", attempt: str = "", number: int = 0
    ) -> None:
        """Perform the action, or do nothing."""
        trigger = self.trigger
        if not trigger.concerns(point, task_id):
            return
        with self._lock:
            self._times += 1
            due = trigger.time is None or self._times == trigger.time
            if trigger.probability is not None:
                task = pattern_of(task_id)
                nth = self._times_of[task] = self._times_of.get(task, 0) + 1
                due = due and trigger.draw(self._drawn_for, task, nth)
            self.performed += due
        if due:
            # Before it happens: of a process that is killed this line is all that is left.
            log.info("failure %s at %s %s", self.text, point, task_id)
            self.action(point, task_id)

    def __repr__(self) -> str:
        return f"<failure {self.text}>"


def make(spec: FailureSpec) -> Injector:
    """Return the built-in injector that *spec* asks for.

    Raises:
        UnknownOptionError: No such action, a value it does not take, or a point at which it means nothing.
    """
    try:
        action = make_action(spec.action, spec.value, spec.trigger.point)
    except UnknownOptionError as error:
        raise UnknownOptionError(f"failure {spec.text!r}: {error}") from None
    injector = FailureInjector(spec.trigger, action, spec.text)
    if spec.trigger.probability is not None and spec.trigger.seed is None:
        log.warning("failure %r is drawn at random; %r fails the same again", spec.text, injector.text)
    return injector


ACTIONS: Mapping[str, Callable[[FailureSpec], Injector]] = dict.fromkeys(names(), make)
"""The actions that come with core."""

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
        text=text.strip(),
        action=match["action"],
        value=match["value"],
        trigger=_parse_trigger(text, match["task"], match["trigger"] or ""),
    )


def _parse_trigger(text: str, task: str, words: str) -> Trigger:
    point = FailurePoint.BEFORE_RUN
    time: int | None = None
    always, probability, seed = False, None, None
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
    if seed is not None and probability is None:
        raise UnknownOptionError(f"failure {text!r}: seed={seed} without p=...: nothing is drawn")
    return Trigger(task=task, point=point, time=time, probability=probability, seed=seed)


def describe(injectors: Iterable[Injector]) -> list[str]:
    """Return a text for each injector; where it came from a text, one that makes the same failures happen again."""
    return [getattr(injector, "text", None) or repr(injector) for injector in injectors]


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
        # All of them, also after one has failed the attempt: each counts attempts, and this is one. A crash goes at once.
        failure: Exception | None = None
        for injector in each:
            try:
                injector.reach(point, workflow_id=workflow_id, task_id=task_id, attempt=attempt, number=number)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    return reach
