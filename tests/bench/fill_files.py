"""Data directories of a cluster that holds much, written without running it.

``python -m tests.bench.fill_files ORDER`` takes an order (JSON), fills a state, and
writes it as each member's newest checkpoint, with a log that begins behind it: what the
members would have after a checkpoint and a restart. Unlike a restored backup it keeps
sessions, locks and waiters.

Rules: a process of its own, so that the memory and the garbage of a fill are no part of
what is measured; all members get the same rows and the same digest.

Source: docs/ARCHITECTURE.md (storage); PERFORMANCE.md (start with 1 M rows).
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from cluster.processes import Processes
from raftctl.bench_workloads import WorkloadFailed
from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.node.roster import MemberRecord, encode_roster, first_roster
from raftd.statemachine.rows import Row
from raftd.storage.chunks import pack
from raftd.storage.identity import INCARNATION_BYTES, Identity
from raftd.storage.offline import create_directory
from raftd.storage.types import CheckpointMeta
from tests.bench.fill import Filler, Kind

__all__ = ["Filled", "Member", "Order", "fill_directories", "main", "write_directories"]

_CLUSTER: Final = "local"
_ROOT: Final = Path(__file__).resolve().parents[2]
_TERM: Final = Term(1)


class Member(msgspec.Struct, frozen=True):
    """Whom a directory is for."""

    node_id: int
    folder: str
    peer_address: str
    client_address: str


class Order(msgspec.Struct, frozen=True):
    """What is to be written."""

    counts: dict[Kind, int]
    members: list[Member]


class Filled(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        counts: Found in the state, by its own accounts.
        digest: Of the state, in hexadecimal.
        index: Of the checkpoint.
        rows: In it.
    """

    counts: dict[Kind, int]
    digest: str
    index: int
    rows: int


async def fill_directories(nodes: Processes, counts: dict[Kind, int]) -> Filled:
    """Write the directories of nodes that were never started, in another process.

    Raises:
        WorkloadFailed: It did not come to its end.
    """
    members = [
        Member(n, str(nodes.data_dir(n)), nodes.peer_address(n), nodes.endpoint(n))
        for n in nodes.ids
    ]
    order = msgspec.json.encode(Order(counts, members)).decode()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.fill_files", order),
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise WorkloadFailed(f"the filler ended with exit code {process.returncode}")
    return msgspec.json.decode(told, type=Filled)


def write_directories(order: Order) -> Filled:
    """Fill a state and write it for each member."""
    filler = Filler()
    for kind, count in order.counts.items():
        filler.fill(kind, count)
    filler.settle()
    rows = 0

    def counted() -> Iterator[Row]:
        nonlocal rows
        for row in filler.checkpoint():
            rows += 1
            yield row

    chunks = [*pack(counted())]
    machine = filler.machine
    roster = first_roster(
        [member.node_id for member in order.members],
        [
            MemberRecord(
                NodeId(member.node_id),
                f"n{member.node_id}",
                member.peer_address,
                member.client_address,
            )
            for member in order.members
        ],
    )
    meta = CheckpointMeta(
        Index(machine.applied_index),
        _TERM,
        machine.digest,
        encode_roster(roster),
        # What members that form a cluster of a state have in common.
        extra=machine.digest,
    )
    for member in order.members:
        identity = Identity(
            _CLUSTER, NodeId(member.node_id), secrets.token_bytes(INCARNATION_BYTES)
        )
        create_directory(
            Path(member.folder), identity, meta, chunks, hard_state=HardState(_TERM)
        )
    counts = {kind: filler.found(kind) for kind in order.counts}
    return Filled(counts, machine.digest.hex(), machine.applied_index, rows)


def main() -> int:
    """Carry out the order in the first argument; returns the exit code."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(write_directories(order)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
