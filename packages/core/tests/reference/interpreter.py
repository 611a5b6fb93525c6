"""The table of promises, read off the ledger: what is allowed to have happened, given the plan. No code of the library.

`complaints` yields a sentence for each promise that was broken. A promise is a function here, and its name says which.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from .ends import only_what_nobody_can_know_needs_attention, the_end_is_one_that_the_plan_allows, the_end_is_the_end
from .ledger import Entry
from .past import Call, Identity, Past
from .plans import Plan, Step

__all__ = ["PROMISES", "complaints"]

COUNTED = ("idempotent", "once")
"""Effects with one key for ever. What they did stays, whatever becomes of the workflow."""


def complaints(plan: Plan, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield what is wrong with a workflow that has been told its end."""
    past = Past(plan, entries)
    for promise in PROMISES:
        for complaint in promise(past):
            yield f"{promise.__name__.replace('_', ' ')}: {complaint}"


# --- one at a time ----------------------------------------------------------------------------------------------------


def values_come_from_where_the_plan_says(past: Past) -> Iterator[str]:
    takers: dict[str, Step] = {}
    for call in past.calls:
        reads, inputs = call.step.reads, call.entry.inputs
        if len(reads) != len(inputs):
            yield f"{call} should read {reads}"
            continue
        for name, token in zip(reads, inputs, strict=True):
            read = past.plan_at(call.entry.level).step(name)
            if read.kind != "event":
                right = token in past.makers and past.answers_for(token)[-1] == past.beside(call, name)
            else:
                right = token.partition("@")[0] == read.event and takers.setdefault(token, read) is read
            if not right:
                yield f"{call} was given {token} as the value of {name}"


def a_step_begins_when_what_it_waits_for_is_there(past: Past) -> Iterator[str]:
    for call in past.calls:
        for name in (*call.step.after, *call.step.committed):
            if past.plan_at(call.entry.level).step(name).kind != "task":
                continue
            before = past.calls_of(past.beside(call, name))
            if not any(each.ended is not None and each.ended < call.at for each in before):
                yield f"{call} began before {name} had ended"


def one_incarnation_explains_all_that_can_be_seen(past: Past) -> Iterator[str]:
    """The answer, what idempotent and once tasks did, and what rollback tasks did and was not undone."""
    seen, problems = explained(past)
    yield from problems
    if past.status != "succeeded":
        return
    levels = {"", *(token for (_, what), token in seen.items() if what == "continuation")}
    for level in levels:
        base = f"{past.makers[level].entry.where}/{past.makers[level].branch}/" if level else ""
        for step in past.plan_at(level).steps:
            if step.kind != "sleep" and ((level, base + step.name), "value") not in seen:
                yield f"nothing that can be seen rests on {base + step.name} of {level or 'the workflow'}"


def explained(past: Past) -> tuple[dict[tuple[Identity, str], str], list[str]]:
    """Return the one name of each task's value and continuation, and where there are two."""
    seen: dict[tuple[Identity, str], str] = {}
    problems: list[str] = []

    def claim(who: Identity, what: str, token: str, seer: object) -> None:
        if seen.setdefault((who, what), token) != token:
            problems.append(
                f"{seer} rests on {token} as the {what} of {who[1]}, and something else on {seen[who, what]}"
            )

    for call in past.calls:
        stands = call.step.effects == "rollback" and call.happened and past.undone_at(call) == math.inf
        if call.step.effects in COUNTED or stands:
            for who, what, token in past.behind(call):
                claim(who, what, token, call)
        if stands and call.fine:
            claim(call.who, "continuation" if call.end == "grew" else "value", call.token, "what was not undone")
    if past.told is not None and past.told.token in past.makers:
        last = past.makers[past.told.token]
        for who in past.answers_for(last.token):
            claim(who, "value", last.token, "the answer")
        for who, what, token in past.behind(last):
            claim(who, what, token, "the answer")
    return seen, problems


# --- how often --------------------------------------------------------------------------------------------------------


def idempotent_and_once_tasks_have_one_key_and_one_set_of_inputs(past: Past) -> Iterator[str]:
    for who, calls in past.by_task.items():
        if calls[0].step.effects not in COUNTED:
            continue
        keys, inputs = {call.entry.key for call in calls}, {call.entry.inputs for call in calls}
        if len(inputs) > 1:
            yield f"{who[1]} was called with {sorted(inputs)}"
        if calls[0].step.effects == "once" and calls[0].step.fences:
            if len(keys) < len(calls):
                yield f"{who[1]} is fenced, and two of its attempts have one key"
        elif len(keys) > 1:
            yield f"{who[1]} has the keys {sorted(keys)}"


def a_once_effect_happens_at_most_once(past: Past) -> Iterator[str]:
    for calls in past.by_task.values():
        done = [call for call in calls if call.happened]
        if calls[0].step.effects == "once" and len(done) > 1:
            yield f"{done[0]} and {done[1]} both happened"
        if calls[0].step.effects == "once" and done and done[0] is not calls[-1]:
            yield f"{calls[-1]} ran though {done[0]} had happened"


def no_two_attempts_of_a_rollback_task_stand_at_once(past: Past) -> Iterator[str]:
    keys: dict[str, Call] = {}
    for calls in past.by_task.values():
        if calls[0].step.effects != "rollback":
            continue
        for earlier, call in zip([None, *calls], calls, strict=False):
            if call.entry.key in keys:
                yield f"{call} has the key of {keys[call.entry.key]}"
            keys[call.entry.key] = call
            if earlier is not None and past.undone_at(earlier) > call.at:
                yield f"{call} began before {earlier} was undone"
        for call in calls:
            if any(at < call.at for at in past.undone.get(call.entry.key, ())):
                yield f"{call} began under a key that had been undone"


def what_is_undone_is_undone_last_one_first(past: Past) -> Iterator[str]:
    rollback = [call for call in past.calls if call.step.effects == "rollback"]
    for call in rollback:
        at = past.undone_at(call)
        if at < math.inf and (call.ended is None or call.ended > at):
            yield f"{call} was undone while it ran"
        for later in rollback:
            if later.at < at < past.undone_at(later) and past.rests_on(later, call):
                yield f"{call} was undone before {later}, which rests on it"


def a_rollback_effect_stands_exactly_if_the_workflow_succeeded_with_it(past: Past) -> Iterator[str]:
    seen, _ = explained(past)
    for who, calls in past.by_task.items():
        if calls[0].step.effects != "rollback":
            continue
        names = {seen.get((who, what)) for what in ("value", "continuation")}
        meant = past.status == "succeeded" and any(c.fine and c.token in names for c in calls)
        stand = [call for call in calls if call.happened and past.undone_at(call) == math.inf]
        if len(stand) != meant:
            yield f"{calls[0].entry.where} is {'' if meant else 'not '}part of the result; standing: {', '.join(map(str, stand))}"


# --- what is not done again -------------------------------------------------------------------------------------------


def nothing_runs_again_without_a_reason(past: Past) -> Iterator[str]:
    """With the inputs it had: only after it failed or was lost, or if a crash came before its record."""
    for calls in past.by_task.values():
        for earlier, call in itertools.combinations(calls, 2):
            if earlier.entry.inputs != call.entry.inputs or other_order(past, earlier, call):
                continue
            if kept_before(past, earlier, call.at):
                yield f"{call} ran again, and {earlier} was durable"
            elif earlier.life == call.life and earlier.fine and earlier.entry.attempt not in past.lost:
                yield f"{call} ran again after {earlier}, and nothing had happened in between"


def what_runs_again_is_needed(past: Past) -> Iterator[str]:
    """In the life that ends well: a value is computed for the second time only for somebody who reads it then."""
    if past.status != "succeeded" or past.told is None:
        return
    asked = {entry.key for entry in past.entries if entry.what == "asked" and entry.key}
    for calls in past.by_task.values():
        earlier, call = calls[0], calls[-1]
        if not (earlier.life < call.life == past.life_of_the_end and earlier.end == call.end == "returned"):
            continue
        if earlier.entry.inputs != call.entry.inputs or call.step.effects not in ("none", "idempotent"):
            continue
        needed = past.told.token == call.token or any(
            each.at > call.at and (call.token in each.entry.inputs or call.who in others(past, each))
            for each in past.calls
        )
        # While somebody is asked what a once task did, what that reads is made ready: it may have to run after all.
        needed = needed or any(each.entry.key in asked and earlier.token in each.entry.inputs for each in past.calls)
        # A sleep or an event that comes after it is no call, and leaves no line.
        waits = any(
            call.step.name in step.after for step in past.plan_at(call.entry.level).steps if step.kind != "task"
        )
        if not needed and not waits:
            yield f"{call} ran again, and nobody read what it returned"


def others(past: Past, call: Call) -> list[Identity]:
    """Return what *call* comes after without reading its value."""
    return [past.beside(call, name) for name in (*call.step.after, *call.step.committed)]


def other_order(past: Past, earlier: Call, call: Call) -> bool:
    """Whether something that a step comes after without reading its value ran in between."""
    return any(earlier.at < each.at < call.at for who in others(past, call) for each in past.calls_of(who))


def kept_before(past: Past, call: Call, at: int) -> bool:
    """Whether *call*'s value was promised or said to be durable before line *at*."""
    if any(e.what == "durable" and (e.level, e.where, e.token) == (*call.who, call.token) for e in past.entries[:at]):
        return True
    for later in past.calls:
        if later.entry.level == call.entry.level and call.at < later.at < at:
            if call.step.checkpoint == "sync" and call.token in later.entry.inputs:
                return True
            done = [each for each in past.calls_of(call.who) if each.ended is not None and each.ended < later.at]
            if call.step.name in later.step.committed and call.fine and done[-1:] == [call]:
                return True
    return False


def retries_are_used_as_declared(past: Past) -> Iterator[str]:
    for calls in past.by_task.values():
        row = 0
        for earlier, call in itertools.pairwise(calls):
            if earlier.entry.attempt in past.lost:
                continue
            again = earlier.life == call.life and earlier.raised
            row = row + 1 if again else 0
            if row > call.step.retries:
                yield f"{call} is retry {row} of {call.step.retries}"
            if again and call.step.effects == "once" and earlier.end == "failed":
                yield f"{call} follows {earlier}, which was its outcome"


PROMISES: tuple[Callable[[Past], Iterator[str]], ...] = (
    values_come_from_where_the_plan_says,
    a_step_begins_when_what_it_waits_for_is_there,
    one_incarnation_explains_all_that_can_be_seen,
    idempotent_and_once_tasks_have_one_key_and_one_set_of_inputs,
    a_once_effect_happens_at_most_once,
    no_two_attempts_of_a_rollback_task_stand_at_once,
    what_is_undone_is_undone_last_one_first,
    a_rollback_effect_stands_exactly_if_the_workflow_succeeded_with_it,
    nothing_runs_again_without_a_reason,
    what_runs_again_is_needed,
    retries_are_used_as_declared,
    the_end_is_one_that_the_plan_allows,
    only_what_nobody_can_know_needs_attention,
    the_end_is_the_end,
)
