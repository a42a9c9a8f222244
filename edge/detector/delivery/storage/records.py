"""Records and cells in the pages of a SQLite file: https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1."""

import struct

from edge.detector.delivery.storage.pages import PAGE_BYTES

TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR = 0x0D, 0x0A, 0x02
"""Types of pages: their first byte."""


def decode(data: bytes, kind: int) -> object:
    """Return the value of a column of serial type ``kind``."""
    if kind >= 12:
        return data.decode("utf-8", "surrogateescape") if kind & 1 else data
    if kind == 7:
        return struct.unpack(">d", data.ljust(8, b"\0"))[0]
    return {0: None, 8: 0, 9: 1}.get(kind, int.from_bytes(data, signed=True))


def column_bytes(kind: int) -> int:
    """Return the size of a column of serial type ``kind`` in bytes."""
    return (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]


def record_bytes(types: tuple[int, ...]) -> int:
    """Return the size of a record, header and columns, in bytes, given the serial type of each column."""
    header = 1 + sum(len(as_varint(kind)) for kind in types)
    return header + sum(map(column_bytes, types))


def pointers_in(page: bytes) -> tuple[int, ...]:
    """Return the offsets of the cells of a page, as far as they lie in it."""
    first = 8 if page[0] in (TABLE_LEAF, INDEX_LEAF) else 12
    count = min(int.from_bytes(page[3:5]), (PAGE_BYTES - first) // 2)
    return tuple(pointer for pointer in struct.unpack_from(f">{count}H", page, first) if pointer < PAGE_BYTES)


def varint(page: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer of at most eight bytes, and the offset after it."""
    value = 0
    for position in range(at, min(at + 8, len(page))):
        value = value << 7 | page[position] & 0x7F
        if page[position] < 0x80:
            return value, position + 1
    return value, min(at + 8, len(page))


def as_varint(value: int) -> bytes:
    """Return a variable-length integer."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))
