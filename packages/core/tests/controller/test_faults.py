"""Random workflows on the real driver, over a store that delays, refuses and loses answers, resumed until they are done.

One seed draws the workflow, its annotations, what the store does and when the controller crashes. A failing seed is run
alone with ``--engine-seed`` (or by calling `play` with it), and many more than here with ``EXOFLOW_SEEDS=10000``.
"""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.api import controllers, reading
from exoflow.api.engine import Engine
from exoflow.failures.points import FailurePoint, SimulatedCrash
from exoflow.journal import creation, writer
from exoflow.stores.memory import MemoryStore
from exoflow.testing.faults import Chances, Delay, FaultyStore, LoseAnswer, Refuse

from ..witness import Bucket, Ledger, fail, fresh, random_dag, run_with_a_person

SEEDS = int(os.environ.get("EXOFLOW_SEEDS", "160"))
CHUNKS = 16
LIVES = 40


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "open_store", lambda store: store)
    monkeypatch.setattr(reading, "identify", lambda store: store)
    monkeypatch.setattr(controllers, "_PATIENCE_S", 0.05)
    # A store that does not answer is asked again, but without the pauses that a real one deserves.
    quick = creation.Patience(total_s=0.01, sleep=lambda seconds: None)
    for module in (creation, writer):
        monkeypatch.setattr(module, "PATIENT", quick)
    for function in (writer.JournalWriter.open.__func__, writer.JournalWriter.__init__):  # type: ignore[attr-defined]
        if function.__kwdefaults__ and "patience" in function.__kwdefaults__:
            monkeypatch.setitem(function.__kwdefaults__, "patience", quick)


def play(seed: int, folder: Path) -> None:
    chooser = random.Random(seed)
    book = Ledger(folder / f"ledger-{seed}")
    size, fails = chooser.randint(1, 9), chooser.random() < 0.15
    dag_seed, executor = chooser.random(), chooser.choice(["inline", "thread"])
    space, as_bucket = fresh(), chooser.random() < 0.4
    crashes, calm = chooser.randint(0, 3), chooser.random() < 0.2
    trouble = 0.0 if calm else chooser.choice([0.003, 0.01, 0.02])

    def node() -> exoflow.Node:
        made = random_dag(random.Random(dag_seed), book.path, size)
        return fail.bind(made) if fails else made

    answer: Any = None
    for life in range(LIVES):
        bucket = Bucket(space)
        bucket.let_time_pass()
        if life > 8:
            trouble /= 2  # each life makes the chain of journals longer, and one needs some luck to read it
        plan = Chances(
            random.Random(chooser.random()),
            {
                Refuse(): trouble,
                LoseAnswer(): trouble,
                LoseAnswer(happens=False): trouble,
                Delay(delay_s=0.001): trouble,
            },
        )
        store: Any = FaultyStore(bucket if as_bucket else MemoryStore.open(space), plan)  # type: ignore[arg-type]
        failures = []
        if crashes and life % 2 == 0:
            crashes -= 1
            failures = [f"*.crash@{chooser.randint(1, 5)},{chooser.choice(list(FailurePoint))}"]
        with Engine(store, executor, failures=failures) as engine:
            try:
                answer = run_with_a_person(engine, node, book)
                break
            except exoflow.TaskFailedError as error:
                assert isinstance(error.__cause__, ValueError), error
                answer = error
                break
            except (SimulatedCrash, exoflow.UnavailableError, exoflow.FencedError, exoflow.WorkflowRunningError):
                continue
    else:
        raise AssertionError("it never ended")
    assert isinstance(answer, Exception) == fails
    book.check(failed=fails)
    if not fails:
        book.check_explained(answer)
        with Engine(MemoryStore.open(space)) as engine:
            assert engine.result("w") == answer


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_random_workflow_on_a_store_with_troubles_keeps_every_promise(chunk: int, tmp_path: Path) -> None:
    def attempt(seed: int) -> None:
        try:
            play(seed, tmp_path)
        except Exception as error:
            raise AssertionError(f"seed {seed}: play({seed}, folder) shows it") from error

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, range(chunk, SEEDS, CHUNKS)))
