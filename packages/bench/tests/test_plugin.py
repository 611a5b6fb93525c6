import subprocess
import sys

from exoflow.plugins.manager import manager

HEAVY = ("exoflow_bench.demo", "exoflow_bench.suites", "matplotlib", "numpy", "rich", "sklearn")


def test_it_adds_the_word_demo():
    assert manager().cli_commands()["demo"]().name == "demo"


def test_loading_it_imports_nothing_heavy():
    code = f"import sys, exoflow_bench.plugin; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_help_of_the_command_needs_no_arrays():
    code = (
        "import sys, exoflow_bench.demo.command; "
        "print([name for name in ('matplotlib', 'numpy', 'sklearn') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
