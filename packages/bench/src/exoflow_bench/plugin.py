"""What this package tells the plugin manager; it imports nothing heavy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from exoflow.plugins import hookimpl

if TYPE_CHECKING:
    import click

    from exoflow.plugins.hookspecs import CommandFactory


@hookimpl
def exoflow_cli_commands() -> "Mapping[str, CommandFactory]":
    """The word ``demo``."""
    return {"demo": _demo}


def _demo() -> "click.Command":
    from exoflow_bench.demo.command import demo

    return demo
