import os
import subprocess
import sys

import pytest

import exoflow.testing


@pytest.mark.parametrize("name", exoflow.testing.__all__)
def test_every_name_it_offers_is_there(name):
    assert getattr(exoflow.testing, name).__name__ == name


def test_a_name_it_does_not_offer_is_missing_as_from_any_module():
    with pytest.raises(AttributeError, match=r"module 'exoflow.testing' has no attribute 'nothing'"):
        exoflow.testing.nothing  # noqa: B018


def test_a_faulty_store_is_had_without_importing_pytest():
    code = "import sys; from exoflow.testing import FaultyStore; sys.exit('pytest' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
