import pytest

from exoflow.errors import UsageError
from exoflow.stores.keys import MAX_KEY_LENGTH, MAX_PART_LENGTH, check_key, check_prefix, is_part


@pytest.mark.parametrize("key", ["a", "claims/w~2F1/1", "...", "a/.b/..c", "-", "x" * MAX_PART_LENGTH])
def test_a_key_and_all_its_beginnings_are_accepted(key):
    check_key(key)
    for length in range(len(key) + 1):
        check_prefix(key[:length])


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "a/..", "../a", "a\n", "a b", "ä", None, 3, b"a"])
def test_what_is_no_key_is_refused_with_what_was_expected(key):
    with pytest.raises(UsageError, match=r"expected at most 900 characters in parts of 1 to 255"):
        check_key(key)


@pytest.mark.parametrize("prefix", ["/", "a//", "./", "a/../b", "a b", None])
def test_what_begins_no_key_is_no_prefix(prefix):
    with pytest.raises(UsageError, match="no key starts with"):
        check_prefix(prefix)


def test_a_key_fits_into_a_file_name_and_beside_a_buckets_prefix():
    with pytest.raises(UsageError):
        check_key("x" * (MAX_PART_LENGTH + 1))
    check_key("ab/" * 299 + "abc")
    with pytest.raises(UsageError):
        check_key("ab/" * 299 + "abcd")
    assert len("ab/" * 299 + "abc") == MAX_KEY_LENGTH


def test_a_part_is_a_key_without_slashes():
    assert is_part("a.b~c")
    assert not any(is_part(name) for name in ("", ".", "..", "a/b", "+tmp", "a b", "a\n"))
