"""Every example answers its question."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(ROOT.glob("examples/*/main.py"))


@pytest.mark.parametrize("main", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_runs_to_its_end(main: Path, tmp_path: Path):
    run = subprocess.run([sys.executable, main], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("main", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_says_what_it_answers(main: Path):
    assert (main.parent / "README.md").read_text().startswith("# ")
