"""The plugin as a user has it: in a run of pytest of its own."""

import re
from importlib.metadata import entry_points

import pytest

import exoflow
from exoflow.testing import CrashTest, Plan

pytest_plugins = ["pytester"]

SHOP = """
import exoflow
from exoflow.testing import Ledger

ledger = Ledger()

@exoflow.task(rollback=lambda seat: ledger.take_back())
def reserve(seat):
    ledger.note(seat)
    return seat

@exoflow.task(rollback=lambda seat: None)
def reserve_for_ever(seat):
    ledger.note(seat)

@exoflow.task
def charge(seat):
    ledger.note(80)
    return f"seat {seat} for {80}"

def test_an_order_is_paid_once(exoflow_crash):
    report = exoflow_crash(charge.bind(reserve.bind("12A")), effects=ledger)
    print("ran", len(report.scenarios), "scenarios", report.scenarios)
"""
LIE = """
def test_a_seat_is_kept_once(exoflow_crash):
    exoflow_crash(reserve_for_ever.bind("12A"), effects=ledger)
"""


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What a run inside of this process imports, pytester forgets with it: so have it all here before."""
    CrashTest(Plan(choice="all"))(exoflow.task(effects="none")(bytes).bind(40_000))


@pytest.fixture
def shop(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Other plugins that happen to be installed cost seconds for each run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*options, lie=False, settings=""):
        pytester.makepyfile(test_shop=SHOP + (LIE if lie else ""))
        pytester.makeini(f"[pytest]\n{settings}")
        return pytester.runpytest_inprocess(
            "-p", "exoflow.testing.pytest_plugin", "-p", "no:cacheprovider", "-rP", *options
        )

    return run


def scenarios(result):
    (found,) = re.findall(r"ran (\d+) scenarios", result.stdout.str())
    return int(found)


def test_it_is_found_where_core_is_installed():
    (entry,) = entry_points(group="pytest11", name="exoflow")

    assert entry.value == "exoflow.testing.pytest_plugin"
    assert entry.load().exoflow_crash


def test_all_places_are_crashed_when_asked_for_and_some_when_not(shop):
    every, some = shop("--exoflow-crash=all"), shop()

    every.assert_outcomes(passed=1)
    some.assert_outcomes(passed=1)
    assert scenarios(every) > scenarios(some) >= 12
    every.stdout.fnmatch_lines(["exoflow-crash: all, seed 0"])
    some.stdout.no_fnmatch_line("exoflow-crash:*")


def test_a_lie_fails_the_test_and_what_it_prints_runs_that_crash_again(shop):
    first = shop("--exoflow-crash=all", lie=True)

    first.assert_outcomes(passed=1, failed=1)
    first.stdout.fnmatch_lines(
        ["*runs with failures (all) went wrong", "*reserve_for_ever: 12A: expected 1, found 2*", "again: pytest *"]
    )
    (test, option) = re.findall(r"again: pytest '(.*)' (--exoflow-crash='.*')", first.stdout.str())[0]
    again = shop(test, option.replace("'", ""), lie=True)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["1 of 1 runs with failures *", "*reserve_for_ever: 12A: expected 1, found 2*"])


def test_the_choice_may_be_a_setting_and_an_option_goes_first(shop):
    assert scenarios(shop(settings="exoflow_crash = none")) == 0
    assert scenarios(shop("--exoflow-crash=charge.crash", settings="exoflow_crash = none")) == 1


def test_a_seed_that_is_drawn_is_printed_and_kept_and_draws_the_same_again(shop, pytester):
    drawn = shop("--exoflow-crash-seed=random", "--junit-xml=report.xml")
    (seed,) = re.findall(r"exoflow-crash: some, seed (\d+)", drawn.stdout.str())
    assert f'name="exoflow_crash" value="some, seed {seed}"' in (pytester.path / "report.xml").read_text()

    again, other = shop(f"--exoflow-crash-seed={seed}"), shop(f"--exoflow-crash-seed={int(seed) + 1}")

    def printed(result):
        return re.findall(r"scenarios (\(.*\))", result.stdout.str())

    assert printed(again) == printed(drawn) != printed(other)


def test_workers_of_xdist_draw_with_the_seed_that_is_printed(shop, pytester):
    pytest.importorskip("xdist")

    result = shop("-p", "xdist.plugin", "-n1", "--exoflow-crash-seed=random", "--junit-xml=report.xml")

    (seed,) = re.findall(r"exoflow-crash: some, seed (\d+)", result.stdout.str())
    assert f'value="some, seed {seed}"' in (pytester.path / "report.xml").read_text()


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--exoflow-crash=everything", "*TASK.ACTION*or one of some, all, none*"),
        ("--exoflow-crash=charge.kill", "*own process*"),
        ("--exoflow-crash-seed=lucky", "*expected a number, or 'random'*"),
    ],
)
def test_an_option_that_means_nothing_ends_the_run_before_any_test(shop, option, problem):
    result = shop(option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([problem])


def test_who_does_not_use_it_does_not_pay_for_the_engine(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import sys

        def test_nothing_was_imported():
            assert "exoflow.testing.pytest_plugin" in sys.modules
            assert not {"exoflow.testing.crashes", "exoflow.plugins.manager", "cloudpickle"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "exoflow.testing.pytest_plugin").assert_outcomes(passed=1)
