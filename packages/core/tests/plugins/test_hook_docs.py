"""Holds docs/reference/hooks.md to the code."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from exoflow.plugins import hookspecs
from exoflow.plugins.manager import PluginManager

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "hooks.md"
HOOKS = [
    statement
    for statement in ast.parse(inspect.getsource(hookspecs)).body
    if isinstance(statement, ast.FunctionDef) and statement.name.startswith("exoflow_")
]

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is in the repository, not in the package")


@pytest.fixture(scope="module")
def sections():
    headings = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(headings[1::2], headings[2::2], strict=True))


def test_every_hook_has_a_section_in_the_order_of_the_specifications(sections):
    assert list(sections) == [hook.name for hook in HOOKS]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_a_hook_is_shown_with_its_signature(hook, sections):
    returns = ast.unparse(hook.returns).strip("'")

    assert f"```python\ndef {hook.name}({ast.unparse(hook.args)}) -> {returns}\n```" in sections[hook.name]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_a_hook_is_described_with_the_first_line_of_its_docstring(hook, sections):
    first_line = ast.get_docstring(hook).splitlines()[0].replace("``", "`")

    assert f"\n{first_line}\n" in sections[hook.name]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_a_hook_says_when_it_is_called_and_what_becomes_of_its_answer(hook):
    docstring = ast.get_docstring(hook)

    assert "Called" in docstring
    assert "Returns:" in docstring


def test_the_table_of_what_core_brings_is_complete():
    rows = dict(re.findall(r"^\| `(exoflow_\w+)` \| (.*) \|$", PAGE.read_text(), flags=re.MULTILINE))
    (core,) = PluginManager(entry_points=[], blocked=[]).plugins()

    assert {hook: tuple(re.findall(r"`([\w-]+)`", names)) for hook, names in rows.items()} == {
        f"exoflow_{hook}": names for hook, names in core.provides.items()
    }


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_the_names_in_a_signature_can_be_looked_up(hook):
    names = set(re.findall(r"\b[A-Z]\w+", ast.unparse(hook.returns))) - {"Mapping", "Sequence"}

    imported = {
        alias.name
        for node in ast.walk(ast.parse(inspect.getsource(hookspecs)))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names <= imported | set(hookspecs.__all__)
