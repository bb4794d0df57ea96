"""`import google-fscrypt` among users who do not wish each other well, and on disks that fail."""

import errno
import os
import shutil
import subprocess

import pytest

import harness
from test_import_google import (ONE, TWO, clean_etc, configured, disk, import_all,  # noqa: F401
                                linked, make, old, opens, policies, protectors, states, tree)


def by_reason(answer):
    return {entry["file"]: entry["reason"] for entry in answer["skipped"]}


def plant(path, data, user):
    path.write_bytes(data)
    path.chmod(0o600)
    os.chown(path, user.uid, user.gid)


def test_who_holds_the_own_records_stops_nobody_elses_import(disk, make, run, alice, bob, background):
    """She may hold the lock of her own records for as long as she likes."""
    make("hers", ONE, user=alice)
    import_all(run, disk)
    make("his", TWO, user=bob)
    folder = disk / f".fscryptctl/users/{alice.uid}"
    hold = ("import fcntl, os, sys, time; folder = os.open(sys.argv[1], os.O_RDONLY); "
            "fcntl.flock(folder, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)")
    holder = background(["/usr/bin/python3", "-c", hold, folder], user=alice)
    assert holder.stdout.readline() == "held\n"
    answer = import_all(run, disk, rc=5, timeout=40)
    assert answer["error"]["reason"] == "metadata_locked"
    assert str(alice.uid) in answer["error"]["message"] or "alice" in answer["error"]["message"]
    assert {record["user"] for record in answer["imported"]} == {"bob"}
    assert len(os.listdir(disk / f".fscryptctl/users/{bob.uid}/policies")) == 1


def test_a_users_file_never_replaces_a_record_of_root(disk, make, run, alice, passphrase_file):
    """She may name her file after root's policy, once root's own file has been removed."""
    directory = make("private")
    import_all(run, disk)
    run.ok(["lock", directory])
    (file,) = (disk / ".fscrypt/policies").iterdir()
    data = file.read_bytes()
    file.unlink()
    plant(file, data[:-1] + bytes([data[-1] ^ 1]), alice)
    before = tree(disk / ".fscryptctl")
    for options in ([], ["--update"]):
        answer = import_all(run, disk, *options, rc=8)
        assert answer["changed"] is False and str(file) in by_reason(answer)
        assert tree(disk / ".fscryptctl") == before
    assert opens(run, directory, "--passphrase-file", passphrase_file(ONE))


def test_a_users_file_puts_nothing_among_root_s_records(disk, make, run, configured, alice,
                                                        passphrase_file):
    """A wrapping that does not open would keep root from giving the protector a new key."""
    make("private")
    (file,) = (disk / ".fscrypt/policies").iterdir()
    planted = disk / ".fscrypt/policies" / ("ab" * 16)
    plant(planted, file.read_bytes().replace(file.name.encode(), planted.name.encode()), alice)
    answer = import_all(run, disk, rc=8)
    assert list(by_reason(answer)) == [str(planted)]
    assert os.listdir(disk / ".fscryptctl/users/0/policies") == [f"{file.name}.yaml"]
    assert os.listdir(disk / ".fscryptctl/users") == ["0"]
    run.ok(["protector", "rotate", "private", "--mount", disk, "--passphrase-file",
            passphrase_file(ONE)])


def test_root_s_own_way_into_a_user_s_directory(disk, make, old, run, alice, passphrase_file):
    hers = make("hers", ONE, user=alice)
    (policy,) = policies(disk)
    (first,) = protectors(disk)
    old("metadata", "create", "protector", disk, "--source=custom_passphrase", "--name=spare",
        stdin=f"{TWO}\n")
    (spare,) = set(protectors(disk)) - {first}
    old("metadata", "add-protector-to-policy", f"--protector={disk}:{spare}",
        f"--policy={disk}:{policy}", stdin=f"{TWO}\n{ONE}\n")
    assert (disk / ".fscrypt/policies" / policy).stat().st_uid == alice.uid
    file = str(disk / ".fscrypt/policies" / policy)

    def whose(answer):
        return {record["user"]: record["protectors"] for record in answer["imported"]
                if record["kind"] == "policy"}

    # She could have written it herself.
    answer = import_all(run, disk, rc=8)
    assert whose(answer) == {"alice": [first]}
    assert "file of alice" in by_reason(answer)[file] and "--user root" in by_reason(answer)[file]
    assert whose(import_all(run, disk, "--user", "root")) == {"root": [spare]}
    assert whose(import_all(run, disk)) == {"alice": [first], "root": [spare]}
    run.ok(["lock", hers], user=alice)
    two = passphrase_file(TWO, "two")
    assert opens(run, hers, "--passphrase-file", two, "--user", "root")
    assert import_all(run, disk)["changed"] is False


def test_update_takes_no_way_in_away_that_the_other_program_still_has(
        disk, second_filesystem, make, old, run, alice, bob, passphrase_file):
    """A protector that is away, damaged or somebody else's is no reason to forget its wrapping."""
    directory = make("private")
    old("setup", second_filesystem, "--all-users")
    old("metadata", "create", "protector", second_filesystem, "--source=custom_passphrase",
        "--name=far", stdin=f"{TWO}\n")
    (far,) = protectors(second_filesystem)
    (policy,) = policies(disk)
    old("metadata", "add-protector-to-policy", f"--protector={second_filesystem}:{far}",
        f"--policy={disk}:{policy}", stdin=f"{TWO}\n{ONE}\n")
    for owner in (None, bob):
        for folder in (disk, second_filesystem):
            for file in (folder / ".fscrypt").glob("*/*"):
                if owner:
                    os.chown(file, owner.uid, owner.gid)
        uid = owner.uid if owner else 0
        shutil.rmtree(disk / ".fscryptctl", ignore_errors=True)
        import_all(run, disk)
        record = disk / f".fscryptctl/users/{uid}/policies/{policy}.yaml"
        assert record.read_text().count("google-fscrypt-1") == 2
        second_filesystem.unmount()
        for planted in (False, True):
            file = disk / ".fscrypt/protectors" / far
            if planted:
                first = next(name for name in protectors(disk) if name not in (far, far + ".link"))
                data = (disk / ".fscrypt/protectors" / first).read_bytes()
                plant(file, data.replace(first.encode(), far.encode()), alice)
            answer = import_all(run, disk, "--update", rc=8)
            assert record.read_text().count("google-fscrypt-1") == 2, answer
            if planted:  # and the first time, as well
                shutil.rmtree(disk / ".fscryptctl")
                import_all(run, disk, rc=8)
                assert record.read_text().count("google-fscrypt-1") == 2, (uid, planted)
                file.unlink()
        second_filesystem.mount()
    run.ok(["lock", directory])
    shutil.rmtree(disk / ".fscryptctl")
    import_all(run, disk)
    assert opens(run, directory, "--passphrase-file", passphrase_file(TWO, "two"), "--user", "bob")


def test_a_users_own_disk_speaks_for_that_user_only(disk, second_filesystem, old, make, run, alice,
                                                    bob):
    """With the same UUID as his disk, say, while that one is away."""
    _, far = linked(disk, second_filesystem, old, make)
    link = disk / f".fscrypt/protectors/{far}.link"
    file = second_filesystem / ".fscrypt/protectors" / far
    for folder in (".", ".fscrypt", ".fscrypt/policies", ".fscrypt/protectors"):
        os.chown(second_filesystem / folder, alice.uid, alice.gid)
    for path in (link, file, disk / ".fscrypt/policies" / policies(disk)[0]):
        os.chown(path, bob.uid, bob.gid)
    answer = import_all(run, disk, rc=8)
    assert [record["kind"] for record in answer["imported"]] == []
    assert "belongs to another user" in by_reason(answer)[str(link)]
    os.chown(file, alice.uid, alice.gid)
    import_all(run, disk, rc=8)
    for path in (link, disk / ".fscrypt/policies" / policies(disk)[0]):
        os.chown(path, alice.uid, alice.gid)
    assert len(import_all(run, disk)["imported"]) == 2


def test_a_disk_whose_owner_lets_nobody_else_in(disk, make, old, run, alice, bob):
    """Where his records cannot be made, hers are all the same."""
    make("his", TWO, user=bob)
    make("hers", ONE, user=alice)
    for folder in (".", ".fscrypt", ".fscrypt/policies", ".fscrypt/protectors"):
        os.chown(disk / folder, alice.uid, alice.gid)
    (disk / ".fscrypt/policies").chmod(0o755)
    run.ok(["setup", disk])
    answer = import_all(run, disk, rc=4)
    assert {record["user"] for record in answer["imported"]} == {"alice"}
    assert [entry["user"] for entry in answer["failed"]] == ["bob"]
    assert os.listdir(disk / ".fscryptctl/users") == [str(alice.uid)]


def test_files_of_nobody(disk, make, run, alice):
    make("hers", ONE, user=alice)
    make("lost", TWO)
    for part in ("policies", "protectors"):
        for file in (disk / ".fscrypt" / part).iterdir():
            if file.stat().st_uid == 0:
                os.chown(file, 65534, 65534)
    answer = import_all(run, disk, rc=8)
    assert {record["user"] for record in answer["imported"]} == {"alice"}
    assert answer["error"]["reason"] == "untrusted"


def test_names_that_could_mislead(disk, make, run):
    make("p" * 24, ONE, protector_name="e" * 8)
    (file,) = (disk / ".fscrypt/protectors").iterdir()
    data = file.read_bytes()
    for name in (b"\x1b[2Jred", b"a\nb: c\n\n", b"\xe2\x80\xaeevil", b"a/b:c\"\\\0x", b"login\0\0\0"):
        file.write_bytes(data.replace(b"e" * 8, name[:8].ljust(8, b"_")))
        result = run(["import", "google-fscrypt", disk])
        assert result.rc == 0, result
        for text in (result.out, result.err):
            assert "\x1b" not in text and "\u202e" not in text and "\0" not in text
        assert len(result.out.splitlines()) == 3
        assert run.ok(["check", disk, "--json"])["findings"] == []
        shutil.rmtree(disk / ".fscryptctl")


def test_a_mount_point_of_odd_bytes(disk, make, run, room):
    make("private")
    (disk / ".fscrypt/policies" / ("0" * 32)).write_bytes(b"x")
    point = os.path.join(os.fsencode(room), b"a b\t\xff\n\\")
    os.mkdir(point)
    subprocess.run(["mount", "--move", os.fsencode(disk.mountpoint), point], check=True)
    answer = import_all(run, point, rc=8)
    assert answer["mountpoint"].endswith("a b\\x09\\xff\\x0a\\\\")
    assert "mountpoint_base64" in answer and "file_base64" in answer["skipped"][0]
    assert len(answer["imported"]) == 2 and "file_base64" in answer["imported"][0]
    (record,) = [name for name in os.listdir(os.path.join(point, b".fscryptctl/users/0/policies"))]
    with open(os.path.join(point, b".fscryptctl/users/0/policies", record), "a") as file:
        file.write("damage")
    answer = import_all(run, point, rc=8)
    assert len(answer["skipped"]) == 2
    result = run(["import", "google-fscrypt", point])
    assert result.rc == 8 and result.err.count("\n") == 5, result


def test_a_filesystem_that_is_read_only(disk, make, run):
    make("private")
    harness.command("mount", "-o", "remount,ro", disk)
    assert states(import_all(run, disk, "--dry-run")) == ["imported", "imported"]
    result = run(["import", "google-fscrypt", disk])
    assert result.rc == 1 and "Read-only file system" in result.err
    harness.command("mount", "-o", "remount,rw", disk)
    import_all(run, disk)
    harness.command("mount", "-o", "remount,ro", disk)
    assert import_all(run, disk)["changed"] is False


def test_a_full_disk_is_finished_when_there_is_room(disk, make, run, passphrase_file):
    directories = [make(f"d{number}") for number in range(6)]
    import_all(run, disk)
    shutil.rmtree(disk / ".fscryptctl/users/0")
    kept = 6
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(file.tell() // 4096 * 4096)
    info = os.statvfs(disk)
    with open(filler, "r+b") as file:
        file.truncate(os.path.getsize(filler) - kept * 4096)
    assert info.f_bavail < 64
    result = run(["import", "google-fscrypt", disk, "--json"])
    assert result.rc == 1 and result.json()["error"]["reason"] == "no_space", result
    assert len(result.json()["imported"]) < 12
    filler.unlink()
    answer = import_all(run, disk)
    assert len(answer["imported"]) == 12 and answer["skipped"] == []
    run.ok(["lock", directories[-1]])
    assert opens(run, directories[-1], "--passphrase-file", passphrase_file(ONE))
    assert run.ok(["check", disk, "--json"])["findings"] == []


def test_more_names_than_anybody_needs_hide_nobodys(disk, make, run, alice, bob):
    """Where everybody may make files, one user makes very many."""
    make("his", TWO, user=bob)
    folder = os.open(disk / ".fscrypt/protectors", os.O_RDONLY)
    for first in range(0, 70_000, 35_000):  # an inode has at most 65,000 names
        os.close(os.open(f".{first}", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        for number in range(first + 1, first + 35_000):
            os.link(f".{first}", f".{number}", src_dir_fd=folder, dst_dir_fd=folder)
    os.close(folder)
    answer = import_all(run, disk)
    assert len(answer["imported"]) == 2 and answer["skipped"] == []


def test_every_byte_of_a_link_may_be_damaged(disk, second_filesystem, old, make, run):
    """It leads to the protector, or nowhere and says so."""
    _, far = linked(disk, second_filesystem, old, make)
    link = disk / f".fscrypt/protectors/{far}.link"
    whole = link.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x11
        link.write_bytes(damaged)
        result = run(["import", "google-fscrypt", disk, "--dry-run", "--json"])
        answer = result.json()
        found = len(answer["imported"]) == 2
        assert result.rc == (0 if found else 8) and found != (str(link) in by_reason(answer)), result
