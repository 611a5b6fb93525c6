"""The ``exoflow`` command itself: finds the command that is meant, and reports what escapes it."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from exoflow.cli.commands import CORE_COMMANDS, ELSEWHERE, load

if TYPE_CHECKING:
    from exoflow.plugins.manager import PluginManager

__all__ = ["cli", "main"]


class _Group(click.Group):
    """Imports a command when it is asked for, and turns errors into one message and an exit code."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        ctx.meta["exoflow.cli.help"] = True
        super().format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*CORE_COMMANDS, *sorted(set(_tolerant().cli_commands()) - set(CORE_COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in CORE_COMMANDS:
            return load(cmd_name)
        if ctx.resilient_parsing or _is_help(ctx):
            return _described(cmd_name)
        factory = _factory(cmd_name)
        return factory() if factory is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in ELSEWHERE and not _is_help(ctx) and _factory(args[0]) is None:
            ctx.fail(f"the command {args[0]!r} comes with another package: pip install '{ELSEWHERE[args[0]]}'")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            failure: BaseException = error
        except BaseException as error:
            if not getattr(error, "exoflow_simulated_crash", False):
                raise
            failure = error
        from exoflow.cli.exits import report
        from exoflow.cli.settings import settings

        current = settings(ctx)
        if isinstance(failure, click.ClickException) and not current.as_json:
            raise failure  # click shows the usage line and the option
        raise click.exceptions.Exit(report(failure, current))


def _is_help(ctx: click.Context) -> bool:
    """Whether commands are looked up for their one-line descriptions alone."""
    return bool(ctx.meta.get("exoflow.cli.help"))


def _factory(word: str) -> Callable[[], click.Command] | None:
    from exoflow.plugins.manager import manager

    return manager().cli_commands().get(word)


def _described(word: str) -> click.Command | None:
    factory = _tolerant().cli_commands().get(word)
    if factory is None:
        return None
    try:
        return factory()
    except Exception as error:  # one that cannot be made must not hide the others
        return click.Command(word, short_help=f"(cannot be loaded: {type(error).__name__}: {error})")


@functools.cache
def _tolerant() -> "PluginManager":
    """The plugins as ``--help`` sees them: it is for those whose installation is broken, too."""
    from exoflow.plugins.manager import PluginManager

    return PluginManager(tolerant=True)


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"exoflow-core {version('exoflow-core')}")
        except PackageNotFoundError:
            click.echo("exoflow-core, not installed as a distribution")
        ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Run DAGs of tasks exactly once, through any crash.

    Exit codes: 0 success; 1 a task failed; 2 used wrongly; 3 a person must say what became of an effect; 4 the storage
    does not answer, or another process runs the workflow; 130 interrupted, 143 terminated.
    """


def main() -> None:
    """Run the command; what the console script calls."""
    cli(prog_name="exoflow")
