import errno
import pickle

import pytest

from exoflow.errors import UnavailableError, UsageError
from exoflow_storage.translate import translate, unknown_outcome

WAIT = ["EACCES", "EDQUOT", "EIO", "EMFILE", "ENOLCK", "ENOSPC", "EROFS", "ESTALE"]
CHANGE = ["EISDIR", "ELOOP", "ENAMETOOLONG", "ENOTDIR", "EXDEV"]


@pytest.mark.parametrize("name", sorted(errno.errorcode.values()))
def test_every_error_of_the_system_says_what_failed_where_and_what_to_do(name):
    error = translate(OSError(getattr(errno, name), "ignored"), "append to", "/flows/log")
    assert isinstance(error, UnavailableError | UsageError)
    assert str(error).startswith("cannot append to /flows/log: ")
    assert "; " in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("name", WAIT)
def test_what_passes_or_can_be_mended_is_worth_waiting_for(name):
    error = translate(OSError(getattr(errno, name), ""), "create", "/flows/key")
    assert type(error) is UnavailableError
    assert f"({name})" in str(error)
    assert "then resume" in str(error)


@pytest.mark.parametrize("name", CHANGE)
def test_what_never_passes_is_the_users_to_change(name):
    error = translate(OSError(getattr(errno, name), ""), "create", "/flows/key")
    assert type(error) is UsageError
    assert f"({name})" in str(error)


def test_an_error_without_a_number_keeps_its_words():
    assert "out of luck" in str(translate(OSError("out of luck"), "read", "/flows/key"))


def test_an_unknown_outcome_says_to_read_back():
    message = str(unknown_outcome(OSError(errno.EIO, ""), "/flows/key"))
    assert message.startswith("/flows/key was made")
    assert message.endswith("read it back")
