"""Existing data is encrypted, encrypted anew and decrypted on ext4 and on f2fs: everything that can
be seen of a tree stays what it was."""

import pytest

import disks
import trees


@pytest.fixture(scope="module")
def machine_disks(folder):
    return {"ext4": disks.make_ext4(folder / "convert-ext4", "encrypt,verity"),
            "f2fs": disks.make_f2fs(folder / "convert-f2fs", "encrypt,extra_attr,verity"),
            "special": disks.make_f2fs(folder / "convert-special",
                                       "encrypt,extra_attr,casefold,compression", ["-C", "utf8"])}


@pytest.fixture
def old(tool):
    return tool.passphrase("old horse")


@pytest.fixture
def new(tool):
    return tool.passphrase("new horse")


@pytest.fixture
def assert_same(machine):
    def check(before, path):
        after = machine.snapshot(path)
        assert after == before, trees.differences(before, after)

    return check


def test_a_tree_stays_what_it_was(volume, strategy, old, new, fresh, machine, tool, assert_same):
    path = volume / fresh
    machine.make_tree(path, "rich")
    before = machine.snapshot(path)
    tool.ok("convert", path, "--new-passphrase-file", old, *strategy)
    assert_same(before, path)
    first = machine.kernel_policy(path)
    tool.ok("reencrypt", path, "--new-passphrase-file", new, *strategy)
    assert_same(before, path)
    assert machine.kernel_policy(path)["key_identifier"] != first["key_identifier"]
    volume.remount()
    assert not tool.opens_with(path, "--passphrase-file", old)
    tool.ok("unlock", path, "--passphrase-file", new)
    assert_same(before, path)
    tool.ok("decrypt", path, *strategy)
    assert_same(before, path)
    assert machine.kernel_policy(path) is None
    assert [name for name in machine.names(str(volume)) if name.startswith(".fscryptctl-")] == []


def test_fs_verity_is_refused_before_anything_begins(volume, strategy, old, fresh, machine, tool):
    path = volume / fresh
    machine.mkdir(path)
    machine.write(f"{path}/ordinary", b"text")
    machine.write(f"{path}/sealed", b"text")
    machine.call("enable_verity", path=f"{path}/sealed")
    before = machine.snapshot(path), machine.tree(str(volume))
    result = tool.run("convert", path, "--new-passphrase-file", old, *strategy)
    assert (result.code, result.json["error"]["reason"]) == (9, "unconvertible"), result
    assert result.json["obstacles"] == [{"path": "sealed", "reason": "verity"}]
    assert (machine.snapshot(path), machine.tree(str(volume))) == before
    assert machine.kernel_policy(path) is None


@pytest.fixture(scope="module")
def special(machine, machine_disks, tool):
    """An f2fs with more features; None on a kernel without them. build-kernel makes one with."""
    if not {"casefold", "compression"} <= set(machine.names("/sys/fs/f2fs/features")):
        return None
    mounted = disks.Volume(machine, "/dev/ubdc", machine_disks["special"])
    tool.set_up(mounted)
    return mounted


def test_names_stay_without_case_and_compressed_files_stay_readable(
        special, strategy, old, new, fresh, machine, tool, assert_same):
    if special is None:
        return
    path = special / fresh
    for directory in (path, f"{path}/folded", f"{path}/compressed"):
        machine.mkdir(directory)
    machine.check("chattr", "+F", f"{path}/folded")
    machine.check("chattr", "+c", f"{path}/compressed")
    for directory in ("folded", "compressed"):
        machine.make_tree(f"{path}/{directory}", "small")
        machine.write(f"{path}/{directory}/Text", b"text", repeat=20_000)
    before = machine.snapshot(path)
    for command in (("convert", path, "--new-passphrase-file", old),
                    ("reencrypt", path, "--new-passphrase-file", new), ("decrypt", path)):
        tool.ok(*command, *strategy)
        assert_same(before, path)
        assert machine.read(f"{path}/folded/tEXT") == b"text" * 20_000
