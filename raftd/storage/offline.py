"""Makes a data directory around a given state: for restores, and for forced recovery.

Rules: only a new directory is written, never one that holds anything. log.db gets its
name before state.db, so what a crash leaves is told as damage and never taken for a
node; the same call may be made again after the files are removed.

Source: DESIGN.md section 6; RELIABILITY.md rules 25, 46 and 53.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from raftd.consensus.types import HardState
from raftd.storage.directory import LOCK_NAME, LOG_NAME, STATE_NAME, DirectoryLock
from raftd.storage.errors import ForeignFiles, translate_errors
from raftd.storage.files import (
    META_UPSERT,
    create_file,
    encode_meta,
    sync_directory,
)
from raftd.storage.identity import INCARNATION_BYTES, Identity
from raftd.storage.log_rows import LOG_FILE, CutPoint, LogHead, blank_log
from raftd.storage.state_rows import (
    BASE,
    CHECKPOINT,
    CHUNK_INSERT,
    STATE_FILE,
    BaseMark,
    CheckpointMark,
    base_ids,
    blank_state,
    chunk_row,
)
from raftd.storage.types import CheckpointMeta

__all__ = ["create_directory", "refuse_if_used"]

#: What an empty directory may hold: our lock, and what mkfs puts on a volume.
_NOTHING = frozenset({LOCK_NAME, "lost+found"})
_UNFINISHED = ".new"


def create_directory(
    data_dir: Path,
    identity: Identity,
    meta: CheckpointMeta,
    chunks: Iterable[bytes],
    *,
    hard_state: HardState,
) -> None:
    """Make a data directory whose state is given and whose log starts behind it.

    Args:
        data_dir: Empty or not there; made readable by its owner alone.
        identity: Whom it will belong to, with an incarnation never used before.
        meta: Of the state; the log begins behind its applied index.
        chunks: The whole state, from `pack`; taken one by one.
        hard_state: Term and vote of the new node; the term no lower than the applied
            entry's.

    Raises:
        ForeignFiles: The directory holds something. Nothing was touched.
        DirectoryInUse: Another process has it.
        DiskFull: No room; the directory holds no node.
        DiskFailed: The disk refused; the directory holds no node.
    """
    assert len(identity.incarnation) == INCARNATION_BYTES, "an incarnation is 16 bytes"
    assert hard_state.term >= meta.applied_term, "the term would go back"
    assert meta.install is None, "the log is made with the state"
    refuse_if_used(data_dir)
    lock = DirectoryLock(data_dir)
    try:
        refuse_if_used(data_dir)
        index, term = meta.applied_index, meta.applied_term
        head = LogHead(hard_state, commit=index, sealed_index=index)
        log_meta = blank_log(identity, head, CutPoint(index, term))
        state_path = data_dir / STATE_NAME
        # Not yet under its name: what takes long and may fail comes first.
        hidden = state_path.with_name(STATE_NAME + _UNFINISHED)
        _create_state(hidden, identity, meta, chunks)
        create_file(data_dir / LOG_NAME, LOG_FILE, log_meta)
        with translate_errors(state_path, "create"):
            hidden.rename(state_path)
            sync_directory(data_dir)
    finally:
        lock.release()


def refuse_if_used(data_dir: Path) -> None:
    """Refuse a directory that holds anything.

    Raises:
        ForeignFiles: It does.
        DiskFailed: It cannot be looked at.
    """
    with translate_errors(data_dir, "look at"):
        if not data_dir.exists():
            return
        for path in sorted(data_dir.iterdir()):
            is_left_over = path.name.startswith((LOG_NAME, STATE_NAME)) and (
                _UNFINISHED in path.name
            )
            if path.name not in _NOTHING and not is_left_over:
                raise ForeignFiles(f"{data_dir} is not empty: it holds {path.name}.")


def _create_state(
    path: Path, identity: Identity, meta: CheckpointMeta, chunks: Iterable[bytes]
) -> None:
    def fill(db: sqlite3.Connection) -> None:
        base = BaseMark()
        count = 0
        for at, data in enumerate(chunks, base_ids(base).first):
            db.execute(CHUNK_INSERT, chunk_row(at, data))
            count += 1
        filled = BaseMark(base.generation, count)
        db.execute(META_UPSERT, encode_meta(BASE, filled))

    known = {**blank_state(identity), CHECKPOINT: CheckpointMark(meta)}
    create_file(path, STATE_FILE, known, fill)
