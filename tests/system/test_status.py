"""`status` and `list`: what is shown of filesystems, directories and records, and to whom."""

import os
import subprocess

import pytest


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem, "--all-users")
    return filesystem


@pytest.fixture
def key(key_file):
    return key_file()


def encrypt(run, directory, key, *options, **how):
    return run.ok(["encrypt", directory, "--create", "--key-file", key, "--json", *options], **how)


def test_a_plain_path_is_no_error(disk, run):
    (disk / "plain").mkdir()
    answer = run.ok(["status", disk / "plain", "--json"])
    assert answer["encrypted"] is False and answer["managed"] is False
    assert answer["protectors"] == []
    assert "not encrypted" in run.ok(["status", disk / "plain"]).out
    assert run(["status", disk / "missing", "--json"]).rc == 4


def test_a_directory_and_what_is_in_it(disk, run, key):
    made = encrypt(run, disk / "d", key, "--name", "mine")
    (disk / "d/sub").mkdir()
    for path in (disk / "d", disk / "d/sub"):
        answer = run.ok(["status", path, "--json"])
        assert answer["policy"] == {
            "version": 2, "key_identifier": made["key_identifier"], "contents": "AES-256-XTS",
            "filenames": "AES-256-CTS", "padding": 32, "flags": [], "data_unit_size": 0}
        assert (answer["key_status"], answer["unlocked_by_me"], answer["user_count"]) == (
            "present", True, 1)
        assert answer["has_recovery_key"] is False
        protector, = answer["protectors"]
        assert protector["name"] == "mine" and protector["source"] == "raw-key"
        assert protector["opens"] == [made["key_identifier"]]
        assert protector["mountpoint"] == str(disk) and protector["recovery_key"] is False
        assert protector["created"].endswith("Z") and len(protector["created"]) == 20


def test_hashing_costs_are_shown(disk, run, passphrase_file):
    made = run.ok(["encrypt", disk / "d", "--create", "--json",
                   "--new-passphrase-file", passphrase_file("correct horse")])
    assert made["protectors"][0]["kdf"] == {
        "algorithm": "argon2id", "passes": 1, "memory_kib": 1024, "lanes": 1}


def test_a_filesystem(disk, run, key):
    made = encrypt(run, disk / "d", key)
    answer = run.ok(["status", disk, "--json"])
    assert answer["filesystem"] == {"mountpoint": str(disk), "device": str(disk.device),
                                    "type": "ext4", "encryption": "enabled", "metadata": True}
    policy, = answer["policies"]
    assert policy["key_identifier"] == made["key_identifier"]
    assert policy["protectors"] == [made["protectors"][0]["id"]]
    assert policy["paths"] == [{"path": str(disk / "d"), "state": "ok"}]
    assert (policy["uid"], policy["user"], policy["key_status"]) == (0, "root", "present")
    assert answer["damaged"] == []


def test_what_became_of_recorded_paths(disk, run, key):
    encrypt(run, disk / "moved", key, "--name", "a")
    encrypt(run, disk / "replaced", key, "--name", "b")
    os.rename(disk / "moved", disk / "elsewhere")
    os.rename(disk / "replaced", disk / "old")
    encrypt(run, disk / "replaced", key, "--name", "c")
    every = [(path["path"], path["state"]) for policy in run.ok(["status", disk, "--json"])["policies"]
             for path in policy["paths"]]
    assert sorted(every) == [(str(disk / "moved"), "missing"), (str(disk / "replaced"), "ok"),
                             (str(disk / "replaced"), "other_policy")]
    assert "missing" in run.ok(["list"]).out


def test_everything(disk, second_filesystem, run, key, make_filesystem):
    off = make_filesystem(encrypt=False)
    encrypt(run, disk / "d", key)
    answer = run.ok(["status", "--json"])
    shown = {one["mountpoint"]: one for one in answer["filesystems"]}
    assert shown[str(disk)]["metadata"] is True
    assert shown[str(second_filesystem)]["metadata"] is False
    assert shown[str(off)]["encryption"] == "not_enabled"
    assert [one["path"] for one in answer["directories"]] == [str(disk / "d")]
    assert run.ok(["list", "--json"])["directories"] == answer["directories"]


def test_a_user_sees_her_own_and_root_sees_all(disk, run, key, alice, bob, secrets):
    encrypt(run, disk / "roots", key)
    for user in (alice, bob):
        home = disk / user.name
        home.mkdir()
        os.chown(home, user.uid, user.gid)
        hers = secrets.file(f"{user.name}-key", os.urandom(32), user)
        encrypt(run, home / "d", hers, user=user)
    paths = {user: [one["path"] for one in run.ok(["list", "--json", *how], user=user)["directories"]]
             for user, how in ((None, []), (alice, []), (bob, []))}
    assert paths[alice] == [str(disk / "alice/d")] and paths[bob] == [str(disk / "bob/d")]
    assert paths[None] == sorted([str(disk / "alice/d"), str(disk / "bob/d"), str(disk / "roots")])
    assert run.ok(["list", "--all-users", "--json"])["directories"] != []
    assert run(["list", "--all-users", "--json"], user=alice).rc == 7
    one = run.ok(["list", "--user", "alice", "--json"])["directories"]
    assert [directory["path"] for directory in one] == [str(disk / "alice/d")]


def test_expectations(disk, run, key):
    encrypt(run, disk / "d", key)
    (disk / "plain").mkdir()
    run.ok(["status", disk / "d", "--expect", "unlocked"])
    run.ok(["status", disk / "d", "--expect", "encrypted"])
    run.ok(["lock", disk / "d"])
    run.ok(["status", disk / "d", "--expect", "locked"])
    for path, expected in ((disk / "d", "unlocked"), (disk / "plain", "encrypted"),
                           (disk / "plain", "locked"), (disk, "encrypted")):
        result = run(["status", path, "--expect", expected, "--json"])
        assert result.rc == 10 and result.json()["error"]["code"] == "unexpected"
    assert run(["status", disk / "d", "--expect", "open"]).rc == 2
    assert run(["status", "--expect", "locked"]).rc == 2


def test_a_directory_without_a_record(disk, run, key, alice):
    encrypt(run, disk / "d", key, "--mode", "755")
    answer = run.ok(["status", disk / "d", "--json"], user=alice)
    assert answer["encrypted"] is True and answer["managed"] is False
    assert "not set up here" in run.ok(["status", disk / "d"], user=alice).err
    os.mkdir(disk / ".fscrypt")
    result = run(["unlock", disk / "d", "--json"], user=alice, stdin=b"x\n")
    assert result.rc == 4 and "google/fscrypt metadata found" in result.json()["error"]["message"]


def test_an_encrypted_directory_wins_over_a_mount_point(disk, run, key, room):
    encrypt(run, disk / "d", key)
    point = room / "point"
    point.mkdir()
    subprocess.run(["mount", "--bind", disk / "d", point], check=True)
    assert run.ok(["status", point, "--json"])["encrypted"] is True


def test_json_is_one_object_even_for_usage_errors(run):
    for words in (["status", "--json", "--nonsense"], ["--json", "frobnicate"], ["--json"],
                  ["status", "a", "b", "--json"], ["--json", "status", "--user", "no such user"]):
        result = run(words)
        assert result.rc in (2, 4) and result.json()["ok"] is False, result


def test_global_options_stand_before_or_after(disk, run):
    assert run.ok(["--json", "status", disk]) == run.ok(["status", disk, "--json"])
    assert run.ok(["--quiet", "setup", disk]).err == ""
    assert run(["-q", "status", disk / "missing"]).err.startswith("error: ")


def test_closed_and_full_output(disk, run):
    with open("/dev/full", "w") as full:
        process = run.start(["status", str(disk)], stdout=full, stderr=subprocess.PIPE)
        assert process.wait(timeout=20) == 1
    reading, writing = os.pipe()
    os.close(reading)
    process = run.start(["status", str(disk)], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.wait(timeout=20) == 1
