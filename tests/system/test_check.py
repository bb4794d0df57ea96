"""`check`: each kind of damage, made for real, is found and named; repairing loses nothing."""

import fcntl
import os

import pytest

import harness
from test_store_attacks import assert_hangs, stopped_fuse

USERS = ".fscryptctl/users"
PATIENCE = 25


@pytest.fixture
def disk(filesystem, set_up, alice, bob):
    set_up(filesystem, "--all-users")
    for user in (alice, bob):
        home = filesystem / user.name
        home.mkdir()
        os.chown(home, user.uid, user.gid)
    return filesystem


@pytest.fixture
def encrypt(disk, run, key_file):
    def make(user, name="private", *options):
        place = disk / user.name / name
        key = key_file(name=f"key-{user.name}-{name}", owner=user)
        run.ok(["encrypt", place, "--create", "--key-file", key, *options], user=user)
        return place

    return make


@pytest.fixture
def check(disk, run):
    """check(*options, user=None): the findings as (severity, code, path below the disk)."""

    def make(*options, user=None, rc=None):
        result = run(["check", disk, "--json", *options], user=user, timeout=PATIENCE)
        answer = result.json()
        found = {(one["severity"], one["code"],
                  os.path.relpath(one["path"], disk.mountpoint)) for one in answer["findings"]}
        assert len(found) == len(answer["findings"]), "a finding stands there twice"
        errors = any(one["severity"] == "error" for one in answer["findings"])
        assert result.rc == (8 if errors else 0) if rc is None else rc, result
        for one in answer["findings"]:
            assert one["message"] and {"uid", "fix"} <= set(one)
        make.answer = answer
        return found

    return make


def record(disk, user, kind):
    (found,) = (disk / USERS / str(user.uid) / kind).glob("*.yaml")
    return found


def inside(disk, path):
    return str(path.relative_to(disk.mountpoint))


def own(path, user):
    os.chown(path, user.uid, user.gid, follow_symlinks=False)


def snapshot(disk):
    """Everything in the metadata, with owners and modes."""
    found = {}
    for path in (disk / ".fscryptctl").rglob("*"):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and info.st_size < 1 << 20 else None
        found[str(path)] = (info.st_mode, info.st_uid, info.st_nlink, content)
    return found


def test_nothing_is_wrong(disk, run, check, encrypt, alice):
    encrypt(alice)
    assert check() == set() and check("--repair") == set() and check(user=alice) == set()
    assert check.answer["changed"] is False
    assert "nothing is wrong" in run.ok(["check", disk]).err
    assert run.ok(["check", "--json"])["findings"] == []


def test_where_nothing_is_set_up(second_filesystem, disk, run, scratch):
    result = run(["check", second_filesystem, "--json"])
    assert result.rc == 4 and result.json()["error"]["reason"] == "not_set_up"
    assert run(["check", second_filesystem / "missing"]).rc == 4
    assert run.ok(["check", "--json"])["findings"] == []


# --- Files

def cut_off(path, other):
    path.write_bytes(path.read_bytes()[:-20])


def with_documents_that_disagree(path, other):
    head, mark, tail = path.read_bytes().rpartition(b"---\n")
    path.write_bytes(head + mark + tail.replace(path.stem.encode(), b"0" * len(path.stem)))


def with_another_identifier(path, other):
    path.write_bytes(path.read_bytes().replace(path.stem.encode(), b"0" * len(path.stem)))


def too_large(path, other):
    os.truncate(path, 1 << 40)


def emptied(path, other):
    path.write_bytes(b"")


@pytest.mark.parametrize("kind", ["policies", "protectors"])
@pytest.mark.parametrize("damage", [cut_off, with_documents_that_disagree, with_another_identifier,
                                    too_large, emptied])
def test_a_damaged_record(disk, check, encrypt, alice, bob, kind, damage):
    encrypt(alice)
    encrypt(bob)
    bad = record(disk, alice, kind)
    damage(bad, None)
    before = snapshot(disk)
    expected = {("error", "damaged", inside(disk, bad))}
    if kind == "protectors":
        policy = inside(disk, record(disk, alice, "policies"))
        expected |= {("error", "no_way_in", policy), ("warning", "protector_unusable", policy)}
    assert check() == expected
    assert {one["uid"] for one in check.answer["findings"]} == {alice.uid}
    assert all("restore" in one["fix"] for one in check.answer["findings"])
    assert check(user=alice) == expected
    assert check(user=bob) == set()
    assert check("--repair") == expected and check("--repair", user=alice) == expected
    assert snapshot(disk) == before


def writable_by_all(path, other):
    path.chmod(0o666)


def somebody_elses(path, other):
    own(path, other)


def a_hard_link(path, other):
    os.link(path, path.with_name("other-name"))


def a_symlink(path, other):
    path.rename(path.with_name("kept"))
    path.symlink_to("kept")
    own(path, harness.ALICE)


def a_fifo(path, other):
    path.unlink()
    os.mkfifo(path, 0o600)
    own(path, harness.ALICE)


def a_directory(path, other):
    path.unlink()
    path.mkdir()
    own(path, harness.ALICE)


@pytest.mark.parametrize("change", [writable_by_all, somebody_elses, a_hard_link, a_symlink, a_fifo,
                                    a_directory])
def test_a_record_that_is_not_to_be_trusted(disk, check, encrypt, alice, bob, change):
    encrypt(alice)
    bad = record(disk, alice, "policies")
    change(bad, bob)
    before = snapshot(disk)
    found = check()
    assert ("error", "untrusted", inside(disk, bad)) in found
    assert {one for one in found if one[1] not in ("untrusted", "foreign")} == set()
    check("--repair")
    check("--repair", user=alice)
    assert snapshot(disk) == before


def test_a_newer_format_is_left_alone(disk, check, encrypt, alice):
    encrypt(alice)
    bad = record(disk, alice, "policies")
    bad.write_bytes(bad.read_bytes().replace(b"policy-1", b"policy-2"))
    before = snapshot(disk)
    assert check("--repair") == {("error", "newer_format", inside(disk, bad))}
    assert check.answer["findings"][0]["fix"] is None
    assert snapshot(disk) == before


def test_a_directory_of_records_that_is_open_to_others(disk, check, encrypt, alice):
    encrypt(alice)
    for place in (disk / USERS / "1000/protectors", disk / USERS / "1000"):
        place.chmod(0o750)
        for options in ([], ["--repair"]):
            found = check(*options)
            assert ("error", "untrusted", inside(disk, place)) in found
        assert place.stat().st_mode & 0o777 == 0o750
        place.chmod(0o700)


def test_the_metadata_directory_itself(disk, check, run, encrypt, alice):
    encrypt(alice)
    (disk / ".fscryptctl").chmod(0o777)
    assert check() == {("error", "untrusted", ".fscryptctl")}
    assert run(["check"]).rc == 8, "it is not passed over when all are looked at"


def test_what_does_not_belong_there(disk, check, encrypt, alice, bob):
    encrypt(alice)
    good = record(disk, alice, "policies")
    strays = [disk / USERS / "1000/notes", good.with_name("backup.yaml"), good.with_name(good.name + "~"),
              disk / USERS / "no-user", disk / USERS / "007"]
    for path in strays:
        path.write_text("mine")
        own(path, alice)
    squatted = disk / USERS / "1001"
    squatted.mkdir(mode=0o700)
    own(squatted, alice)
    expected = {("info", "foreign", inside(disk, path)) for path in strays}
    assert check() == expected | {("warning", "squatted", inside(disk, squatted))}
    (fix,) = [one["fix"] for one in check.answer["findings"] if one["code"] == "squatted"]
    assert fix == f"fscryptctl setup {disk} --user 1001"
    assert check(user=alice) == {one for one in expected if "1000" in one[2]}
    assert check(user=bob) == {("error", "untrusted", inside(disk, squatted))}
    before = snapshot(disk)
    check("--repair")
    assert snapshot(disk) == before


def test_thousands_of_files_that_do_not_belong_there(disk, run, encrypt, alice):
    encrypt(alice)
    for number in range(3000):
        (disk / USERS / f"1000/policies/{number}").touch()
    answer = run.ok(["check", disk, "--json"], timeout=PATIENCE)
    assert 100 <= len(answer["findings"]) <= 110


def test_leftovers_are_removed(disk, check, encrypt, alice):
    place = encrypt(alice)
    leftovers = [disk / USERS / "1000/.tmp-0123", disk / USERS / "1000/.tmp-trial"]
    leftovers[0].write_text("half")
    leftovers[1].mkdir()
    for path in leftovers:
        own(path, alice)
    expected = {("info", "leftover", inside(disk, path)) for path in leftovers}
    assert check() == expected
    assert check.answer["findings"][0]["fix"] == f"fscryptctl check {disk} --repair"
    assert check("--repair", user=alice) == expected
    assert [one["repaired"] for one in check.answer["findings"]] == [True, True]
    assert check.answer["changed"] is True
    assert check() == set() and place.exists()


def test_another_spelling_is_written_anew(disk, run, check, encrypt, alice):
    place = encrypt(alice)
    for kind, old, new in (("policies", b"alice/private", b"alice/pri\\x76ate"),
                           ("protectors", b'"private"', b'"\\u0070rivate"')):
        path = record(disk, alice, kind)
        good = path.read_bytes()
        assert old in good
        path.write_bytes(good.replace(old, new))
        expected = {("info", "not_canonical", inside(disk, path))}
        assert check() == expected and path.read_bytes() != good
        assert check("--repair") == expected
        assert path.read_bytes() == good
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (alice.uid, 0o600)
    assert check() == set()
    assert run.ok(["status", place, "--json"], user=alice)["managed"] is True


# --- Records against each other

def test_the_only_way_in_is_gone(disk, check, encrypt, alice):
    encrypt(alice)
    protector = record(disk, alice, "protectors")
    policy = inside(disk, record(disk, alice, "policies"))
    kept = protector.read_bytes()
    protector.unlink()
    assert check() == {("error", "no_way_in", policy), ("warning", "protector_missing", policy)}
    protector.write_bytes(kept)
    own(protector, alice)
    protector.chmod(0o600)
    assert check() == set()


def test_one_of_two_ways_in_is_gone(disk, check, run, alice, key_file):
    first = key_file(name="first", owner=alice)
    place = disk / "alice/d"
    run.ok(["encrypt", place, "--create", "--key-file", first, "--name", "one"], user=alice)
    run.ok(["encrypt", disk / "alice/e", "--create", "--protector", "one", "--key-file", first,
            "--source", "raw-key", "--new-key-file", key_file(name="second", owner=alice), "--name",
            "two"], user=alice)
    ids = {one["name"]: one["id"] for one in run.ok(["status", disk, "--json"])["protectors"]}
    (disk / USERS / f"1000/protectors/{ids['two']}.yaml").unlink()
    key = run.ok(["status", disk / "alice/e", "--json"])["policy"]["key_identifier"]
    assert check() == {("warning", "protector_missing", f"{USERS}/1000/policies/{key}.yaml")}


def test_a_protector_that_opens_nothing(disk, check, encrypt, alice):
    encrypt(alice)
    record(disk, alice, "policies").unlink()
    assert check() == {("info", "unused_protector", inside(disk, record(disk, alice, "protectors")))}


def test_two_protectors_of_one_name(disk, check, encrypt, alice):
    encrypt(alice)
    first = record(disk, alice, "protectors")
    encrypt(alice, "other")
    (second,) = [path for path in first.parent.iterdir() if path != first]
    second.write_bytes(second.read_bytes().replace(b'name: "other"', b'name: "private"'))
    assert check() == {("warning", "duplicate_name", inside(disk, max(first, second)))}


def test_hashing_that_this_machine_does_not_permit(disk, check, run, alice, passphrase_file):
    secret = passphrase_file("correct horse", owner=alice)
    run.ok(["encrypt", disk / "alice/d", "--create", "--new-passphrase-file", secret], user=alice)
    path = record(disk, alice, "protectors")
    text = path.read_bytes()
    old = next(line.strip() for line in text.splitlines() if b"memory_kib" in line)
    path.write_bytes(text.replace(old, b"memory_kib: 4294967295"))
    assert check() == {("warning", "kdf_limit", inside(disk, path))}


# --- Records against directories

def test_a_directory_that_was_moved(disk, check, encrypt, alice, run):
    place = encrypt(alice)
    os.rename(place, disk / "alice/moved")
    assert check() == {("warning", "directory_missing", "alice/private")}
    before = snapshot(disk)
    check("--repair")
    assert snapshot(disk) == before, "where it is nobody knows: the only hint stays"


def test_a_stale_hint_beside_a_good_one(disk, check, encrypt, alice, run):
    place = encrypt(alice)
    path = record(disk, alice, "policies")
    good = path.read_bytes()
    path.write_bytes(good.replace(b'  - "alice/private"\n',
                                  b'  - "alice/old"\n  - "alice"\n  - "alice/private"\n'))
    expected = {("info", "stale_hint", "alice/old"), ("info", "stale_hint", "alice")}
    assert check() == expected
    assert check("--repair") == expected
    assert path.read_bytes() == good and check() == set()
    assert place.exists()


def test_another_directory_in_its_place(disk, check, encrypt, alice):
    first, second = encrypt(alice, "first"), encrypt(alice, "second")
    os.rename(first, disk / "alice/x")
    os.rename(second, first)
    os.rename(disk / "alice/x", second)
    assert check() == {("warning", "directory_missing", "alice/first"),
                       ("warning", "directory_missing", "alice/second")}


def test_a_directory_whose_record_is_gone(disk, check, encrypt, alice, bob, run):
    first, second = encrypt(alice, "first"), encrypt(alice, "second")
    key = run.ok(["status", second, "--json"])["policy"]["key_identifier"]
    os.rename(first, disk / "alice/x")
    os.rename(second, first)
    (disk / USERS / f"1000/policies/{key}.yaml").unlink()
    found = check()
    assert ("error", "no_record", "alice/first") in found
    assert {one["code"] for one in check.answer["findings"]} == {
        "no_record", "directory_missing", "unused_protector"}
    assert [one["id"] for one in check.answer["findings"] if one["code"] == "no_record"] == [key]


def test_other_modes_than_recorded(disk, check, encrypt, alice):
    encrypt(alice)
    path = record(disk, alice, "policies")
    path.write_bytes(path.read_bytes().replace(b"padding: 32", b"padding: 16"))
    before = snapshot(disk)
    assert check("--repair") == {("error", "modes_differ", "alice/private")}
    assert snapshot(disk) == before


# --- Hostile users

def test_a_hanging_mount_holds_the_check_up_for_nobody(disk, run, check, encrypt, alice, bob):
    encrypt(alice)
    encrypt(bob)
    for place in (disk / USERS / "1000", disk / USERS / "1000/policies", disk / "alice",
                  disk / "alice/private"):
        with stopped_fuse(place, alice):
            assert_hangs(place)
            found = check("--repair")
            assert found, place
            assert {one["uid"] for one in check.answer["findings"]} == {alice.uid}
            assert check(user=bob) == set()
    assert check() == set()


def test_hints_lead_nobody_through_symlinks(disk, check, run, encrypt, alice, bob):
    encrypt(alice)
    his = encrypt(bob)
    (disk / "alice/link").symlink_to(his)
    path = record(disk, alice, "policies")
    path.write_bytes(path.read_bytes().replace(b'  - "alice/private"\n',
                                               b'  - "alice/link"\n  - "alice/private"\n'))
    assert check() == {("info", "stale_hint", "alice/link")}


def test_another_writer_is_waited_for_and_then_told(disk, run, encrypt, alice):
    encrypt(alice)
    leftover = disk / USERS / "1000/.tmp-0123"
    leftover.write_text("half")
    own(leftover, alice)
    holder = os.open(disk / USERS / "1000", os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        result = run(["check", disk, "--repair", "--json"], timeout=PATIENCE)
        assert result.rc == 5 and leftover.exists()
        assert [one["repaired"] for one in result.json()["findings"]] == [False]
    finally:
        os.close(holder)


def test_the_text_says_what_to_do(disk, run, encrypt, alice):
    encrypt(alice)
    bad = record(disk, alice, "protectors")
    cut_off(bad, None)
    result = run(["check", disk])
    assert result.rc == 8
    assert result.out.startswith("error    ")
    assert f"fix: fscryptctl restore BACKUP --mount {disk} --replace" in result.out
    assert "errors in its metadata" in result.err and "hint" not in result.err


def test_what_check_says_can_be_done(disk, run, check, encrypt, alice, scratch):
    """The fix of a damaged record is followed to its end."""
    encrypt(alice)
    run.ok(["backup", disk, "--output", scratch / "b"])
    cut_off(record(disk, alice, "protectors"), None)
    check()
    (fix,) = {one["fix"] for one in check.answer["findings"] if one["code"] == "damaged"}
    words = fix.split()
    assert words[0] == "fscryptctl"
    run.ok([str(scratch / "b") if word == "BACKUP" else word for word in words[1:]] + ["--yes"])
    assert check() == set()


def test_another_user_s_directory_in_its_place_is_no_error_of_hers(disk, check, encrypt, alice, bob):
    place, his = encrypt(alice), encrypt(bob)
    os.rename(place, disk / "alice/x")
    os.rename(his, place)
    place.chmod(0o755)
    expected = {("warning", "directory_missing", "alice/private")}
    assert check(user=alice) == expected
    assert check() == expected | {("warning", "directory_missing", "bob/private")}


def test_a_hint_that_a_mount_hides_is_kept(disk, run, check, encrypt, alice):
    encrypt(alice)
    path = record(disk, alice, "policies")
    good = path.read_bytes()
    (disk / "alice/other").mkdir()
    path.write_bytes(good.replace(b'  - "alice/private"\n',
                                  b'  - "alice/other"\n  - "alice/gone"\n  - "alice/private"\n'))
    harness.command("mount", "-t", "tmpfs", "tmpfs", disk / "alice/other")
    assert check("--repair") == {("info", "stale_hint", "alice/gone")}
    assert b"alice/other" in path.read_bytes() and b"alice/gone" not in path.read_bytes()
