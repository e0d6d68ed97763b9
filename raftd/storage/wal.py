"""Tells a torn end of SQLite's write-ahead log from damage in its middle.

At start SQLite takes the frames of the write-ahead log up to the last commit whose
checksums fit, and forgets the rest without a word. That is right for a write that a
crash tore, which nobody was told of. It is wrong when a bit flipped in an earlier,
synced and acknowledged commit: votes and entries would vanish.

The rule: a commit is written only after the one before it was synced. So at most one
commit can be torn; when two or more lie behind the first bad frame, the first of them
was durable, and the file is damaged. Damage within the very last commit, and a file
cut short, look like a crash and are treated as one.

Source: https://www.sqlite.org/fileformat2.html section 4 (the write-ahead log);
RELIABILITY.md rule 50.
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from raftd.storage.errors import DamagedFiles, translate_errors
from raftd.storage.files import wal_path

__all__ = ["check_wal"]

#: Magic, version, page size, checkpoint number, two salts, two checksums.
_HEADER = struct.Struct(">8I")
#: Page number, database pages (only in a commit's last frame), salts, checksums.
_FRAME = struct.Struct(">6I")
_MAGIC_LITTLE_ENDIAN = 0x377F0682
_MAGIC_BIG_ENDIAN = 0x377F0683
_MASK = 0xFFFFFFFF

_Sum = tuple[int, int]


class _Header(NamedTuple):
    byte_order: str
    page_bytes: int
    salts: tuple[int, int]
    checksum: _Sum


def check_wal(path: Path) -> None:
    """Look at the write-ahead log of the database at `path`, changing nothing.

    Raises:
        DamagedFiles: SQLite would drop commits that had been synced.
        DiskFailed: It cannot be read.
    """
    wal = wal_path(path)
    with translate_errors(wal, "read"):
        try:
            file = wal.open("rb")
        except FileNotFoundError:
            return
        with file:
            raw = file.read(_HEADER.size)
            rest_byte = file.read(1)
            if not rest_byte:
                return  # no frame was ever written behind this header
            header = _parse_header(raw)
            if header is None:
                raise DamagedFiles(f"{wal} is damaged: checksum of its header.")
            file.seek(_HEADER.size)
            bad_frame = _skip_sound_frames(file, header)
            lost_count = _count_lost_commits(file, header, bad_frame)
    if lost_count >= 2:
        raise DamagedFiles(
            f"{wal} is damaged: frame {bad_frame + 1} lies before later commits."
        )


def _parse_header(raw: bytes) -> _Header | None:
    magic, _, page_bytes, _, salt_1, salt_2, sum_1, sum_2 = _HEADER.unpack(raw)
    orders = {_MAGIC_LITTLE_ENDIAN: "<", _MAGIC_BIG_ENDIAN: ">"}
    if magic not in orders:
        return None
    order = orders[magic]
    if _add(order, raw[:24], (0, 0)) != (sum_1, sum_2):
        return None
    return _Header(order, page_bytes, (salt_1, salt_2), (sum_1, sum_2))


def _skip_sound_frames(file: BinaryIO, header: _Header) -> int:
    """Count the frames up to the last commit before the first bad frame."""
    running, frame, committed = header.checksum, 0, 0
    while True:
        raw = file.read(_FRAME.size)
        page = file.read(header.page_bytes)
        if len(raw) < _FRAME.size or len(page) < header.page_bytes:
            return committed
        _, database_pages, *salts, sum_1, sum_2 = _FRAME.unpack(raw)
        running = _add(header.byte_order, raw[:8] + page, running)
        if tuple(salts) != header.salts or running != (sum_1, sum_2):
            return committed
        frame += 1
        if database_pages:
            committed = frame


def _count_lost_commits(file: BinaryIO, header: _Header, first: int) -> int:
    """Count commits of this generation from frame `first` on, whole or not."""
    lost, uncertain = 0, 0
    step = _FRAME.size + header.page_bytes
    frame = first
    while True:
        file.seek(_HEADER.size + frame * step)
        raw = file.read(_FRAME.size)
        if len(raw) < _FRAME.size:
            return lost
        _, database_pages, *salts, _, _ = _FRAME.unpack(raw)
        # A commit frame with other salts is an older generation's, unless one of ours
        # follows it: then its salts are what was damaged.
        uncertain += database_pages != 0
        if tuple(salts) == header.salts:
            lost, uncertain = lost + uncertain, 0
        frame += 1


def _add(byte_order: str, data: bytes, start: _Sum) -> _Sum:
    """Run SQLite's checksum over `data`, whose length is a multiple of 8."""
    sum_1, sum_2 = start
    words = struct.unpack(f"{byte_order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        sum_1 = (sum_1 + first + sum_2) & _MASK
        sum_2 = (sum_2 + second + sum_1) & _MASK
    return sum_1, sum_2
