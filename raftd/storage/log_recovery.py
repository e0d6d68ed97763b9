"""Reads log.db at start and judges it, before anything is written.

What is promised: everything up to the highest of the stored commit index, the applied
index of state.db, the last seal, and whatever any row says was synced before it. Damage
there is told and nothing is done. Damage above can only lie in the last write, of which
nobody may have been told: it is removed.

Source: RELIABILITY.md section 0 finding 3, rules 25-27 and 50.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raftd.consensus.types import Entry, HardState, Index, Term
from raftd.storage.errors import DamagedFiles
from raftd.storage.files import IDENTITY, decode_meta, read_meta, reading_at_rest
from raftd.storage.identity import Identity
from raftd.storage.log_rows import (
    CUT_POINT,
    HEAD,
    CutPoint,
    LogHead,
    LogRow,
    checksum_row,
    to_entry,
)
from raftd.storage.types import CheckpointMeta, InstallMark, LogRecovery, TermRun

__all__ = ["LogScan", "scan_log"]


@dataclass(frozen=True, slots=True)
class LogScan:
    """What `LogStore` starts from."""

    recovery: LogRecovery
    identity: Identity
    head: LogHead
    cut: CutPoint
    last_crc: int
    #: Everything from here on has to be removed first.
    remove_from: Index | None
    #: The log has to be reset to the checkpoint that carries this mark.
    pending_install: InstallMark | None


@dataclass(slots=True)
class _Walk:
    """The sound rows so far, and what the rest says was promised."""

    last_crc: int
    last_index: int
    last_term: int
    #: Index 0 stands for none: rows start at 1.
    bad_index: int = 0
    #: The last row there is, sound or not.
    final_index: int = 0
    synced_index: int = 0
    commit_index: int = 0
    term_at: dict[int, int] = field(default_factory=dict)
    runs: list[TermRun] = field(default_factory=list)
    tail: deque[Entry] = field(default_factory=deque)
    tail_bytes: int = 0


def scan_log(
    path: Path, checkpoint: CheckpointMeta | None, tail_bytes_max: int
) -> LogScan:
    """Verify all of log.db against itself and against the state's checkpoint.

    Args:
        path: Of log.db, already found to be a sound database.
        checkpoint: The newest one in state.db.
        tail_bytes_max: How many bytes of the newest payloads to keep in memory.

    Raises:
        DamagedFiles: Something promised is not there as it was.
        DiskFailed: It cannot be read.
    """
    with reading_at_rest(path) as db:
        meta = read_meta(db, path)
        head = decode_meta(path, meta, HEAD, LogHead)
        cut = decode_meta(path, meta, CUT_POINT, CutPoint)
        identity = decode_meta(path, meta, IDENTITY, Identity)
        watched = checkpoint.applied_index if checkpoint else Index(0)
        rows = db.execute("SELECT * FROM entries ORDER BY idx")
        walk = _walk_rows(map(LogRow._make, rows), cut, watched, tail_bytes_max)
    pending = _find_pending_install(checkpoint, cut)
    if pending is None:
        _judge_damage(path, walk, head, watched)
        _judge_state(path, walk, cut, checkpoint)
    if max(walk.last_term, cut.term) > head.hard_state.term:
        raise DamagedFiles(f"{path} is damaged: entries are newer than its term.")
    return LogScan(
        recovery=_report(walk, head, cut, watched),
        identity=identity,
        head=head,
        cut=cut,
        last_crc=walk.last_crc,
        remove_from=Index(walk.bad_index) if walk.bad_index else None,
        pending_install=pending,
    )


def _walk_rows(
    rows: Iterator[LogRow], cut: CutPoint, watched: Index, tail_bytes_max: int
) -> _Walk:
    walk = _Walk(last_crc=cut.crc, last_index=cut.index, last_term=cut.term)
    walk.term_at[cut.index] = cut.term
    for row in rows:
        walk.final_index = row.idx
        if isinstance(row.synced_index, int):
            # Believed of damaged rows too: too high only makes us refuse.
            walk.synced_index = max(walk.synced_index, row.synced_index)
        if walk.bad_index or not _is_next(walk, row):
            walk.bad_index = walk.bad_index or walk.last_index + 1
            continue
        _take(walk, row, watched, tail_bytes_max)
    return walk


def _is_next(walk: _Walk, row: LogRow) -> bool:
    return (
        row.is_well_typed
        and row.idx == walk.last_index + 1
        and row.crc == checksum_row(walk.last_crc, row)
        and row.term >= walk.last_term
    )


def _take(walk: _Walk, row: LogRow, watched: Index, tail_bytes_max: int) -> None:
    if not walk.runs or row.term != walk.last_term:
        walk.runs.append(TermRun(Index(row.idx), Term(row.term)))
    if row.idx == watched:
        walk.term_at[row.idx] = row.term
    walk.last_index, walk.last_term, walk.last_crc = row.idx, row.term, row.crc
    walk.commit_index = max(walk.commit_index, row.commit_index)
    walk.tail.append(to_entry(row))
    walk.tail_bytes += len(row.payload)
    while walk.tail and walk.tail_bytes > tail_bytes_max:
        walk.tail_bytes -= len(walk.tail.popleft().payload)


def _find_pending_install(
    checkpoint: CheckpointMeta | None, cut: CutPoint
) -> InstallMark | None:
    mark = checkpoint.install if checkpoint else None
    return mark if mark and mark.install_id != cut.install_id else None


def _judge_damage(path: Path, walk: _Walk, head: LogHead, applied: Index) -> None:
    if walk.last_index < head.sealed_index:
        raise DamagedFiles(
            f"{path} is damaged: entry {walk.last_index + 1} is missing or altered,"
            f" and it was stored safely up to {head.sealed_index}."
        )
    promised = max(walk.commit_index, head.commit, applied, walk.synced_index)
    if walk.bad_index and walk.bad_index <= promised:
        raise DamagedFiles(
            f"{path} is damaged: entry {walk.bad_index} is missing or altered,"
            f" and entries up to {promised} had been promised."
        )


def _judge_state(
    path: Path, walk: _Walk, cut: CutPoint, checkpoint: CheckpointMeta | None
) -> None:
    """A state may lag its log, but never lead it or end before its start."""
    applied = checkpoint.applied_index if checkpoint else Index(0)
    if applied > walk.last_index:
        raise DamagedFiles(
            f"{path} is damaged: it ends at entry {walk.last_index},"
            f" but the state beside it was made from entries up to {applied}."
        )
    if applied < cut.index:
        raise DamagedFiles(
            f"{path} begins after entry {cut.index}, but the state beside it"
            f" reaches only {applied}: state.db is damaged or older."
        )
    term = walk.term_at.get(applied, 0)
    if checkpoint and term != checkpoint.applied_term:
        raise DamagedFiles(
            f"{path} is damaged: entry {applied} has term {term}, but the state"
            f" beside it was made from one of term {checkpoint.applied_term}."
        )


def _report(walk: _Walk, head: LogHead, cut: CutPoint, applied: Index) -> LogRecovery:
    known_commit = max(walk.commit_index, head.commit, applied)
    removed = walk.final_index - walk.bad_index + 1 if walk.bad_index else 0
    return LogRecovery(
        hard_state=HardState(head.hard_state.term, head.hard_state.vote),
        commit=Index(min(known_commit, walk.last_index)),
        first_index=Index(cut.index + 1),
        last_index=Index(walk.last_index),
        previous_term=cut.term,
        term_runs=tuple(walk.runs),
        tail=tuple(walk.tail),
        removed_count=removed,
    )
