"""Every check of this repository, one session each; `uv run nox -l` lists them.

Arguments after `--` go to the tool a session runs: `uv run nox -s tests -- -k torn -x`. Sessions use the
interpreter at hand and download none. Those that prove what a package declares make an environment of their own;
those that only read the sources run in the workspace's.
"""

import os
import sys
from pathlib import Path

import nox

os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")
# `uv run nox` names the workspace's environment, which would win over the session's own.
os.environ.pop("VIRTUAL_ENV", None)

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "typecheck", "tests"]

ROOT = Path(__file__).parent
REPORTS = ROOT / ".ci" / "reports"
UV = os.environ.get("UV", "uv")  # set by `uv run`, also where `python -m uv` is the only way to reach it
IN_WORKSPACE = (UV, "run", "--no-sync")

# The folder of each package, and what its tests install: the package, with the extras they exercise.
PACKAGES = {
    "core": "packages/core",
    "storage": "packages/storage",
    "ray-backend": "packages/ray-backend",
    "bench": "packages/bench[demo]",
    "plots": "packages/plots",
}
SOURCES = ["packages", "tests", "benchmarks", "examples", "docs", "noxfile.py", ".ci/summary.py"]


def pytest(session: nox.Session, name: str, *folders: str) -> None:
    """Run the tests in *folders*, or those the posargs name; `.ci/run` adds up the reports called *name*."""
    named = any((ROOT / argument.partition("::")[0]).exists() for argument in session.posargs)
    where = () if named else folders
    beside = ("-n", "auto", "--maxprocesses", "4") if name.startswith(("tests", "minimums", "fuzz")) else ()
    session.run("python", "-m", "pytest", f"--junit-xml={REPORTS / name}.xml", *beside, *where, *session.posargs)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, formatting, and that every import follows the arrows. `-- --fix` repairs what ruff can."""
    check = [] if "--fix" in session.posargs else ["--check"]
    session.run(*IN_WORKSPACE, "ruff", "check", *session.posargs, *SOURCES)
    session.run(*IN_WORKSPACE, "ruff", "format", *check, *SOURCES)
    session.run(*IN_WORKSPACE, "lint-imports")


@nox.session(venv_backend="none")
@nox.parametrize("package", list(PACKAGES), ids=list(PACKAGES))
def typecheck(session: nox.Session, package: str) -> None:
    """Type-check one package as strictly as mypy can."""
    session.run(*IN_WORKSPACE, "mypy", *session.posargs, f"packages/{package}/src")


@nox.session
@nox.parametrize("package", [*PACKAGES, "workspace"], ids=[*PACKAGES, "workspace"])
def tests(session: nox.Session, package: str) -> None:
    """Test one package with only what it declares installed; `workspace` is what no package tests alone."""
    if package == "workspace":
        installs = [*PACKAGES.values(), *example_distributions()]
        folders = ["tests", *(f"{path}/tests" for path in example_distributions())]
    else:
        installs, folders = [PACKAGES[package]], [f"packages/{package}/tests"]
    session.install("--group=test", *(part for path in installs for part in ("--editable", path)))
    pytest(session, f"tests-{package}", *folders)


@nox.session
@nox.parametrize("package", list(PACKAGES), ids=list(PACKAGES))
def minimums(session: nox.Session, package: str) -> None:
    """Test one package with the oldest versions it says it works with."""
    session.install("--resolution=lowest-direct", "--group=test", "--editable", PACKAGES[package])
    pytest(session, f"minimums-{package}", f"packages/{package}/tests")


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill real processes at random, 550 times: EXOFLOW_KILLS and EXOFLOW_SEED say how often, and when."""
    session.install("--group=test", "--editable", "packages/core", "--editable", "packages/storage")
    pytest(session, "chaos", "-m", "slow", "tests/chaos")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random workflows, crashes, interleavings and store faults, far more of them than `tests` plays: EXOFLOW_SEEDS, EXOFLOW_EXAMPLES."""
    session.install("--group=test", "--editable", "packages/core", "--editable", "packages/storage")
    pytest(session, "fuzz", "-m", "slow", "packages/core/tests")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    # The contract suites are test classes, so that their reference needs pytest.
    session.install("--group=docs", "--group=test", "--editable", "packages/core", "--editable", "packages/storage")
    target = ROOT / "docs" / "_build" / "html"
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", *session.posargs, "docs", str(target))
    session.log(f"open {(target / 'index.html').relative_to(ROOT)}")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure our own code: every suite at toy size, or in full the one that is named, `-- core`, with its options."""
    session.install("--group=bench", "--editable", "packages/storage", "--editable", "packages/bench[demo]")
    named = [word for word in session.posargs if (ROOT / "benchmarks" / word / "__main__.py").is_file()]
    if not named:
        session.run("python", "-m", "pytest", "--timeout=0", "benchmarks", *session.posargs)
        return
    # Peers get an environment of their own: neither side's dependencies decide the other's versions.
    peers = Path(session.virtualenv.location) / "peers"
    wanted = nox.project.load_toml(ROOT / "packages/bench/pyproject.toml")["project"]["optional-dependencies"]["peers"]
    session.run_install(
        UV, "venv", "--clear", f"--python={session.python or sys.executable}", str(peers), external=True
    )
    session.run_install(UV, "pip", "install", f"--python={peers}", *wanted, external=True)
    options = [word for word in session.posargs if word not in named]
    for suite in named:
        session.run("python", "-m", f"benchmarks.{suite}", f"--peer-python={peers}/bin/python", *options)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Run the main job, as the README does."""
    session.run(UV, "run", "exoflow", "demo", *session.posargs)


def example_distributions() -> list[str]:
    """The examples that are packages to install, such as third-party plugins."""
    return [str(path.parent.relative_to(ROOT)) for path in sorted(ROOT.glob("examples/*/pyproject.toml"))]
