"""What a cluster that lost its majority for good left behind."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from raftd.consensus.types import NodeId
from raftd.node.service import WriteCall
from raftd.server.main import main
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import GrantLease, LeaseGranted
from raftd.storage.identity import Identity
from raftd.storage.open import open_stores
from tests.node.cluster import Cluster

__all__ = ["CLUSTER", "Old"]

CLUSTER = "test"
"""Its name."""


class Old:
    """The data directory of member 1, which led to the end."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "n1"
        # Without a majority it goes on leading until it has logged one write more.
        self.cluster = Cluster(
            folder, checkpoint_interval_ms=86_400_000, election_ms=20_000
        )
        self.members = ",".join(
            f"{m.id}={m.name}@{m.peer}/{m.client}" for m in self.cluster.members
        )
        self.revision = 0
        asyncio.run(self._live())

    async def _live(self) -> None:
        """Write before a checkpoint, behind it, and without a majority."""
        cluster = self.cluster
        async with cluster:
            while (leader := await cluster.leader()).node_id != 1:
                await leader.transfer_leadership(1, 10)
            granted = await leader.write(
                WriteCall(command=GrantLease(600_000, "somebody")), 10
            )
            assert isinstance(granted.answer, LeaseGranted)
            lease = granted.answer.lease
            await leader.write(WriteCall(command=PutKey(b"early", b"1")), 10)
            pieces = await leader.backup(20)
            assert not isinstance(pieces, Refusal)
            async for _ in pieces:
                pass
            await leader.write(WriteCall(command=PutKey(b"late", b"2")), 10)
            await leader.write(WriteCall(command=PutKey(b"gone", b"3", lease)), 10)
            self.revision = leader.machine.revision
            await cluster.stop(2, 3)
            core = leader.driver.replica.core
            last = core.last_index
            lost = asyncio.create_task(
                leader.write(WriteCall(command=PutKey(b"lone", b"4")), 600)
            )
            while core.durable_index == last:
                await cluster.passed_time()
            assert not lost.done()
            lost.cancel()

    def run(self, *more: str, cluster: str = CLUSTER) -> Result:
        words = ["recover", "--force-single", "--cluster", cluster, *more]
        words += ["--node-id", "1", "--data-dir", str(self.data_dir)]
        words += ["--members", self.members]
        return CliRunner().invoke(main, words, catch_exceptions=False)

    def identity(self) -> Identity:
        async def read() -> Identity:
            async with await open_stores(
                self.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
            ) as stores:
                return stores.identity

        return asyncio.run(read())

    def copy(self, folder: Path) -> Old:
        other = Old.__new__(Old)
        other.data_dir = folder / "n1"
        other.cluster, other.members = self.cluster, self.members
        other.revision = self.revision
        shutil.copytree(self.data_dir, other.data_dir)
        return other
