"""Reads the pages of a SQLite database and of its write-ahead log (WAL) directly, also where SQLite refuses to.

SQLite ignores the WAL from the first frame on whose checksum is wrong, and refuses a file whose header is damaged.
Formats: https://www.sqlite.org/fileformat2.html, sections 1 and 4.
"""

import os
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

PAGE_BYTES: Final = 4096
_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_FRAME_BYTES: Final = _FRAME_HEADER_BYTES + PAGE_BYTES
_MAGIC: Final = (0x377F0682, 0x377F0683)
"""The first number of a WAL; its lowest bit says whether checksums are of big-endian numbers."""
_FRAMES_PER_READ: Final = 256
_PAGES_PER_READ: Final = 256
_PAIRS: Final = (8 + PAGE_BYTES) // 8
"""Pairs of 32-bit numbers in the checksum of a frame: of 8 bytes of its header, and of the page."""

Checksum = tuple[int, int]


def wal_bytes_of(frames: int) -> int:
    """Return the size of so many frames in a write-ahead log, with its header, in bytes."""
    return _HEADER_BYTES + frames * _FRAME_BYTES


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of the WAL."""

    page: int
    """Number of the page, from 1."""
    commit: int
    """Number of pages of the database after the transaction that this frame ends; 0 in its other frames."""
    offset: int
    """Where the page begins in the WAL, in bytes."""
    is_intact: bool


class Reader:
    """Reads parts of files. What the disk cannot read is zeros."""

    def __init__(self) -> None:
        self.had_errors = False
        """Whether the disk could not read something."""

    def read(self, file: int, size: int, offset: int) -> bytes:
        """Read ``size`` bytes; what lies beyond the end of the file or cannot be read is zeros."""
        try:
            return os.pread(file, size, offset).ljust(size, b"\0")
        except OverflowError:
            return bytes(size)
        except OSError:
            if size <= PAGE_BYTES:
                self.had_errors = True
                return bytes(size)
            return b"".join(self.read(file, PAGE_BYTES, at) for at in range(offset, offset + size, PAGE_BYTES))


class Wal:
    """The frames of a write-ahead log that belong to its current generation."""

    def __init__(self, path: Path) -> None:
        self.reader = Reader()
        self.is_header_damaged = False
        """Whether SQLite would take the WAL for an empty one although it has frames."""
        self._frames = list(self._read(path)) if path.exists() else []
        intact_commits = [i for i, frame in enumerate(self._frames) if frame.is_intact and frame.commit]
        self._last_commit = max(intact_commits, default=-1)
        damaged = [i for i, frame in enumerate(self._frames) if not frame.is_intact]
        self.is_damaged = self.is_header_damaged or any(i < self._last_commit for i in damaged)
        """Whether SQLite would lose transactions that were committed."""
        self.has_damaged_tail = bool(damaged)
        """Whether a frame is damaged, if only in the last transaction, which a power cut may have interrupted."""

    def intact(self) -> dict[int, int]:
        """Return the offset of the newest intact version of each page, by page number."""
        return {f.page: f.offset for f in self._frames[: self._last_commit + 1] if f.is_intact}

    def newest(self) -> dict[int, int]:
        """Return the offset of the newest version of each page, by page number, damaged or not."""
        end = len(self._frames) if self.has_damaged_tail else self._last_commit + 1
        return {f.page: f.offset for f in self._frames[:end]}

    def _read(self, path: Path) -> Iterator[_Frame]:
        """Yield the frames with the salts of the header, and say of each whether its checksum is right.

        A checksum continues that of the frame before it. If that frame is damaged, either its page or its checksum is;
        so a frame is intact if it continues what the frame before it states, or what that frame should have stated.
        """
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            heads, sums = _read_frames(self.reader, file.fileno(), is_big_endian=_is_big_endian(header))
        if len(header) < _HEADER_BYTES or not len(heads) or not heads[0].any():
            return
        fields = struct.unpack(">8I", header)
        words = np.frombuffer(header[:24], ">u4" if _is_big_endian(header) else "<u4").astype(np.uint32)
        is_header_intact = fields[0] in _MAGIC and _sum(words, (0, 0)) == fields[6:]
        salts = fields[4:6] if is_header_intact else (int(heads[0][2]), int(heads[0][3]))
        differing = [_bits(int(head[2]) ^ salts[0]) + _bits(int(head[3]) ^ salts[1]) for head in heads]
        # One flipped bit in a salt still belongs to this generation: those of others differ in many.
        count = max((i + 1 for i, bits in enumerate(differing) if bits <= 1), default=0)
        self.is_header_damaged = not is_header_intact and count > 0
        before: list[Checksum] = [(fields[6], fields[7])]
        for i in range(count):
            page, commit, _, _, first, second = map(int, heads[i])
            stated = (first, second)
            computed = [_continue(start, sums[i]) for start in before]
            is_first_after_damage = i == 0 and not is_header_intact
            is_intact = not differing[i] and page > 0 and (stated in computed or is_first_after_damage)
            before = [stated] if is_intact else [stated, *computed[:2]]
            yield _Frame(page, commit, _HEADER_BYTES + i * _FRAME_BYTES + _FRAME_HEADER_BYTES, is_intact)


class Pages:
    """The pages of a database and its WAL. Sectors that cannot be read count as zeros."""

    def __init__(self, path: Path) -> None:
        """Open both files for reading; only the WAL may be missing.

        Raises:
            OSError: a file cannot be opened.
        """
        wal_path = Path(f"{path}-wal")
        self.wal = Wal(wal_path)
        self._read = self.wal.reader.read
        self._database = os.open(path, os.O_RDONLY)
        try:
            self._log = os.open(wal_path, os.O_RDONLY) if wal_path.exists() else -1
        except OSError:
            os.close(self._database)
            raise
        self._count = os.fstat(self._database).st_size // PAGE_BYTES

    @property
    def had_errors(self) -> bool:
        """Whether the disk could not read something."""
        return self.wal.reader.had_errors

    @property
    def is_empty(self) -> bool:
        """Whether the database has no page."""
        return os.fstat(self._database).st_size == 0 and not self.wal.newest()

    def read(self, number: int, versions: Mapping[int, int]) -> bytes:
        """Return a page, given the offsets of the pages in the WAL. A page that does not exist is all zeros."""
        if number in versions:
            return self._read(self._log, PAGE_BYTES, versions[number])
        return self._read(self._database, PAGE_BYTES, (number - 1) * PAGE_BYTES) if number > 0 else bytes(PAGE_BYTES)

    def all(self, versions: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the content of every page, given the offsets of the pages in the WAL."""
        for first in range(0, self._count, _PAGES_PER_READ):
            block = self._read(self._database, _PAGES_PER_READ * PAGE_BYTES, first * PAGE_BYTES)
            for i in range(min(_PAGES_PER_READ, self._count - first)):
                if first + i + 1 not in versions:
                    yield first + i + 1, block[i * PAGE_BYTES : (i + 1) * PAGE_BYTES]
        for number, offset in versions.items():
            yield number, self._read(self._log, PAGE_BYTES, offset)

    def close(self) -> None:
        """Close the files."""
        os.close(self._database)
        if self._log >= 0:
            os.close(self._log)


def _read_frames(
    reader: Reader, file: int, is_big_endian: bool
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return the six numbers in the header of each frame, and what each frame adds to the checksum."""
    count = max(0, os.fstat(file).st_size - _HEADER_BYTES) // _FRAME_BYTES
    heads, sums = [np.empty((0, 6), np.uint32)], [np.empty((0, 2), np.uint32)]
    for first in range(0, count, _FRAMES_PER_READ):
        size = min(_FRAMES_PER_READ, count - first) * _FRAME_BYTES
        block = np.frombuffer(reader.read(file, size, _HEADER_BYTES + first * _FRAME_BYTES), np.uint8)
        frames = block.reshape(-1, _FRAME_BYTES)
        head = frames[:, :_FRAME_HEADER_BYTES]
        heads.append(np.ascontiguousarray(head).view(">u4").astype(np.uint32))
        summed = np.hstack((head[:, :8], frames[:, _FRAME_HEADER_BYTES:]))
        words = np.ascontiguousarray(summed).view(">u4" if is_big_endian else "<u4").astype(np.uint32)
        sums.append(words @ _WEIGHTS)
    return np.concatenate(heads), np.concatenate(sums)


def _is_big_endian(header: bytes) -> bool:
    magic = int.from_bytes(header[:4])
    return bool(magic & 1) if magic in _MAGIC else sys.byteorder == "big"


def _sum(words: npt.NDArray[np.uint32], start: Checksum) -> Checksum:
    """Return the checksum of pairs of numbers: of each pair (a, b), s1 += a + s2 and then s2 += b + s1."""
    first, second = start
    for a, b in words.reshape(-1, 2).tolist():
        first = (first + a + second) & 0xFFFFFFFF
        second = (second + b + first) & 0xFFFFFFFF
    return first, second


def _weights() -> tuple[npt.NDArray[np.uint32], tuple[Checksum, Checksum]]:
    """Return the weight of each number in a frame's checksum, and that of the checksum before it.

    The checksum is linear: a pair (a, b) makes (s1, s2) into (s1 + s2 + a, s1 + 2 s2 + a + b), modulo 2 to the 32.
    """
    weights = np.empty((2 * _PAIRS, 2), np.uint32)
    from_first, from_second = (1, 0), (0, 1)  # what s1 = 1 and s2 = 1 after this pair become after the last pair
    for pair in reversed(range(_PAIRS)):
        weights[2 * pair] = [(x + y) & 0xFFFFFFFF for x, y in zip(from_first, from_second, strict=True)]
        weights[2 * pair + 1] = from_second
        from_first, from_second = (
            (int(weights[2 * pair][0]), int(weights[2 * pair][1])),
            (
                (from_first[0] + 2 * from_second[0]) & 0xFFFFFFFF,
                (from_first[1] + 2 * from_second[1]) & 0xFFFFFFFF,
            ),
        )
    return weights, (from_first, from_second)


_WEIGHTS, _WEIGHTS_BEFORE = _weights()


def _continue(before: Checksum, added: npt.NDArray[np.uint32]) -> Checksum:
    (first_first, first_second), (second_first, second_second) = _WEIGHTS_BEFORE
    return (
        (before[0] * first_first + before[1] * second_first + int(added[0])) & 0xFFFFFFFF,
        (before[0] * first_second + before[1] * second_second + int(added[1])) & 0xFFFFFFFF,
    )


def _bits(number: int) -> int:
    return number.bit_count()
