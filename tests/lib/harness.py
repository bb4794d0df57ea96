"""A private corner of this machine for tests that need root: mounts, users and /etc of their own.

Everything lives on a tmpfs in a mount namespace that belongs to the test process. When that process
ends, however it ends, the namespace dies and takes mounts, loop devices and files with it.
"""

import base64
import ctypes
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pexpect

REPOSITORY = Path(__file__).resolve().parents[2]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
SHORTEST_SECRET_LOOKED_FOR = 8


class User(NamedTuple):
    name: str
    uid: int
    gid: int


ROOT = User("root", 0, 0)
ALICE = User("alice", 1000, 1000)
BOB = User("bob", 1001, 1001)


def command(*words):
    """Runs a program of the system; its failure is the test's failure, with its own words."""
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{words} gave {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def enter_private_mounts():
    """Moves this process into a mount namespace from which nothing propagates outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.readlink("/proc/self/ns/mnt")
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, "no private mount namespace: " + os.strerror(code))
    assert os.readlink("/proc/self/ns/mnt") != before


def mounts_below(directory):
    """Mount points under a directory, the youngest first."""
    prefix = os.path.join(os.fsencode(directory), b"")
    with open("/proc/self/mountinfo", "rb") as mountinfo:
        points = [line.split(b" ")[4] for line in mountinfo]
    points = [point.decode("unicode_escape").encode("latin-1") for point in points]
    return [point for point in reversed(points) if point.startswith(prefix)]


class Sandbox:
    """Made once for a test run: the tmpfs, the users and the copy of the program under test."""

    def __init__(self, directory, program):
        enter_private_mounts()
        self.directory = Path(directory)
        command("mount", "-t", "tmpfs", "-o", "mode=0755,size=75%", "tmpfs", self.directory)
        self._private_etc()
        self.program = self.directory / "fscryptctl"
        self.given_program = Path(program)

    def _private_etc(self):
        etc = self.directory / "etc"
        command("cp", "-a", "/etc", etc)
        (etc / "fscryptctl.yaml").unlink(missing_ok=True)
        for file, line in (("passwd", "{0}:x:{1}:{2}:{0}:/nonexistent:/bin/sh"),
                           ("group", "{0}:x:{2}:"),
                           ("shadow", "{0}:!:19000:0:99999:7:::")):
            self._replace_users(etc / file, line)
        command("mount", "--bind", etc, "/etc")

    @staticmethod
    def _replace_users(file, line):
        ours = (ALICE, BOB)
        names = {user.name for user in ours}
        ids = {str(user.uid) for user in ours} if file.name != "shadow" else set()
        kept = [entry for entry in file.read_text().splitlines()
                if entry.split(":")[0] not in names and entry.split(":")[2:3] != []
                and entry.split(":")[2] not in ids]
        file.write_text("\n".join(kept + [line.format(*user) for user in ours]) + "\n")

    def install_program(self):
        """Copies the program to where ordinary users can reach it, wherever it was built."""
        if not self.program.exists():
            assert self.given_program.is_file(), (
                f"{self.given_program} is not built (FSCRYPTCTL names another)")
            shutil.copy(self.given_program, self.program)
            self.program.chmod(0o755)
        return self.program


class Filesystem:
    """An ext4 filesystem of its own on a loop device."""

    def __init__(self, directory, *, encrypt=True, stable_inodes=False, size_mib=64,
                 block_size=4096, owner=ROOT, mount_options=""):
        self.mountpoint = directory
        self.image = directory.with_name(directory.name + ".img")
        self.mount_options = mount_options
        with open(self.image, "wb") as image:
            image.truncate(size_mib << 20)
        features = ("encrypt" if encrypt else "^encrypt") + (",stable_inodes" if stable_inodes else "")
        command("mkfs.ext4", "-q", "-F", "-b", block_size, "-O", features,
                "-E", f"root_owner={owner.uid}:{owner.gid}", self.image)
        self.mountpoint.mkdir()
        self.mount()

    def __fspath__(self):
        return str(self.mountpoint)

    def __str__(self):
        return str(self.mountpoint)

    def __truediv__(self, name):
        return self.mountpoint / name

    def mount(self, options=""):
        words = ",".join(word for word in ("loop", self.mount_options, options) if word)
        command("mount", "-o", words, self.image, self.mountpoint)

    def unmount(self):
        command("umount", self.mountpoint)

    def remount(self):
        """Unmounts and mounts again, which also drops every key that was added."""
        self.unmount()
        self.mount()

    @property
    def device(self):
        return Path(command("findmnt", "-n", "-o", "SOURCE", "-M", self.mountpoint).strip())


def _refuse_duplicates(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"a JSON object names a member twice: {names}"
    return dict(pairs)


class Result:
    """What a finished command left behind."""

    def __init__(self, args, rc, out, err):
        self.args, self.rc = args, rc
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    def __repr__(self):
        return (f"fscryptctl {' '.join(self.args)}\nexit code {self.rc}\n"
                f"--- stdout\n{self.out}--- stderr\n{self.err}---")

    def json(self):
        """The one object that stdout must be, checked for what every answer promises."""
        try:
            value = json.loads(self.out, object_pairs_hook=_refuse_duplicates)
        except ValueError as error:
            raise AssertionError(f"stdout is not exactly one JSON object ({error}): {self!r}") from None
        assert isinstance(value, dict) and value.get("schema") == 1, self
        assert isinstance(value.get("command"), str), self
        assert isinstance(value.get("changed"), bool), self
        assert value.get("ok") is (self.rc == 0), self
        assert ("error" in value) or value["ok"] or ("results" in value), self
        return value


class Secrets:
    """The secrets a test made: none of them may come back out of any command."""

    def __init__(self, directory):
        self._directory = directory
        self._values = set()

    def file(self, name, content, owner=ROOT):
        """A file that only its owner can read, holding a secret."""
        path = self._directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, owner.uid, owner.gid)
        self.remember(content)
        return path

    def remember(self, content):
        value = content.removesuffix(b"\n")
        if len(value) >= SHORTEST_SECRET_LOOKED_FOR:
            self._values.update({value, value.hex().encode(), base64.b64encode(value).rstrip(b"=")})

    def assert_absent(self, text, where):
        for value in self._values:
            assert value not in text, f"a secret of this test stands in {where}"


class Runner:
    """Runs the program under test the way a script would: no terminal, a small environment."""

    def __init__(self, program, scratch, secrets):
        self._program = str(program)
        self._secrets = secrets
        self.config = scratch / "fscryptctl.yaml"
        self.directory = scratch

    def environment(self, extra=None):
        base = {"PATH": PATH, "LANG": "C.UTF-8", "TZ": "UTC", "HOME": "/nonexistent",
                "FSCRYPTCTL_CONFIG": str(self.config)}
        base.update(extra or {})
        return {name: value for name, value in base.items() if value is not None}

    def start(self, args, user=None, env=None, cwd=None, **streams):
        """The running process, in a session of its own so that no prompt reaches a developer."""
        identity = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        return subprocess.Popen([self._program, *args], env=self.environment(env),
                                cwd=cwd or self.directory, start_new_session=True,
                                **identity, **streams)

    def __call__(self, args, user=None, stdin=None, env=None, timeout=60, cwd=None):
        args = [os.fsdecode(arg) for arg in args]
        process = self.start(args, user, env, cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            result = Result(args, None, out, err)
            raise AssertionError(f"still running after {timeout} s: {result!r}") from None
        self._secrets.assert_absent(out, "stdout")
        self._secrets.assert_absent(err, "stderr")
        return Result(args, process.returncode, out, err)

    def ok(self, args, **how):
        """Runs a command that must succeed; with --json among the arguments, returns the object."""
        result = self(args, **how)
        assert result.rc == 0, result
        return result.json() if "--json" in result.args else result


class Terminal(pexpect.spawn):
    """The program under test on a terminal of its own."""

    ECHO_PATIENCE = 10

    def __init__(self, runner, program, args, user, env):
        def become_user():
            if user is not None:
                os.setgroups([])
                os.setgid(user.gid)
                os.setuid(user.uid)

        super().__init__(str(program), [os.fsdecode(arg) for arg in args], encoding="utf-8",
                         codec_errors="surrogateescape", timeout=20, preexec_fn=become_user,
                         env=runner.environment({"TERM": "dumb", **(env or {})}),
                         cwd=str(runner.directory), dimensions=(24, 200))

    def answer(self, prompt, text):
        """Waits for a prompt that hides what is typed, then types."""
        self.expect(prompt)
        assert self.waitnoecho(self.ECHO_PATIENCE), f"{prompt}: what is typed would be shown"
        self.sendline(text)

    def finish(self):
        """Reads on to the end; returns the exit code."""
        self.expect(pexpect.EOF)
        self.close()
        return self.exitstatus
