"""`backup`, `restore` and `accept` die or meet an error at any of their system calls: a backup is
there whole or not at all, and repeating a command finishes it."""

import shutil
import signal

import pytest

from faults import CHANGING, FaultInjector, check_each, sample
from interruptible import DOCUMENTED, leftovers

USERS = ".fscryptctl/users"
MOST_OF_ONE_CALL = 25
FAULTS = ["signal=KILL", "signal=TERM", "error=EIO", "error=ENOSPC"]
ENDS = {"signal=KILL": {-signal.SIGKILL}, "signal=TERM": {0, 143}}


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def disk(filesystem, set_up):
    set_up(filesystem)
    return filesystem


@pytest.fixture
def key(key_file):
    return key_file()


@pytest.fixture
def directory(disk, run, key):
    run.ok(["encrypt", disk / "private", "--create", "--key-file", key])
    return disk / "private"


def records(disk):
    return {path.name: path.read_bytes() for path in (disk / USERS).rglob("*.yaml")}


def check_every_end(injector, fault, args, prepare, check):
    """`check` is told the exit code."""
    prepare()
    calls = injector.calls(args, CHANGING)
    assert len(calls) > 3

    def once(call):
        prepare()
        result = injector.run(args, call, fault)
        assert result.rc in ENDS.get(fault, DOCUMENTED), result
        check(result.rc)

    check_each(sample(calls, MOST_OF_ONE_CALL), once)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backup_is_there_whole_or_not_at_all(disk, directory, run, injector, scratch, fault):
    output = scratch / "out/b"
    output.parent.mkdir()
    before = records(disk)
    args = ["backup", disk, "--output", output]

    def prepare():
        output.unlink(missing_ok=True)

    def check(rc):
        assert records(disk) == before
        assert not output.exists() or rc in (0, -signal.SIGKILL, 143), "repeating would fail"
        if output.exists():
            answer = run.ok(["restore", output, "--mount", disk, "--dry-run", "--json"])
            assert len(answer["skipped"]) == 2
        else:
            assert rc != 0, "it reported success"
            run.ok(args)
        left = [path for path in output.parent.iterdir() if path != output]
        # Only who is killed on the spot leaves something, under a name that is in nobody's way.
        assert fault == "signal=KILL" or left == [] or "error" in fault
        for path in left:
            assert path.name.startswith(".tmp-")
            path.unlink()

    check_every_end(injector, fault, args, prepare, check)


def test_where_renaming_cannot_refuse_to_replace(disk, directory, run, injector, scratch):
    """As on NFS: the name is taken first."""
    args = ["backup", disk, "--output", scratch / "b", "--json"]
    (call,) = [call for call in injector.calls(args, CHANGING) if call.name == "renameat2"]
    (scratch / "b").unlink()
    assert injector.run(args, call, "error=EINVAL").rc == 0
    assert len(run.ok(["restore", scratch / "b", "--mount", disk, "--json"])["skipped"]) == 2
    before = (scratch / "b").read_bytes()
    assert run(args).rc == 9 and (scratch / "b").read_bytes() == before


@pytest.mark.parametrize("fault", FAULTS)
def test_restoring_can_be_repeated(disk, directory, run, injector, scratch, key, fault):
    run.ok(["backup", disk, "--output", scratch / "b"])
    run.ok(["lock", directory])
    before = records(disk)
    args = ["restore", scratch / "b", "--mount", disk]

    def prepare():
        shutil.rmtree(disk / USERS / "0")

    def check(rc):
        if rc == 0:
            assert records(disk) == before
        for name, content in records(disk).items():
            assert content == before[name], "half a record"
        run.ok(args)
        assert records(disk) == before and leftovers(disk) == []
        run.ok(["unlock", directory, "--dry-run", "--key-file", key])

    check_every_end(injector, fault, args, prepare, check)


@pytest.mark.parametrize("fault", FAULTS)
def test_replacing_leaves_the_one_or_the_other(disk, directory, run, injector, scratch, key, key_file,
                                               fault):
    run.ok(["backup", disk, "--output", scratch / "b"])
    newer = key_file(name="newer")
    run.ok(["change-passphrase", directory, "--key-file", key, "--new-key-file", newer])
    (record,) = (disk / USERS / "0/protectors").glob("*.yaml")
    new = record.read_bytes()
    args = ["restore", scratch / "b", "--mount", disk, "--replace", "--yes"]

    def prepare():
        record.write_bytes(new)
        record.chmod(0o600)

    def check(rc):
        opening = [file for file in (key, newer)
                   if run(["unlock", directory, "--dry-run", "--key-file", file]).rc == 0]
        assert len(opening) == 1 and (rc != 0 or opening == [key])
        run.ok(args)
        run.ok(["unlock", directory, "--dry-run", "--key-file", key])

    check_every_end(injector, fault, args, prepare, check)


@pytest.mark.parametrize("fault", FAULTS)
def test_accepting_can_be_repeated(disk, directory, run, injector, scratch, key, key_file, fault):
    run.ok(["share", directory, "--output", scratch / "s", "--code-output", scratch / "c",
            "--key-file", key])
    other = key_file(name="other")
    args = ["accept", scratch / "s", "--user", "alice", "--code-file", scratch / "c",
            "--new-key-file", other, "--name", "theirs"]

    def prepare():
        shutil.rmtree(disk / USERS / "1000", ignore_errors=True)

    def check(rc):
        run.ok(args)
        names = [path.parent.name for path in (disk / USERS / "1000").rglob("*.yaml")]
        assert sorted(names) == ["policies", "protectors"]
        run.ok(["unlock", directory, "--dry-run", "--user", "alice", "--key-file", other])
        assert leftovers(disk) == []

    check_every_end(injector, fault, args, prepare, check)


@pytest.mark.parametrize("fault", FAULTS)
def test_sharing_gives_both_files_or_says_so(disk, directory, run, injector, scratch, key, fault):
    place = scratch / "out"
    before = records(disk)
    args = ["share", directory, "--output", place / "s", "--code-output", place / "c", "--key-file", key]

    def prepare():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()

    def check(rc):
        assert records(disk) == before
        made = {path.name for path in place.iterdir()}
        if rc == 0:
            assert made == {"s", "c"}
        if fault == "signal=TERM" and rc != 0:
            assert made == set(), "who is asked to end cleans up"
        if "s" in made:
            run.ok(["accept", place / "s", "--user", "alice", "--code-file", place / "c",
                    "--new-key-file", key])
            shutil.rmtree(disk / USERS / "1000")

    check_every_end(injector, fault, args, prepare, check)


def test_check_repairs_or_leaves_it(disk, directory, run, injector):
    (record,) = (disk / USERS / "0/policies").glob("*.yaml")
    good = record.read_bytes()
    spelled = good.replace(b'"private"', b'"pri\\x76ate"')
    args = ["check", disk, "--repair"]

    def prepare():
        record.write_bytes(spelled)

    def check(rc):
        assert record.read_bytes() in (good, spelled)
        run.ok(args)
        assert record.read_bytes() == good and leftovers(disk) == []

    check_every_end(injector, "signal=KILL", args, prepare, check)
