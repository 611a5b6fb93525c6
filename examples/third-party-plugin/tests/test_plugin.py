import subprocess
import sys

from exoflow_example import plugin

from exoflow.plugins.manager import PluginManager


def loaded():
    manager = PluginManager(entry_points=[], blocked=[])
    manager.register(plugin, "example")
    return manager


def test_it_brings_a_store_and_an_executor():
    info = loaded().plugins()[-1]

    assert info.provides == {"object_stores": ("sqlite",), "executors": ("tagged",)}


def test_the_store_is_opened_by_its_url(tmp_path):
    store = loaded().open_store(f"sqlite://{tmp_path}/flows.db")

    assert store.create("a", b"")
    store.close()


def test_loading_the_plugin_imports_nothing_it_may_not_need():
    code = """
import sys, exoflow
before = set(sys.modules)
import exoflow_example.plugin
heavy = ("asyncio", "exoflow.api.engine", "exoflow.controller", "exoflow.engine", "exoflow.executors", "exoflow_example.s", "exoflow_example.t", "sqlite3")
print([name for name in set(sys.modules) - before if name.startswith(heavy)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("[]\n", "")
