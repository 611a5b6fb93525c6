"""Which words ``exoflow`` knows, and where each command lives. Imports none of them."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import click

__all__ = ["CORE_COMMANDS", "ELSEWHERE", "core_commands", "load"]

CORE_COMMANDS: Final[Mapping[str, str]] = {
    "run": "exoflow.cli.run:run",
    "resume": "exoflow.cli.run:resume",
    "fork": "exoflow.cli.run:fork",
    "list": "exoflow.cli.show:list_workflows",
    "show": "exoflow.cli.show:show",
    "result": "exoflow.cli.show:result",
    "cancel": "exoflow.cli.change:cancel",
    "delete": "exoflow.cli.change:delete",
    "send-event": "exoflow.cli.change:send_event",
    "settle": "exoflow.cli.change:settle",
    "gc": "exoflow.cli.change:gc",
    "plugins": "exoflow.cli.doctor:plugins",
    "doctor": "exoflow.cli.doctor:doctor",
}
"""Word to module and attribute, in the order of ``--help``."""

ELSEWHERE: Final[Mapping[str, str]] = {"demo": "exoflow-bench[demo]"}
"""Words that a distribution of ours would bring."""


def load(word: str) -> "click.Command":
    """Import and return one of core's own commands."""
    module, _, attribute = CORE_COMMANDS[word].partition(":")
    command: Any = getattr(importlib.import_module(module), attribute)
    return command  # type: ignore[no-any-return]


def core_commands() -> "dict[str, Callable[[], click.Command]]":
    """Return core's commands as its plugin offers them."""
    return {word: partial(load, word) for word in CORE_COMMANDS}
