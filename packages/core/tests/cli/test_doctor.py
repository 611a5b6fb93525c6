import json

import pytest

from exoflow.cli.doctor import check_store
from exoflow.errors import UnavailableError
from exoflow.stores.memory import MemoryStore


def failing(checks):
    return [check.name for check in checks if not check.ok]


def test_the_doctor_tells_of_python_the_plugins_and_the_versions(run):
    done = run("doctor", "--storage", "memory://")

    assert done.exit_code == 0, done.stdout
    for name in ("python", "platform", "versions", "plugin core", "storage", "one winner", "create", "append", "locks"):
        assert f" {name} " in done.stdout


def test_the_doctor_speaks_json(run):
    said = json.loads(run("doctor", "--storage", "memory://", "--json").stdout)

    assert said["ok"] is True
    assert {"name", "ok", "detail"} == set(said["checks"][0])


def test_without_a_storage_the_doctor_checks_the_rest(run, monkeypatch):
    monkeypatch.delenv("EXOFLOW_STORAGE")

    done = run("doctor")

    assert done.exit_code == 0
    assert "not checked" in done.stdout


def test_a_storage_nobody_opens_is_a_bad_line_and_a_usage_error(run):
    done = run("doctor", "--storage", "nothing://x")

    assert done.exit_code == 2
    assert "BAD" in done.stdout
    assert "try" in done.stdout
    assert "exoflow plugins" in done.stdout


def test_a_check_leaves_nothing_behind():
    store = MemoryStore()

    checks = list(check_store(store))

    assert failing(checks) == []
    assert list(store.list("")) == []


class Overwriting(MemoryStore):
    """Accepts the condition, and ignores it."""

    def create(self, key, data, *, timeout_s=30.0):
        self.write(key, [data])
        return True


class Forgetful(MemoryStore):
    """Answers listings from a cache."""

    def list(self, prefix):
        return iter(())


class Generous(MemoryStore):
    """Tells nobody that a key is locked."""

    def is_locked(self, key):
        return False


@pytest.mark.parametrize(
    ("store", "names"),
    [
        (Overwriting, ["create if absent", "one winner"]),
        (Forgetful, ["read and list"]),
        (Generous, ["locks"]),
    ],
)
def test_a_store_that_breaks_its_promises_is_found_out(store, names):
    assert failing(check_store(store())) == names


class Plain:
    """A bucket: neither appends nor locks."""

    shared = True
    url = "plain://"

    def __init__(self):
        self._inner = MemoryStore()
        for verb in ("create", "read", "write", "list", "delete", "close"):
            setattr(self, verb, getattr(self._inner, verb))


def test_the_lack_of_appends_and_locks_is_told_and_is_no_fault():
    checks = list(check_store(Plain()))

    assert failing(checks) == []
    assert {check.name: "not available" in check.detail for check in checks}["append"]
    assert {check.name: "not available" in check.detail for check in checks}["locks"]


def test_a_storage_that_does_not_answer_is_a_bad_line_and_says_to_try_later(run, monkeypatch):
    def refuse(self, key, data, *, timeout_s=30.0):
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(MemoryStore, "create", refuse)

    done = run("doctor", "--storage", "memory://")

    assert done.exit_code == 4
    assert "the disk is full" in done.stdout


def test_a_broken_plugin_is_a_bad_line_of_the_doctor_and_of_the_list(run, plugin_command):
    plugin_command(run=lambda: None)

    done = run("doctor", "--storage", "memory://")

    assert done.exit_code == 1
    assert "both bring the command 'run'" in done.stdout
    listed = run("plugins")
    assert listed.exit_code == 0
    assert "both bring the command 'run'" in listed.stdout


def test_plugins_are_listed_with_what_they_bring(run):
    done = run("plugins")

    assert "executors: inline, process, thread" in done.stdout


def test_plugins_are_objects_in_json(run):
    core = json.loads(run("plugins", "--json").stdout)[0]

    assert core["name"] == "core"
    assert core["provides"]["executors"] == ["inline", "process", "thread"]
