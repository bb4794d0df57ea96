"""Home directories as systemd-homed makes them, written from the description of its format alone."""

import base64
import fcntl
import hashlib
import os
import struct
import sys
from pathlib import Path

import kernel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "metadata-format"))
import reader  # its AES: the standard library has none

LEGACY_ITERATIONS = 65535


def b64(data):
    return base64.b64encode(data).decode()


def derive(password, salt, iterations):
    return hashlib.pbkdf2_hmac("sha512", password, salt, iterations, 64)[:32]


def legacy_slot(password, key):
    salt = os.urandom(64)
    wrapping_key = derive(password, salt, LEGACY_ITERATIONS)
    return f"{b64(salt)}:{b64(reader.aes_256_ctr(wrapping_key, key))}"


def gf_multiply(x, y):
    """In GCM's field (NIST SP 800-38D, 6.3)."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def gcm_encrypt(key, iv, data):
    """Of whole blocks, without additional data."""
    round_keys = reader.expand_key(key)
    h = int.from_bytes(reader.aes_256_encrypt_block(round_keys, bytes(16)), "big")
    ciphertext = reader.aes_256_ctr(key, data, iv + (2).to_bytes(4, "big"))
    total = 0
    for block in [ciphertext[i:i + 16] for i in range(0, len(data), 16)] + [
            struct.pack(">QQ", 0, 8 * len(data))]:
        total = gf_multiply(total ^ int.from_bytes(block, "big"), h)
    mask = reader.aes_256_encrypt_block(round_keys, iv + (1).to_bytes(4, "big"))
    return ciphertext, reader.xor(total.to_bytes(16, "big"), mask)


def sealed_slot(password, key, iterations=1000):
    salt, iv = os.urandom(64), os.urandom(12)
    ciphertext, tag = gcm_encrypt(derive(password, salt, iterations), iv, key)
    return f"$v2:{iterations}:{b64(salt)}:{b64(iv)}:{b64(ciphertext)}:{b64(tag)}"


def recovery_key():
    letters = "cbdefghijklnrtuv"
    text = "".join(letters[byte >> 4] + letters[byte & 15] for byte in os.urandom(32))
    return "-".join(text[i:i + 8] for i in range(0, 64, 8))


def set_slots(directory, slots):
    for number, slot in enumerate(slots):
        os.setxattr(directory, f"trusted.fscrypt_slot{number}", slot.encode())


def descriptor_of(key):
    return hashlib.sha512(hashlib.sha512(key).digest()).digest()[:8]


def add_v1_key(path, key):
    argument = bytearray(80) + key
    struct.pack_into("<II8s", argument, 0, kernel.KEY_SPEC_DESCRIPTOR, 0, descriptor_of(key))
    struct.pack_into("<I", argument, 40, len(key))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, kernel.ADD_ENCRYPTION_KEY, argument, True)
    finally:
        os.close(descriptor)


def make_home(directory, version, key):
    """An encrypted directory with a file in it, locked again; slots are for set_slots."""
    directory.mkdir()
    mount = directory.parent
    if version == 2:
        kernel.set_policy(directory, kernel.add_key(mount, key))
        name = kernel.key_identifier(key)
    else:
        add_v1_key(mount, key)
        name = descriptor_of(key).hex()
        policy = struct.pack("<BBBB8s", 0, kernel.AES_256_XTS, kernel.AES_256_CTS, kernel.PAD_32,
                             descriptor_of(key))
        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.ioctl(descriptor, kernel.SET_ENCRYPTION_POLICY, policy)
        os.close(descriptor)
    (directory / "known.txt").write_text("the quick brown fox")
    os.sync()
    kernel.remove_key(mount, name)
    assert kernel.key_status(mount, name).state == "absent"
    return name
