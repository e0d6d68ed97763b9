"""What the streams of a member hear when the members change, in real clusters.

Source: docs/adr/0010; SEMANTICS.md section 1; RELIABILITY.md rule 44.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftd.node.node import Node
from raftd.node.service import (
    AddMember,
    Answered,
    MemberChange,
    MemberInfo,
    RemoveMember,
    UpdateMember,
    WriteCall,
)
from raftd.node.writes import hash_key
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened
from tests.node.cluster import Cluster

_S = 60.0
_KEY = b"k" * 16


class _Ear:
    """A stream that keeps what it hears."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.heard: list[dict[int, str]] = []
        self.closed: asyncio.Future[Refusal] = (
            asyncio.get_running_loop().create_future()
        )

    def answer(self, tag: int, answered: Answered) -> None:
        raise AssertionError(answered)

    def flush(self) -> None:
        return

    def close(self, refusal: Refusal) -> None:
        self.closed.set_result(refusal)

    def members_changed(self) -> None:
        self.heard.append({m.node_id: m.client_address for m in self._node.members})


async def _open_ear(node: Node) -> _Ear:
    """Attach to a session of its own."""
    command = OpenSession(hash_key(_KEY), 60_000, "")
    opened = (await node.write(WriteCall(command=command), _S)).answer
    assert isinstance(opened, SessionOpened)
    ear = _Ear(node)
    assert node.attach(opened.session, _KEY, ear) is None
    return ear


async def _change(node: Node, change: MemberChange) -> None:
    assert isinstance(await node.change_members(change, _S), MemberInfo)


async def test_streams_hear_once_of_each_change_that_concerns_clients(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = await cluster.leader()
        ear, reader = await _open_ear(node), _Ear(node)
        assert node.attach(0, b"", reader) is None
        own = {m.node_id: m.client_address for m in node.members}
        await _change(node, AddMember("new", "127.0.0.1:9", "far:1"))
        await _change(node, UpdateMember(2, "", "127.0.0.1:8", ""))
        await _change(node, UpdateMember(2, "", "", "far:2"))
        await _change(node, RemoveMember(2))
        told = [own | {2: "far:1"}, own | {2: "far:2"}, own]
        assert ear.heard == reader.heard == told
        assert not ear.closed.done()


async def test_a_leader_that_is_removed_names_its_heir(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        await cluster.all_can_change()
        leader = await cluster.leader()
        ear = await _open_ear(leader)
        others = {1, 2, 3} - {leader.node_id}
        await _change(leader, RemoveMember(leader.node_id))
        async with asyncio.timeout(_S):
            refusal = await ear.closed
        assert refusal.reason is Reason.NOT_LEADER
        assert int(refusal.details["leader"]) in others
        assert ear.heard[-1].keys() == others, "told before the end"
        assert ear.heard[-1] == {
            node_id: str(cluster.settings(node_id).advertised_client)
            for node_id in others
        }


async def test_who_is_given_leadership_is_named(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        ear = await _open_ear(leader)
        to = follower.node_id
        assert await leader.transfer_leadership(to, _S) == to
        async with asyncio.timeout(_S):
            refusal = await ear.closed
        assert refusal.details["leader"] == str(to)


async def test_a_stream_of_a_session_that_has_ended_is_refused(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = await cluster.leader()
        ear = await _open_ear(node)
        session = node.machine.sessions.find(hash_key(_KEY))
        node.detach(session, ear)
        await node.write(WriteCall(command=RevokeLease(session)), _S)
        refused = node.attach(session, _KEY, _Ear(node))
        assert refused is not None
        assert refused.reason is Reason.SESSION_EXPIRED


async def test_a_member_that_stops_ends_the_streams_of_readers_too(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = await cluster.leader()
        ear, reader = await _open_ear(node), _Ear(node)
        assert node.attach(0, b"", reader) is None
        node.stop_serving()
        assert ear.closed.result().reason is Reason.SHUTTING_DOWN
        assert reader.closed.result().reason is Reason.SHUTTING_DOWN
        assert not len(node.streams)
