"""One store, one ledger, and the controllers that come and go on them."""

import contextlib
import itertools
import json
import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

import exoflow
from exoflow_storage.local import FileStore

from . import oracle
from .flows import flow
from .ledger import Line, read
from .life import PATIENCE_S, Plan
from .nursery import Life, Nursery

_LONG_S = 30 * 86400.0


class World:
    """A store in a folder, and the workflows that are to be run in it.

    Args:
        folder: An empty one.
        nursery: Where controllers come from.
        flows: Workflow ids, and the flow that each is.
        executor: Of all its controllers.
        kind: Which store, see `stores.open_kind`.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        flows: Mapping[str, str],
        *,
        executor: str = "thread",
        kind: str = "local",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store, self.book = folder / "store", folder / "ledger.jsonl"
        self.flows = dict(flows)
        self.folder, self._nursery = folder, nursery
        self._executor, self._kind = executor, kind
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """Of the store."""
        return f"file://{self.store}"

    def begin(self, **more: Any) -> tuple[Life, Path]:
        """Begin a controller's life; return it, and where it will report."""
        number = next(self._numbers)
        report = self.folder / f"report-{number}.json"
        plan = Plan(
            store=str(self.store), book=str(self.book), report=str(report), log=str(self.folder / f"log-{number}.txt"),
            flows=self.flows, executor=self._executor, kind=self._kind,
        )  # fmt: skip
        return self._nursery.begin(attrs.evolve(plan, **more)), report

    def begin_and_wait(self, **more: Any) -> tuple[Life, Path]:
        """Begin a controller's life, and return once all its workflows are accepted."""
        fifo = self.folder / f"accepted-{next(self._numbers)}"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            life, report = self.begin(accepted=str(fifo), **more)
            assert select.select([reader], [], [], PATIENCE_S)[0], f"nothing was accepted; see the log beside {report}"
        finally:
            os.close(reader)
        return life, report

    def live(self, **more: Any) -> dict[str, Any]:
        """Let a controller live to its own end, and return what became of each workflow."""
        life, report = self.begin(**more)
        status = life.end()
        assert status == 0, f"the controller ended with {status}: see {report.with_name(report.name)} and its log"
        told: dict[str, Any] = json.loads(report.read_text())
        return told

    def lines(self, workflow: str | None = None) -> list[Line]:
        """Return the ledger, or what one workflow did."""
        return [line for line in read(self.book) if workflow in (None, line.workflow)]

    def check(self, told: Mapping[str, Any], *, ends: int = 1) -> None:
        """Hold what became of all workflows against the promises."""
        for name, kind in self.flows.items():
            outcome = told[name]
            if kind == "failing":
                assert outcome.get("error") == "TaskFailedError", f"{name}: {outcome}"
                assert "DeclinedError: no" in outcome["message"]
            else:
                assert "past" in outcome, f"{name}: {outcome}"
            oracle.check_flow(self.lines(name), flow(kind), outcome.get("past"), ends=ends)

    def check_the_end_is_the_end(self, told: Mapping[str, Any]) -> None:
        """Ask again: the same answers, and nothing is done for them."""
        before = self.lines()
        assert self.live() == told, "asked again, it answers something else"
        assert self.lines() == before, "asked again, it did something again"

    def check_nothing_blocks(self) -> None:
        """Nothing that a dead controller left keeps anybody from anything, and the collector takes all of it."""
        with exoflow.Engine(self.url) as engine:
            assert {info.status for info in engine.list()} <= {"succeeded", "failed"}
            assert engine.resume_all() == []
            while any(attrs.astuple(engine.gc(older_than_s=0))):
                pass  # a long chain of take-overs goes link by link
            assert engine.list() == []
        with contextlib.closing(FileStore(self.store)) as store:
            store.remove_leftovers(now_s=time.time() + _LONG_S)  # half-written files go by age
        # A journal that was born dead holds nothing; its name is kept for a week, and the probe of a new store for ever.
        stillborn = {path.name for path in (self.store / "open").glob("*") if not self._has_segments(path.name)}
        left = {path.relative_to(self.store) for path in self.store.rglob("*") if path.is_file()}
        unexpected = [
            path
            for path in left
            if path.parts[0] not in ("journals", "probes", "store.json") and path.parts[-1] not in stillborn
        ]
        assert not unexpected, f"the collector left {unexpected}"

    def _has_segments(self, journal_id: str) -> bool:
        return any((self.store / "journals" / journal_id).glob("*"))
