import os
import subprocess
import sys

import pluggy
import pytest

import exoflow_storage
from exoflow.plugins import hookspecs
from exoflow_storage import LocalFileStore, plugin


def test_the_plugin_opens_folders(tmp_path):
    manager = pluggy.PluginManager("exoflow")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    (openers,) = manager.hook.exoflow_object_stores()
    store = openers["file"](f"file://{tmp_path}")
    assert isinstance(store, LocalFileStore)
    assert store.root == str(tmp_path)


def test_loading_the_plugin_imports_no_store():
    code = "import sys, exoflow_storage.plugin; sys.exit('exoflow_storage.local' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize("name", exoflow_storage.__all__)
def test_every_name_the_package_offers_is_there(name):
    assert getattr(exoflow_storage, name)


def test_a_name_the_package_does_not_offer_is_missing_as_from_any_module():
    with pytest.raises(AttributeError, match="'exoflow_storage' has no attribute 'nothing'"):
        exoflow_storage.nothing  # noqa: B018
