"""`convert`, `reencrypt`, `decrypt`: what stays, what is refused, and how they go on."""

import json
import os
import shutil
import subprocess
import time

import pytest

import harness
import kernel
import trees
from faults import Call, FaultInjector

STRATEGIES = pytest.mark.parametrize("strategy", [[], ["--low-space"]], ids=["copy", "low-space"])


@pytest.fixture
def disk(make_filesystem, set_up):
    made = make_filesystem(size_mib=256)
    set_up(made, "--all-users")
    return made


@pytest.fixture
def secret(passphrase_file):
    return passphrase_file("correct horse")


@pytest.fixture
def data(disk):
    directory = disk / "data"
    yield directory
    if directory.exists() and kernel.get_policy(directory) is None:
        trees.thaw(directory)


def convert(directory, secret, *options):
    return ["convert", directory, "--new-passphrase-file", secret, *options]


def assert_same(before, directory):
    after = trees.snapshot(directory)
    assert after == before, trees.differences(before, after)


def assert_nothing_left(disk):
    assert [name for name in os.listdir(disk) if name.startswith(".fscryptctl-")] == []
    assert list((disk / ".fscryptctl/users").rglob("operations*")) == []
    assert list((disk / ".fscryptctl/users").rglob(".tmp-*")) == []


def operation_in_records(disk):
    return [path for path in (disk / ".fscryptctl/users").rglob("policies/*.yaml")
            if "operation:" in path.read_text()]


# --- what stays


@STRATEGIES
def test_everything_stays_and_is_encrypted(disk, data, run, secret, strategy):
    trees.make_rich_tree(data)
    data.chmod(0o755)
    before = trees.snapshot(data)
    made = run.ok(convert(data, secret, "--json", *strategy))
    assert made["state"] == "done" and made["resumable"] is False and made["changed"] is True
    assert made["strategy"] == ("low-space" if strategy else "copy")
    assert made["files_done"] == made["files_total"] == len(before) - 2
    assert_same(before, data)
    policy = kernel.get_policy(data)
    assert policy.key_identifier == made["key_identifier"]
    assert kernel.get_policy(data / "big") == policy
    assert_nothing_left(disk)
    assert operation_in_records(disk) == []
    run.ok(["lock", data])
    assert "small" not in os.listdir(data)
    run.ok(["unlock", data, "--passphrase-file", secret])
    assert_same(before, data)
    listed = run.ok(["status", data, "--json"])
    assert [protector["name"] for protector in listed["protectors"]] == ["data"]
    assert run.ok(["check", disk, "--json"])["findings"] == []


@STRATEGIES
def test_an_ordinary_user_converts_her_own(disk, run, alice, secrets, strategy):
    home = disk / "home"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    secret = secrets.file("hers", b"battery staple\n", alice)
    directory = home / "data"
    kernel.as_user(alice.uid, trees.make_rich_tree, directory, False)
    directory.chmod(0o555)
    before = trees.snapshot(directory)
    run.ok(convert(directory, secret, *strategy), user=alice)
    assert_same(before, directory)
    assert kernel.get_policy(directory) is not None
    assert [name for name in os.listdir(home) if name.startswith(".")] == []
    run.ok(["lock", directory], user=alice)


def test_an_empty_directory_is_converted_too(disk, data, run, secret):
    data.mkdir()
    run.ok(convert(data, secret))
    assert kernel.get_policy(data) is not None


def test_random_trees(disk, data, run, secret):
    import random
    for seed in range(4):
        rng = random.Random(seed)
        directory = disk / f"random{seed}"
        trees.make_random_tree(directory, rng)
        before = trees.snapshot(directory)
        run.ok(convert(directory, secret, *(["--low-space"] if seed % 2 else []),
                       "--name", f"r{seed}"))
        assert_same(before, directory)
        run.ok(["reencrypt", directory, "--protector", f"r{seed}", "--passphrase-file", secret])
        assert_same(before, directory)
        run.ok(["decrypt", directory])
        assert_same(before, directory)


def test_the_permissions_can_be_chosen_and_it_can_be_left_locked(disk, data, run, secret):
    trees.make_random_tree(data, __import__("random").Random(5))
    run.ok(convert(data, secret, "--mode", "2750", "--no-unlock"))
    assert oct(os.stat(data).st_mode) == "0o42750"
    status = run.ok(["status", data, "--json"])
    assert status["key_status"] == "absent"


def test_a_recovery_key_and_modes_are_options_as_of_encrypt(disk, data, run, secret,
                                                                          scratch):
    data.mkdir()
    (data / "file").write_text("x")
    kept = scratch / "recovery"
    made = run.ok(convert(data, secret, "--padding", "8", "--recovery-key-output", kept,
                          "--name", "mine", "--json"))
    assert made["recovery_key_made"] is True
    status = run.ok(["status", data, "--json"])
    assert status["policy"]["padding"] == 8 and status["has_recovery_key"] is True
    run.ok(["lock", data])
    run.ok(["unlock", data, "--recovery-key-file", kept])


def test_an_existing_policy_lets_files_move(disk, data, run, secret):
    run.ok(["encrypt", disk / "first", "--create", "--new-passphrase-file", secret])
    data.mkdir()
    (data / "file").write_text("x")
    run.ok(["convert", data, "--policy", disk / "first", "--passphrase-file", secret])
    os.rename(data / "file", disk / "first/file")
    assert_nothing_left(disk)


# --- what is told beforehand


def test_a_dry_run_tells_and_changes_nothing(disk, data, run, secret):
    trees.make_rich_tree(data)
    times = trees.access_times(data)
    entries = os.listdir(disk)
    plan = run.ok(["convert", data, "--dry-run", "--json"])
    assert plan["state"] == "none" and plan["fits"] is True and plan["changed"] is False
    assert plan["bytes_total"] > trees.BIG and plan["files_total"] == len(times)
    assert plan["holders"] == [] and plan["obstacles"] == [] and plan["seconds"] > 0
    assert plan["bytes_free"] > plan["bytes_needed"] > 0
    assert trees.access_times(data) == times and os.listdir(disk) == entries


def refused(run, directory, secret, code, reason, *options):
    before = trees.snapshot(directory)
    names = sorted(os.listdir(os.path.dirname(directory)))
    result = run(convert(directory, secret, "--json", *options))
    error = result.json()["error"]
    assert (result.rc, error["reason"]) == (code, reason), result
    assert trees.snapshot(directory) == before
    assert sorted(os.listdir(os.path.dirname(directory))) == names
    assert kernel.get_policy(directory) is None
    return result.json()


def test_what_is_in_the_way_is_listed_and_nothing_is_changed(disk, data, run, secret, sandbox):
    (data / "sub").mkdir(parents=True)
    harness.command("mount", "-t", "tmpfs", "none", data / "sub")
    found = refused(run, data, secret, 9, "in_use")
    assert found["obstacles"] == [{"path": "sub", "reason": "mount_point"}]
    harness.command("umount", data / "sub")
    (disk / "elsewhere").mkdir()
    harness.command("mount", "--bind", disk / "elsewhere", data / "sub")
    refused(run, data, secret, 9, "in_use")
    harness.command("umount", data / "sub")
    run.ok(["encrypt", data / "sub", "--new-passphrase-file", secret])
    found = refused(run, data, secret, 9, "already_encrypted")
    assert found["obstacles"] == [{"path": "sub", "reason": "encrypted"}]
    shutil.rmtree(data / "sub")
    os.symlink("x" * 4094, data / "long")
    found = refused(run, data, secret, 9, "unconvertible")
    assert found["obstacles"] == [{"path": "long", "reason": "symlink_target"}]


def test_a_directory_in_use_is_refused(disk, data, run, secret, background):
    data.mkdir()
    (data / "file").write_text("x")
    shell = background(["sh", "-c", "echo ready; read line"], cwd=data)
    shell.stdout.readline()
    found = refused(run, data, secret, 9, "in_use")
    assert found["holders"][0]["pid"] == shell.pid
    assert found["holders"][0]["kind"] == "working directory"
    text = run(convert(data, secret))
    assert str(shell.pid) in text.err
    shell.communicate("go\n")
    with open(data / "file", "rb"):
        refused(run, data, secret, 9, "in_use")
    run.ok(convert(data, secret))


def test_a_swap_file_is_refused(disk, data, run, secret):
    data.mkdir()
    swap = data / "swap"
    with open(swap, "wb") as file:
        file.write(bytes(4 << 20))
    swap.chmod(0o600)
    harness.command("mkswap", "-q", swap)
    if subprocess.run(["swapon", swap], capture_output=True, check=False).returncode != 0:
        assert os.path.exists("/proc/swaps"), "this kernel can swap, but not to this file"
        return
    try:
        refused(run, data, secret, 9, "in_use")
    finally:
        harness.command("swapoff", swap)


@STRATEGIES
@pytest.mark.parametrize("flag", ["i", "a"])
def test_a_directory_that_cannot_be_renamed_is_refused(disk, data, run, secret, flag, strategy):
    make_data(data)
    harness.command("chattr", f"+{flag}", data)
    result = run(convert(data, secret, "--json", *strategy))
    harness.command("chattr", f"-{flag}", data)
    assert result.rc == 7 and "immutable or append-only" in result.json()["error"]["message"]
    assert {"path": ".", "reason": "not_movable"} in result.json()["obstacles"]
    assert_nothing_left(disk)
    run.ok(convert(data, secret, *strategy))


def test_places_that_cannot_be_converted(disk, data, run, secret):
    assert run(convert(disk, secret)).rc == 2
    (disk / "file").write_text("x")
    assert run(convert(disk / "file", secret)).rc == 2
    assert run(convert(disk / "none", secret)).rc == 4
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    (data / "file").write_text("x")
    result = run(convert(data, secret, "--json"))
    assert (result.rc, result.json()["error"]["reason"]) == (9, "already_encrypted")
    (data / "inner").mkdir()
    assert run(convert(data / "inner", secret)).rc == 9
    assert run(["reencrypt", data / "inner", "--new-passphrase-file", secret]).rc == 9
    (disk / "plain").mkdir()
    assert run(["reencrypt", disk / "plain", "--new-passphrase-file", secret]).rc == 4
    assert run(["decrypt", disk / "plain"]).rc == 4


def test_already_encrypted_is_success_with_ensure(disk, data, run, secret, passphrase_file):
    data.mkdir()
    run.ok(convert(data, secret))
    again = run.ok(convert(data, secret, "--ensure", "--json"))
    assert again["changed"] is False
    other = passphrase_file("another", name="other")
    assert run(convert(data, other, "--ensure")).rc == 3


def test_too_little_space_is_told_beforehand(make_filesystem, set_up, run, secret):
    disk = make_filesystem(size_mib=64)
    set_up(disk)
    data = disk / "data"
    data.mkdir()
    (data / "big").write_bytes(os.urandom(35 << 20))
    found = refused(run, data, secret, 1, "no_space")
    assert found["error"]["message"].endswith(f"free on {disk}")
    assert found["error"]["hint"] == "--low-space fits; --dry-run shows the plan"
    assert found["fits"] is False and found["fits_low_space"] is True
    before = trees.snapshot(data)
    run.ok(convert(data, secret, "--low-space"))
    assert_same(before, data)
    run.ok(["lock", data])


def test_other_names_outside_are_told(disk, data, run, secret):
    data.mkdir()
    (data / "file").write_text("x")
    os.link(data / "file", disk / "outside")
    result = run(convert(data, secret))
    assert result.rc == 0 and "another name outside" in result.err
    assert (disk / "outside").read_text() == "x" and (data / "file").read_text() == "x"


# --- reencrypt and decrypt


@STRATEGIES
def test_reencrypt_rescues_whoever_forgot_the_passphrase(disk, data, run, secret, passphrase_file,
                                                         strategy):
    run.ok(["encrypt", data, "--create", "--padding", "16", "--new-passphrase-file",
            secret])
    trees.make_rich_tree(data)
    before = trees.snapshot(data)
    old = kernel.get_policy(data)
    new = passphrase_file("a new one", name="new")
    result = run(["reencrypt", data, "--new-passphrase-file", new, *strategy])
    assert result.rc == 0 and "opens nothing any more" in result.err
    assert_same(before, data)
    policy = kernel.get_policy(data)
    assert policy.key_identifier != old.key_identifier and policy.padding == old.padding == 16
    assert kernel.key_status(disk, old.key_identifier).state == "absent"
    names = [path.stem for path in (disk / ".fscryptctl/users").rglob("policies/*.yaml")]
    assert names == [policy.key_identifier]
    run.ok(["lock", data])
    assert run(["unlock", data, "--passphrase-file", secret]).rc == 3
    run.ok(["unlock", data, "--passphrase-file", new])
    assert_nothing_left(disk)


def test_reencrypt_of_a_locked_directory_takes_the_old_secret(disk, data, run, secret,
                                                              passphrase_file):
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    (data / "file").write_text("x")
    run.ok(["lock", data])
    new = passphrase_file("a new one", name="new")
    wrong = passphrase_file("wrong", name="wrong")
    assert run(["reencrypt", data, "--passphrase-file", wrong, "--new-passphrase-file", new]).rc == 3
    run.ok(["reencrypt", data, "--passphrase-file", secret, "--new-passphrase-file", new])
    assert (data / "file").read_text() == "x"


def test_a_key_that_other_directories_use_stays(disk, data, run, secret):
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    run.ok(["encrypt", disk / "other", "--create", "--policy", data])
    (disk / "other/file").write_text("x")
    run.ok(["decrypt", data])
    assert kernel.get_policy(data) is None
    run.ok(["lock", disk / "other"])
    run.ok(["unlock", disk / "other", "--passphrase-file", secret])
    assert (disk / "other/file").read_text() == "x"


@STRATEGIES
def test_decrypt_is_for_good(disk, data, run, secret, strategy):
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    trees.make_rich_tree(data)
    before = trees.snapshot(data)
    made = run.ok(["decrypt", data, "--json", *strategy])
    assert made["state"] == "done" and made["changed"] is True
    assert kernel.get_policy(data) is None and kernel.get_policy(data / "big") is None
    assert_same(before, data)
    assert list((disk / ".fscryptctl/users").rglob("policies/*.yaml")) == []
    assert_nothing_left(disk)


def test_a_version_1_directory_gets_version_2(disk, data, run, secret):
    raw = os.urandom(64)
    descriptor = kernel.add_v1_key(disk, raw)
    data.mkdir()
    kernel.set_v1_policy(data, descriptor)
    trees.make_rich_tree(data)
    before = trees.snapshot(data)
    run.ok(["reencrypt", data, "--new-passphrase-file", secret])
    assert_same(before, data)
    assert kernel.get_policy(data).version == 2


# --- going on, and going back


class Cut:
    """Lets a command die in the middle."""

    def __init__(self, run):
        self._run = run

    def after(self, args, seconds, sign="KILL"):
        process = self._run.start([os.fsdecode(word) for word in args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(seconds)
        process.send_signal(getattr(__import__("signal"), f"SIG{sign}"))
        out, err = process.communicate(timeout=60)
        return process.returncode, os.fsdecode(out), os.fsdecode(err)


@pytest.fixture
def cut(run):
    return Cut(run)


@pytest.fixture
def injector(sandbox, scratch, secrets):
    return FaultInjector(sandbox.install_program(), scratch, secrets)


# The first one makes the original and its copy change places.
EXCHANGE = Call("renameat2", 1)


def make_data(directory, files=20):
    (directory / "sub").mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (directory / "sub" / f"file{number}").write_text(f"{number}")


def test_an_original_that_is_put_back_is_not_called_encrypted(disk, data, run, secret, injector):
    make_data(data)
    make_data(disk / "first")
    calls = injector.calls(convert(disk / "first", secret), ("renameat2", "unlinkat"))
    while_removing = calls[calls.index(EXCHANGE) + 3]
    args = [*convert(data, secret), "--name", "second"]
    assert injector.run(args, while_removing, "signal=KILL").rc == -9
    assert run.ok(["convert", data, "--status", "--json"])["state"] == "removing"
    work = next(disk / name for name in os.listdir(disk) if name.startswith(".fscryptctl-"))
    data.rename(disk / "copy")
    (work / "tree").rename(data)
    left = trees.snapshot(data)
    result = run(args)
    assert result.rc == 9 and "is not that copy any more" in result.err
    assert_same(left, data)
    data.rename(work / "tree")
    (disk / "copy").rename(data)
    run.ok(args)
    assert (data / "sub/file7").read_text() == "7"
    assert_nothing_left(disk)


def set_times(disk, path, seconds):
    """All of them, on the disk, as if the clock had been wrong when the file was written."""
    inode = path.stat().st_ino
    disk.unmount()
    for field in ("ctime", "mtime", "atime"):
        harness.command("debugfs", "-w", "-R", f"sif <{inode}> {field} @{seconds}", disk.image)
    disk.mount()


def test_what_is_written_while_the_clock_is_wrong_is_not_lost(disk, data, run, secret, injector):
    make_data(data)
    assert injector.run(convert(data, secret), EXCHANGE, "signal=KILL").rc == -9
    assert run.ok(["convert", data, "--status", "--json"])["state"] == "exchanging"
    path = data / "sub/file7"
    path.write_text("from the past")
    set_times(disk, path, 1000000000)
    assert path.read_text() == "from the past" and int(path.stat().st_ctime) == 1000000000
    run.ok(convert(data, secret))
    assert path.read_text() == "from the past"
    assert kernel.get_policy(data) is not None


def test_a_copy_that_was_exchanged_for_another_is_not_touched(disk, data, run, secret, cut):
    make_slow_data(data, 6000)
    begin(run, convert(data, secret), disk, cut)
    work = next(disk / name for name in os.listdir(disk) if name.startswith(".fscryptctl-"))
    (work / "tree").rename(disk / "kept")
    kernel.set_policy(make_directory(work / "tree"), kernel.get_policy(disk / "kept").key_identifier)
    (work / "tree/somebody's").write_text("x")
    result = run(convert(data, secret))
    assert result.rc == 8 and "not what was made there" in result.err
    assert (work / "tree/somebody's").read_text() == "x"


def test_what_others_say_of_an_unfinished_one(disk, data, run, secret, injector):
    make_data(data)
    assert injector.run(convert(data, secret), EXCHANGE, "signal=KILL").rc == -9
    [finding] = run.ok(["check", disk, "--json"])["findings"]
    assert finding["code"] == "conversion" and finding["path"] == str(data)
    assert f"fscryptctl convert {data} --status" in run(["check", disk]).out
    status = run(["status", data])
    assert f"{data}  not encrypted" in status.out
    assert f"a convert of {data} is unfinished" in status.err
    assert run.ok(["status", data, "--json"])["unfinished"] == "convert"
    assert "convert unfinished" in run(["list"]).out
    plan = run(["convert", data, "--dry-run"])
    assert plan.rc == 0 and f"go on with: fscryptctl convert {data}" in plan.err
    other = run([*convert(data, secret), "--name", "other"])
    assert other.rc == 2 and "another --name" in other.err
    cancelled = run(["convert", data, "--cancel", "--json"])
    assert cancelled.rc == 0 and "opens nothing any more" in cancelled.err
    assert cancelled.json()["state"] == "none" and cancelled.json()["resumable"] is False
    assert cancelled.json()["bytes_free"] > 0


def test_journals_that_cannot_be_read_hide_no_directory(disk, data, run, secret):
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    (disk / ".fscryptctl/users/0/operations").symlink_to("elsewhere")
    for args in (["list"], ["status", disk]):
        result = run(args)
        assert result.rc == 8 and f"{data}  unlocked" in result.out, result
    assert run(["status", data]).rc == 0


def test_decrypt_says_what_is_left(disk, data, run, secret):
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    (data / "file").write_text("x")
    os.link(data / "file", disk / "outside")
    done = run(["decrypt", data])
    assert done.rc == 0 and "encrypted with the key that the directory has now" in done.err
    assert f"the previous key is still that of {disk / 'outside'}" in done.err
    run.ok(["decrypt", data, "--status"])
    (disk / "outside").unlink()
    run.ok(convert(data, secret, "--name", "second"))
    assert 'protector "second" opens nothing any more' in run(["decrypt", data]).err


@pytest.mark.parametrize("command", ["reencrypt", "decrypt"])
def test_a_key_that_another_directory_has_too_keeps_its_record(disk, data, run, secret, command):
    made = run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret, "--json"])
    key = made["policy"]["key_identifier"]
    other = disk / "other"
    run.ok(["encrypt", other, "--create", "--policy", key, "--passphrase-file", secret])
    make_data(data)
    new = ["--new-passphrase-file", secret, "--name", "new"] if command == "reencrypt" else []
    assert f"still that of {other}" in run([command, data, *new]).err
    # Nothing is said of it where it is no more.
    assert run.ok(["check", disk, "--json"])["findings"] == []
    paths = {path["path"] for policy in run.ok(["policy", "list", disk, "--json"])["policies"]
             for path in policy["paths"] if policy["key_identifier"] == key}
    assert paths == {str(other)}
    run.ok(["lock", other])
    run.ok(["unlock", other, "--passphrase-file", secret])


def test_another_protector_than_it_was_begun_with(disk, data, run, secret, injector):
    run.ok(["encrypt", disk / "other", "--create", "--new-passphrase-file", secret])
    make_data(data)
    assert injector.run(convert(data, secret), EXCHANGE, "signal=KILL").rc == -9
    args = ["convert", data, "--passphrase-file", secret, "--protector"]
    refused = run([*args, "other"])
    assert refused.rc == 2 and "it was begun without --protector other" in refused.err
    run.ok([*args, "data"])
    assert kernel.get_policy(data) is not None


@pytest.mark.parametrize("step", ["copying", "exchanged", "removing"])
@pytest.mark.parametrize("command", ["convert", "decrypt"])
@STRATEGIES
def test_a_directory_that_is_moved_meanwhile(disk, data, run, secret, injector, strategy, command, step):
    def prepare(directory):
        name = ["--name", directory.name]
        made = ["--new-passphrase-file", secret, *name]
        if command == "decrypt":
            run.ok(["encrypt", directory, "--create", *made])
        make_data(directory, 60)
        return [command, directory, *strategy, *(made if command == "convert" else [])]

    calls = injector.calls(prepare(disk / "first"), ("renameat2", "syncfs", "unlinkat"))
    # Files that move or go by way of the work directory are renamed as well, in the original's
    # removal by several threads, each with a count of its own.
    synced = max(index for index, call in enumerate(calls) if call.name == "syncfs")
    exchange = next(index for index, call in enumerate(calls[synced:], synced) if call.name == "renameat2")
    earlier = sum(call.name == "unlinkat" for call in calls[:exchange])
    removal = calls[-2] if strategy else Call("unlinkat", earlier + 1)
    cut = {"copying": next(call for call in calls if call.name == "syncfs"),
           "exchanged": calls[exchange + 1], "removing": removal}[step]
    args = prepare(data)
    before = trees.snapshot(data)
    assert injector.run(args, cut, "signal=KILL").rc == -9
    moved = make_directory(disk / "archive") / "moved"
    data.rename(moved)
    args[1] = moved
    run.ok([command, moved, "--status"])
    run.ok(args)
    assert_same(before, moved)
    assert (kernel.get_policy(moved) is None) == (command == "decrypt")
    assert_nothing_left(disk)
    assert os.listdir(disk / "archive") == ["moved"]
    codes = {finding["code"] for finding in run.ok(["check", disk, "--json"])["findings"]}
    assert codes <= {"unused_protector"}


@STRATEGIES
def test_a_directory_that_is_moved_meanwhile_can_be_had_back(disk, data, run, secret, injector, strategy):
    make_data(data)
    before = trees.snapshot(data)
    # With low space, some files have moved.
    cut = Call("unlinkat", 9) if strategy else Call("syncfs", 1)
    assert injector.run([*convert(data, secret), *strategy], cut, "signal=KILL").rc == -9
    moved = make_directory(disk / "archive") / "moved"
    data.rename(moved)
    run.ok(["convert", moved, "--cancel", "--passphrase-file", secret])
    assert_same(before, moved)
    assert kernel.get_policy(moved) is None
    assert_nothing_left(disk)
    assert os.listdir(disk / "archive") == ["moved"]


@pytest.mark.parametrize("with_file", [False, True], ids=["new", "old"])
def test_a_new_file_with_a_name_that_has_moved(disk, data, run, secret, injector, with_file):
    make_data(data)
    args = [*convert(data, secret), "--low-space"]
    assert injector.run(args, Call("unlinkat", 9), "signal=KILL").rc == -9
    gone = next(number for number in range(20) if not (data / f"sub/file{number}").exists())
    name = data / f"sub/file{gone}"
    name.write_text("new")
    result = run(args)
    assert result.rc == 9 and "something of this name has moved already: rename this one" in result.err
    assert str(name) in result.err
    if with_file:
        name.unlink()
    else:
        name.rename(data / "sub/renamed")
    run.ok(args)
    assert (data / f"sub/file{gone}").read_text() == str(gone)
    assert with_file or (data / "sub/renamed").read_text() == "new"


def test_the_wrong_secret_is_said_to_be_wrong_for_the_directory(disk, data, run, secret, injector,
                                                                passphrase_file):
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    make_data(data)
    assert injector.run(["decrypt", data], EXCHANGE, "signal=KILL").rc == -9
    run.ok(["lock", data])
    assert f"a decrypt of {data} is unfinished" in run(["status", data]).err
    assert "locked, decrypt unfinished" in run(["list"]).out
    wrong = passphrase_file("wrong", name="wrong")
    result = run(["decrypt", data, "--passphrase-file", wrong])
    assert result.rc == 3 and f"wrong passphrase for {data}" in result.err
    run.ok(["decrypt", data, "--passphrase-file", secret])


def test_a_locked_reencryption_is_taken_back_with_both_secrets(disk, data, run, secret, injector,
                                                               passphrase_file):
    new = passphrase_file("a new one", name="new")
    run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
    make_data(data)
    before = trees.snapshot(data)
    args = ["reencrypt", data, "--new-passphrase-file", new, "--low-space"]
    # Some files have moved, and others have not.
    assert injector.run(args, Call("unlinkat", 9), "signal=KILL").rc == -9
    disk.remount()
    assert run.ok(["reencrypt", data, "--status", "--json"])["state"] == "moving"
    secrets = ["--passphrase-file", secret, "--new-passphrase-file", new]
    run.ok(["reencrypt", data, "--cancel", *secrets])
    assert_same(before, data)
    assert_nothing_left(disk)


def test_the_way_back_goes_on_with_a_file_in_parts(make_filesystem, set_up, run, secret, injector):
    disk = make_filesystem(size_mib=64)
    set_up(disk)
    data = disk / "data"
    make_data(data)
    (data / "large").write_bytes(os.urandom(30_000_000))
    before = trees.snapshot(data)
    # Cut off when the large file has moved, which is the only one that is shortened.
    calls = injector.calls([*convert(disk / "data", secret), "--low-space"], ("ftruncate", "syncfs"))
    run.ok(["decrypt", data, "--low-space"])
    after_large = calls[max(index for index, call in enumerate(calls) if call.name == "ftruncate") + 3]
    args = [*convert(data, secret), "--low-space", "--name", "second"]
    back = ["convert", data, "--cancel", "--passphrase-file", secret]
    ways = [Call("syncfs", number) for number in range(2, 7)] + [Call("ftruncate", 3)]
    for way in ways:
        assert injector.run(args, after_large, "signal=KILL").rc == -9
        assert injector.run(back, way, "signal=KILL").rc in (-9, 0)
        if run.ok(["convert", data, "--status", "--json"])["state"] != "none":
            run.ok(back)
        assert_same(before, data)
        args[-1] += "x"
    assert_nothing_left(disk)


def test_low_space_does_with_little_also_when_cut_off_at_the_beginning(make_filesystem, set_up, run,
                                                                       secret, injector):
    disk = make_filesystem(size_mib=64)
    set_up(disk)
    data = disk / "data"
    make_data(data)
    (data / "large").write_bytes(os.urandom(30_000_000))
    before = trees.snapshot(data)
    args = [*convert(data, secret), "--low-space"]

    def work_directory_is_made_by(number):
        injector.run(args, Call("mkdirat", number), "signal=KILL")
        return any(name.startswith(".fscryptctl-") for name in os.listdir(disk))

    assert any(work_directory_is_made_by(number) for number in range(1, 20))
    assert run.ok(["convert", data, "--status", "--json"])["state"] == "copying"
    run.ok([*args, "--passphrase-file", secret])
    assert_same(before, data)
    assert_nothing_left(disk)


def make_directory(path):
    path.mkdir(mode=0o700)
    return path


def test_root_does_not_take_over_what_a_user_began(disk, run, secrets, alice, injector):
    home = disk / "home"
    home.mkdir()
    os.chown(home, alice.uid, alice.gid)
    secret = secrets.file("hers", b"battery staple\n", alice)
    data = home / "data"
    kernel.as_user(alice.uid, make_data, data)
    before = trees.snapshot(data)
    assert injector.run(convert(data, secret), EXCHANGE, "signal=KILL", user=alice).rc == -9
    status = run.ok(["convert", data, "--status", "--json"])
    assert status["state"] == "exchanging" and status["resumable"] is True
    for args in (convert(data, secret), ["convert", data, "--cancel"]):
        result = run(args)
        assert result.rc == 7 and "who began it" in result.err
    work = next(home / name for name in os.listdir(home) if name.startswith(".fscryptctl-"))
    assert work.stat().st_uid == alice.uid
    assert_same(before, data)
    run.ok(convert(data, secret), user=alice)
    assert_same(before, data)


@STRATEGIES
def test_root_does_it_for_a_user(disk, run, secret, alice, secrets, strategy):
    data = disk / "data"
    make_data(data)
    for path in (data, data / "sub", *(data / "sub").iterdir()):
        os.chown(path, alice.uid, alice.gid)
    before = trees.snapshot(data)
    run.ok(convert(data, secret, *strategy))
    assert_same(before, data)
    hers = secrets.file("hers", b"correct horse\n", alice)
    run.ok(["lock", data], user=alice)
    run.ok(["unlock", data, "--passphrase-file", hers], user=alice)
    run.ok(["reencrypt", data, "--new-passphrase-file", secret, *strategy])
    assert_same(before, data)
    run.ok(["decrypt", data, *strategy])
    assert kernel.get_policy(data) is None
    assert_same(before, data)
    assert_nothing_left(disk)


def test_every_command_moves_large_files_in_parts(make_filesystem, set_up, run, secret):
    disk = make_filesystem(size_mib=64)
    set_up(disk)
    data = disk / "data"
    make_data(data)
    (data / "large").write_bytes(os.urandom(33_333_333))
    before = trees.snapshot(data)
    run.ok(convert(data, secret, "--low-space"))
    assert_same(before, data)
    run.ok(["reencrypt", data, "--low-space", "--new-passphrase-file", secret, "--name", "new"])
    assert_same(before, data)
    run.ok(["decrypt", data, "--low-space"])
    assert_same(before, data)
    assert_nothing_left(disk)


def make_slow_data(directory, files=3000):
    directory.mkdir()
    for number in range(files):
        sub = directory / str(number % 50)
        sub.mkdir(exist_ok=True)
        (sub / f"file{number}").write_bytes(os.urandom(100 + number))


@STRATEGIES
@pytest.mark.parametrize("command", ["convert", "reencrypt", "decrypt"])
def test_killed_at_random_it_goes_on(disk, data, run, secret, passphrase_file, cut, command,
                                     strategy):
    if command != "convert":
        run.ok(["encrypt", data, "--create", "--new-passphrase-file", secret])
        shutil.rmtree(data / "x", ignore_errors=True)
        for number in range(1500):
            (data / f"file{number}").write_bytes(os.urandom(100 + number))
    else:
        make_slow_data(data, 1500)
    before, policy = trees.snapshot(data), kernel.get_policy(data)
    new = passphrase_file("a new one", name="new")
    args = [command, data, *strategy]
    if command != "decrypt":
        args += ["--new-passphrase-file", new]

    def is_done():
        # It may have been killed when all was done but to say so.
        resumable = run.ok([command, data, "--status", "--json"])["resumable"]
        return kernel.get_policy(data) != policy and not resumable

    for pause in [0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6]:
        rc, _, err = cut.after(args, pause)
        assert rc in (0, -9), err
        if is_done():
            break
    else:
        run.ok(args)
    assert (kernel.get_policy(data) is None) == (command == "decrypt")
    assert_same(before, data)
    assert_nothing_left(disk)
    assert operation_in_records(disk) == []


def begin(run, args, disk, cut):
    """Cuts it off in the middle of its work."""
    for pause in (0.05, 0.1, 0.2, 0.3, 0.45):
        rc, _, err = cut.after(args, pause, "INT")
        if rc == 130 and any(name.startswith(".fscryptctl-") for name in os.listdir(disk)):
            return err
        assert rc in (0, 130), err
    raise AssertionError("it cannot be caught in the middle")


def test_ctrl_c_says_how_to_go_on_and_status_how_far_it_is(disk, data, run, secret, cut):
    make_slow_data(data, 6000)
    before = trees.snapshot(data)
    err = begin(run, convert(data, secret), disk, cut)
    assert f"go on with: fscryptctl convert {data}" in err
    status = run.ok(["convert", data, "--status", "--json"])
    assert status["resumable"] is True and status["state"] in ("copying", "exchanging", "removing")
    assert 0 <= status["files_done"] <= status["files_total"] == 6050
    assert run(["reencrypt", data, "--new-passphrase-file", secret]).rc in (4, 9)
    run.ok(convert(data, secret))
    assert_same(before, data)
    status = run.ok(["convert", data, "--status", "--json"])
    assert status["state"] == "none" and status["resumable"] is False
    assert status["strategy"] is None and status["bytes_total"] == status["files_total"] == 0


def test_only_the_right_secret_goes_on(disk, data, run, secret, passphrase_file, cut):
    make_slow_data(data, 6000)
    begin(run, convert(data, secret), disk, cut)
    wrong = passphrase_file("wrong", name="wrong")
    assert run(convert(data, wrong)).rc == 3
    assert run(["convert", data, "--passphrase-file", wrong]).rc == 3
    assert run(convert(data, secret, "--padding", "4")).rc == 2
    assert run(convert(data, secret, "--low-space")).rc == 2
    assert run(["policy", "add-protector", kernel_key(disk), "--mount", disk, "--source",
                "passphrase", "--name", "second", "--passphrase-file", secret,
                "--new-passphrase-file", wrong]).rc == 9
    run.ok(["convert", data, "--passphrase-file", secret])


def kernel_key(disk):
    return next((disk / ".fscryptctl/users").rglob("policies/*.yaml")).stem


@STRATEGIES
def test_cancelled_it_is_as_before(disk, data, run, secret, cut, strategy):
    make_slow_data(data, 6000)
    before = trees.snapshot(data)
    begin(run, convert(data, secret, *strategy), disk, cut)
    run.ok(["convert", data, "--cancel", "--passphrase-file", secret])
    assert kernel.get_policy(data) is None
    assert_same(before, data)
    assert_nothing_left(disk)
    assert list((disk / ".fscryptctl/users").rglob("policies/*.yaml")) == []
    assert run(["convert", data, "--cancel"]).rc == 4
    run.ok(convert(data, secret, *strategy))
    assert_same(before, data)


def test_a_changed_journal_moves_nothing(disk, data, run, secret, cut):
    make_slow_data(data, 6000)
    before = trees.snapshot(data)
    begin(run, convert(data, secret), disk, cut)
    journal = next(path for path in (disk / ".fscryptctl/users").rglob("operations/*.yaml")
                   if not path.name.endswith(".policy.yaml"))
    text = journal.read_text()
    state = next(line for line in text.splitlines() if line.startswith("state: "))
    for forged in (text.replace(state, "state: removing"), text.replace("verify: 1", "verify: 0"),
                   text.replace("command: convert", "command: decrypt"), text[:-20], ""):
        assert forged != text
        journal.write_text(forged)
        for command in (convert(data, secret), ["decrypt", data]):
            result = run(command)
            assert result.rc in (4, 8, 9), result
        assert kernel.get_policy(data) is None
    journal.write_text(text)
    assert_same(before, data)
    run.ok(convert(data, secret))
    assert_same(before, data)


def test_a_journal_that_calls_moved_files_a_copy_removes_none(disk, data, run, secret, cut):
    make_slow_data(data, 6000)
    before = trees.snapshot(data)
    begin(run, convert(data, secret, "--low-space"), disk, cut)
    journal = next(path for path in (disk / ".fscryptctl/users").rglob("operations/*.yaml")
                   if not path.name.endswith(".policy.yaml"))
    text = journal.read_text()
    journal.write_text(text.replace("strategy: low-space", "strategy: copy"))
    assert run(["convert", data, "--cancel", "--passphrase-file", secret]).rc == 8
    journal.write_text(text)
    run.ok(convert(data, secret, "--low-space"))
    assert_same(before, data)


def test_an_old_journal_does_nothing(disk, data, run, secret, cut):
    make_slow_data(data, 6000)
    begin(run, convert(data, secret), disk, cut)
    operations = next((disk / ".fscryptctl/users").rglob("operations"))
    kept = {path.name: path.read_bytes() for path in operations.iterdir()}
    run.ok(convert(data, secret))
    before = trees.snapshot(data)
    operations.mkdir(mode=0o700)
    for name, content in kept.items():
        (operations / name).write_bytes(content)
        (operations / name).chmod(0o600)
    for command in (convert(data, secret), ["decrypt", data, "--dry-run"], ["decrypt", data]):
        run(command)
        if kernel.get_policy(data) is None:
            break
        assert_same(before, data)
    assert run(["convert", data, "--cancel"]).rc != 0


def test_two_at_once(disk, data, run, secret):
    make_slow_data(data)
    before = trees.snapshot(data)
    both = [run.start([os.fsdecode(word) for word in convert(data, secret, "--json")],
                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)]
    results = sorted((json.loads(process.communicate()[0]), process.returncode)[1]
                     for process in both)
    assert results in ([0, 5], [0, 9], [0, 0]), results
    assert_same(before, data)
    assert_nothing_left(disk)


# --- others who change things


def test_files_that_change_meanwhile_are_copied_again(disk, data, run, secret):
    make_slow_data(data)
    process = run.start([os.fsdecode(word) for word in convert(data, secret)],
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    number = 0
    while process.poll() is None and kernel.get_policy(data) is None and number < 40:
        path = data / f"new{number}"
        path.write_text(str(number))
        (data / "1/file1").write_text(f"changed {number}")
        number += 1
        time.sleep(0.01)
    _, err = process.communicate()
    assert process.returncode in (0, 5), err
    if process.returncode == 5:
        run.ok(convert(data, secret))
    found = {path.name for path in data.glob("new*")}
    kept = set()
    for work in disk.__fspath__() and os.listdir(disk):
        if work.startswith(".fscryptctl-"):
            kept |= set(os.listdir(os.path.join(disk, work, "tree")))
    assert {f"new{n}" for n in range(number)} <= found | kept


def test_a_file_that_is_open_for_writing_stops_it(disk, data, run, secret):
    make_slow_data(data, 500)
    os.link(data / "1/file1", disk / "elsewhere")
    # By its name outside nobody sees that it is one of the directory's.
    with open(disk / "elsewhere", "r+b"):
        result = run(convert(data, secret))
        assert result.rc == 5 and "open for writing" in result.err
        assert kernel.get_policy(data) is None
    run.ok(convert(data, secret))


def test_a_full_disk_in_the_middle(make_filesystem, set_up, run, secret, cut):
    disk = make_filesystem(size_mib=64)
    set_up(disk)
    data = disk / "data"
    make_slow_data(data, 3000)
    before = trees.snapshot(data)
    args = convert(data, secret)
    process = run.start([os.fsdecode(word) for word in args], stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not any(name.startswith(".fscryptctl-") for name in os.listdir(disk)):
        assert process.poll() is None
    filler = disk / "filler"
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        except OSError:
            pass
    _, err = process.communicate()
    assert process.returncode in (0, 1), err
    if process.returncode == 1:
        assert kernel.get_policy(data) is None
        assert_same(before, data)
    filler.unlink()
    run.ok(args if process.returncode else ["status", data])
    assert_same(before, data)


# --- any number of files


def peak_memory(run, args):
    """KiB of a command that must succeed, as far as a look now and then tells."""
    process = run.start(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status") as file:
            peak = max([peak, *(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))])
        time.sleep(0.005)
    assert process.returncode == 0, args
    return peak


@STRATEGIES
def test_memory_does_not_grow_with_the_number_of_files(make_filesystem, set_up, run, secret, strategy):
    disk = make_filesystem(size_mib=256)
    set_up(disk)
    peaks = {}
    for number in (100, 20_000):
        data = disk / f"data{number}"
        data.mkdir()
        for index in range(number):
            (data / f"{'long name ' * 10}{index}").touch()
        convert_it = ["convert", data, "--new-passphrase-file", secret, *strategy]
        peaks[number] = [peak_memory(run, convert_it), peak_memory(run, ["decrypt", data, *strategy])]
    # Names alone are 2,000 KiB.
    for few, many in zip(*peaks.values()):
        assert many - few < 1000, peaks
