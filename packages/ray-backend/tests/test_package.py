from importlib.metadata import entry_points, version
from importlib.resources import files

import exoflow_ray


def test_the_version_is_the_distributions():
    assert exoflow_ray.__version__ == version("exoflow-ray")


def test_it_says_that_it_is_typed():
    assert files(exoflow_ray).joinpath("py.typed").is_file()


def test_it_claims_nothing_while_it_is_empty():
    assert exoflow_ray.__all__ == ["__version__"]
    assert not [entry for entry in entry_points(group="exoflow") if entry.value.startswith("exoflow_ray")]
