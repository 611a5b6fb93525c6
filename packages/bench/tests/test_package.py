from importlib.metadata import version
from importlib.resources import files

import exoflow_bench


def test_the_version_is_the_distributions():
    assert exoflow_bench.__version__ == version("exoflow-bench")


def test_it_says_that_it_is_typed():
    assert files(exoflow_bench).joinpath("py.typed").is_file()
