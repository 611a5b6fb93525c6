"""The `exoflow` command, interrupted, killed and given damaged files: its exit code, and advice that is true.

What the message says to type is typed.
"""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .life import PATIENCE_S

ORDER = """
import os
from pathlib import Path
import exoflow

@exoflow.task
def bill(amount):
    with Path("billed").open("a") as book:
        book.write(exoflow.context().idempotency_key + "\\n")
    return amount

@exoflow.task(effects="none")
def ship(amount):
    if not Path("open").exists():
        Path("bell").write_bytes(b"here I am")
        Path("door").read_bytes()
    return f"shipped for {amount}"

order = ship.bind(bill.bind(7))
"""


class Shop:
    """A folder with a workflow whose second task rings a bell and waits at a door, until the shop is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "order.py").write_text(ORDER)
        os.mkfifo(folder / "bell")
        os.mkfifo(folder / "door")
        self._bell = os.open(folder / "bell", os.O_RDONLY | os.O_NONBLOCK)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command, in a group of its own, as a shell does."""
        return subprocess.Popen(
            [sys.executable, "-c", "from exoflow.cli.main import main; main()", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "EXOFLOW_STORAGE": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            # A shell's children in the background ignore the signal, and so would theirs.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Let a command run to its end."""
        process = self.begin(*words)
        said, complained = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(words, process.returncode, said, complained)

    def wait_for_the_bell(self) -> None:
        """Wait until the second task runs."""
        assert select.select([self._bell], [], [], PATIENCE_S)[0], "nobody rang"

    def open(self) -> None:
        """From now on nobody has to wait at the door."""
        (self.folder / "open").touch()

    def let_in(self) -> None:
        """Wait for the task that comes to the door, and let it in."""
        self.open()
        os.close(os.open(self.folder / "door", os.O_WRONLY))

    def close(self) -> None:
        """Let go of the bell."""
        os.close(self._bell)

    @property
    def billed(self) -> list[str]:
        """The keys under which bills were written."""
        return (self.folder / "billed").read_text().splitlines()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


STORAGE = ("--storage", "file://./flows")
RUN = ("run", "order.py:order", *STORAGE, "--workflow-id", "o 1")


def take_the_advice(shop: Shop, complaint: str) -> subprocess.CompletedProcess[str]:
    """Type what the message says."""
    found = re.search(r"exoflow (resume .*)", complaint)
    assert found, complaint
    assert found[1] == "resume 'o 1' --storage file://./flows"
    return shop.call(*shlex.split(found[1]))


@pytest.mark.parametrize(
    ("number", "code", "executor"),
    [(signal.SIGINT, 130, "thread"), (signal.SIGINT, 130, "process"), (signal.SIGTERM, 143, "thread")],
)
def test_a_run_that_is_interrupted_ends_with_its_code_and_the_command_that_goes_on(
    number: signal.Signals, code: int, executor: str, shop: Shop
) -> None:
    process = shop.begin(*RUN, "--executor", executor)
    shop.wait_for_the_bell()

    process.send_signal(number)
    if executor == "thread":
        shop.let_in()  # nobody can stop a thread
    shop.open()
    said, complained = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == code, complained
    assert said == ""
    assert "Traceback" not in complained
    resumed = take_the_advice(shop, complained)
    assert (resumed.returncode, resumed.stdout) == (0, "shipped for 7\n"), resumed.stderr
    assert shop.billed == ["o 1/1/bill"]


def test_a_second_ctrl_c_does_not_wait_for_a_task_that_cannot_be_stopped(shop: Shop) -> None:
    process = shop.begin(*RUN)
    shop.wait_for_the_bell()

    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for the task, which waits at the door
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    _, complained = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130, complained
    shop.open()
    resumed = take_the_advice(shop, complained)
    assert (resumed.returncode, resumed.stdout) == (0, "shipped for 7\n"), resumed.stderr
    assert shop.billed == ["o 1/1/bill"]


def test_a_run_that_is_killed_says_nothing_and_resume_all_goes_on(shop: Shop) -> None:
    process = shop.begin(*RUN)
    shop.wait_for_the_bell()

    process.kill()
    said, _ = process.communicate(timeout=PATIENCE_S)
    shop.open()

    assert (process.returncode, said) == (-9, "")
    resumed = shop.call("resume", "--all", *STORAGE)
    assert (resumed.returncode, resumed.stdout) == (0, "o 1: succeeded\n"), resumed.stderr
    assert shop.call("result", "o 1", *STORAGE).stdout == "shipped for 7\n"
    assert shop.billed == ["o 1/1/bill"]


def test_while_one_runs_it_another_is_told_by_whom_and_how_to_wait(shop: Shop) -> None:
    process = shop.begin(*RUN)
    shop.wait_for_the_bell()

    refused = shop.call(*RUN)

    assert refused.returncode == 4
    assert f"is being run by process {process.pid} on " in refused.stderr
    found = re.search(r"exoflow (result '.*)", refused.stderr)
    assert found, refused.stderr
    waiting = shop.begin(*shlex.split(found[1]))
    shop.let_in()
    assert process.communicate(timeout=PATIENCE_S)[0] == "shipped for 7\n"
    assert waiting.communicate(timeout=PATIENCE_S)[0] == "shipped for 7\n"


def test_a_damaged_journal_is_named_with_its_place_and_nothing_is_done(shop: Shop) -> None:
    process = shop.begin(*RUN)
    shop.wait_for_the_bell()
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    shop.open()
    (segment,) = (shop.folder / "flows" / "journals").glob("*/*")
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    billed = shop.billed

    for words in (RUN, ("resume", "o 1", *STORAGE)):
        refused = shop.call(*words)

        assert (refused.returncode, refused.stdout) == (1, ""), words
        named = f"error: {segment.relative_to(shop.folder / 'flows')}: batch 1 at byte 16 is damaged, and batch "
        assert named in refused.stderr, words
        assert refused.stderr.endswith("the stored bytes are wrong, restore them from a copy\n"), words
    told: dict[str, Any] = json.loads(shop.call("resume", "o 1", *STORAGE, "--json").stderr)
    assert (told["error"], told["exit_code"]) == ("CorruptCheckpointError", 1)
    assert shop.billed == billed
