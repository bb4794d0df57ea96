"""Records that were damaged, by accident or by the user who owns them: every command says so within
seconds, changes nothing, and goes on with all other records."""

import os
import re
import shutil
import socket
import stat
from typing import NamedTuple

import pytest

import harness
import kernel
from faults import check_each
from interruptible import DOCUMENTED

PATIENCE_S = 5
ONE_GIB = 1 << 30
# What anybody may rename without a key: it labels and orders attempts, and decides nothing.
LABELS = (b"name:", b"created:", b'  - "')
# What only the holder of the secret can check.
SEALED = (b"    kdf_salt:", b"    salt:", b"    ciphertext:", b"    mac:", b"    generation:")


class Vault:
    """A directory of alice, its two records, and a second directory whose records stay sound."""

    def __init__(self, run, disk, owner, file, other_file):
        self.run, self.disk, self.owner = run, disk, owner
        self.directory, self.sound = disk / "private", disk / "sound"
        self.secret = ["--passphrase-file", file]
        self.other_secret = ["--passphrase-file", other_file]
        for directory, secret in ((self.directory, file), (self.sound, other_file)):
            run.ok(["encrypt", directory, "--create", "--user", owner.name,
                    "--new-passphrase-file", secret])
            run.ok(["lock", directory])
        self.new_secret = ["--new-passphrase-file", other_file]
        self.identifier = kernel.get_policy(self.directory).key_identifier
        records = disk / f".fscryptctl/users/{owner.uid}"
        status = run.ok(["status", self.directory, "--json"])
        self.policy = records / f"policies/{self.identifier}.yaml"
        self.protector = records / f"protectors/{status['protectors'][0]['id']}.yaml"
        self.records = records

    def write(self, record, content):
        """In place, so that owner and mode stay."""
        record.write_bytes(content)

    def seen(self):
        """Everything about the records that a command could change."""
        found = {}
        for path in sorted(self.disk.mountpoint.joinpath(".fscryptctl").rglob("*")):
            info = os.lstat(path)
            small_file = stat.S_ISREG(info.st_mode) and info.st_size < 1 << 20
            found[path] = (info.st_ino, info.st_mode, info.st_uid, info.st_nlink, info.st_mtime_ns,
                           path.read_bytes() if small_file else None)
        return found

    def ask(self, *args):
        return self.run([*args, "--json"], timeout=PATIENCE_S)

    def commands(self):
        return {
            "status": ["status", self.directory],
            "status of the disk": ["status", self.disk],
            "list": ["list"],
            "unlock": ["unlock", "--dry-run", self.directory, *self.secret],
            "change": ["change-passphrase", self.directory, *self.secret, *self.new_secret],
        }

    def assert_named_damaged(self, result, record):
        (found,) = result.json()["damaged"]
        assert record.match(f"*/{found['file']}") and found["uid"] == self.owner.uid, found

    def assert_others_go_on(self, record):
        """The listings say which record is damaged and show the rest; the rest opens."""
        for command in ("list", "status of the disk"):
            listing = self.ask(*self.commands()[command])
            assert listing.rc == 8 and str(self.sound) in listing.out, listing
            self.assert_named_damaged(listing, record)
        assert self.ask("status", self.sound).rc == 0
        assert self.ask("unlock", "--dry-run", self.sound, *self.other_secret).rc == 0


@pytest.fixture
def vault(filesystem, set_up, run, passphrase_file, alice):
    set_up(filesystem)
    return Vault(run, filesystem, alice, passphrase_file("correct horse"),
                 passphrase_file("battery staple", name="other"))


@pytest.fixture(params=["policy", "protector"])
def record(vault, request):
    return getattr(vault, request.param)


class Damage(NamedTuple):
    """A record with one byte damaged, in the line that was `line`."""
    position: int
    way: str
    line: bytes
    content: bytes

    def __str__(self):
        return f"byte {self.position} {self.way} in {self.line}"


WAYS = {
    "flipped": lambda byte: bytes([byte ^ 1]),
    "replaced by a newline": lambda byte: b"\n",
    "deleted": lambda byte: b"",
    "not ASCII": lambda byte: bytes([byte | 0x80]),
    "doubled": lambda byte: bytes([byte, byte]),
}


def damages(content):
    """Each byte damaged in one way, in turn; of the long numbers only some."""
    for position, byte in enumerate(content):
        line = content[content.rfind(b"\n", 0, position) + 1:].split(b"\n")[0]
        way = list(WAYS)[position % len(WAYS)]
        damaged = content[:position] + WAYS[way](byte) + content[position + 1:]
        if damaged != content and (position % 3 == 0 or not line.startswith(SEALED)):
            yield Damage(position, way, line, damaged)


def test_no_damaged_byte_goes_unnoticed(vault, record):
    content = record.read_bytes()
    end_of_listed_part = content.rindex(b"---\n")

    def check(damage):
        vault.write(record, damage.content)
        status = vault.ask("status", vault.directory)
        unlock = vault.ask(*vault.commands()["unlock"])
        if status.rc == 8:
            assert unlock.rc == 8, unlock
            vault.assert_named_damaged(status, record)
        else:
            assert status.rc == 0 and damage.line.startswith(LABELS + SEALED), status
            assert unlock.rc in ((0,) if damage.line.startswith(LABELS) else (3, 8)), unlock
        if status.rc == 8 and damage.position < end_of_listed_part and damage.position % 16 == 0:
            vault.assert_others_go_on(record)

    check_each(damages(content), check)
    vault.write(record, content)
    assert vault.ask(*vault.commands()["unlock"]).rc == 0


def test_damage_is_reported_and_never_touched(vault, record):
    """By all commands, for some of the damages."""
    content = record.read_bytes()

    def check(damage):
        vault.write(record, damage.content)
        before = vault.seen()
        ends = {name: vault.ask(*words) for name, words in vault.commands().items()}
        assert all(end.rc in DOCUMENTED for end in ends.values()), ends
        assert ends["change"].rc in (3, 8), ends["change"]
        assert vault.seen() == before

    sealed = [damage for damage in damages(content)
              if not damage.line.startswith(LABELS)]
    check_each(sealed[::25], check)


# What somebody who may write to the directory can put in the place of a record.

def as_fifo(record, _):
    record.unlink()
    os.mkfifo(record, 0o600)


def as_link_to_a_secret(record, secret):
    record.unlink()
    record.symlink_to(secret)


def as_link_to_itself(record, _):
    record.unlink()
    record.symlink_to(record.name)


def as_directory(record, _):
    record.unlink()
    record.mkdir(0o700)


def as_huge_file(record, _):
    os.truncate(record, ONE_GIB)


def as_device(record, _):
    record.unlink()
    os.mknod(record, stat.S_IFCHR | 0o600, os.makedev(5, 0))


def as_socket(record, _):
    record.unlink()
    here = os.open(record.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/{record.name}")
    os.close(here)


def as_second_name(record, _):
    os.link(record, record.parent / "second")


def as_mount_point(record, secret):
    harness.command("mount", "--bind", secret, record)


def as_foreign_file(record, _):
    os.chown(record, harness.BOB.uid, harness.BOB.gid)


def as_writable_by_the_group(record, _):
    record.chmod(0o620)


def as_empty_file(record, _):
    os.truncate(record, 0)


def as_the_other_record(record, _):
    other = next(path for path in record.parent.iterdir() if path != record)
    shutil.copyfile(other, record)


def as_a_newer_format(record, _):
    record.write_bytes(record.read_bytes().replace(b"-1\n", b"-2\n", 1))


REPLACEMENTS = [as_fifo, as_link_to_a_secret, as_link_to_itself, as_directory, as_huge_file,
                as_device, as_socket, as_second_name, as_mount_point, as_foreign_file,
                as_writable_by_the_group, as_empty_file, as_the_other_record, as_a_newer_format]


@pytest.mark.parametrize("replace", REPLACEMENTS, ids=lambda replace: replace.__name__)
def test_what_is_no_sound_record_is_refused(vault, record, replace, passphrase_file):
    replace(record, passphrase_file("what only root may read", name="secret"))
    if os.lstat(record).st_uid == 0 and replace is not as_mount_point:
        os.lchown(record, vault.owner.uid, vault.owner.gid)
    before = vault.seen()
    for name, words in vault.commands().items():
        end = vault.ask(*words)
        assert end.rc == 8, (name, end)
        assert "only root may" not in end.out + end.err
    vault.assert_others_go_on(record)
    assert vault.seen() == before


def test_a_record_cut_short_is_damaged_wherever_it_ends(vault, record):
    content = record.read_bytes()
    ends = [end + 1 for end, byte in enumerate(content) if byte == ord("\n")][:-1]

    def check(end):
        vault.write(record, content[:end])
        for command in ("status", "unlock", "change"):
            result = vault.ask(*vault.commands()[command])
            assert result.rc == 8, result
        assert record.read_bytes() == content[:end]

    check_each(ends, check)


@pytest.mark.parametrize("field, value", [(b"passes", 1 << 20), (b"memory_kib", 128 << 20),
                                          (b"passes", 0xFFFFFFFF), (b"memory_kib", 0xFFFFFFFF)],
                         ids=["2^20 passes", "128 GiB", "most passes", "most memory"])
def test_hashing_that_costs_too_much_is_refused_before_it_begins(vault, field, value):
    content = vault.protector.read_bytes()
    vault.write(vault.protector, re.sub(field + rb": \d+", field + b": %d" % value, content))
    assert vault.protector.read_bytes().count(b"%d\n" % value) == 2
    before = vault.seen()
    for command in ("unlock", "change"):
        result = vault.ask(*vault.commands()[command])
        assert result.rc == 9, result
        assert '"kdf_limit"' in result.out
    assert vault.ask("status", vault.directory).rc == 0
    assert vault.ask("unlock", "--dry-run", vault.sound, *vault.other_secret).rc == 0
    assert vault.seen() == before


def as_open_to_others(directory):
    directory.chmod(0o755)


def as_link_elsewhere(directory):
    moved = directory.rename(directory.with_name("moved"))
    directory.symlink_to(moved.name)
    os.lchown(directory, harness.ALICE.uid, harness.ALICE.gid)


def as_plain_file(directory):
    shutil.rmtree(directory)
    directory.touch(0o600)
    os.chown(directory, harness.ALICE.uid, harness.ALICE.gid)


def as_directory_of_another(directory):
    os.chown(directory, harness.BOB.uid, harness.BOB.gid)


@pytest.mark.parametrize("replace", [as_open_to_others, as_link_elsewhere, as_plain_file,
                                     as_directory_of_another],
                         ids=lambda replace: replace.__name__)
@pytest.mark.parametrize("kind", ["policies", "protectors"])
def test_a_directory_of_records_that_is_not_private_is_refused(vault, replace, kind, run,
                                                               passphrase_file):
    of_root = vault.disk / "of-root"
    file = passphrase_file("correct staple", name="roots")
    run.ok(["encrypt", of_root, "--create", "--user", "root", "--new-passphrase-file", file])
    replace(vault.records / kind)
    before = vault.seen()
    for command in ("list", "status of the disk"):
        listing = vault.ask(*vault.commands()[command])
        assert listing.rc == 8 and str(of_root) in listing.out, listing
        damaged = listing.json()["damaged"]
        assert {(found["file"], found["uid"]) for found in damaged} == {
            (f"users/{vault.owner.uid}/{kind}", vault.owner.uid)}
    for command in ("status", "unlock", "change"):
        result = vault.ask(*vault.commands()[command])
        assert result.rc == 8, result
    assert vault.ask("unlock", "--dry-run", of_root, "--passphrase-file", file).rc == 0
    assert vault.seen() == before


def test_a_damaged_protector_does_not_close_the_other_way_in(vault, run, key_file):
    key = key_file()
    directory = vault.disk / "two-ways"
    run.ok(["encrypt", directory, "--create", "--user", vault.owner.name, "--protector", "private",
            *vault.secret, "--source", "raw-key", "--name", "spare", "--new-key-file", key])
    vault.write(vault.protector, b"---\n")
    status = vault.ask("status", directory)
    assert status.rc == 8
    assert [protector["name"] for protector in status.json()["protectors"]] == ["spare"]
    assert vault.ask("unlock", "--dry-run", directory, "--key-file", key).rc == 0
