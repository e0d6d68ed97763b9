"""Opens a data directory: who it belongs to, whether it is whole, and both stores.

Order: lock, look, compare, and only then touch. state.db is made before log.db and
told things before log.db, so what a crash leaves is always state.db being ahead: a
lone blank state.db is an unfinished first start and is completed, log.db without
state.db is damage, and a cluster id known to state.db alone is copied.

Source: DESIGN.md section 6; RELIABILITY.md rules 25-27, 46, 49, 50.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from raftd.consensus.types import NodeId
from raftd.storage.directory import LOG_NAME, STATE_NAME, DirectoryLock
from raftd.storage.errors import DamagedFiles, ForeignFiles
from raftd.storage.file_watch import FileWatch
from raftd.storage.files import FileKind, check_file, create_file, wal_path
from raftd.storage.identity import (
    FORMAT_VERSION,
    INCARNATION_BYTES,
    Identity,
)
from raftd.storage.log_rows import LOG_FILE, blank_log
from raftd.storage.log_store import TAIL_BYTES_MAX, LogStore
from raftd.storage.state_reader import check_chunks
from raftd.storage.state_rows import STATE_FILE, blank_state
from raftd.storage.state_store import StateStore
from raftd.storage.types import CheckpointMeta, LogRecovery

__all__ = ["Recovery", "Stores", "open_stores"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the directory held at start."""

    log: LogRecovery
    checkpoint: CheckpointMeta | None
    #: The directory was empty, or was left so by an unfinished first start.
    is_new: bool


class Stores:
    """An open data directory."""

    def __init__(
        self, lock: DirectoryLock, log: LogStore, state: StateStore, recovery: Recovery
    ) -> None:
        self._lock = lock
        self.log = log
        self.state = state
        self.recovery = recovery
        self._watch = FileWatch([*log.files, *state.files])

    def files_replaced(self) -> str | None:
        """Say in a sentence if a file is no longer the one that was opened.

        What is written then is lost with the next restart: end the process. Cheap
        enough to be asked every second.
        """
        return self._watch.replaced()

    @property
    def identity(self) -> Identity:
        """Whom the directory belongs to."""
        return self.state.identity

    async def bind_cluster(
        self, cluster_id: bytes, peers: Mapping[NodeId, bytes]
    ) -> Identity:
        """Store durably which cluster this is and who its members are.

        May be repeated, with the same members or others.

        Args:
            cluster_id: 16 bytes, the same for ever.
            peers: Incarnation by node id, of all members including this node.

        Returns:
            The identity as it now is.

        Raises:
            ForeignFiles: The directory belongs to another cluster.
            DiskFailed: The disk refused: end the process.
        """
        old = self.identity
        if old.is_bound and old.cluster_id != cluster_id:
            raise ForeignFiles(
                f"The data directory belongs to cluster {old.cluster_id.hex()},"
                f" not to {cluster_id.hex()}."
            )
        assert peers.get(old.node_id) == old.incarnation, "the list lacks this node"
        new = msgspec.structs.replace(
            old, cluster_id=cluster_id, peers=dict(sorted(peers.items()))
        )
        await self.state.write_identity(new)
        await self.log.write_identity(new)
        return new

    async def close(self) -> None:
        """Close both files and let the next process in. May be called twice.

        Raises:
            DiskFailed: Something could not be synced; the next start recovers it.
        """
        try:
            try:
                await self.log.close()
            finally:
                await self.state.close()
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_stores(
    data_dir: Path,
    *,
    node_id: NodeId,
    cluster_name: str,
    make_incarnation: Callable[[], bytes] = lambda: secrets.token_bytes(
        INCARNATION_BYTES
    ),
    tail_bytes_max: int = TAIL_BYTES_MAX,
) -> Stores:
    """Open the data directory of a node, or make it.

    Args:
        data_dir: Made if it is not there, readable by its owner alone.
        node_id: Who opens it.
        cluster_name: As configured; the files must carry the same.
        make_incarnation: Called when files are made; 16 bytes never seen before.
        tail_bytes_max: How many bytes of the newest entries to hand over.

    Raises:
        DirectoryInUse: Another process has it.
        ForeignFiles: It belongs to somebody else. Nothing was touched.
        NewerFormat: A later raftd wrote it. Nothing was touched.
        DamagedFiles: Something promised is gone. Nothing was touched.
        DiskFailed: The disk refused.
    """
    lock = await asyncio.to_thread(DirectoryLock, data_dir)
    try:
        wanted = Identity(cluster_name, node_id, incarnation=b"")
        is_new = await asyncio.to_thread(_prepare, data_dir, wanted, make_incarnation)
        log_path, state_path = data_dir / LOG_NAME, data_dir / STATE_NAME
        # All of state.db is looked at before anything in log.db is changed.
        checkpoint = await asyncio.to_thread(check_chunks, state_path)
        log, recovered = await LogStore.open(
            log_path, checkpoint, tail_bytes_max=tail_bytes_max
        )
        try:
            state = await _open_state(state_path, log)
        except BaseException:
            await log.close()
            raise
    except BaseException:
        lock.release()
        raise
    return Stores(lock, log, state, Recovery(recovered, checkpoint, is_new))


async def _open_state(path: Path, log: LogStore) -> StateStore:
    """Open state.db, and have both files say what it says, in our format."""
    state = await StateStore.open(path)
    try:
        identity = msgspec.structs.replace(
            state.identity, format_version=FORMAT_VERSION
        )
        if state.identity != identity:
            await state.write_identity(identity)
        if log.identity != identity:
            await log.write_identity(identity)
    except BaseException:
        await state.close()
        raise
    return state


def _prepare(
    directory: Path, wanted: Identity, make_incarnation: Callable[[], bytes]
) -> bool:
    """Check both files, or make what is missing of a first start: then True."""
    log_path, state_path = directory / LOG_NAME, directory / STATE_NAME
    has_log, has_state = _is_there(log_path), _is_there(state_path)
    if has_log and not has_state:
        raise DamagedFiles(f"{state_path} is missing beside {log_path}.")
    if not has_state:
        incarnation = make_incarnation()
        assert len(incarnation) == INCARNATION_BYTES, "an incarnation is 16 bytes"
        wanted = msgspec.structs.replace(wanted, incarnation=incarnation)
        create_file(state_path, STATE_FILE, blank_state(wanted))
    found = _check_owner(state_path, STATE_FILE, wanted)
    if not has_log:
        if found.is_bound or check_chunks(state_path) is not None:
            raise DamagedFiles(f"{log_path} is missing beside {state_path}.")
        create_file(log_path, LOG_FILE, blank_log(found))
        return True
    _compare(log_path, _check_owner(log_path, LOG_FILE, wanted), state_path, found)
    return False


def _is_there(path: Path) -> bool:
    if path.exists():
        return True
    wal = wal_path(path)
    if wal.exists() and wal.stat().st_size:
        raise DamagedFiles(f"{path} is missing beside its write-ahead log.")
    return False


def _check_owner(path: Path, kind: FileKind, wanted: Identity) -> Identity:
    found = check_file(path, kind)
    if found.cluster_name != wanted.cluster_name:
        raise ForeignFiles(
            f'{path} belongs to cluster "{found.cluster_name}",'
            f' not to "{wanted.cluster_name}".'
        )
    if found.node_id != wanted.node_id:
        raise ForeignFiles(
            f"{path} belongs to node {found.node_id}, not to node {wanted.node_id}."
        )
    return found


def _compare(log_path: Path, log: Identity, state_path: Path, state: Identity) -> None:
    if not log.is_same_file_set(state):
        raise ForeignFiles(
            f"{log_path} and {state_path} were not made together:"
            f" incarnations {log.incarnation.hex()} and {state.incarnation.hex()}."
        )
    if log.is_bound and not state.is_bound:
        raise DamagedFiles(f"{state_path} is damaged: it lost its cluster's id.")
    if log.is_bound and log.cluster_id != state.cluster_id:
        raise ForeignFiles(
            f"{log_path} and {state_path} belong to different clusters:"
            f" {log.cluster_id.hex()} and {state.cluster_id.hex()}."
        )
