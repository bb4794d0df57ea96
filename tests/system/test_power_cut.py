"""The power goes at any step of a command: after the next boot, whatever is encrypted opens, what
was reported as done is done, and repeating the command finishes it."""

import ctypes
import os

import pytest

import harness
import kernel
from faults import CHANGING, Call, FaultInjector, check_each
from interruptible import Encryption, PassphraseChange


class Disk:
    """A filesystem whose power can be cut."""

    def __init__(self, filesystem):
        self._filesystem = filesystem

    def settle(self):
        """Makes durable what tests did themselves."""
        descriptor = os.open(self._filesystem, os.O_RDONLY)
        assert ctypes.CDLL(None).syncfs(descriptor) == 0
        os.close(descriptor)

    def cut_power(self):
        kernel.cut_power(self._filesystem)
        self._filesystem.remount()


@pytest.fixture
def filesystem(make_filesystem, set_up, request):
    """With fast commits an fsync carries only what it must: less is durable by chance."""
    made = make_filesystem()
    if request.param == "fast_commit":
        made.unmount()
        harness.command("mkfs.ext4", "-q", "-F", "-O", "encrypt,fast_commit", made.image)
        made.mount()
    set_up(made)
    return made


def with_journals(*journals):
    return pytest.mark.parametrize("filesystem", journals, indirect=True)


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


def check_every_step(filesystem, injector, command):
    disk = Disk(filesystem)
    command.prepare()
    calls = injector.calls(command.args, CHANGING)
    command.assert_nothing_lost(0)

    def check(call):
        command.prepare()
        disk.settle()
        interrupted = injector.run(command.args, call, "signal=KILL")
        disk.cut_power()
        command.assert_nothing_lost(interrupted.rc)
        command.finish()
        disk.cut_power()
        command.assert_kept()

    check_each(calls, check)


@with_journals("ordinary")
def test_a_directory_reported_as_encrypted_opens_after_a_power_cut(filesystem, injector, run,
                                                                    key_file):
    check_every_step(filesystem, injector, Encryption(run, filesystem, key_file(), create=False))


@with_journals("fast_commit")
def test_a_directory_made_for_a_user_opens_after_a_power_cut(filesystem, injector, run, key_file,
                                                              alice):
    check_every_step(filesystem, injector, Encryption(run, filesystem, key_file(), True, alice))


@with_journals("ordinary", "fast_commit")
def test_one_passphrase_opens_after_a_power_cut(filesystem, injector, run, passphrase_file):
    files = [passphrase_file("correct horse", name="old"),
             passphrase_file("battery staple", name="new")]
    check_every_step(filesystem, injector, PassphraseChange(run, filesystem, files))


@with_journals("ordinary", "fast_commit")
def test_the_cut_would_show_what_was_not_made_durable(filesystem, injector, run, key_file):
    command = Encryption(run, filesystem, key_file(), create=True)
    command.prepare()
    disk = Disk(filesystem)
    disk.settle()
    result = injector.run(command.args, Call("fsync", "1+"), "retval=0")
    assert result.rc == 0 and command.encrypted()
    disk.cut_power()
    assert not command.encrypted()
