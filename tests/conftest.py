"""Fixtures for every test that drives the real program on a real kernel (root only)."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))
pytest.register_assert_rewrite("interruptible")
import harness

# As in stages.py: a shell's background job ignores it, and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHEAP_HASHING = ["--kdf-time", "1", "--kdf-memory", "1", "--kdf-lanes", "1"]


@pytest.fixture(scope="session")
def sandbox():
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts filesystems and acts as other users")
    # A real directory outside the namespace is all that a killed run leaves behind.
    directory = tempfile.mkdtemp(prefix="fscryptctl-test-")
    os.chmod(directory, 0o755)
    program = os.environ.get("FSCRYPTCTL", harness.REPOSITORY / "build/release/fscryptctl")
    made = harness.Sandbox(directory, program)
    yield made
    os.chdir("/")
    harness.command("umount", "-l", "/etc")
    harness.command("umount", "-l", directory)
    os.rmdir(directory)


@pytest.fixture
def room(sandbox, request):
    """This test's own directory; whatever is mounted below it at the end is unmounted."""
    directory = Path(tempfile.mkdtemp(prefix="t", dir=sandbox.directory))
    directory.chmod(0o755)
    yield directory
    for point in harness.mounts_below(directory):
        harness.command("umount", os.fsdecode(point))
    shutil.rmtree(directory)


@pytest.fixture
def scratch(room):
    """A directory outside every encrypted filesystem, where anybody can leave files."""
    directory = room / "scratch"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


@pytest.fixture
def make_filesystem(room):
    """Makes and mounts ext4 filesystems: see harness.Filesystem for what can be chosen."""
    made = []

    def make(**options):
        made.append(harness.Filesystem(room / f"disk{len(made) + 1}", **options))
        return made[-1]

    return make


@pytest.fixture
def filesystem(make_filesystem):
    """A mounted ext4 filesystem that can encrypt."""
    return make_filesystem()


@pytest.fixture
def second_filesystem(filesystem, make_filesystem):
    return make_filesystem()


@pytest.fixture
def alice():
    return harness.ALICE


@pytest.fixture
def bob():
    return harness.BOB


@pytest.fixture
def secrets(scratch):
    return harness.Secrets(scratch)


@pytest.fixture
def passphrase_file(secrets):
    """passphrase_file("text", name=..., owner=...): a file whose first line is the passphrase."""

    def make(text, name="passphrase", owner=harness.ROOT):
        return secrets.file(name, os.fsencode(text) + b"\n", owner)

    return make


@pytest.fixture
def key_file(secrets):
    """key_file(): a file of 32 random bytes, or of those given."""

    def make(content=None, name="key", owner=harness.ROOT):
        return secrets.file(name, os.urandom(32) if content is None else content, owner)

    return make


@pytest.fixture
def run(sandbox, scratch, secrets):
    """run(args, user=None, stdin=None, env=None, timeout=60, cwd=None), and run.ok(args, ...)."""
    return harness.Runner(sandbox.install_program(), scratch, secrets)


@pytest.fixture
def set_up(run):
    """set_up(filesystem, *options): `setup` with hashing that costs a test next to nothing."""

    def make(filesystem, *options, **how):
        return run.ok(["setup", filesystem, *CHEAP_HASHING, "--json", *options], **how)

    return make


@pytest.fixture
def tty(sandbox, run):
    """tty(args, user=None, env=None): the program on a terminal; see harness.Terminal."""
    opened = []

    def make(args, user=None, env=None):
        opened.append(harness.Terminal(run, sandbox.install_program(), args, user, env))
        return opened[-1]

    yield make
    for terminal in opened:
        terminal.close(force=True)


@pytest.fixture
def background(room):
    """background(words, user=None, cwd=None): another program that runs until the test ends."""
    started = []

    def start(words, user=None, cwd=None):
        identity = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        started.append(subprocess.Popen([str(word) for word in words], cwd=cwd, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        start_new_session=True, **identity))
        return started[-1]

    yield start
    for process in started:
        # With what it has started: that may hold the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
