"""How the command speaks: text for people, JSON for machines, and times and sizes that can be read."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "console",
    "duration",
    "moment",
    "print_json",
    "print_value",
    "reserved_stdout",
    "say",
    "size",
    "table",
    "to_jsonable",
]


def to_jsonable(value: Any) -> Any:
    """Return *value* as what JSON knows; what it does not know, as its `repr`."""
    if isinstance(value, Enum):
        return to_jsonable(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if attrs.has(type(value)):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return to_jsonable(value.item())
    return repr(value)


def print_json(value: Any, *, err: bool = False) -> None:
    """Print *value* as one line of JSON."""
    click.echo(json.dumps(to_jsonable(value), ensure_ascii=False, allow_nan=False), err=err)


def print_value(value: Any) -> None:
    """Print a task's result for people: pretty on a terminal, else text as it is and the rest as its `repr`."""
    if isinstance(value, str):
        click.echo(value)
    elif sys.stdout.isatty():
        from rich.pretty import pprint

        pprint(value, max_length=100, max_string=2000, expand_all=False)
    else:
        click.echo(repr(value))


def say(message: str) -> None:
    """Tell people something that is not the answer: on stderr."""
    click.echo(message, err=True)


def console(*, err: bool = False) -> "Console":
    """Return a console that does not cut what goes into a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 200
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> "Table":
    """Return an empty table without lines, whose *columns* fold rather than hide what is long."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return made


def duration(seconds: float | None) -> str:
    """Return a span of time as people read it."""
    if seconds is None:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(size_bytes: int | None) -> str:
    """Return a number of bytes as people read it."""
    if size_bytes is None:
        return ""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def moment(at: float | None) -> str:
    """Return seconds since the epoch as local date and time."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@contextlib.contextmanager
def reserved_stdout(active: bool) -> Iterator[None]:
    """While tasks run, send what they print to stderr: with ``--json``, stdout is for the answer alone.

    Also on the level of file descriptors, for processes that tasks run in.
    """
    if not active:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        real = sys.__stdout__
        try:
            is_first = real is not None and real.fileno() == 1
        except (OSError, ValueError):
            is_first = False
        stack.callback(sys.stderr.flush)
        if real is not None and is_first:
            real.flush()
            saved = os.dup(1)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, 1)
            os.dup2(2, 1)
        yield
