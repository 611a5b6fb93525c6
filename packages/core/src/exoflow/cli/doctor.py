"""The commands about the installation itself: ``plugins``, ``doctor``."""

import contextlib
import importlib.util
import os
import platform
import secrets
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from exoflow.cli.exits import Exit, exit_code
from exoflow.cli.output import console, duration, print_json, table
from exoflow.cli.settings import output_options, settings, storage_option

if TYPE_CHECKING:
    from exoflow.plugins.manager import PluginManager
    from exoflow.stores.contract import ObjectStore

__all__ = ["Check", "check_store", "doctor", "plugins"]

_RACERS = 8
_ROUNDS = 5
_LIBRARIES = ("exoflow-core", "attrs", "click", "cloudpickle", "pluggy", "rich", "fsspec", "s3fs", "gcsfs", "ray")


@attrs.frozen
class Check:
    """One line of ``exoflow doctor``."""

    name: str
    ok: bool
    detail: str


@click.command()
@output_options
def plugins() -> None:
    """List the installed plugins.

    What each brings, and what is wrong with it.
    """
    from exoflow.plugins.manager import PluginManager

    infos = PluginManager(tolerant=True).plugins()
    if settings().as_json:
        print_json(infos)
        return
    rows = table("PLUGIN", "DISTRIBUTION", "VERSION", "BRINGS")
    for info in infos:
        brings = [f"{hook.replace('_', ' ')}: {', '.join(names)}" for hook, names in info.provides.items()]
        if info.problem:
            brings.insert(0, info.problem)
        rows.add_row(info.name, info.distribution, info.version, "\n".join(brings))
    console().print(rows)


@click.command()
@storage_option(required=False)
@output_options
def doctor() -> None:
    """Check this installation and a storage.

    Does the storage keep its promises, and how fast is it?
    """
    from exoflow.plugins.manager import PluginManager

    manager = PluginManager(tolerant=True)
    checks = [*_check_python(), *_check_plugins(manager)]
    code = Exit.SUCCESS
    storage = settings().storage
    if storage is None:
        checks.append(Check("storage", True, "not checked: give --storage URL"))
    else:
        try:
            with contextlib.closing(manager.open_store(storage)) as store:
                checks.extend(check_store(store))
        except Exception as error:
            if settings().debug:
                raise
            checks.append(Check("storage", False, f"{storage}: {type(error).__name__}: {error}"))
            code = exit_code(error)
    if code is Exit.SUCCESS and not all(check.ok for check in checks):
        code = Exit.FAILED
    if settings().as_json:
        print_json({"ok": code is Exit.SUCCESS, "checks": checks})
    else:
        rows = table("", "CHECK", "")
        for check in checks:
            rows.add_row("ok" if check.ok else "BAD", check.name, check.detail, style=None if check.ok else "red")
        console().print(rows)
    if code is not Exit.SUCCESS:
        raise click.exceptions.Exit(code)


# --- the installation -------------------------------------------------------------------------------------------------


def _check_python() -> Iterator[Check]:
    yield Check("python", True, f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}")
    yield Check("platform", True, f"{platform.platform()}, {os.cpu_count()} processors")
    versions = []
    for library in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{library} {version(library)}")
    yield Check("versions", True, ", ".join(versions))
    import exoflow.errors as ours

    compiled = Path(importlib.util.cache_from_source(ours.__file__))
    if not compiled.exists():
        yield Check(
            "bytecode", True, "not compiled, so every start is slow: python -m compileall, or uv's compile-bytecode"
        )


def _check_plugins(manager: "PluginManager") -> Iterator[Check]:
    for info in manager.plugins():
        origin = f"{info.distribution} {info.version}".strip() or "built in"
        if info.blocked:
            yield Check(f"plugin {info.name}", True, f"{origin}; blocked")
        else:
            yield Check(f"plugin {info.name}", not info.problem, info.problem or origin)


# --- the storage ------------------------------------------------------------------------------------------------------


def check_store(store: "ObjectStore") -> Iterator[Check]:
    """Use *store* as recovery would, under keys of its own, which are removed.

    Raises:
        UnavailableError: The store does not answer, is full, or may not be written to.
    """
    from exoflow.stores.contract import SupportsAppend, SupportsLocks

    yield Check(
        "storage", True, f"{store.url}, {'shared between processes' if store.shared else 'of this process alone'}"
    )
    prefix = f"doctor/{secrets.token_hex(8)}"
    try:
        yield _check_create(store, prefix)
        yield _check_race(store, prefix)
        yield _check_list(store, prefix)
        yield Check(
            "create", True, f"{_median(lambda n: store.create(f'{prefix}/timed-{n}', bytes(200)))} for 200 bytes"
        )
        if isinstance(store, SupportsAppend):
            yield _check_append(store, prefix)
        else:
            yield Check("append", True, "not available: each flush of the journal creates an object")
        if isinstance(store, SupportsLocks):
            yield _check_locks(store, prefix)
        else:
            yield Check("locks", True, "not available: a dead process is told by its heartbeat alone")
    finally:
        for key in list(store.list(f"{prefix}/")):
            store.delete(key)


def _check_create(store: "ObjectStore", prefix: str) -> Check:
    key = f"{prefix}/created"
    won, lost = store.create(key, b"first"), store.create(key, b"second")
    kept = bytes(store.read(key))
    ok = won and not lost and kept == b"first"
    return Check(
        "create if absent", ok, "kept" if ok else f"an existing object was overwritten ({kept!r}): do not use it"
    )


def _check_race(store: "ObjectStore", prefix: str) -> Check:
    problems: list[str] = []
    for turn in range(_ROUNDS):
        key, barrier, winners = f"{prefix}/raced-{turn}", threading.Barrier(_RACERS), list[int]()

        def race(me: int, key: str = key, barrier: Any = barrier, winners: list[int] = winners) -> None:
            try:
                barrier.wait(30)
                if store.create(key, b"%d" % me):
                    winners.append(me)
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=race, args=(me,)) for me in range(_RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not problems and (len(winners) != 1 or bytes(store.read(key)) != b"%d" % winners[0]):
            problems.append(f"{len(winners)} of {_RACERS} writers were told that they had won")
    detail = f"{_ROUNDS} races of {_RACERS} writers had one winner each" if not problems else problems[0]
    return Check("one winner", not problems, detail)


def _check_list(store: "ObjectStore", prefix: str) -> Check:
    key = f"{prefix}/listed"
    store.write(key, [b"written ", b"in parts"])
    found = key in set(store.list(prefix))
    whole = bytes(store.read(key, start=8)) == b"in parts"
    store.delete(key)
    gone = key not in set(store.list(prefix))
    detail = "what is written is listed at once, what is deleted no more"
    ok = found and whole and gone
    return Check(
        "read and list",
        ok,
        detail if ok else f"listed={found} read={whole} removed={gone}: recovery would miss records",
    )


def _check_append(store: Any, prefix: str) -> Check:
    appender = store.appender(f"{prefix}/appended")
    if appender is None:
        return Check("append", False, "a new object could not be opened for appending")
    try:
        latency = _median(lambda n: appender.append(bytes(200)), 30)
    finally:
        appender.close()
    return Check("append", True, f"{latency} for 200 bytes")


def _check_locks(store: Any, prefix: str) -> Check:
    key = f"{prefix}/created"
    first = store.lock(key)
    ok = first is not None and store.is_locked(key) and store.lock(key) is None
    if first is not None:
        first.release()
    ok = ok and not store.is_locked(key)
    return Check("locks", ok, "available" if ok else "a lock was given twice, or not given back")


def _median(call: Callable[[int], Any], times: int = 10) -> str:
    taken = []
    for turn in range(times):
        began = time.perf_counter()
        call(turn)
        taken.append(time.perf_counter() - began)
    return f"{duration(statistics.median(taken))} (slowest {duration(max(taken))})"
