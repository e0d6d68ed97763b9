"""The first roster is durable before the first vote, and old directories get one.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rules 46 and 54.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from raftd.consensus.types import Index, Membership, NodeId, Term
from raftd.node.errors import NodeFailed
from raftd.node.roster import MemberRecord, decode_roster, encode_roster, first_roster
from raftd.node.service import AddMember, MemberInfo, WriteCall
from raftd.server.app import App
from raftd.server.config import Settings
from raftd.server.formation import Neighbours
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.storage.open import Stores, open_stores
from raftd.storage.types import NO_DIGEST, CheckpointMeta
from tests.node.cluster import Cluster

_CLUSTER = b"C" * 16


async def _stores(settings: Settings) -> Stores:
    return await open_stores(
        settings.data_dir,
        node_id=NodeId(settings.node_id),
        cluster_name=settings.cluster,
    )


async def _bound_before(settings: Settings, peers: dict[int, bytes]) -> None:
    """Leave a directory as the release before did: bound, with no roster."""
    async with await _stores(settings) as stores:
        own = {settings.node_id: stores.identity.incarnation}
        marks = {NodeId(n): mark for n, mark in (peers | own).items()}
        await stores.bind_cluster(_CLUSTER, marks)


async def test_the_first_roster_is_durable_before_the_node_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Cluster(tmp_path, 1).settings(1)
    async with await _stores(settings) as stores:
        neighbours = Neighbours(settings, stores)
        order: list[str] = []

        def watch(owner: object, name: str) -> None:
            method = getattr(owner, name)

            async def noted(*args: object) -> object:
                done = await method(*args)
                order.append(name)
                return done

            monkeypatch.setattr(owner, name, noted)

        watch(stores.state, "checkpoint")
        watch(stores, "bind_cluster")
        formed, roster = await neighbours.meet()
        assert order == ["checkpoint", "bind_cluster"]
        assert stores.state.meta is not None
        assert decode_roster(stores.state.meta.membership) == roster
        assert roster.origin == formed.voters == (1,)
        mark = stores.identity.incarnation
        (record,) = roster.members
        address = str(settings.client_listen)
        assert record == MemberRecord(
            NodeId(1), "n1", str(settings.peer_listen), address, mark
        )


async def test_a_directory_of_the_release_before_is_given_its_roster(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 1) as made:
        pass  # only for its addresses
    cluster = Cluster(tmp_path / "old", 1)
    cluster.members = made.members
    await _bound_before(cluster.settings(1), {})
    await cluster.start()
    try:
        leader = await cluster.leader()
        await cluster.until(lambda node: node.roster.level == 2)
        assert leader.header().cluster_id == _CLUSTER
        (member,) = leader.members
        assert member == MemberInfo(
            1, "n1", str(made.members[0].peer), str(made.members[0].client)
        )
        answered = await leader.write(WriteCall(command=PutKey(b"k", b"v")), 10.0)
        assert isinstance(answered.answer, KeyPut)
    finally:
        await cluster.stop()


async def test_its_members_are_those_it_was_formed_with_not_the_configured_ones(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, 2)
    settings = cluster.settings(1)
    marks = {2: b"2" * 16, 3: b"3" * 16}
    await _bound_before(settings, marks)
    async with await _stores(settings) as stores:
        formed, roster = await Neighbours(settings, stores).meet()
        assert roster.membership.voters == (1, 2, 3)
        assert [m.name for m in roster.members] == ["n1", "n2", "n3"]
        assert {m.node_id: m.incarnation for m in roster.members}[NodeId(2)] == marks[2]
        assert formed.cluster_id == _CLUSTER
        assert stores.state.meta is not None
        assert stores.state.meta.applied_index == 0


async def test_a_bare_membership_in_a_checkpoint_is_filled_with_what_is_known(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, 3)
    settings = cluster.settings(1)
    await _bound_before(settings, {2: b"2" * 16, 3: b"3" * 16})
    bare = msgspec.msgpack.encode(Membership((NodeId(1), NodeId(2), NodeId(3))))
    async with await _stores(settings) as stores:
        meta = CheckpointMeta(Index(0), Term(0), NO_DIGEST, bare)
        await stores.state.checkpoint(meta, ())
        _, roster = await Neighbours(settings, stores).meet()
        assert [m.peer_address for m in roster.members] == [
            str(member.peer) for member in cluster.members
        ]
        assert roster.get(2) is not None
        assert roster.level == 1, "until the leader has logged what they show"


async def test_a_later_roster_is_kept_whatever_is_configured(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3)
    settings = cluster.settings(1)
    await _bound_before(settings, {2: b"2" * 16})
    record = MemberRecord(NodeId(5), "five", "h5:1", "h5:2", b"5" * 16, 2)
    stored = msgspec.structs.replace(first_roster((1, 5), [record]), removed=(2,))
    async with await _stores(settings) as stores:
        meta = CheckpointMeta(Index(0), Term(0), NO_DIGEST, encode_roster(stored))
        await stores.state.checkpoint(meta, ())
        neighbours = Neighbours(settings, stores)
        _, roster = await neighbours.meet()
        assert roster.membership.voters == (1, 5)
        assert roster.removed == (2,)
        assert roster.get(5) == record


async def test_a_roster_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    settings = Cluster(tmp_path, 1).settings(1)
    await _bound_before(settings, {})
    async with await _stores(settings) as stores:
        meta = CheckpointMeta(Index(0), Term(0), NO_DIGEST, b"\xc1")
        await stores.state.checkpoint(meta, ())
        with pytest.raises(NodeFailed, match=r"state\.db: the list of members"):
            Neighbours(settings, stores)


async def test_a_node_may_wait_to_be_added_before_it_is(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        waiting = cluster.prepare(2)
        app = cluster.apps[2] = App(cluster.settings(2))
        starting = asyncio.create_task(app.start())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(starting), 0.3)
        change = AddMember(waiting.name, str(waiting.peer))
        added = await leader.change_members(change, 10.0)
        assert isinstance(added, MemberInfo)
        assert added.node_id == 2
        await starting
        await cluster.until(lambda node: 2 in node.roster.membership.voters)
