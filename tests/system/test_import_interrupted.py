"""An import that dies or meets an error at any of its system calls: the other tool's files are as
they were, and repeating the command finishes it."""

import os
import shutil
import signal

import pytest

import homed
from faults import CHANGING, FaultInjector, check_each, sample
from interruptible import DOCUMENTED, leftovers
from test_import_google import (ONE, TWO, change_with_old_tool, clean_etc, disk,  # noqa: F401
                                import_all, make, old, opens, states, tree)

MOST_OF_ONE_CALL = 12


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def imported(disk, make, old, run, alice, passphrase_file):
    """What an import is about, from nothing or with a passphrase that was changed since."""
    return GoogleImport(disk, make, old, run, alice, passphrase_file)


class GoogleImport:
    def __init__(self, disk, make, old, run, alice, passphrase_file):
        self._disk, self._run = disk, run
        self._files = {secret: passphrase_file(secret, name) for secret, name in
                       ((ONE, "one"), (TWO, "two"))}
        self.root_s = make("roots", ONE)
        self._hers_file = passphrase_file(TWO, "hers", alice)
        self.args = ["import", "google-fscrypt", disk, "--update"]
        run.ok(self.args)
        self._before = disk.mountpoint / ".before"
        shutil.copytree(disk / ".fscryptctl", self._before)
        change_with_old_tool(old, disk, ONE, TWO)
        self.hers, self._alice = make("hers", TWO, user=alice), alice
        run.ok(["lock", self.root_s])
        run.ok(["lock", self.hers], user=alice)
        self._others = tree(disk / ".fscrypt")

    def prepare(self, update):
        shutil.rmtree(self._disk / ".fscryptctl", ignore_errors=True)
        if update:
            shutil.copytree(self._before, self._disk / ".fscryptctl")

    def assert_whole(self, update):
        """Whatever is there opens, with the one secret or the other."""
        assert tree(self._disk / ".fscrypt") == self._others
        if update:
            assert any(opens(self._run, self.root_s, "--passphrase-file", file)
                       for file in self._files.values())

    def finish(self):
        answer = import_all(self._run, self._disk, "--update")
        assert len(answer["imported"]) == 4 and answer["skipped"] == [], answer
        assert set(states(answer)) <= {"imported", "updated", "unchanged"}
        assert leftovers(self._disk) == []
        assert opens(self._run, self.root_s, "--passphrase-file", self._files[TWO])
        assert opens(self._run, self.hers, "--passphrase-file", self._hers_file, user=self._alice)
        assert self._run.ok(["check", self._disk, "--json"])["findings"] == []


def check_every_end(injector, command, update, names, fault, ends):
    command.prepare(update)
    calls = sample(injector.calls(command.args, names), MOST_OF_ONE_CALL)

    def check(call):
        command.prepare(update)
        result = injector.run(command.args, call, fault)
        assert result.rc in ends, result
        command.assert_whole(update)
        command.finish()

    check_each(calls, check)


@pytest.mark.parametrize("update", [False, True], ids=["new", "update"])
def test_it_can_be_killed_at_any_moment(imported, injector, update):
    check_every_end(injector, imported, update, CHANGING, "signal=KILL", {-signal.SIGKILL})


@pytest.mark.parametrize("update", [False, True], ids=["new", "update"])
@pytest.mark.parametrize("name, rc", [("INT", 130), ("TERM", 143)])
def test_it_can_be_stopped_at_any_moment(imported, injector, update, name, rc):
    check_every_end(injector, imported, update, ("write", "mkdirat", "renameat", "flock"),
                    f"signal={name}", {0, rc})


@pytest.mark.parametrize("error, names", [
    ("EIO", ("write", "fsync", "renameat", "mkdirat", "openat2", "getdents64")),
    ("ENOSPC", ("write", "fsync", "renameat", "mkdirat", "openat"))])
def test_it_survives_an_error_of_any_call(imported, injector, error, names):
    check_every_end(injector, imported, True, names, f"error={error}", DOCUMENTED)


def test_the_import_of_a_home_can_be_killed_at_any_moment(filesystem, set_up, injector, run,
                                                          passphrase_file, secrets):
    set_up(filesystem)
    key = os.urandom(64)
    secrets.remember(key)
    home, file = filesystem / "alice.homedir", passphrase_file(ONE)
    homed.make_home(home, 2, key)
    homed.set_slots(home, [homed.sealed_slot(ONE.encode(), key)])
    args = ["import", "systemd-homed", home, "--name", "home", "--passphrase-file", file]

    def check(call):
        shutil.rmtree(filesystem / ".fscryptctl/users/0", ignore_errors=True)
        assert injector.run(args, call, "signal=KILL").rc == -signal.SIGKILL
        run.ok(args)
        assert len(list((filesystem / ".fscryptctl/users/0/protectors").iterdir())) == 1
        assert leftovers(filesystem) == [] and opens(run, home, "--passphrase-file", file)
        assert run.ok(["check", filesystem, "--json"])["findings"] == []

    calls = injector.calls(args, CHANGING)
    check_each(sample(calls, MOST_OF_ONE_CALL), check)
