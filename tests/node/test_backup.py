"""Backups of running nodes: complete, through any member, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftd.node.errors import BackupBroken
from raftd.node.node import Node
from raftd.node.roster import decode_roster
from raftd.node.service import WriteCall
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.restore import Restoring
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.storage.backup_file import BackupHeader, BackupReader
from tests.node.cluster import Cluster
from tests.timers import Timers

_LATER = {"checkpoint_interval_ms": 86_400_000}
"""No mark comes by itself while a test runs."""


async def _put(node: Node, key: bytes, value: bytes = b"v") -> int:
    answered = await node.write(WriteCall(command=PutKey(key, value)), 10)
    assert isinstance(answered.answer, KeyPut)
    return answered.answer.mod_rev


async def _begin(node: Node, timeout_s: float = 20) -> AsyncIterator[bytes]:
    pieces = await node.backup(timeout_s)
    assert not isinstance(pieces, Refusal), pieces
    return pieces


async def _save(node: Node, path: Path) -> BackupHeader:
    with path.open("wb") as file:
        async for piece in await _begin(node):
            assert 0 < len(piece) <= 256 * 1024
            file.write(piece)
    with BackupReader(path) as reader:
        return reader.header


def _restoring(path: Path) -> Restoring:
    with BackupReader(path) as reader:
        header = reader.header
        return Restoring(
            DEFAULT_LIMITS, reader.rows(), index=header.index, digest=header.digest
        )


async def test_any_member_makes_one_with_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, **_LATER) as cluster:
        leader = await cluster.leader()
        for number, app in enumerate(cluster.apps.values()):
            assert app.node is not None
            revision = await _put(leader, b"k%d" % number, b"v" * 100_000)
            path = tmp_path / f"b{number}"
            header = await _save(app.node, path)
            assert header.node_id == app.node.node_id
            assert header.cluster_name == "test"
            assert header.cluster_id == app.node.header().cluster_id
            assert header.revision == revision
            members = decode_roster(header.roster).membership
            assert members.voters == (1, 2, 3)
            restoring = _restoring(path)
            assert restoring.keys == number + 1
            assert restoring.revision == revision


async def test_equal_states_make_equal_chunks_whoever_writes_them(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, **_LATER) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        for number in range(50):
            await _put(leader, b"k%d" % number)
        await asyncio.gather(
            _save(leader, tmp_path / "a"), _save(follower, tmp_path / "b")
        )
        digests = []
        for name in ("a", "b"):
            restoring = _restoring(tmp_path / name)
            digests.append((restoring.index, restoring.finish()))
        if digests[0][0] == digests[1][0]:
            assert digests[0] == digests[1]
        again = await _save(follower, tmp_path / "c")
        last = leader.driver.replica.core.last_index
        assert again.index <= last
        assert _restoring(tmp_path / "c").keys == 50


async def test_writes_go_on_and_are_in_it_or_not_but_whole(tmp_path: Path) -> None:
    async with Cluster(tmp_path, **_LATER) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        acknowledged = 0
        is_over = asyncio.Event()

        async def write() -> None:
            nonlocal acknowledged
            while not is_over.is_set():
                await _put(leader, b"k%06d" % acknowledged, b"v" * 1000)
                acknowledged += 1

        writer = asyncio.create_task(write())
        for number in range(3):
            before = acknowledged
            path = tmp_path / f"b{number}"
            await _save(follower, path)
            assert before <= _restoring(path).keys <= acknowledged + 1
        is_over.set()
        await writer
        assert acknowledged


async def test_a_merge_beside_it_does_not_show(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1, **_LATER) as cluster:
        node = await cluster.leader()
        for number in range(20):
            await _put(node, b"k%d" % number, b"v" * 300_000)
        pieces = await _begin(node)
        path = tmp_path / "b"
        with path.open("wb") as file:
            file.write(await anext(pieces))
            stores = cluster.apps[1]._stores  # noqa: SLF001  # no door merges
            assert stores is not None
            while (await stores.state.sizes()).delta_bytes:
                await stores.state.merge()  # or the node's own one did
            await _put(node, b"later")
            async for piece in pieces:
                file.write(piece)
        assert _restoring(path).keys == 20
        await _save(node, path)
        assert _restoring(path).keys == 21


async def test_nothing_is_marked_again_while_nothing_is_written(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=1, **_LATER) as cluster:
        node = await cluster.leader()
        await _put(node, b"k")
        first = await _save(node, tmp_path / "a")
        again = await _save(node, tmp_path / "b")
        assert again.index == first.index == node.machine.applied_index
        await _put(node, b"k")
        assert (await _save(node, tmp_path / "c")).index > first.index


async def test_another_leader_does_what_the_old_one_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **_LATER) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        await _put(leader, b"k")
        asked = asyncio.Event()
        monkeypatch.setattr(leader, "mark_beyond", lambda index: asked.set())
        saving = asyncio.create_task(_save(follower, tmp_path / "b"))
        await asked.wait()
        await cluster.stop(leader.node_id)
        header = await saving
        assert header.node_id == follower.node_id
        assert _restoring(tmp_path / "b").keys == 1


async def test_without_a_majority_there_is_none(tmp_path: Path) -> None:
    async with Cluster(tmp_path, **_LATER) as cluster:
        leader = await cluster.leader()
        others = [node_id for node_id in cluster.apps if node_id != leader.node_id]
        await cluster.stop(*others)
        refused = await leader.backup(0.5)
        assert isinstance(refused, Refusal)
        assert refused.reason in {Reason.DEADLINE, Reason.NO_LEADER, Reason.NOT_LEADER}


async def test_those_beyond_the_bound_wait_and_those_behind_them_are_refused(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, size=1, **_LATER) as cluster:
        node = await cluster.leader()
        await _put(node, b"k", b"v" * 1_000_000)
        first, second = await _begin(node), await _begin(node)
        await anext(first)
        late = await node.backup(0.05)
        assert isinstance(late, Refusal)
        assert late.reason is Reason.DEADLINE
        waiting = [asyncio.create_task(node.backup(20)) for _ in range(8)]
        await asyncio.sleep(0)
        refused = await node.backup(20)
        assert isinstance(refused, Refusal)
        assert refused.reason is Reason.OVERLOADED
        # One that is taken to its end, or dropped, makes room for the next.
        sizes = [sum([len(piece) async for piece in second])]
        del first, second
        for task in waiting:
            pieces = await task
            assert not isinstance(pieces, Refusal)
            sizes.append(sum([len(piece) async for piece in pieces]))
        assert min(sizes) > 1_000_000


async def test_one_that_nobody_takes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch, "raftd.node.backup._IDLE_S")
    async with Cluster(tmp_path, size=1, **_LATER) as cluster:
        node = await cluster.leader()
        await _put(node, b"k", b"v" * 1_000_000)
        stalled, never_begun = await _begin(node), await _begin(node)
        await anext(stalled)
        # Both hold the room that this one needs.
        next_one = asyncio.create_task(_begin(node))
        await timers.go_off(2)
        assert sum([len(piece) async for piece in await next_one]) > 1_000_000
        with pytest.raises(BackupBroken, match=r"nobody took its bytes for"):
            async for _ in stalled:
                pass
        with pytest.raises(BackupBroken, match=r"nobody took its bytes for"):
            await anext(never_begun)


async def test_a_member_that_stops_breaks_it_off_and_refuses_more(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path, size=1, **_LATER)
    async with cluster:
        node = await cluster.leader()
        await _put(node, b"k", b"v" * 1_000_000)
        pieces = await _begin(node)
        await anext(pieces)
        await cluster.stop(1)
        with pytest.raises(BackupBroken, match="this member is stopping"):
            async for _ in pieces:
                pass
        refused = await node.backup(1)
        assert isinstance(refused, Refusal)
