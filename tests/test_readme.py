"""The README says what really happens."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str) -> str:
    """The first code block in *language*."""
    found = re.search(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no block in {language}"
    return found[1]


def test_the_example_prints_what_the_readme_shows(tmp_path: Path):
    (tmp_path / "trip.py").write_text(block("python"))
    run = subprocess.run([sys.executable, "trip.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.returncode) == (block("text"), 0), run.stderr
