"""What a key may look like, the same for every store.

The alphabet is the one that object stores, file systems and URLs agree on without escaping, so that a directory and a
bucket have one layout. Whoever makes keys from names people chose (workflow ids) escapes them first.
"""

import re

from exoflow.errors import UsageError

__all__ = ["MAX_KEY_LENGTH", "MAX_PART_LENGTH", "check_key", "check_prefix", "is_part"]

MAX_PART_LENGTH = 255
"""Of one part, between two slashes.

Source:
    NAME_MAX of the common Linux file systems.
"""

MAX_KEY_LENGTH = 900
"""Of a whole key; what remains is for the bucket's own prefix.

Source:
    Amazon S3 User Guide, "Naming Amazon S3 objects": at most 1,024 bytes.
"""

_PART = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]{1,255}"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_PART_ALONE = re.compile(rf"{_PART}\Z")
_PREFIX = re.compile(rf"(?:{_PART}/)*[A-Za-z0-9._~-]{{0,255}}\Z")


def check_key(key: str) -> None:
    """Raise `UsageError` unless *key* is one."""
    if not isinstance(key, str) or len(key) > MAX_KEY_LENGTH or _KEY.match(key) is None:
        raise UsageError(
            f"{key!r} is no key: expected at most {MAX_KEY_LENGTH} characters in parts of 1 to {MAX_PART_LENGTH} of "
            f"A-Z a-z 0-9 . _ ~ -, separated by single slashes, none of them '.' or '..'; escape other characters"
        )


def check_prefix(prefix: str) -> None:
    """Raise `UsageError` unless some key can start with *prefix*."""
    if not isinstance(prefix, str) or len(prefix) > MAX_KEY_LENGTH or _PREFIX.match(prefix) is None:
        raise UsageError(
            f"no key starts with {prefix!r}: expected the beginning of a key, such as 'journals/' or '' for all of them"
        )


def is_part(name: str) -> bool:
    """Whether *name* can stand between two slashes of a key."""
    return _PART_ALONE.match(name) is not None
