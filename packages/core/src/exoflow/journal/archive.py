"""What stays of a journal when its segments go: who ended how, and what the chain of heirs needs.

An archive holds the journal's own records, how workflows left it, and of those that ended in it the submission
(without the DAG) and the ends with their results. `exoflow.journal.reader` reads it as if it were the journal.
"""

from collections.abc import Collection

import attrs

from exoflow.journal.reader import JournalContents
from exoflow.journal.records import Adopted, Deleted, End, Opened, Record, Released, Retired, Submission

__all__ = ["condense"]


def condense(contents: JournalContents, ended: Collection[str]) -> JournalContents:
    """Return what is worth keeping of a journal.

    Args:
        contents: As much of it as counts.
        ended: Ids of the workflows that ended in it.
    """
    records: list[Record] = []
    positions: list[int] = []
    for record, position in zip(contents.records, contents.positions, strict=True):
        kept = _condensed(record, ended)
        if kept is not None:
            records.append(kept)
            positions.append(position)
    return attrs.evolve(contents, records=records, positions=positions, raw=[])


def _condensed(record: Record, ended: Collection[str]) -> Record | None:
    if isinstance(record, Opened | Adopted | Retired | Released | Deleted):
        return record
    if isinstance(record, Submission) and record.workflow_id in ended:
        return attrs.evolve(record, payload=None)
    if isinstance(record, End) and record.workflow_id in ended:
        return record
    return None
