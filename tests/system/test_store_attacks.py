"""A user who owns her records tries to harm others through them, or to make them wait for her.

Alice attacks; root and Bob must get their work done, write nothing where she points, show nothing
of what she points at, and say what is wrong. Bob's records stand for everybody else's.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
import time

import pytest

import harness
import kernel

RECORDS = ".fscryptctl/users"
PATIENCE = 25  # seconds: a loaded machine takes its time, what hangs takes for ever
WAIT_FOR_WRITER = 10


@pytest.fixture
def disk(filesystem, set_up, alice, bob):
    """Everybody may make records here, and each user has a home."""
    set_up(filesystem, "--all-users")
    for user in (alice, bob):
        home = filesystem / user.name
        home.mkdir()
        os.chown(home, user.uid, user.gid)
    return filesystem


class Keyring:
    """What one user has on the disk: a directory, its key file, and her records."""

    def __init__(self, disk, run, user, key):
        self.disk, self.user, self.key, self._run = disk, user, key, run
        self.directory = disk / user.name / "private"
        self.records = disk / RECORDS / str(user.uid)
        run.ok(["encrypt", self.directory, "--create", "--source", "raw-key",
                "--new-key-file", key], user=user)

    @property
    def policies(self):
        return self.records / "policies"

    @property
    def policy(self):
        (record,) = self.policies.glob("*.yaml")
        return record

    def unlock(self, *options, user=None):
        return self._run(["unlock", self.directory, "--key-file", self.key, *options, "--json"],
                         user=user or self.user, timeout=PATIENCE)

    def another(self, name, user=None, options=()):
        """Another directory with the key file, for which records are written."""
        return self._run(["encrypt", self.disk / self.user.name / name, "--create", "--source",
                          "raw-key", "--new-key-file", self.key, "--json", *options],
                         user=user, timeout=PATIENCE)


@pytest.fixture
def alices(disk, run, alice, key_file):
    return Keyring(disk, run, alice, key_file(name="alices", owner=alice))


@pytest.fixture
def bobs(disk, run, bob, key_file):
    return Keyring(disk, run, bob, key_file(name="bobs", owner=bob))


def assert_root_sees(run, disk, damaged, others, rc=8):
    """Root's overview ends, names what is wrong and lists the other users' directories."""
    result = run(["status", disk, "--json"], timeout=PATIENCE)
    assert result.rc == rc, result
    seen = result.json()
    assert [entry["uid"] for entry in seen["damaged"]] == [harness.ALICE.uid]
    (entry,) = seen["damaged"]
    assert entry["file"] == damaged, result
    assert entry["reason"]
    paths = [place["path"] for policy in seen["policies"] for place in policy["paths"]]
    assert str(others.directory) in paths
    return result


def assert_plain(directory):
    """Nothing was encrypted for which the records could not be written."""
    assert not directory.exists() or kernel.get_policy(directory) is None


def own(path, user):
    os.chown(path, user.uid, user.gid, follow_symlinks=False)


# --- A FUSE filesystem whose server has been stopped ---

FUSE_INIT = 26


@contextlib.contextmanager
def stopped_fuse(mountpoint, user):
    """Mounted as fusermount does it for a user; the server says hello and never answers again."""
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id={user.uid},group_id={user.gid},allow_other"
    if libc.mount(b"stopped", os.fsencode(mountpoint), b"fuse", 2 | 4, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mounting FUSE")
    try:
        request = os.read(server, 65536)
        opcode, unique = struct.unpack_from("<IQ", request, 4)
        assert opcode == FUSE_INIT
        welcome = struct.pack("<IIIIHHI36x", 7, 31, 65536, 0, 12, 9, 65536)
        os.write(server, struct.pack("<IiQ", 16 + len(welcome), 0, unique) + welcome)
        yield
    finally:
        os.close(server)  # whoever still hangs in there is let go
        libc.umount2(os.fsencode(mountpoint), 2)


def assert_hangs(path):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.stat(path)
        os._exit(0)
    time.sleep(0.3)
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the mount answers: it proves nothing"
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_a_hanging_mount_over_her_records_holds_nobody_up(disk, alices, bobs, run):
    for place in (alices.records, alices.policies):
        with stopped_fuse(place, alices.user):
            assert_hangs(place)
            assert_root_sees(run, disk, str(place.relative_to(disk / ".fscryptctl")), bobs)
            # Nor herself, whom the mount would let in.
            result = alices.unlock()
            assert result.rc == 8, result
            result = alices.another("more", options=["--user", "alice"])
            assert result.rc == 8, result
        assert alices.unlock().rc == 0


def test_a_hanging_mount_over_a_place_that_is_not_hers_yet_holds_nobody_up(disk, bobs, run, alice,
                                                                         key_file):
    place = disk / RECORDS / str(alice.uid)
    place.mkdir()
    own(place, alice)
    with stopped_fuse(place, alice):
        assert run(["list", "--all-users", "--json"], timeout=PATIENCE).rc == 8
        assert run(["setup", disk, "--user", "alice"], timeout=PATIENCE).rc == 8
        assert bobs.unlock().rc == 0


# --- Records that are something else ---

def a_symlink_to_roots_file(path, secret):
    path.symlink_to(secret)


def a_hard_link_to_roots_file(path, secret):
    os.link(secret, path)


def a_fifo(path, _):
    os.mkfifo(path, 0o600)


def a_directory(path, _):
    path.mkdir()


def a_huge_file(path, _):
    path.touch(0o600)
    os.truncate(path, 1 << 40)


def a_device(path, _):
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


def garbage(path, _):
    path.write_bytes(b"\x00[,,,{{{!!python/object:os.system\xff" * 100)
    path.chmod(0o600)


@pytest.mark.parametrize("make", [a_symlink_to_roots_file, a_hard_link_to_roots_file, a_fifo,
                                  a_directory, a_huge_file, a_device, garbage])
def test_a_record_that_is_something_else_is_reported_and_not_read(disk, alices, bobs, run, secrets,
                                                                make):
    secret = disk / "roots"
    secret.write_text("root's own words\n")
    secret.chmod(0o600)
    secrets.remember(b"root's own words")
    bad = alices.policies / ("0" * 32 + ".yaml")
    make(bad, secret)
    if make is not a_hard_link_to_roots_file:
        own(bad, alices.user)
    result = assert_root_sees(run, disk, str(bad.relative_to(disk / ".fscryptctl")), bobs)
    assert "root's own words" not in result.out + result.err
    # Her good records still serve her, and a write leaves what root has alone.
    assert alices.unlock().rc == 0
    assert alices.another("more", user=alices.user).rc == 0
    assert secret.read_text() == "root's own words\n"
    assert os.stat(secret).st_uid == 0


# --- Directories that lead elsewhere ---

def replaced_by_symlink(keyring, target):
    keyring.policies.rename(keyring.records / "kept")
    keyring.policies.symlink_to(target)
    own(keyring.policies, keyring.user)


def replaced_by_others_directory(keyring, target):
    keyring.policies.rename(keyring.records / "kept")
    target.rename(keyring.policies)


@pytest.mark.parametrize("replace", [replaced_by_symlink, replaced_by_others_directory])
def test_a_record_directory_that_leads_elsewhere_is_refused(disk, alices, bobs, run, replace):
    target = disk / "target"
    target.mkdir()
    replace(alices, target)
    assert_root_sees(run, disk, "users/1000/policies", bobs)
    result = alices.another("more", options=["--user", "alice"])
    assert result.rc == 8, result
    assert result.json()["error"]["reason"] == "untrusted"
    assert not target.exists() or not os.listdir(target)
    assert_plain(disk / "alice/more")
    assert not list(alices.policies.glob("*.yaml"))


def test_an_encrypted_record_directory_is_refused_before_anything_is_encrypted(disk, alices):
    alices.policies.rename(alices.records / "kept")
    alices.policies.mkdir(0o700)
    identifier = kernel.add_key(disk, bytes(range(64)))
    kernel.set_policy(alices.policies, identifier)
    own(alices.policies, alices.user)
    for locked in (False, True):
        if locked:
            kernel.remove_key(disk, identifier)
        result = alices.another("more", options=["--user", "alice"])
        assert result.rc == 8, result
        assert_plain(disk / "alice/more")


class Swapping:
    """A process of a user's that exchanges two names as fast as it can, while the block runs."""

    CODE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
first, second = (os.fsencode(name) for name in sys.argv[1:])
print("ready", flush=True)
while True:
    libc.renameat2(-100, first, -100, second, 2)
"""

    def __init__(self, background, user, first, second):
        self._process = background(["/usr/bin/python3", "-c", self.CODE, first, second], user=user)
        assert self._process.stdout.readline() == "ready\n"

    def stop(self):
        self._process.kill()
        self._process.wait()


def test_while_she_swaps_her_record_directory_root_writes_nothing_elsewhere(disk, alices, run,
                                                                         background):
    target = disk / "target"
    target.mkdir()
    target.chmod(0o777)
    trap = alices.records / "trap"
    trap.symlink_to(target)
    own(trap, alices.user)
    swapping = Swapping(background, alices.user, alices.policies, trap)
    outcomes = {alices.another(f"more{n}", options=["--user", "alice"]).rc for n in range(15)}
    swapping.stop()
    assert os.listdir(target) == []
    assert outcomes <= {0, 1, 4, 8}, outcomes
    if alices.policies.is_symlink():
        alices.policies.unlink()
        trap.rename(alices.policies)
    # Whatever was encrypted in between has its record and opens.
    for n in range(15):
        directory = disk / "alice" / f"more{n}"
        if directory.exists() and kernel.get_policy(directory):
            run.ok(["unlock", "--dry-run", directory, "--key-file", alices.key], user=alices.user)
    assert alices.another("last", options=["--user", "alice"]).rc == 0


def test_while_she_swaps_a_record_nothing_of_roots_is_read_or_replaced(disk, alices, bobs, run,
                                                                      secrets, background):
    secret = disk / "roots"
    secret.write_text("root's own words\n")
    secret.chmod(0o600)
    trap = alices.policies / "trap"
    trap.symlink_to(secret)
    own(trap, alices.user)
    record = alices.policy
    before = record.read_bytes()
    swapping = Swapping(background, alices.user, record, trap)
    seen = set()
    for _ in range(20):
        result = run(["status", disk, "--json"], timeout=PATIENCE)
        assert "root's own words" not in result.out + result.err
        seen.add(result.rc)
    swapping.stop()
    assert seen <= {0, 8}, seen
    assert secret.read_text() == "root's own words\n"
    assert (trap if record.is_symlink() else record).read_bytes() == before


# --- Squatting ---

def test_a_squatted_place_is_refused_to_its_user_and_cleared_by_root(disk, alices, run, bob,
                                                                    key_file):
    place = disk / RECORDS / str(bob.uid)
    place.mkdir()
    (place / "policies").mkdir()
    own(place, alices.user)
    key = key_file(name="bobs", owner=bob)
    wanted = ["encrypt", disk / "bob/private", "--create", "--source", "raw-key",
              "--new-key-file", key, "--json"]
    refused = run(wanted, user=bob, timeout=PATIENCE)
    assert refused.rc == 8, refused
    assert_plain(disk / "bob/private")
    assert run.ok(["setup", disk, "--user", "bob", "--json"])["changed"] is True
    assert (os.stat(place).st_uid, oct(os.stat(place).st_mode)) == (bob.uid, "0o40700")
    (aside,) = (disk / RECORDS).glob(".squatted-*")
    assert os.listdir(aside) == ["policies"]
    run.ok(wanted, user=bob)
    run.ok(["unlock", "--dry-run", disk / "bob/private", "--key-file", key], user=bob)


def test_while_she_squats_again_and_again_root_still_makes_the_right_directory(disk, run, alice,
                                                                             bob):
    place = disk / RECORDS / str(bob.uid)

    def squat():
        while True:
            with contextlib.suppress(OSError):
                os.symlink("/etc", place)
            with contextlib.suppress(OSError):
                os.unlink(place)

    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(alice.gid, alice.gid, alice.gid)
        os.setresuid(alice.uid, alice.uid, alice.uid)
        squat()
    try:
        outcomes = [run(["setup", disk, "--user", "bob", "--json"], timeout=PATIENCE).rc
                    for _ in range(5)]
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert set(outcomes) <= {0, 8}, outcomes
    run.ok(["setup", disk, "--user", "bob"])
    assert (os.stat(place).st_uid, oct(os.stat(place).st_mode)) == (bob.uid, "0o40700")


# --- Holding on ---

def test_who_holds_her_lock_delays_only_writes_and_only_for_a_while(disk, alices, bobs, run):
    holder = os.open(alices.records, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        assert run(["status", disk], timeout=PATIENCE).rc == 0
        assert alices.unlock().rc == 0
        assert bobs.another("more", user=bobs.user).rc == 0
        start = time.monotonic()
        result = alices.another("more", user=alices.user)
        assert time.monotonic() - start < WAIT_FOR_WRITER + PATIENCE / 2
        assert result.rc == 5, result
        assert result.json()["error"]["reason"] == "metadata_locked"
        assert_plain(disk / "alice/more")
    finally:
        os.close(holder)
    assert alices.another("more", user=alices.user).rc == 0


LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
signal.pause()
"""


def test_a_write_lease_on_a_record_makes_nobody_wait(disk, alices, bobs, run, background):
    holder = background(["/usr/bin/python3", "-c", LEASE, alices.policy], user=alices.user)
    assert holder.stdout.readline() == "ready\n"
    start = time.monotonic()
    assert_root_sees(run, disk, str(alices.policy.relative_to(disk / ".fscryptctl")), bobs, rc=5)
    result = alices.unlock()
    assert result.rc == 5, result
    assert time.monotonic() - start < PATIENCE
    holder.kill()
    holder.wait()
    assert alices.unlock().rc == 0


# --- What interrupted writers leave ---

def test_temporary_files_of_interrupted_writers_are_no_records_and_go_away(disk, alices, run):
    left = alices.policies.parent / ".tmp-0123456789abcdef"
    left.write_bytes(alices.policy.read_bytes()[:100])
    own(left, alices.user)
    assert run(["status", disk]).rc == 0
    assert alices.another("more", user=alices.user).rc == 0
    assert not left.exists()
