import errno
import fcntl
import functools
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import exoflow_storage.appender
import exoflow_storage.local
from exoflow.errors import (
    ObjectNotFoundError,
    UnavailableError,
    UnknownOptionError,
    UnknownOutcomeError,
    UnsuitableStoreError,
    UsageError,
)
from exoflow.stores.contract import SupportsAppend, SupportsLocks
from exoflow.testing.stores import ObjectStoreContract
from exoflow_storage import FileStore, LocalFileStore, open_file_store


class TestLocalFileStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = LocalFileStore(tmp_path / "flows")
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, store):
        return functools.partial(LocalFileStore, store.root)


class TestFileStore(ObjectStoreContract):
    race_rounds = 20

    @pytest.fixture
    def store(self, tmp_path):
        return FileStore(tmp_path / "flows")

    @pytest.fixture
    def reopen(self, store):
        return functools.partial(FileStore, store.root)


@pytest.fixture
def store(tmp_path):
    store = open_file_store(f"file://{tmp_path}/flows")
    yield store
    store.close()


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir())


def failing_with(code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


def run(code, *arguments):
    """Run *code* in another process until it ends, however it ends."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- opening ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///var/flows", "/var/flows"),
        ("file://localhost/var/flows", "/var/flows"),
        ("file:///var/my%20flows%3F", "/var/my flows?"),
        ("file://./flows", "{here}/flows"),
        ("file://../flows", "{above}/flows"),
        ("file://.", "{here}"),
        ("/var/flows", "/var/flows"),
        ("flows", "{here}/flows"),
        ("./100%25", "{here}/100%25"),
    ],
)
def test_a_url_names_a_folder(url, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_file_store(url)
    assert store.root == root.format(here=tmp_path, above=tmp_path.parent)
    assert open_file_store(store.url).root == store.root


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file://flows", "names a host 'flows': expected file:///absolute, or file://./flows"),
        ("file://~/flows", r"~ is not expanded: write \$HOME"),
        ("file:/var/flows", "too few slashes"),
        ("file:///var/flows?x=1", "%3F"),
        ("file:///var/flows#1", "%23"),
        ("s3://bucket/flows", "is no folder"),
        ("", "names no folder"),
        ("file:///", "names no folder"),
        ("file:///var/%00", "names no folder"),
    ],
)
def test_a_url_that_names_no_folder_is_refused_with_one_that_would(url, advice):
    with pytest.raises(UsageError, match=advice):
        open_file_store(url)


def test_options_are_refused_by_name():
    with pytest.raises(UnknownOptionError, match="colour"):
        open_file_store("file:///var/flows", colour="red")


def test_a_relative_url_means_the_folder_it_was_opened_in(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_file_store("file://./flows")
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.create("key", b"")
    assert files_under(tmp_path) == ["flows/key"]


def test_looking_makes_no_folder(store, tmp_path):
    assert list(store.list("")) == []
    with pytest.raises(ObjectNotFoundError):
        store.read("key")
    store.delete("key")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_of_this_machine_has_appends_and_locks_and_a_network_has_not(tmp_path, monkeypatch):
    assert isinstance(open_file_store(f"file://{tmp_path}"), LocalFileStore)
    monkeypatch.setattr(exoflow_storage.local, "is_local", lambda root: False)
    remote = open_file_store(f"file://{tmp_path}")
    assert not isinstance(remote, SupportsAppend | SupportsLocks)
    assert remote.create("key", b"")


def test_what_dead_processes_left_half_written_is_removed_after_a_day(store):
    store.create("key", b"")
    temporary = Path(store.root) / "+tmp"
    for name in ("old", "new"):
        (temporary / name).write_bytes(b"half")
    written_s = (temporary / "new").stat().st_mtime
    os.utime(temporary / "old", (written_s - 100_000, written_s - 100_000))

    open_file_store(store.url)
    assert files_under(temporary) == ["new"]
    store.remove_leftovers(now_s=written_s + 86_000)
    assert files_under(temporary) == ["new"]
    store.remove_leftovers(now_s=written_s + 87_000)
    assert files_under(temporary) == []
    assert list(store.list("")) == ["key"]


def test_files_that_are_no_objects_are_passed_over(store):
    store.create("folder/key", b"")
    root = Path(store.root)
    for name in ("+tmp/123-abc", "my notes.txt", "folder/käse"):
        (root / name).write_bytes(b"")
    (root / "lost+found").mkdir()
    (root / "lost+found/key").write_bytes(b"")
    (root / "empty").mkdir()
    assert list(store.list("")) == ["folder/key"]


def test_a_folder_left_empty_goes_with_its_last_object(store):
    store.create("inbox/w/event/1", b"")
    store.create("inbox/w/event/2", b"")
    store.delete("inbox/w/event/1")
    assert (Path(store.root) / "inbox/w/event").is_dir()
    store.delete("inbox/w/event/2")
    assert [path.name for path in (Path(store.root) / "inbox").iterdir()] == []


def test_a_store_whose_folder_was_removed_makes_it_again(store, tmp_path):
    store.create("a/b/c", b"")
    (tmp_path / "flows").rename(tmp_path / "away")
    assert list(store.list("")) == []
    assert store.create("a/b/c", b"again")
    assert store.read("a/b/c") == b"again"


# --- durable, in this order ---------------------------------------------------------------------------------------------


@pytest.fixture
def system_calls(store, monkeypatch):
    """What is synced and named, as paths relative to the root, in order."""
    calls = []

    def name(fd):
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.parent.name == "+tmp":
            return "temporary"
        return str(path.relative_to(store.root)) if path.is_relative_to(store.root) else "above"

    def recorded(verb, function, describe):
        def call(*arguments, **options):
            answer = function(*arguments, **options)
            calls.append(f"{verb} {describe(*arguments)}")
            return answer

        return call

    def of_link(_, target):
        return str(Path(target).relative_to(store.root))

    sync = recorded("sync", os.fsync, name)
    monkeypatch.setattr(os, "fsync", sync)
    for module in (exoflow_storage.local, exoflow_storage.appender, exoflow_storage.files):
        monkeypatch.setattr(module, "sync_data", sync)
    monkeypatch.setattr(os, "link", recorded("link", os.link, of_link))
    monkeypatch.setattr(os, "replace", recorded("rename", os.replace, of_link))
    return calls


def test_an_object_is_durable_before_it_has_a_name_and_its_name_before_it_counts(store, system_calls):
    store.create("claims/w/1", b"")
    root_made, rest = system_calls[:3], system_calls[3:]
    assert root_made == ["sync above", "sync .", "sync temporary"]
    assert rest == ["sync .", "sync claims", "link claims/w/1", "sync claims/w", "sync claims", "sync .", "sync above"]
    del system_calls[:]
    store.create("claims/w/2", b"")
    assert system_calls == ["sync temporary", "link claims/w/2", "sync claims/w", "sync claims"]
    del system_calls[:]
    store.write("blobs/w/a", [b"1"])
    assert system_calls[0] == "sync temporary"
    assert system_calls[-4:] == ["rename blobs/w/a", "sync blobs/w", "sync blobs", "sync ."]


def test_the_name_of_an_object_of_another_process_is_durable_before_it_is_believed(store, system_calls):
    FileStore(store.root).create("claims/w/1", b"theirs")
    del system_calls[:]
    assert not store.create("claims/w/1", b"mine")
    assert system_calls[:3] == ["sync claims/w", "sync claims", "sync ."]


def test_an_empty_log_has_a_durable_name_and_each_append_is_synced(store, system_calls):
    log = store.appender("journals/j/1")
    assert system_calls[-5:-1] == ["link journals/j/1", "sync journals/j", "sync journals", "sync ."]
    del system_calls[:]
    log.append(b"1")
    log.append(b"2")
    assert system_calls == ["sync temporary"] * 2  # what the kernel calls it by: its first name


def test_what_is_read_of_a_log_is_durable_and_an_object_is_read_without_a_sync(store, system_calls):
    store.appender("log").append(b"1")
    store.create("created", b"1")
    store.write("written", [b"1"])
    del system_calls[:]
    for key in ("created", "written"):
        store.read(key)
    assert system_calls == []
    assert LocalFileStore(store.root).read("log") == b"1"
    assert system_calls == ["sync log"]


def test_objects_cannot_be_changed_by_mistake(store):
    store.create("created", b"")
    store.write("written", [b""])
    store.appender("log")
    modes = {name: stat.S_IMODE((Path(store.root) / name).stat().st_mode) for name in ("created", "written", "log")}
    assert modes["created"] == modes["written"]
    assert not modes["created"] & 0o222
    assert modes["log"] & 0o200


# --- when the disk says no ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB, which can be filled and made read-only."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk to fill")
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", point], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted to fill: {mounted.stderr.decode().strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


FULL = r"No space left on device \(ENOSPC\); free some space, then resume"


def test_a_full_disk_refuses_objects_and_keeps_those_it_has(small_disk):
    store = open_file_store(f"file://{small_disk}/flows")
    store.create("kept", b"kept")
    for make in (
        lambda: store.create("new", bytes(2 << 20)),
        lambda: store.write("new", (bytes(100_000) for _ in range(20))),
    ):
        with pytest.raises(UnavailableError, match=FULL) as caught:
            make()
        assert str(small_disk / "flows/new") in str(caught.value)
        assert not isinstance(caught.value, UnknownOutcomeError)
        assert files_under(small_disk) == ["flows/kept"]
    assert store.create("new", bytes(500_000))
    assert store.read("kept") == b"kept"


def test_an_append_to_a_full_disk_ends_the_log_even_when_there_is_room_again(small_disk):
    store = open_file_store(f"file://{small_disk}/flows")
    log = store.appender("log")
    log.append(b"kept" * 1000)
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    with pytest.raises(UnavailableError, match=FULL):
        log.append(b"x" * 200_000)
    (small_disk / "ballast").unlink()
    for _ in range(2):
        with pytest.raises(
            UnavailableError, match=r"an earlier append to .* failed; go on in an object of another key"
        ):
            log.append(b"small")
    content = bytes(store.read("log"))
    assert content.startswith(b"kept" * 1000)
    assert set(content[4000:]) <= {ord("x")}
    store.appender("another").append(b"x" * 200_000)


def test_a_read_only_disk_can_be_read_and_refuses_the_rest(small_disk):
    store = open_file_store(f"file://{small_disk}/flows")
    store.create("folder/key", b"kept")
    log = store.appender("log")
    log.append(b"kept too")
    log.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    store = open_file_store(store.url)
    assert list(store.list("")) == ["folder/key", "log"]
    assert (store.read("folder/key"), store.read("log")) == (b"kept", b"kept too")
    assert not store.is_locked("folder/key")
    assert not store.create("folder/key", b"other")
    for make in (
        lambda: store.create("folder/new", b""),
        lambda: store.write("folder/new", [b""]),
        lambda: store.appender("folder/new"),
        lambda: store.delete("folder/key"),
    ):
        with pytest.raises(UnavailableError, match=r"Read-only file system \(EROFS\); make the file system writable"):
            make()
    assert list(store.list("")) == ["folder/key", "log"]
    elsewhere = open_file_store(f"file://{small_disk}/new/flows")
    with pytest.raises(UnavailableError, match=str(small_disk / "new/flows")):
        elsewhere.create("key", b"")


def test_an_append_to_a_log_that_was_removed_is_not_believed(store, tmp_path):
    log = store.appender("journals/j/1")
    log.append(b"1")
    (tmp_path / "flows").rename(tmp_path / "away")
    log.append(b"moved, and still there")
    shutil.rmtree(tmp_path / "away")
    with pytest.raises(UnavailableError, match="was removed"):
        log.append(b"2")
    with pytest.raises(UnavailableError, match="an earlier append"):
        log.append(b"3")


def test_a_folder_in_which_nothing_can_be_made_is_an_error_and_no_endless_loop():
    store = open_file_store("file:///proc/exoflow")
    with pytest.raises(UnavailableError, match="/proc/exoflow"):
        store.create("a", b"")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_sync_ends_a_log(store, monkeypatch, code):
    log = store.appender("log")
    with monkeypatch.context() as broken:
        broken.setattr(exoflow_storage.appender, "sync_data", failing_with(code))
        with pytest.raises(UnavailableError, match=errno.errorcode[code]):
            log.append(b"1")
    with pytest.raises(UnavailableError, match="an earlier append"):
        log.append(b"2")


def test_an_append_that_was_interrupted_ends_a_log(store, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    log = store.appender("log")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(exoflow_storage.appender, "sync_data", interrupt)
        with pytest.raises(KeyboardInterrupt):
            log.append(b"1")
    with pytest.raises(UnavailableError, match="an earlier append"):
        log.append(b"2")


def test_a_write_that_the_system_cuts_short_is_continued(store, monkeypatch):
    log = store.appender("log")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, memoryview(data)[:7]))
    log.append(bytes(range(100)))
    store.create("key", bytes(range(100)))
    assert store.read("log") == store.read("key") == bytes(range(100))


def test_an_object_that_cannot_be_synced_is_not_created(store, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(exoflow_storage.local, "sync_data", failing_with(errno.EIO))
        for make in (lambda: store.create("key", b""), lambda: store.write("key", [b""])):
            with pytest.raises(UnavailableError, match="check the disk") as caught:
                make()
            assert not isinstance(caught.value, UnknownOutcomeError)
    assert files_under(store.root) == []


def test_an_object_whose_name_cannot_be_synced_may_exist_or_not(store, monkeypatch):
    store.create("folder/first", b"")
    with monkeypatch.context() as broken:
        broken.setattr(exoflow_storage.local, "sync_folder", failing_with(errno.EIO))
        for make in (lambda: store.create("folder/a", b""), lambda: store.appender("folder/b")):
            with pytest.raises(UnknownOutcomeError, match="read it back"):
                make()
        with pytest.raises(UnavailableError):
            store.write("folder/c", [b""])
        with pytest.raises(UnavailableError, match="cannot create") as caught:
            store.create("folder/first", b"")
        assert not isinstance(caught.value, UnknownOutcomeError)
    assert files_under(f"{store.root}/+tmp") == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_is_unsuitable(store, monkeypatch, code):
    monkeypatch.setattr(os, "link", failing_with(code))
    for make in (lambda: store.create("key", b""), lambda: store.appender("key")):
        with pytest.raises(UnsuitableStoreError, match="makes no hard links"):
            make()
    assert files_under(store.root) == []


def test_a_temporary_file_that_somebody_removed_is_not_waited_for(store, monkeypatch):
    store.create("first", b"")
    link = os.link

    def link_too_late(temporary, path):
        Path(temporary).unlink()
        link(temporary, path)

    monkeypatch.setattr(os, "link", link_too_late)
    with pytest.raises(UnavailableError, match="No such file or directory"):
        store.create("key", b"")
    assert list(store.list("")) == ["first"]


def test_a_file_in_place_of_the_folder_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for root in ("file", "file/beneath", "dangling"):
        store = open_file_store(f"file://{tmp_path}/{root}")
        with pytest.raises(UsageError, match="a file lies where a folder was expected"):
            store.create("key", b"")
        assert list(store.list("")) == []


def test_a_folder_whose_path_is_too_long_is_a_mistake_of_the_user(tmp_path):
    store = open_file_store(f"file://{tmp_path}/" + "x" * 300)
    with pytest.raises(UsageError, match="choose a folder with a shorter path"):
        store.create("key", b"")


# --- when a process dies ------------------------------------------------------------------------------------------------

DIES = """
import os, signal, sys
import exoflow_storage.files, exoflow_storage.local
from exoflow_storage import LocalFileStore

root, call, moment = sys.argv[1:]
store = LocalFileStore(root)
store.create("folder/before", b"x")

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    def run_and_die(*arguments):
        function(*arguments)
        die()
    return run_and_die

match moment:
    case "half written":
        write = os.write
        os.write = lambda fd, data: die(write(fd, data[: len(data) // 2]))
    case "not yet synced":
        exoflow_storage.local.sync_data = die
    case "not yet named":
        os.link = os.replace = die
    case "just named":
        os.link, os.replace = after(os.link), after(os.replace)
    case "name not yet synced":
        exoflow_storage.local.sync_folder = die

match call:
    case "create":
        store.create("folder/key", b"whole" * 10_000)
    case "write":
        store.write("folder/key", [b"whole" * 5_000] * 2)
    case "appender":
        store.appender("folder/key").append(b"never reached")
"""


@pytest.mark.parametrize(
    ("call", "moment"),
    [
        (call, moment)
        for call in ("create", "write", "appender")
        for moment in ("half written", "not yet synced", "not yet named", "just named", "name not yet synced")
        if call != "appender" or moment not in ("half written", "not yet synced")  # an empty log is neither
    ],
)
def test_a_process_killed_at_any_moment_leaves_a_key_free_or_whole(tmp_path, call, moment):
    assert run(DIES, tmp_path, call, moment).returncode == -signal.SIGKILL

    store = LocalFileStore(tmp_path)
    whole = b"" if call == "appender" else b"whole" * 10_000
    if moment in ("just named", "name not yet synced"):
        assert list(store.list("")) == ["folder/before", "folder/key"]
        assert store.read("folder/key") == whole
        assert not store.create("folder/key", b"next")
    else:
        assert list(store.list("")) == ["folder/before"]
        assert store.create("folder/key", b"next")
    store.delete("folder/key")
    store.remove_leftovers(now_s=4e9)
    assert files_under(tmp_path) == ["folder/before"]


CREATES = """
import itertools, sys
from exoflow_storage import LocalFileStore

store = LocalFileStore(sys.argv[1])
for number in itertools.count():
    assert store.create(f"keys/{number:06}", f"{number:06}".encode() * 30_000)
    print(number, flush=True)
"""


def test_a_process_killed_while_it_creates_leaves_whole_objects_only(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CREATES, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
    ) as process:
        for _ in range(20):
            last = int(process.stdout.readline())
        process.kill()
        last = max([last, *map(int, process.stdout.read().split())])
    store = LocalFileStore(tmp_path)
    keys = list(store.list(""))
    assert keys == [f"keys/{number:06}" for number in range(len(keys))]
    assert len(keys) > last, "what was reported is gone"
    for key in keys:
        assert store.read(key) == key.removeprefix("keys/").encode() * 30_000


FORKS = """
import os, sys
from exoflow.errors import UsageError
from exoflow_storage import LocalFileStore

store = LocalFileStore(sys.argv[1])
log = store.appender("log")
lock = store.lock("log")
log.append(b"parent")
child = os.fork()
if not child:
    try:
        log.append(b"child")
    except UsageError:
        lock.release()
        log.close()
        assert store.is_locked("log")
        assert store.lock("log") is None
        assert store.create("by-child", b"")
        os._exit(0)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
log.append(b", parent")
assert store.is_locked("log")
assert bytes(store.read("log")) == b"parent, parent"
"""


def test_a_forked_child_has_neither_its_parents_logs_nor_its_locks(tmp_path):
    ended = run(FORKS, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_lock_outlives_the_object_that_stands_for_it(store):
    store.create("key", b"")
    store.lock("key")  # not kept: the store does
    assert store.is_locked("key")
    store.close()
    assert not LocalFileStore(store.root).is_locked("key")


def test_a_released_lock_is_free_even_while_a_process_being_started_has_a_copy_of_its_file(store):
    store.create("key", b"")
    lock = store.lock("key")
    copy = os.dup(lock.fd)
    try:
        lock.release()
        assert not store.is_locked("key")
        store.lock("key").release()
    finally:
        os.close(copy)


def test_an_object_deleted_while_it_is_being_locked_is_not_there(store, monkeypatch):
    def flock_too_late(fd, operation):
        store.delete("key")
        flock(fd, operation)

    store.create("key", b"")
    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    with pytest.raises(ObjectNotFoundError):
        store.lock("key")


# --- large values -------------------------------------------------------------------------------------------------------


def test_a_large_answer_is_aligned_and_the_readers_to_change(store):
    store.write("blob", [bytes(1 << 20)])
    answer = store.read("blob", start=3)
    assert isinstance(answer, memoryview)
    assert not answer.readonly
    assert len(answer) == (1 << 20) - 3
    answer[0] = 1
    assert store.read("blob", start=3, end=4) == b"\0"


def test_one_chunk_is_written_in_steps_so_that_the_disk_begins_early(store, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, length, advice: asked.append((offset, length)))
    store.write("blob", [memoryview(bytes(20 << 20))])
    assert asked == [(0, 8 << 20), (8 << 20, 8 << 20)]
    assert memoryview(store.read("blob")).nbytes == 20 << 20
