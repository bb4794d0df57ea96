"""Directory trees with everything that a filesystem can hold, and what can be seen of one."""

import ctypes
import errno
import fcntl
import hashlib
import os
import random
import socket
import stat
import struct

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
APPEND, IMMUTABLE, NODUMP, NOATIME = 0x20, 0x10, 0x40, 0x80
SETTABLE = APPEND | IMMUTABLE | NODUMP | NOATIME
BIG = 300_000


def _flags(path, mode):
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return struct.unpack("I", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))[0] & SETTABLE
    finally:
        os.close(descriptor)


def set_flags(path, flags):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        now = struct.unpack("I", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))[0]
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("I", now & ~SETTABLE | flags))
    finally:
        os.close(descriptor)


def _xattrs(path):
    return {name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)}


def _contents(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _holes(path):
    """Whether it has any; where they are, filesystems may round."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        return size > 0 and os.lseek(descriptor, 0, os.SEEK_HOLE) < size
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return True
    finally:
        os.close(descriptor)


def snapshot(root):
    """What everybody may rely on, by relative path; inode numbers only as groups of hard links."""
    root = os.fsencode(root)
    inodes = {}
    seen = {}

    def look(path, name):
        status = os.lstat(path)
        what = {"mode": oct(status.st_mode), "owner": (status.st_uid, status.st_gid),
                "mtime": status.st_mtime_ns, "xattrs": _xattrs(path),
                "flags": _flags(path, status.st_mode)}
        if stat.S_ISREG(status.st_mode):
            what |= {"size": status.st_size, "contents": _contents(path), "holes": _holes(path)}
        if stat.S_ISLNK(status.st_mode):
            what["target"] = os.readlink(path)
        if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
            what["device"] = status.st_rdev
        if not stat.S_ISDIR(status.st_mode):
            what["links"] = status.st_nlink
            inodes.setdefault(status.st_ino, []).append(name)
        seen[name] = what
        if stat.S_ISDIR(status.st_mode):
            for entry in sorted(os.listdir(path)):
                look(path + b"/" + entry, name + b"/" + entry)

    look(root, b".")
    seen["hard links"] = sorted(sorted(names) for names in inodes.values() if len(names) > 1)
    return seen


def access_times(root):
    """Of everything but directories, which looking at them changes."""
    return {os.path.join(directory, name): os.lstat(os.path.join(directory, name)).st_atime_ns
            if name in files else 0
            for directory, names, files in os.walk(os.fsencode(root)) for name in names + files}


def differences(before, after):
    """Readable, for a failing test."""
    lines = [f"{name!r} is missing" for name in before.keys() - after.keys()]
    lines += [f"{name!r} is new" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        if before[name] == after[name]:
            continue
        if isinstance(before[name], list):
            lines.append(f"{name}: {before[name]} became {after[name]}")
            continue
        lines += [f"{name!r}: {key}: {before[name].get(key)!r} became {after[name].get(key)!r}"
                  for key in before[name].keys() | after[name].keys()
                  if before[name].get(key) != after[name].get(key)]
    return "\n".join(sorted(map(str, lines))[:40])


def acl(user, group):
    """With entries for one user and one group more; as the kernel takes it (acl(5), xattr form)."""
    none = 0xFFFFFFFF
    entries = [(0x01, 6, none), (0x02, user, 1002), (0x04, 4, none), (0x08, group, 1003),
               (0x10, 7, none), (0x20, 0, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _set_times(path, number):
    os.utime(path, ns=(1_500_000_000_123_456_789 + number, 1_400_000_000_987_654_321 + number),
             follow_symlinks=False)


def make_rich_tree(root, privileged=True, seed=1):
    """A tree with one of everything; `privileged` adds what only root can make."""
    rng = random.Random(seed)
    root = os.fsencode(root)
    os.makedirs(root, exist_ok=True)

    def at(*parts):
        return b"/".join([root, *[part if isinstance(part, bytes) else part.encode()
                                  for part in parts]])

    def write(path, content):
        with open(path, "wb") as file:
            file.write(content)

    write(at("empty"), b"")
    write(at("small"), b"hello\n")
    write(at("big"), rng.randbytes(BIG))
    write(at("exact"), rng.randbytes(8192))
    write(at(b"name \xff\x80\n\t'\""), b"odd name")
    write(at("n" * 255), b"long name")
    with open(at("sparse"), "wb") as file:
        file.truncate(2_000_000)
        file.seek(1_000_000)
        file.write(b"in the middle")
    with open(at("only-a-hole"), "wb") as file:
        file.truncate(100_000)
    os.link(at("small"), at("second name"))
    os.mkdir(at("directory"))
    os.link(at("small"), at("directory", "third name"))
    write(at("directory", "inner"), rng.randbytes(5000))
    os.makedirs(at("a", "b", "c", "d", "e"))
    write(at("a", "b", "c", "d", "e", "deep"), b"deep")
    os.mkdir(at("empty directory"))
    os.symlink(b"small", at("symlink"))
    os.symlink(b"/nowhere/" + b"x" * 1500, at("long symlink"))
    os.symlink(b"\xfe\xff", at("odd symlink"))
    os.mkfifo(at("fifo"), 0o640)
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(".", os.O_RDONLY)
        os.chdir(root)
        bound.bind(b"socket")
        os.fchdir(here)
        os.close(here)
    write(at("readonly"), b"read only")
    os.chmod(at("readonly"), 0o400)
    write(at("setuid"), b"#!/bin/true\n")
    os.setxattr(at("small"), "user.note", b"on a file with three names")
    os.setxattr(at("big"), "user.empty", b"")
    os.setxattr(at("directory"), "user.note", b"on a directory")
    os.setxattr(at("exact"), "system.posix_acl_access", acl(user=4, group=6))
    os.setxattr(at("directory"), "system.posix_acl_default", acl(user=5, group=0))
    set_flags(at("exact"), NODUMP)
    if privileged:
        os.mknod(at("device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        write(at("owned"), b"another's")
        os.chown(at("owned"), 1001, 1002)
        os.chown(at("symlink"), 1001, 1002, follow_symlinks=False)
        os.setxattr(at("setuid"), "security.capability",
                    bytes.fromhex("0100000200040000000000000000000000000000"))
        os.setxattr(at("big"), "trusted.note", b"root's")
        os.mkdir(at("frozen"))
        write(at("frozen", "file"), b"immutable")
    os.chmod(at("setuid"), 0o6755)
    os.mkdir(at("unwritable"))
    write(at("unwritable", "file"), b"inside")
    os.chmod(at("unwritable"), 0o555)
    number = 0
    for directory, names, files in os.walk(root, topdown=False):
        for name in files + names:
            number += 1
            path = directory + b"/" + name
            if not (privileged is False and os.path.dirname(path).endswith(b"/frozen")):
                _set_times(path, number)
    if privileged:
        set_flags(at("frozen", "file"), IMMUTABLE)
        set_flags(at("frozen"), APPEND)
    _set_times(root, 0)
    return root


def make_random_tree(root, rng, entries=60):
    """A tree of ordinary things at random."""
    root = os.fsencode(root)
    os.makedirs(root, exist_ok=True)
    directories, files = [root], []
    for number in range(entries):
        parent = rng.choice(directories)
        name = bytes(rng.choice([byte for byte in range(1, 256) if byte != 47])
                     for _ in range(rng.choice([1, 8, 100]))) + str(number).encode()
        path = parent + b"/" + name
        kind = rng.choice(["file"] * 5 + ["directory"] * 2 + ["symlink", "link", "fifo", "sparse"])
        if kind == "directory":
            os.mkdir(path, rng.choice([0o700, 0o755, 0o2770]))
            directories.append(path)
        elif kind == "symlink":
            os.symlink(rng.randbytes(rng.randint(1, 60)).replace(b"\0", b"x"), path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "link" and files:
            os.link(rng.choice(files), path)
        else:
            with open(path, "wb") as file:
                if kind == "sparse":
                    file.seek(rng.randint(0, 200_000))
                file.write(rng.randbytes(rng.choice([0, 1, 100, 4096, 4097, 70_000])))
            os.chmod(path, rng.choice([0o600, 0o644, 0o755]))
            files.append(path)
    for directory, names, rest in os.walk(root, topdown=False):
        for name in names + rest:
            os.utime(directory + b"/" + name, ns=(rng.randint(0, 2 * 10**18),
                                                  rng.randint(0, 2 * 10**18)),
                     follow_symlinks=False)
    return root


def thaw(root):
    """So that it can be removed."""
    for directory, _, files in os.walk(os.fsencode(root)):
        set_flags(directory, 0)
        for name in files:
            path = directory + b"/" + name
            if stat.S_ISREG(os.lstat(path).st_mode):
                set_flags(path, 0)


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    assert ctypes.CDLL(None).syncfs(descriptor) == 0
    os.close(descriptor)
