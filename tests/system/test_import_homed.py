"""`import systemd-homed`: home directories built as that program's format is described."""

import os
import subprocess

import pytest

import homed
import kernel

PASSWORD = "correct horse"
OTHER = "battery staple"
CHEAP = ["--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1"]


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def key(secrets):
    key = os.urandom(64)
    secrets.remember(key)
    return key


@pytest.fixture
def make(disk, key):
    def make(version, *slots, owner=None):
        directory = disk / "alice.homedir"
        homed.make_home(directory, version, key)
        homed.set_slots(directory, slots)
        if owner is not None:
            os.chown(directory, owner.uid, owner.gid)
        return directory

    return make


def import_home(run, directory, file, *options, rc=0, **how):
    result = run(["import", "systemd-homed", directory, "--name", "home", "--passphrase-file", file,
                  "--json", *options], **how)
    assert result.rc == rc, result
    return result.json()


@pytest.mark.parametrize("slot", [homed.legacy_slot, homed.sealed_slot])
def test_a_version_2_home_becomes_a_record(disk, make, key, run, passphrase_file, alice, slot):
    directory = make(2, slot(OTHER.encode(), key), slot(PASSWORD.encode(), key), owner=alice)
    file, other = passphrase_file(PASSWORD), passphrase_file(OTHER, "other")
    answer = import_home(run, directory, file)
    assert answer["changed"] is True and answer["user"] == "alice"
    assert answer["protector"]["name"] == "home" and answer["protector"]["source"] == "passphrase"
    assert answer["unlocked_for_copying"] is False
    assert run.ok(["status", directory, "--json"])["key_status"] == "absent"
    assert run(["unlock", directory, "--passphrase-file", other]).rc == 3
    run.ok(["unlock", directory, "--passphrase-file", file])
    assert (directory / "known.txt").read_text() == "the quick brown fox"
    status = run.ok(["status", disk, "--json"])
    assert status["policies"][0]["paths"] == [{"path": str(directory), "state": "ok"}]
    # systemd-homed can go on.
    assert len(os.listxattr(directory)) >= 2
    assert import_home(run, directory, file)["changed"] is False


def test_a_wrong_password(make, key, run, passphrase_file, disk, tty):
    directory = make(2, homed.sealed_slot(PASSWORD.encode(), key),
                     homed.legacy_slot(PASSWORD.encode(), key))
    answer = import_home(run, directory, passphrase_file(OTHER), rc=3)
    assert answer["error"]["code"] == "wrong_key" and answer["changed"] is False
    assert not list(disk.mountpoint.glob(".fscryptctl/users/0/*/*"))
    terminal = tty(["import", "systemd-homed", directory, "--name", "home"])
    terminal.answer("passphrase for .*: ", OTHER)
    terminal.expect("wrong passphrase, 2 tries left")
    terminal.answer("passphrase for .*: ", PASSWORD)
    assert terminal.finish() == 0


def test_a_recovery_key(make, key, run, secrets, passphrase_file):
    recovery = homed.recovery_key()
    directory = make(2, homed.legacy_slot(PASSWORD.encode(), key),
                     homed.sealed_slot(recovery.encode(), key))
    typed = recovery.replace("-", "").upper()
    secrets.remember(typed.encode())
    file = passphrase_file(typed, "typed")
    assert import_home(run, directory, file)["changed"] is True
    run.ok(["unlock", directory, "--passphrase-file", passphrase_file(recovery)])


def test_a_version_1_home_is_unlocked_for_copying(disk, make, key, run, passphrase_file):
    directory = make(1, homed.legacy_slot(PASSWORD.encode(), key))
    file = passphrase_file(PASSWORD)
    assert import_home(run, directory, passphrase_file(OTHER, "other"), rc=3)["changed"] is False
    assert kernel.key_status(disk, homed.descriptor_of(key).hex()).state == "absent"
    answer = import_home(run, directory, file)
    assert answer["changed"] is True and answer["unlocked_for_copying"] is True
    assert answer["policy"]["version"] == 1
    assert (directory / "known.txt").read_text() == "the quick brown fox"
    assert not list(disk.mountpoint.glob(".fscryptctl/users/0/*/*"))
    assert import_home(run, directory, file)["changed"] is False
    told = run.ok(["import", "systemd-homed", directory, "--name", "home", "--passphrase-file", file])
    assert "version 1" in told.err and "next: " in told.err
    assert f"fscryptctl lock {directory}" in told.err


def test_a_version_1_home_is_locked_again(disk, make, key, run, passphrase_file, alice):
    """Nothing else would take its key away before the filesystem is unmounted."""
    directory = make(1, homed.legacy_slot(PASSWORD.encode(), key), owner=alice)
    file, descriptor = passphrase_file(PASSWORD), homed.descriptor_of(key).hex()
    import_home(run, directory, file)
    result = run(["lock", directory, "--json"], user=alice)
    assert result.rc == 7 and result.json()["error"]["code"] == "permission"
    with open(directory / "known.txt"):
        answer = run(["lock", directory, "--wait", "0", "--json"]).json()
        assert answer["error"]["hint"] == "close it, then lock again"
        assert answer["results"][0]["reason"] == "files_in_use" and answer["results"][0]["holders"]
    (locked,) = run.ok(["lock", directory, "--json"])["results"]
    assert locked["ok"] is True and locked["changed"] is True
    assert locked["key_descriptor"] == descriptor and "key_identifier" not in locked
    assert kernel.key_status(disk, descriptor).state == "absent"
    assert not (directory / "known.txt").exists()
    # That no key is on the filesystem does not tell whether another tool has it elsewhere.
    again = run(["lock", directory, "--json"])
    assert again.rc == 6 and again.json()["error"]["code"] == "unsupported"
    import_home(run, directory, file)
    assert run.ok(["lock", directory, "--all-users", "--json"])["changed"] is True
    assert (disk / "alice.homedir").stat().st_uid == alice.uid


def test_a_key_that_is_not_the_directory_s(make, run, passphrase_file):
    """A slot that opens to another key is no way in, for either version."""
    directory = make(2, homed.sealed_slot(PASSWORD.encode(), os.urandom(64)))
    assert import_home(run, directory, passphrase_file(PASSWORD), rc=3)["changed"] is False


@pytest.mark.parametrize("value, rc", [
    (b"$v2:2147483647:" + b":".join([homed.b64(bytes(64)).encode(), b"", b"", b""]), 9),
    (b"$v3:1:a:b:c:d", 8), (b"nonsense", 8), (b"", 8), (b"\xff" * 900, 8), (b"x" * 2000, 8)])
def test_slots_that_cannot_be_used(make, key, run, passphrase_file, value, rc):
    directory = make(2)
    os.setxattr(directory, "trusted.fscrypt_slot0", value)
    file = passphrase_file(PASSWORD)
    assert import_home(run, directory, file, rc=rc)["changed"] is False
    # Beside one that can, it does no harm.
    os.setxattr(directory, "trusted.fscrypt_slot7", homed.sealed_slot(PASSWORD.encode(), key).encode())
    answer = import_home(run, directory, file)
    assert answer["changed"] is True and answer["unusable_slots"] == 1


def test_what_is_no_home(disk, make, run, passphrase_file, key_file, alice):
    file = passphrase_file(PASSWORD)
    (disk / "plain").mkdir()
    assert import_home(run, disk / "plain", file, rc=4)["error"]["reason"] == "not_encrypted"
    run.ok(["encrypt", disk / "ours", "--create", "--key-file", key_file()])
    assert import_home(run, disk / "ours", file, rc=4)["error"]["reason"] == "not_managed"
    assert import_home(run, disk / "missing", file, rc=4)["error"]["code"] == "not_found"
    directory = make(2)
    assert import_home(run, directory, file, rc=4)["error"]["reason"] == "not_managed"
    assert run(["import", "systemd-homed", directory]).rc == 2, "a name is needed"
    assert run(["import", "systemd-homed", directory, "--name", "login"]).rc == 2
    own = passphrase_file(PASSWORD, "own", alice)
    assert import_home(run, directory, own, rc=7, user=alice)["error"]["code"] == "permission"


def test_a_home_that_belongs_to_nobody(make, key, run, passphrase_file, bob):
    directory = make(2, homed.sealed_slot(PASSWORD.encode(), key))
    os.chown(directory, 65534, 65534)
    file = passphrase_file(PASSWORD)
    assert import_home(run, directory, file, rc=2)["error"]["code"] == "usage"
    result = run(["import", "systemd-homed", directory, "--name", "home", "--passphrase-file", file,
                  "--user", "bob"])
    assert result.rc == 0 and f"chown -R bob: {directory}" in result.err
    run.ok(["unlock", directory, "--user", "bob", "--passphrase-file", file])
    # systemd-homed shows them as the user's: they stay as it wants them.
    assert {(directory / name).stat().st_uid for name in (".", "known.txt")} <= {0, 65534}
    assert directory.stat().st_uid == 65534


def test_a_name_that_is_taken(disk, make, key, run, passphrase_file):
    file = passphrase_file(PASSWORD)
    run.ok(["encrypt", disk / "x", "--create", "--name", "home", "--new-passphrase-file",
            passphrase_file(OTHER, "other")])
    directory = make(2, homed.sealed_slot(PASSWORD.encode(), key))
    assert import_home(run, directory, file, rc=2)["error"]["code"] == "usage"
    run.ok(["import", "systemd-homed", directory, "--name", "second", "--passphrase-file", file])


def test_interrupted_between_the_two_records(disk, make, key, run, passphrase_file):
    file = passphrase_file(PASSWORD)
    directory = make(2, homed.sealed_slot(PASSWORD.encode(), key))
    import_home(run, directory, file)
    (policy,) = (disk / ".fscryptctl/users/0/policies").iterdir()
    policy.unlink()
    assert import_home(run, directory, file)["changed"] is True
    assert len(list((disk / ".fscryptctl/users/0/protectors").iterdir())) == 1


if "FSCRYPTCTL_HOMED_FIXTURE" in os.environ:  # an image of a real home, packed with zstd

    def test_a_real_home(room, run, passphrase_file):
        image, point = room / "home.img", room / "home"
        with open(image, "wb") as output:
            subprocess.run(["zstd", "-dc", os.environ["FSCRYPTCTL_HOMED_FIXTURE"]], stdout=output,
                           check=True)
        point.mkdir()
        subprocess.run(["mount", "-o", "loop", image, point], check=True)
        answer = import_home(run, point / "alice.homedir", passphrase_file(PASSWORD))
        assert answer["unlocked_for_copying"] is True
        assert (point / "alice.homedir/known.txt").read_text().strip() == "the quick brown fox"
        run.ok(["lock", point / "alice.homedir"])
        assert not (point / "alice.homedir/known.txt").exists()
