"""`setup --remove` takes the keys' only copies away: never while something still needs them."""

import os
import shutil

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
