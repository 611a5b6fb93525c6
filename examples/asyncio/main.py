"""An async program that runs a hundred workflows at once, each with async tasks of its own."""

import asyncio
import tempfile
import time

import exoflow


@exoflow.task(effects="none")
async def fetch(number: int) -> int:
    await asyncio.sleep(0.1)  # a request to somewhere
    return number


@exoflow.task(effects="none")
def add(numbers: list[int]) -> int:
    return sum(numbers)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, exoflow.Engine(f"file://{folder}") as engine:
        began = time.perf_counter()
        handles = engine.start_many([add.bind([fetch.bind(n) for n in range(10)]) for _ in range(100)])
        results = await asyncio.gather(*handles)
        seconds = time.perf_counter() - began
        print(f"{len(results)} workflows, each with the result {set(results)}")
        print("1,000 requests of 0.1 s took less than 10 s:", seconds < 10)
        patient = engine.start(exoflow.wait_for_event("never"), workflow_id="patient")
        try:
            await asyncio.wait_for(patient, timeout=0.1)
        except TimeoutError:
            print("waiting was given up, the workflow was not:", patient.status())
        await asyncio.to_thread(engine.cancel, "patient")
        try:
            await patient
        except exoflow.WorkflowCancelledError as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
