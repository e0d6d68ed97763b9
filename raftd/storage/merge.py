"""Merges state.db's deltas into a new base: `python -m raftd.storage.merge PATH`.

A process of its own, because reading and packing every row holds up the loop (and the
interpreter) of a node for too long. It reads as of one moment, writes the new base
beside the old one in small transactions between which the node's checkpoints get
their turn, and swaps by changing one row.

Rules: each transaction first looks whether the merge's mark is still there; if not,
the state was replaced or a node has started anew, and the merge ends without effect.
A crash at any point leaves the old base, and rubbish that the next sweep removes.

Source: DESIGN.md section 6 (state.db).
"""

import argparse
import gc
import os
import secrets
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path

from raftd.storage.chunks import pack
from raftd.storage.errors import DamagedFiles, DiskFull, StorageError, translate_errors
from raftd.storage.files import META_UPSERT, encode_meta
from raftd.storage.state_reader import (
    read_chunks,
    read_marks,
    read_staging,
    unpack_chunk,
)
from raftd.storage.state_rows import (
    BASE,
    CHUNK_INSERT,
    DELTA_ID_MAX,
    MERGE,
    META_DELETE,
    NO_IDS,
    SWEEP_SQL,
    BaseMark,
    base_ids,
    chunk_row,
    merge_generation,
)

__all__ = ["EXIT_DAMAGED", "EXIT_FULL", "EXIT_OVERTAKEN", "main", "merge"]

EXIT_DAMAGED = 3
EXIT_OVERTAKEN = 4
EXIT_FULL = 5
_EXIT_FAILED = 1
#: Longer than any checkpoint of the node should hold the file.
_BUSY_S = 60.0
#: Written in one transaction: about 1 MiB.
_SLICE_CHUNKS = 16
_NICENESS = 10
_REST_S_MAX = 0.2
#: A rest against the work before it.
_REST_SHARE = 3.0
_MARK_BYTES = 16


class _OvertakenError(Exception):
    """The mark is gone."""


def merge(path: Path) -> bool:
    """Merge what is alive in state.db into one new base.

    Returns:
        False if the state was replaced meanwhile; nothing was merged then.

    Raises:
        DamagedFiles: A chunk is missing or altered; nothing was merged.
        DiskFailed: The disk refused; nothing was merged.
    """
    with (
        translate_errors(path, "merge"),
        closing(sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)) as db,
    ):
        db.execute("PRAGMA synchronous=FULL")
        try:
            _Merge(path, db).run()
        except _OvertakenError:
            return False
        return True


class _Merge:
    """One merge, from its mark to the sweep."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db
        self._mark = encode_meta(MERGE, secrets.token_bytes(_MARK_BYTES))

    def run(self) -> None:
        with self._exclusive():
            old, state = read_marks(self._db, self._path)
            self._db.execute(META_UPSERT, self._mark)
        self._sweep(old)
        try:
            new = self._write_base(merge_generation(old), state.last_delta)
            with self._marked():
                self._db.execute(META_UPSERT, encode_meta(BASE, new))
        except sqlite3.OperationalError:
            # Want of room, most likely: give back what was taken of it.
            with suppress(_OvertakenError, sqlite3.OperationalError):
                self._sweep(old)
            raise
        # The swap is done; whoever removes the mark from here on sweeps as well.
        with suppress(_OvertakenError):
            self._sweep(new)
            with self._marked():
                self._db.execute(META_DELETE, (MERGE,))

    def _write_base(self, generation: int, last_delta: int) -> BaseMark:
        rows: dict[tuple[int, bytes], bytes | None] = {}
        for chunk in read_chunks(self._path, last_delta):
            for table, key, value in unpack_chunk(self._path, chunk):
                rows[table, key] = value
        # A base begins with nothing, so what is deleted needs no row; and as each row
        # is there once, their order says nothing.
        alive = (
            (table, key, value)
            for (table, key), value in rows.items()
            if value is not None
        )
        numbered = enumerate(pack(alive), base_ids(BaseMark(generation)).first)
        count = 0
        while part := list(islice(numbered, _SLICE_CHUNKS)):
            inserts = [chunk_row(at, data) for at, data in part]
            with self._marked():
                self._db.executemany(CHUNK_INSERT, inserts)
            count += len(part)
        return BaseMark(generation, count, last_delta)

    def _sweep(self, base: BaseMark) -> None:
        """Remove what is neither of `base` nor a delta behind it nor staged."""
        alive = (*base_ids(base), base.merged_delta + 1, DELTA_ID_MAX)
        is_done = False
        while not is_done:
            with self._marked():
                staged = read_staging(self._db, self._path)
                needed = (*alive, *(base_ids(staged) if staged else NO_IDS))
                is_done = not self._db.execute(SWEEP_SQL, needed).fetchall()

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Run a transaction that has an effect only if the mark is still there.

        Then rest: the disk's syncs, and the processor, are the log's, too.
        """
        begin_s = time.monotonic()
        with self._exclusive():
            rows = self._db.execute("SELECT * FROM meta WHERE name = ?", (MERGE,))
            if rows.fetchone() != self._mark:
                raise _OvertakenError
            yield
        used_s = time.monotonic() - begin_s
        time.sleep(min(_REST_S_MAX, _REST_SHARE * used_s))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # Some errors make SQLite do so by itself.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def main(arguments: list[str] | None = None) -> int:
    """Merge one file and tell by the exit code what became of it."""
    parser = argparse.ArgumentParser(prog="raftd.storage.merge", description="Merge.")
    parser.add_argument("path", type=Path, help="a state.db")
    parser.add_argument(
        "--until-eof", action="store_true", help="end when standard input does"
    )
    options = parser.parse_args(arguments)
    if options.until_eof:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICENESS)
    try:
        return 0 if merge(options.path) else EXIT_OVERTAKEN
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        match error:
            case DamagedFiles():
                return EXIT_DAMAGED
            case DiskFull():
                return EXIT_FULL
            case _:
                return _EXIT_FAILED


def _end_with_parent() -> None:
    # Not sys.stdin: its lock would be held when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(_EXIT_FAILED)


if __name__ == "__main__":
    gc.disable()  # rows by the million, none in a cycle, and the process ends soon
    sys.exit(main())
