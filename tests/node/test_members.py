"""Members come, go and are replaced, in real clusters of one process.

Source: RELIABILITY.md rules 8, 39, 43-46, scenarios 31-35; SEMANTICS.md section 7.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from raftd.consensus.types import NodeId, Role
from raftd.node.errors import NodeFailed
from raftd.node.node import Node
from raftd.node.service import (
    AddMember,
    MemberChange,
    MemberInfo,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
    WriteCall,
)
from raftd.server.app import App
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import KeyPut, PutKey
from tests.node.cluster import Cluster
from tests.node.snapshot_tools import put

_S = 60.0


async def _put(node: Node, key: bytes, value: bytes = b"v") -> None:
    answered = await node.write(WriteCall(command=PutKey(key, value)), _S)
    assert isinstance(answered.answer, KeyPut), answered


def _value(node: Node, key: bytes) -> bytes | None:
    found = node.machine.kv.find(key)
    return found.value if found is not None else None


async def _changed(node: Node, change: MemberChange) -> MemberInfo:
    told = await node.change_members(change, _S)
    assert isinstance(told, MemberInfo), told
    return told


async def _refused(node: Node, change: MemberChange) -> Refusal:
    told = await node.change_members(change, _S)
    assert isinstance(told, Refusal), told
    return told


async def _silent(cluster: Cluster, node_id: int) -> Node:
    """Wait until nothing was heard of a node for a timeout; returns who leads."""
    async with asyncio.timeout(_S):
        while True:
            leader = await cluster.leader()
            seen = leader.driver.replica.core.followers().get(NodeId(node_id))
            if seen is not None and not seen.is_active:
                return leader
            await cluster.passed_time()


async def _ended(app: App) -> str:
    """Wait until a node ends by itself; returns its sentence."""
    async with asyncio.timeout(_S):
        return str(await app.wait_failed())


async def test_one_grows_to_three_and_every_member_knows_all(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        first = await cluster.leader()
        await _put(first, b"before")
        for node_id in (2, 3):
            await cluster.join(node_id)
        await cluster.until(lambda node: len(node.roster.membership.voters) == 3)
        await _put(cluster.node(3), b"after")
        await cluster.applied_everywhere()
        for node_id in (1, 2, 3):
            node = cluster.node(node_id)
            assert [m.kind for m in node.members] == ["voter"] * 3
            assert _value(node, b"before") == b"v"
            assert node.roster == first.roster
            assert all(m.incarnation and m.level >= 2 for m in node.roster.members)


async def test_a_grown_cluster_starts_again_from_its_own_disks(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        await cluster.join(2)
        await cluster.join(3)
        await _put(await cluster.leader(), b"kept")
        await cluster.stop()
        await cluster.start(2, 3)
        leader = await cluster.leader()
        await _put(leader, b"more")
        await cluster.start(1)
        await cluster.applied_everywhere()
        assert _value(cluster.node(1), b"more") == b"v"
        assert cluster.node(1).roster.membership.voters == (1, 2, 3)


async def test_a_removed_follower_stops_with_a_sentence_and_disturbs_nobody(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        await cluster.all_can_change()
        leader, gone = await cluster.leader(), await cluster.follower()
        app, term = cluster.apps[gone.node_id], leader.header().raft_term
        info = await _changed(leader, RemoveMember(gone.node_id))
        assert (info.node_id, info.kind) == (gone.node_id, "removed")
        assert "removed" in await _ended(app)
        await cluster.stop(gone.node_id)
        await _put(leader, b"after")
        await cluster.start(gone.node_id)
        assert "removed" in await _ended(cluster.apps[gone.node_id])
        assert leader.header().raft_term == term, "it came back and was let to vote"
        refusal = await _refused(
            leader, AddMember("again", "127.0.0.1:9", node_id=gone.node_id)
        )
        assert "never used twice" in refusal.sentence
        await cluster.stop(gone.node_id)


async def test_a_leader_that_removes_itself_hands_over_and_ends(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        await cluster.all_can_change()
        old = await cluster.leader()
        app = cluster.apps[old.node_id]
        await _changed(old, RemoveMember(old.node_id))
        assert "removed" in await _ended(app)
        await cluster.stop(old.node_id)
        new = await cluster.leader()
        await _put(new, b"after")
        assert new.roster.removed == (old.node_id,)
        assert len(new.roster.membership.voters) == 2


async def test_a_change_asked_of_a_follower_is_carried_out_by_the_leader(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        await cluster.all_can_change()
        follower = await cluster.follower()
        added = await _changed(follower, AddMember("new", "127.0.0.1:9", "h:7400"))
        assert added == MemberInfo(
            4, "new", "127.0.0.1:9", "h:7400", "learner", is_joining=True
        )
        await cluster.until(lambda node: node.roster.get(4) is not None)
        renamed = await _changed(follower, UpdateMember(4, name="renamed"))
        assert renamed.name == "renamed"
        assert renamed.client_address == "h:7400"
        gone = await _changed(follower, RemoveMember(4))
        assert (gone.name, gone.kind) == ("renamed", "removed")


async def test_a_wiped_disk_stops_and_comes_back_by_a_replacement(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        await cluster.all_can_change()
        leader, lost = await cluster.leader(), await cluster.follower()
        await _put(leader, b"kept")
        old_id = lost.node_id
        await cluster.stop(old_id)
        shutil.rmtree(tmp_path / f"n{old_id}")
        blank = App(cluster.settings(old_id))
        with pytest.raises(NodeFailed, match="raftctl member replace"):
            await blank.start()
        await blank.stop()
        shutil.rmtree(tmp_path / f"n{old_id}")
        member = cluster.prepare(4, like=cluster.members[old_id - 1])
        added = await _changed(
            leader, ReplaceMember(old_id, member.name, str(member.peer))
        )
        assert (added.node_id, added.kind, added.replaces) == (4, "learner", old_id)
        await cluster.start(4)
        await cluster.until(lambda node: old_id in node.roster.removed)
        voters = [n for n in (1, 2, 3) if n != old_id]
        await cluster.until(
            lambda node: (
                node.roster.membership.voters == (*voters, 4)
                and not node.roster.membership.outgoing
            )
        )
        assert leader.roster.get(4) is not None
        assert [m.replaces for m in leader.members] == [0, 0, 0]
        await cluster.applied_everywhere()
        assert _value(cluster.node(4), b"kept") == b"v"


async def test_an_added_id_is_bound_to_the_first_disk_that_shows_itself(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        await cluster.join(2)
        await cluster.stop(2)
        shutil.rmtree(tmp_path / "n2")
        second = App(cluster.settings(2))
        with pytest.raises(NodeFailed, match="raftctl member replace"):
            await second.start()
        await second.stop()


async def test_what_would_leave_no_live_majority_is_refused_unless_forced(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, election_ms=1000) as cluster:
        leader = await cluster.leader()
        await cluster.all_can_change()
        down, up = (n for n in (1, 2, 3) if n != leader.node_id)
        await cluster.stop(down)
        leader = await _silent(cluster, down)
        refusal = await _refused(leader, RemoveMember(up))
        assert refusal.reason is Reason.PRECONDITION
        assert "of the 2 voters that would be left only 1" in refusal.sentence
        assert f"({down} cannot)" in refusal.sentence
        await _changed(leader, RemoveMember(down))
        assert leader.roster.removed == (down,)


async def test_each_impossible_wish_is_refused_in_a_sentence(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        own = leader.members[0]
        await _changed(leader, AddMember("two", "127.0.0.1:9", "127.0.0.1:8"))
        address = "127.0.0.1:10"
        cases: list[tuple[MemberChange, Reason, str]] = [
            (RemoveMember(1), Reason.PRECONDITION, "the only voter"),
            (RemoveMember(7), Reason.NOT_FOUND, "no member 7"),
            (UpdateMember(7, "x"), Reason.NOT_FOUND, "no member 7"),
            (ReplaceMember(7, "x", address), Reason.NOT_FOUND, "no member 7"),
            (AddMember("two", address), Reason.PRECONDITION, "the name 'two'"),
            (AddMember("x", "127.0.0.1:9"), Reason.PRECONDITION, "the peer address"),
            (
                AddMember("x", address, own.client_address),
                Reason.PRECONDITION,
                "the client address",
            ),
            (AddMember("x", address, node_id=1), Reason.PRECONDITION, "a member 1"),
            (UpdateMember(2, name=own.name), Reason.PRECONDITION, "belongs to"),
        ]
        for wish, reason, words in cases:
            refusal = await _refused(leader, wish)
            assert refusal.reason is reason, wish
            assert words in refusal.sentence
        assert leader.roster.next_id == 3, "a refusal uses nothing up"


async def test_a_member_that_moved_is_found_and_its_address_logged(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        moved = (await cluster.follower()).node_id
        await cluster.all_can_change()
        await cluster.stop(moved)
        cluster.move(moved)
        await cluster.start(moved)
        address = str(cluster.settings(moved).peer_listen)

        def is_known(node: Node) -> bool:
            record = node.roster.get(moved)
            return record is not None and record.peer_address == address

        await cluster.until(is_known)
        await _put(cluster.node(moved), b"from there")
        await cluster.applied_everywhere()


# --- leadership -----------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["leader", "follower"])
async def test_leadership_goes_to_whom_it_was_given(asked: str, tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        node = leader if asked == "leader" else follower
        to = follower.node_id
        assert await node.transfer_leadership(to, _S) == to
        assert follower.driver.replica.core.role is Role.LEADER
        assert await node.transfer_leadership(to, _S) == to, "it leads already"
        other = await node.transfer_leadership(None, _S)
        assert isinstance(other, int)
        assert other != to


async def test_leadership_goes_to_no_learner_no_stranger_and_nobody_out_of_touch(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        await cluster.all_can_change()
        leader, follower = await cluster.leader(), await cluster.follower()
        await _changed(leader, AddMember("new", "127.0.0.1:9"))
        await cluster.stop(follower.node_id)
        cases = [
            (4, Reason.PRECONDITION, "is a learner"),
            (7, Reason.NOT_FOUND, "no voter 7"),
            (follower.node_id, Reason.PRECONDITION, "cannot be reached"),
        ]
        for to, reason, words in cases:
            refusal = await leader.transfer_leadership(to, _S)
            assert isinstance(refusal, Refusal)
            assert refusal.reason is reason
            assert words in refusal.sentence
        assert leader.driver.replica.core.role is Role.LEADER


# --- the release before ---------------------------------------------------------------


@pytest.mark.parametrize("all_take_snapshots", [False, True])
async def test_nobody_is_cut_off_while_a_member_may_not_take_snapshots(
    all_take_snapshots: bool, tmp_path: Path
) -> None:
    async with Cluster(
        tmp_path, checkpoint_interval_ms=100, log_keep_bytes=1, election_ms=1000
    ) as cluster:
        leader, away = await cluster.leader(), (await cluster.follower()).node_id
        await cluster.all_can_change()
        if not all_take_snapshots:
            for app in cluster.apps.values():
                assert app.node is not None
                marks = app.node.driver.replica.marks
                marks.may_send_snapshots = lambda: False
        await cluster.stop(away)
        leader = await _silent(cluster, away)
        core = leader.driver.replica.core
        had = core.followers()[NodeId(away)].match_index
        while all_take_snapshots and core.first_index <= had + 1:
            await put(leader, b"k")
        for _ in range(3):
            begin = core.last_index
            while leader.driver.replica.marks.digest_at < begin:
                await put(leader, b"k")
        assert (core.first_index > had + 1) is all_take_snapshots
        await cluster.start(away)
        await cluster.applied_everywhere()


# --- strangers ------------------------------------------------------------------------


async def test_who_slept_through_every_change_still_votes_for_strangers(
    tmp_path: Path,
) -> None:
    """Member 2 knows 1 to 3; the cluster has become 2, 4 and 5, and 4 is away.

    Nobody whom it knows is left, and without its vote nobody can lead.
    """
    async with Cluster(tmp_path, 1) as cluster:
        await cluster.join(2)
        await cluster.join(3)
        await cluster.stop(2)
        await cluster.join(4)
        await cluster.join(5)
        for node_id in (3, 1):
            await _changed(await cluster.leader(), RemoveMember(node_id))
            await cluster.stop(node_id)
        assert (await cluster.leader()).roster.membership.voters == (2, 4, 5)
        await cluster.stop(4)
        await cluster.start(2)
        leader = await cluster.leader()
        assert leader.node_id == 5
        await _put(leader, b"k")
        await cluster.applied_everywhere()
        assert cluster.node(2).roster == leader.roster
