"""Journals and claims as one operation sees them: each read once, and found by workflow.

A shelf is made for one question and thrown away. What it holds ages: `forget` makes it read a journal again.
"""

from collections.abc import Sequence

import attrs

from exoflow.journal.claims import Claim, highest_claim, read_claim
from exoflow.journal.ends import SUMMARY
from exoflow.journal.layout import CLAIMS, epoch_of, names_in
from exoflow.journal.liveness import is_live
from exoflow.journal.reader import JournalContents, JournalEnd, Selection, find_end, read_journal
from exoflow.journal.records import Adopted, Opened, Retired, WorkflowRecord
from exoflow.stores.contract import ObjectStore

__all__ = ["Book", "Shelf", "records_at"]

_SUMMARY = Selection(kinds=SUMMARY)


@attrs.frozen(kw_only=True)
class Book:
    """One journal's contents, sorted."""

    contents: JournalContents
    adoptions: list[tuple[int, Adopted]]
    """With the number of their batch."""
    by_workflow: dict[str, list[int]]
    """Where the records of each workflow lie in the contents."""


class Shelf:
    """Reads journals and claims of a store, each once.

    Args:
        store: Where.
        select: Which records to read.
    """

    def __init__(self, store: ObjectStore, select: Selection = _SUMMARY) -> None:
        self.store = store
        self.select = select
        self._ends: dict[str, JournalEnd] = {}
        self._books: dict[str, Book] = {}
        self._claims: dict[str, Claim | None] = {}
        self._claimed: dict[str, int] | None = None
        self._live: dict[str, bool] = {}

    def end(self, journal_id: str) -> JournalEnd:
        """Return a journal's last object."""
        found = self._ends.get(journal_id)
        if found is None:
            found = self._ends[journal_id] = find_end(self.store, journal_id)
        return found

    def book(self, journal_id: str) -> Book:
        """Return a journal's contents."""
        book = self._books.get(journal_id)
        if book is None:
            contents = read_journal(self.store, journal_id, select=self.select)
            book = self._books[journal_id] = _sort(contents)
        return book

    def claim(self, workflow_id: str) -> Claim | None:
        """Return the claim of a workflow id that counts."""
        if workflow_id not in self._claims:
            if self._claimed is None:
                self._claims[workflow_id] = highest_claim(self.store, workflow_id)
            else:
                epoch = self._claimed.get(workflow_id)
                found = None if epoch is None else read_claim(self.store, workflow_id, epoch)
                if epoch is not None and found is None:  # collected since; a higher one may be there
                    found = highest_claim(self.store, workflow_id)
                self._claims[workflow_id] = found
        return self._claims[workflow_id]

    def list_claims(self) -> None:
        """Learn with one listing which ids have claims, before asking for many."""
        # Ascending, so the last of an id is its highest.
        self._claimed = {names_in(key)[0]: epoch_of(key) for key in self.store.list(CLAIMS)}

    def is_live(self, journal_id: str, now: float) -> bool:
        """Whether a journal's writer seems to be alive."""
        if journal_id not in self._live:
            self._live[journal_id] = is_live(self.store, journal_id, now)
        return self._live[journal_id]

    def forget(self, journal_id: str) -> None:
        """Read a journal again when it is asked for."""
        self._ends.pop(journal_id, None)
        self._books.pop(journal_id, None)


def _sort(contents: JournalContents) -> Book:
    adoptions: list[tuple[int, Adopted]] = []
    by_workflow: dict[str, list[int]] = {}
    for index, record in enumerate(contents.records):
        if isinstance(record, Adopted):
            adoptions.append((contents.positions[index], record))
        elif not isinstance(record, Opened | Retired):
            by_workflow.setdefault(record.workflow_id, []).append(index)
    return Book(contents=contents, adoptions=adoptions, by_workflow=by_workflow)


def records_at(contents: JournalContents, indices: Sequence[int]) -> list[WorkflowRecord]:
    """Return the records of a workflow at *indices*."""
    return [contents.records[index] for index in indices]  # type: ignore[misc]
