"""`backup` and `restore`: what is saved comes back, and nothing that is there is lost by it."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest

import harness
from test_store_attacks import assert_hangs, stopped_fuse

USERS = ".fscryptctl/users"
READER = harness.REPOSITORY / "metadata-format/reader.py"


@pytest.fixture
def disk(filesystem, set_up, alice, bob):
    set_up(filesystem, "--all-users")
    for user in (alice, bob):
        home = filesystem / user.name
        home.mkdir()
        os.chown(home, user.uid, user.gid)
    return filesystem


@pytest.fixture
def encrypt(disk, run, passphrase_file):
    """encrypt(user, name, passphrase): a directory of the user's own, with a file in it."""

    def make(user, name="private", passphrase="correct horse", *options):
        secret = passphrase_file(passphrase, name=f"{user.name}-{name}", owner=user)
        place = disk / user.name / name if user.uid else disk / name
        run.ok(["encrypt", place, "--create", "--new-passphrase-file", secret, *options], user=user)
        (place / "file").write_text(f"{name} of {user.name}")
        return place

    return make


def key_of(run, directory):
    return run.ok(["status", directory, "--json"])["policy"]["key_identifier"]


def lose_metadata(disk, run):
    """All records are gone, as after a mistake with rm."""
    shutil.rmtree(disk / USERS)
    run.ok(["setup", disk, "--all-users"])


def records(disk):
    return {str(path.relative_to(disk)): path.read_bytes()
            for path in (disk / USERS).rglob("*.yaml")}


def seal(text):
    """A backup's text with the digest that fits it."""
    body = text[:text.rindex(b"sha256: ")]
    return body + b"sha256: " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def test_what_was_lost_comes_back(disk, run, encrypt, alice, bob, scratch):
    hers, his = encrypt(alice), encrypt(bob, "notes", "his passphrase")
    answer = run.ok(["backup", disk, "--output", scratch / "all", "--json"])
    assert answer["changed"] is True and answer["damaged"] == []
    assert sorted((one["kind"], one["uid"]) for one in answer["records"]) == [
        ("policy", 1000), ("policy", 1001), ("protector", 1000), ("protector", 1001)]
    before = records(disk)
    run.ok(["lock", hers, his])
    lose_metadata(disk, run)
    assert run(["unlock", hers], stdin=b"correct horse\n").rc == 4
    answer = run.ok(["restore", scratch / "all", "--mount", disk, "--json"])
    assert [one["state"] for one in answer["restored"]] == ["written"] * 4
    assert answer["skipped"] == answer["conflicts"] == answer["failed"] == []
    assert records(disk) == before
    for user, place, secret in ((alice, hers, b"correct horse\n"), (bob, his, b"his passphrase\n")):
        run.ok(["unlock", place], stdin=secret, user=user)
        assert (place / "file").read_text() == f"{place.name} of {user.name}"
        shown = run.ok(["status", place, "--json"], user=user)
        assert shown["managed"] is True and len(shown["protectors"]) == 1
    again = run.ok(["restore", scratch / "all", "--mount", disk, "--json"])
    assert again["changed"] is False
    assert [one["state"] for one in again["skipped"]] == ["identical"] * 4


def test_the_file_is_private_and_says_what_it_is(disk, run, encrypt, scratch):
    place = encrypt(harness.ROOT)
    result = run.ok(["backup", place, "--output", scratch / "b"])
    file = scratch / "b"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "guess passphrases" in result.err
    text = file.read_bytes()
    assert re.fullmatch(rb"[\n -~]*", text) and b"correct horse" not in text
    for name, content in records(disk).items():
        assert content in text, name
    head, digest = text[:text.rindex(b"sha256: ")], text[text.rindex(b"sha256: ") + 8:-1]
    assert hashlib.sha256(head).hexdigest().encode() == digest
    uuid = harness.command("blkid", "-o", "value", "-s", "UUID", disk.image).strip()
    assert f"filesystem: {uuid.replace('-', '')}\n".encode() in text
    assert f'mount_point: "{disk}"\n'.encode() in text


def test_the_umask_opens_it_to_nobody(disk, run, encrypt, scratch):
    encrypt(harness.ROOT)
    old = os.umask(0)
    try:
        run.ok(["backup", disk, "--output", scratch / "b"])
    finally:
        os.umask(old)
    assert stat.S_IMODE((scratch / "b").stat().st_mode) == 0o600


def a_file(path, target):
    path.write_text("mine")


def a_symlink(path, target):
    path.symlink_to(target)


def a_dangling_symlink(path, target):
    path.symlink_to(target.with_name("nothing"))


def a_fifo(path, target):
    os.mkfifo(path)


@pytest.mark.parametrize("occupy", [a_file, a_symlink, a_dangling_symlink, a_fifo])
def test_what_is_in_the_way_is_never_overwritten(disk, run, encrypt, scratch, occupy):
    encrypt(harness.ROOT)
    target = scratch / "target"
    target.write_text("precious")
    occupy(scratch / "b", target)
    result = run(["backup", disk, "--output", scratch / "b", "--json"])
    assert result.rc == 9 and result.json()["error"]["reason"] == "exists"
    assert target.read_text() == "precious"
    assert not (scratch / "nothing").exists()
    assert [path.name for path in scratch.iterdir() if path.name.startswith(".tmp-")] == []


def test_impossible_places(disk, run, encrypt, scratch):
    encrypt(harness.ROOT)
    for output, rc in ((f"{scratch}/", 2), (scratch / "missing/b", 4), ("", 2), (scratch / "..", 2)):
        assert run(["backup", disk, "--output", output, "--json"]).rc == rc, output
    assert run(["backup", disk, "--json"]).rc == 2
    assert run(["backup", "--output", scratch / "b", "--json"]).rc == 2
    assert run(["backup", disk / "missing", "--output", scratch / "b", "--json"]).rc == 4
    # A name that is no option after "--", and one relative to the current directory.
    run.ok(["backup", "--output", "b", "--", disk], cwd=scratch)
    assert (scratch / "b").exists()


def test_no_space_leaves_nothing(disk, run, encrypt, make_filesystem):
    encrypt(harness.ROOT)
    full = make_filesystem(size_mib=8)
    with open(full / "filler", "wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(4096))
    result = run(["backup", disk, "--output", full / "b", "--json"])
    assert result.rc == 1 and result.json()["error"]["reason"] == "no_space"
    assert sorted(path.name for path in full.mountpoint.iterdir()) == ["filler", "lost+found"]


def test_a_directory_above_encrypted_ones(disk, run, encrypt, alice, scratch):
    here, there = encrypt(alice, "here"), encrypt(alice, "there", "another secret")
    (disk / "alice/deep/below").mkdir(parents=True)
    # Records still say that it lies elsewhere.
    os.rename(here, disk / "alice/deep/below/moved")
    keys = {"here": key_of(run, disk / "alice/deep/below/moved"), "there": key_of(run, there)}

    def saved(path, name):
        answer = run.ok(["backup", path, "--output", scratch / name, "--json"])
        return {one["id"] for one in answer["records"] if one["kind"] == "policy"}

    assert saved(disk / "alice", "1") == set(keys.values())
    assert saved(disk / "alice/deep", "2") == {keys["here"]}
    assert saved(there, "3") == {keys["there"]}
    assert saved(there / "file", "4") == {keys["there"]}
    # The hint counts, too: whoever asks for where it was gets it.
    os.rename(disk / "alice/deep/below/moved", here)
    assert saved(disk / "alice/", "5") == set(keys.values())
    (disk / "plain").mkdir()
    result = run(["backup", disk / "plain", "--output", scratch / "6", "--json"])
    assert result.rc == 4 and not (scratch / "6").exists()


def test_what_no_record_opens_is_said(disk, run, encrypt, alice, scratch):
    encrypt(alice, "a")
    place = encrypt(alice, "b", "another secret")
    (disk / USERS / f"1000/policies/{key_of(run, place)}.yaml").unlink()
    result = run.ok(["backup", disk / "alice", "--output", scratch / "b", "--json"])
    assert [one["path"] for one in result["not_managed"]] == [str(place)]
    result = run(["backup", place, "--output", scratch / "c", "--json"])
    assert result.rc == 4 and result.json()["error"]["reason"] == "not_managed"


def test_a_user_saves_and_restores_her_own(disk, run, encrypt, alice, bob, scratch):
    place = encrypt(alice)
    encrypt(bob, "notes", "his passphrase")
    answer = run.ok(["backup", disk, "--output", scratch / "hers", "--json"], user=alice)
    assert {one["uid"] for one in answer["records"]} == {alice.uid}
    run.ok(["backup", disk, "--output", scratch / "all"])
    os.chmod(scratch / "all", 0o644)
    run.ok(["lock", place])
    lose_metadata(disk, run)
    result = run(["restore", scratch / "hers", "--json"], user=bob, cwd=disk.mountpoint)
    assert result.rc == 7, "bob cannot even read it"
    result = run.ok(["restore", scratch / "all", "--mount", disk, "--json"], user=alice)
    assert {(one["uid"], one["state"]) for one in result["restored"]} == {(alice.uid, "written")}
    assert {(one["uid"], one["state"]) for one in result["skipped"]} == {(bob.uid, "other_user")}
    assert sorted(os.listdir(disk / USERS)) == ["1000"]
    run.ok(["unlock", place], stdin=b"correct horse\n", user=alice)


def test_records_go_to_another_user(disk, run, encrypt, alice, bob, scratch):
    place = encrypt(alice)
    run.ok(["backup", place, "--output", scratch / "b"])
    os.chmod(scratch / "b", 0o644)
    run.ok(["lock", place])
    result = run(["restore", scratch / "b", "--mount", disk, "--json"], user=bob)
    assert result.rc == 7 and result.json()["error"]["code"] == "permission"
    assert run(["restore", scratch / "b", "--mount", disk, "--user", "alice"], user=bob).rc == 7
    result = run.ok(["restore", scratch / "b", "--mount", disk, "--user", "bob", "--json"])
    assert {(one["uid"], one["state"]) for one in result["restored"]} == {(bob.uid, "written")}
    for record in (disk / USERS / "1001").rglob("*.yaml"):
        assert (record.stat().st_uid, stat.S_IMODE(record.stat().st_mode)) == (bob.uid, 0o600)
    run.ok(["unlock", place, "--user", "bob"], stdin=b"correct horse\n")


def test_a_user_takes_an_old_account_s_records_over(disk, run, encrypt, alice, bob, scratch):
    place = encrypt(alice)
    run.ok(["backup", place, "--output", scratch / "b"])
    os.chown(scratch / "b", bob.uid, bob.gid)
    run.ok(["restore", scratch / "b", "--mount", disk, "--user", "bob"], user=bob)
    assert len(list((disk / USERS / "1001").rglob("*.yaml"))) == 2


def test_a_changed_record_is_kept_unless_told(disk, run, encrypt, alice, scratch, passphrase_file,
                                              tty):
    place = encrypt(alice)
    run.ok(["backup", place, "--output", scratch / "b"])
    run.ok(["change-passphrase", place, "--passphrase-file", passphrase_file("correct horse"),
            "--new-passphrase-file", passphrase_file("newer secret", name="new")])
    before = records(disk)
    how = ["restore", scratch / "b", "--mount", disk]
    for options in ([], ["--dry-run"], ["--yes"]):
        result = run([*how, *options, "--json"])
        assert result.rc == 9 and result.json()["error"]["reason"] == "conflict"
        assert [(one["kind"], one["state"]) for one in result.json()["conflicts"]] == [
            ("protector", "different")]
        assert [one["kind"] for one in result.json()["skipped"]] == ["policy"]
        assert records(disk) == before and result.json()["changed"] is False
    # Off a terminal nothing is replaced without --yes.
    assert run([*how, "--replace"]).rc == 2 and records(disk) == before
    answer = run.ok([*how, "--replace", "--dry-run", "--json"])
    assert [one["state"] for one in answer["restored"]] == ["replaced"]
    assert records(disk) == before
    assert "would replace what is there" in run.ok([*how, "--replace", "--dry-run"]).out
    terminal = tty([*how, "--replace"])
    terminal.expect(r"replace 1 record on .*\[y/N\]")
    terminal.sendline("n")
    assert terminal.finish() == 1 and records(disk) == before
    answer = run.ok([*how, "--replace", "--yes", "--json"])
    assert answer["changed"] is True and [one["state"] for one in answer["restored"]] == ["replaced"]
    run.ok(["lock", place])
    assert run(["unlock", place], stdin=b"newer secret\n").rc == 3
    run.ok(["unlock", place], stdin=b"correct horse\n")


def test_a_damaged_record_is_replaced_when_told(disk, run, encrypt, alice, scratch):
    place = encrypt(alice)
    run.ok(["backup", place, "--output", scratch / "b"])
    (record,) = (disk / USERS / "1000/policies").glob("*.yaml")
    good = record.read_bytes()
    record.write_bytes(good[:-10])
    result = run(["restore", scratch / "b", "--mount", disk, "--json"])
    assert result.rc == 9
    assert [one["state"] for one in result.json()["conflicts"]] == ["damaged"]
    assert record.read_bytes() == good[:-10]
    run.ok(["restore", scratch / "b", "--mount", disk, "--replace", "--yes"])
    assert record.read_bytes() == good
    # What a later version wrote is never replaced by what this one knows.
    later = good.replace(b"fscryptctl-policy-1", b"fscryptctl-policy-2")
    record.write_bytes(later)
    result = run(["restore", scratch / "b", "--mount", disk, "--replace", "--yes", "--json"])
    assert result.rc == 9
    assert [one["state"] for one in result.json()["conflicts"]] == ["newer_format"]
    assert record.read_bytes() == later


def test_other_labels_are_no_conflict(disk, run, encrypt, alice, scratch):
    place = encrypt(alice)
    run.ok(["backup", place, "--output", scratch / "b"])
    (record,) = (disk / USERS / "1000/policies").glob("*.yaml")
    record.write_bytes(record.read_bytes().replace(b"alice/private", b"alice/renamed"))
    answer = run.ok(["restore", scratch / "b", "--mount", disk, "--json"])
    assert sorted(one["state"] for one in answer["skipped"]) == ["equivalent", "identical"]
    assert b"alice/renamed" in record.read_bytes()


def test_a_name_that_is_taken_becomes_another(disk, run, encrypt, alice, scratch):
    encrypt(alice)
    run.ok(["backup", disk, "--output", scratch / "b"])
    shutil.rmtree(disk / USERS / "1000")
    encrypt(alice, "other", "another secret", "--name", "private")
    answer = run.ok(["restore", scratch / "b", "--mount", disk, "--json"])
    assert [one.get("name") for one in answer["restored"] if one["kind"] == "protector"] == [
        "private-2"]
    shown = run.ok(["status", disk, "--json"])
    assert sorted(one["name"] for one in shown["protectors"]) == ["private", "private-2"]
    assert sorted(one["state"] for one in
                  run.ok(["restore", scratch / "b", "--mount", disk, "--json"])["skipped"]) == [
                      "equivalent", "identical"]


def test_to_another_filesystem(disk, second_filesystem, set_up, run, encrypt, scratch):
    encrypt(harness.ROOT)
    run.ok(["backup", disk, "--output", scratch / "b"])
    result = run(["restore", scratch / "b", "--mount", scratch, "--json"])
    assert result.rc == 6, "tmpfs cannot encrypt"
    set_up(second_filesystem)
    result = run.ok(["restore", scratch / "b"], cwd=second_filesystem.mountpoint)
    assert "another filesystem" in result.err and str(disk) in result.err
    assert records(second_filesystem) == records(disk)
    # From a place without metadata, the filesystem that the backup is of.
    answer = run.ok(["restore", scratch / "b", "--json"])
    assert answer["mountpoint"] == str(disk)


def test_metadata_that_is_lost_as_a_whole(disk, second_filesystem, run, encrypt, alice, scratch):
    place = encrypt(alice)
    run.ok(["backup", disk, "--output", scratch / "b"])
    os.chmod(scratch / "b", 0o644)
    before = records(disk)
    shutil.rmtree(disk / ".fscryptctl")
    result = run(["restore", scratch / "b", "--mount", disk, "--json"], user=alice)
    assert result.rc == 4 and result.json()["error"]["reason"] == "not_set_up"
    answer = run.ok(["restore", scratch / "b", "--mount", disk, "--dry-run", "--json"])
    assert len(answer["restored"]) == 2 and not (disk / ".fscryptctl").exists()
    # Nor is another filesystem set up because somebody stands there; the right one is found.
    run.ok(["restore", scratch / "b"], cwd=second_filesystem.mountpoint)
    assert not (second_filesystem / ".fscryptctl").exists()
    assert records(disk) == before
    run.ok(["unlock", place, "--dry-run"], stdin=b"correct horse\n", user=alice)
    disk.unmount()
    result = run(["restore", scratch / "b"], cwd=second_filesystem.mountpoint)
    disk.mount()
    assert result.rc == 4 and not (second_filesystem / ".fscryptctl").exists()
    run.ok(["restore", scratch / "b", "--mount", second_filesystem])
    assert records(second_filesystem) == before


def test_a_user_s_disk_does_not_pass_for_the_one_of_the_backup(disk, make_filesystem, run, encrypt,
                                                               alice, scratch):
    encrypt(harness.ROOT)
    run.ok(["backup", disk, "--output", scratch / "b"])
    uuid = harness.command("blkid", "-o", "value", "-s", "UUID", disk.image).strip()
    disk.unmount()
    hers = make_filesystem(owner=alice)
    hers.unmount()
    harness.command("tune2fs", "-f", "-U", uuid, hers.image)
    hers.mount()
    run.ok(["setup", hers])
    result = run(["restore", scratch / "b"])
    disk.mount()
    assert result.rc == 4 and records(hers) == {}
    # Two of the same are none; whoever names one is obeyed.
    result = run(["restore", scratch / "b", "--mount", hers, "--json"])
    assert result.rc == 4, "root keeps nothing on a user's disk"
    assert result.json()["error"]["path"] == str(hers)
    run.ok(["restore", scratch / "b", "--mount", hers, "--user", "alice"])
    assert set(records(hers).values()) == set(records(disk).values())


def test_a_policy_without_its_protector_is_said(disk, run, encrypt, alice, scratch):
    encrypt(alice)
    (protector,) = (disk / USERS / "1000/protectors").glob("*.yaml")
    protector.unlink()
    result = run.ok(["backup", disk, "--output", scratch / "b"])
    assert protector.stem in result.err
    shutil.rmtree(disk / USERS / "1000")
    result = run.ok(["restore", scratch / "b", "--mount", disk])
    assert protector.stem in result.err and "neither in the backup nor there" in result.err


def test_damaged_records_stay_out_and_are_named(disk, run, encrypt, alice, bob, scratch):
    encrypt(alice)
    encrypt(bob, "notes", "his passphrase")
    (record,) = (disk / USERS / "1000/protectors").glob("*.yaml")
    record.write_bytes(record.read_bytes()[:-10])
    result = run(["backup", disk, "--output", scratch / "b", "--json"])
    assert result.rc == 8
    assert [one["file"] for one in result.json()["damaged"]] == [
        f"users/1000/protectors/{record.name}"]
    assert len(result.json()["records"]) == 3 and result.json()["changed"] is True
    lose_metadata(disk, run)
    run.ok(["restore", scratch / "b", "--mount", disk])
    assert len(records(disk)) == 3


def test_a_damaged_backup_restores_nothing(disk, run, encrypt, scratch):
    encrypt(harness.ROOT)
    run.ok(["backup", disk, "--output", scratch / "b"])
    good = (scratch / "b").read_bytes()
    lose_metadata(disk, run)
    bad = scratch / "bad"
    for damaged in (b"", good[:100], good[:-1], good[:-80], good + b"\n", good.replace(b"uid: 0", b"uid: 7"),
                    good.replace(b"salt", b"malt"), b"\0" * 4096, os.urandom(4096)):
        bad.write_bytes(damaged)
        result = run(["restore", bad, "--mount", disk, "--json"])
        assert result.rc == 8 and result.json()["changed"] is False
    bad.write_bytes(good.replace(b"backup-1", b"backup-2"))
    result = run(["restore", bad, "--mount", disk, "--json"])
    assert result.rc == 8 and result.json()["error"]["reason"] == "newer_format"
    bad.write_bytes(b"")
    os.truncate(bad, 1 << 40)
    assert run(["restore", bad, "--mount", disk, "--json"]).rc == 8
    assert records(disk) == {}


def test_what_is_no_file_is_not_opened(disk, run, scratch):
    os.mkfifo(scratch / "fifo")
    for path, rc in ((scratch / "fifo", 2), (scratch, 2), ("/dev/zero", 2), (scratch / "missing", 4)):
        assert run(["restore", path, "--mount", disk, "--json"], timeout=10).rc == rc, path


def test_a_hostile_backup_writes_only_records(disk, run, encrypt, alice, bob, scratch):
    """Whoever makes up a backup can choose uids and texts, not places."""
    encrypt(alice)
    run.ok(["backup", disk, "--output", scratch / "b"])
    good = (scratch / "b").read_bytes()
    shutil.rmtree(disk / USERS / "1000")
    for change in ((b"uid: 1000", b"uid: 65534"), (b"uid: 1000", b"uid: 4294967294")):
        (scratch / "bad").write_bytes(seal(good.replace(*change)))
        result = run(["restore", scratch / "bad", "--mount", disk, "--json"])
        made = [path.relative_to(disk / USERS).parts[0] for path in (disk / USERS).iterdir()]
        if change[1] == b"uid: 65534":
            assert result.rc == 8 and made == [] and len(result.json()["failed"]) == 2
        else:
            assert result.rc == 0 and made == ["4294967294"]
    (disk / USERS / "1000").symlink_to("/etc")
    os.chown(disk / USERS / "1000", alice.uid, alice.gid, follow_symlinks=False)
    result = run(["restore", scratch / "b", "--mount", disk, "--json"])
    assert result.rc == 8, "what alice put there is not followed"
    assert len(result.json()["failed"]) == 2
    assert not os.path.exists("/etc/policies")


def test_others_go_on_when_one_user_s_metadata_is_in_disorder(disk, run, encrypt, alice, bob, scratch):
    encrypt(alice)
    place = encrypt(bob, "notes", "his passphrase")
    run.ok(["backup", disk, "--output", scratch / "b"])
    shutil.rmtree(disk / USERS / "1000")
    shutil.rmtree(disk / USERS / "1001")
    (disk / USERS / "1000").mkdir(mode=0o777)
    os.chmod(disk / USERS / "1000", 0o777)
    os.chown(disk / USERS / "1000", alice.uid, alice.gid)
    result = run(["restore", scratch / "b", "--mount", disk, "--json"])
    assert result.rc == 8 and result.json()["changed"] is True
    assert {one["uid"] for one in result.json()["restored"]} == {bob.uid}
    assert {one["uid"] for one in result.json()["failed"]} == {alice.uid}
    assert run.ok(["status", place, "--json"], user=bob)["managed"] is True


def test_without_the_right_to_make_a_directory_there(filesystem, set_up, run, passphrase_file, alice,
                                                     scratch):
    set_up(filesystem, "--user", "alice")
    home = filesystem / "alice"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    run.ok(["encrypt", home / "d", "--create", "--new-passphrase-file",
            passphrase_file("correct horse", owner=alice)], user=alice)
    run.ok(["backup", home / "d", "--output", scratch / "b"], user=alice)
    shutil.rmtree(filesystem / USERS / "1000")
    for option in ([], ["--dry-run"]):
        result = run(["restore", scratch / "b", "--mount", filesystem, "--json", *option], user=alice)
        assert result.rc == 4 and result.json()["error"]["reason"] == "not_set_up"
    run.ok(["restore", scratch / "b", "--mount", filesystem])
    run.ok(["unlock", home / "d", "--dry-run"], stdin=b"correct horse\n", user=alice)


def test_the_independent_reader_opens_a_policy_from_a_backup(disk, run, encrypt, alice, scratch):
    key = key_of(run, encrypt(alice))
    encrypt(alice, "other", "another secret")
    run.ok(["backup", disk, "--output", scratch / "b"])
    read = [sys.executable, str(READER), "--backup", str(scratch / "b"), key]
    done = subprocess.run(read, input=b"correct horse\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, f"key identifier {key}\n")
    assert subprocess.run(read, input=b"another secret\n", capture_output=True, check=False).returncode == 3
    good = (scratch / "b").read_bytes()
    (scratch / "b").write_bytes(good[:-100])
    assert subprocess.run(read, input=b"correct horse\n", capture_output=True, check=False).returncode == 8


def test_a_hanging_mount_holds_nobody_up(disk, run, encrypt, alice, bob, scratch):
    encrypt(alice)
    encrypt(bob, "notes", "his passphrase")
    (disk / "alice/mount").mkdir()
    run.ok(["backup", disk, "--output", scratch / "before"])
    before = records(disk)
    for number, place in enumerate((disk / USERS / "1000", disk / USERS / "1000/policies",
                                    disk / "alice/mount")):
        with stopped_fuse(place, alice):
            assert_hangs(place)
            result = run(["backup", disk, "--output", scratch / f"all{number}", "--json"], timeout=25)
            saved = {(one["kind"], one["uid"]) for one in result.json()["records"]}
            assert {("policy", bob.uid), ("protector", bob.uid)} <= saved
            assert result.rc == (0 if place.name == "mount" else 8)
            result = run(["backup", disk / "alice", "--output", scratch / f"hers{number}", "--json"],
                         timeout=25)
            if place.name == "mount":
                assert result.rc == 0
                assert [one["path"] for one in result.json()["not_looked_at"]] == [str(place)]
            result = run(["restore", scratch / "before", "--mount", disk, "--json"], timeout=25)
            if place.name == "mount":
                assert result.rc == 0 and len(result.json()["skipped"]) == 4
            elif place.name == "policies":
                assert result.rc == 9
                assert {(one["kind"], one["uid"]) for one in result.json()["conflicts"]} == {
                    ("policy", alice.uid)}
            else:
                assert result.rc == 8
                assert {one["uid"] for one in result.json()["failed"]} <= {alice.uid}
    assert records(disk) == before


def test_two_at_once(disk, run, encrypt, scratch):
    """Of two that want one name one gets it; two that restore the same do no harm."""
    encrypt(harness.ROOT)
    before = records(disk)
    for number in range(5):
        output = scratch / f"b{number}"
        running = [run.start(["backup", str(disk), "--output", str(output)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        assert sorted(process.wait(30) for process in running) == [0, 9, 9]
        shutil.rmtree(disk / USERS / "0")
        running = [run.start(["restore", str(output), "--mount", str(disk)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        assert [process.wait(30) for process in running] == [0, 0, 0]
        assert records(disk) == before
