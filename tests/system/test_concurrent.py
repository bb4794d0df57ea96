"""Many commands at once on the same directories and records: nothing is lost, every directory opens
with what was reported, and the names of protectors stay unique."""

import os
import signal
import subprocess
from collections import Counter

import pytest

import harness
import kernel
from faults import Call, FaultInjector, Paused
from interruptible import DOCUMENTED, RECORDS, leftovers

PROCESSES = 8
ROUNDS = 3
WRONG_KEY, REFUSED = 3, 9


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def at_once(run):
    """at_once(commands): starts all of them, then waits; their results in the same order."""

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
def opens(run):
    """opens(directory, secret option, file): whether this secret opens the directory."""

    def ask(directory, option, file):
        result = run(["unlock", "--dry-run", directory, option, file])
        assert result.rc in (0, WRONG_KEY), result
        return result.rc == 0

    return ask


def assert_orderly(disk, run):
    """Each name once, each record in use, nothing left over."""
    status = run.ok(["status", disk, "--json"])
    names = Counter(protector["name"] for protector in status["protectors"])
    assert not [name for name, count in names.items() if count > 1], names
    assert all(protector["opens"] for protector in status["protectors"]), status["protectors"]
    assert all(path["state"] == "ok" for policy in status["policies"] for path in policy["paths"])
    assert leftovers(disk) == []


def test_of_those_who_change_one_passphrase_at_once_one_wins(disk, run, at_once, opens,
                                                              passphrase_file):
    private = disk / "private"
    current = passphrase_file("the first", name="first")
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", current])
    for number in range(ROUNDS):
        files = [passphrase_file(f"round {number} process {process}", name=f"{number}-{process}")
                 for process in range(PROCESSES)]
        results = at_once(["change-passphrase", private, "--passphrase-file", current,
                           "--new-passphrase-file", file] for file in files)
        assert Counter(result.rc for result in results) == {0: 1, WRONG_KEY: PROCESSES - 1}, results
        opening = [file for file in [current, *files] if opens(private, "--passphrase-file", file)]
        assert opening == [file for file, result in zip(files, results) if result.rc == 0]
        (current,) = opening
    assert_orderly(disk, run)


def test_changes_of_different_protectors_do_not_hinder_each_other(disk, run, at_once, opens,
                                                                   passphrase_file):
    directories = [disk / f"d{process}" for process in range(PROCESSES)]
    files = {directory: [passphrase_file(f"{directory.name} {side}", name=f"{directory.name}{side}")
                         for side in ("heads", "tails")] for directory in directories}
    at_once(["encrypt", directory, "--create", "--new-passphrase-file", files[directory][0]]
            for directory in directories)
    for _ in range(ROUNDS):
        results = at_once(["change-passphrase", directory, "--passphrase-file", old,
                           "--new-passphrase-file", new] for directory, (old, new) in files.items())
        assert all(result.rc == 0 for result in results), results
        for directory, (old, new) in files.items():
            assert opens(directory, "--passphrase-file", new)
            assert not opens(directory, "--passphrase-file", old)
            files[directory] = [new, old]
    assert_orderly(disk, run)


def test_directories_of_the_same_name_get_protectors_of_different_names(disk, run, at_once, opens,
                                                                         key_file):
    ways = {disk / f"p{number}" / "private": key_file(name=f"key{number}")
            for number in range(PROCESSES)}
    for directory in ways:
        directory.parent.mkdir()
    results = at_once(["encrypt", directory, "--create", "--new-key-file", key]
                      for directory, key in ways.items())
    assert all(result.rc == 0 for result in results), results
    for directory, key in ways.items():
        assert kernel.get_policy(directory) is not None
        assert opens(directory, "--key-file", key)
    assert_orderly(disk, run)


def test_the_same_key_for_directories_of_the_same_name_opens_all_of_them(disk, run, at_once, opens,
                                                                          key_file):
    """They may share a protector, as far as they see each other's, or have their own."""
    key = key_file()
    directories = [disk / f"p{number}" / "private" for number in range(PROCESSES)]
    for directory in directories:
        directory.parent.mkdir()
    results = at_once(["encrypt", directory, "--create", "--new-key-file", key]
                      for directory in directories)
    assert all(result.rc == 0 for result in results), results
    for directory in directories:
        assert opens(directory, "--key-file", key)
    assert_orderly(disk, run)


@pytest.mark.parametrize("create", [False, True], ids=["existing", "created"])
def test_of_those_who_encrypt_one_directory_at_once_one_wins(disk, run, at_once, opens, key_file,
                                                              create):
    for number in range(ROUNDS):
        private = disk / f"private{number}"
        if not create:
            private.mkdir()
        keys = [key_file(name=f"key{number}-{process}") for process in range(PROCESSES)]
        results = at_once(["encrypt", private, "--new-key-file", key, *["--create"][:create]]
                          for key in keys)
        winners = [key for key, result in zip(keys, results) if result.rc == 0]
        assert len(winners) == 1, results
        assert [key for key in keys if opens(private, "--key-file", key)] == winners
        assert_orderly(disk, run)


def test_all_who_encrypt_one_directory_with_one_key_at_once_may_trust_it(disk, run, at_once, opens,
                                                                          key_file):
    for number in range(ROUNDS):
        private, key = disk / f"private{number}", key_file(name=f"key{number}")
        private.mkdir()
        results = at_once([["encrypt", private, "--new-key-file", key]] * PROCESSES)
        assert 0 in [result.rc for result in results], results
        assert opens(private, "--key-file", key)
        assert_orderly(disk, run)


def test_all_who_ensure_one_directory_at_once_succeed(disk, run, at_once, opens, key_file):
    for number in range(ROUNDS):
        private, key = disk / f"private{number}", key_file(name=f"key{number}")
        results = at_once([["encrypt", private, "--create", "--ensure", "--new-key-file", key,
                            "--json"]] * PROCESSES)
        assert {result.rc for result in results} == {0}, results
        assert [result.json()["changed"] for result in results].count(True) == 1, results
        assert opens(private, "--key-file", key)
        assert_orderly(disk, run)


def test_unlocking_and_locking_at_once_ends_in_what_the_last_one_says(disk, run, at_once,
                                                                       passphrase_file):
    private, file = disk / "private", passphrase_file("correct horse")
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", file])
    (private / "letter").write_text("dear diary")
    unlock = ["unlock", private, "--passphrase-file", file]
    for _ in range(ROUNDS):
        results = at_once([unlock, ["lock", private]] * (PROCESSES // 2))
        assert all(result.rc in (0, 5) for result in results), results
        run.ok(["lock", private])
        assert kernel.key_status(disk, kernel.get_policy(private).key_identifier).state == "absent"
        run.ok(unlock)
        assert (private / "letter").read_text() == "dear diary"


def test_a_mixture_of_everything_leaves_every_directory_with_a_way_in(disk, run, at_once, opens,
                                                                       passphrase_file):
    old, new = passphrase_file("correct horse"), passphrase_file("battery staple", name="new")
    directories = [disk / f"d{number}" for number in range(4)]
    for directory in directories[:2]:
        run.ok(["encrypt", directory, "--create", "--new-passphrase-file", old])
    at_once([words for directory in directories for words in (
        ["encrypt", directory, "--create", "--ensure", "--new-passphrase-file", old],
        ["change-passphrase", directory, "--passphrase-file", old, "--new-passphrase-file", new],
        ["unlock", directory, "--passphrase-file", old],
        ["lock", directory],
        ["status", directory])])
    for directory in directories:
        assert [opens(directory, "--passphrase-file", file) for file in (old, new)].count(True) == 1
    assert_orderly(disk, run)


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def pause(injector):
    """pause(args, call): the command, stopped after that system call; see faults.Paused."""
    paused = []

    def make(args, call):
        paused.append(Paused(injector, args, call))
        return paused[-1]

    yield make
    for command in paused:
        command.end()


def test_a_protector_that_vanishes_while_it_is_chosen_is_not_relied_on(disk, run, pause, opens,
                                                                        key_file):
    """Another run may undo what it made, just when this one takes it up as a leftover."""
    key, other = key_file(), disk / "p1/private"
    for directory in (disk / "p1", disk / "p2"):
        directory.mkdir()
    run.ok(["encrypt", other, "--create", "--new-key-file", key])
    (policy,) = (disk / RECORDS).rglob("policies/*.yaml")
    (protector,) = (disk / RECORDS).rglob("protectors/*.yaml")
    policy.unlink()
    private = disk / "p2/private"
    encryption = ["encrypt", private, "--create", "--new-key-file", key]
    paused = pause(encryption, Call("mkdirat", 1))
    protector.unlink()
    result = paused.finish()
    if result.rc == 0:
        assert opens(private, "--key-file", key)
    else:
        assert result.rc in DOCUMENTED and not private.exists(), result
    run.ok(encryption)
    assert opens(private, "--key-file", key)


def test_what_another_directory_relies_on_is_not_undone(disk, run, pause, injector, opens,
                                                         key_file):
    """A run that fails leaves alone what another one took up meanwhile."""
    key, others = key_file(), disk / "others"

    def encryption(name):
        (disk / name).mkdir()
        return ["encrypt", disk / name, "--new-key-file", key, "--name", f"key of {name}"]

    before_set_policy = injector.calls(encryption("rehearsal"), ("ioctl",))[-3]
    paused = pause(encryption("mine"), before_set_policy)
    records = run.ok(["status", disk, "--json"])
    assert "key of mine" in [protector["name"] for protector in records["protectors"]]
    other = run.start([os.fsdecode(word) for word in (
        "encrypt", others, "--create", "--protector", "key of mine", "--key-file", key)])
    try:
        other.wait(1)
    except subprocess.TimeoutExpired:
        pass  # it waits for its turn
    (disk / "mine/file").touch()
    result = paused.finish()
    assert result.rc == REFUSED and kernel.get_policy(disk / "mine") is None, result
    if other.wait(30) == 0:
        assert opens(others, "--key-file", key)
    else:
        assert not others.exists()


@pytest.mark.parametrize("number, rc", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_waits_for_another_writer_can_be_stopped(disk, run, pause, passphrase_file, number,
                                                          rc):
    old, new = passphrase_file("correct horse"), passphrase_file("battery staple", name="new")
    private = disk / "private"
    run.ok(["encrypt", private, "--create", "--new-passphrase-file", old])
    change = ["change-passphrase", private, "--passphrase-file", old, "--new-passphrase-file", new]
    writer = pause(change, Call("flock", 1))
    waiting = run.start([os.fsdecode(word) for word in change])
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    waiting.send_signal(number)
    assert waiting.wait(5) == rc
    assert writer.finish().rc == 0
