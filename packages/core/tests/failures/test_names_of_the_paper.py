"""The failures of the paper's experiments, under their names there: "train_12" is the task of the epoch numbered 12."""

import signal
import subprocess
import sys

import pytest

import exoflow

LOST = ["preprocess.task_crash", "train_actor_8.task_crash", "transform_8.task_crash", "transform_subtask_8.task_crash"]


class Attempts:
    """Counts the attempts of each task."""

    def __init__(self):
        self.of = {}

    def reach(self, point, *, task_id="", number=0, **about):
        if point == "before_run":
            self.of[task_id] = max(number, self.of.get(task_id, 0))


@exoflow.task(effects="none", retry_delay_s=0)
def add(*values):
    return 1 + sum(values)


def pipeline():
    """Ten epochs, each of them as the paper has it: sub-tasks, their transformation, an actor, its training."""
    model = data = add.options(task_id="preprocess").bind()
    for epoch in range(10):
        parts = add.options(task_id=f"transform_subtask_{epoch}").bind(data)
        images = add.options(task_id=f"transform_{epoch}").bind(parts)
        actor = add.options(task_id=f"train_actor_{epoch}").bind(model)
        model = add.options(task_id=f"train_{epoch}").bind(actor, images)
    return model


@pytest.mark.parametrize("failure", LOST)
def test_a_lost_task_runs_again_and_nothing_else_does(failure):
    attempts = Attempts()
    with exoflow.Engine("memory://", "inline", failures=[attempts, failure]) as engine:
        assert engine.run(pipeline()) == 51

    assert {task for task, number in attempts.of.items() if number > 1} == {failure.removesuffix(".task_crash")}
    assert attempts.of[failure.removesuffix(".task_crash")] == 2


def test_a_number_after_the_at_sign_is_that_attempt_and_one_in_the_name_is_the_names():
    attempts = Attempts()
    with exoflow.Engine("memory://", "inline", failures=[attempts, "train_8.raise", "train_8.task_crash@2"]) as engine:
        retried = add.options(task_id="train_8", retries=1).bind(1)
        assert engine.run(retried) == 2

    assert attempts.of == {"train_8": 3}


CLUSTER = """
import exoflow

@exoflow.task(effects="none", deterministic=True)
def step(value=0):
    return value + 1

if __name__ == "__main__":
    node = None
    for epoch in range(14):
        step_of_epoch = step.options(task_id=f"train_{epoch}")
        node = step_of_epoch.bind(node) if node else step_of_epoch.bind()
    with exoflow.Engine("memory://", "process", max_workers=1, failures=["train_12.cluster_crash"]) as engine:
        print(engine.start(node).result(), "is not reached", flush=True)
"""


def test_a_crash_of_the_cluster_takes_the_controller_and_every_worker(tmp_path):
    (tmp_path / "cluster.py").write_text(CLUSTER)
    command = [sys.executable, str(tmp_path / "cluster.py")]

    # Workers write to the same pipe: it ends when the last of them is gone, and this returns.
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), done.stderr


@exoflow.task(effects="none")
def transform(epoch):
    """A task that makes its sub-tasks when it runs, as the paper's does."""
    subtasks = [add.options(task_id=f"transform_subtask_{epoch}").bind(1)]
    return exoflow.continuation(add.options(task_id=f"gather_{epoch}").bind(*subtasks))


def test_a_task_of_a_continuation_goes_by_the_name_it_has_there():
    attempts = Attempts()
    with exoflow.Engine("memory://", "inline", failures=[attempts, "transform_subtask_8.task_crash"]) as engine:
        assert engine.run(transform.bind(8)) == 3

    assert attempts.of == {"transform": 1, "transform_subtask_8": 2, "gather_8": 1}


def test_a_workflow_keeps_the_failures_that_it_met_and_their_seed():
    with exoflow.Engine("memory://", "inline", failures=["add.task_crash@p=0.5,seed=7"]) as engine:
        engine.run(add.options(retries=9).bind(1), workflow_id="w", metadata={"mine": 1})
        (info,) = engine.list()

    assert info.metadata == {"mine": 1, "exoflow.failures": ["add.task_crash@p=0.5,seed=7"]}
