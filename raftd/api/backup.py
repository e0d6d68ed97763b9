"""A backup at the doors: the node's file as a stream that proves itself complete.

Rules: the first message says of what the file is made, the last how large it is and
what its hash is; whoever keeps a file without having seen the last has no backup.

Source: SEMANTICS.md section 7; docs/backup.md (the file itself).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from google.protobuf.message import Message

from raftd.api.calls import Call, Flow
from raftd.api.limits import DoorLimits
from raftd.node.service import NodeService
from raftd.statemachine.schema.base import Refusal
from raftpb.v1 import cluster_pb2

__all__ = ["HASH_BYTES", "BackupCalls"]

HASH_BYTES: Final = 32


class BackupCalls:
    """The call of ClusterService that makes a backup."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (Flow("stream_backup", self._stream_backup),)

    async def _stream_backup(
        self,
        node: NodeService,
        request: cluster_pb2.StreamBackupRequest,
        timeout_s: float | None,
    ) -> AsyncIterator[Message] | Refusal:
        (own,) = await node.status(is_for_all=False)
        begin_ms = request.begin_timeout_ms
        file = await node.backup(begin_ms / 1000 if begin_ms else timeout_s)
        if isinstance(file, Refusal):
            return file
        facts = cluster_pb2.BackupFacts(
            cluster_name=own.cluster,
            name=own.info.name,
            version=own.version,
            state_bytes=own.state_bytes,
        )
        return _messages(facts, file, self._limits.page_bytes_max)


async def _messages(
    facts: cluster_pb2.BackupFacts, file: AsyncIterator[bytes], bytes_max: int
) -> AsyncIterator[Message]:
    """Make the stream of a file; its pieces are cut to what a message should hold."""
    yield cluster_pb2.StreamBackupResponse(facts=facts)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    size_bytes = 0
    async for piece in file:
        digest.update(piece)
        size_bytes += len(piece)
        for first in range(0, len(piece), bytes_max):
            yield cluster_pb2.StreamBackupResponse(
                chunk=piece[first : first + bytes_max]
            )
    end = cluster_pb2.BackupEnd(bytes=size_bytes, blake2b=digest.digest())
    yield cluster_pb2.StreamBackupResponse(end=end)
