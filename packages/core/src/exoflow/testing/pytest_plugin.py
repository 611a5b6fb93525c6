"""The pytest plugin: a fixture that crashes a workflow wherever it can crash, and the options that say where.

::

    def test_an_order_is_paid_once(exoflow_crash):
        exoflow_crash(order, effects=ledger)

``--exoflow-crash`` chooses the places for all tests that use it: ``some``, ``all``, ``none``, or the text of a failure as a
failing test prints it. What is not asked for is not imported.
"""

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from exoflow import Node, Task
    from exoflow.testing.crashes import Plan, Report
    from exoflow.testing.ledger import Ledger

__all__ = ["exoflow_crash"]

_CHOICE = "--exoflow-crash"
_SEED = "--exoflow-crash-seed"
_WORKERS_SEED = "exoflow_crash_seed"
_seed = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and settings of the same names for the configuration file."""
    group = parser.getgroup("exoflow")
    group.addoption(
        _CHOICE,
        metavar="some|all|none|FAILURE",
        help="Where tests with the fixture exoflow_crash crash their workflows: some places (unless told), all, none, "
        "or one failure such as 'charge.crash@after_record'.",
    )
    group.addoption(
        _SEED,
        metavar="N|random",
        help="What 'some' places are drawn from: 0 unless told; 'random' draws and prints one.",
    )
    parser.addini("exoflow_crash", f"What {_CHOICE} is unless it is given.", default="some")
    parser.addini("exoflow_crash_seed", f"What {_SEED} is unless it is given.", default="0")


def pytest_configure(config: pytest.Config) -> None:
    """Settle the seed, once for all workers of pytest-xdist, and refuse what could not be run."""
    # A worker reads the same words as its controller, and "random" is to be drawn by one of them.
    given = getattr(config, "workerinput", {}).get(_WORKERS_SEED)
    chosen = str(given or config.option.exoflow_crash_seed or config.getini("exoflow_crash_seed"))
    if chosen == "random":
        chosen = str(random.SystemRandom().getrandbits(32))
    if not chosen.isdecimal():
        raise pytest.UsageError(f"{_SEED}={chosen}: expected a number, or 'random'")
    config.stash[_seed] = int(chosen)
    if _choice(config) not in ("some", "all", "none"):
        from exoflow.errors import UsageError

        try:
            plan_of(config)
        except UsageError as error:
            raise pytest.UsageError(f"{_CHOICE}: {error}; or one of some, all, none") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist the seed."""
    node.workerinput[_WORKERS_SEED] = str(node.config.stash[_seed])


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say where workflows crash, if it was said: without the seed a failing run could not be had again."""
    if config.option.exoflow_crash is None and config.option.exoflow_crash_seed is None:
        return None
    return f"exoflow-crash: {_choice(config)}, seed {config.stash[_seed]}"


def _choice(config: pytest.Config) -> str:
    return str(config.option.exoflow_crash or config.getini("exoflow_crash"))


def plan_of(config: pytest.Config) -> "Plan":
    """Return which scenarios the options ask for."""
    from exoflow.testing.crashes import Plan

    return Plan(choice=_choice(config), seed=config.stash[_seed])


class PytestCrashTest:
    """A `CrashTest` that follows the options, and fails like a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __call__(
        self,
        workflow: "Node | Task[..., Any] | Callable[[], Node]",
        *,
        effects: "Ledger | Callable[[], Any] | None" = None,
        reset: Callable[[], object] | None = None,
        check: Callable[[Any], object] | None = None,
        inputs: Mapping[str, Any] | None = None,
        storage: str = "memory://",
    ) -> "Report":
        """See `CrashTest`."""
        __tracebackhide__ = True
        from exoflow.testing.crashes import CrashTest, CrashTestError

        plan, test = plan_of(self._request.config), self._request.node
        # Kept in JUnit's XML with the test: what was drawn can be drawn again.
        test.user_properties.append(("exoflow_crash", f"{plan.choice}, seed {plan.seed}"))
        failure: CrashTestError | None = None
        try:
            return CrashTest(plan, storage=storage)(workflow, effects=effects, reset=reset, check=check, inputs=inputs)
        except CrashTestError as error:
            failure = error
        again = f"again: pytest {test.nodeid!r} {_CHOICE}={str(failure.scenario)!r}"
        pytest.fail(f"{failure}\n{again}", pytrace=False)


@pytest.fixture
def exoflow_crash(request: pytest.FixtureRequest) -> PytestCrashTest:
    """Crash a workflow wherever it can crash, and compare what comes of it: see `exoflow.testing.CrashTest`."""
    return PytestCrashTest(request)
