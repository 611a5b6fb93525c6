"""An archive keeps who ended how, and what the chain of heirs needs."""

from typing import Any

from exoflow.journal import records
from exoflow.journal.archive import condense
from exoflow.journal.reader import read_journal
from exoflow.values import Payload

INLINE = Payload("pickle", (1,), b"x")


def test_results_and_the_journals_own_records_stay_and_values_go(world: Any, make: Any) -> None:
    first = world.controller()
    first.append(make.submission("ended", 1, INLINE), make.submission("moved", 1, INLINE))
    first.append(make.outcome("ended", "t", "a", INLINE), records.TimerArmed("ended", "t", 1.0))
    first.append(records.Adopted("j0", 7), records.Released("moved"), make.end("ended", "failed", 3.0, INLINE))
    first.append(make.end("ended", "rolled_back"))

    condensed = condense(read_journal(world.store, first.id), {"ended"})

    assert condensed.records[1:] == [
        make.submission("ended", 1),
        records.Adopted("j0", 7),
        records.Released("moved"),
        make.end("ended", "failed", 3.0, INLINE),
        make.end("ended", "rolled_back"),
    ]
    assert condensed.positions == [1, 2, 4, 4, 4, 5]
    assert condensed.batches == 5
