"""The harness and the ioctl module can be believed: shown without the program under test."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import harness
import kernel

RAW_KEY = bytes(range(64))
IDENTIFIER_OF_RAW_KEY = "8699c2c53707405da5aba5ae4d8583c0"

MOUNT_AND_WAIT = """
import sys, time
from pathlib import Path
import harness
harness.Sandbox(sys.argv[1], "/bin/true")
print(harness.Filesystem(Path(sys.argv[1]) / "disk").device, flush=True)
time.sleep(600)
"""


@pytest.fixture
def run_python(scratch, secrets):
    """The runner of the program under test, running python instead."""
    return harness.Runner("/usr/bin/python3", scratch, secrets)


@pytest.fixture
def encrypted(filesystem):
    """A directory encrypted with RAW_KEY, which root added, holding one file."""
    kernel.add_key(filesystem, RAW_KEY)
    directory = filesystem / "private"
    directory.mkdir()
    kernel.set_policy(directory, IDENTIFIER_OF_RAW_KEY)
    (directory / "letter").write_text("dear diary")
    return directory


def mount_and_wait(directory):
    """A test run of its own, which this one sees from outside."""
    return subprocess.Popen([sys.executable, "-c", MOUNT_AND_WAIT, directory], text=True,
                            stdout=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parent)})


def test_mounts_and_users_stay_inside(tmp_path):
    own_etc = os.stat("/etc")
    run = mount_and_wait(tmp_path)
    try:
        assert run.stdout.readline().startswith("/dev/loop")
        assert os.fsencode(tmp_path) in Path(f"/proc/{run.pid}/mountinfo").read_bytes()
        assert harness.mounts_below(tmp_path) == []
        assert not os.path.samestat(os.stat(f"/proc/{run.pid}/root/etc"), own_etc)
        assert os.path.samestat(os.stat("/etc"), own_etc)
    finally:
        run.kill()
        run.communicate()


def test_users_exist_by_name(sandbox):
    names = harness.command("getent", "passwd", "1000", "1001").split("\n")
    assert [name.split(":")[0] for name in names[:2]] == ["alice", "bob"]


def test_identifiers_are_computed_as_the_kernel_does(filesystem):
    assert kernel.key_identifier(RAW_KEY) == IDENTIFIER_OF_RAW_KEY
    assert kernel.add_key(filesystem, RAW_KEY) == IDENTIFIER_OF_RAW_KEY
    short = bytes(range(32))
    assert kernel.add_key(filesystem, short) == kernel.key_identifier(short)


def test_policy_reads_back_as_it_was_set(encrypted):
    policy = kernel.get_policy(encrypted)
    assert policy == kernel.Policy(2, kernel.AES_256_XTS, kernel.AES_256_CTS, kernel.PAD_32, 0,
                                   IDENTIFIER_OF_RAW_KEY)
    assert policy.padding == 32
    assert kernel.get_policy(encrypted.parent) is None


def test_removing_the_key_hides_names_and_contents(encrypted):
    assert kernel.remove_key(encrypted.parent, IDENTIFIER_OF_RAW_KEY) == (False, False)
    assert kernel.key_status(encrypted.parent, IDENTIFIER_OF_RAW_KEY).state == "absent"
    (name,) = os.listdir(encrypted)
    assert name != "letter"
    with pytest.raises(OSError) as refusal:
        (encrypted / name).read_bytes()
    assert refusal.value.errno == errno.ENOKEY
    kernel.add_key(encrypted.parent, RAW_KEY)
    assert (encrypted / "letter").read_text() == "dear diary"


def test_claims_are_counted_by_user(filesystem, alice):
    kernel.add_key(filesystem, RAW_KEY)
    kernel.as_user(alice.uid, kernel.add_key, filesystem, RAW_KEY)
    assert kernel.key_status(filesystem, IDENTIFIER_OF_RAW_KEY) == ("present", True, 2)
    removal = kernel.remove_key(filesystem, IDENTIFIER_OF_RAW_KEY)
    assert removal.other_users
    assert kernel.key_status(filesystem, IDENTIFIER_OF_RAW_KEY) == ("present", False, 1)
    with pytest.raises(OSError) as refusal:
        kernel.as_user(alice.uid, kernel.remove_key, filesystem, IDENTIFIER_OF_RAW_KEY, True)
    assert refusal.value.errno == errno.EACCES
    assert not kernel.remove_key(filesystem, IDENTIFIER_OF_RAW_KEY, all_users=True).other_users
    assert kernel.key_status(filesystem, IDENTIFIER_OF_RAW_KEY).state == "absent"


def test_an_open_file_keeps_the_key_busy(encrypted, background):
    holder = background(["sh", "-c", 'exec 3<letter; echo open; read _'], cwd=encrypted)
    assert holder.stdout.readline() == "open\n"
    assert kernel.remove_key(encrypted.parent, IDENTIFIER_OF_RAW_KEY).files_busy
    status = kernel.key_status(encrypted.parent, IDENTIFIER_OF_RAW_KEY)
    assert status == ("incompletely_removed", False, 0)


def test_a_filesystem_without_the_feature_refuses_keys(make_filesystem):
    plain = make_filesystem(encrypt=False)
    assert not kernel.has_encryption(plain)
    assert kernel.has_encryption(make_filesystem())
    with pytest.raises(OSError) as refusal:
        kernel.add_key(plain, RAW_KEY)
    assert refusal.value.errno == errno.EOPNOTSUPP


def test_remounting_drops_keys_and_a_power_cut_drops_what_was_not_synced(filesystem):
    kernel.add_key(filesystem, RAW_KEY)
    filesystem.remount()
    assert kernel.key_status(filesystem, IDENTIFIER_OF_RAW_KEY).state == "absent"
    with open(filesystem / "kept", "w") as kept:
        kept.write("synced")
        kept.flush()
        os.fsync(kept.fileno())
    directory = os.open(filesystem, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    (filesystem / "lost").write_text("not synced")
    kernel.cut_power(filesystem)
    filesystem.remount()
    assert (filesystem / "kept").read_text() == "synced"
    assert not (filesystem / "lost").exists()


def test_filesystems_come_as_asked_for(make_filesystem, alice):
    small = make_filesystem(size_mib=16, block_size=1024, stable_inodes=True, owner=alice)
    assert os.stat(small).st_uid == alice.uid
    assert os.statvfs(small).f_bsize == 1024
    features = harness.command("dumpe2fs", "-h", small.image)
    assert "stable_inodes" in features and "encrypt" in features
    assert str(small.device).startswith("/dev/loop")


def test_unmounting_gives_the_loop_device_back(make_filesystem):
    disk = make_filesystem()
    device = disk.device
    disk.unmount()
    assert str(disk.image) not in harness.command("losetup", "-a")
    assert device.exists()


def test_a_killed_run_leaves_no_mount_and_no_loop_device():
    directory = tempfile.mkdtemp(prefix="fscryptctl-test-")
    run = mount_and_wait(directory)
    backing = Path("/sys/block") / Path(run.stdout.readline().strip()).name / "loop/backing_file"
    image = backing.read_text()
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while backing.exists() and backing.read_text() == image and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not backing.exists() or backing.read_text() != image
    os.rmdir(directory)


def test_commands_run_as_an_ordinary_user_without_groups_or_terminal(run_python, alice):
    result = run_python(["-c", """
import json, os
try:
    os.open("/dev/tty", os.O_RDWR)
    terminal = True
except OSError:
    terminal = False
print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), terminal]))
"""], user=alice)
    assert json.loads(result.out) == [[1000] * 3, [1000] * 3, [], False]


def test_a_hanging_command_is_killed_and_reported(run_python):
    with pytest.raises(AssertionError, match="still running after 0.2 s"):
        run_python(["-c", "import time; time.sleep(60)"], timeout=0.2)


def test_a_secret_that_comes_back_out_is_noticed(run_python, key_file):
    path = key_file()
    with pytest.raises(AssertionError, match="a secret of this test stands in stderr"):
        run_python(["-c", f"import sys; sys.stderr.write(open({str(path)!r}, 'rb').read().hex())"])


@pytest.mark.parametrize("out", [
    "", "{}", "[]", "not json",
    '{"schema": 1, "command": "status", "ok": true, "changed": false} {}',
    '{"schema": 1, "command": "status", "ok": false, "changed": false, "error": {}}',
    '{"schema": 1, "schema": 1, "command": "status", "ok": true, "changed": false}'])
def test_an_answer_that_is_not_one_sound_object_is_refused(out):
    with pytest.raises(AssertionError):
        harness.Result([], 0, out.encode(), b"").json()


def test_a_prompt_that_shows_what_is_typed_is_noticed(run_python):
    program = "import getpass; print('read', getpass.getpass('Passphrase: '))"
    terminal = harness.Terminal(run_python, "/usr/bin/python3", ["-c", program], None, None)
    terminal.answer("Passphrase: ", "correct horse")
    terminal.expect("read correct horse")
    assert terminal.finish() == 0
    terminal = harness.Terminal(run_python, "/usr/bin/python3", ["-c", "input('Passphrase: ')"],
                                None, None)
    terminal.ECHO_PATIENCE = 0.2
    with pytest.raises(AssertionError, match="would be shown"):
        terminal.answer("Passphrase: ", "correct horse")
    terminal.close(force=True)
