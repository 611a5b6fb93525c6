"""Runs a workflow in a store and on an executor that a plugin brings."""

import tempfile
import time

import exoflow


@exoflow.task(effects="none", resources={"database": 1})
def query(number: int) -> tuple[int, float, float]:
    """Ask the database, which bears one question at a time."""
    began = time.perf_counter()
    time.sleep(0.01)
    return number * number, began, time.perf_counter()


@exoflow.task(effects="none")
def report(queries: list[tuple[int, float, float]]) -> str:
    """Add the answers, and say how many questions were asked at once."""
    at_once = max(sum(began <= moment < ended for _, began, ended in queries) for _, moment, _ in queries)
    return f"{sum(answer for answer, _, _ in queries)}, from {len(queries)} queries, at most {at_once} at once"


def main() -> None:
    dag = report.bind([query.bind(number) for number in range(8)])
    with tempfile.TemporaryDirectory() as folder:
        with exoflow.Engine(f"sqlite://{folder}/flows.db", "tagged") as engine:
            print("the sum is", engine.run(dag, workflow_id="report"))
        with exoflow.Engine(f"sqlite://{folder}/flows.db") as engine:
            print("asked again, nothing is run:", engine.run(dag, workflow_id="report"))


if __name__ == "__main__":
    main()
