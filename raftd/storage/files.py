"""What log.db and state.db have in common: header, meta rows, checks, durability.

A raftd database is an SQLite file with an application id of its kind, the format
version as user version, and a table `meta` of small named values with checksums.

Rules: a file appears under its name only when it is complete and synced. Looking at a
file changes nothing: SQLite folds no write-ahead log when a connection that only reads
closes. The schema is compared as text, so no flipped bit can change
what a statement means.

Source: RELIABILITY.md section 0 findings 1 and 2, rules 46 and 49; the SQLite file
format (header offsets 60 and 68).
"""

import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import aiosqlite
import msgspec

from raftd.storage.errors import (
    BAD_BYTES,
    DamagedFiles,
    DiskFailed,
    ForeignFiles,
    NewerFormat,
    translate_errors,
)
from raftd.storage.identity import FORMAT_VERSION, Identity

__all__ = [
    "IDENTITY",
    "META_UPSERT",
    "FileKind",
    "check_file",
    "connect_reader",
    "connect_writer",
    "connect_writer_here",
    "create_file",
    "decode_meta",
    "encode_meta",
    "extend_bytes",
    "fold_wal",
    "meta_crc",
    "read_meta",
    "reading",
    "reading_at_rest",
    "rewrite_bytes",
    "sync_bytes",
    "sync_directory",
    "wal_path",
]

#: Name of the meta row that both kinds have.
IDENTITY = "identity"
META_UPSERT = "INSERT OR REPLACE INTO meta(name, value, crc) VALUES (?, ?, ?)"

_META_TABLE = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL,"
    " crc INTEGER NOT NULL) WITHOUT ROWID"
)
_SQLITE_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_USER_VERSION_OFFSET = 60
_APPLICATION_ID_OFFSET = 68
#: How long a writer waits for another one's slice.
_BUSY_S = 10.0
#: What the write-ahead log keeps of the disk after a large transaction.
_WAL_KEPT_BYTES = 64 * 1024 * 1024
_FORMAT_VERSION_MIN = 1
_WRITER_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "fullfsync=ON",
    "checkpoint_fullfsync=ON",
    # Overwriting freed pages with zeros doubles the cost of a cut.
    "secure_delete=OFF",
    "temp_store=MEMORY",
    f"journal_size_limit={_WAL_KEPT_BYTES}",
)
_REWRITE_BYTES = 1024 * 1024
#: Room is taken in advance only where so many times as much is free.
_PLENTY_TIMES = 32

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FileKind:
    """One of the two kinds of database."""

    name: str
    application_id: int
    #: The table beside `meta`, by name, as the statement that creates it.
    table: str
    table_sql: str

    @property
    def schema(self) -> dict[str, str]:
        """Every table's statement, as SQLite keeps it."""
        return {"meta": _META_TABLE, self.table: self.table_sql}


def wal_path(path: Path) -> Path:
    """Name SQLite's write-ahead log of a database."""
    return path.with_name(path.name + "-wal")


def meta_crc(name: str, value: bytes) -> int:
    """Checksum a meta row, its name included."""
    return zlib.crc32(value, zlib.crc32(name.encode()))


def encode_meta(name: str, value: object) -> tuple[str, bytes, int]:
    """Make the parameters of `META_UPSERT`."""
    data = msgspec.msgpack.encode(value)
    return name, data, meta_crc(name, data)


def decode_meta(path: Path, meta: Mapping[str, bytes], name: str, kind: type[_T]) -> _T:
    """Take one typed value out of `read_meta`'s answer.

    Raises:
        DamagedFiles: It is missing or is not what it should be.
    """
    if name not in meta:
        raise DamagedFiles(f"{path} is damaged: its {name} record is missing.")
    try:
        return msgspec.msgpack.decode(meta[name], type=kind)
    except BAD_BYTES as error:
        raise DamagedFiles(f"{path} is damaged: {name} record: {error}.") from error


def create_file(
    path: Path,
    kind: FileKind,
    meta: Mapping[str, object],
    fill: Callable[[sqlite3.Connection], None] | None = None,
) -> None:
    """Make a database that is there whole, synced, or not at all.

    Args:
        path: Where; a file of this name is replaced.
        kind: Of its table.
        meta: Values of its meta rows, by name.
        fill: Puts more into it, within the same transaction.

    Raises:
        DiskFailed: The disk refused.
    """
    unfinished = path.with_name(path.name + ".new")
    with translate_errors(path, "create"):
        for leftover in (unfinished, wal_path(unfinished)):
            leftover.unlink(missing_ok=True)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN")
            db.execute(f"PRAGMA application_id={kind.application_id}")
            db.execute(f"PRAGMA user_version={FORMAT_VERSION}")
            for statement in kind.schema.values():
                db.execute(statement)
            db.executemany(META_UPSERT, [encode_meta(*item) for item in meta.items()])
            if fill is not None:
                fill(db)
            db.execute("COMMIT")
        # Closing folded the write-ahead log into the file and removed it.
        unfinished.rename(path)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_bytes(path: Path) -> None:
    """Send what was written to a file so far to the disk; nothing if it is not there.

    Raises:
        DiskFailed: The disk refused.
    """
    with translate_errors(path, "sync"):
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)


def rewrite_bytes(path: Path) -> None:
    """Write a file's bytes over themselves and sync; nothing if it is not there.

    After a sync that failed, the lost pages count as clean and read back as if they
    were safe. Only writing them again makes the next sync cover them.

    Raises:
        DiskFailed: The disk refused.
    """
    with translate_errors(path, "rewrite"):
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            offset = 0
            while block := os.pread(handle, _REWRITE_BYTES, offset):
                view = memoryview(block)
                while view:
                    written = os.pwrite(handle, view, offset)
                    offset, view = offset + written, view[written:]
            os.fsync(handle)
        finally:
            os.close(handle)


def extend_bytes(path: Path, size_bytes: int) -> None:
    """Lengthen a file that nobody writes, with zeros, synced, if room is plenty.

    Raises:
        DiskFailed: The disk refused.
    """
    with translate_errors(path, "write"):
        handle = os.open(path, os.O_RDWR)
        try:
            end = before = os.fstat(handle).st_size
            system = os.fstatvfs(handle)
            if system.f_bavail * system.f_frsize < _PLENTY_TIMES * size_bytes:
                return
            try:
                while end < size_bytes:
                    zeros = bytes(min(_REWRITE_BYTES, size_bytes - end))
                    end += os.pwrite(handle, zeros, end)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)


def connect_reader(path: Path, *, is_immutable: bool = False) -> sqlite3.Connection:
    """Open a connection that cannot change the file; the caller closes it."""
    uri = f"file:{quote(str(path))}?mode=ro&immutable={is_immutable:d}"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
    )


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Lend a read-only connection with one read transaction; errors become ours."""
    with translate_errors(path, "read"), closing(connect_reader(path)) as db:
        db.execute("BEGIN")
        yield db


@contextmanager
def reading_at_rest(path: Path) -> Iterator[sqlite3.Connection]:
    """Do as `reading`, of a file that no connection has open."""
    is_whole = not wal_path(path).exists() or not wal_path(path).stat().st_size
    # Told that nobody writes, SQLite does not even put its own files beside it.
    with (
        translate_errors(path, "read"),
        closing(connect_reader(path, is_immutable=is_whole)) as db,
    ):
        db.execute("BEGIN")
        yield db


async def connect_writer(path: Path) -> aiosqlite.Connection:
    """Open the connection that writes: every commit is synced before it returns."""
    with translate_errors(path, "open"):
        db = await aiosqlite.connect(
            path, isolation_level=None, timeout=_BUSY_S, cached_statements=512
        )
        try:
            for pragma in _WRITER_PRAGMAS:
                await db.execute_fetchall(f"PRAGMA {pragma}")
        except BaseException:
            # Its thread would outlive everything else.
            await db.close()
            raise
        return db


def connect_writer_here(path: Path) -> sqlite3.Connection:
    """Open one more connection that writes, for the calling thread alone."""
    db = sqlite3.connect(
        path, isolation_level=None, timeout=_BUSY_S, cached_statements=512
    )
    try:
        for pragma in (*_WRITER_PRAGMAS, "wal_autocheckpoint=0"):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


async def fold_wal(db: aiosqlite.Connection, path: Path) -> None:
    """Move everything from the write-ahead log into the file, synced.

    Raises:
        DiskFailed: It did not all get there.
    """
    with translate_errors(path, "sync"):
        (row,) = await db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    if row[0] != 0:
        raise DiskFailed(f"Cannot sync {path}: another process is reading it.")


def check_file(path: Path, kind: FileKind) -> Identity:
    """Look whether a file is a sound database of `kind`, changing nothing.

    Returns:
        Whom it belongs to.

    Raises:
        ForeignFiles: Not a raftd database of this kind.
        NewerFormat: Written by a later raftd.
        DamagedFiles: Broken structure, schema or meta.
        DiskFailed: It cannot be read.
    """
    _check_header(path, kind)
    with reading_at_rest(path) as db:
        # The write-ahead log may know more than the header of the file.
        (version,) = db.execute("PRAGMA user_version").fetchone()
        _check_version(path, version)
        schema = dict(db.execute("SELECT name, sql FROM sqlite_schema ORDER BY name"))
        if schema != kind.schema:
            raise DamagedFiles(f"{path} is damaged: its tables are not raftd's.")
        (verdict, *_) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            complaint = " ".join(str(verdict).split())
            raise DamagedFiles(f"{path} is damaged: {complaint}.")
        identity = decode_meta(path, read_meta(db, path), IDENTITY, Identity)
        _check_version(path, identity.format_version)
        return identity


def read_meta(db: sqlite3.Connection, path: Path) -> dict[str, bytes]:
    """Read all meta rows, verified.

    Raises:
        DamagedFiles: A checksum does not fit.
    """
    meta: dict[str, bytes] = {}
    for name, value, crc in db.execute("SELECT name, value, crc FROM meta"):
        if not isinstance(value, bytes) or meta_crc(name, value) != crc:
            raise DamagedFiles(f"{path} is damaged: checksum of its {name} record.")
        meta[name] = value
    return meta


def _check_header(path: Path, kind: FileKind) -> None:
    with translate_errors(path, "read"), path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_SQLITE_MAGIC) or len(header) < _HEADER_BYTES:
        raise ForeignFiles(f"{path} is not a raftd database, or its start is damaged.")
    (application_id,) = struct.unpack_from(">I", header, _APPLICATION_ID_OFFSET)
    if application_id != kind.application_id:
        raise ForeignFiles(f"{path} is not a raftd {kind.name} database.")
    (version,) = struct.unpack_from(">I", header, _USER_VERSION_OFFSET)
    _check_version(path, version)


def _check_version(path: Path, version: int) -> None:
    if version > FORMAT_VERSION:
        raise NewerFormat(
            f"{path} has format {version}, written by a later raftd;"
            f" this one knows formats up to {FORMAT_VERSION}."
        )
    if version < _FORMAT_VERSION_MIN:
        raise DamagedFiles(f"{path} is damaged: there is no format {version}.")
