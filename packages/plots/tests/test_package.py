from importlib.metadata import entry_points, version
from importlib.resources import files

import exoflow_plots


def test_the_version_is_the_distributions():
    assert exoflow_plots.__version__ == version("exoflow-plots")


def test_it_says_that_it_is_typed():
    assert files(exoflow_plots).joinpath("py.typed").is_file()


def test_it_claims_nothing_while_it_is_empty():
    assert exoflow_plots.__all__ == ["__version__"]
    assert not [entry for entry in entry_points(group="exoflow") if entry.value.startswith("exoflow_plots")]
