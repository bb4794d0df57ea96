"""File systems that cannot encrypt: the reason tells what can be done about it."""

import pytest

import disks
from tool import CHEAP_HASHING


@pytest.fixture(scope="module")
def machine_disks(folder):
    return {"ext4": disks.make_ext4(folder / "plain-ext4", features="^encrypt")}


@pytest.fixture(scope="module")
def plain(machine, machine_disks):
    return disks.Volume(machine, "/dev/ubda", machine_disks["ext4"])


@pytest.fixture(scope="module")
def memory(machine):
    machine.mkdir("/mnt/memory")
    machine.mount("tmpfs", "/mnt/memory", "tmpfs")
    return "/mnt/memory"


@pytest.fixture
def new_passphrase(tool):
    return "--new-passphrase-file", tool.passphrase("correct horse battery")


def test_a_disk_without_the_feature_is_not_enabled(plain, tool, new_passphrase, machine):
    machine.mkdir(plain / "private")
    error = tool.refused(6, "encrypt", plain / "private", *new_passphrase)
    assert (error["code"], error["reason"]) == ("unsupported", "not_enabled")
    assert "--enable-encryption" in error["hint"]
    assert machine.tree(plain / "private") == []


def test_setting_up_a_disk_without_the_feature_says_how_to_enable_it(plain, tool):
    error = tool.refused(6, "setup", plain)
    assert error["reason"] == "not_enabled"
    assert "--enable-encryption" in error["hint"]
    shown = tool.ok("status", plain)["filesystem"]
    assert (shown["encryption"], shown["metadata"]) == ("not_enabled", False)


def test_memory_cannot_encrypt_at_all(memory, tool, new_passphrase, machine):
    machine.mkdir(f"{memory}/private")
    error = tool.refused(6, "encrypt", f"{memory}/private", *new_passphrase)
    assert (error["code"], error["reason"]) == ("unsupported", "filesystem")
    assert tool.refused(6, "setup", memory)["reason"] == "filesystem"
    assert machine.tree(memory) == ["private"]
    assert tool.ok("status", memory)["filesystem"]["encryption"] == "unsupported"


def test_the_feature_can_be_enabled_on_a_mounted_disk(plain, tool, new_passphrase, machine):
    """Last: it changes the disk of the tests above."""
    tool.ok("setup", plain, "--enable-encryption", "--yes", *CHEAP_HASHING)
    tool.ok("encrypt", plain / "enabled", "--create", *new_passphrase)
    assert machine.kernel_policy(plain / "enabled")["version"] == 2
