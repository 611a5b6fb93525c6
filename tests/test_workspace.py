"""What must hold of the repository as a whole."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
FRAGMENTS = sorted(path for path in ROOT.glob("changes/*/*") if not path.name.startswith("."))
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())


def project(package: Path) -> dict:
    return tomllib.loads((package / "pyproject.toml").read_text())["project"]


def test_all_packages_have_one_version():
    assert len({project(package)["version"] for package in PACKAGES}) == 1


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_says_its_version_and_its_types_as_its_distribution_does(package: Path):
    [module] = (package / "src").iterdir()
    assert f'__version__ = "{project(package)["version"]}"' in (module / "__init__.py").read_text()
    assert (module / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_carries_the_licence(package: Path):
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_workspace_installs_every_package():
    names = {requirement.partition("[")[0] for requirement in WORKSPACE["project"]["dependencies"]}
    assert names == {project(package)["name"] for package in PACKAGES}


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_news_fragment_is_one_that_the_changelog_takes(fragment: Path):
    towncrier = WORKSPACE["tool"]["towncrier"]
    assert fragment.parent.name in {section["path"] for section in towncrier["section"]}
    _, kind, suffix = fragment.name.split(".")
    assert kind in {known["directory"] for known in towncrier["type"]}
    assert suffix == "md"
    assert fragment.read_text().strip()
