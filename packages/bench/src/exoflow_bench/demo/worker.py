"""The process that runs the pipeline, to be killed, or resumes it: ``python -m exoflow_bench.demo.worker JOB``.

It knows nothing of the crash: that is a failure it gives the engine, and the pipeline's code is the same with and
without it.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Job", "main"]


@attrs.frozen(kw_only=True)
class Job:
    """What the process is asked to do."""

    storage: str
    workflow_id: str
    executor: str
    trail: str
    """The file for what happens."""
    settings: dict[str, Any]
    """The fields of `exoflow_bench.suites.ml.pipeline.Settings`."""
    resume: bool = False
    """Whether the workflow is there already, left by a process that died."""
    failures: tuple[str, ...] = ()

    def as_argument(self) -> str:
        """Return the job as one word of a command line."""
        return json.dumps(attrs.asdict(self))


def main(argument: str) -> None:
    """Do the job."""
    job = Job(**json.loads(argument))
    import exoflow
    from exoflow_bench.demo.trail import Trail
    from exoflow_bench.suites.ml.pipeline import Settings, pipeline

    trail = Trail(Path(job.trail))
    trail.note("imported")
    with (
        contextlib.closing(trail),
        exoflow.Engine(job.storage, job.executor, observers=[trail], failures=job.failures) as engine,
    ):
        if job.resume:
            trail.note("resume")
            handle = engine.resume(job.workflow_id)
        else:
            trail.note("start")
            handle = engine.start(pipeline(Settings(**job.settings)), workflow_id=job.workflow_id)
        trail.note("accepted")
        handle.result()
        trail.note("result")


if __name__ == "__main__":
    main(sys.argv[1])
