"""Looking for a planted bug, seed after seed."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from .planting import Mutation, planted

__all__ = ["check_is_found", "find"]


def find(mutation: Mutation, seeds: range) -> int:
    """Return the first seed that shows the bug by the complaint it should lead to.

    Raises:
        AssertionError: None does. The message says what was complained about instead.
    """
    others: Counter[str] = Counter()
    with planted(*mutation.edits):
        for seed in seeds:
            try:
                mutation.play(seed)
            except AssertionError as error:
                complaint = str(error)
                if re.search(mutation.shows, complaint):
                    return seed
                others[complaint.partition("\n")[0]] += 1
            except Exception as error:  # a mutant may stumble over itself before it does what it is here for
                others[repr(error)] += 1
    raise AssertionError(
        f"nobody finds that {mutation.name} within {len(seeds)} seeds. Either the harness has become blind to this, or "
        f"the product no longer needs what the mutation takes away. Other complaints: {others.most_common(5)}"
    )


def check_is_found(mutation: Mutation, first: int = 0) -> None:
    """Check that the bug is found within the stated number of seeds, and that it is the bug that is found."""
    seed = find(mutation, range(first, first + mutation.within))
    error = _complaint_without_any_bug(mutation.play, seed)
    assert error is None, f"seed {seed} fails without the bug too: {error}"


@cache
def _complaint_without_any_bug(play: Callable[[int], Any], seed: int) -> str | None:
    try:
        play(seed)
    except AssertionError as error:
        return str(error)
    return None
