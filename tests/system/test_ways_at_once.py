"""Removing and adding ways in, many at once and cut off anywhere: a directory keeps one that works."""

import os
import signal
import subprocess

import pytest

import harness
import kernel
from faults import CHANGING, Call, FaultInjector, Paused, check_each, sample
from interruptible import DOCUMENTED, RECORDS, leftovers

WRONG_KEY, REFUSED = 3, 9
ROUNDS = 4


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def files(passphrase_file):
    return {name: passphrase_file(f"passphrase of {name}", name=name) for name in ("one", "two", "three")}


@pytest.fixture
def private(disk, run, files):
    run.ok(["encrypt", disk / "private", "--create", "--passphrase-file", files["one"], "--name", "one"])
    return disk / "private"


@pytest.fixture
def add(run, private, files):
    def make(name, existing="one", directory=private):
        run.ok(["policy", "add-protector", directory, "--name", name, "--passphrase-file", files[existing],
                "--new-passphrase-file", files[name]])
    return make


@pytest.fixture
def at_once(run):
    def execute(commands):
        commands = [[os.fsdecode(word) for word in words] for words in commands]
        started = [run.start(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE) for words in commands]
        results = []
        for words, process in zip(commands, started):
            out, err = process.communicate(timeout=60)
            results.append(harness.Result(words, process.returncode, out, err))
        assert all(result.rc in DOCUMENTED for result in results), results
        return results
    return execute


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


def opening(run, directory, files):
    """The names of those passphrases that open it."""
    found = []
    for name, file in files.items():
        result = run(["unlock", "--dry-run", directory, "--passphrase-file", file])
        assert result.rc in (0, WRONG_KEY), result
        if result.rc == 0:
            found.append(name)
    return found


@pytest.mark.parametrize("how", ["protectors", "wrappings", "both"])
def test_nobody_removes_the_last_two_ways_together(disk, private, run, add, at_once, files, how):
    def removal(name, wrapping):
        if wrapping:
            return ["policy", "remove-protector", private, "--protector", name, "--yes"]
        return ["protector", "remove", name, "--mount", disk, "--yes"]

    add("two")
    for _ in range(ROUNDS):
        results = at_once([removal("one", how != "protectors"), removal("two", how == "wrappings"),
                           removal("one", how == "wrappings"), removal("two", how != "protectors")])
        assert sum(result.rc == 0 for result in results) <= 2, results
        left = opening(run, private, files)
        assert len(left) == 1, (left, results)
        assert REFUSED in [result.rc for result in results], results
        for name in ("one", "two"):
            if name not in left:
                run(["protector", "remove", name, "--mount", disk])
                add(name, left[0])


def test_a_way_that_goes_while_another_removal_waits_counts_as_gone(disk, private, run, add, injector, files):
    """The second one decided before the first one took the lock."""
    add("two")
    words = ["protector", "remove", "one", "--mount", disk, "--yes"]
    first = Paused(injector, words, Call("flock", 1))
    try:
        second = run.start([os.fsdecode(word) for word in (
            "protector", "remove", "two", "--mount", disk, "--yes")], stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.5)
        assert first.finish().rc == 0
        out, err = second.communicate(timeout=20)
        assert second.returncode == REFUSED and b"last way" in err
    finally:
        first.end()
    assert opening(run, private, files) == ["two"]


def test_all_at_once(disk, private, run, add, at_once, files):
    """Additions, changes, rotations and removals: what is left opens, and nothing is left over."""
    add("two")
    for _ in range(ROUNDS):
        at_once([
            ["protector", "rotate", "one", "--mount", disk, "--passphrase-file", files["one"]],
            ["protector", "rotate", "one", "--mount", disk, "--passphrase-file", files["one"]],
            ["protector", "change-kdf", "one", "--mount", disk, "--passphrase-file", files["one"]],
            ["policy", "add-protector", private, "--name", "three", "--passphrase-file", files["two"],
             "--new-passphrase-file", files["three"]],
            ["protector", "remove", "two", "--mount", disk, "--yes"],
            ["protector", "rename", "one", "two", "--mount", disk],
        ])
        left = opening(run, private, files)
        assert "one" in left, left
        run(["protector", "rotate", "one", "--mount", disk, "--passphrase-file", files["one"]])
        listed = [one["name"] for one in run.ok(["protector", "list", disk, "--json"])["protectors"]]
        assert len(listed) == len(set(listed)) and not [name for name in listed if "rotated" in name], listed
        for name in listed:
            if name != "one" and "one" in listed:
                run.ok(["protector", "remove", name, "--mount", disk])
        if "one" not in listed:
            run.ok(["protector", "rename", "two", "one", "--mount", disk])
        run(["protector", "remove", "two", "--mount", disk])
        add("two")


def test_a_passphrase_changed_during_a_rotation_is_not_undone(disk, private, run, injector, files):
    change = ["change-passphrase", private, "--passphrase-file", files["one"],
              "--new-passphrase-file", files["two"]]
    rotate = ["protector", "rotate", "one", "--mount", disk, "--passphrase-file", files["one"]]
    run.ok(change)
    run.ok(["change-passphrase", private, "--passphrase-file", files["two"],
            "--new-passphrase-file", files["one"]])
    # The new protector's record is there, nothing relies on it, the lock is free.
    paused = Paused(injector, rotate, Call("flock", 2))
    try:
        changed = run.start([os.fsdecode(word) for word in change])
        result = paused.finish()
        assert changed.wait(30) in DOCUMENTED
    finally:
        paused.end()
    left = opening(run, private, files)
    assert len(left) == 1, (left, result)
    assert left == ["two"] if changed.returncode == 0 else left == ["one"]


class Removal:
    """A protector with two directories, each of which has another way."""

    def __init__(self, run, disk, directories, files, args):
        self._run, self._disk, self._directories, self._files = run, disk, directories, files
        self.args = args

    def prepare(self):
        for directory in self._directories:
            if "one" not in opening(self._run, directory, self._files):
                self._run.ok(["policy", "add-protector", directory, "--passphrase-file", self._files["two"],
                              "--new-passphrase-file", self._files["one"], *self._how()])

    def _how(self):
        names = [one["name"] for one in
                 self._run.ok(["protector", "list", self._disk, "--json"])["protectors"]]
        return ["--protector", "one"] if "one" in names else ["--name", "one"]

    def check(self, result):
        for directory in self._directories:
            assert "two" in opening(self._run, directory, self._files), result

    def finish(self):
        self._run(self.args)
        for directory in self._directories[:1]:
            assert opening(self._run, directory, self._files) == ["two"]
        assert leftovers(self._disk) == []


@pytest.fixture
def two_directories(disk, private, run, add, files):
    run.ok(["encrypt", disk / "more", "--create", "--protector", "one", "--passphrase-file", files["one"]])
    add("two")
    run.ok(["policy", "add-protector", disk / "more", "--protector", "two", "--passphrase-file", files["one"],
            "--new-passphrase-file", files["two"]])
    return [private, disk / "more"]


@pytest.mark.parametrize("fault, ends", [("signal=KILL", {-signal.SIGKILL}), ("error=EIO", DOCUMENTED),
                                         ("signal=INT", {0, 130})])
@pytest.mark.parametrize("how", ["protector", "wrapping"])
def test_a_removal_can_end_anywhere(disk, two_directories, run, injector, files, how, fault, ends):
    args = (["protector", "remove", "one", "--mount", disk] if how == "protector" else
            ["policy", "remove-protector", two_directories[0], "--protector", "one"])
    removal = Removal(run, disk, two_directories, files, args)
    calls = sample(injector.calls(args, CHANGING), 20)

    def check(call):
        removal.prepare()
        result = injector.run(args, call, fault)
        assert result.rc in ends, result
        removal.check(result)
        removal.finish()

    check_each(calls, check)


@pytest.mark.parametrize("fault, ends", [("signal=KILL", {-signal.SIGKILL}), ("error=EIO", DOCUMENTED),
                                         ("error=ENOSPC", DOCUMENTED)])
def test_an_addition_can_end_anywhere(disk, private, run, injector, files, fault, ends):
    args = ["policy", "add-protector", private, "--name", "two", "--passphrase-file", files["one"],
            "--new-passphrase-file", files["two"]]
    calls = sample(injector.calls(args, CHANGING), 20)

    def check(call):
        run(["policy", "remove-protector", private, "--protector", "two"])
        run(["protector", "remove", "two", "--mount", disk])
        result = injector.run(args, call, fault)
        assert result.rc in ends, result
        assert "one" in opening(run, private, files)
        run.ok(args)
        assert opening(run, private, files) == ["one", "two"]
        assert len(list((disk / RECORDS).rglob("protectors/*.yaml"))) == 2
        assert leftovers(disk) == []

    check_each(calls, check)
