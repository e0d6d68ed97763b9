"""A backup that breaks off at the doors: told why, and never taken for a whole one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from raftd.node.errors import BackupBroken
from raftd.node.refusals import SHUTTING_DOWN
from raftd.statemachine.schema.base import Refusal
from raftpb.v1 import cluster_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.test_cluster import TellingNode


class BreakingNode(TellingNode):
    """Ends its backups before they are whole."""

    async def backup(self, timeout_s: float | None) -> AsyncIterator[bytes] | Refusal:
        return self._break_off()

    async def _break_off(self) -> AsyncIterator[bytes]:
        yield b"the begin"
        raise BackupBroken(SHUTTING_DOWN)


@pytest.fixture
def node() -> TellingNode:
    return BreakingNode()


async def test_what_breaks_a_backup_off_is_said_and_no_end_comes(stubs: Stubs) -> None:
    call = stubs.cluster.StreamBackup(cluster_pb2.StreamBackupRequest())
    bodies = [(await call.read()).WhichOneof("body") for _ in range(2)]
    assert bodies == ["facts", "chunk"]
    refused = await refusal_of(call.read())
    assert (refused.reason, refused.sentence) == (
        "SHUTTING_DOWN",
        SHUTTING_DOWN.sentence,
    )
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
