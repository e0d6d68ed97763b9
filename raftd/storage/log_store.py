"""log.db: the Raft log, term and vote. What `write` has returned for is durable.

Rules: writes are made durable in the order of the calls, one after the other, so a
row can say up to where everything before it was synced. Term and vote never go back
and nothing at or below the stored commit index is ever cut: both are asserted here
too, although the core promises them. The first error ends the store: every later call
raises it again, because a later sync may succeed over lost bytes. A disk without room
is the exception: then nothing of the write is there, what is known of the log is what
it was, and the same write may be tried again.

Everything a write changes is one statement, or one transaction where that would be too
long.

Source: DESIGN.md section 6 (log.db); RELIABILITY.md section 0, rules 23-27, 31, 49-51.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from raftd.consensus.ready import Write
from raftd.consensus.types import Entry, Index, Term
from raftd.storage.errors import DiskFull
from raftd.storage.files import (
    connect_writer,
    encode_meta,
    rewrite_bytes,
    wal_path,
)
from raftd.storage.identity import Identity
from raftd.storage.log_known import Known, assert_forward, later_state
from raftd.storage.log_reader import LogReader
from raftd.storage.log_recovery import LogScan, scan_log
from raftd.storage.log_rows import (
    CUT_POINT,
    HEAD,
    Change,
    CutPoint,
    meta_change,
    range_change,
)
from raftd.storage.log_writer import LogWriter
from raftd.storage.types import CheckpointMeta, InstallMark, LogRecovery
from raftd.storage.wal import check_wal

__all__ = ["TAIL_BYTES_MAX", "LogStore"]

#: Of the newest payloads handed over at start.
TAIL_BYTES_MAX = 16 * 1024 * 1024
#: Rows removed from the front in one turn: so many first, then as many as take about
#: so long, because an append waits for it, and a row may be small or large.
_CUT_ROWS_FIRST = 16
_CUT_ROWS_MAX = 1000
_CUT_S = 0.01


class LogStore:
    """The log of one node. Comes from `open`, through `open_stores`."""

    def __init__(
        self, path: Path, scan: LogScan, reader: LogReader, writer: LogWriter
    ) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._identity = scan.identity
        self._known = Known(
            hard_state=scan.head.hard_state,
            commit=scan.recovery.commit,
            sealed_index=scan.head.sealed_index,
            cut=scan.cut,
            last_index=scan.recovery.last_index,
            last_crc=scan.last_crc,
        )
        # First come, first served: this is the order of writes.
        self._lock = asyncio.Lock()
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        checkpoint: CheckpointMeta | None = None,
        *,
        tail_bytes_max: int = TAIL_BYTES_MAX,
    ) -> tuple[Self, LogRecovery]:
        """Verify the log, finish what a crash left, and make it all durable again.

        Args:
            path: Of log.db, found sound by `check_file`.
            checkpoint: The newest of state.db; nothing it needs may be missing.
            tail_bytes_max: How many bytes of the newest payloads to hand over.

        Returns:
            The store, and what was found.

        Raises:
            DamagedFiles: Something promised is gone. Nothing was changed.
            DiskFailed: The disk refused.
        """
        await asyncio.to_thread(check_wal, path)
        scan = await asyncio.to_thread(scan_log, path, checkpoint, tail_bytes_max)
        await asyncio.to_thread(rewrite_bytes, wal_path(path))
        writer = LogWriter(path, await connect_writer(path))
        store = cls(path, scan, LogReader(path), writer)
        try:
            await writer.prepare()
            store._reader.connect()
            recovery = await store._finish(scan, checkpoint)
            await store._seal()
        except BaseException:
            store._reader.close()
            await writer.close()
            raise
        return store, recovery

    @property
    def files(self) -> tuple[Path, Path]:
        """Name the two files that hold it while it is open."""
        return self._path, wal_path(self._path)

    @property
    def identity(self) -> Identity:
        """Whom the log belongs to."""
        return self._identity

    @property
    def first_index(self) -> Index:
        """One past what was cut away."""
        return Index(self._known.cut.index + 1)

    @property
    def last_index(self) -> Index:
        """The newest durable entry."""
        return self._known.last_index

    async def write(self, write: Write) -> None:
        """Make one write of the core durable.

        Args:
            write: Its entries follow the last one, or begin at `truncate_from`.

        Raises:
            DiskFull: It is not there and will not be, whatever happens; the same may be
                tried again.
            DiskFailed: It may or may not be there after a restart: end the process.
        """
        assert write.install is None, "an install goes through state.db and `reset`"
        async with self._lock:
            self._writer.check()
            known, changes = self._change_head(write)
            rows = known.chain(write.entries)
            await self._writer.store(changes, rows)
            self._known = known.after(rows) if rows else known

    def write_here(self, write: Write) -> bool:
        """Make a write durable before this returns, if that is the better way now.

        It is for a small one that only appends, to a disk that is quick, when nothing
        else is under way. The caller's thread waits, and does no more meanwhile.

        Returns:
            Whether it is durable; else nothing was done, and `write` does it.

        Raises:
            DiskFailed: It may or may not be there after a restart: end the process.
        """
        if (
            not write.entries
            or write.hard_state is not None
            or write.truncate_from is not None
            or write.install is not None
            or self._is_closed
            or self._lock.locked()
            or not self._writer.may_store_here(write.entries)
        ):
            return False
        known, _ = self._change_head(write)
        rows = known.chain(write.entries)
        if not self._writer.store_here(rows):
            return False
        self._known = known.after(rows)
        return True

    async def make_room(self) -> None:
        """Let the write-ahead log not grow while it is written; before work begins.

        Raises:
            DiskFailed: The disk refused: end the process.
        """
        async with self._lock:
            with suppress(DiskFull):
                await self._writer.store_meta(HEAD, self._known.head)
                await self._writer.make_room()

    def read(self, low: Index, high: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Read entries for a follower that is behind what memory holds.

        Args:
            low: The first one wanted; at least `first_index`.
            high: One past the last one wanted.
            bytes_max: Of payloads; the first entry comes whatever its size.

        Returns:
            As many as fit and are durable, without a gap.

        Raises:
            DamagedFiles: An entry is not what was written.
            DiskFailed: The disk refused.
        """
        assert low >= self.first_index, "these entries were cut away"
        return self._reader.read(self._known.cut, low, high, bytes_max)

    async def cut_prefix(self, upto: int) -> None:
        """Remove entries that a durable checkpoint makes needless, slice by slice.

        Args:
            upto: The last one to go; committed. Below the first one there is no work.

        Raises:
            DiskFull: Not everything is removed; may be tried again.
            DiskFailed: The disk refused: end the process.
        """
        known = self._known
        assert upto <= min(known.commit, known.last_index), "cuts what is needed"
        count = _CUT_ROWS_FIRST
        while True:
            async with self._lock:
                cut = self._known.cut
                if cut.index >= upto:
                    return  # nothing more, or a reset came first
                begin_s = time.perf_counter()
                end = Index(min(upto, cut.index + count))
                term, crc = self._reader.read_mark(cut, end)
                cut = CutPoint(end, term, crc, cut.install_id)
                changes = [
                    range_change(end, is_suffix=False),
                    _set_meta(CUT_POINT, cut),
                ]
                await self._writer.store(changes, ())
                self._known = replace(self._known, cut=cut)
                used_s = time.perf_counter() - begin_s
            if used_s > _CUT_S:
                count = max(1, count // 2)
            else:
                count = min(_CUT_ROWS_MAX, 2 * count)
            await asyncio.sleep(used_s)  # the disk's turn to serve appends

    async def reset(self, index: Index, term: Term, mark: InstallMark) -> None:
        """Drop the whole log: it goes on after a state installed at `index`.

        Args:
            index: Applied index of the installed state, already durable in state.db.
            term: Of that entry.
            mark: The same as in the checkpoint.

        Raises:
            DiskFull: The log is what it was, and has to be reset before it is written
                again; may be tried again.
            DiskFailed: The disk refused: end the process.
        """
        async with self._lock:
            cut = CutPoint(index, term, 0, mark.install_id)
            known = Known(
                hard_state=later_state(self._known.hard_state, mark.hard_state),
                commit=index,
                sealed_index=index,
                cut=cut,
                last_index=index,
                last_crc=cut.crc,
            )
            changes = [
                range_change(Index(0), is_suffix=True),
                _set_meta(CUT_POINT, cut),
                _set_meta(HEAD, known.head),
            ]
            await self._writer.store(changes, ())
            self._known = known

    async def write_identity(self, identity: Identity) -> None:
        """Store whom the log belongs to; state.db must say so already.

        Raises:
            DiskFailed: The disk refused: end the process.
        """
        async with self._lock:
            await self._writer.store_identity(identity)
            self._identity = identity

    async def close(self) -> None:
        """Seal the log and fold it into one file. May be called twice.

        Raises:
            DiskFailed: It could not be sealed; the next start recovers it.
        """
        async with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                if not self._writer.has_failed:
                    # All is durable where it is; the next start puts it in order.
                    with suppress(DiskFull):
                        await self._seal()
            finally:
                self._reader.close()
                await self._writer.close()

    async def _finish(
        self, scan: LogScan, checkpoint: CheckpointMeta | None
    ) -> LogRecovery:
        """Complete what a crash interrupted."""
        if scan.pending_install is None:
            if scan.remove_from is not None:
                change = range_change(scan.remove_from, is_suffix=True)
                await self._writer.store([change], ())
            return scan.recovery
        assert checkpoint is not None, "a pending install is part of a checkpoint"
        applied = checkpoint.applied_index, checkpoint.applied_term
        await self.reset(*applied, scan.pending_install)
        return LogRecovery(
            hard_state=self._known.hard_state,
            commit=self._known.commit,
            first_index=self.first_index,
            last_index=self.last_index,
            previous_term=self._known.cut.term,
            term_runs=(),
            tail=(),
        )

    async def _seal(self) -> None:
        """Say in the file where the log ends, and make every byte of it durable."""
        sealed = replace(self._known, sealed_index=self._known.last_index)
        await self._writer.store_meta(HEAD, sealed.head)
        self._known = sealed
        await self._writer.fold_all()

    def _change_head(self, write: Write) -> tuple[Known, list[Change]]:
        """Prepare what a write changes besides adding entries: mostly nothing."""
        old = self._known
        assert write.commit >= old.commit, "the commit index fell"
        known = replace(old, commit=write.commit)
        if write.hard_state is None and write.truncate_from is None:
            return known, []
        changes: list[Change] = []
        if write.hard_state is not None:
            assert_forward(old.hard_state, write.hard_state)
            known = replace(known, hard_state=write.hard_state)
        if write.truncate_from is not None:
            last_kept = Index(write.truncate_from - 1)
            assert old.commit <= last_kept, "cuts committed entries"
            assert old.cut.index <= last_kept < old.last_index, "cuts nothing"
            _, crc = self._reader.read_mark(old.cut, last_kept)
            sealed = min(old.sealed_index, last_kept)
            known = replace(
                known, last_index=last_kept, last_crc=crc, sealed_index=sealed
            )
            changes.append(range_change(write.truncate_from, is_suffix=True))
        return known, [*changes, _set_meta(HEAD, known.head)]


def _set_meta(name: str, value: object) -> Change:
    return meta_change(*encode_meta(name, value))
