"""`change-passphrase`: the point of it all. Data, key identifier and policy stay as they are."""

import os
import shutil

import pytest


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def old(passphrase_file):
    return passphrase_file("correct horse", name="old")


@pytest.fixture
def new(passphrase_file):
    return passphrase_file("battery staple", name="new")


@pytest.fixture
def private(disk, run, old):
    run.ok(["encrypt", disk / "private", "--create", "--passphrase-file", old])
    (disk / "private/letter").write_text("dear diary")
    return disk / "private"


def opens(run, directory, secret):
    result = run(["unlock", directory, "--dry-run", "--passphrase-file", secret])
    assert result.rc in (0, 3)
    return result.rc == 0


def change(old, new, *more):
    return ["change-passphrase", "--passphrase-file", old, "--new-passphrase-file", new, "--json", *more]


def snapshot(disk):
    base = disk / ".fscryptctl/users/0/policies"
    return {name: (base / name).read_bytes() for name in os.listdir(base)}


def test_only_the_protector_s_record_changes(disk, private, run, old, new):
    before, policies = run.ok(["status", private, "--json"]), snapshot(disk)
    written = os.statvfs(disk).f_bfree
    answer = run.ok(change(old, new, private))
    assert answer["changed"] is True
    assert answer["copies"] == [{"mountpoint": str(disk), "state": "written"}]
    after = run.ok(["status", private, "--json"])
    assert after["policy"] == before["policy"] and snapshot(disk) == policies
    assert [one["id"] for one in after["protectors"]] == [one["id"] for one in before["protectors"]]
    assert abs(os.statvfs(disk).f_bfree - written) <= 4
    assert opens(run, private, new) and not opens(run, private, old)
    run.ok(["lock", private])
    run.ok(["unlock", private, "--passphrase-file", new])
    assert (private / "letter").read_text() == "dear diary"


def test_a_wrong_passphrase_changes_nothing(disk, private, run, old, new):
    record = disk / ".fscryptctl/users/0/protectors" / os.listdir(
        disk / ".fscryptctl/users/0/protectors")[0]
    before = record.read_bytes()
    result = run(change(new, old, private))
    assert result.rc == 3 and result.json()["changed"] is False
    assert record.read_bytes() == before


def test_both_from_standard_input(private, run, new):
    run.ok(["change-passphrase", private, "--passphrase-file", "-", "--new-passphrase-file", "-"],
           stdin=b"correct horse\nbattery staple\nrest\n")
    assert opens(run, private, new)


@pytest.mark.parametrize("stdin", [b"", b"correct horse\n", b"correct horse\n\n"])
def test_missing_lines_are_an_error_and_not_an_empty_passphrase(private, run, old, stdin):
    result = run(["change-passphrase", private, "--passphrase-file", "-", "--new-passphrase-file", "-"],
                 stdin=stdin)
    assert result.rc == 2
    assert opens(run, private, old)


def test_a_new_one_off_a_terminal_needs_its_option(private, run, old):
    result = run(["change-passphrase", private, "--passphrase-file", old, "--json"])
    assert result.rc == 2 and opens(run, private, old)


def test_on_a_terminal(private, run, tty, old, new):
    terminal = tty(["change-passphrase", private])
    terminal.answer("passphrase for", "correct horse")
    terminal.answer("new passphrase for", "battery staple")
    terminal.answer("again", "battery stapel")
    terminal.answer("new passphrase for", "battery staple")
    terminal.answer("again", "battery staple")
    assert terminal.finish() == 0
    assert opens(run, private, new)


def test_a_raw_key_is_replaced_by_a_raw_key(disk, run, key_file, new):
    first, second = key_file(name="first"), key_file(name="second")
    run.ok(["encrypt", disk / "d", "--create", "--key-file", first])
    assert run(["change-passphrase", disk / "d", "--key-file", first, "--new-passphrase-file", new]).rc == 2
    run.ok(["change-passphrase", disk / "d", "--key-file", first, "--new-key-file", second])
    run.ok(["unlock", disk / "d", "--dry-run", "--key-file", second])
    assert run(["unlock", disk / "d", "--dry-run", "--key-file", first]).rc == 3


def test_without_a_path_the_only_protector_is_meant(disk, private, run, old, new, key_file):
    run.ok(change(old, new, "--mount", disk))
    run.ok(change(new, old), cwd=private.parent)
    run.ok(["encrypt", disk / "other", "--create", "--key-file", key_file()])
    run.ok(change(old, new, "--mount", disk))
    run.ok(["encrypt", disk / "third", "--create", "--passphrase-file", old])
    result = run(change(new, old, "--mount", disk))
    assert result.rc == 2 and result.json()["error"]["reason"] == "ambiguous"
    assert len(result.json()["error"]["candidates"]) == 2
    run.ok(change(new, old, "--mount", disk, "--protector", "private"))
    assert run(change(old, new, "--mount", disk, "--protector", "nobody")).rc == 4


def test_copies_follow_where_the_proven_secret_opens_them(private, second_filesystem, set_up, run, old,
                                                          new, make_filesystem, disk):
    set_up(second_filesystem)
    run.ok(["encrypt", second_filesystem / "d", "--create", "--protector", f"{disk}:private",
            "--passphrase-file", old])
    answer = run.ok(change(old, new, private))
    assert {copy["mountpoint"]: copy["state"] for copy in answer["copies"]} == {
        str(disk): "written", str(second_filesystem): "written"}
    assert opens(run, second_filesystem / "d", new)
    names = os.listdir(disk / ".fscryptctl/users/0/protectors")
    wrappings = [(mount / ".fscryptctl/users/0/protectors" / names[0]).read_text().split("---\n")[-1]
                 for mount in (disk, second_filesystem)]
    assert wrappings[0] == wrappings[1], "hashing can be shared"


def test_a_copy_that_another_secret_opens_is_left_alone(private, second_filesystem, set_up, run, old,
                                                        new, disk, passphrase_file):
    third = passphrase_file("third time", name="third")
    set_up(second_filesystem)
    run.ok(["encrypt", second_filesystem / "d", "--create", "--protector", f"{disk}:private",
            "--passphrase-file", old])
    second_filesystem.unmount()
    run.ok(change(old, third, private))
    second_filesystem.mount()
    answer = run.ok(change(third, new, private))
    assert {copy["mountpoint"]: copy["state"] for copy in answer["copies"]} == {
        str(disk): "written", str(second_filesystem): "stale"}
    run.ok(["unlock", second_filesystem / "d", "--passphrase-file", old])
    assert opens(run, private, new)


def test_an_old_copy_of_the_metadata_still_opens_and_that_is_said(disk, private, run, old, new, scratch):
    shutil.copytree(disk / ".fscryptctl", scratch / "backup")
    result = run(["change-passphrase", private, "--passphrase-file", old, "--new-passphrase-file", new])
    assert result.rc == 0 and "still open with the previous passphrase" in result.err
    shutil.rmtree(disk / ".fscryptctl")
    shutil.copytree(scratch / "backup", disk / ".fscryptctl")
    assert opens(run, private, old)


def test_the_longest_passphrase(private, run, old, secrets):
    longest = secrets.file("longest", b"x" * 4096 + b"\n")
    longer = secrets.file("longer", b"y" * 4097 + b"\n")
    assert run(change(old, longer, private)).rc == 2
    run.ok(change(old, longest, private))
    assert opens(run, private, longest)


def test_a_passphrase_is_bytes(private, run, old, secrets):
    bytes_of_any_kind = secrets.file("bytes", bytes(range(1, 10)) + bytes(range(11, 256)))
    run.ok(change(old, bytes_of_any_kind, private))
    assert opens(run, private, bytes_of_any_kind)


def test_of_several_protectors_the_secret_chooses(disk, private, run, old, new, passphrase_file):
    third, fourth = passphrase_file("third time", name="third"), passphrase_file("fourth", name="fourth")
    run.ok(["encrypt", disk / "both", "--create", "--protector", "private", "--passphrase-file", old,
            "--name", "second", "--source", "passphrase", "--new-passphrase-file", third])
    answer = run.ok(change(third, fourth, disk / "both"))
    assert answer["protector"]["name"] == "second"
    assert opens(run, disk / "both", fourth) and opens(run, disk / "both", old)
