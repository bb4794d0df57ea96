"""A User-Mode Linux guest that a test drives command by command."""

import base64
import contextlib
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The kernel keeps the guest's memory in an unlinked file that it maps executable.
MEMORY_BACKED_FOLDER = "/dev/shm"
BOOT_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 30
# How much longer than the command itself its answer may take before the guest counts as hung.
ANSWER_MARGIN_S = 10
POWER_OFF_TIMEOUT_S = 15
# A line of more than 4095 bytes makes the guest's serial line stop for good.
LONGEST_REQUEST = 4000
SHARED = "/run/host"


class GuestError(Exception):
    """The guest died, hung or could not carry out an operation."""

    def __init__(self, message, errno_name=None):
        super().__init__(message)
        self.errno_name = errno_name


@dataclass(frozen=True)
class Result:
    """What a program in the guest left behind."""

    argv: tuple
    code: int
    timed_out: bool
    stdout: bytes
    stderr: bytes

    @property
    def json(self):
        """The one object that stdout consists of."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"not one JSON object on stdout ({error}): {self}") from error

    def __str__(self):
        return (f"{' '.join(self.argv)}: exit code {self.code}"
                f"{', killed after its time limit' if self.timed_out else ''}\n"
                f"{self.stdout.decode(errors='replace')}{self.stderr.decode(errors='replace')}")


def unpacked_kernel(source, folder):
    """An executable copy of the kernel file, which may be packed with zstd."""
    target = folder / "linux"
    if source.suffix == ".zst":
        subprocess.run(["zstd", "-q", "-d", "-o", target, source], check=True)
    else:
        shutil.copyfile(source, target)
    target.chmod(0o755)
    return target


def processes_of_group(group):
    """The processes of a process group that still run; those that only wait to be reaped do not."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _, its_group = (entry / "stat").read_text().rpartition(") ")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(int(entry.name))
    return found


class Guest:
    """Boots at construction; leaving the `with` block kills whatever is left of it.

    The root file system is the host's, read-only. `disks` are image files and appear as /dev/ubda,
    /dev/ubdb and so on; `shared` is a folder of the host that appears at /run/host.
    """

    def __init__(self, kernel, disks=(), shared=None):
        self.folder = Path(tempfile.mkdtemp(prefix="fscryptctl-guest-", dir=MEMORY_BACKED_FOLDER))
        self.log = self.folder / "console"
        self.received = b""
        try:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [kernel, *self._kernel_arguments(disks)], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=log, bufsize=0, cwd="/",
                    env={"TMPDIR": MEMORY_BACKED_FOLDER}, start_new_session=True)
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        try:
            self._wait_until_ready()
            if shared is not None:
                self.call("make_directory", path=SHARED)
                self.mount("none", SHARED, "hostfs", str(shared))
        except BaseException:
            self.cut_power()
            raise

    def _kernel_arguments(self, disks):
        drives = [f"ubd{number}={image}" for number, image in enumerate(disks)]
        return ["mem=512M", *drives, "root=none", "rootfstype=hostfs", "rootflags=/", "ro",
                "con=null", "con0=null,fd:2", "con1=fd:0,fd:1", "ssl=null", "quiet", "panic=1",
                f"uml_dir={self.folder}", "umid=guest", f'init="{HERE / "agent.py"}"']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut_power()

    def _console_tail(self):
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def _receive_line(self, deadline):
        """Kills a guest that does not answer in time: no test waits for ever."""
        while b"\n" not in self.received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                tail = self._console_tail()
                self.cut_power()
                raise GuestError(f"the guest does not answer\n{tail}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise GuestError(f"the guest died\n{self._console_tail()}")
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return line

    def _wait_until_ready(self):
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while self._receive_line(deadline) != b"guest is ready":
            pass

    def _send(self, line):
        if len(line) > LONGEST_REQUEST:
            raise ValueError(f"a request of {len(line)} bytes is too long for the serial line")
        try:
            self.process.stdin.write(line + b"\n")
        except BrokenPipeError as error:
            raise GuestError(f"the guest is gone\n{self._console_tail()}") from error

    def call(self, op, answer_timeout_s=COMMAND_TIMEOUT_S, **arguments):
        """One operation of agent.py."""
        self._send(json.dumps({"op": op, **arguments}).encode())
        answer = json.loads(self._receive_line(time.monotonic() + answer_timeout_s))
        if "failure" in answer:
            raise GuestError(answer["failure"], answer["errno"])
        return answer["value"]

    def start(self, *argv, user=None, stdin=b""):
        """Starts a program and returns at once; `finish` collects it."""
        argv = tuple(str(argument) for argument in argv)
        pid = self.call("start", argv=argv, user=user, stdin=base64.b64encode(stdin).decode())
        return pid, argv

    def finish(self, started, timeout=COMMAND_TIMEOUT_S):
        pid, argv = started
        answer = self.call("finish", timeout + ANSWER_MARGIN_S, pid=pid, timeout=timeout)
        return Result(argv, answer["code"], answer["timed_out"],
                      base64.b64decode(answer["stdout"]), base64.b64decode(answer["stderr"]))

    def run(self, *argv, user=None, stdin=b"", timeout=COMMAND_TIMEOUT_S):
        return self.finish(self.start(*argv, user=user, stdin=stdin), timeout)

    def check(self, *argv, **how):
        """Runs a program that has to succeed and returns its output."""
        result = self.run(*argv, **how)
        if result.code != 0:
            raise GuestError(str(result))
        return result.stdout.decode()

    def mount(self, source, target, kind, options=""):
        self.call("mount", source=source, target=target, kind=kind, options=options)

    def write(self, path, data, **how):
        """Durable when it returns. `repeat` writes the data so many times over."""
        self.call("write_file", path=path, data=base64.b64encode(data).decode(), **how)

    def read(self, path):
        return base64.b64decode(self.call("read_file", path=path))

    def names(self, path):
        return self.call("names", path=path)

    def tree(self, path):
        return self.call("tree", path=path)

    def make_tree(self, path, kind):
        """`kind` is "rich" or "small"."""
        self.call("make_tree", path=path, kind=kind)

    def snapshot(self, path):
        """What trees.snapshot tells of a tree in the guest."""
        return pickle.loads(base64.b64decode(self.call("snapshot", path=path)))

    def mkdir(self, path, **how):
        self.call("make_directory", path=path, **how)

    def kernel_policy(self, path):
        return self.call("policy", path=path)

    def kernel_key_status(self, path, identifier):
        return self.call("key_status", path=path, identifier=identifier)

    def power_off(self):
        """The orderly end: everything still in memory reaches the disks."""
        self._send(b"power off")
        try:
            self.process.wait(POWER_OFF_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"the guest does not power off\n{self._console_tail()}") from error
        finally:
            self.cut_power()

    def cut_power(self):
        """Kills all of its processes at once and waits until none can touch a disk any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        while processes_of_group(self.process.pid):
            time.sleep(0.005)
        self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
