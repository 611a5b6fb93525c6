"""The hooks of ExoFlow: everything a plugin can add, each with when it is called and what becomes of the answer.

A plugin is a module named by an entry point of the group ``exoflow``. It implements some of these hooks, marked with
`exoflow.plugins.hookimpl`, and imports what is heavy only inside the functions it returns: listing plugins opens
nothing and reaches no network. Hooks take no arguments and return values rather than edit what they are given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

if TYPE_CHECKING:
    import click

    from exoflow.executors.contract import Executor, Services
    from exoflow.failures.injectors import FailureSpec
    from exoflow.failures.points import Injector
    from exoflow.plugins.observing import Observer
    from exoflow.plugins.references import ReferenceType
    from exoflow.stores.contract import ObjectStore
    from exoflow.values import Codec

__all__ = [
    "CodecFactory",
    "CommandFactory",
    "EventSource",
    "EventSourceFactory",
    "ExecutorFactory",
    "InjectorFactory",
    "ObserverFactory",
    "SendEvent",
    "StoreOpener",
]

hookspec = pluggy.HookspecMarker("exoflow")


class StoreOpener(Protocol):
    """Opens a store."""

    # *args and **kwargs of Any mean "whatever else it takes", to type checkers too: options are the plugin's own.
    def __call__(self, url: str, /, *args: Any, **options: Any) -> "ObjectStore":
        """Return the store that *url*, scheme included, names. Unknown *options* are `UnknownOptionError`."""
        ...


class ExecutorFactory(Protocol):
    """Makes an executor."""

    def __call__(self, services: "Services", /, *args: Any, **options: Any) -> "Executor":
        """Return an executor, ready to start calls. Called once per engine that uses it, on the driver's thread."""
        ...


class SendEvent(Protocol):
    """What an event source calls for each message: `exoflow.Engine.send_event`, or its like."""

    def __call__(self, workflow_id: str, event: str, payload: Any = None, *, message_id: str | None = None) -> None:
        """Put a message into a workflow's inbox. Durable when this returns; one *message_id* counts once."""
        ...


class EventSource(Protocol):
    """Brings messages from elsewhere (a queue, a web hook) to workflows that wait for them."""

    def close(self) -> None:
        """Stop listening. What was not yet sent stays where it came from."""
        ...


class EventSourceFactory(Protocol):
    """Opens an event source."""

    def __call__(self, send: SendEvent, /, *args: Any, **options: Any) -> EventSource:
        """Listen, and call *send* for each message, from any thread, until closed.

        A source acknowledges a message where it came from only after *send* returned, and gives it a *message_id*
        that is the same at every delivery: so a message that is delivered twice is received once.
        """
        ...


CodecFactory: TypeAlias = "Callable[[], Codec]"
"""Makes a codec; called once per process and name."""

InjectorFactory: TypeAlias = "Callable[[FailureSpec], Injector]"
"""Makes the injector that ``TASK.ACTION[=VALUE][@TRIGGER]``, already parsed, asks for."""

ObserverFactory: TypeAlias = "Callable[[], Observer | None]"
"""Makes an observer for one engine, or None when it has nothing to do (its library is absent, say)."""

CommandFactory: TypeAlias = "Callable[[], click.Command]"
"""Imports and returns a command; called when it is run, or listed by ``--help``."""


@hookspec
def exoflow_object_stores() -> Mapping[str, StoreOpener]:
    """Name the URL schemes this plugin keeps bytes under.

    Called once per process, before the first workflow. Opening is left to the function returned for a scheme, so that
    listing plugins costs nothing and reaches no network. ``file`` has a second use: a storage path without a scheme
    is opened by it.

    Returns:
        Scheme to opener, for example ``{"s3": open_s3}``. A scheme claimed twice is a `PluginConflictError` naming
        both plugins; neither wins silently.
    """
    return {}


@hookspec
def exoflow_executors() -> Mapping[str, ExecutorFactory]:
    """Name the executors this plugin can run tasks with.

    Called once per process, before the first workflow. A task or an engine asks for one by name, and the factory is
    called with the engine's services (store, codec, where to report) and the user's options; an executor that runs several
    calls at once takes the option ``max_workers``.

    Returns:
        Name to factory, for example ``{"ray": make_ray_executor}``. A name claimed twice is a `PluginConflictError`.
    """
    return {}


@hookspec
def exoflow_codecs() -> Mapping[str, CodecFactory]:
    """Name the ways in which this plugin turns values into bytes: another format, compression, encryption, signing.

    Called once per process. Records name the codec that wrote them, so a plugin whose codec was used must be
    installed, under the same name, wherever the workflow is resumed.

    Returns:
        Name to factory, for example ``{"arrow": ArrowCodec}``. A name claimed twice is a `PluginConflictError`.
    """
    return {}


@hookspec
def exoflow_failure_injectors() -> Mapping[str, InjectorFactory]:
    """Name the failures this plugin can cause on purpose.

    Called once per process, and only when an engine is given failures as text. The name is the ACTION of
    ``TASK.ACTION[=VALUE][@TRIGGER]``; the factory gets the parsed text and returns an injector, which the engine calls
    at every failure point.

    Returns:
        Action to factory, for example ``{"node_crash": kill_node}``. An action claimed twice is a
        `PluginConflictError`.
    """
    return {}


@hookspec
def exoflow_reference_types() -> "Sequence[ReferenceType]":
    """List the kinds of references (values that name something living in an executor) this plugin knows.

    Called once per process, before the first value is stored. Each object inside a result is shown to the types in the
    order their plugins were loaded; the first that recognises it persists it. For the Ray backend, which is to bring
    the first ones (object and actor references); no executor of core makes references.

    Returns:
        Reference types, made already, so they import nothing heavy. Two of one name are a `PluginConflictError`.
    """
    return []


@hookspec
def exoflow_event_sources() -> Mapping[str, EventSourceFactory]:
    """Name the places this plugin can bring messages from.

    Called once per process, when a program asks the plugin manager for a source by name. Core has none and opens none
    on its own: a program passes `exoflow.Engine.send_event` to the factory, and closes what it gets.

    Returns:
        Name to factory, for example ``{"sqs": listen_to_queue}``. A name claimed twice is a `PluginConflictError`.
    """
    return {}


@hookspec
def exoflow_observers() -> Sequence[ObserverFactory]:
    """List what wants to watch every engine: progress, logs, traces, metrics.

    Called once per process; each factory once per engine, when it opens. What the engine's user passes as
    ``observers=`` comes after these. An observer is told of happenings on the driver's thread, and an exception of its
    own is logged, not passed on.

    Returns:
        Factories, each of an observer or of None. All of all plugins are used; there is nothing to conflict.
    """
    return []


@hookspec
def exoflow_cli_commands() -> Mapping[str, CommandFactory]:
    """Name the commands this plugin adds to ``exoflow``.

    Called when the command starts and the word after ``exoflow`` is none of its own, or for ``exoflow --help``. Only
    the command that is run is made; ``--help`` makes all, for their one-line descriptions.

    Returns:
        Word to factory, for example ``{"demo": make_demo_command}``. A word claimed twice, or one of core's own, is a
        `PluginConflictError`.
    """
    return {}
