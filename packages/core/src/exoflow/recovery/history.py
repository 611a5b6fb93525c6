"""The records of one workflow, folded into what recovery asks of them."""

from collections.abc import Iterable

import attrs

from exoflow.journal.records import (
    Attention,
    End,
    FellSilent,
    Intent,
    Outcome,
    Settlement,
    Submission,
    TimerArmed,
    UndoRecord,
    WorkflowRecord,
)

__all__ = ["History"]


@attrs.define
class History:
    """What is known of one workflow. Dicts keep the journal's order."""

    submission: Submission | None = None
    outcomes: dict[str, Outcome] = attrs.field(factory=dict)
    """By incarnation; what several records say of one is merged."""
    current: dict[str, str] = attrs.field(factory=dict)
    """Task id to its latest incarnation."""
    counts: dict[str, int] = attrs.field(factory=dict)
    """Task id to how many attempts are known."""
    intents: dict[str, Intent] = attrs.field(factory=dict)
    """By attempt, in the order they were logged."""
    undone: set[str] = attrs.field(factory=set)
    settled: dict[str, bool] = attrs.field(factory=dict)
    """Attempts of once tasks of which somebody said whether they happened."""
    deadlines: dict[str, float] = attrs.field(factory=dict)
    end: End | None = None
    rolled_back: bool = False
    silent: set[str] = attrs.field(factory=set)
    """Journals whose writers were not heard any more: nobody knows whether what they began has ended."""
    attention: Attention | None = None

    @classmethod
    def of(cls, records: Iterable[WorkflowRecord]) -> "History":
        """Fold *records*, in the order of the journal; a further `Submission` starts afresh."""
        history = cls()
        for record in records:
            history.add(record)
        return history

    def add(self, record: WorkflowRecord) -> None:
        """Take in one more record."""
        kind = type(record)
        if kind is Outcome:
            assert isinstance(record, Outcome)
            self._add_outcome(record)
        elif isinstance(record, Intent):
            self.intents[record.attempt] = record
            self.counts[record.task_id] = self.counts.get(record.task_id, 0) + 1
        elif isinstance(record, UndoRecord):
            self.undone.add(record.attempt)
            self._attended(record.attempt)
        elif isinstance(record, Settlement):
            self.settled[record.attempt] = record.happened
            self._attended(record.attempt)
        elif isinstance(record, TimerArmed):
            self.deadlines[record.task_id] = record.deadline
        elif isinstance(record, End):
            if record.status == "rolled_back":
                self.rolled_back = True
            elif self.end is None:  # the first one counts
                self.end = record
        elif isinstance(record, Attention):
            self.attention = record
        elif isinstance(record, FellSilent):
            self.silent.add(record.journal_id)
        elif isinstance(record, Submission):
            self.__init__(submission=record)  # type: ignore[misc]

    def _add_outcome(self, record: Outcome) -> None:
        before = self.outcomes.get(record.incarnation)
        if before is not None:
            record = attrs.evolve(
                record,
                completed=record.completed or before.completed,
                payload=record.payload or before.payload,
                number=max(record.number, before.number),
            )
        elif record.attempt not in self.intents:
            self.counts[record.task_id] = self.counts.get(record.task_id, 0) + 1
        self.outcomes[record.incarnation] = record
        self.current[record.task_id] = record.incarnation
        self._attended(record.attempt)

    def _attended(self, attempt: str) -> None:
        if self.attention is not None and self.attention.attempt == attempt:
            self.attention = None

    def records(self) -> list[WorkflowRecord]:
        """Return records that fold into this history again, for stating it in another journal."""
        made: list[WorkflowRecord] = []
        if self.submission is not None:
            made.append(self.submission)
        made.extend(self.intents.values())
        # Superseded incarnations first, so that folding finds the same current ones.
        latest = set(self.current.values())
        made.extend(o for o in self.outcomes.values() if o.incarnation not in latest)
        made.extend(o for o in self.outcomes.values() if o.incarnation in latest)
        workflow = self.submission.workflow_id if self.submission is not None else ""
        made.extend(UndoRecord(workflow, self.intents[a].task_id, a) for a in self.intents if a in self.undone)
        made.extend(
            Settlement(workflow, self.intents[a].task_id, a, h) for a, h in self.settled.items() if a in self.intents
        )
        made.extend(TimerArmed(workflow, task_id, deadline) for task_id, deadline in self.deadlines.items())
        made.extend(FellSilent(workflow, journal_id) for journal_id in sorted(self.silent))
        if self.attention is not None:
            made.append(self.attention)
        if self.end is not None:
            made.append(self.end)
            if self.rolled_back:
                made.append(End(workflow, "rolled_back", "", self.end.at))
        return made
