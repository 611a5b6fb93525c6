"""Finds plugins, and gives each hook one typed method.

This module is the only caller of hooks. It loads the entry points of the group ``exoflow`` once per process, refuses
a plugin that cannot be what it says (a misspelt hook, a name that another plugin has, a module that does not import)
with an error that names it, and leaves alone those named in ``EXOFLOW_BLOCK_PLUGINS=a,b``. Core's own plugin is
loaded like any other, and first.
"""

import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import pluggy

from exoflow.errors import (
    ExoFlowError,
    PluginConflictError,
    UnknownExecutorError,
    UnknownOptionError,
    UnknownStoreError,
)
from exoflow.plugins import hookspecs

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from exoflow.executors.contract import Executor, Services
    from exoflow.failures.points import Injector
    from exoflow.plugins.hookspecs import (
        CodecFactory,
        CommandFactory,
        EventSource,
        EventSourceFactory,
        ExecutorFactory,
        InjectorFactory,
        SendEvent,
        StoreOpener,
    )
    from exoflow.plugins.observing import Observer
    from exoflow.plugins.references import ReferenceType
    from exoflow.stores.contract import ObjectStore
    from exoflow.values import Codec

__all__ = [
    "BLOCK_VARIABLE",
    "ENTRY_POINT_GROUP",
    "PluginInfo",
    "PluginManager",
    "make_codec",
    "make_executor",
    "make_injectors",
    "make_observers",
    "manager",
    "open_store",
]

ENTRY_POINT_GROUP = "exoflow"
BLOCK_VARIABLE = "EXOFLOW_BLOCK_PLUGINS"

_CORE = "core"
_CORE_MODULE = "exoflow.plugins.builtin"
_HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("exoflow_"))
_KINDS = {
    "exoflow_object_stores": "scheme",
    "exoflow_executors": "executor",
    "exoflow_codecs": "codec",
    "exoflow_failure_injectors": "failure action",
    "exoflow_event_sources": "event source",
    "exoflow_cli_commands": "command",
}
"""Hooks that answer with names, and what a name is called."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One line of ``exoflow plugins``."""

    name: str
    """The entry point's name; what ``EXOFLOW_BLOCK_PLUGINS`` takes."""
    distribution: str = ""
    """What `pip` calls it; empty if it was registered by hand."""
    version: str = ""
    provides: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Hook to the names it answers with, without the prefix ``exoflow_``."""
    blocked: bool = False
    problem: str = ""
    """Why it is not used; empty if it is."""


class PluginManager:
    """The plugins of one process.

    Args:
        entry_points: Where plugins are found; those of the installed distributions when None.
        blocked: Names of plugins to leave alone; those in ``EXOFLOW_BLOCK_PLUGINS`` when None.
        tolerant: Note a plugin that cannot be used in `plugins`, and go on without it, rather than raise: for commands
            that say what is wrong.

    Raises:
        PluginConflictError: A plugin cannot be used as it is; the message names it, its distribution and the way round.
    """

    def __init__(
        self,
        *,
        entry_points: "Iterable[EntryPoint] | None" = None,
        blocked: Iterable[str] | None = None,
        tolerant: bool = False,
    ) -> None:
        self._pm = pluggy.PluginManager("exoflow")
        self._pm.add_hookspecs(hookspecs)
        self._blocked = frozenset(_blocked_by_environment() if blocked is None else blocked)
        self._tolerant = tolerant
        self._infos: dict[str, PluginInfo] = {}
        self._answers: dict[str, Any] = {}
        if entry_points is None:
            import importlib.metadata  # half of what importing this module would cost

            entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        self._load(_CORE, _distribution_of_core(entry_points := list(entry_points)), _import_core)
        for entry in sorted(entry_points, key=lambda entry: entry.name):  # the order on the path differs per machine
            if (entry.name, entry.value) != (_CORE, _CORE_MODULE):
                self._load(entry.name, entry.dist, entry.load)

    # --- loading ------------------------------------------------------------------------------------------------

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin that no distribution brings: an object, usually a module, with hooks.

        Raises:
            PluginConflictError: The name is taken, a hook is misspelt or takes arguments, or a hook's name lacks the
                `hookimpl` mark.
        """
        self._load(name, None, lambda: plugin)

    def _load(self, name: str, distribution: "Distribution | None", load: Callable[[], object]) -> None:
        owner, version = "", ""
        if distribution is not None:
            owner, version = distribution.metadata["Name"] or "", distribution.version
        if name in self._blocked:
            self._infos.setdefault(
                name, PluginInfo(name=name, distribution=owner, version=version, blocked=True, problem="blocked")
            )
            return
        try:
            other = self._infos.get(name)
            if other is not None:
                raise PluginConflictError(
                    f"two plugins are called {name!r}: one of {other.distribution or 'this program'}, "
                    f"one of {owner or 'this program'}; uninstall one"
                )
            self._infos[name] = PluginInfo(name=name, distribution=owner, version=version)
            self._register(name, load)
        except PluginConflictError as error:
            if not self._tolerant:
                raise
            self._note(name, str(error))

    def _register(self, name: str, load: Callable[[], object]) -> None:
        try:
            plugin = load()
        except Exception as error:
            raise self._unusable(name, f"cannot be loaded: {_first_line(error)}") from error
        unmarked = [
            hook for hook in _HOOKS if hasattr(plugin, hook) and not hasattr(getattr(plugin, hook), "exoflow_impl")
        ]
        if unmarked:
            raise self._unusable(name, f"has {unmarked[0]} without @exoflow.plugins.hookimpl before it")
        try:
            self._pm.register(plugin, name=name)
            self._pm.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            # check_pending speaks of the plugin just added, since those before it have passed.
            if self._pm.has_plugin(name):
                self._pm.unregister(name=name)
            raise self._unusable(name, _first_line(error)) from error
        self._answers.clear()

    def _unusable(self, name: str, problem: str) -> PluginConflictError:
        return PluginConflictError(
            f"{self._described(name)} {problem}; repair or uninstall it, or go on without it: {BLOCK_VARIABLE}={name}"
        )

    def _described(self, name: str) -> str:
        info = self._infos[name]
        owner = f" of {info.distribution} {info.version}" if info.distribution else ""
        return f"plugin {name!r}{owner}"

    def _note(self, name: str, problem: str) -> None:
        self._infos[name] = attrs.evolve(self._infos[name], problem=problem)

    # --- what there is ------------------------------------------------------------------------------------------

    def plugins(self) -> Sequence[PluginInfo]:
        """Return every plugin that was found, used or not, in the order of loading.

        Raises:
            PluginConflictError: As everywhere; a tolerant manager notes the problem with the plugin instead.
        """
        for hook in _KINDS:
            self._named(hook)
        self.reference_types()
        provides: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in self._infos}
        for hook in _HOOKS:
            for name, answer in self._call(hook):
                names = answer if isinstance(answer, Mapping) else map(_name_of, answer)
                provides[name][hook.removeprefix("exoflow_")] = tuple(names)
        return [attrs.evolve(info, provides=provides[name]) for name, info in self._infos.items()]

    def object_stores(self) -> Mapping[str, "StoreOpener"]:
        """Scheme to opener."""
        return self._named("exoflow_object_stores")

    def executors(self) -> Mapping[str, "ExecutorFactory"]:
        """Name to factory."""
        return self._named("exoflow_executors")

    def codecs(self) -> Mapping[str, "CodecFactory"]:
        """Name to factory."""
        return self._named("exoflow_codecs")

    def failure_injectors(self) -> Mapping[str, "InjectorFactory"]:
        """Action to factory."""
        return self._named("exoflow_failure_injectors")

    def reference_types(self) -> Sequence["ReferenceType"]:
        """Reference types, in the order in which they are asked."""
        known = self._answers.get("exoflow_reference_types")
        if known is None:
            owners: dict[str, str] = {}
            known = []
            for plugin, answer in self._call("exoflow_reference_types"):
                for kind in answer:
                    name = _name_of(kind)
                    if self._claim(owners, name, plugin, "reference type"):
                        known.append(kind)
            self._answers["exoflow_reference_types"] = known
        return cast("Sequence[ReferenceType]", known)

    def event_sources(self) -> Mapping[str, "EventSourceFactory"]:
        """Name to factory."""
        return self._named("exoflow_event_sources")

    def observers(self) -> Sequence["Observer"]:
        """Make one observer of each factory that has something to do."""
        made = (factory() for _, factories in self._call("exoflow_observers") for factory in factories)
        return [observer for observer in made if observer is not None]

    def cli_commands(self) -> Mapping[str, "CommandFactory"]:
        """Word to factory."""
        return self._named("exoflow_cli_commands")

    # --- using it -----------------------------------------------------------------------------------------------

    def open_store(self, url: str | os.PathLike[str], /, **options: Any) -> "ObjectStore":
        """Open the store that *url* names.

        Args:
            url: ``scheme://...``, or a path: ``./flows`` is ``file://./flows`` if a plugin opens ``file``.
            **options: What the store takes.

        Raises:
            UnknownStoreError: No plugin opens this scheme.
            UnknownOptionError: The store takes no such option.
        """
        text = os.fspath(url)
        match = _SCHEME.match(text)
        if match is None:
            text = f"file://{_as_path(text)}"
        scheme = match[1].lower() if match else "file"
        openers = self.object_stores()
        if scheme not in openers:
            raise UnknownStoreError(os.fspath(url), openers)
        _check_options(f"the store {text!r}", openers[scheme], (text,), options)
        return openers[scheme](text, **options)

    def make_executor(self, name: str, /, services: "Services", **options: Any) -> "Executor":
        """Make an executor.

        Raises:
            UnknownExecutorError: No plugin offers it.
            UnknownOptionError: It takes no such option.
        """
        return self.check_executor(name, **options)(services, **options)

    def check_executor(self, name: str, /, **options: Any) -> "Callable[..., Executor]":
        """Return what makes an executor, having checked that it could: before any task needs it.

        Raises:
            UnknownExecutorError: No plugin offers it.
            UnknownOptionError: It takes no such option.
        """
        factories = self.executors()
        if name not in factories:
            raise UnknownExecutorError(name, factories)
        _check_options(f"the executor {name!r}", factories[name], (None,), options)
        return factories[name]

    def make_codec(self, name: str) -> "Codec":
        """Return the codec of this name, one per name.

        Raises:
            UnknownOptionError: No plugin offers it.
        """
        made: Codec | None = self._answers.get(f"codec {name}")
        if made is None:
            factory = _known("codec", name, self.codecs())
            made = self._answers[f"codec {name}"] = factory()
        return made

    def make_injectors(self, failures: "Iterable[str | Injector]") -> "list[Injector]":
        """Return injectors; texts (``train_12.crash@2``) are parsed, and made by the plugin that brings the action.

        Raises:
            UnknownOptionError: A text has the wrong form, or names an action, a value or a trigger that does not exist.
        """
        from exoflow.failures.injectors import parse

        made: list[Injector] = []
        for failure in [failures] if isinstance(failures, str) else failures:
            if isinstance(failure, str):
                spec = parse(failure)
                made.append(_known("failure action", spec.action, self.failure_injectors())(spec))
            else:
                made.append(failure)
        return made

    def open_event_source(self, name: str, send: "SendEvent", /, **options: Any) -> "EventSource":
        """Open an event source that calls *send* for each message.

        Raises:
            UnknownOptionError: No plugin offers it, or it takes no such option.
        """
        factory = _known("event source", name, self.event_sources())
        _check_options(f"the event source {name!r}", factory, (send,), options)
        return factory(send, **options)

    # --- calling hooks ------------------------------------------------------------------------------------------

    def _call(self, hook: str) -> list[tuple[str, Any]]:
        """Return plugin and answer of each implementation, in the order of loading.

        Not by calling the hook itself: its answers would come without the names that conflicts must tell.
        """
        known: list[tuple[str, Any]] | None = self._answers.get(f"call {hook}")
        if known is not None:
            return known
        answers = self._answers[f"call {hook}"] = []
        ordered = list(self._infos)
        implementations = getattr(self._pm.hook, hook).get_hookimpls()
        for implementation in sorted(implementations, key=lambda found: ordered.index(found.plugin_name)):
            name = implementation.plugin_name
            try:
                answer = implementation.function()
                _check_answer(hook, answer)
            except Exception as error:
                problem = self._unusable(name, f"fails in {hook}: {_first_line(error)}")
                if not self._tolerant:
                    del self._answers[f"call {hook}"]
                    raise problem from error
                self._note(name, str(problem))
            else:
                answers.append((name, answer))
        return answers

    def _named(self, hook: str) -> Mapping[str, Any]:
        known: dict[str, Any] | None = self._answers.get(hook)
        if known is None:
            owners: dict[str, str] = {}
            known = {}
            for plugin, answer in self._call(hook):
                for name, offered in answer.items():
                    if self._claim(owners, name, plugin, _KINDS[hook]):
                        known[name] = offered
            self._answers[hook] = known
        return known

    def _claim(self, owners: dict[str, str], name: str, plugin: str, kind: str) -> bool:
        owner = owners.setdefault(name, plugin)
        if owner == plugin:
            return True
        problem = (
            f"{self._described(owner)} and {self._described(plugin)} both bring the {kind} {name!r}; "
            f"switch one off: {BLOCK_VARIABLE}={plugin}"
        )
        if not self._tolerant:
            raise PluginConflictError(problem)
        self._note(plugin, problem)
        return False


def _blocked_by_environment() -> list[str]:
    return [name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip()]


def _import_core() -> object:
    return importlib.import_module(_CORE_MODULE)


def _distribution_of_core(
    entry_points: "Iterable[EntryPoint]",
) -> "Distribution | None":
    return next((entry.dist for entry in entry_points if (entry.name, entry.value) == (_CORE, _CORE_MODULE)), None)


def _first_line(error: BaseException) -> str:
    if isinstance(error, ExoFlowError):
        return str(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _name_of(offered: object) -> str:
    name = getattr(offered, "name", None) or getattr(offered, "__name__", None)
    return str(name) if name else type(offered).__name__


def _check_answer(hook: str, answer: object) -> None:
    if hook in ("exoflow_reference_types", "exoflow_observers"):
        if not isinstance(answer, Sequence) or isinstance(answer, str):
            raise TypeError(f"it returned {answer!r}, expected a list")
        if hook == "exoflow_observers" and not all(callable(factory) for factory in answer):
            raise TypeError(f"it returned {answer!r}, expected a list of functions that make observers")
    elif not isinstance(answer, Mapping) or not all(isinstance(key, str) for key in answer):
        raise TypeError(f"it returned {answer!r}, expected a mapping from names to functions")
    elif not all(callable(value) for value in answer.values()):
        raise TypeError(f"it returned {answer!r}, whose values are not all functions")


def _as_path(text: str) -> str:
    """A relative path gets a dot, so that its first folder is not taken for the host of a URL."""
    if text.startswith("~"):
        return os.path.expanduser(text)  # noqa: PTH111 - a Path would drop a final slash and a leading dot
    return text if PurePath(text).is_absolute() or text.split("/")[0] in (".", "..") else f"./{text}"


def _check_options(what: str, function: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Find an unknown option before the call: a `TypeError` from inside it may mean anything."""
    if not options:
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin; it checks when called
        return
    try:
        signature.bind(*given, **options)
    except TypeError as error:
        known = [p.name for p in list(signature.parameters.values())[len(given) :] if p.kind is not p.VAR_KEYWORD]
        raise UnknownOptionError(f"{what}: {error} (options: {', '.join(known) or 'none'})") from None


def _known(kind: str, name: str, offered: Mapping[str, T]) -> T:
    if name not in offered:
        known = ", ".join(sorted(offered)) or "none"
        raise UnknownOptionError(f"no {kind} is called {name!r} (installed: {known}); see `exoflow plugins`")
    return offered[name]


@functools.cache
def manager() -> PluginManager:
    """Return this process' plugins, loaded on the first call."""
    return PluginManager()


def open_store(url: str | os.PathLike[str], /, **options: Any) -> "ObjectStore":
    """Open the store that *url* names, see `PluginManager.open_store`."""
    return manager().open_store(url, **options)


def make_executor(name: str, /, services: "Services", **options: Any) -> "Executor":
    """Make an executor, see `PluginManager.make_executor`."""
    return manager().make_executor(name, services, **options)


def make_codec(name: str) -> "Codec":
    """Return the codec of this name, see `PluginManager.make_codec`."""
    return manager().make_codec(name)


def make_injectors(failures: "Iterable[str | Injector]") -> "list[Injector]":
    """Return injectors for *failures*, see `PluginManager.make_injectors`."""
    return manager().make_injectors(failures)


def make_observers() -> "Sequence[Observer]":
    """Make an observer of each installed plugin's, see `PluginManager.observers`."""
    return manager().observers()
