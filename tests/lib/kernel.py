"""The kernel's fscrypt interface, spoken directly: what the tests believe instead of our program.

Numbers and layouts are written from the kernel's documentation, apart from the C++ code, so that a
mistake there cannot hide behind the same mistake here. Claims on keys follow the caller's uid: use
as_user() to act for somebody else.
"""

import ctypes
import errno
import fcntl
import hashlib
import hmac
import os
import pickle
import struct
from typing import NamedTuple

SET_ENCRYPTION_POLICY = 0x800C6613
GET_ENCRYPTION_POLICY_EX = 0xC0096616
ADD_ENCRYPTION_KEY = 0xC0506617
REMOVE_ENCRYPTION_KEY = 0xC0406618
REMOVE_ENCRYPTION_KEY_ALL_USERS = 0xC0406619
GET_ENCRYPTION_KEY_STATUS = 0xC080661A
EXT4_SHUTDOWN = 0x8004587D
SHUTDOWN_WITHOUT_LOG_FLUSH = 2

KEY_SPEC_DESCRIPTOR = 1
KEY_SPEC_IDENTIFIER = 2
ADDED_BY_SELF = 1

AES_256_XTS = 1
AES_256_CTS = 4
PAD_32 = 3

STATES = {1: "absent", 2: "present", 3: "incompletely_removed"}


class Policy(NamedTuple):
    version: int
    contents: int
    filenames: int
    flags: int
    log2_data_unit_size: int
    key_identifier: str

    @property
    def padding(self):
        return 4 << (self.flags & 3)


class KeyStatus(NamedTuple):
    state: str
    added_by_self: bool
    user_count: int


class Removal(NamedTuple):
    files_busy: bool
    other_users: bool


def _ioctl(path, request, argument):
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, request, argument, True)
    finally:
        os.close(descriptor)
    return argument


def _specifier(key):
    raw = bytes.fromhex(key)
    kind = {16: KEY_SPEC_IDENTIFIER, 8: KEY_SPEC_DESCRIPTOR}[len(raw)]
    return struct.pack("<II32s", kind, 0, raw)


def key_identifier(raw):
    """The identifier that the kernel computes for a v2 policy key, as hex."""
    extracted = hmac.new(bytes(64), raw, hashlib.sha512).digest()
    return hmac.new(extracted, b"fscrypt\0\x01\x01", hashlib.sha512).digest()[:16].hex()


def add_key(path, raw):
    """Adds a v2 key to the filesystem of `path`; returns the kernel's identifier as hex."""
    argument = bytearray(80) + raw
    struct.pack_into("<II", argument, 0, KEY_SPEC_IDENTIFIER, 0)
    struct.pack_into("<I", argument, 40, len(raw))
    _ioctl(path, ADD_ENCRYPTION_KEY, argument)
    return bytes(argument[8:24]).hex()


def remove_key(path, key, all_users=False):
    argument = bytearray(64)
    argument[:40] = _specifier(key)
    request = REMOVE_ENCRYPTION_KEY_ALL_USERS if all_users else REMOVE_ENCRYPTION_KEY
    _ioctl(path, request, argument)
    flags = struct.unpack_from("<I", argument, 40)[0]
    return Removal(bool(flags & 1), bool(flags & 2))


def key_status(path, key):
    argument = bytearray(128)
    argument[:40] = _specifier(key)
    _ioctl(path, GET_ENCRYPTION_KEY_STATUS, argument)
    status, flags, users = struct.unpack_from("<III", argument, 64)
    return KeyStatus(STATES[status], bool(flags & ADDED_BY_SELF), users)


def set_policy(path, identifier, contents=AES_256_XTS, filenames=AES_256_CTS, flags=PAD_32,
               log2_data_unit_size=0):
    raw = struct.pack("<BBBBB3x16s", 2, contents, filenames, flags, log2_data_unit_size,
                      bytes.fromhex(identifier))
    _ioctl(path, SET_ENCRYPTION_POLICY, bytearray(raw))


def add_v1_key(path, raw):
    """Adds a version 1 key to the filesystem's keyring; returns the descriptor that names it."""
    descriptor = hashlib.sha512(hashlib.sha512(raw).digest()).digest()[:8].hex()
    argument = bytearray(_specifier(descriptor) + struct.pack("<II32x", len(raw), 0) + raw)
    _ioctl(path, ADD_ENCRYPTION_KEY, argument)
    return descriptor


def set_v1_policy(path, descriptor):
    argument = struct.pack("<BBBB8s", 0, AES_256_XTS, AES_256_CTS, PAD_32, bytes.fromhex(descriptor))
    _ioctl(path, SET_ENCRYPTION_POLICY, bytearray(argument))


def get_policy(path):
    """The policy of a directory or file, None when it is not encrypted."""
    argument = bytearray(32)
    struct.pack_into("<Q", argument, 0, 24)
    try:
        _ioctl(path, GET_ENCRYPTION_POLICY_EX, argument)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
    version, contents, filenames, flags = struct.unpack_from("<BBBB", argument, 8)
    if version == 2:
        return Policy(2, contents, filenames, flags, argument[12], bytes(argument[16:32]).hex())
    return Policy(1, contents, filenames, flags, 0, bytes(argument[12:20]).hex())


def has_encryption(path):
    """Whether this filesystem can encrypt now: a null key is EFAULT only where it would be read."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.ioctl(descriptor, ctypes.c_ulong(ADD_ENCRYPTION_KEY), None)
        return ctypes.get_errno() == errno.EFAULT
    finally:
        os.close(descriptor)


def cut_power(mountpoint):
    """Stops the filesystem as a power cut would: what was not synced is lost at the next mount."""
    _ioctl(mountpoint, EXT4_SHUTDOWN, bytearray(struct.pack("<I", SHUTDOWN_WITHOUT_LOG_FLUSH)))


def as_user(uid, function, *arguments):
    """Calls function(*arguments) as an ordinary user in a process of its own; returns its result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            outcome = (True, function(*arguments))
        except BaseException as error:  # the parent raises it again
            outcome = (False, error)
        try:
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(outcome, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        raise RuntimeError(f"{function} as uid {uid} ended without a result")
    succeeded, result = pickle.loads(data)
    if succeeded:
        return result
    raise result
