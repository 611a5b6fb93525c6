"""What Hypothesis draws: plans, and what goes wrong while they run."""

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from exoflow.failures.points import FailurePoint

from .lives import FAULTS, Life, Story
from .plans import Plan, Step

__all__ = ["stories"]

EFFECTS = ("none", "none", "idempotent", "idempotent", "rollback", "once")
MODES = ("async", "sync", "skip", "skip")
SCRIPTS = (("fail",), ("refuse",), ("fail", "fail"), ("refuse", "fail"), ("fail",) * 9)
TIMES = {
    FailurePoint.BEFORE_RUN: 5, FailurePoint.AFTER_RUN_BEFORE_RECORD: 5, FailurePoint.AFTER_RECORD: 5,
    FailurePoint.BEFORE_FLUSH: 4, FailurePoint.AFTER_FLUSH: 4, FailurePoint.DURING_BLOB_WRITE: 2,
    FailurePoint.BEFORE_ANSWER: 1, FailurePoint.ON_CLAIM: 1, FailurePoint.ON_SEAL: 1,
    FailurePoint.BEFORE_UNDO: 2, FailurePoint.AFTER_UNDO: 2, FailurePoint.BEFORE_RESOLVE: 1, FailurePoint.AFTER_RESOLVE: 1,
}  # fmt: skip
"""How often a small workflow comes to each point, or a little less."""
AT_FIRST = [point for point, times in TIMES.items() if times > 1 and "undo" not in point] * 3
AROUND_RUNS = (FailurePoint.BEFORE_RUN, FailurePoint.AFTER_RUN_BEFORE_RECORD)
VERBS = {
    "append": FAULTS,
    "create": FAULTS,
    "write": FAULTS,
    "delete": FAULTS,
    "read": ("refuse", "delay"),
    "list": ("refuse", "delay"),
}


@st.composite
def steps(draw: st.DrawFn, name: str, before: tuple[Step, ...], depth: int, free: bool) -> Step:
    """Draw a task that may read *before*; only a *free* one may depend on how threads take turns."""
    options: dict[str, Any] = {}

    def some(names: list[str], most: int) -> tuple[str, ...]:
        return tuple(draw(st.lists(st.sampled_from(names), max_size=most, unique=True))) if names else ()

    readable = [step.name for step in before if step.kind != "sleep"]
    # Most steps read what was made last: what goes wrong goes wrong along chains.
    read = {*readable[-1:]} if draw(st.integers(0, 3)) else set()
    options["reads"] = tuple(sorted(read | set(some(readable, 2))))
    options["nested"] = bool(options["reads"]) and draw(st.booleans())
    effects = options["effects"] = draw(st.sampled_from(EFFECTS))
    recoverable = effects in ("none", "idempotent")
    modes = (*MODES, "auto") if free else MODES  # `auto` measures, and so does not do the same twice
    options["checkpoint"] = draw(st.sampled_from(modes if recoverable else MODES[:2]))
    rare = st.integers(0, 5).map(lambda drawn: drawn == 5)
    options["deterministic"] = draw(st.booleans()) if effects == "none" else draw(rare)
    options["retries"] = draw(st.integers(0, 2))
    options["catch"] = draw(rare)
    if draw(rare):
        script = options["script"] = draw(st.sampled_from(SCRIPTS))
        if draw(st.booleans()):
            options["retries"] = max(options["retries"], len(script))
    # Large values of `async` steps are written on a thread of their own, whatever the executor.
    options["large"] = (free or options["checkpoint"] != "async") and draw(rare)
    options["coroutine"] = free and draw(rare)
    if effects == "once":
        options["asked"] = draw(st.sampled_from(["ledger", "ledger", "a person"]))
    if effects == "rollback" or options.get("asked") == "ledger":
        options["fences"] = draw(rare)
    if draw(rare):
        options["after"] = some([step.name for step in before], 2)
    if draw(rare):
        options["committed"] = some([step.name for step in before if step.kind == "task"], 1)
    if depth and effects != "once" and draw(rare):
        options["grows"] = tuple(draw(st.lists(plans(depth - 1, free, 3), min_size=1, max_size=2)))
    return Step(name, **options)


@st.composite
def plans(draw: st.DrawFn, depth: int, free: bool, most: int) -> Plan:
    """Draw a plan whose last step reads what nobody else does."""
    made: list[Step] = []
    inner = depth < DEPTH
    for number in range(draw(st.integers(1, most))):
        wait = "task" if inner else draw(st.sampled_from(("task",) * 8 + ("event", "sleep")))
        if wait == "task":
            made.append(draw(steps(f"{'c' if inner else 't'}{number}", tuple(made), depth, free)))
        else:
            # Two of the same name now and then: a message feeds one of them.
            name = f"{draw(st.sampled_from(['ping', 'pong'])) if wait == 'event' else 'nap'}{number}"
            after = draw(st.lists(st.sampled_from([step.name for step in made]), max_size=1)) if made else []
            made.append(Step(name, kind=wait, after=tuple(after)))
    read = {name for step in made for name in step.reads}
    unread = tuple(step.name for step in made if step.name not in read and step.kind != "sleep")
    if len(unread) != 1 or made[-1].name != unread[0] or made[-1].kind != "task":
        made.append(Step("end", reads=unread, deterministic=draw(st.booleans())))
    return Plan(*made)


DEPTH = 2
"""Of continuations in continuations."""


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Draw what goes wrong in one life."""

    def reached(points: Sequence[FailurePoint]) -> tuple[str, int]:
        point = draw(st.sampled_from(points))
        return str(point), draw(st.integers(1, TIMES[point]))

    options: dict[str, Any] = {}
    what = draw(st.sampled_from(("crash",) * 6 + ("lose", "faults", "faults", "both")))
    if what in ("crash", "both"):
        options["crash"] = reached([*AT_FIRST, *TIMES, *AROUND_RUNS * 5])
    if what == "lose":
        options["lose"] = reached(AROUND_RUNS)
    if what in ("faults", "both"):
        verbs = draw(st.lists(st.sampled_from(list(VERBS)), min_size=1, max_size=3))
        options["faults"] = tuple(
            (verb, draw(st.integers(1, 5)), draw(st.sampled_from(list(VERBS[verb])))) for verb in verbs
        )
    options["early"] = draw(st.booleans())
    return Life(**options)


@st.composite
def stories(draw: st.DrawFn, executor: str = "inline", most: int = 6) -> Story:
    """Draw a workflow and its lives."""
    plan = draw(plans(DEPTH, executor != "inline", most))
    lived = draw(st.lists(lives(), min_size=1, max_size=5))
    if draw(st.integers(0, 3)) == 3:
        base = draw(lives()) if draw(st.booleans()) else Life()
        cancelled = attrs.evolve(base, cancel=draw(st.integers(0, len(plan.steps))))
        lived.insert(draw(st.integers(0, min(1, len(lived)))), cancelled)
    return Story(plan, lives=tuple(lived), executor=executor, bucket=draw(st.integers(0, 4)) == 4)
