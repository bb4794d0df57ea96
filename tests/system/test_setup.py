"""`setup`: the configuration, a filesystem's metadata directory, and taking it away again."""

import json
import os
import stat

import pytest

CHEAP = ["--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1"]


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_without_a_mount_point_only_the_configuration_is_written(run):
    first = run.ok(["setup", *CHEAP, "--json"])
    assert first["changed"] is True
    assert first["kdf"] == {"algorithm": "argon2id", "passes": first["kdf"]["passes"],
                            "memory_kib": 1024, "lanes": 1}
    assert mode(run.config) == 0o644
    before = run.config.read_bytes()
    assert run.ok(["setup", "--json"])["changed"] is False
    assert run.config.read_bytes() == before


def test_wishes_replace_the_costs_and_nothing_else(run):
    run.ok(["setup", *CHEAP])
    run.config.write_text(run.config.read_text().replace("padding: 32", "padding: 16"))
    changed = run.ok(["setup", "--kdf-time", "1", "--kdf-memory", "2", "--json"])
    assert changed["changed"] is True and changed["kdf"]["memory_kib"] == 2048
    assert "padding: 16" in run.config.read_text()
    assert run.ok(["setup", "--recalibrate", "--kdf-memory", "1", "--kdf-time", "1",
                   "--json"])["changed"] is True


@pytest.mark.parametrize("wish", [["--kdf-memory", "0"], ["--kdf-lanes", "0"],
                                  ["--kdf-lanes", "256"], ["--kdf-memory", "9999999"],
                                  ["--kdf-time", "soon"], ["--all-users"],
                                  ["--enable-encryption"], ["--remove"]])
def test_impossible_wishes_are_usage_errors_and_write_nothing(run, wish):
    result = run(["setup", *wish, "--json"])
    assert result.rc == 2 and result.json()["error"]["code"] == "usage"
    assert not run.config.exists()


def test_a_filesystem_gets_its_directories(filesystem, run):
    first = run.ok(["setup", filesystem, *CHEAP, "--json"])
    assert first["changed"] is True and first["filesystem"]["metadata"] is True
    metadata = filesystem / ".fscryptctl"
    assert mode(metadata) == 0o755 and mode(metadata / "users") == 0o755
    assert run.ok(["setup", filesystem, "--json"])["changed"] is False
    assert run.ok(["setup", filesystem, "--all-users", "--json"])["changed"] is True
    assert mode(metadata / "users") == 0o1777
    assert run.ok(["setup", filesystem, "--all-users", "--json"])["changed"] is False
    assert run.ok(["setup", filesystem, "--json"])["changed"] is False
    assert mode(metadata / "users") == 0o1777


def test_a_new_directory_that_gets_a_user_at_once_is_a_change(filesystem, run, alice):
    run.ok(["setup", *CHEAP])
    assert run.ok(["setup", filesystem, "--user", "alice", "--json"])["changed"] is True
    own = filesystem / ".fscryptctl/users/1000"
    assert mode(own) == 0o700 and os.stat(own).st_uid == alice.uid
    assert run.ok(["setup", filesystem, "--user", "1000", "--json"])["changed"] is False


def test_under_sudo_the_calling_user_gets_a_directory(filesystem, run, bob):
    run.ok(["setup", filesystem, *CHEAP], env={"SUDO_UID": "1001", "SUDO_USER": "bob"})
    assert os.stat(filesystem / ".fscryptctl/users/1001").st_uid == bob.uid


@pytest.mark.parametrize("uid", ["0", "-1", "bob", "", "99999999999"])
def test_a_strange_sudo_environment_is_ignored(filesystem, run, uid):
    run.ok(["setup", filesystem, *CHEAP], env={"SUDO_UID": uid})
    assert os.listdir(filesystem / ".fscryptctl/users") == []


def test_an_ordinary_user_cannot_set_up_a_filesystem_of_root(filesystem, run, alice):
    result = run(["setup", filesystem, "--json"], user=alice)
    assert result.rc == 7 and result.json()["error"]["code"] == "permission"
    assert not (filesystem / ".fscryptctl").exists()


def test_a_user_sets_up_her_own_disk(make_filesystem, run, alice, secrets):
    disk = make_filesystem(owner=alice)
    assert run.ok(["setup", disk, "--json"], user=alice)["changed"] is True
    assert not run.config.exists()
    key = secrets.file("key", os.urandom(32), alice)
    run.ok(["encrypt", disk / "private", "--create", "--key-file", key], user=alice)
    assert os.stat(disk / ".fscryptctl").st_uid == alice.uid
    # Root walks it as that user.
    assert run.ok(["status", disk / "private", "--json"])["managed"] is True


def test_encryption_is_turned_on_only_when_asked_and_confirmed(make_filesystem, run):
    disk = make_filesystem(encrypt=False)
    result = run(["setup", disk, "--json"])
    assert result.rc == 6 and result.json()["error"]["reason"] == "not_enabled"
    assert str(disk) in result.json()["error"]["hint"]
    result = run(["setup", disk, "--enable-encryption", "--json"])
    assert result.rc == 2, "a question off a terminal"
    assert not (disk / ".fscryptctl").exists() and not run.config.exists()
    run.ok(["setup", disk, "--enable-encryption", "--yes", *CHEAP])
    assert run.ok(["status", disk, "--json"])["filesystem"]["encryption"] == "enabled"
    assert run.ok(["setup", disk, "--enable-encryption", "--json"])["changed"] is False


def test_the_question_can_be_answered_no(make_filesystem, run, tty):
    disk = make_filesystem(encrypt=False)
    terminal = tty(["setup", disk, "--enable-encryption"])
    terminal.expect_exact("[y/N]")
    terminal.sendline("n")
    assert terminal.finish() == 1
    assert run.ok(["status", disk, "--json"])["filesystem"]["encryption"] == "not_enabled"


def test_metadata_of_an_encrypted_directory_is_not_removed(filesystem, run, set_up, key_file):
    set_up(filesystem)
    key = key_file()
    run.ok(["encrypt", filesystem / "d", "--create", "--key-file", key])
    result = run(["setup", filesystem, "--remove", "--yes", "--json"])
    assert result.rc == 9 and result.json()["error"]["reason"] == "in_use"
    assert str(filesystem / "d") in result.json()["error"]["candidates"]
    run.ok(["unlock", filesystem / "d", "--key-file", key, "--dry-run"])

    os.rmdir(filesystem / "d")
    result = run(["setup", filesystem, "--remove", "--json"])
    assert result.rc == 2 and (filesystem / ".fscryptctl").exists()
    assert run.ok(["setup", filesystem, "--remove", "--yes", "--json"])["changed"] is True
    assert not (filesystem / ".fscryptctl").exists()
    assert run.ok(["setup", filesystem, "--remove", "--yes", "--json"])["changed"] is False


def test_damaged_records_keep_metadata_from_being_removed(filesystem, run, set_up, key_file):
    set_up(filesystem)
    run.ok(["encrypt", filesystem / "d", "--create", "--key-file", key_file()])
    policies = filesystem / ".fscryptctl/users/0/policies"
    record = policies / os.listdir(policies)[0]
    record.write_bytes(record.read_bytes().replace(b"paths", b"roads"))
    result = run(["setup", filesystem, "--remove", "--yes", "--json"])
    assert result.rc == 8
    assert record.exists()


def test_a_configuration_that_others_can_write_is_not_trusted(filesystem, run, set_up, key_file):
    set_up(filesystem)
    run.config.chmod(0o666)
    result = run(["encrypt", filesystem / "d", "--create", "--key-file", key_file(), "--json"])
    assert result.rc == 8 and not (filesystem / "d").exists()


@pytest.mark.parametrize("text", ["kdf: {", "nonsense: 1\n", "kdf:\n  passes: 1\n",
                                  "source: magic\n", "encryption:\n  contents: ROT13\n"])
def test_a_bad_configuration_is_an_error_and_is_left_alone(filesystem, run, text, key_file):
    run.config.write_text(text)
    result = run(["setup", filesystem, "--json"])
    assert result.rc == 8, json.dumps(result.json())
    assert run.config.read_text() == text


def test_the_configuration_chooses_how_directories_are_encrypted(filesystem, run, set_up, key_file):
    set_up(filesystem)
    run.config.write_text(run.config.read_text().replace("padding: 32", "padding: 8")
                          .replace("source: passphrase", "source: raw-key"))
    made = run.ok(["encrypt", filesystem / "d", "--create", "--new-key-file", key_file(), "--json"])
    assert made["policy"]["padding"] == 8
    assert made["protectors"][0]["source"] == "raw-key"
