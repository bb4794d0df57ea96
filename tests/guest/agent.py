#!/usr/bin/python3 -IS
"""Init of the guest: carries out what the host asks for, one JSON object a line.

The kernel starts this file as process 1. It makes the guest usable (proc, sys, a writable /tmp and
/run), says that it is ready and then answers every request on the console with one line. A request
is {"op": NAME, ...}; the answer is {"value": ...}, or {"failure": "..."} when the operation raised.
Nothing here judges anything: expectations belong to the tests on the host.
"""

import base64
import ctypes
import errno
import fcntl
import importlib
import json
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import time
import tty

CONSOLE = "/dev/tty1"
RUN = "/run"
REBOOT_POWER_OFF = 0x4321FEDC
# Where the host puts its modules: the checkout itself may lie below /tmp, which is hidden here.
SHARED = "/run/host"
ENABLE_VERITY = 0x40806685
# struct dm_ioctl and its flags, from the kernel's include/uapi/linux/dm-ioctl.h
DM_DEV_SUSPEND = 0xC138FD06
DM_IOCTL = struct.Struct("=3I7IQ128s129s7x")
DM_VERSION = (4, 0, 0)
DM_SKIP_LOCKFS = 1 << 10
DM_NOFLUSH = 1 << 11
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

libc = ctypes.CDLL(None, use_errno=True)
background = {}


def mount(source, target, kind, options=""):
    data = options.encode() if options else None
    if libc.mount(source.encode(), target.encode(), kind.encode(), 0, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def set_up():
    """The root is the host's own, read-only; what must be writable becomes a tmpfs."""
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    mount("tmpfs", "/tmp", "tmpfs", "mode=1777")
    mount("tmpfs", RUN, "tmpfs", "mode=755")
    mount("tmpfs", "/mnt", "tmpfs", "mode=755")


def start(argv, stdin="", user=None, cwd="/", env=None):
    """Starts a program with no terminal of its own, so that a prompt cannot wait for us."""
    identity = {}
    if user is not None:
        identity = {"user": user, "group": user, "extra_groups": []}
    environment = {"PATH": PATH, "HOME": "/tmp", "LC_ALL": "C.UTF-8", **(env or {})}
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=cwd, env=environment, start_new_session=True, umask=0o022, **identity)
    background[process.pid] = (process, base64.b64decode(stdin))
    return process.pid


def finish(pid, timeout):
    process, stdin = background.pop(pid)
    timed_out = False
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return {"code": process.returncode, "timed_out": timed_out,
            "stdout": base64.b64encode(out).decode(), "stderr": base64.b64encode(err).decode()}


def run(timeout, **how):
    return finish(start(**how), timeout)


def write_file(path, data, repeat=1, user=None, mode=0o600):
    """Durable when this returns, so that a test may count on it after a power cut."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as file:
        if user is not None:
            os.fchown(descriptor, user, user)
        os.fchmod(descriptor, mode)
        file.write(base64.b64decode(data) * repeat)
        file.flush()
        os.fsync(descriptor)
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def read_file(path):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()


def names(path):
    return sorted(os.listdir(path))


def tree(path):
    """Every name below a directory, which makes leftovers of any kind visible."""
    found = []
    for folder, folders, files in os.walk(path):
        found += [os.path.relpath(os.path.join(folder, name), path) for name in folders + files]
    return sorted(found)


def make_directory(path, user=None, mode=0o755):
    os.mkdir(path)
    os.chmod(path, mode)
    if user is not None:
        os.chown(path, user, user)


def policy(path):
    """The policy as the kernel tells it, independent of the program under test."""
    found = shared("kernel").get_policy(path)
    return found and found._asdict()


def key_status(path, identifier):
    return shared("kernel").key_status(path, identifier).state


def make_tree(path, kind):
    """Of things of all kinds, as the host's own tests make them."""
    {"rich": lambda: shared("trees").make_rich_tree(path),
     "small": lambda: shared("conversions").make_small_tree(pathlib.Path(path))}[kind]()


def snapshot(path):
    """All that can be seen of a tree; pickled, since there are bytes in it."""
    return base64.b64encode(pickle.dumps(shared("trees").snapshot(path))).decode()


def enable_verity(path):
    """fs-verity with SHA-256 in blocks of 4096 bytes."""
    with open(path, "rb") as file:
        fcntl.ioctl(file, ENABLE_VERITY, struct.pack("III116x", 1, 1, 4096))


def switch_table(device, after_s):
    """Puts the loaded table of a device-mapper device into effect, without waiting for what is
    under way: that may never get through. Starting dmsetup would come too late for short commands.
    """
    flags = DM_SKIP_LOCKFS | DM_NOFLUSH
    name, uuid = device.encode(), b""
    request = DM_IOCTL.pack(*DM_VERSION, DM_IOCTL.size, 0, 0, 0, flags, 0, 0, 0, name, uuid)
    with open("/dev/mapper/control", "rb") as control:
        time.sleep(after_s)
        fcntl.ioctl(control, DM_DEV_SUSPEND, bytearray(request))


def shared(module):
    """One of the host's modules; loading them in every guest would cost each boot 0.2 s."""
    if SHARED not in sys.path:
        sys.path.insert(0, SHARED)
    return importlib.import_module(module)


OPERATIONS = {
    function.__name__: function
    for function in (mount, start, finish, run, write_file, read_file, names, tree,
                     make_directory, policy, key_status, make_tree, snapshot, enable_verity,
                     switch_table)
}


def answer(line):
    request = json.loads(line)
    try:
        return {"value": OPERATIONS[request.pop("op")](**request)}
    except OSError as error:
        return {"failure": str(error), "errno": errno.errorcode.get(error.errno)}


def serve():
    console = open(CONSOLE, "r+b", buffering=0)
    tty.setraw(console.fileno())
    replies = open(CONSOLE, "wb", buffering=0)
    requests = open(CONSOLE, "rb")
    replies.write(b"guest is ready\n")
    for line in requests:
        if line == b"power off\n":
            return
        data = json.dumps(answer(line)).encode() + b"\n"
        while data:
            data = data[replies.write(data):]


def reap_until_gone(server):
    """What an init is for: orphans must not stay behind as zombies."""
    while os.wait()[0] != server:
        pass


def main():
    set_up()
    server = os.fork()
    if server == 0:
        serve()
        os._exit(0)
    reap_until_gone(server)
    os.sync()
    libc.reboot(REBOOT_POWER_OFF)


if __name__ == "__main__":
    main()
