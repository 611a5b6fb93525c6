import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import exoflow_storage


def test_the_version_is_the_distributions():
    assert exoflow_storage.__version__ == version("exoflow-storage")


def test_it_says_that_it_is_typed():
    assert files(exoflow_storage).joinpath("py.typed").is_file()


def test_loading_the_plugin_imports_no_bucket_library():
    code = "import sys, exoflow_storage.plugin; print(*{'aiobotocore', 'gcsfs', 's3fs'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []
