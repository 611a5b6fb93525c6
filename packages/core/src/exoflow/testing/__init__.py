"""What plugin authors and users of ExoFlow test with: contract suites, stores that fail on purpose, crashes everywhere.

Nothing is imported until it is asked for, and pytest only by the suites and the plugin for it.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exoflow.testing.codecs import CodecContract
    from exoflow.testing.crashes import CrashTest, CrashTestError, Plan, Report, Scenario
    from exoflow.testing.executors import ExecutorContract
    from exoflow.testing.faults import At, Chances, Delay, FaultyStore, LoseAnswer, Refuse, Scheduled, StaleList, Tear
    from exoflow.testing.ledger import Ledger
    from exoflow.testing.stores import ObjectStoreContract
    from exoflow.testing.suites import run_suite

__all__ = [
    "At",
    "Chances",
    "CodecContract",
    "CrashTest",
    "CrashTestError",
    "Delay",
    "ExecutorContract",
    "FaultyStore",
    "Ledger",
    "LoseAnswer",
    "ObjectStoreContract",
    "Plan",
    "Refuse",
    "Report",
    "Scenario",
    "Scheduled",
    "StaleList",
    "Tear",
    "run_suite",
]

_HOMES = {
    "At": "faults",
    "Chances": "faults",
    "CodecContract": "codecs",
    "CrashTest": "crashes",
    "CrashTestError": "crashes",
    "Delay": "faults",
    "ExecutorContract": "executors",
    "FaultyStore": "faults",
    "Ledger": "ledger",
    "LoseAnswer": "faults",
    "ObjectStoreContract": "stores",
    "Plan": "crashes",
    "Refuse": "faults",
    "Report": "crashes",
    "Scenario": "crashes",
    "Scheduled": "faults",
    "StaleList": "faults",
    "Tear": "faults",
    "run_suite": "suites",
}

# Under pytest the asserts of the suites show their values. Without it they are not run, and it is not imported.
if "pytest" in sys.modules:
    sys.modules["pytest"].register_assert_rewrite(
        "exoflow.testing.codecs", "exoflow.testing.executors", "exoflow.testing.stores"
    )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
