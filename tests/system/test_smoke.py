"""The life of an encrypted directory, step by step, each believed only when the kernel agrees."""

import errno
import json
import os

import pytest

import kernel

LETTER = "dear diary, nobody may read this"


class Way:
    """A way into a directory: the options that make it and those that use it."""

    def __init__(self, source, making, using):
        self.source, self.making, self.using = source, making, using


@pytest.fixture
def passphrase(passphrase_file):
    file = passphrase_file("correct horse battery")
    return Way("passphrase", ["--new-passphrase-file", file], ["--passphrase-file", file])


@pytest.fixture
def raw_key(key_file):
    file = key_file()
    return Way("raw-key", ["--source", "raw-key", "--new-key-file", file], ["--key-file", file])


@pytest.fixture(params=["passphrase", "raw_key"])
def way(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


def encrypt(run, directory, way, **how):
    answer = run.ok(["encrypt", directory, "--create", *way.making, "--json"], **how)
    assert answer["changed"] is True
    return directory


@pytest.fixture
def private(disk, run, way):
    """An unlocked encrypted directory with one letter in it."""
    directory = encrypt(run, disk / "private", way)
    (directory / "letter").write_text(LETTER)
    return directory


@pytest.fixture
def private_by_passphrase(disk, run, passphrase):
    directory = encrypt(run, disk / "private", passphrase)
    (directory / "letter").write_text(LETTER)
    return directory


def status(run, path, **how):
    return run.ok(["status", path, "--json"], **how)


def test_setting_up_twice_changes_nothing(filesystem, set_up, run):
    assert set_up(filesystem)["changed"] is True
    assert run.ok(["setup", filesystem, "--json"])["changed"] is False
    assert oct(os.stat(filesystem / ".fscryptctl").st_mode) == "0o40755"


def test_encrypt_gives_an_unlocked_directory_that_only_its_owner_enters(private):
    policy = kernel.get_policy(private)
    assert (policy.version, policy.contents, policy.filenames) == (2, 1, 4)
    assert policy.padding == 32
    assert kernel.key_status(private, policy.key_identifier) == ("present", True, 1)
    assert oct(os.stat(private).st_mode) == "0o40700"


def test_status_says_what_the_kernel_says(disk, private, way, run):
    identifier = kernel.get_policy(private).key_identifier
    seen = status(run, private)
    assert seen["encrypted"] is True
    assert seen["key_status"] == "present"
    assert seen["unlocked_by_me"] is True
    assert seen["policy"]["key_identifier"] == identifier
    assert seen["policy"]["contents"] == "AES-256-XTS"
    assert seen["policy"]["filenames"] == "AES-256-CTS"
    assert seen["policy"]["padding"] == 32
    assert [protector["source"] for protector in seen["protectors"]] == [way.source]

    seen = status(run, disk)
    assert seen["filesystem"]["encryption"] == "enabled"
    assert seen["filesystem"]["metadata"] is True
    assert [policy["key_identifier"] for policy in seen["policies"]] == [identifier]
    assert seen["protectors"][0]["opens"] == [identifier]

    seen = run.ok(["status", "--json"])
    assert str(disk) in [filesystem["mountpoint"] for filesystem in seen["filesystems"]]
    assert str(private) in [directory["path"] for directory in seen["directories"]]


def test_a_locked_directory_shows_neither_names_nor_contents(disk, private, run):
    identifier = kernel.get_policy(private).key_identifier
    answer = run.ok(["lock", private, "--json"])
    assert answer["changed"] is True
    assert kernel.key_status(disk, identifier).state == "absent"
    (name,) = os.listdir(private)
    assert name != "letter"
    with pytest.raises(OSError) as refusal:
        (private / name).read_text()
    assert refusal.value.errno == errno.ENOKEY
    assert status(run, private)["key_status"] == "absent"
    assert run.ok(["lock", private, "--json"])["changed"] is False


def test_unlock_brings_the_files_back(private, way, run):
    run.ok(["lock", private])
    assert run.ok(["unlock", private, *way.using, "--json"])["changed"] is True
    assert (private / "letter").read_text() == LETTER
    assert run.ok(["unlock", private, *way.using, "--json"])["changed"] is False


def test_everything_needed_to_unlock_lies_on_the_disk(disk, private, way, run):
    run.config.unlink()
    disk.remount()
    assert status(run, private)["key_status"] == "absent"
    run.ok(["unlock", private, *way.using])
    assert (private / "letter").read_text() == LETTER


def test_neither_secret_nor_letter_is_found_on_the_disk(disk, private, secrets, run):
    secrets.remember(LETTER.encode())
    run.ok(["lock", private])
    disk.unmount()
    secrets.assert_absent(disk.image.read_bytes(), "the disk image")


def test_a_wrong_secret_opens_nothing(disk, private, way, run, passphrase_file, key_file):
    identifier = kernel.get_policy(private).key_identifier
    run.ok(["lock", private])
    wrong = {"passphrase": lambda: passphrase_file("incorrect horse", name="wrong"),
             "raw-key": lambda: key_file(name="wrong")}[way.source]()
    result = run(["unlock", private, way.using[0], wrong, "--json"])
    assert result.rc == 3
    # A command that takes several paths says for each of them what went wrong.
    (outcome,) = result.json()["results"]
    assert outcome["error"]["code"] == "wrong_key"
    assert kernel.key_status(disk, identifier).state == "absent"


def test_changing_the_passphrase_keeps_key_and_files(disk, private_by_passphrase, passphrase, run,
                                                     passphrase_file):
    private = private_by_passphrase
    policy = kernel.get_policy(private)
    inode = os.stat(private / "letter").st_ino
    new = passphrase_file("battery staple horse", name="new")
    answer = run.ok(["change-passphrase", private, *passphrase.using,
                     "--new-passphrase-file", new, "--json"])
    assert answer["changed"] is True
    assert answer["copies"] == [{"mountpoint": str(disk), "state": "written"}]
    assert kernel.get_policy(private) == policy

    run.ok(["lock", private])
    assert run(["unlock", private, *passphrase.using]).rc == 3
    assert kernel.key_status(disk, policy.key_identifier).state == "absent"
    run.ok(["unlock", private, "--passphrase-file", new])
    assert (private / "letter").read_text() == LETTER
    assert os.stat(private / "letter").st_ino == inode


def test_a_wrong_old_passphrase_changes_nothing(private_by_passphrase, passphrase, run,
                                                passphrase_file):
    wrong = passphrase_file("incorrect horse", name="wrong")
    new = passphrase_file("battery staple horse", name="new")
    assert run(["change-passphrase", private_by_passphrase, "--passphrase-file", wrong,
                "--new-passphrase-file", new]).rc == 3
    run.ok(["lock", private_by_passphrase])
    assert run(["unlock", private_by_passphrase, "--passphrase-file", new]).rc == 3
    run.ok(["unlock", private_by_passphrase, *passphrase.using])


def test_a_directory_with_files_is_left_alone(disk, run, passphrase):
    directory = disk / "full"
    directory.mkdir()
    (directory / "letter").write_text(LETTER)
    result = run(["encrypt", directory, *passphrase.making, "--json"])
    assert result.rc == 9
    assert result.json()["error"]["reason"] == "not_empty"
    assert kernel.get_policy(directory) is None
    assert (directory / "letter").read_text() == LETTER


def test_a_secret_comes_through_stdin_too(disk, private_by_passphrase, run):
    run.ok(["lock", private_by_passphrase])
    run.ok(["unlock", private_by_passphrase], stdin=b"correct horse battery\n")
    assert (private_by_passphrase / "letter").read_text() == LETTER


def test_a_user_encrypts_without_root_and_nobody_else_opens_it(filesystem, set_up, run, alice, bob,
                                                               passphrase_file):
    set_up(filesystem, "--all-users")
    home = filesystem / "alice"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    file = passphrase_file("correct horse battery", owner=alice)
    private = encrypt(run, home / "private",
                      Way("passphrase", ["--new-passphrase-file", file], None), user=alice)
    assert os.stat(private).st_uid == alice.uid
    records = filesystem / ".fscryptctl/users/1000"
    assert (os.stat(records).st_uid, oct(os.stat(records).st_mode)) == (alice.uid, "0o40700")
    identifier = kernel.get_policy(private).key_identifier
    assert kernel.as_user(alice.uid, kernel.key_status, filesystem, identifier).added_by_self

    others = passphrase_file("correct horse battery", name="bobs", owner=bob)
    assert run(["unlock", private, "--passphrase-file", others], user=bob).rc in (4, 7)
    run.ok(["lock", private], user=alice)
    assert kernel.key_status(filesystem, identifier).state == "absent"


def test_a_person_at_a_terminal_is_asked_twice_and_sees_nothing_typed(disk, tty, run):
    terminal = tty(["encrypt", disk / "private", "--create", "--no-recovery-key"])
    terminal.answer(r"(?i)passphrase.*: *$", "correct horse battery")
    terminal.answer(r"again.*: *$", "correct horse battery")
    assert terminal.finish() == 0
    assert "correct horse" not in terminal.before
    assert kernel.get_policy(disk / "private") is not None
    run.ok(["lock", disk / "private"])
    terminal = tty(["unlock", disk / "private"])
    terminal.answer(r"(?i)passphrase.*: *$", "incorrect horse")
    terminal.answer(r"2 tries left[^:]*: *$", "correct horse battery")
    assert terminal.finish() == 0


def test_usage_errors_are_json_too(run):
    result = run(["encrypt", "--json"])
    assert result.rc == 2
    assert result.json()["error"]["code"] == "usage"
    assert json.loads(run(["no-such-command", "--json"]).out)["ok"] is False
