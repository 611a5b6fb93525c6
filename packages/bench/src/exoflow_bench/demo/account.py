"""What became of each task, worked out from what the processes did and what the store knew in between.

Nothing here asks the engine what it thinks it did: started and finished come from the trails, kept from the store as
it was between the two processes, and loaded from who ran afterwards and read what.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import attrs

from exoflow_bench.demo.trail import BEGINNINGS, Line, tasks_of

__all__ = ["Account", "After", "Before", "account", "ranges"]


class Before(StrEnum):
    """What a task had come to when its process was killed."""

    COMMITTED = "committed"
    """Its value was durable."""
    NOT_KEPT = "ran, value not kept"
    """It had done its part, and nobody will ask for its value again."""
    LOST = "lost"
    """It had started, and what it did must be done again."""
    NOT_STARTED = "not started"


class After(StrEnum):
    """What the second process had to do with it."""

    LOADED = "loaded"
    """Its value was read back, because a task that ran wanted it."""
    UNTOUCHED = "never touched"
    RERUN = "re-run"
    RUN = "run for the first time"


@attrs.frozen
class Account:
    """One task."""

    task_id: str
    before: Before
    after: After


def account(
    reads: Mapping[str, Sequence[str]],
    killed: Sequence[Line],
    committed: Iterable[str],
    resumed: Sequence[Line],
    result: str,
) -> list[Account]:
    """Return what became of each task, in the order of *reads*.

    Args:
        reads: By task, those whose values it takes.
        killed: What the first process did.
        committed: Tasks whose values the store had when nobody was running.
        resumed: What the second process did.
        result: The task whose value is the workflow's.
    """
    kept = set(committed)
    began, began_again = tasks_of(killed, *BEGINNINGS), tasks_of(resumed, *BEGINNINGS)
    wanted = {result} | {before for task_id in began_again for before in reads[task_id]}
    accounts = []
    for task_id in reads:
        if task_id in began_again:
            after = After.RERUN if task_id in began else After.RUN
        else:
            after = After.LOADED if task_id in wanted else After.UNTOUCHED
        if task_id in kept:
            before = Before.COMMITTED
        elif task_id not in began:
            before = Before.NOT_STARTED
        else:
            before = Before.LOST if after is After.RERUN else Before.NOT_KEPT
        accounts.append(Account(task_id, before, after))
    return accounts


def ranges(task_ids: Iterable[str]) -> str:
    """Return task ids as people write them: ``split, train_0 to train_10``."""
    runs: list[tuple[str, int | None, int | None]] = []
    for task_id in task_ids:
        match = re.fullmatch(r"(.*_)(\d+)", task_id)
        if match is None:
            runs.append((task_id, None, None))
            continue
        name, number = match[1], int(match[2])
        for at, (other, first, last) in enumerate(runs):
            if other == name and last is not None and number == last + 1:
                runs[at] = (name, first, number)
                break
        else:
            runs.append((name, number, number))
    words = []
    for name, first, last in runs:
        if first is None or first == last:
            words.append(name if first is None else f"{name}{first}")
        else:
            words.append(f"{name}{first} {'to' if last != first + 1 else 'and'} {last}")
    return ", ".join(words)
