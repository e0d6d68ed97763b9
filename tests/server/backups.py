"""Backups made from a machine, without a node around it."""

from __future__ import annotations

from pathlib import Path

from raftd.consensus.types import NodeId
from raftd.node.roster import MemberRecord, encode_roster, first_roster
from raftd.statemachine.schema.elections import Campaign
from raftd.statemachine.schema.jobs import EnqueueJobs, ExtendJob, JobSpec
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.locks import AcquireLock, LockMode
from raftd.storage.backup_file import BackupHeader, BackupWriter
from raftd.storage.chunks import pack
from tests.statemachine.queues_harness import QueueHarness

__all__ = ["MEMBERS", "make_backup", "sample_state"]

MEMBERS = ",".join(
    f"{n}=n{n}@127.0.0.1:{7401 + 10 * n}/127.0.0.1:{7400 + 10 * n}" for n in (1, 2, 3)
)
"""As the flag of the command line has them."""


def sample_state() -> QueueHarness:
    """Make a state with one of everything that a restore treats in its own way."""
    state = QueueHarness()
    lease = state.grant()
    state.send(state.session, 1, PutKey(b"config", b"old"))
    state.send(state.session, 2, PutKey(b"config", b"new"))
    state.do(PutKey(b"presence", b"here", lease))
    state.do(AcquireLock("lock", lease, "a", LockMode.EXCLUSIVE, 1, 0, 60_000))
    waiting = AcquireLock("lock", state.session, "b", LockMode.EXCLUSIVE, 1, None, 0)
    state.send(state.session, 3, waiting)
    state.do(Campaign("election", lease, "a", b"address", 0))
    state.do(EnqueueJobs((JobSpec("work", b"first"), JobSpec("work", b"second"))))
    state.add(delay_ms=3_600_000, client_id="later")
    job = state.take(reservation_ms=600_000)
    state.do(ExtendJob(job.id, job.token))
    return state


def make_backup(path: Path, state: QueueHarness) -> Path:
    """Write the backup that a node with this state would."""
    rows = [(table, key, value) for (table, key), value in sorted(state.save().items())]
    chunks = list(pack(rows))
    records = [
        MemberRecord(NodeId(n), f"n{n}", f"10.0.0.{n}:7401", f"10.0.0.{n}:7400")
        for n in (1, 2, 3)
    ]
    header = BackupHeader(
        release="0.1.0",
        cluster_name="sample",
        cluster_id=b"sample cluster 1",
        node_id=2,
        wall_ms=1_700_000_000_000,
        index=state.machine.applied_index,
        term=3,
        revision=state.machine.revision,
        digest=state.machine.digest,
        roster=encode_roster(first_roster((1, 2, 3), records)),
        chunk_count=len(chunks),
        chunk_bytes=sum(map(len, chunks)),
    )
    writer = BackupWriter()
    pieces = [writer.begin(header), *map(writer.add, chunks), writer.finish()]
    path.write_bytes(b"".join(pieces))
    return path
