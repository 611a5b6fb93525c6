"""Crashes one pipeline with each checkpoint mode, and tells what was stored and what had to run again."""

import tempfile
import time

import exoflow
from exoflow.failures.points import SimulatedCrash

ran: list[str] = []


@exoflow.task(effects="none")
def load() -> bytes:
    ran.append("load")
    return bytes(2_000_000)


@exoflow.task(effects="none")
def train(data: bytes) -> int:
    ran.append("train")
    time.sleep(0.3)  # long enough for the data to reach the disk meanwhile
    return len(data)


@exoflow.task
def publish(model: int) -> str:
    return f"a model of {model:,} bytes"


def main() -> None:
    for mode in ("sync", "async", "skip"):
        pipeline = publish.bind(train.bind(load.options(checkpoint=mode).bind()))
        with tempfile.TemporaryDirectory() as folder:
            try:
                with exoflow.Engine(f"file://{folder}", failures=["train.crash@after_run_before_record"]) as engine:
                    engine.run(pipeline, workflow_id="model")
            except SimulatedCrash:
                ran.clear()
            with exoflow.Engine(f"file://{folder}") as engine:
                stored = engine.show("model").tasks[0].stored_bytes or 0
                result = engine.run(pipeline, workflow_id="model")
        again = " and ".join(ran)
        print(f"{mode:6} {'2 MB' if stored > 2_000_000 else '0 MB'} stored, then run again: {again:15} -> {result}")


if __name__ == "__main__":
    main()
