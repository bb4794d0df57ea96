"""Nothing left of something: space, permission to write, memory, keys, processes, descriptors. A
command then either works or says what is missing, and leaves everything as it was."""

import errno
import os

import pytest

import harness
import kernel
from faults import check_each
from interruptible import Encryption, PassphraseChange

BLOCK = 4096
# Not one that anything else on this machine may use: keys count for each uid.
CAROL = harness.User("carol", 64321, 64321)
MORE_KEYS_THAN_ANYBODY_MAY_ADD = 100_000


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem, "--all-users")
    return filesystem


@pytest.fixture
def limited(sandbox, scratch, secrets):
    """limited(limits, args, ...): the program under prlimit, which sets what it is told."""
    program = str(sandbox.install_program())
    prlimit = harness.Runner("/usr/bin/prlimit", scratch, secrets)

    def run(limits, args, **how):
        return prlimit([*limits, program, *args], **how)
    return run


@pytest.fixture
def shell(sandbox, scratch, secrets):
    """shell(redirections, args): the program with its descriptors as a shell sets them."""
    program = str(sandbox.install_program())
    sh = harness.Runner("/bin/sh", scratch, secrets)

    def run(redirections, args, **how):
        return sh(["-c", f'exec "$0" "$@" {redirections}', program, *args], **how)
    return run


@pytest.fixture
def files(passphrase_file):
    return [passphrase_file("correct horse", name="old"),
            passphrase_file("battery staple", name="new")]


def contents(disk):
    """What must not change; directories for records may have been made."""
    names = set(os.listdir(disk)) - {"ballast"}
    files = [path for path in disk.mountpoint.joinpath(".fscryptctl").rglob("*") if path.is_file()]
    return names, {path: path.read_bytes() for path in files}


class Ballast:
    """A file that takes all the space there is, but for what is asked to be left."""

    def __init__(self, disk):
        self._path = disk / "ballast"

    def leave(self, blocks):
        self.drop()
        with open(self._path, "wb", buffering=0) as file:
            for step in (1 << 20, BLOCK):
                self._fill(file, step)
            file.truncate(file.tell() - blocks * BLOCK)
            os.fsync(file.fileno())

    @staticmethod
    def _fill(file, step):
        try:
            while True:
                os.posix_fallocate(file.fileno(), file.tell(), step)
                file.seek(step, os.SEEK_CUR)
        except OSError as error:
            assert error.errno == errno.ENOSPC

    def drop(self):
        self._path.unlink(missing_ok=True)
        harness.command("sync", "-f", self._path.parent)


def check_at_every_space(disk, run, command):
    ballast = Ballast(disk)
    ends = {}

    def check(blocks):
        command.prepare()
        ballast.leave(blocks)
        before = contents(disk)
        result = run([*command.args, "--json"])
        ends[blocks] = result.rc
        if result.rc != 0:
            error = result.json()["error"]
            assert (result.rc, error["reason"]) == (1, "no_space"), result
            assert contents(disk) == before
        command.assert_nothing_lost(result.rc)
        ballast.drop()
        command.finish()

    check_each([*range(13), 16, 32], check)
    assert ends[0] == 1 and ends[32] == 0, ends


@pytest.mark.parametrize("create", [False, True], ids=["existing", "created"])
def test_encrypt_on_a_full_disk_changes_nothing(disk, run, key_file, create):
    check_at_every_space(disk, run, Encryption(run, disk, key_file(), create))


def test_change_passphrase_on_a_full_disk_changes_nothing(disk, run, files):
    check_at_every_space(disk, run, PassphraseChange(run, disk, files))


def test_a_disk_mounted_read_only_can_be_unlocked_and_nothing_else(disk, run, files):
    old, new = files
    run.ok(["encrypt", disk / "private", "--create", "--new-passphrase-file", old])
    (disk / "private/letter").write_text("dear diary")
    (disk / "plain").mkdir()
    disk.unmount()
    disk.mount("ro")
    before = contents(disk)
    for words in (["change-passphrase", disk / "private", "--passphrase-file", old,
                   "--new-passphrase-file", new],
                  ["encrypt", disk / "plain", "--new-passphrase-file", new],
                  ["encrypt", disk / "new", "--create", "--new-passphrase-file", new]):
        result = run([*words, "--json"])
        assert result.rc == 1, result
        assert "ead-only" in result.json()["error"]["message"]
    assert contents(disk) == before
    run.ok(["unlock", disk / "private", "--passphrase-file", old])
    assert (disk / "private/letter").read_text() == "dear diary"
    assert run.ok(["status", disk / "private", "--json"])["unlocked_by_me"]
    run.ok(["lock", disk / "private"])


@pytest.fixture
def home(disk):
    """A directory in which carol may write."""
    made = disk / "carol"
    made.mkdir()
    os.chown(made, CAROL.uid, CAROL.gid)
    return made


@pytest.fixture
def secret(passphrase_file):
    return passphrase_file("correct horse", name="carols", owner=CAROL)


def test_a_user_who_may_lock_no_memory_encrypts_and_unlocks(home, secret, limited):
    private = home / "private"
    for words in (["encrypt", private, "--create", "--new-passphrase-file", secret],
                  ["lock", private], ["unlock", private, "--passphrase-file", secret]):
        result = limited(["--memlock=0"], words, user=CAROL)
        assert result.rc == 0, result


def add_keys_up_to_the_quota(mountpoint):
    for number in range(MORE_KEYS_THAN_ANYBODY_MAY_ADD):
        try:
            kernel.add_key(mountpoint, number.to_bytes(32, "big"))
        except OSError as error:
            return error.errno
    return 0


def test_a_user_without_room_for_keys_is_told_so(disk, home, secret, run):
    private, other = home / "private", home / "other"
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", secret], user=CAROL)
    run.ok(["lock", private], user=CAROL)
    assert kernel.as_user(CAROL.uid, add_keys_up_to_the_quota, disk) == errno.EDQUOT
    before = contents(disk)

    result = run(["unlock", private, "--passphrase-file", secret, "--json"], user=CAROL)
    assert result.rc == 1
    assert result.json()["results"][0]["error"]["reason"] == "key_quota"
    encryption = ["encrypt", other, "--create", "--new-passphrase-file", secret]
    result = run([*encryption, "--json"], user=CAROL)
    assert (result.rc, result.json()["error"]["reason"]) == (1, "key_quota")
    assert contents(disk) == before and not other.exists()

    disk.remount()
    run.ok(encryption, user=CAROL)
    run.ok(["unlock", private, "--passphrase-file", secret], user=CAROL)


def test_hashing_works_where_no_thread_can_be_made(home, secret, run, limited):
    run.config.write_text(run.config.read_text().replace("lanes: 1", "lanes: 4"))
    private = home / "private"
    alone = ["--nproc=1"]
    for words in (["encrypt", private, "--create", "--new-passphrase-file", secret],
                  ["unlock", "--dry-run", private, "--passphrase-file", secret]):
        result = limited(alone, words, user=CAROL)
        assert result.rc == 0, result
    assert run(["unlock", "--dry-run", private, "--passphrase-file", secret], user=CAROL).rc == 0


def test_hashing_without_enough_memory_is_an_error_that_says_so(disk, run, limited, files):
    config = run.config.read_text()
    run.config.write_text(config.replace(config.split("memory_kib: ")[1].split("\n")[0], "131072"))
    old, _ = files
    private = disk / "private"
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", old])
    result = limited(["--as=100000000"], ["unlock", "--dry-run", private, "--passphrase-file", old])
    assert result.rc == 1
    assert "not enough memory to hash the passphrase (128 MiB)" in result.err


def test_little_memory_for_anything_is_an_error_and_no_crash(disk, limited, run, files):
    """From where nothing works up to where everything does."""
    old, _ = files
    private = disk / "private"
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", old])
    smallest = next(size for size in range(1 << 20, 64 << 20, 1 << 18)
                    if limited([f"--as={size}"], ["--version"]).rc == 0)
    ends = []
    for extra in range(0, 4 << 20, 1 << 16):
        result = limited([f"--as={smallest + extra}"],
                         ["unlock", "--dry-run", private, "--passphrase-file", old])
        assert result.rc in (0, 1), result
        ends.append(result.rc)
    assert 0 in ends


@pytest.mark.parametrize("size", [0, 1, 100, 500])
def test_a_limit_on_the_size_of_files_is_an_error(disk, run, limited, key_file, files, size):
    encryption = Encryption(run, disk, key_file(), create=True)
    encryption.prepare()
    before = contents(disk)
    result = limited([f"--fsize={size}"], encryption.args)
    assert result.rc == 1, result
    assert "arge" in result.err
    assert contents(disk) == before
    encryption.finish()


def test_few_descriptors_are_an_error_and_no_loss(disk, run, limited, key_file):
    encryption = Encryption(run, disk, key_file(), create=True)

    def check(number):
        encryption.prepare()
        result = limited([f"--nofile={number}"], encryption.args)
        assert result.rc in (0, 1), result
        encryption.assert_nothing_lost(result.rc)
        encryption.finish()

    check_each(range(4, 17, 2), check)


# Standard input, output and error may be anything, or missing.

def test_an_answer_that_cannot_be_written_is_a_failure_and_the_work_is_done(disk, run, shell,
                                                                            key_file):
    for number, redirection in enumerate((">/dev/full", ">&-", ">/dev/full 2>/dev/full",
                                          ">&- 2>&- <&-")):
        encryption = ["encrypt", disk / f"d{number}", "--create", "--new-key-file",
                      key_file(name=f"key{number}"), "--json"]
        assert shell(redirection, encryption).rc == 1, redirection
        assert kernel.get_policy(disk / f"d{number}") is not None, redirection
        assert run.ok(encryption)["changed"] is False
        assert shell(redirection, ["status", disk]).rc == 1, redirection


def test_closed_messages_do_not_hinder(disk, shell, key_file):
    result = shell("2>&-", ["encrypt", disk / "private", "--create", "--new-key-file", key_file()])
    assert result.rc == 0
    assert kernel.get_policy(disk / "private") is not None


def test_no_descriptor_of_a_file_passes_for_standard_output(disk, shell, key_file):
    """With descriptors 0 to 2 closed, a record opened next would take their numbers."""
    key = key_file()
    shell("<&- >&- 2>&-", ["encrypt", disk / "private", "--create", "--new-key-file", key])
    records = [path.read_text() for path in disk.mountpoint.joinpath(".fscryptctl").rglob("*.yaml")]
    assert len(records) == 2
    assert all(record.startswith("---\nformat: ") for record in records)


def test_an_end_of_input_is_no_passphrase(disk, run, shell, files):
    old, new = files
    private = disk / "private"
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", old])
    for redirection in ("<&-", "</dev/null"):
        for words in (["unlock", "--dry-run", private],
                      ["change-passphrase", private, "--new-passphrase-file", new],
                      ["encrypt", disk / "other", "--create", "--new-passphrase-file", "-"]):
            result = shell(redirection, words)
            assert result.rc == 2, (redirection, result)
    assert not (disk / "other").exists()
    assert run(["unlock", "--dry-run", private, "--passphrase-file", old]).rc == 0
