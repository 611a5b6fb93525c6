"""What the documentation shows is what happens: its code is run, page by page, and its output compared.

In each page of `docs/` and in the README, in order, in a folder of its own:

- ``python`` whose first line is a comment with a file name, such as ``# trip.py``, becomes that file;
- any other ``python`` is run in one interpreter for the page;
- ``text`` is what the last ``python`` block printed;
- ``console`` is run line by line: after ``$`` a command, below it what it prints. A command may fail only where the page
  shows that it was killed, or asks for ``$?``.

Three dots stand for anything. Times, durations, sizes, process and journal ids are not compared, and progress, which is
shown on slow machines only, is left out. Three things are left alone: blocks without a language or in another one,
blocks behind ``<!-- not run: reason -->``, and the pages that other tests hold to the code.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import exoflow
from exoflow.cli.commands import CORE_COMMANDS, load
from exoflow.cli.exits import Exit
from exoflow.failures.injectors import ACTIONS
from exoflow.failures.points import FailurePoint
from exoflow.journal import records

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HELD_ELSEWHERE = {DOCS / "reference" / "hooks.md"}  # packages/core/tests/plugins/test_hook_docs.py
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
    if page not in HELD_ELSEWHERE and "_build" not in page.parts and DOCS / "design" not in page.parents
]

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?```(?P<language>[a-z]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
_EXPORT = re.compile(r"export (\w+)=(\S+)")
_FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"\b\d+ min( \d+ s)?\b|\b\d+(\.\d+)? ?(us|ms|s)\b"), "<duration>"),
    (re.compile(r"\b\d+(\.\d+)? ([KMG]i)?B\b"), "<size>"),
    (re.compile(r"\bj[0-9a-hjkmnp-tv-z]{15}\b"), "<journal>"),
    (re.compile(r"\bprocess \d+ on \S+"), "<process>"),
)

# Runs in a process of its own: takes blocks as lines of JSON, and answers each with what it printed and raised.
_INTERPRETER = """
def main():
    import contextlib, io, json, linecache, sys, traceback

    answers = sys.stdout
    space = sys.modules["__main__"].__dict__
    del space["main"]
    for line in sys.stdin:
        source, name = json.loads(line)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        printed, problem = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(source, name, "exec"), space)
            except BaseException:
                problem = traceback.format_exc()
        answers.write(json.dumps([printed.getvalue(), problem]) + "\\n")
        answers.flush()

main()
"""


@attrs.frozen
class Block:
    """One fenced block of a page."""

    language: str
    body: str
    line: int
    """Of its first line of code, in the page."""
    reason: str | None
    """Why it is not run."""


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("body")) + 1
        yield Block(found["language"], found["body"], line, found["reason"])


def commands_of(body: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what is shown below them."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), ""))
        else:
            assert found, f"a console block begins with $ and a command, not with {line!r}"
            command, shown = found[-1]
            found[-1] = (command, f"{shown}{line}\n")
    return found


_PROGRESS = re.compile(
    r"^(\d+ of \d+ tasks? done|\d+ tasks? run|\S+#\d+ (failed|is tried again|was undone)\b).*\n", re.MULTILINE
)
"""What the command says, on stderr, of a run that takes longer than a second."""


def normalised(text: str) -> list[str]:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return [" ".join(line.split()) for line in text.strip("\n").splitlines()]


def assert_shown(shown: str, printed: str, where: str) -> None:
    expected = "\n".join(normalised(shown))
    found = "\n".join(normalised(printed))
    pattern = re.escape(expected).replace(r"\.\.\.", "(?:.|\n)*?")
    assert re.fullmatch(pattern, found), f"{where} shows\n\n{shown}\nand this was printed:\n\n{printed}"


class Reader:
    """Does what a page says, in an empty folder."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page, self.folder = page, folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EXOFLOW_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
        }
        self.interpreter: subprocess.Popen[str] | None = None
        self.printed: tuple[str, str] | None = None
        self.status = 0

    def read(self) -> None:
        for block in blocks_of(self.page):
            where = f"{self.page.relative_to(ROOT)}:{block.line}"
            if block.reason is not None:
                continue
            if block.language == "python":
                self.run_python(block.body, where)
            elif block.language == "text":
                assert self.printed is not None, (
                    f"{where}: text without python code before it that could have printed it"
                )
                code, printed = self.printed
                assert_shown(block.body, printed, f"{where}, below {code},")
                self.printed = None
            elif block.language == "console":
                self.run_commands(commands_of(block.body), where)

    def run_python(self, source: str, where: str) -> None:
        file = _FILE_NAME.match(source)
        if file is not None:
            path = self.folder / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
            return
        if self.interpreter is None:
            self.interpreter = subprocess.Popen(
                [sys.executable, "-c", _INTERPRETER], cwd=self.folder, env=self.environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self.interpreter.stdin is not None
        assert self.interpreter.stdout is not None
        self.interpreter.stdin.write(json.dumps(["\n" * (int(where.rpartition(":")[2]) - 1) + source, where]) + "\n")
        self.interpreter.stdin.flush()
        answer = self.interpreter.stdout.readline()
        assert answer, f"{where}: the interpreter died"
        printed, problem = json.loads(answer)
        assert problem is None, f"{where}:\n{printed}{problem}"
        self.printed = (where, printed)

    def run_commands(self, commands: list[tuple[str, str]], where: str) -> None:
        following = [*(command for command, _ in commands[1:]), ""]
        for (command, shown), after in zip(commands, following, strict=True):
            if assignment := _EXPORT.fullmatch(command):
                self.environment[assignment[1]] = assignment[2]
                continue
            output = self.run_command(command)
            if shown or command == "echo $?":
                assert_shown(shown, output, f"{where}: $ {command}")
            killed = self.status == 137 and shown.endswith("Killed\n")
            assert self.status == 0 or killed or after == "echo $?", f"{where}: $ {command}\n{output}"

    def run_command(self, command: str) -> str:
        """Run it, with the status of the one before in ``$?``; return what an interactive shell would show."""
        log = self.folder.parent / "printed.txt"  # a file, not a pipe: a command may leave another one behind
        with log.open("w") as printed:
            run = subprocess.run(
                ["bash", "-c", f"(exit {self.status})\n{command}"], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, timeout=60,
            )  # fmt: skip
        self.status = run.returncode if run.returncode >= 0 else 128 - run.returncode
        output = re.sub(r"^bash: line \d+: .* Killed .*\n", "", log.read_text(), flags=re.MULTILINE)
        output = _PROGRESS.sub("", output)
        return output + "Killed\n" if self.status == 137 else output

    def close(self) -> None:
        if self.interpreter is not None:
            self.interpreter.communicate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_shows(page: Path, tmp_path: Path):
    folder = tmp_path / "here"
    folder.mkdir()
    reader = Reader(page, folder)
    try:
        reader.read()
    finally:
        reader.close()


# --- reference pages name everything there is ----------------------------------------------------------------------------


def words_of(page: str) -> set[str]:
    """What a page of the reference shows as code."""
    text = (DOCS / "reference" / page).read_text()
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.split(r"[\s,]+", code)}


@pytest.mark.parametrize("word", CORE_COMMANDS)
def test_the_reference_names_a_command_with_its_options(word: str):
    words = words_of("command.md")
    assert word in words
    for parameter in load(word).params:
        if parameter.param_type_name == "option":
            assert set(parameter.opts) <= words


def test_the_reference_names_the_exit_codes():
    rows = re.findall(r"^\| (\d+) \|", (DOCS / "reference" / "command.md").read_text(), re.MULTILINE)
    assert [int(code) for code in rows] == sorted(Exit)


def test_the_reference_names_the_environment_variables():
    sources = "".join(path.read_text() for path in ROOT.glob("packages/*/src/**/*.py"))
    assert set(re.findall(r"\bEXOFLOW_[A-Z_]+\b", sources)) <= words_of("configuration.md")


def test_the_reference_names_the_options_of_a_task():
    fields = set(attrs.fields_dict(exoflow.TaskPolicy)) - {"undo"}
    assert fields | {"rollback", "task_id", "after", "wait_until_committed"} <= words_of("configuration.md")


def test_the_reference_names_the_records_of_a_journal_with_their_fields():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \|$", (DOCS / "reference" / "store-format.md").read_text(), re.M)
    shown = {int(kind): (name, re.findall(r"`(\w+)`", fields)) for kind, name, fields in rows}
    there_are = {
        made.kind: (made.__name__, [name for name in attrs.fields_dict(made) if name != "payload"])
        for made in map(vars(records).get, records.__all__)
        if hasattr(made, "kind")
    }
    assert shown == there_are


def test_the_reference_names_the_failure_points():
    text = (DOCS / "how-to" / "test-with-failures.md").read_text()
    assert {str(point) for point in FailurePoint} <= set(re.findall(r"`(\w+)`", text))
    assert set(ACTIONS) <= set(re.findall(r"`(\w+)[^`]*`", text))


def test_the_tests_that_are_said_to_show_a_promise_exist() -> None:
    text = (DOCS / "explanation" / "proof.md").read_text()
    named = set(re.findall(r"`([\w/-]+/test_\w+\.py)`", text))
    assert len(named) > 15
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "packages/core/tests" / path).exists(), path
