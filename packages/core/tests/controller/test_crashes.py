"""The same workflow, crashed at every point it reaches, and resumed: nobody may see more than one incarnation.

The controller dies inside of this process (`SimulatedCrash`); `tests/integration` kills real ones.
"""

import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import exoflow
from exoflow.api import reading
from exoflow.api.engine import Engine
from exoflow.failures.points import FailurePoint, SimulatedCrash

from ..witness import ANNOTATIONS, Bucket, Ledger, chain, explain, fail_in_the_end, fresh, run_with_a_person

POOL = ThreadPoolExecutor(8)
"""Lives are lived beside each other: most of their time they wait for threads to wake up."""


@pytest.fixture(autouse=True)
def _probed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # Thousands of engines are opened here on a store whose promises have tests of their own.
    monkeypatch.setattr(reading, "open_store", lambda store: store)
    monkeypatch.setattr(reading, "identify", lambda store: store)


class Life:
    """One engine on a store that outlives it."""

    def __init__(self, storage: str, executor: str, bucket: bool) -> None:
        self.storage, self.executor = storage, executor
        self.bucket = Bucket(storage) if bucket else None

    def engine(self, *failures: Any) -> Engine:
        if self.bucket is not None:
            self.bucket.let_time_pass()
            return Engine(self.bucket, self.executor, failures=failures)  # type: ignore[arg-type]
        return Engine(self.storage, self.executor, failures=failures)


class Counting:
    """Counts how often a point is reached."""

    def __init__(self, point: FailurePoint) -> None:
        self.point, self.times = point, 0

    def reach(self, point: FailurePoint, **_: Any) -> None:
        self.times += point is self.point


def at_every_time(point: FailurePoint, kind: str, tmp_path: Path, make: Any, check: Any) -> None:
    """Crash workflows, one for each time that one of them reaches *point* when nothing happens to it."""
    executor, bucket = "thread" if kind == "thread" else "inline", kind == "bucket"
    counting = Counting(point)
    with Life(fresh(), executor, bucket).engine(counting) as engine, contextlib.suppress(exoflow.TaskFailedError):
        engine.run(make(str(tmp_path / "count")))

    def live(nth: int) -> None:
        book, life = Ledger(tmp_path / f"ledger-{nth}"), Life(fresh(), executor, bucket)

        def node() -> exoflow.Node:
            return make(book.path)  # type: ignore[no-any-return]

        answer, crashes = live_to_the_end(life, node, [f"*.crash@{nth},{point}"], book)
        assert crashes == 1 or nth > 1 or not counting.times
        check(book, life, answer)
        if nth == 1 and not isinstance(answer, exoflow.NeedsAttentionError):
            check_told_again(life, node, answer)

    list(POOL.map(live, range(1, counting.times + 1)))


def live_to_the_end(life: Life, node: Callable[[], exoflow.Node], crashes: list[str], book: Ledger) -> tuple[Any, int]:
    """Run a workflow through crashes; return its answer, or its error, and how many crashes really came."""
    came = 0
    for failure in (*crashes, None):
        with life.engine(*([failure] if failure else [])) as engine:
            try:
                return run_with_a_person(engine, node, book), came
            except SimulatedCrash:
                assert failure is not None
                came += 1
            except (exoflow.TaskFailedError, exoflow.NeedsAttentionError) as error:
                return error, came
    raise AssertionError("not reached")


def check_told_again(life: Life, node: Callable[[], exoflow.Node], answer: Any) -> None:
    """Asked again, by whichever call, the workflow says the same."""
    with life.engine() as engine:
        for ask in (lambda: engine.result("w"), lambda: engine.run(node(), workflow_id="w"), engine.resume("w").result):
            if isinstance(answer, Exception):
                with pytest.raises(type(answer)) as caught:
                    ask()
                assert str(caught.value) == str(answer)
            else:
                assert ask() == answer


@pytest.mark.parametrize(
    ("kind", "mode"), [("inline", "sync"), ("inline", "async"), ("thread", "async"), ("bucket", "sync")]
)
@pytest.mark.parametrize("annotation", ANNOTATIONS)
@pytest.mark.parametrize("point", FailurePoint)
def test_a_chain_crashed_at_every_point_is_explained_by_one_incarnation_of_each_task(
    point: FailurePoint, annotation: str, mode: str, kind: str, tmp_path: Path
) -> None:
    def check(book: Ledger, life: Life, answer: Any) -> None:
        if not isinstance(answer, Exception):
            explain(answer)
            book.check()
            return
        # Only what nobody can know may stop it for good: an attempt of a once task, without anybody to ask.
        assert annotation == "send"
        assert isinstance(answer, exoflow.NeedsAttentionError)
        assert answer.task_id == "middle"
        assert len(book.lines("happened")) <= 1
        _settle_and_go_on(life, book)
        book.check()

    at_every_time(point, kind, tmp_path, lambda book: chain(book, annotation, checkpoint=mode), check)


def _settle_and_go_on(life: Life, book: Ledger) -> None:
    happened = book.lines("happened")
    with life.engine() as engine:
        assert engine.status("w") == "needs_attention"
        value = happened[0]["value"] if happened else None
        engine.settle("w", "middle", happened=bool(happened), value=value)
        assert engine.status("w") == "resumable"
    with life.engine() as engine:
        explain(engine.resume("w").result())


@pytest.mark.parametrize("annotation", ["draw", "charge", "reserve", "send", "send_resolved"])
@pytest.mark.parametrize("point", FailurePoint)
def test_a_workflow_that_fails_is_rolled_back_whatever_moment_it_crashes_in(
    point: FailurePoint, annotation: str, tmp_path: Path
) -> None:
    def check(book: Ledger, life: Life, answer: Any) -> None:
        if isinstance(answer, exoflow.NeedsAttentionError):
            assert annotation == "send"
            return
        assert isinstance(answer, exoflow.TaskFailedError)
        assert isinstance(answer.__cause__, ValueError)
        book.check(failed=True)
        with life.engine() as engine:
            assert engine.status("w") == "failed"
        did = {entry["attempt"] for entry in book.lines("did")}
        undone = list(dict.fromkeys(entry["key"] for entry in book.lines("undid") if entry["key"] in did))
        expected = ["after", "middle"] if annotation == "reserve" else ["after"]
        assert [_task_of(book, attempt) for attempt in undone[-len(expected) :]] == expected, "reverse causal order"

    at_every_time(point, "inline", tmp_path, lambda book: fail_in_the_end(book, annotation), check)


def _task_of(book: Ledger, attempt: str) -> str:
    return next(entry["task"] for entry in book.lines("did") if entry["attempt"] == attempt)


@pytest.mark.parametrize("seed", range(40))
def test_several_crashes_one_after_the_other_add_up_to_none(seed: int, tmp_path: Path) -> None:
    def live(turn: int) -> None:
        chooser = random.Random(4 * seed + turn)
        book = Ledger(tmp_path / f"ledger-{turn}")
        life = Life(fresh(), chooser.choice(["inline", "thread"]), chooser.random() < 0.3)
        annotation = chooser.choice([name for name in ANNOTATIONS if name != "send"])
        options = {"checkpoint": chooser.choice(["sync", "async"])}
        if annotation in ("pure", "draw", "charge"):
            options["checkpoint"] = chooser.choice(["sync", "async", "skip", "auto"])
        fails = chooser.random() < 0.3
        make = fail_in_the_end if fails else chain

        def node(book: Ledger = book, make: Any = make, annotation: str = annotation, options: Any = options) -> Any:
            return make(book.path, annotation, **options)

        crashes = [
            f"*.crash@{chooser.randint(1, 4)},{chooser.choice(list(FailurePoint))}"
            for _ in range(chooser.randint(1, 5))
        ]
        answer, _ = live_to_the_end(life, node, crashes, book)
        if fails:
            assert isinstance(answer, exoflow.TaskFailedError), crashes
        else:
            explain(answer)
        book.check(failed=fails)
        check_told_again(life, node, answer)

    list(POOL.map(live, range(4)))


@pytest.mark.parametrize("point", [FailurePoint.BEFORE_RUN, FailurePoint.AFTER_RUN_BEFORE_RECORD])
@pytest.mark.parametrize("annotation", ["draw", "charge", "reserve", "send_resolved"])
def test_an_attempt_whose_process_is_lost_is_run_again_as_its_effects_allow(
    point: FailurePoint, annotation: str, tmp_path: Path
) -> None:
    """An injected loss is a system failure: retried unasked, undone or asked about first."""
    book = Ledger(tmp_path / "ledger")
    life = Life(fresh(), "inline", False)
    with life.engine(f"middle.task_crash@1,{point}") as engine:
        explain(engine.run(chain(book.path, annotation), workflow_id="w"))
    book.check()
    ran = len(book.lines("ran", "middle")) + len(book.lines("did", "middle")) + len(book.lines("happened", "middle"))
    expected = {"draw": 0, "send_resolved": 1}.get(annotation, 1 if point is FailurePoint.BEFORE_RUN else 2)
    assert ran == expected
