"""A command that dies or meets an error at any of its system calls: whatever is encrypted still
opens, and repeating the command finishes it."""

import signal

import pytest

import harness
from faults import CHANGING, READING, FaultInjector, check_each, sample
from interruptible import DOCUMENTED, Encryption, PassphraseChange, leftovers

# Which calls can end with which error.
FAILING = {
    "EIO": CHANGING + READING,
    "ENOSPC": ("write", "fsync", "ioctl", "mkdirat", "renameat", "openat"),
    "EINTR": ("write", "fsync", "ioctl", "flock", "openat", "openat2", "read", "getrandom"),
}
MOST_OF_ONE_READING_CALL = 6
MOST_OF_ONE_CHANGING_CALL = 40


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def encryption(disk, run, key_file):
    def make(create, owner):
        return Encryption(run, disk, key_file(), create, owner)
    return make


@pytest.fixture
def change(disk, run, passphrase_file):
    return PassphraseChange(run, disk, [passphrase_file("correct horse", name="old"),
                                        passphrase_file("battery staple", name="new")])


def check_every_end(injector, command, names, fault, ends):
    """Lets each call of these names meet the fault; the exit code is then one of `ends`."""
    command.prepare()
    calls = injector.calls(command.args, names)
    command.assert_nothing_lost(0)
    chosen = (sample([call for call in calls if call.name in CHANGING], MOST_OF_ONE_CHANGING_CALL) +
              sample([call for call in calls if call.name in READING], MOST_OF_ONE_READING_CALL))

    def check(call):
        command.prepare()
        result = injector.run(command.args, call, fault)
        assert result.rc in ends, result
        command.assert_nothing_lost(result.rc)
        command.finish()

    check_each(chosen, check)


@pytest.mark.parametrize("create", [False, True], ids=["existing", "created"])
@pytest.mark.parametrize("owner", [harness.ROOT, harness.ALICE], ids=lambda owner: owner.name)
def test_encrypt_can_be_killed_at_any_moment(encryption, injector, create, owner):
    command = encryption(create, owner)
    check_every_end(injector, command, CHANGING, "signal=KILL", {-signal.SIGKILL})


def test_change_passphrase_can_be_killed_at_any_moment(change, injector):
    check_every_end(injector, change, CHANGING, "signal=KILL", {-signal.SIGKILL})


@pytest.mark.parametrize("name, rc", [("INT", 130), ("TERM", 143)])
def test_encrypt_can_be_stopped_at_any_moment(encryption, injector, name, rc):
    command = encryption(True, harness.ROOT)
    check_every_end(injector, command, CHANGING, f"signal={name}", {0, rc})


@pytest.mark.parametrize("name, rc", [("INT", 130), ("TERM", 143)])
def test_change_passphrase_can_be_stopped_at_any_moment(change, injector, name, rc):
    check_every_end(injector, change, CHANGING, f"signal={name}", {0, rc})


@pytest.mark.parametrize("error", FAILING)
def test_encrypt_survives_an_error_of_any_call(encryption, injector, error, alice):
    check_every_end(injector, encryption(True, alice), FAILING[error], f"error={error}", DOCUMENTED)


@pytest.mark.parametrize("error", FAILING)
def test_change_passphrase_survives_an_error_of_any_call(change, injector, error):
    check_every_end(injector, change, FAILING[error], f"error={error}", DOCUMENTED)


def test_an_error_after_the_directory_was_encrypted_says_so(encryption, injector):
    command = encryption(False, harness.ROOT)
    command.prepare()
    last = injector.calls(command.args, ("fsync",))[-1]
    command.prepare()
    result = injector.run(command.args, last, "error=EIO")
    assert result.rc == 1 and command.encrypted()
    assert "is encrypted, but" in result.err
    command.finish()


def test_a_change_cut_off_between_two_disks_can_be_finished_on_each(disk, make_filesystem, set_up,
                                                                     change, injector, run):
    """The same protector opens a directory on either disk, with a record on each."""
    other_disk = make_filesystem()
    set_up(other_disk)
    copy = other_disk / "copy"
    run.ok(["encrypt", copy, "--create", "--protector", f"{disk}:private",
            "--passphrase-file", change.current])
    directories = [change.directory, copy]

    def opening(directory):
        found = [file for file in (change.current, change.other) if run(
            ["unlock", "--dry-run", directory, "--passphrase-file", file]).rc == 0]
        assert len(found) == 1, (directory, found)
        return found[0]

    def check(call):
        old, new = change.current, change.other
        injector.run(change.args, call, "signal=KILL")
        for directory in directories:
            if opening(directory) == old:
                run.ok(["change-passphrase", directory, "--passphrase-file", old,
                        "--new-passphrase-file", new])
        assert [opening(directory) for directory in directories] == [new, new]
        change.current, change.other = new, old
        assert leftovers(disk) == [] and leftovers(other_disk) == []

    calls = injector.calls(change.args, CHANGING)
    change.current, change.other = change.other, change.current
    assert [opening(directory) for directory in directories] == [change.current] * 2
    check_each(calls, check)
