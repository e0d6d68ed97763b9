"""A watch of a stream ends with it, however soon.

Source: SEMANTICS.md section 1; docs/adr/0018.
"""

from __future__ import annotations

from raftpb.v1 import kv_pb2, sessions_pb2
from tests.api.doors import get, said, served, session_on
from tests.api.solo_node import SoloNode
from tests.api.wire import framed

Request = sessions_pb2.StreamRequest


async def test_a_watch_that_is_ended_before_its_first_turn_is_closed(
    node: SoloNode,
) -> None:
    begin = Request(tag=1, watch_keys=kv_pb2.WatchKeysRequest(to_last=True))
    end = sessions_pb2.StreamSessionRequest(cancel_tags=[1])
    async with served(node) as server, session_on(node, server.port) as wire:
        await wire.write(said(begin) + framed(end) + said(get(2)))
        await wire.answer()
        assert len(node.watches) == 0
