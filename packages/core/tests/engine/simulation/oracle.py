"""What a crash would do, found the slow way: from the records alone, round after round until nothing changes.

Shares no code with `exoflow.recovery`; `tests/recovery/test_largest_cut.py` compares it, in turn, with trying every cut there is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from exoflow.graph.dag import Dag, NodeSpec
from exoflow.journal.records import End, Intent, Outcome, Settlement, Submission, UndoRecord
from exoflow.tasks.policy import Effects

__all__ = ["Aftermath", "Seen"]


@attrs.define(eq=False)
class Known:
    """A task of the DAG as the records show it."""

    task_id: str
    spec: NodeSpec
    parent: str | None
    before: tuple[str, ...]
    """Whose values it needs, or what it waits for."""
    catches: bool

    @property
    def deterministic(self) -> bool:
        return bool(self.spec.task.policy.deterministic) and not self.catches


@attrs.frozen
class Seen:
    """An incarnation as the world saw it, recorded or not."""

    task_id: str
    reads: tuple[str, ...]
    deterministic: bool


class Aftermath:
    """What would be left of a workflow if its controller died, and no more than *records* were durable.

    Args:
        dag: As submitted, with the code that recovery would find.
        records: In the order of the log.
        continuation: Returns what the payload of a ``continuation`` outcome holds.
    """

    def __init__(self, dag: Dag, records: Sequence[Any], continuation: Callable[[Outcome], Dag]) -> None:
        self.current: dict[str, str] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.stored: set[str] = set()
        """Incarnations whose value is durable."""
        self.intents: list[Intent] = []
        self.undone: set[str] = set()
        self.settled: set[str] = set()
        self.ended = any(isinstance(record, End) for record in records)
        for record in records:
            if isinstance(record, Outcome):
                self.current[record.task_id] = record.incarnation
                self.outcomes[record.incarnation] = record
                if record.payload is not None:
                    self.stored.add(record.incarnation)
            elif isinstance(record, Intent):
                self.intents.append(record)
            elif isinstance(record, UndoRecord):
                self.undone.add(record.attempt)
            elif isinstance(record, Settlement):
                self.settled.add(record.attempt)
            elif isinstance(record, Submission):
                assert not self.outcomes
        self.tasks: dict[str, Known] = {}
        self.grown: dict[str, int] = {}
        """Incarnation to the number of nodes of its continuation."""
        self._add(dag, None, False)
        news = True
        while news:
            news = False
            for name, outcome in self.outcomes.items():
                if outcome.what == "continuation" and name in self.stored and name not in self.grown:
                    if outcome.task_id in self.tasks:
                        stored = next(
                            r for r in records if isinstance(r, Outcome) and r.incarnation == name and r.payload
                        )
                        self._add(continuation(stored), name, self.tasks[outcome.task_id].catches)
                        news = True
        self.root = dag.nodes[-1].task_id
        self.rerun: set[str] = set()
        self.changed: set[str] = set()
        self.gone: set[str] = set()
        while self._round():
            pass

    def _add(self, dag: Dag, parent: str | None, catches: bool) -> None:
        ids = [spec.task_id if parent is None else f"{parent}/{at}" for at, spec in enumerate(dag.nodes)]
        for at, spec in enumerate(dag.nodes):
            # To come after an effect is to read it; to come after anything else is a matter of time alone.
            after = [i for i in spec.after if dag.nodes[i].task.policy.effects is not Effects.NONE]
            before = tuple(ids[i] for i in (*spec.deps, *after, *spec.committed))
            own = bool(spec.task.policy.catch_exceptions) or (catches and at == len(ids) - 1)
            self.tasks[ids[at]] = Known(ids[at], spec, parent, before, own)
        if parent is not None:
            self.grown[parent] = len(ids)

    def _round(self) -> bool:
        before = (len(self.rerun), len(self.changed), len(self.gone))
        for task_id, task in self.tasks.items():
            if task.parent is not None and not self.stands(task.parent):
                self.gone.add(task_id)
        self.rerun -= self.gone
        wanted = {self.provider(self.root)}
        for task_id in self.rerun:
            wanted.update(self.provider(b) for b in self.tasks[task_id].before)
        for task_id in self.tasks:
            if task_id in self.gone:
                continue
            name = self.current.get(task_id)
            if name is None:
                self.rerun.add(task_id)
                continue
            orphan = not all(self.stands(read) for read in self.outcomes[name].reads)
            lost = task_id in wanted and name not in self.stored
            taken_back = self.outcomes[name].attempt in self.undone and self.outcomes[name].what in (
                "value",
                "continuation",
            )
            taken_back = taken_back and not self.ended
            if orphan or lost or taken_back or task_id in self.rerun:
                self.rerun.add(task_id)
                if orphan or self.may_differ(task_id):
                    self.changed.add(task_id)
        return before != (len(self.rerun), len(self.changed), len(self.gone))

    def stands(self, incarnation: str) -> bool:
        """Whether everybody would go on seeing this recorded incarnation, stored or made again."""
        outcome = self.outcomes.get(incarnation)
        if outcome is None or outcome.task_id in self.changed or outcome.task_id in self.gone:
            return False
        return outcome.task_id in self.tasks and self.current[outcome.task_id] == incarnation

    def may_differ(self, task_id: str) -> bool:
        outcome = self.outcomes[self.current[task_id]]
        task = self.tasks[task_id]
        if not task.deterministic or outcome.what in ("caught", "error", "message"):
            return True
        return bool(outcome.fingerprint != task.spec.task.fingerprint)

    def provider(self, task_id: str) -> str:
        while True:
            name = self.current.get(task_id)
            if name is None or name not in self.grown or not self.stands(name):
                return task_id
            task_id = f"{name}/{self.grown[name] - 1}"

    # --- what follows ---------------------------------------------------------------------------------------------

    @property
    def load(self) -> set[str]:
        return {t for t in self.current if t in self.tasks and t not in self.rerun and t not in self.gone}

    @property
    def kept(self) -> dict[str, str | None]:
        """What runs, with the incarnation it makes again."""
        return {t: self.current[t] if t in self.current and t not in self.changed else None for t in self.rerun}

    @property
    def roll_back(self) -> list[str]:
        loaded = {self.outcomes[self.current[t]].attempt for t in self.load}
        return [
            i.attempt
            for i in reversed(self.intents)
            if self._effects(i.task_id) is Effects.ROLLBACK and i.attempt not in self.undone and i.attempt not in loaded
        ]

    @property
    def resolve(self) -> set[str]:
        ended = {o.attempt for o in self.outcomes.values()}
        return {
            i.attempt
            for i in self.intents
            if self._effects(i.task_id) is Effects.ONCE
            and i.attempt not in self.settled
            and (i.attempt not in ended or (i.task_id in self.rerun and not self.ended))
        }

    def _effects(self, task_id: str) -> Effects | None:
        return self.tasks[task_id].spec.task.policy.effects if task_id in self.tasks else None

    def could_lose(self, incarnations: Iterable[str], seen: Mapping[str, Seen]) -> str | None:
        """Return one of *incarnations*, or of what is behind them, that nobody would see again; None if all stay."""
        stack, done = list(incarnations), set[str]()
        while stack:
            name = stack.pop()
            if name in done:
                continue
            done.add(name)
            if name in self.outcomes:
                if not self.stands(name):
                    return name
            elif not seen[name].deterministic:
                return name
            else:
                stack.extend(seen[name].reads)
        return None
