"""Snapshots between whole nodes: sent, broken off, resumed, and begun anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftd.consensus.types import NodeId
from raftd.node import snapshots_out
from raftd.node.disk_guard import DiskGuard
from raftd.node.peer_calls import (
    Noted,
    OfferSnapshot,
    SendChunks,
    SnapshotTold,
    decode_call,
    encode,
)
from raftd.node.roster import encode_roster
from raftd.node.snapshots_in import SnapshotsIn
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import DIGEST_BYTES
from raftd.storage.errors import StorageError
from raftd.storage.state_store import StateStore
from raftd.transport.links import Links
from tests.node.cluster import Cluster
from tests.node.snapshot_tools import (
    CUTTING,
    StageTap,
    break_link,
    compared_beyond,
    leave_behind,
    put,
)


@pytest.fixture
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send one chunk at a time, so that there is a middle to break off in."""
    monkeypatch.setattr(snapshots_out, "_PIECE_BYTES", 1)


async def test_a_follower_that_was_away_for_long_gets_a_snapshot(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        await cluster.start(node_id)
        await cluster.applied_everywhere()
        again = cluster.node(node_id)
        core = again.driver.replica.core
        assert core.first_index > 2
        await compared_beyond(cluster, core.last_index)
        await cluster.applied_everywhere()
        leader = await cluster.leader()
        assert again.machine.kv.count_all == leader.machine.kv.count_all
        await cluster.stop(node_id)
        await cluster.start(node_id)
        await cluster.applied_everywhere()
        assert cluster.node(node_id).machine.digest_index >= core.first_index - 1


@pytest.mark.usefixtures("_small_pieces")
async def test_a_broken_link_goes_on_at_the_chunk_where_it_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        tap = StageTap(node_id, monkeypatch)
        tap.hold(2)
        await cluster.start(node_id)
        await tap.is_held.wait()
        leader = await cluster.leader()
        break_link(cluster.apps[leader.node_id], node_id)
        tap.go_on()
        await cluster.applied_everywhere()
        offers = dict.fromkeys(offer for offer, _ in tap.staged)
        assert len(offers) == 1, "it was offered again as the same"
        numbers = [first for _, first in tap.staged]
        assert numbers == sorted(numbers)
        assert numbers.count(0) == 1
        assert numbers[-1] > 2
        await compared_beyond(cluster, cluster.node(node_id).machine.digest_index)


@pytest.mark.usefixtures("_small_pieces")
async def test_a_new_leader_offers_its_own_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        tap = StageTap(node_id, monkeypatch)
        tap.hold(1)
        await cluster.start(node_id)
        await tap.is_held.wait()
        old = await cluster.leader()
        old.driver.hand_over()
        while old.may_lead:
            await old.leader_changed()
        new = await cluster.leader()
        assert new.node_id not in (old.node_id, node_id)
        tap.go_on()
        await cluster.applied_everywhere()
        assert len(dict.fromkeys(offer for offer, _ in tap.staged)) == 2
        await compared_beyond(cluster, cluster.node(node_id).machine.digest_index)


async def test_a_receiver_that_stops_between_stage_and_finish_needs_no_chunk_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        tap = StageTap(node_id, monkeypatch)
        is_whole = asyncio.Event()

        async def stuck(*_: object) -> Machine:
            is_whole.set()
            await asyncio.Event().wait()
            raise AssertionError("it is cancelled")

        with monkeypatch.context() as patched:
            patched.setattr(SnapshotsIn, "_load", stuck)
            await cluster.start(node_id)
            await is_whole.wait()
            await cluster.stop(node_id)
        staged = len(tap.staged)
        await cluster.start(node_id)
        await cluster.applied_everywhere()
        assert len(tap.staged) == staged
        await compared_beyond(cluster, cluster.node(node_id).machine.digest_index)


async def test_a_row_that_was_altered_on_its_way_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        tap = StageTap(node_id, monkeypatch)
        altered = 0

        def alter(
            offer_id: bytes,
            first: int,
            chunks: tuple[bytes, ...],
            crcs: tuple[int, ...],
        ) -> SendChunks:
            nonlocal altered
            if not altered:
                altered += 1
                chunks = (b"\x00" + chunks[0][1:], *chunks[1:])
            return SendChunks(offer_id, first, chunks, crcs)

        monkeypatch.setattr(snapshots_out, "SendChunks", alter)
        await cluster.start(node_id)
        await cluster.applied_everywhere()
        assert altered
        assert [first for _, first in tap.staged].count(0) == 1, "it was not stored"
        await compared_beyond(cluster, cluster.node(node_id).machine.digest_index)


async def test_a_snapshot_of_what_is_committed_here_is_not_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        await put(leader, b"a")
        await cluster.applied_everywhere()
        tap = StageTap(follower.node_id, monkeypatch)
        core = follower.driver.replica.core
        receiver = cluster.apps[follower.node_id]._snapshots_in  # noqa: SLF001  # asked directly
        assert receiver is not None
        offer = OfferSnapshot(
            b"o" * 16, core.term, core.commit_index, core.term, b"", b"", 1, 1
        )
        told = await receiver.answer(NodeId(leader.node_id), offer)
        assert told.is_done
        other = NodeId(6 - leader.node_id - follower.node_id)
        refused = await receiver.answer(other, offer)
        assert refused.refusal
        assert not refused.is_done
        assert not tap.staged


async def test_a_failed_merge_is_tried_again_after_the_next_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = asyncio.Event()
    tries = 0

    async def merge(_: StateStore) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StorageError("The merge failed with exit code 1.")
        merged.set()
        return True

    monkeypatch.setattr(StateStore, "merge", merge)
    monkeypatch.setattr("raftd.storage.types._MERGE_BYTES_MIN", 1)
    async with Cluster(tmp_path, size=1, **CUTTING) as cluster:
        node = await cluster.leader()
        count = 0
        while not merged.is_set():
            await put(node, b"k%d" % count)
            count += 1
        assert tries == 2
        assert not node.driver.failed.done()


async def test_an_offer_that_is_no_state_is_refused_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        tap = StageTap(follower.node_id, monkeypatch)
        core = follower.driver.replica.core
        receiver = cluster.apps[follower.node_id]._snapshots_in  # noqa: SLF001  # asked directly
        assert receiver is not None
        roster, digest = encode_roster(follower.roster), bytes(DIGEST_BYTES)
        beyond = core.commit_index + 100
        for index_term, told_digest, count in (
            (core.term + 1, digest, 1),
            (0, digest, 1),
            (core.term, b"short", 1),
            (core.term, digest, -1),
        ):
            offer = OfferSnapshot(
                *(b"o" * 16, core.term, beyond, index_term, told_digest),
                *(roster, count, 1),
            )
            told = await receiver.answer(NodeId(leader.node_id), offer)
            assert told.refusal, offer
        assert not tap.staged
        assert not follower.driver.failed.done()


async def test_a_snapshot_takes_nothing_of_a_full_disks_last_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        tap = StageTap(node_id, monkeypatch)
        was_refused = asyncio.Event()
        take = SnapshotsIn._take_chunks  # noqa: SLF001  # seen, not changed

        async def seen(receiver: SnapshotsIn, call: SendChunks) -> SnapshotTold:
            told = await take(receiver, call)
            if told.refusal:
                was_refused.set()
            return told

        monkeypatch.setattr(SnapshotsIn, "_take_chunks", seen)
        others = [app.node.driver.guard for app in cluster.apps.values() if app.node]
        monkeypatch.setattr(
            DiskGuard, "is_full", property(lambda guard: guard not in others)
        )
        await cluster.start(node_id)
        await was_refused.wait()
        assert not tap.staged
        monkeypatch.undo()
        await cluster.applied_everywhere()


@pytest.mark.parametrize(
    "reply", [Noted(), SnapshotTold(have=-1)], ids=["another", "negative"]
)
async def test_an_answer_that_is_none_does_not_end_the_leader(
    reply: Noted | SnapshotTold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        leader = await cluster.leader()
        asked = asyncio.Event()
        call = Links.call

        async def answered(
            links: Links, peer: NodeId, request: bytes, timeout_s: float
        ) -> bytes:
            body = await call(links, peer, request, timeout_s)
            if isinstance(decode_call(request), OfferSnapshot) and not asked.is_set():
                asked.set()
                return encode(reply)
            return body

        monkeypatch.setattr(Links, "call", answered)
        await cluster.start(node_id)
        await asked.wait()
        await cluster.applied_everywhere()
        assert not leader.driver.failed.done()


async def test_a_follower_that_never_ends_loading_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_out, "_FINISH_S", 0.0)
    monkeypatch.setattr(snapshots_out, "_PATIENCE_S", 0.5)
    async with Cluster(tmp_path, **CUTTING) as cluster:
        node_id = await leave_behind(cluster)
        offers: dict[bytes, int] = {}
        is_again = asyncio.Event()
        take = SnapshotsIn._take_offer  # noqa: SLF001  # seen, not changed

        async def seen(receiver: SnapshotsIn, offer: OfferSnapshot) -> SnapshotTold:
            offers[offer.offer_id] = offers.get(offer.offer_id, 0) + 1
            if len(offers) > 1:
                is_again.set()
            return await take(receiver, offer)

        def never(_: SnapshotsIn, __: object) -> None:
            raise AssertionError("it is given up before it is asked")

        with monkeypatch.context() as patched:
            patched.setattr(SnapshotsIn, "_take_offer", seen)
            patched.setattr(SnapshotsIn, "_finish", never)
            await cluster.start(node_id)
            async with asyncio.timeout(30):
                await is_again.wait()
        monkeypatch.setattr(snapshots_out, "_FINISH_S", 300.0)
        monkeypatch.setattr(snapshots_out, "_PATIENCE_S", 60.0)
        await cluster.applied_everywhere()
