"""How a workflow may end, and that this is the end."""

from collections.abc import Iterator

from .past import Past

__all__ = ["only_what_nobody_can_know_needs_attention", "the_end_is_one_that_the_plan_allows", "the_end_is_the_end"]


def the_end_is_one_that_the_plan_allows(past: Past) -> Iterator[str]:
    told = past.told
    assert told is not None
    if told.status == "cancelled":
        if not any(entry.what == "cancelling" for entry in past.entries):
            yield "it was cancelled, and nobody had asked for that"
        return
    maker = past.makers.get(told.token)
    if told.status == "succeeded":
        if maker is None or past.answers_for(told.token)[-1] != ("", past.plan.root.name):
            yield f"{told.token} is not a value of {past.plan.root.name}"
    elif maker is None or not maker.raised:
        yield f"it failed with {told.token}, which no step raised"
    else:
        row = [c for c in past.by_task[maker.who] if c.life == maker.life and c.raised]
        final = maker.step.effects == "once" and maker.end == "failed"
        if maker.step.catch or (len(row) <= maker.step.retries and not final):
            yield f"it failed with {maker}, which should have been {'caught' if maker.step.catch else 'retried'}"


def only_what_nobody_can_know_needs_attention(past: Past) -> Iterator[str]:
    """An attempt of a once task that nobody can be asked about, or one that may still run for all one can hear."""
    silent = False
    for entry in past.entries:
        silent = silent or (entry.what == "died" and entry.status == "silent")
        if entry.what == "stopped" and entry.where:
            step = past.plan.find(entry.where)
            if not (step.effects == "once" and step.asked != "ledger") and not (
                silent and step.effects in ("once", "rollback") and not step.fences
            ):
                yield f"it stopped at {entry.where}"


def the_end_is_the_end(past: Past) -> Iterator[str]:
    """Asked again, it says the same; nothing runs, nothing is undone, and nobody is asked about anything."""
    assert past.told is not None
    behind = past.entries[past.entries.index(past.told) + 1 :]
    for entry in behind:
        if entry.what == "told" and entry != past.told:
            yield f"it says {entry} after {past.told}"
        elif entry.what in ("began", "undone", "asked"):
            yield f"{entry} after the end"
