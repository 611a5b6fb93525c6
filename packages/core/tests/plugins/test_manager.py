import subprocess
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from exoflow.errors import (
    PluginConflictError,
    UnknownExecutorError,
    UnknownOptionError,
    UnknownStoreError,
    UsageError,
)
from exoflow.executors.contract import Services
from exoflow.plugins import hookimpl
from exoflow.plugins.manager import PluginManager


def plugin(**hooks):
    """A plugin whose hooks answer, or raise, what is given."""

    def hook(answer):
        def implementation():
            if isinstance(answer, Exception):
                raise answer
            return answer

        return hookimpl(implementation)

    return types.SimpleNamespace(**{name: hook(answer) for name, answer in hooks.items()})


@pytest.fixture
def manager():
    return PluginManager(entry_points=[], blocked=[])


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install a distribution with the given entry points and modules, as far as importing can tell."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, entry_points, **modules):
        info = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[exoflow]\n{entry_points}\n")
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)

    yield install
    for module in list(sys.modules):
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def test_core_brings_its_stores_executors_codecs_and_failures_without_being_installed(manager):
    assert set(manager.object_stores()) == {"memory"}
    assert set(manager.executors()) == {"inline", "process", "thread"}
    assert set(manager.codecs()) == {"json", "pickle"}
    assert set(manager.failure_injectors()) == {"cluster_crash", "crash", "delay", "kill", "raise", "task_crash"}


def test_core_is_loaded_once_when_its_entry_point_is_installed_too():
    manager = PluginManager(entry_points=[EntryPoint("core", "exoflow.plugins.builtin", "exoflow")], blocked=[])

    assert [info.name for info in manager.plugins()] == ["core"]


def test_a_foreign_plugin_cannot_take_the_name_of_core():
    with pytest.raises(PluginConflictError, match="two plugins are called 'core'"):
        PluginManager(entry_points=[EntryPoint("core", "json", "exoflow")], blocked=[])


def test_a_store_is_opened_by_the_scheme_of_its_url(manager):
    store = manager.open_store("memory://here")

    assert store.url == "memory://here"


def test_a_scheme_is_read_without_regard_to_case(manager):
    manager.register(plugin(exoflow_object_stores={"x": lambda url: url}), "x")

    assert manager.open_store("X://Y") == "X://Y"


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("./flows", "file://./flows"),
        ("flows/here", "file://./flows/here"),
        ("/var/flows", "file:///var/flows"),
        ("../flows", "file://../flows"),
        (".hidden", "file://./.hidden"),
        (Path("flows"), "file://./flows"),
    ],
)
def test_a_path_without_a_scheme_is_a_file_url(manager, path, url):
    manager.register(plugin(exoflow_object_stores={"file": lambda url: url}), "files")

    assert manager.open_store(path) == url


def test_a_path_in_the_home_folder_is_expanded(manager, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    manager.register(plugin(exoflow_object_stores={"file": lambda url: url}), "files")

    assert manager.open_store("~/flows") == "file:///home/me/flows"


@pytest.mark.parametrize("url", ["s3://bucket/flows", "./flows", "memory:x"])
def test_a_store_nobody_opens_is_an_error_that_says_what_to_install(manager, url):
    with pytest.raises(UnknownStoreError, match=r"schemes installed: memory\); try `pip install exoflow-storage`"):
        manager.open_store(url)


def test_an_executor_nobody_offers_is_an_error_that_says_what_to_install(manager):
    with pytest.raises(UnknownExecutorError, match="pip install exoflow-ray"):
        manager.make_executor("ray", services=None)


def test_options_reach_the_store_and_the_executor(manager):
    manager.register(
        plugin(
            exoflow_object_stores={"x": lambda url, *, region="here": (url, region)},
            exoflow_executors={"y": lambda services, *, size=1: (services, size)},
        ),
        "x",
    )
    services = Services(None, None, None)

    assert manager.open_store("x://a", region="there") == ("x://a", "there")
    assert manager.make_executor("y", services, size=3) == (services, 3)


@pytest.mark.parametrize("name", ["thread", "process"])
def test_an_executor_of_core_runs_as_many_calls_at_once_as_told(manager, name):
    services = Services(manager.open_store("memory://"), manager.make_codec("pickle"), print)

    manager.make_executor(name, services, max_workers=3).close()

    with pytest.raises(UnknownOptionError, match=r"the executor '\w+': .*'workers'.* \(options: max_workers"):
        manager.make_executor(name, services, workers=3)


def test_an_option_that_does_not_exist_is_an_error_that_lists_those_that_do(manager):
    manager.register(plugin(exoflow_object_stores={"x": lambda url, *, region="here": url}), "x")

    with pytest.raises(UnknownOptionError, match=r"the store 'x://a': .*'regoin'.* \(options: region\)"):
        manager.open_store("x://a", regoin="there")


def test_a_type_error_inside_an_opener_is_not_taken_for_an_unknown_option(manager):
    def open_broken(url, *, region):
        raise TypeError("inside")

    manager.register(plugin(exoflow_object_stores={"x": open_broken}), "x")

    with pytest.raises(TypeError, match="inside"):
        manager.open_store("x://a", region="there")


def test_a_codec_is_made_once(manager):
    assert manager.make_codec("pickle") is manager.make_codec("pickle")


def test_an_unknown_codec_is_an_error_that_lists_those_there_are(manager):
    with pytest.raises(UnknownOptionError, match=r"no codec is called 'arrow' \(installed: json, pickle\)"):
        manager.make_codec("arrow")


@pytest.mark.parametrize(
    ("hook", "method", "kind"),
    [
        ("exoflow_object_stores", "object_stores", "scheme"),
        ("exoflow_executors", "executors", "executor"),
        ("exoflow_codecs", "codecs", "codec"),
        ("exoflow_failure_injectors", "failure_injectors", "failure action"),
        ("exoflow_event_sources", "event_sources", "event source"),
        ("exoflow_cli_commands", "cli_commands", "command"),
    ],
)
def test_a_name_claimed_twice_is_an_error_that_names_both_plugins(manager, hook, method, kind):
    manager.register(plugin(**{hook: {"x": print}}), "first")
    manager.register(plugin(**{hook: {"x": print}}), "second")

    with pytest.raises(PluginConflictError, match=f"plugin 'first' and plugin 'second' both bring the {kind} 'x'"):
        getattr(manager, method)()


class Kind:
    def __init__(self, name):
        self.name = name


def test_two_reference_types_of_one_name_are_an_error(manager):
    manager.register(plugin(exoflow_reference_types=[Kind("table")]), "first")
    manager.register(plugin(exoflow_reference_types=[Kind("table")]), "second")

    with pytest.raises(PluginConflictError, match="both bring the reference type 'table'"):
        manager.reference_types()


def test_reference_types_are_asked_in_the_order_their_plugins_were_loaded(manager):
    manager.register(plugin(exoflow_reference_types=[Kind("a"), Kind("c")]), "first")
    manager.register(plugin(exoflow_reference_types=[Kind("b")]), "second")

    assert [kind.name for kind in manager.reference_types()] == ["a", "c", "b"]


def test_observers_are_made_anew_for_each_engine_by_those_who_have_something_to_do(manager):
    manager.register(plugin(exoflow_observers=[object, lambda: None]), "first")
    manager.register(plugin(exoflow_observers=[object]), "second")

    first, second = manager.observers(), manager.observers()

    assert len(first) == len(second) == 2
    assert not set(map(id, first)) & set(map(id, second))


def test_an_event_source_is_opened_with_the_function_to_send_with(manager):
    manager.register(plugin(exoflow_event_sources={"queue": lambda send, *, name: (send, name)}), "q")

    assert manager.open_event_source("queue", print, name="jobs") == (print, "jobs")


def test_failures_given_as_text_are_made_by_the_plugin_that_brings_the_action(manager):
    manager.register(plugin(exoflow_failure_injectors={"node_crash": lambda spec: ("node", spec.trigger.task)}), "ray")
    own = object()

    made = manager.make_injectors(["train_1.crash", own, "train_2.node_crash"])

    assert made[0].trigger.task == "train_1"
    assert made[1:] == [own, ("node", "train_2")]


def test_one_text_alone_is_one_failure(manager):
    assert len(manager.make_injectors("a.crash")) == 1


def test_an_unknown_failure_action_is_an_error_that_lists_those_there_are(manager):
    with pytest.raises(UnknownOptionError, match=r"no failure action is called 'explode' \(installed: cluster_crash, "):
        manager.make_injectors(["a.explode"])


def test_a_misspelt_hook_fails_at_once(manager):
    with pytest.raises(PluginConflictError, match=r"plugin 'typo' .*exoflow_object_store.*EXOFLOW_BLOCK_PLUGINS=typo"):
        manager.register(plugin(exoflow_object_store={}), "typo")


def test_a_hook_without_its_mark_fails_at_once(manager):
    forgotten = types.SimpleNamespace(exoflow_executors=dict)

    with pytest.raises(PluginConflictError, match=r"has exoflow_executors without @exoflow.plugins.hookimpl"):
        manager.register(forgotten, "forgotten")


def test_a_hook_that_asks_for_arguments_fails_at_once(manager):
    @hookimpl
    def exoflow_executors(config):
        return {}

    with pytest.raises(PluginConflictError, match="plugin 'greedy'"):
        manager.register(types.SimpleNamespace(exoflow_executors=exoflow_executors), "greedy")


def test_a_plugin_that_was_refused_leaves_the_others_in_order(manager):
    with pytest.raises(PluginConflictError):
        manager.register(plugin(exoflow_object_store={}), "typo")

    manager.register(plugin(exoflow_object_stores={"x": print}), "fine")

    assert set(manager.object_stores()) == {"memory", "x"}


@pytest.mark.parametrize("answer", ["x", None, ["x"], {"x": 1}, {1: print}])
def test_an_answer_of_the_wrong_shape_names_the_plugin_and_the_hook(manager, answer):
    manager.register(plugin(exoflow_executors=answer), "odd")

    with pytest.raises(PluginConflictError, match="plugin 'odd' fails in exoflow_executors"):
        manager.executors()


def test_an_exception_inside_a_hook_names_the_plugin_and_stays_its_cause(manager):
    cause = RuntimeError("no licence")
    manager.register(plugin(exoflow_executors=cause), "broken")

    with pytest.raises(PluginConflictError, match="fails in exoflow_executors: RuntimeError: no licence") as caught:
        manager.executors()
    assert caught.value.__cause__ is cause


def test_plugins_of_installed_distributions_are_found(distribution):
    distribution(
        "exoflow-x",
        "x = exoflow_x_plugin",
        exoflow_x_plugin=(
            "from exoflow.plugins import hookimpl\n@hookimpl\ndef exoflow_executors(): return {'x': lambda s: 'made'}\n"
        ),
    )

    manager = PluginManager(blocked=[])

    assert manager.make_executor("x", None) == "made"
    info = next(info for info in manager.plugins() if info.name == "x")
    assert (info.distribution, info.version, info.provides) == ("exoflow-x", "1.2", {"executors": ("x",)})


def test_a_plugin_that_does_not_import_is_an_error_that_names_its_distribution(distribution):
    distribution("exoflow-x", "x = exoflow_x_plugin", exoflow_x_plugin="import no_such_library\n")

    with pytest.raises(PluginConflictError) as caught:
        PluginManager(blocked=[])

    assert str(caught.value) == (
        "plugin 'x' of exoflow-x 1.2 cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'; "
        "repair or uninstall it, or go on without it: EXOFLOW_BLOCK_PLUGINS=x"
    )
    assert isinstance(caught.value, UsageError)


def test_two_distributions_whose_plugins_have_one_name_are_an_error_that_names_both(distribution):
    module = "from exoflow.plugins import hookimpl\n"
    distribution("exoflow-x", "redis = exoflow_x_plugin", exoflow_x_plugin=module)
    distribution("exoflow-y", "redis = exoflow_y_plugin", exoflow_y_plugin=module)

    with pytest.raises(
        PluginConflictError, match=r"two plugins are called 'redis': one of exoflow-\w, one of exoflow-\w"
    ):
        PluginManager(blocked=[])


def test_a_blocked_plugin_is_not_even_imported(distribution, monkeypatch):
    distribution("exoflow-x", "x = exoflow_x_plugin", exoflow_x_plugin="import no_such_library\n")
    monkeypatch.setenv("EXOFLOW_BLOCK_PLUGINS", "y, x")

    info = next(info for info in PluginManager().plugins() if info.name == "x")

    assert info.blocked
    assert "exoflow_x_plugin" not in sys.modules


def test_core_itself_can_be_blocked():
    assert PluginManager(entry_points=[], blocked=["core"]).executors() == {}


def test_a_tolerant_manager_goes_on_without_a_broken_plugin_and_says_why(distribution):
    distribution("exoflow-x", "x = exoflow_x_plugin", exoflow_x_plugin="import no_such_library\n")

    manager = PluginManager(blocked=[], tolerant=True)
    manager.register(plugin(exoflow_executors={"thread": print}), "thief")
    manager.register(plugin(exoflow_codecs=RuntimeError("no licence")), "failing")

    assert "thread" in manager.executors()
    problems = {info.name: info.problem for info in manager.plugins() if info.problem}
    assert "no_such_library" in problems["x"]
    assert "both bring the executor 'thread'" in problems["thief"]
    assert "no licence" in problems["failing"]


def test_loading_every_plugin_imports_nothing_heavy():
    code = """
import sys
from exoflow.plugins.manager import manager
made = manager()
made.plugins(), made.object_stores(), made.executors(), made.codecs(), made.failure_injectors()
made.reference_types(), made.event_sources(), made.observers(), made.cli_commands()
heavy = {'botocore', 'click', 'fsspec', 'gcsfs', 'matplotlib', 'multiprocessing', 'numpy', 'ray', 'rich', 's3fs'}
print(' '.join(sorted(heavy & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_importing_the_mark_imports_no_more_of_the_plugins():
    code = """
import sys
import exoflow
before = set(sys.modules)
from exoflow.plugins import hookimpl
print(' '.join(sorted(m for m in set(sys.modules) - before if m.startswith('exoflow.') and m != 'exoflow.plugins')))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
