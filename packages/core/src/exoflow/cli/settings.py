"""What every command is told: where the storage is, how to speak, how much to say.

The settings of one invocation live in click's context and are filled by options that commands share, so that an
error that escapes a command is reported as that command's options ask.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

if TYPE_CHECKING:
    import exoflow

__all__ = [
    "STORAGE_VARIABLE",
    "Settings",
    "execution_options",
    "open_engine",
    "output_options",
    "path_option",
    "settings",
    "storage_option",
]

STORAGE_VARIABLE = "EXOFLOW_STORAGE"
MEMORY = "memory://"

F = TypeVar("F", bound=Callable[..., Any])


@attrs.define
class Settings:
    """How this invocation was asked to behave."""

    storage: str | None = None
    as_json: bool = False
    debug: bool = False
    following: list[str] = attrs.field(factory=list)
    """Workflows this invocation runs: what to resume if it is interrupted."""
    starting: bool = False
    """It is about to run one, which may not be recorded yet."""

    @property
    def storage_or_memory(self) -> str:
        """The storage; this process' memory if none was named."""
        return self.storage or MEMORY


def settings(context: click.Context | None = None) -> Settings:
    """Return the settings of the current invocation."""
    context = context or click.get_current_context()
    found: Settings = context.meta.setdefault("exoflow.cli.settings", Settings())
    return found


def _store(field: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value:
            setattr(settings(context), field, value)
        return value

    return callback


def output_options(command: F) -> F:
    """Add ``--json`` and ``--debug``."""
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, callback=_store("debug"), help="Show tracebacks."),
        click.option(
            "--json", is_flag=True, expose_value=False, callback=_store("as_json"), help="Speak JSON, errors included."
        ),
    ):
        command = option(command)
    return command


def storage_option(*, required: bool = True) -> Callable[[F], F]:
    """Add ``--storage`` and what it implies: without it there is nothing to look at.

    Args:
        required: Whether a command without storage is a mistake; if not, the command decides.
    """

    def callback(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        value = value or os.environ.get(STORAGE_VARIABLE) or None
        if value is None and required and not context.resilient_parsing:
            raise click.UsageError(
                f"where are the workflows? Give --storage URL, or set {STORAGE_VARIABLE}, for example file://./flows",
                context,
            )
        settings(context).storage = value

    return click.option(
        "--storage",
        metavar="URL",
        expose_value=False,
        callback=callback,
        help=f"Where workflows are kept: file://./flows, s3://bucket/prefix. [env: {STORAGE_VARIABLE}]",
    )


def path_option(command: F) -> F:
    """Add ``--path``, for commands that import the user's code."""

    def callback(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
        from exoflow.cli.targets import extend_path

        extend_path(".", *value)

    return click.option(
        "--path",
        "-p",
        multiple=True,
        metavar="FOLDER",
        expose_value=False,
        callback=callback,
        help="Look here for the workflow's code, besides the current folder. May be given again.",
    )(command)


def execution_options(command: F) -> F:
    """Add what commands that run tasks take: ``--executor``, ``--max-workers``, ``--codec``, ``--fail``."""
    for option in (
        click.option(
            "--fail",
            "failures",
            multiple=True,
            metavar="TASK.ACTION[=VALUE][@TRIGGER]",
            help="Fail on purpose, such as train_12.crash@2. May be given again.",
        ),
        click.option("--codec", metavar="NAME", help="How values become bytes; pickle unless told."),
        click.option("--max-workers", type=click.IntRange(min=1), metavar="N", help="Tasks at a time."),
        click.option("--executor", metavar="NAME", help="What runs the tasks: thread (unless told), process, inline."),
    ):
        command = option(command)
    return command


def open_engine(
    *,
    executor: str | None = None,
    codec: str | None = None,
    max_workers: int | None = None,
    failures: tuple[str, ...] = (),
    observers: tuple[Any, ...] = (),
) -> "exoflow.Engine":
    """Return an engine over this invocation's storage, to be used as a context manager."""
    import exoflow

    options: dict[str, Any] = {}
    if executor is not None:
        options["executor"] = executor
    if codec is not None:
        options["codec"] = codec
    if max_workers is not None:
        options["max_workers"] = max_workers
    if observers:
        options["observers"] = observers
    if failures:
        from exoflow.plugins.manager import make_injectors

        options["failures"] = tuple(make_injectors(failures))
    return exoflow.Engine(settings().storage_or_memory, **options)
