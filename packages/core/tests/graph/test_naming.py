"""A file that is run and the same file imported name their functions and classes alike."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from exoflow.graph.naming import module_of, qualified_name

SCRIPT = """
import dataclasses, functools, sys
import cloudpickle
import exoflow
from exoflow.graph.dag import compile_dag

@dataclasses.dataclass
class Settings:
    rate: float

def plain(function):
    @functools.wraps(function)
    def wrapped(*args):
        return function(*args)
    return wrapped

@exoflow.task
@plain
def train(settings, then):
    return settings.rate

dag = train.bind(Settings(0.1), plain)

def tell():
    print(train.qualified_name, compile_dag(dag).digest)

if __name__ == "__main__":
    tell()
    if len(sys.argv) > 1:
        with open(sys.argv[1], "wb") as out:
            cloudpickle.dump(train, out)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    for file in (tmp_path / "trip.py", tmp_path / "other.py", tmp_path / "flows" / "trip.py"):
        file.write_text(SCRIPT)
    return tmp_path


def told(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_script_is_the_module_that_its_file_would_be_imported_as(folder: Path) -> None:
    run = told(folder, "trip.py")

    assert run.startswith("trip:train 1:")
    assert told(folder, str(folder / "trip.py")) == run
    assert told(folder, "-m", "trip") == run
    assert told(folder, "-c", "import trip; trip.tell()") == run


def test_a_module_of_a_package_that_is_run_keeps_its_package(folder: Path) -> None:
    run = told(folder, "-m", "flows.trip")

    assert run.startswith("flows.trip:train ")
    assert told(folder, "-c", "import flows.trip; flows.trip.tell()") == run


def test_two_scripts_are_two_modules(folder: Path) -> None:
    assert told(folder, "trip.py").split()[1] != told(folder, "other.py").split()[1]


def test_a_task_of_a_script_keeps_its_name_where_it_arrives_by_value(folder: Path) -> None:
    told(folder, "trip.py", "task.pickle")

    arrived = pickle.loads((folder / "task.pickle").read_bytes())

    assert arrived.__module__ == "__main__"
    assert arrived.qualified_name == "trip:train"


def test_what_a_shell_defines_stays_in_main(folder: Path) -> None:
    code = "import exoflow\n@exoflow.task\ndef f(): ...\nprint(f.qualified_name)"

    assert told(folder, "-c", code) == "__main__:f"


def test_other_things_have_the_names_they_know() -> None:
    assert qualified_name(len) == "builtins:len"
    assert qualified_name(Path) == "pathlib:Path"
    assert qualified_name(qualified_name) == "exoflow.graph.naming:qualified_name"
    assert qualified_name(cloudpickle.dumps).endswith(":dumps")
    assert module_of(3) == "?"
