"""What an install does to whoever reads, watches and compares; and crashes in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftd.node.node import Node
from raftd.node.service import WatchKind, WatchSpec, WriteCall
from raftd.node.watches import Watch
from raftd.statemachine.events import Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import CompactHistory, HistoryCompacted, KeyValue
from raftd.storage.log_store import LogStore
from raftd.storage.state_store import StateStore
from tests.node.cluster import Cluster
from tests.node.snapshot_tools import (
    CUTTING,
    Filter,
    compared_beyond,
    cut_beyond,
    put,
)


async def _cut_off(
    cluster: Cluster, follower: Node, monkeypatch: pytest.MonkeyPatch
) -> list[Filter]:
    """Let nothing reach a follower, which goes on, until it needs a snapshot."""
    filters = [
        Filter(app, follower.node_id, monkeypatch)
        for node_id, app in cluster.apps.items()
        if node_id != follower.node_id
    ]
    await cut_beyond(cluster, follower.driver.replica.core.last_index + 1)
    return filters


def _heal(filters: list[Filter]) -> None:
    for each in filters:
        each.is_on = False


def _everything(machine: Machine) -> list[int]:
    return [machine.kv.count_all]


def _watch(node: Node, from_rev: int) -> Watch:
    watch = node.watch(WatchSpec(keep=_is_key, snapshot=_everything, from_rev=from_rev))
    assert not isinstance(watch, Refusal)
    return watch


def _is_key(event: Event) -> bool:
    return isinstance(event, KeyValue)


async def test_a_watch_reads_on_across_an_install_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        follower = await cluster.follower()
        await cluster.applied_everywhere()
        first = follower.machine.revision + 1
        watch = _watch(follower, first)
        filters = await _cut_off(cluster, follower, monkeypatch)
        leader = await cluster.leader()
        last = await put(leader, b"last")
        waiting = asyncio.create_task(
            follower.read(
                lambda machine: machine.revision, is_stale=True, min_revision=last
            )
        )
        _heal(filters)
        assert (await waiting).value >= last
        assert follower.machine.digest_index > 0
        seen: list[int] = []
        while not seen or seen[-1] < last:
            batch = await watch.next()
            assert batch.kind in {WatchKind.EVENTS, WatchKind.PROGRESS}
            seen += [event.mod_rev for event in batch.items]
        watch.close()
        assert seen == list(range(first, last + 1))


async def test_a_watch_behind_the_compaction_is_resynced_by_an_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        follower = await cluster.follower()
        await cluster.applied_everywhere()
        watch = _watch(follower, follower.machine.revision + 1)
        filters = await _cut_off(cluster, follower, monkeypatch)
        leader = await cluster.leader()
        told = await leader.write(
            WriteCall(command=CompactHistory(leader.machine.revision)), 10
        )
        assert isinstance(told.answer, HistoryCompacted)
        await cut_beyond(cluster, leader.driver.replica.core.last_index)
        _heal(filters)
        kinds: list[WatchKind] = []
        while not kinds or kinds[-1] is not WatchKind.SYNCED:
            kinds.append((await watch.next()).kind)
        watch.close()
        assert [kind for kind in kinds if kind is not WatchKind.PROGRESS] == [
            WatchKind.RESYNC,
            WatchKind.INITIAL,
            WatchKind.SYNCED,
        ]


async def test_a_divergence_after_an_install_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        follower = await cluster.follower()
        filters = await _cut_off(cluster, follower, monkeypatch)
        _heal(filters)
        await cluster.applied_everywhere()
        index = follower.machine.digest_index
        assert index > 0
        await compared_beyond(cluster, index)
        follower.machine.context.size_bytes += 1
        writing = asyncio.create_task(
            cut_beyond(cluster, follower.driver.replica.core.last_index + 200)
        )
        failure = await follower.driver.failed
        assert "differs from that of a majority" in str(failure)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.parametrize("where", ["before the state", "between state and log"])
async def test_an_install_that_is_cut_short_leaves_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with Cluster(tmp_path, **CUTTING) as cluster:
        follower = await cluster.follower()
        node_id = follower.node_id
        filters = await _cut_off(cluster, follower, monkeypatch)
        is_there = asyncio.Event()

        async def stuck(*_: object) -> None:
            is_there.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            if where == "before the state":
                patched.setattr(StateStore, "install", stuck)
            else:
                patched.setattr(LogStore, "reset", stuck)
            _heal(filters)
            await is_there.wait()
            await cluster.stop(node_id)
        await cluster.start(node_id)
        await cluster.applied_everywhere()
        again = cluster.node(node_id)
        await compared_beyond(cluster, again.machine.digest_index)
        await cluster.applied_everywhere()
        leader = await cluster.leader()
        assert again.machine.kv.count_all == leader.machine.kv.count_all
