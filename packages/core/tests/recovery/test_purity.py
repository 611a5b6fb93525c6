"""Recovery decides and does nothing: in a process where every file, socket, process and clock is booby-trapped, it works."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, time
from tests_recovery import Story, a_task

u = a_task("u").bind()
story = Story(a_task("end").bind(a_task("hold", "rollback").bind(u), a_task("pay", "once").bind(), u))
story.trace("u", "u.1").intent("hold", "h.1", "u.1").outcome("hold", "h.1", "u.1").intent("pay", "p.1")

trapped = ("open", "socket.", "subprocess.", "os.", "import", "ctypes.", "shutil.", "tempfile.")

def trap(event, arguments):
    if armed and event.startswith(trapped):
        raise AssertionError(f"recovery did {event} {arguments!r}")

def tick(*arguments):
    raise AssertionError("recovery asked what time it is")

armed = False
sys.addaudithook(trap)
for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"):
    setattr(time, name, tick)
armed = True
plan = story.plan()
again = type(story.history).of(story.history.records())
armed = False
assert [i.attempt for i in plan.roll_back] == ["h.1"] and [i.attempt for i in plan.resolve] == ["p.1"]
assert again == story.history
armed = True
try:
    open("/dev/null")
except AssertionError:
    armed = False
    print("the trap works")
"""


def test_a_plan_touches_no_file_no_socket_no_process_and_no_clock() -> None:
    load = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('tests_recovery', {str(Path(__file__).with_name('history_of.py'))!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['tests_recovery'] = module\n"
        "spec.loader.exec_module(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", load + SCRIPT], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "the trap works\n", "")
