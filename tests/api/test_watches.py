"""Watches as plain server streams, and on session streams."""

from __future__ import annotations

from typing import Any

import pytest

from raftd.node.service import WriteCall
from raftd.statemachine.schema.kv import CompactHistory
from raftpb.v1 import (
    elections_pb2,
    kv_pb2,
    leases_pb2,
    queues_pb2,
    sessions_pb2,
    txn_pb2,
)
from tests.api.clients import Stubs, refusal_of, session_stream
from tests.api.solo_node import CLUSTER_ID, SoloNode

Kind = kv_pb2.WatchKeysResponse


class Reader:
    """Reads one watch; what says only "nothing happened" is passed over."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def next(self) -> Any:
        while True:
            message = await self._call.read()
            is_news = getattr(message, "kind", 0) != Kind.KIND_PROGRESS
            if is_news and (message.events or hasattr(message, "kind")):
                return message


async def put(stubs: Stubs, key: bytes, value: bytes = b"v") -> int:
    answer = await stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=key, value=value))
    revision: int = answer.mod_rev
    return revision


def watch(stubs: Stubs, **fields: Any) -> Reader:
    return Reader(stubs.kv.WatchKeys(kv_pb2.WatchKeysRequest(**fields)))


async def test_a_watch_from_a_revision_misses_nothing(stubs: Stubs) -> None:
    first = await put(stubs, b"a", b"1")
    await put(stubs, b"b")
    second = await put(stubs, b"a", b"2")
    reader = watch(stubs, start=b"a", from_rev=first)
    message = await reader.next()
    assert message.kind == Kind.KIND_EVENTS
    assert [(e.revision, e.key_value.value) for e in message.events] == [
        (first, b"1"),
        (second, b"2"),
    ]
    assert message.revision >= second
    assert message.header.cluster_id == CLUSTER_ID
    await stubs.kv.DeleteKey(kv_pb2.DeleteKeyRequest(key=b"a"))
    (gone,) = (await reader.next()).events
    assert gone.is_delete
    assert (gone.key_value.key, gone.key_value.value) == (b"a", b"")


async def test_a_list_first_then_what_comes_after_it(stubs: Stubs) -> None:
    await put(stubs, b"p/1")
    last = await put(stubs, b"p/2")
    reader = watch(stubs, start=b"p/", end=b"p0", initial=True)
    listed = await reader.next()
    assert listed.kind == Kind.KIND_INITIAL
    assert [event.key_value.key for event in listed.events] == [b"p/1", b"p/2"]
    synced = await reader.next()
    assert (synced.kind, synced.revision) == (Kind.KIND_SYNCED, last)
    await put(stubs, b"q")
    await put(stubs, b"p/3")
    (event,) = (await reader.next()).events
    assert event.key_value.key == b"p/3"


async def test_a_long_list_comes_in_parts(stubs: Stubs) -> None:
    for key in (b"a", b"b", b"c"):
        await put(stubs, key, bytes(1 << 20))
    reader = watch(stubs, to_last=True, initial=True)
    parts = [await reader.next() for _ in range(3)]
    assert [part.kind for part in parts] == [
        Kind.KIND_INITIAL,
        Kind.KIND_INITIAL,
        Kind.KIND_SYNCED,
    ]
    keys = [event.key_value.key for part in parts for event in part.events]
    assert keys == [b"a", b"b", b"c"]


async def test_a_revision_is_never_split(stubs: Stubs) -> None:
    first = await put(stubs, b"before")
    ops = [
        txn_pb2.Op(put=txn_pb2.PutOp(key=b"k%d" % number, value=bytes(1 << 20)))
        for number in range(3)
    ]
    await stubs.txn.Transact(txn_pb2.TransactRequest(then_ops=ops))
    after = await put(stubs, b"z")
    reader = watch(stubs, to_last=True, from_rev=first)
    whole = await reader.next()
    assert [event.key_value.key for event in whole.events] == [
        b"before",
        b"k0",
        b"k1",
        b"k2",
    ]
    assert whole.revision == whole.events[-1].revision
    (event,) = (await reader.next()).events
    assert event.revision == after


async def test_filters_and_previous_values(stubs: Stubs) -> None:
    first = await put(stubs, b"a", b"old")
    await put(stubs, b"a", b"new")
    await stubs.kv.DeleteKey(kv_pb2.DeleteKeyRequest(key=b"a"))
    puts = watch(stubs, start=b"a", from_rev=first, no_deletes=True, want_previous=True)
    events = (await puts.next()).events
    assert [event.previous.value for event in events] == [b"", b"old"]
    deletes = watch(stubs, start=b"a", from_rev=first, no_puts=True)
    (event,) = (await deletes.next()).events
    assert event.is_delete
    assert not event.HasField("previous")


async def test_where_history_is_gone_a_fresh_list_follows(
    stubs: Stubs, node: SoloNode
) -> None:
    first = await put(stubs, b"a", b"1")
    last = await put(stubs, b"a", b"2")
    await node.write(WriteCall(command=CompactHistory(last)), None)
    reader = watch(stubs, start=b"a", from_rev=first)
    kinds = [(await reader.next()) for _ in range(3)]
    assert [message.kind for message in kinds] == [
        Kind.KIND_RESYNC,
        Kind.KIND_INITIAL,
        Kind.KIND_SYNCED,
    ]
    assert kinds[1].events[0].key_value.value == b"2"


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (kv_pb2.WatchKeysRequest(), "a key has at least one byte"),
        (
            kv_pb2.WatchKeysRequest(start=b"b", end=b"a"),
            "the range is empty: its end is not above its start",
        ),
        (
            kv_pb2.WatchKeysRequest(start=b"a", end=b"b", to_last=True),
            "a watch has an end or goes to the last key, not both",
        ),
        (
            kv_pb2.WatchKeysRequest(start=b"a", initial=True, from_rev=5),
            "a watch begins with a list or from a revision, not with both",
        ),
        (
            kv_pb2.WatchKeysRequest(start=b"a", no_puts=True, no_deletes=True),
            "a watch without puts and without deletes has nothing to say",
        ),
    ],
)
async def test_a_bad_watch_is_refused(
    stubs: Stubs, request_: kv_pb2.WatchKeysRequest, sentence: str
) -> None:
    refused = await refusal_of(stubs.kv.WatchKeys(request_).read())
    assert (refused.reason, refused.sentence) == ("INVALID_REQUEST", sentence)


async def test_observers_see_every_transition(stubs: Stubs) -> None:
    request = elections_pb2.ObserveElectionRequest(name="e")
    reader = Reader(stubs.elections.ObserveElection(request))
    (nobody,) = (await reader.next()).events
    assert not nobody.HasField("leader")
    lease = (
        await stubs.leases.GrantLease(leases_pb2.GrantLeaseRequest(ttl_ms=5000))
    ).lease_id
    campaign = elections_pb2.CampaignRequest(
        name="e", lease_id=lease, claimant="a", value=b"v"
    )
    epoch = (await stubs.elections.Campaign(campaign)).epoch
    (won,) = (await reader.next()).events
    assert (won.leader.epoch, won.leader.claimant, won.leader.value) == (
        epoch,
        "a",
        b"v",
    )
    await stubs.elections.Resign(elections_pb2.ResignRequest(name="e", epoch=epoch))
    (over,) = (await reader.next()).events
    assert (over.leader.epoch, over.revision > won.revision) == (0, True)


async def test_an_observer_whose_history_is_gone_gets_the_present(
    stubs: Stubs, node: SoloNode
) -> None:
    last = await put(stubs, b"a")
    await node.write(WriteCall(command=CompactHistory(last)), None)
    request = elections_pb2.ObserveElectionRequest(name="e", from_rev=1)
    message = await Reader(stubs.elections.ObserveElection(request)).next()
    assert message.is_resync
    assert len(message.events) == 1


async def test_the_life_of_a_job_and_of_a_queue(stubs: Stubs) -> None:
    spec = txn_pb2.JobSpec(queue="q", client_id="mine")
    request = queues_pb2.EnqueueJobsRequest(jobs=[spec])
    job = (await stubs.queues.EnqueueJobs(request)).jobs[0].job_id
    of_job = Reader(stubs.queues.WatchJobs(queues_pb2.WatchJobsRequest(job_id=job)))
    (now,) = (await of_job.next()).events
    assert (now.state, now.client_id) == (queues_pb2.JOB_STATE_READY, "mine")
    of_queue = Reader(
        stubs.queues.WatchJobs(queues_pb2.WatchJobsRequest(queue="q", from_rev=1))
    )
    (new,) = (await of_queue.next()).events
    assert (new.previous_state, new.job_id) == (queues_pb2.JOB_STATE_UNSPECIFIED, job)
    await stubs.queues.CancelJob(queues_pb2.CancelJobRequest(job_id=job))
    for reader in (of_job, of_queue):
        (event,) = (await reader.next()).events
        assert event.state == queues_pb2.JOB_STATE_CANCELLED
        assert event.previous_state == queues_pb2.JOB_STATE_READY


async def test_a_watch_is_of_one_job_or_one_queue(stubs: Stubs) -> None:
    for request in (
        queues_pb2.WatchJobsRequest(),
        queues_pb2.WatchJobsRequest(queue="q", job_id=1),
    ):
        refused = await refusal_of(stubs.queues.WatchJobs(request).read())
        sentence = "a watch is of one job or of one queue, not of both"
        assert refused.sentence == sentence


@pytest.mark.parametrize("carrier", ["grpc", "plain"], indirect=True)
async def test_a_watch_on_a_stream_until_it_is_cancelled(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        body = kv_pb2.WatchKeysRequest(to_last=True, initial=True)
        request = sessions_pb2.StreamRequest(tag=5, watch_keys=body)
        await stream.send(request)
        assert (await stream.reply(5, 2)).watch_keys.kind == Kind.KIND_SYNCED
        revision = await put(stubs, b"a")
        reply = await stream.reply(5, 3)
        assert reply.watch_keys.events[0].revision == revision
        assert reply.revision >= revision
        await stream.send(cancel_tags=[5])
        await stream.send(
            sessions_pb2.StreamRequest(tag=6, get_key=kv_pb2.GetKeyRequest(key=b"a"))
        )
        await stream.reply(6)
        assert len(node.watches) == 0


@pytest.mark.parametrize("carrier", ["grpc", "plain"], indirect=True)
async def test_a_stream_that_ends_ends_its_watches(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        body = kv_pb2.WatchKeysRequest(to_last=True, initial=True)
        await stream.send(sessions_pb2.StreamRequest(tag=5, watch_keys=body))
        await stream.reply(5)
        await stream.hello(0)  # a second one ends the stream
        await stream.ended()
    assert len(node.watches) == 0
