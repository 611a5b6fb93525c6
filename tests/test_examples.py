"""Every example answers its question, as its README shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(ROOT.glob("examples/*/main.py"))
SHOWN = re.compile(r"^\$ (?:uv run )?python examples/[\w-]+/main\.py\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""What a README shows below the command that runs its example. Three dots stand for anything."""


def title(main: Path) -> str:
    first, _, _ = (main.parent / "README.md").read_text().partition("\n")
    return first


@pytest.mark.parametrize("main", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_prints_what_its_readme_shows(main: Path, tmp_path: Path):
    run = subprocess.run([sys.executable, main], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr

    shown = SHOWN.search((main.parent / "README.md").read_text())
    if shown is not None:
        pattern = re.escape(shown[1]).replace(r"\.\.\.", "(?:.|\n)*?")
        assert re.fullmatch(pattern, run.stdout), f"shown:\n{shown[1]}\nprinted:\n{run.stdout}"


@pytest.mark.parametrize("main", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_asks_a_question(main: Path):
    assert re.fullmatch(r"# .+", title(main))


@pytest.mark.parametrize("main", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_list_of_examples_has_each_with_its_question(main: Path):
    name = main.parent.name
    assert f"| [{name}]({name}) | {title(main).removeprefix('# ')} |" in (ROOT / "examples" / "README.md").read_text()
