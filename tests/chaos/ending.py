"""How every round ends: all healed, all quiet, all equal, all read, all judged.

Rules: the loads come to their orderly end; then every member's log is read, where it
was kept, and whatever two members know to be committed must be the same; then all
members must have compared their states, at a mark behind everything, and found them
equal. What does not come about in ample time is stuck.

Source: RELIABILITY.md section 5 (every run ends with ...), section 4 (evidence).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from raftclient import aio
from raftclient.errors import RaftError
from raftd.consensus.types import Entry
from raftd.storage.directory import LOG_NAME
from raftd.storage.errors import StorageError
from tests.chaos.leftovers import passing_folder
from tests.chaos.loads import Stuck
from tests.checkers import history as histories
from tests.checkers.logbook import read_log
from tests.checkers.records import Meta, Op
from tests.proof.seeds import commit_id
from tests.workload.evidence import as_log, read_committed

if TYPE_CHECKING:
    from raftpb.v1 import cluster_pb2
    from tests.chaos.loads import LoadProcess

__all__ = ["Nodes", "agree", "finish", "gather", "read_logs", "seal"]

_FINISH_S: Final = 240.0
_AGREE_S: Final = 90.0
_AGAIN_S: Final = 0.3
_SIZE_BYTES: Final = 4
_COPIES_MAX: Final = 10
_SEALS: Final = 3


class Nodes(Protocol):
    """The nodes of a round, as an ending sees them."""

    @property
    def endpoints(self) -> str:
        """Where the members serve clients."""

    @property
    def members(self) -> Sequence[int]:
        """Numbers of the members."""

    def files(self, node_id: int, /) -> Path:
        """The data directory of a node, as this process reaches it."""

    def archives(self) -> Sequence[Path]:
        """What nodes have cut from their logs, a file for each."""

    def statuses(self) -> Mapping[int, cluster_pb2.MemberStatus]:
        """Ask all members about themselves; who answers is there."""


async def finish(loads: Sequence[LoadProcess]) -> list[str]:
    """Bring all loads to their end; returns what did not come about.

    Raises:
        Stuck: One did not end.
    """
    found = await asyncio.gather(*(load.finish(_FINISH_S) for load in loads))
    return [trouble for troubles in found for trouble in troubles]


# --- evidence ------------------------------------------------------------------------


async def seal(nodes: Nodes) -> None:
    """Write a little more: a node notes with later entries that one is committed.

    Raises:
        Stuck: Nothing can be written.
    """
    async with aio.connect(nodes.endpoints, timeout_s=_AGREE_S) as client:
        try:
            for number in range(_SEALS):
                await client.put("end/seal", str(number))
        except RaftError as error:
            raise Stuck(f"nothing can be written in the end: {error}") from error


def read_logs(nodes: Nodes) -> tuple[list[Entry], list[str]]:
    """Read what every member knows to be committed, and what any node has cut.

    Returns:
        The log from its first entry on, and what is wrong: where two differ, which
        one cannot be read, what nobody has.
    """
    found: dict[int, Entry] = {}
    troubles = []
    for path in nodes.archives():
        troubles += _add(found, _read_archive(path), f"{path.name} has")
    for node_id in nodes.members:
        try:
            entries = _read_running(nodes.files(node_id))
        except (OSError, StorageError, sqlite3.Error) as error:
            troubles.append(f"the log of node {node_id}: {error}")
            continue
        troubles += _add(found, entries, f"node {node_id} has")
    log = [found[index] for index in sorted(found)]
    for index, entry in enumerate(log, 1):
        if entry.index != index:
            troubles.append(f"nobody has entry {index}, although there are later ones")
            return [], troubles
    return log, troubles


def _read_running(data_dir: Path) -> tuple[Entry, ...]:
    """Read a copy of the log, whose node has little to write and none to wait for us.

    A copy that a write has come between is not sound, and is made again.
    """
    for left in reversed(range(_COPIES_MAX)):
        with passing_folder() as folder:
            try:
                for path in sorted(data_dir.glob(f"{LOG_NAME}*")):
                    if not path.name.endswith("-shm"):
                        shutil.copy(path, folder)
                with contextlib.closing(sqlite3.connect(Path(folder) / LOG_NAME)) as db:
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return read_committed(Path(folder))
            except (OSError, StorageError, sqlite3.Error):
                if not left:
                    raise
        time.sleep(_AGAIN_S)
    raise AssertionError("the last copy was read, or raised")


def _add(found: dict[int, Entry], entries: Iterable[Entry], who: str) -> list[str]:
    """Take up entries; says where the first one differs from what is known."""
    for entry in entries:
        known = found.setdefault(entry.index, entry)
        if known != entry:
            return [
                f"{who} entry {entry.index} of term {entry.term} as committed, and"
                f" another has one of term {known.term}"
            ]
    return []


def _read_archive(path: Path) -> Iterator[Entry]:
    """Read what a node cut; it may have been killed in the middle of a record."""
    data, at = path.read_bytes(), 0
    while at + _SIZE_BYTES <= len(data):
        begin = at + _SIZE_BYTES
        at = begin + int.from_bytes(data[begin - _SIZE_BYTES : begin])
        if at > len(data):
            return
        yield msgspec.msgpack.decode(data[begin:at], type=Entry)


# --- equality ------------------------------------------------------------------------


async def agree(nodes: Nodes, *, keeps_log: bool) -> None:
    """See all members compare their states behind everything that was written.

    Args:
        nodes: Whose.
        keeps_log: They make checkpoints only when asked to: a backup asks.

    Raises:
        Stuck: They do not come to it, or their states differ.
    """
    end_s = time.monotonic() + _AGREE_S
    index, why = 0, "nobody leads"
    async with aio.connect(nodes.endpoints, timeout_s=10.0) as client:
        with passing_folder() as folder:
            while time.monotonic() < end_s:
                statuses = await asyncio.to_thread(nodes.statuses)
                index = index or _leaders_index(statuses)
                why = _why_not_agreed(nodes, statuses, index)
                if not why:
                    return
                try:
                    await client.put("end/mark", str(time.monotonic_ns()))
                    if keeps_log:
                        await client.cluster.backup(Path(folder) / "backup")
                except RaftError as error:
                    why = f"{why}; {error.message}"
                await asyncio.sleep(_AGAIN_S)
    raise Stuck(f"within {_AGREE_S:g} s the members did not agree: {why}")


def _leaders_index(statuses: Mapping[int, cluster_pb2.MemberStatus]) -> int:
    leading = [
        (status.term, status.last_index)
        for status in statuses.values()
        if status.leader == status.node_id
    ]
    return max(leading, default=(0, 0))[1]


def _why_not_agreed(
    nodes: Nodes, statuses: Mapping[int, cluster_pb2.MemberStatus], index: int
) -> str:
    if not index:
        return "nobody leads"
    for node_id in nodes.members:
        status = statuses.get(node_id)
        if status is None:
            return f"node {node_id} does not answer"
        if "differs" in status.trouble:
            raise Stuck(f"node {node_id}: {status.trouble}")
        if status.trouble:
            return f"node {node_id}: {status.trouble}"
        if status.compared_index < index:
            return (
                f"node {node_id} compared at {status.compared_index},"
                f" not at or behind {index}"
            )
    return ""


# --- judgement -----------------------------------------------------------------------


def gather(
    loads: Sequence[Path],
    entries: Sequence[Entry],
    into: Path,
    *,
    seed: int,
    options: Mapping[str, str],
) -> None:
    """Make one history of those of all loads, and of the log.

    Args:
        loads: Files of the histories.
        entries: The log; empty = it was not kept.
        into: The file to write.
        seed: Of the run.
        options: What else repeats it.
    """
    meta = Meta(made_by="chaos", commit=commit_id(), seed=seed, options={**options})
    whole = histories.History(meta=meta)
    for path in loads:
        offset = max((op.id for op in whole.ops), default=0)
        for record in histories.load(path).records():
            match record:
                case Meta():
                    pass
                case Op():
                    whole.add(msgspec.structs.replace(record, id=record.id + offset))
                case _:
                    whole.add(record)
    whole.entries.extend(read_log(as_log(entries)))
    histories.save(whole, into)
