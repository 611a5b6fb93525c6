"""Core's own plugin: what every installation of ExoFlow has."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from exoflow.plugins import hookimpl

if TYPE_CHECKING:
    from exoflow.executors.contract import Executor, Services
    from exoflow.failures.injectors import FailureSpec
    from exoflow.failures.points import Injector
    from exoflow.plugins.hookspecs import (
        CodecFactory,
        CommandFactory,
        ExecutorFactory,
        InjectorFactory,
        ObserverFactory,
        StoreOpener,
    )
    from exoflow.plugins.observing import Observer
    from exoflow.stores.contract import ObjectStore
    from exoflow.values import Codec

__all__: list[str] = []

_ACTIONS = ("cluster_crash", "crash", "delay", "kill", "raise", "task_crash")


@hookimpl
def exoflow_object_stores() -> "Mapping[str, StoreOpener]":
    """``memory://``, which lives as long as the process."""
    return {"memory": _open_memory}


@hookimpl
def exoflow_executors() -> "Mapping[str, ExecutorFactory]":
    """In the caller's thread, in threads, in processes."""
    return {"inline": _make_inline, "process": _make_process, "thread": _make_thread}


@hookimpl
def exoflow_codecs() -> "Mapping[str, CodecFactory]":
    """Pickle, protocol 5; JSON, for values that other programs are to read."""
    return {"json": _make_json, "pickle": _make_pickle}


@hookimpl
def exoflow_failure_injectors() -> "Mapping[str, InjectorFactory]":
    """The actions of `exoflow.failures.injectors`."""
    return dict.fromkeys(_ACTIONS, _make_injector)


@hookimpl
def exoflow_observers() -> "Sequence[ObserverFactory]":
    """Spans for OpenTelemetry, where the application traces."""
    return [opentelemetry]


@hookimpl
def exoflow_cli_commands() -> "Mapping[str, CommandFactory]":
    """The words of the command itself, so that no plugin takes one of them."""
    from exoflow.cli.commands import core_commands

    return core_commands()


def _make_injector(spec: "FailureSpec") -> "Injector":
    from exoflow.failures.injectors import make

    return make(spec)


def opentelemetry() -> "Observer | None":
    """Return an observer that makes spans, if the application has configured tracing."""
    if "opentelemetry.trace" not in sys.modules:  # whoever configured it has imported it; nobody else is to pay for it
        return None
    from exoflow.plugins.tracing import observe_with_spans

    return observe_with_spans()


def _make_json() -> "Codec":
    from exoflow.codecs import JsonCodec

    return JsonCodec()


def _make_pickle() -> "Codec":
    from exoflow.values import PickleCodec

    return PickleCodec()


def _make_inline(services: "Services", *, coroutines: int = 10_000) -> "Executor":
    from exoflow.executors.inline import InlineExecutor

    return InlineExecutor(services, coroutines=coroutines)


def _make_thread(services: "Services", *, max_workers: int | None = None, coroutines: int = 10_000) -> "Executor":
    from exoflow.executors.threads import ThreadExecutor

    return ThreadExecutor(services, workers=max_workers, coroutines=coroutines)


def _make_process(services: "Services", *, max_workers: int | None = None) -> "Executor":
    from exoflow.executors.processes import ProcessExecutor

    return ProcessExecutor(services, workers=max_workers)


def _open_memory(url: str) -> "ObjectStore":
    from exoflow.stores.memory import MemoryStore

    return MemoryStore.open(url)
