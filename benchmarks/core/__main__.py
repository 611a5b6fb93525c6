"""Measure, print one table, and keep every sample."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.core import machine
from benchmarks.core.cases import CASES, Bench
from benchmarks.core.report import Report
from benchmarks.core.workers import ROOT, environment


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=CASES, metavar="NAME", help=f"of {', '.join(CASES)}; repeatable"
    )
    parser.add_argument("--scale", choices=("toy", "full"), default="full", help="toy: everything works; no verdicts")
    parser.add_argument("--out", type=Path, help="results file, JSON lines; made up in the temporary folder by default")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the temporary folder by default")
    parser.add_argument("--peer-python", help="an interpreter that has dbos; this one if it has")
    parser.add_argument("--peer-database", action="append", default=[], metavar="NAME=URL", help="another one for DBOS")
    options = parser.parse_args()

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    out = options.out or Path(tempfile.gettempdir()) / "exoflow-benchmarks" / f"core-{options.scale}-{stamp}.jsonl"
    if out.resolve().is_relative_to(ROOT):
        parser.error(f"--out {out}: results do not belong into the repository; name a file outside it")
    report = Report(out, options.scale)
    speeds = []
    with tempfile.TemporaryDirectory(prefix="exoflow-benchmark-", dir=options.folder) as made:
        folder = Path(made)
        env = environment(folder / "bytecode")
        facts = machine.describe(folder)
        report.write("run", **facts)
        report.note(
            "machine", f"{facts['processor']}, {facts['cores']} cores; {facts['system']}; Python {facts['python']}"
        )
        report.note("disk", facts["file_system"])
        report.note("revision", f"{facts['revision'][:12]}, {len(facts['modified'])} files modified")
        urls = dict(text.split("=", 1) for text in options.peer_database)
        bench = Bench(report, options.scale, folder, env, _peer_python(options.peer_python, env), urls)
        for name in options.only or CASES:
            speeds.append(machine.loop_speed())
            report.sample("loop", seconds=speeds[-1], load=os.getloadavg())
            _progress(name)
            CASES[name](bench)
        speeds.append(machine.loop_speed())
    report.note(
        "noise: 1,000,000 turns of an empty loop",
        f"{min(speeds) * 1e3:.0f} to {max(speeds) * 1e3:.0f} ms, median {median(speeds) * 1e3:.0f}; load {os.getloadavg()[0]:.1f}",
    )
    _progress("")
    print(report.text())
    print(f"\nevery sample: {out}")
    report.close()


def _peer_python(given: str | None, env: dict[str, str]) -> str | None:
    candidate = given or sys.executable
    found = subprocess.run([candidate, "-c", "import dbos"], env=env, capture_output=True, check=False)
    if given and found.returncode:
        sys.exit(f"--peer-python {given}: it has no dbos; try `uv pip install --python {given} dbos`")
    return None if found.returncode else candidate


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what and what + ' ...'}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
