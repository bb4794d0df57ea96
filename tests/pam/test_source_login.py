"""`--source login`: one protector a user, checked with PAM, a copy on each filesystem that uses it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import NEW, OLD, PROGRAM, command, set_password


def protectors(user, disk):
    return json.loads(user.run("protector", "list", disk, "--json").stdout)["protectors"]


def record(user, disk):
    (file,) = (disk.records(user) / "protectors").iterdir()
    return file


def test_a_directory_opens_with_the_login_password(disk, alice):
    alice.encrypt(disk / "a")
    (protector,) = protectors(alice, disk)
    assert (protector["name"], protector["source"]) == ("login", "login")
    text = record(alice, disk).read_text()
    assert 'user: "alice"' in text and "machine_id: " in text
    assert alice.opens(disk / "a", OLD) and not alice.opens(disk / "a", "another")
    assert "login" in alice.run("status", disk / "a").stdout


def test_the_second_directory_uses_the_same_protector(disk, second_disk, alice):
    alice.encrypt(disk / "a")
    alice.encrypt(disk / "b")
    done = alice.encrypt(second_disk / "c")
    assert "whoever has the disk of /disk2 can now try to guess the login password" in done.stderr
    assert record(alice, disk).read_bytes() == record(alice, second_disk).read_bytes()


@pytest.mark.parametrize("options, rc", [
    (["--source", "login"], 2),
    (["--source", "login", "--no-recovery-key", "--name", "mine"], 2)])
def test_what_is_not_decided_is_refused_before_anything_changes(disk, alice, options, rc):
    done = alice.run("encrypt", disk / "new", "--create", *options, password=OLD, check=False)
    assert done.returncode == rc and not (disk / "new").exists()


@pytest.fixture
def keys():
    """A place where anybody can write."""
    directory = Path("/tmp/keys")
    directory.mkdir()
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


def test_a_recovery_key_is_made_where_the_command_says(disk, alice, keys):
    for name in ("a", "b"):
        (disk / name).mkdir()
        os.chown(disk / name, alice.uid, alice.uid)
    alice.run("encrypt", disk / "a", "--source", "login", "--recovery-key-output", keys / "first",
              password=OLD)
    (protector,) = protectors(alice, disk)
    assert protector["recovery_key"] is True
    alice.run("unlock", disk / "a", "--dry-run", "--recovery-key-file", keys / "first")
    done = alice.run("encrypt", disk / "b", "--source", "login", "--recovery-key-output",
                     keys / "other", password=OLD)
    assert "had a recovery key already" in done.stderr and not (keys / "other").exists()
    alice.run("unlock", disk / "b", "--dry-run", "--recovery-key-file", keys / "first")


def test_a_password_that_is_not_the_login_password_is_refused(disk, alice):
    (disk / "a").mkdir()
    os.chown(disk / "a", alice.uid, alice.uid)
    done = alice.run("encrypt", disk / "a", "--source", "login", "--no-recovery-key", "--json",
                     password="another", check=False)
    assert done.returncode == 3 and json.loads(done.stdout)["changed"] is False
    assert alice.state(disk / "a")["encrypted"] is False


def test_root_encrypts_for_a_user_with_that_user_s_password(disk, alice):
    words = [PROGRAM, "--user", "alice", "encrypt", disk / "a", "--create", "--source", "login",
             "--no-recovery-key"]
    assert command(*words, input="roots own\n", check=False).returncode == 3
    command(*words, input=OLD + "\n")
    assert alice.opens(disk / "a", OLD)


def test_after_a_change_by_root_every_command_says_what_to_do(disk, alice):
    alice.encrypt(disk / "a")
    set_password("alice", NEW)
    done = alice.run("unlock", disk / "a", "--dry-run", password=NEW, check=False)
    assert done.returncode == 3
    assert "error: /disk1/a still opens with the previous login password" in done.stderr
    assert "hint: fscryptctl change-passphrase --protector login" in done.stderr
    done = alice.run("encrypt", disk / "b", "--create", "--source", "login", "--no-recovery-key",
                     password=NEW, check=False)
    assert done.returncode == 3 and "still opens with the previous" in done.stderr
    assert "wrong passphrase" in alice.run("unlock", disk / "a", "--dry-run", password="x" * 9,
                                           check=False).stderr


def test_the_password_is_changed_by_hand_and_only_to_the_login_password(disk, second_disk, alice):
    alice.encrypt(disk / "a")
    alice.encrypt(second_disk / "b")
    set_password("alice", NEW)
    words = ["change-passphrase", disk / "a", "--protector", "login", "--passphrase-file", "-",
             "--new-passphrase-file", "-"]
    done = alice.run(*words, password=f"{OLD}\nsomething else", check=False)
    assert done.returncode == 3 and alice.opens(disk / "a", OLD)
    alice.run(*words, password=f"{OLD}\n{NEW}")
    for directory in (disk / "a", second_disk / "b"):
        assert alice.opens(directory, NEW) and not alice.opens(directory, OLD)


def test_a_stale_copy_is_healed_by_the_one_that_the_password_opens(disk, second_disk, alice):
    alice.encrypt(disk / "a")
    alice.encrypt(second_disk / "b")
    kept = record(alice, second_disk).read_bytes()
    set_password("alice", NEW)
    alice.run("change-passphrase", disk / "a", "--passphrase-file", "-", "--new-passphrase-file",
              "-", password=f"{OLD}\n{NEW}")
    record(alice, second_disk).write_bytes(kept)  # an old copy, restored
    assert alice.opens(second_disk / "b", OLD)
    alice.encrypt(second_disk / "c", password=NEW)
    assert alice.opens(second_disk / "b", NEW) and not alice.opens(second_disk / "b", OLD)


def test_a_forged_copy_never_gets_what_the_password_opens(disk, second_disk, alice):
    """Its disk's owner knows the protector's id, but no policy there proves that she has its key."""
    alice.encrypt(disk / "a")
    forged = record(alice, disk)
    text = forged.read_text()
    mac = text[text.rindex("mac: ") + 5:].strip()
    target = second_disk.records(alice) / "protectors"
    alice.run("protector", "create", second_disk, "--source", "raw-key", "--name", "x",
              "--new-key-file", "-", password="k" * 31)
    shutil.rmtree(target)
    target.mkdir(mode=0o700)
    copy = target / forged.name
    copy.write_text(text.replace(mac, "0" * 64))
    copy.chmod(0o600)
    for path in (target, copy):
        os.chown(path, alice.uid, alice.uid)
    before = copy.read_bytes()
    done = alice.run("encrypt", second_disk / "b", "--create", "--source", "login",
                     "--no-recovery-key", password=OLD, check=False)
    assert done.returncode == 3 and copy.read_bytes() == before


def test_two_machines_with_the_same_uid_and_other_passwords_keep_apart(disk, alice):
    alice.encrypt(disk / "here")
    ours, identity = record(alice, disk), open("/etc/machine-id").read()
    try:
        with open("/etc/machine-id", "w") as file:
            file.write("f" * 32 + "\n")
        set_password("alice", NEW)  # what that machine's alice logs in with
        alice.encrypt(disk / "there", password=NEW)
    finally:
        with open("/etc/machine-id", "w") as file:
            file.write(identity)
    assert sorted(one["name"] for one in protectors(alice, disk)) == ["login", "login-2"]
    assert alice.opens(disk / "here", OLD) and alice.opens(disk / "there", NEW)
    assert "f" * 32 not in ours.read_text()


def test_at_a_terminal_it_is_asked_for_once_and_may_be_mistyped(disk, alice, spawn):
    (disk / "a").mkdir()
    os.chown(disk / "a", alice.uid, alice.uid)
    terminal = spawn(*alice.as_user, PROGRAM, "encrypt", disk / "a", "--source", "login",
                     "--no-recovery-key")
    terminal.expect("login password for /disk1/a: ")
    terminal.waitnoecho()
    terminal.sendline("mistyped")
    terminal.expect("wrong passphrase, 2 tries left")
    terminal.expect("login password for /disk1/a: ")
    terminal.waitnoecho()
    terminal.sendline(OLD)
    terminal.expect("encrypted /disk1/a")


def test_changing_by_hand_at_a_terminal_tells_the_two_passwords_apart(disk, alice, spawn):
    alice.encrypt(disk / "a")
    set_password("alice", NEW)
    terminal = spawn(*alice.as_user, PROGRAM, "change-passphrase", disk / "a")
    for prompt, answer in (("previous login password for /disk1/a: ", NEW),
                           ("wrong passphrase, 2 tries left\r\nprevious login password for /disk1/a: ", OLD),
                           ("present login password, for /disk1/a: ", OLD),
                           ("this is not the login password, 2 tries left\r\n"
                            "present login password, for /disk1/a: ", NEW)):
        terminal.expect(prompt)
        terminal.waitnoecho()
        terminal.sendline(answer)
    terminal.expect('changed the passphrase of protector "login"')
    assert alice.opens(disk / "a", NEW) and not alice.opens(disk / "a", OLD)


def test_status_and_show_say_whose_login_it_is(disk, alice):
    alice.encrypt(disk / "a")
    assert "opens with  login password\n" in alice.run("status", disk / "a").stdout
    show = ["protector", "show", "login", "--mount", disk]
    assert "login of      alice on this machine\n" in alice.run(*show).stdout
    (record,) = (disk.records(alice) / "protectors").iterdir()
    machine_id = Path("/etc/machine-id").read_text().strip()
    record.write_text(record.read_text().replace(machine_id, "e" * 32))
    assert "login of      alice on another machine\n" in alice.run(*show).stdout


def test_two_at_once_make_one_protector(disk, alice):
    for name in ("a", "b", "c"):
        (disk / name).mkdir()
        os.chown(disk / name, alice.uid, alice.uid)
    running = [subprocess.Popen([*alice.as_user, PROGRAM, "-q", "encrypt", disk / name, "--source",
                                 "login", "--no-recovery-key"], stdin=subprocess.PIPE, text=True)
               for name in ("a", "b", "c")]
    for process in running:
        process.stdin.write(OLD + "\n")
        process.stdin.close()
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert [one["name"] for one in protectors(alice, disk)] == ["login"]
    assert all(alice.opens(disk / name, OLD) for name in ("a", "b", "c"))
