"""A backup: one file, written and read as a stream, that proves itself whole.

Layout, all numbers with the big end first; docs/backup.md is the long form:

    preamble   magic 8 bytes, version u16, crc32 of these ten bytes
    frame      kind u8, length u32, crc32 of the payload, crc32 of these nine bytes and
               of the frame's number (u64); then the payload
    frames     one HEADER (msgpack map), one CHUNK for each chunk of the state (as
               state.db has it, oldest first), one TRAILER (msgpack map)

Rules: every byte is covered by a checksum, and the trailer's blake2b covers all before
it, so neither a flipped bit nor a missing, doubled or exchanged frame goes unseen.
Fields of the two maps are only ever added, and are optional when they come later; what
a reader must not skip raises the version. A reader knows all versions up to its own.

Source: SEMANTICS.md section 7 (Backup).
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeVar

import msgspec

from raftd.storage.chunks import Row, unpack
from raftd.storage.errors import BAD_BYTES, StorageError, translate_errors

__all__ = [
    "BACKUP_VERSION",
    "BackupError",
    "BackupHeader",
    "BackupReader",
    "BackupWriter",
]

BACKUP_VERSION: Final = 1

_MAGIC: Final = b"\x8araftBK\n"
_PREAMBLE: Final = struct.Struct(">8sHI")
_HEAD: Final = struct.Struct(">BIII")
_HEAD_CHECKED: Final = struct.Struct(">BIIQ")
_HEADER, _CHUNK, _TRAILER = 1, 2, 3
_NAMES: Final = {_HEADER: "header", _CHUNK: "chunk", _TRAILER: "trailer"}
_DIGEST_BYTES: Final = 32

_T = TypeVar("_T")


class BackupError(StorageError):
    """The file is no backup, or not whole: take another one."""


class BackupHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of."""

    #: The version of the raftd that made it.
    release: str
    cluster_name: str
    cluster_id: bytes
    #: The member that it was made through.
    node_id: int
    #: When, by that member's clock.
    wall_ms: int
    #: The newest entry that the state includes.
    index: int
    term: int
    revision: int
    #: Of the state at `index`.
    digest: bytes
    #: The members at `index`, encoded by the node as in a checkpoint.
    roster: bytes
    chunk_count: int
    chunk_bytes: int


class _Trailer(msgspec.Struct, frozen=True, kw_only=True):
    chunk_count: int
    #: Of every byte before the trailer's frame.
    digest: bytes


class BackupWriter:
    """Makes the bytes of a backup, piece by piece; what it gave out it forgets."""

    def __init__(self) -> None:
        self._hash: Final = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._number = 0
        self._chunks_left = 0
        self._chunk_count = 0

    def begin(self, header: BackupHeader) -> bytes:
        """Return what comes first."""
        assert not self._number, "a backup begins once"
        self._chunks_left = self._chunk_count = header.chunk_count
        checked = _MAGIC + BACKUP_VERSION.to_bytes(2, "big")
        preamble = _PREAMBLE.pack(_MAGIC, BACKUP_VERSION, zlib.crc32(checked))
        self._hash.update(preamble)
        return preamble + self._frame(_HEADER, msgspec.msgpack.encode(header))

    def add(self, chunk: bytes) -> bytes:
        """Return the next chunk's bytes."""
        assert self._chunks_left, "the header announced fewer chunks"
        self._chunks_left -= 1
        return self._frame(_CHUNK, chunk)

    def finish(self) -> bytes:
        """Return what comes last."""
        assert not self._chunks_left, "the header announced more chunks"
        trailer = _Trailer(chunk_count=self._chunk_count, digest=self._hash.digest())
        return self._frame(_TRAILER, msgspec.msgpack.encode(trailer))

    def _frame(self, kind: int, payload: bytes) -> bytes:
        length, crc = len(payload), zlib.crc32(payload)
        head_crc = zlib.crc32(_HEAD_CHECKED.pack(kind, length, crc, self._number))
        frame = _HEAD.pack(kind, length, crc, head_crc) + payload
        self._number += 1
        self._hash.update(frame)
        return frame


class BackupReader:
    """Reads a backup once, front to back, and verifies every byte on the way.

    A context manager. The file is proven whole only when `chunks` or `rows` has come
    to its end without an error: act on nothing before.
    """

    def __init__(self, path: Path) -> None:
        """Open a backup and read its header.

        Raises:
            BackupError: It is no backup, of a later version, or damaged.
            DiskFailed: It cannot be read.
        """
        self._path: Final = path
        self._hash: Final = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._number = 0
        #: Of the whole file before its trailer; known when all was read.
        self.digest = b""
        with translate_errors(path, "read"):
            self._file: Final[BinaryIO] = path.open("rb")
        try:
            self.version: Final = self._read_preamble()
            kind, payload = self._read_frame()
            if kind != _HEADER:
                raise self._damaged("its first frame is no header")
            self.header: Final = self._decode(payload, BackupHeader)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """Give all chunks, oldest first; the end proves the file.

        Raises:
            BackupError: The file is damaged, or ends too early.
            DiskFailed: It cannot be read.
        """
        count = size_bytes = 0
        while True:
            digest = self._hash.digest()
            kind, payload = self._read_frame()
            if kind != _CHUNK:
                break
            count += 1
            size_bytes += len(payload)
            yield payload
        if kind != _TRAILER:
            raise self._damaged("a second header stands in the middle")
        trailer = self._decode(payload, _Trailer)
        if trailer.digest != digest:
            raise self._damaged("its digest does not fit")
        announced = self.header.chunk_count, self.header.chunk_bytes
        if (count, size_bytes) != announced or count != trailer.chunk_count:
            raise self._damaged("it has not the chunks that it announced")
        with translate_errors(self._path, "read"):
            if self._file.read(1):
                raise self._damaged("something follows its end")
        self.digest = digest

    def rows(self) -> Iterator[Row]:
        """Give all rows: of equal (table, key) the last one counts; see `chunks`."""
        for chunk in self.chunks():
            try:
                yield from unpack(chunk)
            except msgspec.DecodeError as error:
                raise self._damaged("a chunk holds no rows") from error

    # --- bytes -------------------------------------------------------------------

    def _read_preamble(self) -> int:
        data = self._read(_PREAMBLE.size)
        if not data.startswith(_MAGIC):
            raise BackupError(f"{self._path} is not a raftd backup.")
        _, version, crc = _PREAMBLE.unpack(data)
        if zlib.crc32(data[:10]) != crc:
            raise self._damaged("its first bytes were altered")
        if version > BACKUP_VERSION:
            raise BackupError(
                f"{self._path} has backup version {version}, made by a later raftd;"
                f" this one knows versions up to {BACKUP_VERSION}."
            )
        return int(version)

    def _read_frame(self) -> tuple[int, bytes]:
        head = self._read(_HEAD.size)
        kind, length, crc, head_crc = _HEAD.unpack(head)
        checked = _HEAD_CHECKED.pack(kind, length, crc, self._number)
        if zlib.crc32(checked) != head_crc or kind not in _NAMES:
            raise self._damaged(f"frame {self._number} was altered")
        payload = self._read(length)
        if zlib.crc32(payload) != crc:
            raise self._damaged(
                f"its {_NAMES[kind]} in frame {self._number} was altered"
            )
        self._number += 1
        return kind, payload

    def _read(self, count: int) -> bytes:
        with translate_errors(self._path, "read"):
            data = self._file.read(count)
        if len(data) < count:
            if not self._number and not data.startswith(_MAGIC):
                raise BackupError(f"{self._path} is not a raftd backup.")
            raise self._damaged("it ends too early")
        self._hash.update(data)
        return data

    def _decode(self, payload: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.msgpack.decode(payload, type=kind)
        except BAD_BYTES as error:
            raise self._damaged(f"it cannot be understood: {error}") from error

    def _damaged(self, what: str) -> BackupError:
        return BackupError(
            f"{self._path} is a damaged backup: {what}; nothing was taken from it."
        )
