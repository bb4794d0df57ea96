"""`setup --remove` takes the keys' only copies away: never while something still needs them."""

import os
import shutil
import subprocess

import pytest

REFUSED = 9


@pytest.fixture
def private(filesystem, set_up, run, key_file):
    set_up(filesystem)
    directory = filesystem / "private"
    run.ok(["encrypt", directory, "--create", "--new-key-file", key_file()])
    (directory / "letter").write_text("dear diary")
    return directory


@pytest.fixture
def remove(filesystem, run):
    return lambda: run(["setup", filesystem, "--remove", "--yes", "--json"])


def test_metadata_of_an_encrypted_directory_stays(private, remove):
    assert remove().rc == REFUSED


@pytest.mark.parametrize("locked", [False, True], ids=["unlocked", "locked"])
def test_metadata_of_a_directory_that_was_moved_stays(filesystem, private, remove, run, locked):
    moved = filesystem / "elsewhere/deep/below"
    moved.parent.mkdir(parents=True)
    os.rename(private, moved)
    if locked:
        run.ok(["lock", moved])
    result = remove()
    assert result.rc == REFUSED, result
    assert run.ok(["status", moved, "--json"])["managed"]


def test_metadata_of_a_directory_that_is_gone_goes(filesystem, private, remove):
    shutil.rmtree(private)
    assert remove().rc == 0
    assert not (filesystem / ".fscryptctl").exists()


def test_whoever_may_not_remove_it_changes_nothing(filesystem, set_up, run, alice, secrets):
    set_up(filesystem, "--all-users")
    home = filesystem / "home"
    home.mkdir(mode=0o711)
    (home / "alice").mkdir()
    os.chown(home / "alice", alice.uid, alice.gid)
    key = secrets.file("key", os.urandom(32), alice)
    run.ok(["encrypt", home / "alice/d", "--create", "--key-file", key], user=alice)
    assert run(["setup", filesystem, "--remove", "--yes", "--json"], user=alice).rc == 7
    run.ok(["unlock", home / "alice/d", "--key-file", key, "--dry-run"], user=alice)


def test_a_directory_below_another_mount_counts(filesystem, set_up, run, key_file):
    set_up(filesystem)
    key = key_file()
    (filesystem / "a").mkdir()
    run.ok(["encrypt", filesystem / "a/d", "--create", "--key-file", key])
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", filesystem / "a"], check=True)
    result = run(["setup", filesystem, "--remove", "--yes", "--json"])
    subprocess.run(["umount", filesystem / "a"], check=True)
    assert result.rc == REFUSED
    run.ok(["unlock", filesystem / "a/d", "--key-file", key, "--dry-run"])


def test_a_refusal_leaves_everything_as_it_was(filesystem, private, remove, run, alice, secrets):
    run.ok(["setup", filesystem, "--all-users"])
    assert remove().rc == REFUSED
    assert os.stat(filesystem / ".fscryptctl/users").st_mode & 0o7777 == 0o1777
