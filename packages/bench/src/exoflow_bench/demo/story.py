"""The demonstration itself: run and be killed, resume, run again undisturbed, compare.

Each of the three runs is a process of its own. This one starts them, waits, looks into their stores and their trails,
and believes nothing they say of themselves.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import exoflow
from exoflow.failures.injectors import parse
from exoflow.graph.dag import compile_dag
from exoflow.plugins.observing import Moment
from exoflow_bench.demo.account import Account, After, Before, account, ranges
from exoflow_bench.demo.trail import BEGINNINGS, Line, first_beginning, first_time, read_trail, tasks_of
from exoflow_bench.demo.worker import Job
from exoflow_bench.suites.ml import model
from exoflow_bench.suites.ml.pipeline import Settings, Trained, pipeline

__all__ = ["Check", "Plan", "Process", "Story", "tell"]

ENOUGH_ACCURACY = 0.95

_ORPHANS_S = 10.0
"""How long worker processes of a killed controller may take to end; until then their workflow is not anybody's."""

_PATIENCE_S = 300.0

# One thread in the linear algebra library: its bits may depend on how many there are, and the cores are taken anyway.
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many tasks of how many are done."""


@attrs.frozen(kw_only=True)
class Plan:
    """What to do."""

    settings: Settings
    kill_at: str
    """The task in which the first process is killed..."""
    point: str = "after_run_before_record"
    """...and the `exoflow.failures.FailurePoint`: by default when all of it is done and nothing of that recorded."""
    executor: str = "thread"
    storage: str
    """A URL, below which each of the two workflows has a store of its own."""
    folder: Path
    """For trails, and what the processes print."""


@attrs.frozen(kw_only=True)
class Process:
    """One of the three, after its end."""

    name: str
    pid: int
    started_at: float
    ended_at: float
    code: int
    """As `subprocess` gives it: minus the signal for one that was killed."""
    trail: list[Line]
    said: str
    """The end of what it printed."""

    @property
    def seconds(self) -> float:
        """From its start to its end."""
        return self.ended_at - self.started_at

    @property
    def tasks_run(self) -> int:
        """How many tasks it finished."""
        return len(tasks_of(self.trail, Moment.TASK_FINISHED))


@attrs.frozen
class Check:
    """One thing that must hold."""

    claim: str
    ok: bool
    detail: str


@attrs.frozen(kw_only=True)
class Story:
    """All that happened."""

    plan: Plan
    workflow_id: str
    killed: Process
    resumed: Process
    uninterrupted: Process
    status_between: str
    """Where the workflow stood between the two processes, according to the store."""
    tasks: list[Account]
    result: Trained | None
    """Of the workflow that was killed and resumed, as its store has it; None if it has none."""
    expected: Trained | None
    """The same of the one that was left alone."""
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return all(check.ok for check in self.checks)

    @property
    def recovery_s(self) -> float | None:
        """From ``resume()`` to the start of the first task."""
        return self._first_task_after(first_time(self.resumed.trail, "resume"))

    @property
    def recovery_from_process_start_s(self) -> float | None:
        """From the start of the second process to the start of the first task."""
        return self._first_task_after(self.resumed.started_at)

    def _first_task_after(self, begin: float | None) -> float | None:
        first = first_beginning(self.resumed.trail)
        return None if begin is None or first is None else first - begin


def storages(url: str) -> tuple[str, str]:
    """Return where the workflow that is killed is kept, and where the other."""
    return f"{url.rstrip('/')}/killed", f"{url.rstrip('/')}/uninterrupted"


def tell(plan: Plan, progress: Progress = lambda what, done, of: None) -> Story:
    """Do it all.

    Raises:
        exoflow.UsageError: There is no such task, point, executor or kind of storage.
        exoflow.ExoFlowError: The storage cannot be used.
    """
    dag = compile_dag(pipeline(plan.settings))
    names = [spec.task_id for spec in dag.nodes]
    reads = {spec.task_id: [names[at] for at in spec.deps] for spec in dag.nodes}
    if plan.kill_at not in reads:
        raise exoflow.UsageError(
            f"kill at {plan.kill_at!r}: the pipeline has no such task; choose one of {ranges(names)}"
        )
    workflow_id = f"digits-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    broken, whole = storages(plan.storage)
    failure = f"{plan.kill_at}.kill@{plan.point}"
    parse(failure)
    with exoflow.Engine(broken, plan.executor):
        pass  # whether both names are known is better found out here than in three processes

    def run(name: str, label: str, storage: str, **more: Any) -> Process:
        job = Job(
            storage=storage,
            workflow_id=workflow_id,
            executor=plan.executor,
            trail=str(plan.folder / f"{name}.jsonl"),
            settings=attrs.asdict(plan.settings),
            **more,
        )
        return _run(name, job, plan.folder, lambda done: progress(label, done, len(reads)))

    killed = run(
        "killed",
        f"train, until kill -9 in {plan.kill_at}",
        broken,
        failures=(failure,),
    )
    status, committed = _look(broken, workflow_id)
    resumed = run("resumed", "resume in a new process", broken, resume=True)
    uninterrupted = run("uninterrupted", "train again, left alone", whole)
    story = Story(
        plan=plan,
        workflow_id=workflow_id,
        killed=killed,
        resumed=resumed,
        uninterrupted=uninterrupted,
        status_between=status,
        tasks=account(reads, killed.trail, committed, resumed.trail, names[-1]),
        result=_result(broken, workflow_id) if resumed.code == 0 else None,
        expected=_result(whole, workflow_id) if uninterrupted.code == 0 else None,
        checks=[],
    )
    story.checks.extend(_checks(story))
    return story


def _run(name: str, job: Job, folder: Path, progress: Callable[[int], None]) -> Process:
    command = [sys.executable, "-P", "-m", "exoflow_bench.demo.worker", job.as_argument()]
    printed = folder / f"{name}.log"
    with printed.open("wb") as output:
        started_at = time.time()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **_ONE_THREAD}
        )
        ended_at = 0.0
        ended = threading.Event()

        def wait() -> None:
            nonlocal ended_at
            child.wait()
            ended_at = time.time()
            ended.set()

        threading.Thread(target=wait, name=f"wait-for-{name}", daemon=True).start()
        try:
            while not ended.wait(0.1) and time.time() - started_at < _PATIENCE_S:
                progress(len(tasks_of(read_trail(Path(job.trail)), Moment.TASK_FINISHED)))
        finally:
            if not ended.is_set():  # too slow, or Ctrl-C
                child.terminate()
                if not ended.wait(5.0):
                    child.kill()
                    ended.wait()
    return Process(
        name=name,
        pid=child.pid,
        started_at=started_at,
        ended_at=ended_at,
        code=child.returncode,
        trail=read_trail(Path(job.trail)),
        said=printed.read_text(errors="replace")[-2000:].strip(),
    )


def _look(storage: str, workflow_id: str) -> tuple[str, list[str]]:
    """Return where the workflow stands and whose values are durable, while nobody runs it. Changes nothing."""
    with exoflow.Engine(storage) as engine:
        try:
            detail = engine.show(workflow_id)
            until = time.monotonic() + _ORPHANS_S
            while detail.info.status is exoflow.WorkflowStatus.RUNNING and time.monotonic() < until:
                time.sleep(0.02)
                detail = engine.show(workflow_id)
        except exoflow.WorkflowNotFoundError:
            return "not found", []
    durable = [task.task_id for task in detail.tasks if task.state is exoflow.TaskState.COMMITTED]
    return str(detail.info.status), durable


def _result(storage: str, workflow_id: str) -> Trained | None:
    with exoflow.Engine(storage) as engine:
        value = engine.result(workflow_id, timeout_s=10.0)
    return value if isinstance(value, Trained) else None


# --- what must hold ---------------------------------------------------------------------------------------------------


def _checks(story: Story) -> list[Check]:
    killed, resumed, result, expected = story.killed, story.resumed, story.result, story.expected
    lost = [task for task in story.tasks if task.before is Before.LOST]
    kept = [task for task in story.tasks if task.before is Before.COMMITTED]
    repeated = [task for task in kept if task.after in (After.RERUN, After.RUN)]
    run_again = tasks_of(resumed.trail, *BEGINNINGS)
    return [
        Check(
            "the first process was killed with SIGKILL in the middle",
            killed.code == -signal.SIGKILL and story.plan.kill_at in tasks_of(killed.trail, *BEGINNINGS),
            f"process {killed.pid}, in {story.plan.kill_at}" if killed.code < 0 else _ending(killed),
        ),
        Check(
            "it left a workflow that can be resumed",
            story.status_between == exoflow.WorkflowStatus.RESUMABLE,
            f"the store says: {story.status_between}",
        ),
        Check(
            "a second process resumed it to its end",
            resumed.code == 0 and result is not None,
            f"process {resumed.pid}, {len(run_again)} of {len(story.tasks)} tasks run"
            if resumed.code == 0
            else _ending(resumed),
        ),
        Check(
            "nothing whose value was kept ran again",
            not repeated,
            f"{len(kept)} tasks kept, {len(repeated)} of them run again; {len(lost)} lost",
        ),
        Check(
            "an uninterrupted run ended as well",
            story.uninterrupted.code == 0 and expected is not None,
            f"process {story.uninterrupted.pid}" if story.uninterrupted.code == 0 else _ending(story.uninterrupted),
        ),
        Check(
            "both models are equal bit for bit, and so is what they see",
            result is not None and expected is not None and _equal(result, expected),
            " and ".join(dict.fromkeys(_digest(trained) for trained in (result, expected))),
        ),
        Check(
            f"the model is right on at least {ENOUGH_ACCURACY:.0%} of the test images",
            result is not None and result.accuracy >= ENOUGH_ACCURACY,
            "no model" if result is None else f"{result.accuracy:.2%} of {result.test_images}",
        ),
    ]


def _equal(one: Trained, other: Trained) -> bool:
    return (
        model.digest(one.model) == model.digest(other.model)
        and one.accuracy.hex() == other.accuracy.hex()
        and np.array_equal(one.confusion, other.confusion)
    )


def _digest(trained: Trained | None) -> str:
    return "no model" if trained is None else f"sha256 {model.digest(trained.model)[:16]}"


def _ending(process: Process) -> str:
    how = f"signal {-process.code}" if process.code < 0 else f"exit code {process.code}"
    last = process.said.splitlines()[-1:] or ["it printed nothing"]
    return f"process {process.pid} ended with {how}: {last[0]}"
