"""Whole commands of fscryptctl against the same of google/fscrypt: medians of interleaved pairs.

Runs in a private mount namespace with scratch filesystems. Each figure is a command as a user starts
it: process start, work, exit. "ratio" is the median of the ratios of neighbouring runs, so that drift
of a shared machine cancels out.
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = str(Path(sys.argv[1]).resolve())
PAIRS = int(sys.argv[2]) if len(sys.argv) > 2 else 21
THEIRS = "/usr/bin/fscrypt"
LISTED = (100, 1000, 10000)
MOUNTS = 200


def quiet(*words, **how):
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **how)


def milliseconds(words):
    """Wall time of one run; it must succeed."""
    nothing = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    start = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=nothing)
    _, status, used = os.wait4(pid, 0)
    wall = (time.perf_counter() - start) * 1000
    assert status == 0, f"{words} gave {status}"
    return wall, (used.ru_utime + used.ru_stime) * 1000


def peak_kib(words):
    """Peak memory, from a small launcher: a child starts with its parent's peak."""
    done = subprocess.run(["/usr/bin/time", "-f", "%M", *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return int(done.stderr.splitlines()[-1])


def real_policy(directory):
    """A policy file that is no clone: these are named by their numbers."""
    return next(file for file in directory.iterdir()
                if re.match("[0-9a-f]{32}", file.name) and not file.name.startswith("0" * 16))


def write_private(path, content):
    path.write_bytes(content)
    os.chmod(path, 0o600)


class Side:
    """One tool on a filesystem of its own."""

    def __init__(self, room, name):
        self.name, self.mount, self.room = name, room / name, room
        image = room / f"{name}.img"
        with open(image, "wb") as file:
            file.truncate(512 << 20)
        quiet("mkfs.ext4", "-q", "-F", "-O", "encrypt", "-N", "65536", image)
        self.mount.mkdir()
        quiet("mount", "-o", "loop", image, self.mount)
        self.key = room / "key"
        self.directory = str(self.mount / "measured")
        self.fresh = 0

    def new_directory(self):
        self.fresh += 1
        directory = self.mount / f"new{self.fresh}"
        directory.mkdir()
        return str(directory)


class Ours(Side):
    def __init__(self, room):
        super().__init__(room, "ours")
        quiet(OURS, "setup", self.mount, "--kdf-time", "1", "--kdf-memory", "1")
        os.mkdir(self.directory)
        quiet(OURS, "encrypt", self.directory, "--source", "raw-key", "--name", "measured",
              "--new-key-file", self.key)
        self.protector = next((self.mount / ".fscryptctl/users/0/protectors").iterdir()).stem

    def status(self):
        return [OURS, "status", self.directory]

    def status_mount(self):
        return [OURS, "status", str(self.mount)]

    def unlock(self):
        return [OURS, "-q", "unlock", self.directory, "--key-file", str(self.key)]

    def lock(self):
        return [OURS, "-q", "lock", self.directory]

    def encrypt(self):
        return [OURS, "-q", "encrypt", self.new_directory(), "--protector", self.protector,
                "--key-file", str(self.key)]

    def encrypt_new(self):
        return [OURS, "-q", "encrypt", self.new_directory(), "--source", "raw-key", "--name",
                f"n{self.fresh}", "--new-key-file", str(self.key)]

    def clone_policies(self, number):
        """Policies with a protector each, which list like any other; only opening them would fail."""
        base = self.mount / ".fscryptctl/users/0"
        policy = real_policy(base / "policies")
        text = policy.read_text()
        protector = re.search(r"^  - ([0-9a-f]{16})$", text, re.M).group(1)
        protector_text = (base / "protectors" / f"{protector}.yaml").read_text()
        name = re.search(r'^name: "(.*)"$', protector_text, re.M).group(1)
        for i in range(sum(1 for _ in (base / "policies").iterdir()), number):
            copy = text.replace(policy.stem, f"{i:032x}").replace(protector, f"{i:016x}")
            copy = re.sub(r'^  - ".*"$', f'  - "cloned{i}"', copy, flags=re.M)
            write_private(base / "policies" / f"{i:032x}.yaml", copy.encode())
            copy = protector_text.replace(protector, f"{i:016x}").replace(f'"{name}"', f'"p{i}"')
            write_private(base / "protectors" / f"{i:016x}.yaml", copy.encode())


class Theirs(Side):
    def __init__(self, room):
        super().__init__(room, "theirs")
        quiet(THEIRS, "setup", self.mount, "--quiet")
        os.mkdir(self.directory)
        quiet(THEIRS, "encrypt", self.directory, "--source=raw_key", "--name=measured",
              f"--key={self.key}", "--quiet")
        listing = subprocess.run([THEIRS, "status", self.mount], capture_output=True, text=True,
                                 check=True).stdout
        self.protector = re.search(r"^([0-9a-f]{16}) ", listing, re.M).group(1)

    def status(self):
        return [THEIRS, "status", self.directory]

    def status_mount(self):
        return [THEIRS, "status", str(self.mount)]

    def unlock(self):
        return [THEIRS, "unlock", self.directory, f"--key={self.key}", "--quiet"]

    def lock(self):
        return [THEIRS, "lock", self.directory, "--quiet"]

    def encrypt(self):
        return [THEIRS, "encrypt", self.new_directory(),
                f"--protector={self.mount}:{self.protector}", f"--key={self.key}", "--quiet"]

    def encrypt_new(self):
        return [THEIRS, "encrypt", self.new_directory(), "--source=raw_key",
                f"--name=n{self.fresh}", f"--key={self.key}", "--quiet"]

    def clone_policies(self, number):
        base = self.mount / ".fscrypt"
        policy = real_policy(base / "policies")
        content = policy.read_bytes()
        protector = re.search(rb"[0-9a-f]{16}(?![0-9a-f])", content.replace(policy.name.encode(), b""))[0]
        protector_content = (base / "protectors" / protector.decode()).read_bytes()
        for i in range(sum(1 for _ in (base / "policies").iterdir()), number):
            name, own = f"{i:032x}".encode(), f"{i:016x}".encode()
            copy = content.replace(policy.name.encode(), name).replace(protector, own)
            write_private(base / "policies" / name.decode(), copy)
            write_private(base / "protectors" / own.decode(), protector_content.replace(protector, own))


class Table:
    def __init__(self):
        self.rows = [("command", "fscryptctl", "fscrypt", "ratio")]

    def add(self, what, ours, theirs, unit="ms"):
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        self.rows.append((what, f"{statistics.median(ours):.2f} {unit}",
                          f"{statistics.median(theirs):.2f} {unit}", f"{ratio:.2f}"))
        print("| " + " | ".join(self.rows[-1]) + " |", flush=True)


def pairs(ours, theirs, command, between=(), count=PAIRS, figure=0):
    """Runs `command` of both sides in turn; `between` are commands that restore the state."""
    results = {ours: [], theirs: []}
    for round_number in range(count + 1):
        for side in (ours, theirs):
            value = milliseconds(getattr(side, command)())[figure]
            if round_number:  # the first round warms the caches
                results[side].append(value)
            for restore in between:
                milliseconds(getattr(side, restore)())
    return results[ours], results[theirs]


def memory(ours, theirs, command):
    return ([peak_kib(getattr(ours, command)()) / 1024],
            [peak_kib(getattr(theirs, command)()) / 1024])


def measure(ours, theirs):
    table = Table()
    table.add("status DIRECTORY", *pairs(ours, theirs, "status"))
    table.add("lock (raw key)", *pairs(ours, theirs, "lock", ["unlock"]))
    milliseconds(ours.lock()), milliseconds(theirs.lock())
    table.add("unlock (raw key)", *pairs(ours, theirs, "unlock", ["lock"]))
    table.add("encrypt, existing protector", *pairs(ours, theirs, "encrypt"))
    table.add("encrypt, new protector", *pairs(ours, theirs, "encrypt_new"))
    for command in ("status", "status_mount", "encrypt"):
        table.add(f"peak memory, {command.replace('_', ' ')}", *memory(ours, theirs, command), "MiB")
    for number in LISTED:
        ours.clone_policies(number)
        theirs.clone_policies(number)
        with_policies = f"with {number:,} policies"
        table.add(f"status DIRECTORY {with_policies}", *pairs(ours, theirs, "status"))
        table.add(f"unlock {with_policies}", *pairs(ours, theirs, "unlock", ["lock"]))
        table.add(f"encrypt {with_policies}", *pairs(ours, theirs, "encrypt"))
        few = 3 if number > 1000 else 7
        table.add(f"status MOUNTPOINT {with_policies}, wall",
                  *pairs(ours, theirs, "status_mount", count=few))
        table.add(f"status MOUNTPOINT {with_policies}, cpu",
                  *pairs(ours, theirs, "status_mount", count=few, figure=1))
    table.add("peak memory, status MOUNTPOINT with 10,000 policies",
              *memory(ours, theirs, "status_mount"), "MiB")
    for i in range(MOUNTS):
        point = ours.room / f"tmpfs{i}"
        point.mkdir()
        quiet("mount", "-t", "tmpfs", "tmpfs", point)
    time.sleep(1)  # the kernel is still busy with them
    table.add(f"status DIRECTORY with {MOUNTS} more mounts", *pairs(ours, theirs, "status"))


THEIR_CONFIGURATION = {
    "source": "raw_key",
    "hash_costs": {"time": "1", "memory": "1024", "parallelism": "1"},
    "options": {"padding": "32", "contents": "AES_256_XTS", "filenames": "AES_256_CTS",
                "policy_version": "2"},
    "use_fs_keyring_for_v1_policies": False,
    "allow_cross_user_metadata": False,
}


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return (f"{os.cpu_count()} cores, {model.group(1) if model else platform.machine()}, "
            f"Linux {platform.release()}, medians of {PAIRS} interleaved pairs")


def main():
    room = Path(tempfile.mkdtemp(prefix="fscryptctl-bench-"))
    try:
        quiet("mount", "-t", "tmpfs", "-o", "size=3G", "tmpfs", room)
        quiet("cp", "-a", "/etc", room / "etc")
        (room / "etc/fscrypt.conf").unlink(missing_ok=True)
        quiet("mount", "--bind", room / "etc", "/etc")
        os.environ["FSCRYPTCTL_CONFIG"] = str(room / "fscryptctl.yaml")
        (room / "key").write_bytes(os.urandom(32))
        # Its own `setup` would also make the machine's /.fscrypt.
        Path("/etc/fscrypt.conf").write_text(json.dumps(THEIR_CONFIGURATION))
        print(machine() + "\n\n| command | fscryptctl | fscrypt | ratio |\n|---|---|---|---|")
        measure(Ours(room), Theirs(room))
    finally:
        subprocess.run(["umount", "-R", "-l", str(room)], check=False)
        shutil.rmtree(room, ignore_errors=True)


main()
