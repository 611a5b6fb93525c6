"""Controllers as the journal sees them, and the stores they share: those of the journal's own tests."""

# What these scenarios need is what the tests of the journal have: processes with a journal, which die and are silent.
from ..journal.conftest import IMPATIENT, Bucket, Controller, World, end, outcome, submission

__all__ = ["IMPATIENT", "Bucket", "Controller", "World", "end", "outcome", "submission"]
