import signal
import subprocess
import sys
from pathlib import Path

import pytest

FAMILY = """
import subprocess, sys
from exoflow.failures.actions import cluster_crash
from exoflow.failures.points import FailurePoint

subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], stdin=subprocess.DEVNULL)
sys.stdin.readline()
cluster_crash(FailurePoint.BEFORE_RUN, "a")
"""
CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(120)"
GRANDCHILD = "import os, time; os.write(1, b'here\\n'); time.sleep(120)"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_a_crash_of_the_cluster_ends_what_descends_from_the_process_in_any_generation():
    command = [sys.executable, "-c", FAMILY, CHILD, GRANDCHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.stdin.write("go\n")
        # The pipe of the standard output ends with the last process that holds it.
        rest, _ = process.communicate(timeout=60)

    assert (process.returncode, rest) == (-signal.SIGKILL, "")
