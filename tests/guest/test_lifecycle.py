"""The life of an encrypted directory on ext4 and on f2fs, checked against kernel and disk."""

import mmap
import os
from dataclasses import dataclass

import pytest

from guest import GuestError

SECRET = b"dear diary, nobody may read this"
OPEN = b"this postcard is for everybody"


@dataclass(frozen=True)
class Way:
    """A secret: the options that make something with it and those that open it."""

    source: str
    making: tuple
    using: tuple


def passphrase_way(tool, text):
    file = tool.passphrase(text)
    return Way("passphrase", ("--new-passphrase-file", file), ("--passphrase-file", file))


@pytest.fixture(params=["passphrase", "raw-key"])
def way(request, tool):
    if request.param == "passphrase":
        return passphrase_way(tool, "correct horse battery")
    file = tool.secret("raw", os.urandom(32))
    return Way("raw-key", ("--new-key-file", file), ("--key-file", file))


@pytest.fixture
def private(volume, way, tool, machine, fresh):
    """An unlocked encrypted directory with a letter in it."""
    path = volume / fresh
    tool.ok("encrypt", path, "--create", "--source", way.source, *way.making)
    machine.write(f"{path}/letter", SECRET)
    return path


def identifier(machine, path):
    return machine.kernel_policy(path)["key_identifier"]


def on_disk(disk, text):
    """Whether the text stands anywhere in the disk's image."""
    with disk.image.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as image:
        return image.find(text) >= 0


def test_setting_up_again_changes_nothing(volume, tool):
    assert tool.ok("setup", volume)["changed"] is False


def test_a_new_directory_is_encrypted_unlocked_and_its_own_owner_s(private, machine, tool):
    policy = machine.kernel_policy(private)
    assert (policy["version"], policy["contents"], policy["filenames"]) == (2, 1, 4)
    assert machine.kernel_key_status(private, policy["key_identifier"]) == "present"
    assert machine.check("stat", "-c", "%a %u", private) == "700 0\n"
    shown = tool.ok("status", private)
    assert shown["encrypted"] and shown["managed"] and shown["unlocked_by_me"]
    assert shown["policy"]["key_identifier"] == policy["key_identifier"]


def test_what_is_written_does_not_reach_the_disk_in_the_clear(private, volume, machine):
    machine.write(volume / "postcard", OPEN)
    assert on_disk(volume.disk, OPEN)
    assert not on_disk(volume.disk, SECRET)
    assert not on_disk(volume.disk, b"letter")


def test_locking_takes_names_and_contents_away(private, machine, tool):
    key = identifier(machine, private)
    tool.ok("lock", private)
    assert machine.kernel_key_status(private, key) == "absent"
    ciphertext_name, = machine.names(private)
    assert ciphertext_name != "letter"
    with pytest.raises(GuestError) as by_its_name:
        machine.read(f"{private}/letter")
    assert by_its_name.value.errno_name == "ENOENT"
    with pytest.raises(GuestError) as by_ciphertext:
        machine.read(f"{private}/{ciphertext_name}")
    assert by_ciphertext.value.errno_name == "ENOKEY"


def test_unlocking_gives_names_and_contents_back(private, way, machine, tool):
    tool.ok("lock", private)
    assert tool.ok("unlock", private, *way.using)["ok"]
    assert machine.names(private) == ["letter"]
    assert machine.read(f"{private}/letter") == SECRET


def test_another_secret_opens_nothing(private, way, machine, tool):
    tool.ok("lock", private)
    wrong = {"passphrase": ("--passphrase-file", tool.passphrase("wrong horse")),
             "raw-key": ("--key-file", tool.secret("wrong", os.urandom(32)))}[way.source]
    assert tool.refused(3, "unlock", private, *wrong)["code"] == "wrong_key"
    assert machine.kernel_key_status(private, identifier(machine, private)) == "absent"


def test_a_file_system_mounted_again_is_locked_and_opens(private, way, volume, machine, tool):
    volume.remount()
    assert tool.ok("status", private)["key_status"] == "absent"
    tool.ok("unlock", private, *way.using)
    assert machine.read(f"{private}/letter") == SECRET


@pytest.mark.parametrize("way", ["passphrase"], indirect=True)
@pytest.mark.parametrize("state", ["locked", "unlocked"])
def test_a_changed_passphrase_opens_and_the_old_one_does_not(private, way, state, machine, tool):
    key = identifier(machine, private)
    new = passphrase_way(tool, "new horse")
    if state == "locked":
        tool.ok("lock", private)
    tool.ok("change-passphrase", private, *way.using, *new.making)
    tool.run("lock", private)
    assert tool.refused(3, "unlock", private, *way.using)["code"] == "wrong_key"
    tool.ok("unlock", private, *new.using)
    assert machine.read(f"{private}/letter") == SECRET
    assert identifier(machine, private) == key
