import pytest

from exoflow_storage.mounts import file_system_of, is_local

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /srv rw,relatime shared:1 master:2 - nfs4 host:/srv rw
31 30 0:41 / /srv/local\\040disk rw - xfs /dev/vdb rw
32 27 0:42 / /home/me/cloud rw - fuse.sshfs me@host: rw
33 27 0:43 / /twice rw - ext4 /dev/vdc rw
34 27 0:44 / /twice rw - cifs //host/share rw
"""


@pytest.fixture
def mounts(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return str(path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/flows/not/made/yet", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/flows", "nfs4"),
        ("/srv/local disk/flows", "xfs"),
        ("/srvother", "ext4"),
        ("/home/me/cloud/flows", "fuse.sshfs"),
        ("/twice/flows", "cifs"),
    ],
)
def test_the_mount_nearest_above_a_path_tells_its_file_system(mounts, path, kind):
    assert file_system_of(path, mounts) == kind


def test_a_link_is_followed_to_where_the_files_are(mounts, tmp_path):
    (tmp_path / "link").symlink_to("/srv/flows")
    assert file_system_of(str(tmp_path / "link" / "deeper"), mounts) == "nfs4"


def test_where_nothing_tells_nothing_is_known(tmp_path):
    assert file_system_of("/var", str(tmp_path / "absent")) is None
    (tmp_path / "garbled").write_text("what is\nthis\n")
    assert file_system_of("/var", str(tmp_path / "garbled")) is None


@pytest.mark.parametrize(
    ("kind", "local"),
    [("ext4", True), ("xfs", True), ("tmpfs", True), ("overlay", True)]
    + [(kind, False) for kind in ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "virtiofs", "unheard-of", None)],
)
def test_only_what_is_known_to_be_a_disk_of_this_machine_counts_as_one(monkeypatch, kind, local):
    monkeypatch.setattr("exoflow_storage.mounts.file_system_of", lambda path: kind)
    assert is_local("/var/flows") is local
