#!/usr/bin/python3
"""Opens a policy record with a protector record, written from the text of README.md alone.

    reader.py POLICY.yaml PROTECTOR.yaml < FILE_WITH_PASSPHRASE_IN_ITS_FIRST_LINE
    reader.py --key-file KEY POLICY.yaml PROTECTOR.yaml
    reader.py --recovery-key-file FILE POLICY.yaml PROTECTOR.yaml
    reader.py --backup BACKUP KEYIDENTIFIER < FILE_WITH_PASSPHRASE_IN_ITS_FIRST_LINE
    reader.py --share SHARE < FILE_WITH_THE_ONE_TIME_CODE_IN_ITS_FIRST_LINE

Prints the kernel's identifier of the policy key that comes out, which is the record's: otherwise
it fails. The key itself is printed only with --show-key. Exit codes: 0 opened, 2 wrong usage,
3 the secret does not open it, 4 this protector is not one of the policy's, 8 a record is refused,
9 hashing would cost too much.

It needs Python's standard library and, for Argon2, libargon2.so.1. It is meant for records at hand,
so it does not look at owners, modes and links as README.md asks of a reader of other people's
disks. Python cannot wipe memory: for disaster recovery, tests and as an example, not for daily use.
"""

import argparse
import base64
import binascii
import ctypes
import hashlib
import hmac
import os
import re
import struct
import sys
from typing import NamedTuple, Optional

MAX_RECORD_SIZE = 16384
MAX_BACKUP_SIZE = 64 << 20
MAX_BACKUP_ENTRIES = 65536
MAX_PATH_SIZE = 4096
MAX_NAME_SIZE = 255
LABEL = b"fscryptctl-wrap-1"
ALGORITHMS = {"fscryptctl-wrap-1", "google-fscrypt-1"}


class Refused(Exception):
    """A record that must not be used; `reason` is one of the words of README.md."""

    def __init__(self, reason, fact):
        super().__init__(fact)
        self.reason = reason


def corrupt(fact):
    return Refused("corrupt_metadata", fact)


def newer(what):
    return Refused("newer_format", f"unknown {what}")


# Records as text


class Word(str):
    """A value that is not quoted: a word or a number."""


class Text(bytes):
    """The UTF-8 of a quoted text."""


KEY = r"([a-z0-9_]+)"
WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_:-]*[A-Za-z0-9_-])?")
NO_VALUE = {"null", "Null", "NULL"}
HEX = "[0-9A-Fa-f]"
QUOTED = re.compile(
    rf'"(?:[ !#-\[\]-~]|\\(?:["\\]|x{HEX}{{2}}|u{HEX}{{4}}|U{HEX}{{8}}))*"')
ESCAPE = re.compile(r"\\(?:([\"\\])|x(..)|u(.{4})|U(.{8}))")
FIRST_BYTES = re.compile(
    rb"---\nformat: fscryptctl-(policy|protector|backup|share)-([1-9][0-9]{0,8})\n")


def unescape(match):
    itself, *numbers = match.groups()
    if itself is not None:
        return itself
    code_point = int(next(number for number in numbers if number is not None), 16)
    if code_point > 0x10FFFF or 0xD800 <= code_point <= 0xDFFF:
        raise corrupt("an escape is no Unicode code point")
    return chr(code_point)


def parse_value(text):
    if text == "[]":
        return []
    if WORD.fullmatch(text) and text not in NO_VALUE:
        return Word(text)
    quoted = QUOTED.fullmatch(text)
    if not quoted:
        raise corrupt("a value is malformed")
    return Text(ESCAPE.sub(unescape, quoted[0][1:-1]).encode())


def add_field(fields, key, value):
    if key in fields:
        raise corrupt("a key stands there twice")
    fields[key] = value


def parse_document(lines):
    """The document's fields; a list is a Python list, a map in it a dict."""
    fields = {}
    items = None  # the list that the lines before this one belong to
    for line in lines:
        if match := re.fullmatch(KEY + ":", line):
            require_not_empty(items)
            items = []
            add_field(fields, match[1], items)
        elif match := re.fullmatch(KEY + ": (.+)", line):
            require_not_empty(items)
            items = None
            add_field(fields, match[1], parse_value(match[2]))
        elif items is None:
            raise corrupt("a line is malformed or out of place")
        elif match := re.fullmatch("  - " + KEY + ": (.+)", line):
            items.append({match[1]: parse_value(match[2])})
        elif match := re.fullmatch("  - (.+)", line):
            items.append(parse_value(match[1]))
        elif match := re.fullmatch("    " + KEY + ": (.+)", line):
            if not items or not isinstance(items[-1], dict):
                raise corrupt("a line is malformed or out of place")
            add_field(items[-1], match[1], parse_value(match[2]))
        else:
            raise corrupt("a line is malformed or out of place")
    require_not_empty(items)
    return fields


def require_not_empty(items):
    if items == []:
        raise corrupt("a list has no items")


def require_format(data, kind):
    first = FIRST_BYTES.match(data)
    if not first or first[1].decode() != kind:
        raise corrupt("not a text of this kind")
    if int(first[2]) > 1:
        raise newer("format")


def parse_record(data, kind):
    """The two documents of a record of format 1."""
    require_format(data, kind)
    if len(data) > MAX_RECORD_SIZE:
        raise corrupt("too long")
    if not data.endswith(b"\n") or not re.fullmatch(rb"[\n -~]*", data):
        raise corrupt("not lines of printable ASCII")
    lines = data.decode("ascii").split("\n")[1:-1]
    if lines.count("---") != 1:
        raise corrupt("not two documents")
    cut = lines.index("---")
    return parse_document(lines[:cut]), parse_document(lines[cut + 1:])


# Fields


class Fields:
    """Takes the fields out of a map, so that what is left over can be refused."""

    def __init__(self, fields):
        if not isinstance(fields, dict):
            raise corrupt("a value is not a map")
        self.left = dict(fields)

    def value(self, key, kind):
        if key not in self.left:
            raise corrupt(f"there is no {key}")
        value = self.left.pop(key)
        if not isinstance(value, kind):
            raise corrupt(f"{key} is of another kind")
        return value

    def word(self, key):
        return str(self.value(key, Word))

    def name(self, key, known):
        word = self.word(key)
        if word not in known:
            raise newer(key)
        return word

    def hexadecimal(self, key, size):
        return from_hexadecimal(self.word(key), size)

    def number(self, key, low, high):
        word = self.word(key)
        if not re.fullmatch("0|[1-9][0-9]{0,19}", word) or not low <= int(word) <= high:
            raise corrupt(f"{key} is no number or out of range")
        return int(word)

    def text(self, key, forbidden=""):
        return checked_text(self.value(key, Text), forbidden)

    def list(self, key, low, high):
        items = self.value(key, list)
        if not low <= len(items) <= high:
            raise corrupt(f"{key} has too few or too many items")
        return items

    def __contains__(self, key):
        return key in self.left

    def finish(self):
        if self.left:
            raise corrupt("there is a field that must not be there")


def from_hexadecimal(word, size):
    if not isinstance(word, str) or not re.fullmatch("[0-9a-f]*", word) or len(word) != 2 * size:
        raise corrupt("hexadecimal digits are malformed")
    return bytes.fromhex(word)


def checked_text(text, forbidden):
    characters = text.decode()
    if not 1 <= len(text) <= MAX_NAME_SIZE:
        raise corrupt("a text is empty or too long")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or c in forbidden for c in characters):
        raise corrupt("a text has a character that must not be there")
    return characters


def checked_path(path):
    components = path.split(b"/")
    if len(path) > MAX_PATH_SIZE or b"\0" in path or {b"", b".", b".."} & set(components):
        raise corrupt("a path is malformed")
    return path


def is_utf8(data):
    try:
        data.decode()
        return True
    except UnicodeDecodeError:
        return False


def read_path(item):
    if isinstance(item, Text):
        return checked_path(bytes(item))
    fields = Fields(item)
    encoded = fields.value("base64", Text)
    fields.finish()
    try:
        path = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise corrupt("base64 is malformed") from None
    if base64.b64encode(path) != encoded or is_utf8(path):
        raise corrupt("a path has another spelling")
    return checked_path(path)


def checked_time(word):
    """`YYYY-MM-DDTHH:MM:SSZ` of a day that exists."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", word, re.ASCII)
    if not match:
        raise corrupt("a time is malformed")
    year, month, day, hour, minute, second = (int(number) for number in match.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    exists = 1 <= month <= 12 and 1 <= day <= days[month - 1]
    if not exists or hour > 23 or minute > 59 or second > 59:
        raise corrupt("a time does not exist")
    return word


# Policy records


class Pair(NamedTuple):
    """What a pair of modes means to the kernel."""

    contents: int
    filenames: int
    flags: frozenset


LBLK = frozenset({"IV_INO_LBLK_64", "IV_INO_LBLK_32"})
PAIRS = {
    ("AES-256-XTS", "AES-256-CTS"): Pair(1, 4, LBLK),
    ("AES-256-XTS", "AES-256-HCTR2"): Pair(1, 10, LBLK),
    ("AES-128-CBC", "AES-128-CTS"): Pair(5, 6, frozenset()),
    ("SM4-XTS", "SM4-CTS"): Pair(7, 8, frozenset()),
    ("Adiantum", "Adiantum"): Pair(9, 9, frozenset({"DIRECT_KEY"})),
}
CONTENTS = {contents for contents, _ in PAIRS}
FILENAMES = {filenames for _, filenames in PAIRS}
FLAG_BITS = {"DIRECT_KEY": 4, "IV_INO_LBLK_64": 8, "IV_INO_LBLK_32": 16}
PADDING_BITS = {4: 0, 8: 1, 16: 2, 32: 3}


class WrappedKey(NamedTuple):
    salt: bytes
    ciphertext: bytes
    mac: bytes


class GoogleWrappedKey(NamedTuple):
    """By google/fscrypt: imported, and never made here."""

    iv: bytes
    ciphertext: bytes
    mac: bytes


class Policy(NamedTuple):
    key_identifier: bytes
    paths: list
    modes: tuple  # the kernel's numbers: contents, filenames, flags, log2 of the data unit size
    operation: bytes
    wrappings: dict  # protector id -> WrappedKey, in the record's order


def read_wrapped_key(fields, algorithm, size):
    if algorithm == "google-fscrypt-1":
        return GoogleWrappedKey(fields.hexadecimal("iv", 16),
                                fields.hexadecimal("ciphertext", size),
                                fields.hexadecimal("mac", 32))
    return WrappedKey(fields.hexadecimal("salt", 32), fields.hexadecimal("ciphertext", size),
                      fields.hexadecimal("mac", 32))


def read_modes(fields):
    contents = fields.name("contents", CONTENTS)
    filenames = fields.name("filenames", FILENAMES)
    pair = PAIRS.get((contents, filenames))
    if pair is None:
        raise corrupt("these modes do not go together")
    padding = PADDING_BITS.get(fields.number("padding", 0, 32))
    flags = read_flags(fields.list("flags", 0, len(FLAG_BITS)))
    unit = fields.number("data_unit_size", 0, 65536)
    if padding is None or len(flags) > 1 or not set(flags) <= pair.flags:
        raise corrupt("padding or flags are not allowed here")
    if unit != 0 and (unit < 512 or unit & (unit - 1) != 0):
        raise corrupt("the data unit size is no power of two or too small")
    bits = padding + sum(FLAG_BITS[flag] for flag in flags)
    return pair.contents, pair.filenames, bits, max(unit.bit_length() - 1, 0)


def read_flags(items):
    for item in items:
        if not isinstance(item, Word):
            raise corrupt("a flag is of another kind")
        if item not in FLAG_BITS:
            raise newer("flag")
    return items


def read_policy_wrapping(item):
    fields = Fields(item)
    protector = fields.hexadecimal("protector", 8)
    algorithm = fields.name("algorithm", ALGORITHMS)
    wrapped = read_wrapped_key(fields, algorithm, 64)
    fields.finish()
    return protector, wrapped


def require_what_google_fscrypt_knows(modes, operation):
    """Its wrappings cover none of this, so nothing may stand there that it cannot say itself."""
    contents, filenames, flags, unit = modes
    direct_key = bool(flags & FLAG_BITS["DIRECT_KEY"])
    others = flags & (FLAG_BITS["IV_INO_LBLK_64"] | FLAG_BITS["IV_INO_LBLK_32"])
    if direct_key != (contents == filenames == 9) or others or unit or operation or contents == 7:
        raise corrupt("a wrapping of google/fscrypt stands with what that cannot express")


def read_policy(data):
    first, second = (Fields(document) for document in parse_record(data, "policy"))
    first.word("format")
    identifier = first.hexadecimal("key_identifier", 16)
    protectors = [from_hexadecimal(item, 8) for item in first.list("protectors", 1, 16)]
    paths = [read_path(item) for item in first.list("paths", 0, 16)]
    first.finish()

    again = second.hexadecimal("key_identifier", 16)
    modes = read_modes(second)
    operation = second.hexadecimal("operation", 16) if "operation" in second else b""
    wrappings = [read_policy_wrapping(item) for item in second.list("wrappings", 1, 16)]
    second.finish()

    if again != identifier or [protector for protector, _ in wrappings] != protectors:
        raise corrupt("the documents disagree")
    if len(set(protectors)) != len(protectors):
        raise corrupt("a protector stands there twice")
    if any(isinstance(wrapped, GoogleWrappedKey) for _, wrapped in wrappings):
        require_what_google_fscrypt_knows(modes, operation)
    return Policy(identifier, paths, modes, operation, dict(wrappings))


# Protector records


SOURCES = {"passphrase", "raw-key", "login"}
METHODS = SOURCES | {"recovery-key"}
HASHED = {"passphrase", "login"}


class Argon2id(NamedTuple):
    passes: int
    memory_kib: int
    lanes: int
    salt: bytes = b""


class Way(NamedTuple):
    """What a wrapping opens with; the first document has no salts."""

    method: str
    kdf: Optional[Argon2id]


class ProtectorWrapping(NamedTuple):
    way: Way
    generation: int
    wrapped: WrappedKey


class Protector(NamedTuple):
    id: bytes
    name: str
    wrappings: list


def read_costs(fields):
    lanes = fields.number("lanes", 1, 255)
    return Argon2id(fields.number("passes", 1, 2**32 - 1),
                    fields.number("memory_kib", 8 * lanes, 2**32 - 1), lanes)


def read_way(fields):
    method = fields.name("method", METHODS)
    kdf = fields.name("kdf", {"argon2id", "none"})
    if (kdf == "argon2id") != (method in HASHED):
        raise corrupt("this method does not go with this kdf")
    return Way(method, read_costs(fields) if kdf == "argon2id" else None)


def read_summary_way(item):
    fields = Fields(item)
    way = read_way(fields)
    fields.finish()
    return way


def read_protector_wrapping(item, algorithm):
    fields = Fields(item)
    way = read_way(fields)
    generation = fields.number("generation", 1, 2**64 - 1)
    if way.kdf:
        if fields.number("kdf_version", 0, 2**32 - 1) != 19:
            raise newer("kdf_version")
        way = way._replace(kdf=way.kdf._replace(salt=fields.hexadecimal("kdf_salt", 16)))
    wrapped = read_wrapped_key(fields, algorithm, 32)
    fields.finish()
    return ProtectorWrapping(way, generation, wrapped)


def without_salt(way):
    return way._replace(kdf=way.kdf and way.kdf._replace(salt=b""))


def read_hints(fields, source):
    present = [key for key in ("user", "machine_id") if key in fields]
    if present and source != "login":
        raise corrupt("only a login protector has hints")
    if "user" in present:
        fields.text("user")
    if "machine_id" in present:
        fields.hexadecimal("machine_id", 16)


def require_right_wrappings(source, algorithm, wrappings):
    if algorithm == "google-fscrypt-1" and len(wrappings) > 1:
        raise corrupt("a wrapping of google/fscrypt does not stand alone")
    methods = [wrapping.way.method for wrapping in wrappings]
    own = methods.count(source)
    if own < 1 or own > (2 if source == "login" else 1):
        raise corrupt("too few or too many wrappings of the record's own method")
    if methods.count("recovery-key") > 1 or set(methods) - {source, "recovery-key"}:
        raise corrupt("a wrapping of a method that must not be there")
    generations = [wrapping.generation for wrapping in wrappings if wrapping.way.method == source]
    if len(set(generations)) != len(generations):
        raise corrupt("two wrappings have one generation")


def read_protector(data):
    first, second = (Fields(document) for document in parse_record(data, "protector"))
    first.word("format")
    identifier = first.hexadecimal("id", 8)
    name = first.text("name", forbidden=":/")
    source = first.name("source", SOURCES)
    checked_time(first.word("created"))
    read_hints(first, source)
    algorithm = first.name("algorithm", ALGORITHMS)
    ways = [read_summary_way(item) for item in first.list("methods", 1, 4)]
    first.finish()

    again = second.hexadecimal("id", 8)
    wrappings = [read_protector_wrapping(item, algorithm)
                 for item in second.list("wrappings", 1, 4)]
    second.finish()

    if again != identifier or [without_salt(wrapping.way) for wrapping in wrappings] != ways:
        raise corrupt("the documents disagree")
    require_right_wrappings(source, algorithm, wrappings)
    return Protector(identifier, name, wrappings)


# Backups


class Entry(NamedTuple):
    uid: int
    record: object  # Policy or Protector


RECORD_KINDS = {"policy": read_policy, "protector": read_protector}
MAX_UID = 2**32 - 2


def read_backup_header(document):
    """How many records there are."""
    fields = Fields(parse_document(document))
    fields.word("format")
    checked_time(fields.word("created"))
    if "filesystem" in fields:
        fields.hexadecimal("filesystem", 16)
    if "mount_point" in fields:
        mount_point = fields.value("mount_point", Text)
        if not mount_point.startswith(b"/") or len(mount_point) > MAX_PATH_SIZE or b"\0" in mount_point:
            raise corrupt("a path is malformed")
    records = fields.number("records", 1, MAX_BACKUP_ENTRIES)
    fields.finish()
    return records


def read_entry(document, first, second):
    fields = Fields(parse_document(document))
    kind, uid = fields.word("kind"), fields.number("uid", 0, MAX_UID)
    fields.finish()
    if kind not in RECORD_KINDS:
        raise corrupt("a record is of an unknown kind")
    lines = ["---", *first, "---", *second, ""]
    return Entry(uid, RECORD_KINDS[kind]("\n".join(lines).encode()))


def sealed_documents(data, kind, max_size):
    """The documents before the digest, as lists of lines."""
    require_format(data, kind)
    if len(data) > max_size:
        raise corrupt("too long")
    if not data.endswith(b"\n") or not re.fullmatch(rb"[\n -~]*", data):
        raise corrupt("not lines of printable ASCII")
    covered = data[:-len("sha256: \n") - 64]
    if data != covered + b"sha256: " + hashlib.sha256(covered).hexdigest().encode() + b"\n":
        raise corrupt("cut off or damaged")
    documents = [[]]
    for line in covered.decode().split("\n")[1:-1]:
        if line == "---":
            documents.append([])
        else:
            documents[-1].append(line)
    if documents.pop():
        raise corrupt("the digest is no document of its own")
    return documents


def read_backup(data):
    """The entries of a backup."""
    header, *rest = sealed_documents(data, "backup", MAX_BACKUP_SIZE) or [[]]
    if len(rest) != 3 * read_backup_header(header):
        raise corrupt("too few or too many documents")
    entries = [read_entry(*rest[i:i + 3]) for i in range(0, len(rest), 3)]
    if len({(entry.uid, entry.record[0]) for entry in entries}) != len(entries):
        raise corrupt("a record stands there twice")
    return entries


# Shares


class Share(NamedTuple):
    key_identifier: bytes
    paths: list
    modes: tuple
    wrapped: WrappedKey


def read_share(data):
    documents = sealed_documents(data, "share", MAX_RECORD_SIZE)
    if len(documents) != 1:
        raise corrupt("too few or too many documents")
    fields = Fields(parse_document(documents[0]))
    fields.word("format")
    checked_time(fields.word("created"))
    identifier = fields.hexadecimal("key_identifier", 16)
    if "filesystem" in fields:
        fields.hexadecimal("filesystem", 16)
    paths = [read_path(item) for item in fields.list("paths", 0, 16)]
    modes = read_modes(fields)
    fields.name("algorithm", {"fscryptctl-wrap-1"})
    wrapped = read_wrapped_key(fields, "fscryptctl-wrap-1", 64)
    fields.finish()
    return Share(identifier, paths, modes, wrapped)


BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LOOK_ALIKES = str.maketrans("OIL", "011", " -\t\r\n")


def code_check(code):
    return hashlib.sha256(b"fscryptctl-share-check-1\0" + code).digest()[:4]


def write_share_code(code):
    number = int.from_bytes(code + code_check(code), "big")
    text = "".join(BASE32[number >> shift & 31] for shift in range(155, -1, -5))
    return "-".join(text[i:i + 4] for i in range(0, 32, 4))


def read_share_code(text):
    """The 16 bytes, or None if it is mistyped."""
    characters = text.upper().translate(LOOK_ALIKES)
    if len(characters) != 32 or not set(characters) <= set(BASE32):
        return None
    number = 0
    for character in characters:
        number = number << 5 | BASE32.index(character)
    data = number.to_bytes(20, "big")
    return data[:16] if code_check(data[:16]) == data[16:] else None


# Cryptography


def hkdf(algorithm, key, salt, info, size):
    """RFC 5869."""
    salt = salt or bytes(hashlib.new(algorithm).digest_size)
    prk = hmac.new(salt, key, algorithm).digest()
    output, block = b"", b""
    while len(output) < size:
        counter = bytes([len(output) // len(prk) + 1])
        block = hmac.new(prk, block + info + counter, algorithm).digest()
        output += block
    return output[:size]


def key_identifier_of(policy_key):
    return hkdf("sha512", policy_key, b"", b"fscrypt\0\x01", 16)


def protector_id_of(protector_key):
    return hashlib.sha512(hashlib.sha512(protector_key).digest()).digest()[:8]


def double(byte):
    """Times x in AES's field (FIPS 197, section 4.2)."""
    return byte << 1 ^ (0x11B if byte & 0x80 else 0)


def make_s_box():
    power, value = [], 1
    for _ in range(255):
        power.append(value)
        value ^= double(value)  # times x + 1, which generates all but zero
    logarithm = {value: exponent for exponent, value in enumerate(power)}
    inverse = [0] + [power[-logarithm[byte] % 255] for byte in range(1, 256)]
    # Adding a byte's rotations by one to four: one product without carries, folded to eight bits.
    spread = [b ^ b << 1 ^ b << 2 ^ b << 3 ^ b << 4 for b in inverse]
    return bytes((value ^ value >> 8) & 0xFF ^ 0x63 for value in spread)


S_BOX = make_s_box()
ROUNDS = 14  # of AES-256


def expand_key(key):
    words = [key[i:i + 4] for i in range(0, 32, 4)]
    round_constant = 1
    while len(words) < 4 * (ROUNDS + 1):
        word = words[-1]
        if len(words) % 8 == 0:
            word = (word[1:] + word[:1]).translate(S_BOX)
            word = bytes([word[0] ^ round_constant]) + word[1:]
            round_constant = double(round_constant)
        elif len(words) % 8 == 4:
            word = word.translate(S_BOX)
        words.append(xor(words[-8], word))
    return [b"".join(words[i:i + 4]) for i in range(0, len(words), 4)]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def mix_column(a, b, c, d):
    everything = a ^ b ^ c ^ d
    return [a ^ everything ^ double(a ^ b), b ^ everything ^ double(b ^ c),
            c ^ everything ^ double(c ^ d), d ^ everything ^ double(d ^ a)]


def aes_256_encrypt_block(round_keys, block):
    state = xor(block, round_keys[0])
    for number in range(1, ROUNDS + 1):
        state = state.translate(S_BOX)
        state = bytes(state[(i + 4 * (i % 4)) % 16] for i in range(16))  # shift rows
        if number < ROUNDS:
            state = bytes(sum((mix_column(*state[i:i + 4]) for i in range(0, 16, 4)), []))
        state = xor(state, round_keys[number])
    return state


def aes_256_ctr(key, data, first_block=bytes(16)):
    """Encrypts and decrypts; the counter is the whole block, modulo 2^128."""
    round_keys = expand_key(key)
    first = int.from_bytes(first_block, "big")
    stream = b"".join(
        aes_256_encrypt_block(round_keys, ((first + block) % 2**128).to_bytes(16, "big"))
        for block in range((len(data) + 15) // 16))
    return xor(data, stream)


def argon2id(passphrase, kdf):
    library = ctypes.CDLL("libargon2.so.1")
    u32, size = ctypes.c_uint32, ctypes.c_size_t
    output = ctypes.create_string_buffer(32)
    result = library.argon2id_hash_raw(
        u32(kdf.passes), u32(kdf.memory_kib), u32(kdf.lanes), passphrase, size(len(passphrase)),
        kdf.salt, size(len(kdf.salt)), output, size(32))
    if result != 0:
        raise OSError(f"libargon2 failed with {result}")
    return output.raw


# Wrapping


def field(data):
    return struct.pack(">I", len(data)) + data


def integer(value):
    return field(struct.pack(">Q", value))


def kdf_fields(kdf):
    if kdf is None:
        return field(b"none") + 4 * integer(0) + field(b"")
    return (field(b"argon2id") + integer(19) + integer(kdf.passes) + integer(kdf.memory_kib) +
            integer(kdf.lanes) + field(kdf.salt))


def protector_context(protector_id, way, generation):
    return (field(LABEL) + field(b"protector-key") + field(protector_id) +
            field(way.method.encode()) + integer(generation) + kdf_fields(way.kdf))


def policy_context(key_identifier, protector_id, modes, operation):
    return (field(LABEL) + field(b"policy-key") + field(key_identifier) + field(protector_id) +
            integer(0) + kdf_fields(None) + b"".join(integer(number) for number in modes) +
            field(operation))


def derive(wrapping_key, salt, context):
    """The two keys of a wrapping: for the cipher and for the MAC."""
    info = LABEL + b"\0" + hashlib.sha256(context).digest()
    okm = hkdf("sha256", wrapping_key, salt, info, 64)
    return okm[:32], okm[32:]


def wrap(wrapping_key, salt, context, key):
    cipher_key, mac_key = derive(wrapping_key, salt, context)
    ciphertext = aes_256_ctr(cipher_key, key)
    return WrappedKey(salt, ciphertext, hmac.new(mac_key, context + ciphertext, "sha256").digest())


def google_wrap(wrapping_key, iv, key):
    """As google/fscrypt did it: bound to nothing but the key. For the vectors alone."""
    okm = hkdf("sha256", wrapping_key, b"", b"", 64)
    ciphertext = aes_256_ctr(okm[:32], key, iv)
    return GoogleWrappedKey(iv, ciphertext, hmac.new(okm[32:], iv + ciphertext, "sha256").digest())


def google_unwrap(wrapping_key, wrapped):
    okm = hkdf("sha256", wrapping_key, b"", b"", 64)
    mac = hmac.new(okm[32:], wrapped.iv + wrapped.ciphertext, "sha256").digest()
    if not hmac.compare_digest(mac, wrapped.mac):
        return None
    return aes_256_ctr(okm[:32], wrapped.ciphertext, wrapped.iv)


def unwrap(wrapping_key, context, wrapped):
    """None if this key and context did not make the wrapping."""
    if isinstance(wrapped, GoogleWrappedKey):
        return google_unwrap(wrapping_key, wrapped)
    cipher_key, mac_key = derive(wrapping_key, wrapped.salt, context)
    mac = hmac.new(mac_key, context + wrapped.ciphertext, "sha256").digest()
    if not hmac.compare_digest(mac, wrapped.mac):
        return None
    return aes_256_ctr(cipher_key, wrapped.ciphertext)


# Recovery keys


SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
READ_AS = str.maketrans("OILU", "011V", " \t\n\v\f\r-")
GROUP = 8
POWERS = [1, 2, 4, 8, 16, 5, 10, 20]  # of x in GF(32), x^5 being x^2 + 1


def times(a, b):
    """In GF(32): a polynomial product, reduced by x^5 + x^2 + 1 from above."""
    product = 0
    for bit in range(5):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(9, 4, -1):
        if product >> bit & 1:
            product ^= 0b100101 << (bit - 5)
    return product


def check_symbol(data, number):
    """Of the number-th group, counted from 1."""
    symbol = number
    for place, value in enumerate(data):
        symbol ^= times(value, POWERS[7 - place])
    return symbol


def recovery_key_hash(key):
    return hashlib.sha256(b"fscryptctl-recovery-key-1\0" + key).digest()[:3]


def write_recovery_key(key):
    number = int.from_bytes(key + recovery_key_hash(key), "big")
    values = [number >> shift & 31 for shift in range(275, -1, -5)]
    groups = [values[i:i + GROUP - 1] for i in range(0, len(values), GROUP - 1)]
    groups = [group + [check_symbol(group, i + 1)] for i, group in enumerate(groups)]
    return "-".join("".join(SYMBOLS[value] for value in group) for group in groups)


def read_recovery_key(text):
    """The 32 bytes, and what is wrong where there are none."""
    # Other scripts have letters whose capitals are Latin ones.
    symbols = text.encode("ascii", "replace").decode().upper().translate(READ_AS)
    if len(symbols) != 8 * GROUP:
        return None, f"it has {len(symbols)} characters, expected {8 * GROUP}"
    if set(symbols) - set(SYMBOLS):
        return None, "it has a character that no recovery key has"
    number = 0
    for i in range(8):
        *data, check = (SYMBOLS.index(symbol) for symbol in symbols[i * GROUP:(i + 1) * GROUP])
        if check_symbol(data, i + 1) != check:
            return None, f"group {i + 1} is mistyped"
        for value in data:
            number = number << 5 | value
    payload = number.to_bytes(35, "big")
    if recovery_key_hash(payload[:32]) != payload[32:]:
        return None, "it is mistyped"
    return payload[:32], None


# Opening


class Secret(NamedTuple):
    """A passphrase, or the 32 bytes of a raw key or recovery key."""

    passphrase: Optional[bytes] = None
    key: Optional[bytes] = None


def require_affordable(kdf, limit_mib=None):
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024 // 2
    memory = limit_mib * 1024 if limit_mib else min(1024 * 1024, half)
    if kdf.memory_kib > memory or kdf.passes * kdf.memory_kib > 16 * max(memory, 1024 * 1024):
        raise Refused("kdf_limit", "hashing the passphrase would cost too much")


def wrapping_key_of(way, secret, limit_mib=None):
    """None if the secret is not of this method's kind."""
    if way.kdf is None:
        return secret.key
    if secret.passphrase is None:
        return None
    require_affordable(way.kdf, limit_mib)
    return argon2id(secret.passphrase, way.kdf)


def open_protector(protector, secret, limit_mib=None):
    """The protector key, or None."""
    for wrapping in protector.wrappings:
        wrapping_key = wrapping_key_of(wrapping.way, secret, limit_mib)
        if wrapping_key is None:
            continue
        context = protector_context(protector.id, wrapping.way, wrapping.generation)
        key = unwrap(wrapping_key, context, wrapping.wrapped)
        if key is not None and protector_id_of(key) == protector.id:
            return key
    return None


def open_policy(policy, protector_id, protector_key):
    """The policy key, or None."""
    context = policy_context(policy.key_identifier, protector_id, policy.modes, policy.operation)
    key = unwrap(protector_key, context, policy.wrappings[protector_id])
    return key if key is not None and key_identifier_of(key) == policy.key_identifier else None


def share_context(share):
    return (field(LABEL) + field(b"shared-policy-key") + field(share.key_identifier) +
            field(b"share-code") + integer(0) + kdf_fields(None) +
            b"".join(integer(number) for number in share.modes) + field(b""))


def open_share(share, code):
    """The policy key, or None."""
    wrapping_key = hkdf("sha256", code, b"", b"fscryptctl-share-code-1", 32)
    key = unwrap(wrapping_key, share_context(share), share.wrapped)
    return key if key is not None and key_identifier_of(key) == share.key_identifier else None


# The command


def read_record(path, parse, identifier_of):
    with open(path, "rb") as file:
        record = parse(file.read(MAX_RECORD_SIZE + 1))
    name = re.fullmatch(r"((?:[0-9a-f]{16}){1,2})\.yaml", os.path.basename(path))
    if name and name[1] != identifier_of(record).hex():
        raise corrupt("the file's name is not its identifier")
    return record


def read_recovery_key_file(path):
    with open(0 if path == "-" else path, encoding="utf-8", errors="replace") as file:
        text = "".join(line for line in file if not line.startswith("#"))
    key, fault = read_recovery_key(text)
    if key is None:
        raise SystemExit(fail(3, f"wrong_key: the recovery key cannot be right: {fault}"))
    return Secret(key=key)


def read_secret(key_file, recovery_key_file):
    if recovery_key_file is not None:
        return read_recovery_key_file(recovery_key_file)
    if key_file is None:
        passphrase = sys.stdin.buffer.readline().removesuffix(b"\n")
        if not 1 <= len(passphrase) <= 4096 or b"\0" in passphrase:
            raise SystemExit("error: a passphrase has 1 to 4,096 bytes and no zero byte")
        return Secret(passphrase=passphrase)
    with open(0 if key_file == "-" else key_file, "rb") as file:
        key = file.read(33)
    if len(key) != 32:
        raise SystemExit("error: a key has 32 bytes")
    return Secret(key=key)


def fail(code, message):
    print(f"error: {message}", file=sys.stderr)
    return code


def records_of_files(policy_path, protector_path):
    """The policy, and the protector to open it with."""
    policy = read_record(policy_path, read_policy, lambda record: record.key_identifier)
    protector = read_record(protector_path, read_protector, lambda record: record.id)
    return [(policy, [protector] if protector.id in policy.wrappings else [])]


def records_of_backup(path, key_identifier):
    """Every user's record of the policy, each with the protectors in the backup that open it."""
    with open(path, "rb") as file:
        entries = read_backup(file.read(MAX_BACKUP_SIZE + 1))
    return [(entry.record, [other.record for other in entries
                            if other.uid == entry.uid and isinstance(other.record, Protector)
                            and other.record.id in entry.record.wrappings])
            for entry in entries if isinstance(entry.record, Policy)
            and entry.record.key_identifier.hex() == key_identifier]


def open_share_file(path):
    """The policy key, or None; the code comes from standard input."""
    with open(path, "rb") as file:
        share = read_share(file.read(MAX_RECORD_SIZE + 1))
    code = read_share_code(sys.stdin.readline())
    return None if code is None else open_share(share, code)


def open_any(records, secret, limit_mib):
    """The policy key, or None."""
    for policy, protectors in records:
        for protector in protectors:
            protector_key = open_protector(protector, secret, limit_mib)
            if protector_key is not None:
                return open_policy(policy, protector.id, protector_key)
    return None


def main():
    parser = argparse.ArgumentParser(
        description="opens a policy record with a protector record, or from a backup",
        usage="%(prog)s [options] POLICY.yaml PROTECTOR.yaml\n"
              "       %(prog)s [options] --backup BACKUP KEYIDENTIFIER\n"
              "       %(prog)s [options] --share SHARE")
    parser.add_argument("names", nargs="*", metavar="POLICY.yaml PROTECTOR.yaml",
                        help="two records, or the key identifier of a policy in a backup")
    parser.add_argument("--backup", metavar="BACKUP", help="a backup that holds the records")
    parser.add_argument("--share", metavar="SHARE", help="a share, which a one-time code opens")
    parser.add_argument("--key-file", metavar="FILE",
                        help="32 bytes instead of a passphrase; - is stdin")
    parser.add_argument("--recovery-key-file", metavar="FILE",
                        help="a recovery key as text instead; - is stdin")
    parser.add_argument("--show-key", action="store_true", help="print the policy key too")
    parser.add_argument("--kdf-limit", metavar="MIB", type=int,
                        help="allow hashing to take so much memory")
    arguments = parser.parse_args()
    if len(arguments.names) != (0 if arguments.share else 1 if arguments.backup else 2):
        parser.error("two records, --backup and a key identifier, or --share")
    try:
        if arguments.share:
            policy_key = open_share_file(arguments.share)
        else:
            records = (records_of_backup(arguments.backup, *arguments.names) if arguments.backup
                       else records_of_files(*arguments.names))
            if not any(protectors for _, protectors in records):
                return fail(4, "there is no policy with a wrapping by a protector that is here")
            policy_key = open_any(records, read_secret(arguments.key_file, arguments.recovery_key_file), arguments.kdf_limit)
    except Refused as refused:
        return fail(9 if refused.reason == "kdf_limit" else 8, f"{refused.reason}: {refused}")
    if policy_key is None:
        return fail(3, "wrong_key: the secret does not open it")
    print(f"key identifier {key_identifier_of(policy_key).hex()}")
    if arguments.show_key:
        print(f"policy key {policy_key.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
