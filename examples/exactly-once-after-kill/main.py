"""Kills a workflow at every moment at which it writes something down, resumes it, and looks at what the world saw."""

import itertools
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import exoflow

BANK = Path("bank.txt")


def charge_at_the_bank(key: str) -> None:
    """A receiver that recognises keys: of requests with one key only the first is a payment."""
    known = BANK.exists() and f"{key} " in BANK.read_text()
    with BANK.open("a") as bank:
        bank.write(f"{key} {'known' if known else 'payment'}\n")


@exoflow.task(effects="none", deterministic=True)
def price(articles: int) -> int:
    return 20 * articles


@exoflow.task
def charge(amount: int) -> str:
    charge_at_the_bank(exoflow.context().idempotency_key)
    return f"paid {amount}"


@exoflow.task(effects="none")
def receipt(payment: str) -> str:
    return f"thank you: {payment}"


def run_here(workflow_id: str, *failures: str) -> None:
    with exoflow.Engine("file://./flows", "inline", failures=failures) as engine:
        print(engine.run(receipt.bind(charge.bind(price.bind(4))), workflow_id=workflow_id))


def run_in_a_process(folder: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for write in itertools.count(1):
            workflow_id = f"order-{write}"
            killed = run_in_a_process(folder, workflow_id, f"*.kill@{write},before_flush")
            if killed.returncode != -signal.SIGKILL:
                print(f"there is no write {write}")
                break
            resumed = run_in_a_process(folder, workflow_id)
            requests = [line for line in (Path(folder) / BANK).read_text().splitlines() if f"{workflow_id}/" in line]
            payments = sum(line.endswith(" payment") for line in requests)
            answer = resumed.stdout.strip()
            print(f"killed before write {write}, then {answer!r}; requests: {len(requests)}, payments: {payments}")


if __name__ == "__main__":
    run_here(*sys.argv[1:]) if len(sys.argv) > 1 else main()
