"""What makes thousands of short lives quick. None of it changes what a workflow may do."""

from collections.abc import Iterator

import pytest

from exoflow.api import reading
from exoflow.journal import creation, writer


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # The store in memory keeps its promises, which have tests of their own: it is not probed each time.
        patch.setattr(reading, "open_store", lambda store: store)
        patch.setattr(reading, "identify", lambda store: store)
        # A store that does not answer is asked again, but without the pauses that a real one deserves.
        quick = creation.Patience(total_s=0.01, sleep=lambda seconds: None)
        for module in (creation, writer):
            patch.setattr(module, "PATIENT", quick)
        for function in (writer.JournalWriter.open.__func__, writer.JournalWriter.__init__):  # type: ignore[attr-defined]
            if function.__kwdefaults__ and "patience" in function.__kwdefaults__:
                patch.setitem(function.__kwdefaults__, "patience", quick)
        yield
