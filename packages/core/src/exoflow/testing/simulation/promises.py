"""What must be true once everything has ended: one incarnation of each task explains all that was seen."""

from collections import Counter

from exoflow.tasks.policy import Effects
from exoflow.testing.simulation.clients import Books
from exoflow.testing.simulation.outside import Outside, Start, kept

__all__ = ["all_is_explained"]


def all_is_explained(books: Books) -> None:
    """Hold the promises against what was told and what was done.

    Raises:
        BrokenPromiseError: One does not hold.
    """
    for workflow_id in books.accepted:
        kept(workflow_id in books.outside.told, f"{workflow_id} was accepted, and nobody is told how it ended")
    for workflow_id, (status, about) in books.outside.told.items():
        _is_explained(books.outside, workflow_id, status, about)


def _is_explained(outside: Outside, workflow_id: str, status: str, about: str) -> None:
    starts = [start for start in outside.starts.values() if start.workflow == workflow_id]
    standing = [start for start in starts if start.stands]
    _effects_are_as_often_as_declared(workflow_id, status, standing)
    seen: list[str | None] = [about] if status == "succeeded" else []
    for start in standing:
        seen += [*start.inputs, start.how.get("within")]
    behind = outside.behind(seen)
    names: dict[str, str] = {}
    took: dict[str, str] = {}
    for made in behind.values():
        known = names.setdefault(made.name, made.id)
        kept(known == made.id, f"{workflow_id}: two incarnations of {made.name} were seen: {known} and {made.id}")
        for source, found in zip(made.sources, made.inputs, strict=True):
            if source == "within":
                continue
            known = took.setdefault(source, found)
            kept(known == found, f"{workflow_id}: {source} was seen as {known} and as {found}")
    fed = Counter(found for found in took.values() if found.startswith("message"))
    for message, nodes in fed.items():
        kept(nodes == 1, f"{workflow_id}: {message} fed {nodes} nodes")
    if status == "succeeded":
        made_it = {start.made for start in standing}
        for made in behind.values():
            start = outside.starts[made.attempt]
            if start.policy.effects is not Effects.NONE and not made.failed and not made.deterministic:
                kept(made.id in made_it, f"{workflow_id}: {made.name} was seen as {made.id}, whose effect is not there")


def _effects_are_as_often_as_declared(workflow_id: str, status: str, standing: list[Start]) -> None:
    count: Counter[str] = Counter()
    keys: dict[str, str] = {}
    for start in standing:
        what = f"{workflow_id}: {start.name}"
        count[start.name] += 1
        if start.policy.effects is Effects.IDEMPOTENT:
            known = keys.setdefault(start.name, start.key)
            kept(known == start.key, f"{what} happened under two keys: {known} and {start.key}")
        else:
            kept(count[start.name] == 1, f"{what} happened twice")
        if start.policy.effects is Effects.ROLLBACK:
            kept(status == "succeeded", f"{what} was not rolled back, and the workflow has {status}")
