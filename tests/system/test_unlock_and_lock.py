"""`unlock`, `lock`, `purge`: several paths, whose claim it is, and what keeps files in use."""

import fcntl
import json
import os
import subprocess

import pytest

import kernel

SET_POLICY = 0x800C6613


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem, "--all-users")
    return filesystem


@pytest.fixture
def key(key_file):
    return key_file()


@pytest.fixture
def make(disk, run, key):
    def make(name, *options, user=None):
        run.ok(["encrypt", disk / name, "--create", "--key-file", key, *options], user=user)
        return disk / name

    return make


def test_one_line_of_standard_input_opens_every_path(disk, run, passphrase_file):
    new = passphrase_file("correct horse")
    for name in "ab":
        run.ok(["encrypt", disk / name, "--create", "--new-passphrase-file", new])
    run.ok(["lock", disk / "a", disk / "b"])
    answer = run.ok(["unlock", disk / "a", disk / "b", "--json"], stdin=b"correct horse\nrest\n")
    assert [entry["changed"] for entry in answer["results"]] == [True, True]
    assert run(["unlock", disk / "a", "--dry-run", "--json"], stdin=b"").rc == 2
    assert run(["unlock", disk / "a", "--dry-run", "--json"], stdin=b"wrong\n").rc == 3
    assert run(["unlock", disk / "a", "--dry-run", "--json"], stdin=b"\n").rc == 2
    assert run(["unlock", disk / "a", "--dry-run", "--json"], stdin=b"a\0b\n").rc == 2


def test_all_paths_are_tried_and_the_first_failure_is_the_exit_code(disk, run, make, key):
    first, last = make("first"), make("last", "--name", "x")
    (disk / "plain").mkdir()
    run.ok(["lock", first, last])
    result = run(["unlock", first, disk / "plain", disk / "missing", last, "--key-file", key, "--json"])
    answer = result.json()
    assert result.rc == 4 and answer["error"]["path"] == str(disk / "plain")
    assert [entry["ok"] for entry in answer["results"]] == [True, False, False, True]
    assert answer["changed"] is True
    result = run(["lock", disk / "missing", first, "--json"])
    assert result.rc == 4 and [entry["ok"] for entry in result.json()["results"]] == [False, True]


def test_dry_run_proves_and_touches_nothing(run, make, key, key_file):
    directory = make("d")
    run.ok(["lock", directory])
    answer = run.ok(["unlock", directory, "--dry-run", "--key-file", key, "--json"])
    assert answer["changed"] is False
    assert run.ok(["status", directory, "--json"])["key_status"] == "absent"
    assert run(["unlock", directory, "--dry-run", "--key-file", key_file(name="other")]).rc == 3
    run.ok(["unlock", directory, "--key-file", key])
    assert run(["unlock", directory, "--dry-run", "--key-file", key_file(name="other")]).rc == 3


def test_what_is_unlocked_asks_for_nothing(run, make):
    answer = run.ok(["unlock", make("d"), "--json", "--no-prompt"])
    assert answer["changed"] is False and answer["results"][0]["key_status"] == "present"


def test_by_key_identifier(disk, run, make, key):
    directory = make("d")
    identifier = run.ok(["status", directory, "--json"])["policy"]["key_identifier"]
    run.ok(["lock", directory])
    os.rename(directory, disk / "moved")
    how = ["unlock", "--policy", identifier, "--key-file", key, "--json"]
    assert run(how).json()["error"]["code"] in ("not_found", "unsupported")
    answer = run.ok([*how, "--mount", disk])
    assert answer["results"][0]["key_identifier"] == identifier
    run.ok(["lock", disk / "moved"])
    run.ok(how, cwd=disk)


def test_without_a_path_the_locked_ones_are_named(disk, run, make):
    directory = make("d")
    assert run(["unlock", "--json"]).json()["error"]["candidates"] == []
    run.ok(["lock", directory])
    result = run(["unlock", "--json"])
    assert result.rc == 2 and result.json()["error"]["candidates"] == [str(directory)]


def test_each_user_has_a_claim_of_her_own(disk, run, make, alice, bob, secrets):
    home = disk / "home"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    hers = secrets.file("hers", os.urandom(32), alice)
    run.ok(["encrypt", home / "d", "--create", "--key-file", hers, "--mode", "755"], user=alice)
    assert run.ok(["status", home / "d", "--json"], user=bob)["unlocked_by_me"] is False
    result = run(["lock", home / "d", "--json"], user=bob)
    assert result.rc == 5 and result.json()["error"]["reason"] == "other_users"
    assert result.json()["results"][0]["other_users"] == 1
    assert run(["lock", home / "d", "--all-users", "--json"], user=bob).rc == 7
    # Root acts for the owner, and takes her claim away.
    run.ok(["lock", home / "d"])
    assert run.ok(["status", home / "d", "--json"], user=alice)["key_status"] == "absent"


def test_root_takes_everybody_s_claim_away(disk, run, alice, secrets):
    home = disk / "home"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    hers = secrets.file("hers", os.urandom(32), alice)
    run.ok(["encrypt", home / "d", "--create", "--key-file", hers], user=alice)
    assert run(["lock", home / "d", "--user", "root"]).rc == 5
    run.ok(["lock", home / "d", "--user", "root", "--all-users"])
    assert run.ok(["status", home / "d", "--json"], user=alice)["key_status"] == "absent"


def test_files_in_use_are_listed_and_waited_for(run, make, key, background):
    directory = make("d")
    (directory / "file").write_text("data")
    holder = background(["sh", "-c", f"exec 3<'{directory}/file'; echo ready; read answer; :"])
    assert holder.stdout.readline() == "ready\n"
    result = run(["lock", directory, "--wait", "0", "--json"])
    answer = result.json()["results"][0]
    assert result.rc == 5 and answer["reason"] == "files_in_use"
    assert answer["key_status"] == "incompletely_removed"
    assert [(one["pid"], one["kind"], one["path"], one["user"]) for one in answer["holders"]] == [
        (holder.pid, "open file", str(directory / "file"), "root")]
    assert run.ok(["status", directory, "--json"])["key_status"] == "incompletely_removed"
    # Not healed by itself, and repeating tells the same as long as it is true.
    assert run(["lock", directory, "--wait", "0", "--json"]).rc == 5

    locking = run.start(["lock", str(directory), "--wait", "20"])
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert locking.wait(timeout=30) == 0
    assert run.ok(["status", directory, "--json"])["key_status"] == "absent"


def test_unlocking_undoes_an_incomplete_lock(run, make, key):
    directory = make("d")
    (directory / "file").write_text("data")
    with open(directory / "file", "rb"):
        assert run(["lock", directory, "--wait", "0"]).rc == 5
        run.ok(["unlock", directory, "--key-file", key])
        (directory / "new").write_text("data")


def test_the_shell_s_own_directory(run, make):
    directory = make("d")
    (directory / "file").write_text("data")
    result = run(["lock", ".", "--wait", "0", "--json"], cwd=directory)
    assert result.rc == 0, "only the command itself stood in it"


def test_everything_on_a_filesystem(disk, second_filesystem, set_up, run, make, key, alice, secrets):
    set_up(second_filesystem)
    make("a"), make("b", "--name", "x")
    run.ok(["encrypt", second_filesystem / "c", "--create", "--key-file", key])
    home = disk / "home"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    hers = secrets.file("hers", os.urandom(32), alice)
    run.ok(["encrypt", home / "d", "--create", "--key-file", hers], user=alice)

    answer = run.ok(["lock", "--all", "--json"], user=alice)
    assert [entry["path"] for entry in answer["results"]] == [str(home / "d")]
    run.ok(["unlock", home / "d", "--key-file", hers], user=alice)
    answer = run.ok(["purge", disk, "--json"])
    assert sorted(entry["path"] for entry in answer["results"]) == [
        str(disk / "a"), str(disk / "b"), str(home / "d")]
    assert run.ok(["status", second_filesystem / "c", "--json"])["key_status"] == "present"
    assert len(run.ok(["lock", "--all", "--json"])["results"]) == 1
    assert run.ok(["lock", "--all", "--json"])["results"] == []
    assert run(["purge", disk / "missing", "--json"]).rc == 4


def test_a_locked_file_is_answered_by_its_directory(run, make, key):
    directory = make("d")
    (directory / "file").write_text("data")
    run.ok(["lock", directory])
    name = os.listdir(directory)[0]
    answer = run.ok(["status", directory / name, "--json"])
    assert answer["encrypted"] is True and answer["key_status"] == "absent"
    run.ok(["unlock", directory / name, "--key-file", key])
    assert (directory / "file").read_text() == "data"


def test_interrupted_while_waiting_for_files(run, make):
    directory = make("d")
    (directory / "file").write_text("data")
    with open(directory / "file", "rb"):
        locking = run.start(["lock", str(directory), "--wait", "60", "--json"],
                            stdout=subprocess.PIPE)
        while run.ok(["status", directory, "--json"])["key_status"] == "present":
            pass
        locking.terminate()
        out, _ = locking.communicate(timeout=20)
        assert locking.returncode == 143
        assert json.loads(out)["error"]["code"] == "interrupted"


def test_a_v1_policy_is_shown_and_not_managed(disk, run):
    (disk / "old").mkdir()
    directory = os.open(disk / "old", os.O_RDONLY)
    v1_policy = bytes([0, kernel.AES_256_XTS, kernel.AES_256_CTS, kernel.PAD_32]) + bytes(8)
    fcntl.ioctl(directory, SET_POLICY, v1_policy)
    os.close(directory)
    answer = run.ok(["status", disk / "old", "--json"])
    assert answer["policy"]["version"] == 1 and answer["managed"] is False
    for command in ("unlock", "lock"):
        result = run([command, disk / "old", "--json"], stdin=b"x\n")
        assert result.rc == 6 and result.json()["error"]["reason"] == "policy_version"


def test_a_damaged_record_does_not_hide_what_is_unlocked(disk, run, make):
    directory = make("d")
    policies = disk / ".fscryptctl/users/0/policies"
    record = policies / os.listdir(policies)[0]
    record.write_bytes(record.read_bytes().replace(b"format", b"xormat"))
    result = run(["lock", "--all", disk, "--json"])
    assert result.rc == 8
    assert kernel.key_status(disk, record.stem).state == "absent", directory


def test_a_bad_filesystem_does_not_stop_the_others(disk, second_filesystem, run, make):
    make("d")
    os.symlink("/tmp", second_filesystem / ".fscryptctl")
    result = run(["lock", "--all", "--json"])
    assert result.rc == 8
    assert [entry["ok"] for entry in result.json()["results"]].count(True) == 1
    assert run.ok(["status", disk / "d", "--json"])["key_status"] == "absent"


def test_from_a_directory_that_is_gone(disk, run, make):
    directory = make("d")
    gone = disk / "gone"
    gone.mkdir()
    locking = run.start(["lock", str(directory)], cwd=gone)
    assert locking.wait(timeout=20) == 0
    script = ["sh", "-c", f"cd {gone} && rmdir {gone} && exec {run.start.__self__._program} lock {directory}"]
    assert subprocess.run(script, env=run.environment(), check=False).returncode == 0


def test_root_takes_its_own_claim_back(disk, run, alice, key):
    (disk / "d").mkdir()
    os.chown(disk / "d", alice.uid, alice.gid)
    run.ok(["encrypt", disk / "d", "--user", "root", "--key-file", key])
    assert run.ok(["status", disk / "d", "--json"])["unlocked_by_me"] is True
    run.ok(["lock", disk / "d"])


def test_a_bad_configuration_keeps_nobody_out(run, disk, passphrase_file):
    secret = passphrase_file("correct horse")
    run.ok(["encrypt", disk / "d", "--create", "--new-passphrase-file", secret])
    run.ok(["lock", disk / "d"])
    run.config.write_text("bogus: 1\n")
    run.ok(["unlock", disk / "d", "--passphrase-file", secret])
