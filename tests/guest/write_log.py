"""Reads what dm-log-writes recorded (Documentation/admin-guide/device-mapper/log-writes.rst)."""

import struct
from dataclasses import dataclass

MAGIC = 0x6A736677736872
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
DISCARD = 4
MARK = 8


@dataclass(frozen=True)
class Write:
    """Bytes that reached the disk; `data` is None where a range was discarded."""

    offset: int
    length: int
    data: bytes | None

    def apply(self, image):
        image.seek(self.offset)
        image.write(bytes(self.length) if self.data is None else self.data)


def writes_between(log, begin, end):
    """The writes between two marks in order, None while the log has no such marks. What was not yet
    durable at the end is not among them, since the device notes writes only when they are flushed.
    """
    found, inside = [], False
    for entry in entries(log):
        if isinstance(entry, str):
            if entry == end:
                return found
            inside = inside or entry == begin
        elif inside:
            found.append(entry)
    return None


def entries(log):
    """Every entry of the log: a Write, or the text of a mark."""
    magic, version, count, sector = SUPER.unpack(log.read(SUPER.size))
    if (magic, version) != (MAGIC, 1):
        return
    log.seek(sector)
    for _ in range(count):
        head = log.read(sector)
        start, sectors, flags, text_length = ENTRY.unpack_from(head)
        if flags & MARK:
            yield head[ENTRY.size:ENTRY.size + text_length].decode()
            continue
        data = None if flags & DISCARD else log.read(sectors * sector)
        if sectors:
            yield Write(start * sector, sectors * sector, data)
