"""A workflow waits for a message while no process runs it; the message comes, and another process goes on."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import exoflow


@exoflow.task
def order(article: str) -> str:
    print("process 1 ordered", article, flush=True)
    return article


@exoflow.task
def pay(article: str, invoice: dict[str, int]) -> str:
    return f"paid {invoice['amount']} for {article}"


def workflow() -> exoflow.Node:
    ordered = order.bind("a bicycle")
    invoice = exoflow.wait_for_event("invoice", timeout_s=3600, task_id="invoice", after=[ordered])
    pause = exoflow.sleep(0.2, task_id="pause", after=[invoice])
    return pay.options(after=[pause]).bind(ordered, invoice)


def start_and_leave(folder: str) -> None:
    """Play a process that starts the workflow, and ends long before the invoice comes."""
    with exoflow.Engine(f"file://{folder}") as engine:
        engine.start(workflow(), workflow_id="bicycle")
        while engine.show("bicycle").tasks[0].state is not exoflow.TaskState.COMMITTED:
            time.sleep(0.01)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(Path(__file__).resolve()), folder], check=True)
        with exoflow.Engine(f"file://{folder}") as engine:
            print("nobody runs it, it is", engine.status("bicycle"))
            for _ in range(2):  # a sender that retries: one id, one message
                engine.send_event("bicycle", "invoice", {"amount": 500}, message_id="invoice-77")
            print("process 2", engine.resume("bicycle").result())


if __name__ == "__main__":
    start_and_leave(*sys.argv[1:]) if len(sys.argv) > 1 else main()
