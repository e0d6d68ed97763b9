"""Disks of nodes: images to mount, filling them up, harming files, losing power.

A power loss is played on real SQLite files: the shim keeps, in order, what each write
that no sync has followed has overwritten. Putting that back gives the file as it was
last synced; some of the lost writes may then have reached the disk all the same, whole
or in part, in any order.

Rules: files come and go as on a journalling file system, in order and with the syncs of
their data; no power loss here takes back that one was removed.

Source: RELIABILITY.md section 5 (full disk, power loss, corrupted byte, page, file),
section 0 finding 1.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "DISK_MIB",
    "HARMS",
    "Harm",
    "fill",
    "free",
    "harm",
    "make_image",
    "shorten",
    "undo_unsynced",
]

DISK_MIB: Final = 256
_FILLER: Final = "filler"
_MAKE_S: Final = 60.0
_PAGE: Final = 4096
_SECTOR: Final = 512
_LONG_BYTES: Final = 4 << 20


def make_image(image: Path, size_mib: int) -> None:
    """Make an empty file system in a file."""
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    # No reserve for root, who is the one to find the disk full.
    make = ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)]
    subprocess.run(make, check=True, capture_output=True, timeout=_MAKE_S)


def fill(folder: Path) -> None:
    """Take all the room that is left where a folder is."""
    path = folder / _FILLER
    path.touch()
    with path.open("ab", buffering=0) as file:
        for size in (1 << 24, 1 << 16, 1 << 12):
            while True:
                try:
                    at = file.seek(0, os.SEEK_END)
                    os.posix_fallocate(file.fileno(), at, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break


def free(folder: Path) -> None:
    """Give it back; nothing happens if nothing was taken."""
    (folder / _FILLER).unlink(missing_ok=True)


# --- Harm to files at rest -----------------------------------------------------------

HARMS: Final = ("byte", "page", "zeros", "cut", "gone")
"""Other bits, another page, nothing there, an early end, no file."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What was done to a file.

    Attributes:
        file: Its name.
        kind: One of ``HARMS``.
        offset: Where it begins.
        is_same: The bytes there were what they are now: nothing was harmed.
    """

    file: str
    kind: str
    offset: int
    is_same: bool = False


def harm(path: Path, kind: str, rng: random.Random) -> Harm:
    """Harm a file whose node does not run, at a place that is drawn."""
    size = path.stat().st_size
    if kind == "gone":
        path.unlink()
        return Harm(path.name, kind, 0)
    offset = rng.randrange(size) if size else 0
    if kind == "cut":
        os.truncate(path, offset)
        return Harm(path.name, kind, offset, is_same=offset == size)
    if kind != "byte":
        offset -= offset % _PAGE
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(1 if kind == "byte" else _PAGE)
        new = _harmed(old, kind, rng)
        file.seek(offset)
        file.write(new)
    return Harm(path.name, kind, offset, is_same=new == old)


def _harmed(old: bytes, kind: str, rng: random.Random) -> bytes:
    match kind:
        case "byte":
            return bytes(byte ^ 1 << rng.randrange(8) for byte in old)
        case "page":
            return rng.randbytes(len(old))
        case "zeros":
            return bytes(len(old))
        case _:
            raise ValueError(f"no such harm: {kind}")


# --- Power loss ----------------------------------------------------------------------

_HEAD: Final = struct.Struct("IIQQQQ")
_WRITTEN, _CUT, _SYNC_BEGUN, _SYNC_DONE, _REMOVED = range(1, 6)


@dataclass(frozen=True, slots=True)
class _Overwritten:
    """What a write found: the bytes at its place, and the size of the file.

    Attributes:
        size: Bytes of the write itself; of a cut, more than any file has.
    """

    kind: int
    offset: int
    old: bytes
    file_size: int
    size: int


def undo_unsynced(journal: Path, root: Path, rng: random.Random) -> int:
    """Put the files of a node that was killed into a state that a power loss leaves.

    Args:
        journal: What the shim has kept; begun anew afterwards.
        root: What paths in it begin with, for this process.
        rng: Draws which of the lost writes have reached the disk.

    Returns:
        How many writes were lost, whole or in part.
    """
    lost = 0
    for name, writes in _unsynced(journal).items():
        path = root / name.lstrip("/")
        if writes and path.exists():
            lost += _lose(path, writes, rng)
            path.with_name(path.name.removesuffix("-wal") + "-shm").unlink(
                missing_ok=True
            )
    journal.unlink(missing_ok=True)
    return lost


def shorten(journal: Path) -> None:
    """Drop what has been synced from what the shim has kept; its node does not run."""
    if not journal.exists() or journal.stat().st_size < _LONG_BYTES:
        return
    shorter = journal.with_suffix(".shorter")
    with shorter.open("wb") as file:
        for name, writes in _unsynced(journal).items():
            text = name.encode()
            for write in writes:
                sizes = (write.offset, len(write.old), write.file_size, write.size)
                file.write(_HEAD.pack(write.kind, len(text), *sizes))
                file.write(text + write.old)
    shorter.rename(journal)


def _unsynced(journal: Path) -> dict[str, list[_Overwritten]]:
    """Return the writes of each file that no sync has followed, in order."""
    writes: dict[str, list[_Overwritten]] = {}
    syncs: dict[str, dict[int, int]] = {}
    for name, kind, number, write in _records(journal):
        found, begun = writes.setdefault(name, []), syncs.setdefault(name, {})
        if kind in {_WRITTEN, _CUT}:
            found.append(write)
        elif kind == _SYNC_BEGUN:
            begun[number] = len(found)
        elif kind == _SYNC_DONE:
            covered = begun.pop(number, 0)
            del found[:covered]
            # Others that are under way began at places that have moved.
            begun.update({n: max(0, at - covered) for n, at in begun.items()})
        else:
            found.clear()
            begun.clear()
    return writes


def _records(journal: Path) -> Iterator[tuple[str, int, int, _Overwritten]]:
    data = journal.read_bytes() if journal.exists() else b""
    at = 0
    while at + _HEAD.size <= len(data):
        head = _HEAD.unpack_from(data, at)
        kind, name_size, offset, size, file_size, number = head
        begin = at + _HEAD.size + name_size
        name = data[begin - name_size : begin].decode()
        old = data[begin : begin + size]
        at = begin + size
        yield name, kind, number, _Overwritten(kind, offset, old, file_size, number)


def _lose(path: Path, writes: list[_Overwritten], rng: random.Random) -> int:
    """Take back all writes, then let some of them happen after all."""
    news: list[bytes] = []
    with path.open("r+b") as file:
        for write in reversed(writes):
            file.seek(write.offset)
            news.append(file.read(write.size) if write.kind == _WRITTEN else b"")
            file.seek(write.offset)
            file.write(write.old)
            file.truncate(write.file_size)
        news.reverse()
        kept = _kept(len(writes), rng)
        for index in kept:
            if writes[index].kind == _WRITTEN:
                file.seek(writes[index].offset)
                file.write(_torn(news[index], rng))
    return len(writes) - len(kept)


def _kept(count: int, rng: random.Random) -> list[int]:
    """Choose which writes were done: none, the first ones, or any."""
    match rng.randrange(3):
        case 0:
            return []
        case 1:
            return [*range(rng.randrange(count + 1))]
        case _:
            return [index for index in range(count) if rng.random() < 0.5]


def _torn(data: bytes, rng: random.Random) -> bytes:
    """Return all of a write, or what was done of it: whole sectors."""
    if rng.random() < 0.5:
        return data
    return data[: rng.randrange(len(data) // _SECTOR + 1) * _SECTOR]
