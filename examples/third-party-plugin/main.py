"""Runs a workflow in a store and on an executor that a plugin brings."""

import tempfile
import threading

import exoflow

at_once = most_at_once = 0
lock = threading.Lock()


@exoflow.task(effects="none", resources={"database": 1})
def query(number: int) -> int:
    """Ask the database, which bears one question at a time."""
    global at_once, most_at_once
    with lock:
        at_once += 1
        most_at_once = max(most_at_once, at_once)
    answer = number * number
    with lock:
        at_once -= 1
    return answer


@exoflow.task(effects="none")
def total(answers: list[int]) -> str:
    return f"total of {len(answers)} queries: {sum(answers)}"


def main() -> None:
    report = total.bind([query.bind(number) for number in range(8)])
    with tempfile.TemporaryDirectory() as folder, exoflow.Engine(f"sqlite://{folder}/flows.db", "tagged") as engine:
        print(engine.run(report, workflow_id="report"))
        print("queries at once, at most:", most_at_once)
        print("asked again, nothing is run:", engine.run(report, workflow_id="report"))


if __name__ == "__main__":
    main()
