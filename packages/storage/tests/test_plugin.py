import pluggy

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
