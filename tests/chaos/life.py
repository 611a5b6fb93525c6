"""What a controller process does, from its birth to its end or its kill."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import attrs

import exoflow
from exoflow.stores.contract import ObjectStore

from . import ledger, stores
from .flows import flow

PATIENCE_S = 60.0
"""How long anything may take that must happen. Only a failing test takes so long."""


@attrs.frozen(kw_only=True)
class Plan:
    """What a life is for."""

    store: str
    book: str
    report: str
    """Where it writes what became of its workflows."""
    log: str
    flows: dict[str, str]
    """Workflow ids, and the flow that each is."""
    executor: str = "thread"
    failures: list[str] = attrs.field(factory=list)
    fuse: int | None = None
    """The controller gets `fuse_signal` with the line of the ledger that has this number, or a later one."""
    fuse_signal: int = signal.SIGKILL
    sweep: bool = False
    """Whether to resume all that lies about, before starting anything."""
    gate: str | None = None
    """A file whose lock is waited for before the engine is used, so that several begin at the same moment."""
    accepted: str | None = None
    """A FIFO in which it says that all its workflows are accepted."""
    patient: bool = True
    """Whether to ask again when another process runs a workflow."""
    kind: str = "local"
    """Which store is made of the folder, see `stores`."""


def live(plan: Plan) -> None:
    """Run the workflows of *plan* to their ends, and report those."""
    os.environ[ledger.BOOK] = plan.book
    if plan.fuse is not None:
        os.environ[ledger.FUSE] = f"{os.getpid()}:{plan.fuse}:{plan.fuse_signal}"
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)
    store: ObjectStore | str = stores.open_kind(plan.kind, plan.store)
    with exoflow.Engine(store, plan.executor, failures=plan.failures) as engine:
        if plan.gate is not None:
            stores.pass_gate(plan.gate)
        if plan.sweep:
            engine.resume_all()
        outcomes = {name: _begin(engine, name, flow(kind), plan.patient) for name, kind in plan.flows.items()}
        if plan.accepted is not None:
            Path(plan.accepted).write_bytes(b"accepted")
        told = {name: _outcome(outcome) for name, outcome in outcomes.items()}
    # Whole or not at all, as everything that is looked at after a kill.
    written = Path(f"{plan.report}.{os.getpid()}")
    written.write_text(json.dumps(told))
    written.rename(plan.report)


def _begin(engine: exoflow.Engine, name: str, node: exoflow.Node, patient: bool) -> exoflow.Handle | Exception:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return engine.start(node, workflow_id=name)
        except exoflow.WorkflowRunningError as error:
            # A child that the dead controller was just starting holds a copy of its lock until it execs.
            if not patient or time.monotonic() > deadline:
                return error
        except exoflow.ExoFlowError as error:
            return error
        time.sleep(0.002)


def _outcome(begun: exoflow.Handle | Exception) -> dict[str, Any]:
    try:
        if isinstance(begun, Exception):
            raise begun
        value = begun.result(PATIENCE_S)
    except exoflow.ExoFlowError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"past": value["past"]}
