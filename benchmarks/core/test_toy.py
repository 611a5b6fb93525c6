"""The whole benchmark at toy size: that it works, not how fast anything is."""

import json
import subprocess
import sys

import pytest
from benchmarks.core.report import LINES, Line
from benchmarks.core.workers import ROOT


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "core.jsonl"
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.core", "--scale=toy", f"--out={out}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, [json.loads(line) for line in out.read_text().splitlines()]


def test_every_line_that_was_asked_for_is_in_the_table(results):
    table, found = results

    assert {line["line"] for line in found if line["kind"] == "line"} == {*LINES}
    assert all(line.text in table for line in LINES.values())


def test_a_toy_gives_no_verdicts(results):
    _, found = results

    assert {line["verdict"] for line in found if line["kind"] == "line"} == {"-"}


def test_results_begin_with_what_they_are_worthless_without(results):
    _, [first, *_] = results

    assert first["kind"] == "run"
    assert {"command", "revision", "modified", "processor", "file_system", "versions", "load"} <= first.keys()


def test_results_do_not_go_into_the_repository():
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.core", "--out", str(ROOT / "benchmarks" / "core.jsonl")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 2
    assert "outside" in ran.stderr
    assert not (ROOT / "benchmarks" / "core.jsonl").exists()


@pytest.mark.parametrize(("least", "enough"), [(False, [1, 2]), (True, [2, 3])])
def test_a_line_is_reached_on_the_right_side_of_its_limit(least, enough):
    line = Line("", "", 2, "{}", least=least)

    assert [value for value in (1, 2, 3) if line.reached(value)] == enough
