"""Watches: nothing twice, nothing left out, whatever the connection does."""

from __future__ import annotations

import asyncio

import pytest

from raftclient import (
    InternalError,
    InvalidRequest,
    JobState,
    WatchEvent,
    WatchKind,
    aio,
)
from raftclient._feed import QUEUED_MAX
from raftclient._watch import KeyWatch
from raftpb.v1 import kv_pb2, queues_pb2
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import refusal

Kind = kv_pb2.WatchKeysResponse


def message(
    kind: kv_pb2.WatchKeysResponse.Kind.ValueType, revision: int, *keys: str
) -> kv_pb2.WatchKeysResponse:
    events = [
        kv_pb2.KeyEvent(revision=revision, key_value=kv_pb2.KeyValue(key=key.encode()))
        for key in keys
    ]
    return kv_pb2.WatchKeysResponse(kind=kind, revision=revision, events=events)


def push(
    cluster: FakeCluster,
    index: int,
    kind: kv_pb2.WatchKeysResponse.Kind.ValueType,
    revision: int,
    *keys: str,
) -> None:
    cluster.push(index, watch_keys=message(kind, revision, *keys))


async def take(watch: KeyWatch, count: int) -> list[tuple[WatchKind, bytes]]:
    events: list[WatchEvent] = [await anext(watch) for _ in range(count)]
    return [(event.kind, event.key) for event in events]


async def test_a_watch_resumes_behind_the_last_revision_it_saw(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(prefix="p") as watch:
        await cluster.until(lambda: len(cluster.watches) == 1)
        push(cluster, 0, Kind.KIND_EVENTS, 7, "p1", "p2")
        assert await take(watch, 2) == [(WatchKind.PUT, b"p1"), (WatchKind.PUT, b"p2")]
        push(cluster, 0, Kind.KIND_PROGRESS, 12)
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 2)
        first, second = (request.watch_keys for _, request in cluster.watches)
        assert (first.start, first.end, first.from_rev) == (b"p", b"q", 0)
        assert second.from_rev in {8, 13}
        push(cluster, 1, Kind.KIND_EVENTS, 14, "p3")
        assert await take(watch, 1) == [(WatchKind.PUT, b"p3")]


async def test_a_watch_that_heard_nothing_yet_goes_on_from_what_was_known(
    cluster: FakeCluster, client: aio.Client
) -> None:
    """What was written after it began must not be left out."""
    put = await client.put("p0", "before")
    async with client.watch(prefix="p"), client.watch_jobs("q"):
        await cluster.until(lambda: len(cluster.watches) == 2)
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 4)
        asked = [request for _, request in cluster.watches]
    keys = [each.watch_keys.from_rev for each in asked if each.HasField("watch_keys")]
    jobs = [each.watch_jobs.from_rev for each in asked if each.HasField("watch_jobs")]
    assert keys == [0, put.revision + 1]
    assert jobs == [0, put.revision + 1]


async def test_a_watch_that_began_in_an_empty_cluster_resumes_at_its_first_revision(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(prefix="p", initial=True) as watch:
        await cluster.until(lambda: len(cluster.watches) == 1)
        push(cluster, 0, Kind.KIND_SYNCED, 0)
        assert await take(watch, 1) == [(WatchKind.SYNCED, b"")]
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 2)
        resumed = cluster.watches[1][1].watch_keys
        assert (resumed.from_rev, resumed.initial) == (1, False)


async def test_a_list_that_was_cut_short_is_begun_again_behind_a_resync(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(key="k", initial=True) as watch:
        await cluster.until(lambda: len(cluster.watches) == 1)
        push(cluster, 0, Kind.KIND_INITIAL, 5, "k")
        assert await take(watch, 1) == [(WatchKind.INITIAL, b"k")]
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 2)
        assert cluster.watches[1][1].watch_keys.initial
        push(cluster, 1, Kind.KIND_INITIAL, 6, "k")
        push(cluster, 1, Kind.KIND_SYNCED, 6)
        assert await take(watch, 3) == [
            (WatchKind.RESYNC, b""),
            (WatchKind.INITIAL, b"k"),
            (WatchKind.SYNCED, b""),
        ]
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 3)
        resumed = cluster.watches[2][1].watch_keys
        assert (resumed.initial, resumed.from_rev) == (False, 7)


async def test_a_resync_of_the_server_is_passed_on(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(prefix="", from_rev=3) as watch:
        await cluster.until(lambda: cluster.watches)
        assert cluster.watches[0][1].watch_keys.to_last
        push(cluster, 0, Kind.KIND_RESYNC, 50)
        push(cluster, 0, Kind.KIND_INITIAL, 50, "a")
        push(cluster, 0, Kind.KIND_SYNCED, 50)
        assert [kind for kind, _ in await take(watch, 3)] == [
            WatchKind.RESYNC,
            WatchKind.INITIAL,
            WatchKind.SYNCED,
        ]
        assert watch.revision == 50


async def test_a_slow_consumer_gets_everything_and_fills_no_memory(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(prefix="") as watch:
        await cluster.until(lambda: cluster.watches)
        keys = [f"k{n}" for n in range(QUEUED_MAX + 1)]
        push(cluster, 0, Kind.KIND_EVENTS, 7, *keys)
        await cluster.until(
            lambda: any(message.cancel_tags for message in cluster.messages)
        )
        push(cluster, 0, Kind.KIND_EVENTS, 8, "not taken")
        got = [(await anext(watch)).key.decode() for _ in keys]
        assert got == keys
        waiting = asyncio.create_task(take(watch, 1))
        await cluster.until(lambda: len(cluster.watches) == 2)
        assert cluster.watches[1][1].watch_keys.from_rev == 8
        push(cluster, 1, Kind.KIND_EVENTS, 8, "taken")
        assert await waiting == [(WatchKind.PUT, b"taken")]


async def test_a_list_of_any_length_comes_whole_before_the_watch_rests(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(prefix="", initial=True) as watch:
        await cluster.until(lambda: cluster.watches)
        keys = [f"k{n}" for n in range(QUEUED_MAX + 1)]
        push(cluster, 0, Kind.KIND_INITIAL, 7, *keys)
        push(cluster, 0, Kind.KIND_INITIAL, 7, "last")
        push(cluster, 0, Kind.KIND_SYNCED, 7)
        await cluster.until(
            lambda: any(message.cancel_tags for message in cluster.messages)
        )
        wanted = [(WatchKind.INITIAL, key.encode()) for key in [*keys, "last"]]
        assert await take(watch, len(wanted)) == wanted
        assert await take(watch, 1) == [(WatchKind.SYNCED, b"")]
        waiting = asyncio.create_task(take(watch, 1))
        await cluster.until(lambda: len(cluster.watches) == 2)
        again = cluster.watches[1][1].watch_keys
        assert (again.from_rev, again.initial) == (8, False)
        push(cluster, 1, Kind.KIND_EVENTS, 8, "next")
        assert await waiting == [(WatchKind.PUT, b"next")]


async def test_an_answer_of_many_large_values_is_taken(
    cluster: FakeCluster, client: aio.Client
) -> None:
    value = bytes(1024 * 1024)
    async with client.watch(prefix="") as watch:
        await cluster.until(lambda: cluster.watches)
        events = [
            kv_pb2.KeyEvent(
                revision=7, key_value=kv_pb2.KeyValue(key=b"%d" % n, value=value)
            )
            for n in range(20)
        ]
        answer = kv_pb2.WatchKeysResponse(
            kind=Kind.KIND_EVENTS, revision=7, events=events
        )
        cluster.push(0, watch_keys=answer)
        assert [(await anext(watch)).value for _ in events] == [value] * len(events)
        assert len(cluster.watches) == 1, "it was not sent again"


async def test_closing_ends_the_iteration_and_the_watch(
    cluster: FakeCluster, client: aio.Client
) -> None:
    watch = client.watch(key="k")
    await cluster.until(lambda: cluster.watches)
    watch.close()
    assert [event async for event in watch] == []
    tag = cluster.watches[0][1].tag
    await cluster.until(lambda: any(tag in m.cancel_tags for m in cluster.messages))


async def test_a_watch_that_is_refused_raises(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.watch(key="k") as watch:
        await cluster.until(lambda: cluster.watches)
        cluster.push(0, refusal=refusal("INTERNAL", "unknown"))
        with pytest.raises(InternalError):
            await anext(watch)


async def test_a_watch_names_a_key_or_a_prefix(client: aio.Client) -> None:
    with pytest.raises(InvalidRequest):
        client.watch()
    with pytest.raises(InvalidRequest):
        client.watch(key="a", prefix="b")


async def test_waiting_for_a_job_ends_with_its_final_state(
    cluster: FakeCluster, client: aio.Client
) -> None:
    waiting = asyncio.create_task(client.wait_job(7))
    await cluster.until(lambda: cluster.watches)
    for revision, state in (
        (5, queues_pb2.JOB_STATE_RESERVED),
        (6, queues_pb2.JOB_STATE_DONE),
    ):
        event = queues_pb2.JobEvent(revision=revision, job_id=7, state=state)
        cluster.push(
            0,
            watch_jobs=queues_pb2.WatchJobsResponse(revision=revision, events=[event]),
        )
    assert (await waiting).state is JobState.GONE, "the scripted job has no state"
