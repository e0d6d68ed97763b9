"""Every primitive on a session stream: the same table as the unary calls."""

from __future__ import annotations

from typing import Any

import pytest

from raftpb.v1 import (
    elections_pb2,
    kv_pb2,
    leases_pb2,
    locks_pb2,
    queues_pb2,
    sessions_pb2,
    txn_pb2,
)
from tests.api.clients import StreamClient, Stubs, session_stream
from tests.api.solo_node import SoloNode

Request = sessions_pb2.StreamRequest

pytestmark = pytest.mark.parametrize("carrier", ["grpc", "plain"], indirect=True)


class Caller:
    """Asks one thing after the other, numbering what writes."""

    def __init__(self, stream: StreamClient) -> None:
        self._stream = stream
        self._tag = 0
        self._number = 0

    async def begin(self, number: int = 0, **body: Any) -> int:
        self._tag += 1
        await self._stream.send(Request(tag=self._tag, number=number, **body))
        return self._tag

    async def answer(self, tag: int) -> Any:
        reply = await self._stream.reply(tag)
        field = reply.WhichOneof("body")
        assert field is not None
        return getattr(reply, field)

    async def write(self, **body: Any) -> Any:
        self._number += 1
        return await self.answer(await self.begin(self._number, **body))

    async def again(self, number: int, **body: Any) -> Any:
        return await self.answer(await self.begin(number, **body))

    async def read(self, **body: Any) -> Any:
        return await self.answer(await self.begin(**body))


async def test_keys(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        call = Caller(stream)
        put = await call.write(put_key=kv_pb2.PutKeyRequest(key=b"a", value=b"1"))
        await call.write(increment_key=kv_pb2.IncrementKeyRequest(key=b"a", by=4))
        found = await call.read(get_key=kv_pb2.GetKeyRequest(key=b"a"))
        assert found.key_value.value == b"5"
        assert found.key_value.create_rev == put.mod_rev
        listed = await call.read(list_keys=kv_pb2.ListKeysRequest())
        assert [each.key for each in listed.key_values] == [b"a"]
        gone = await call.write(
            delete_key=kv_pb2.DeleteKeyRequest(key=b"a", want_previous=True)
        )
        assert gone.previous.value == b"5"
        none = await call.write(delete_range=kv_pb2.DeleteRangeRequest())
        assert none.deleted == 0


async def test_a_key_below_the_compaction_is_refused_under_its_tag(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        node.machine.kv.compacted_rev = 9
        request = kv_pb2.GetKeyRequest(key=b"a", at_revision=3)
        refusal = await Caller(stream).read(get_key=request)
        assert (refusal.reason, refusal.code) == ("COMPACTED", 11)


async def test_a_stale_read_is_answered_though_nothing_is_agreed(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        node.is_stopped = True
        request = kv_pb2.GetKeyRequest(key=b"a")
        request.read.stale = True
        assert not (await Caller(stream).read(get_key=request)).found


async def test_transactions(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        put = txn_pb2.Op(put=txn_pb2.PutOp(key=b"k"))
        request = txn_pb2.TransactRequest(then_ops=[put])
        answer = await Caller(stream).write(transact=request)
        assert answer.succeeded
        assert answer.results[0].put.mod_rev


async def test_leases(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        call = Caller(stream)
        granted = await call.write(
            grant_lease=leases_pb2.GrantLeaseRequest(ttl_ms=1000)
        )
        lease = granted.lease_id
        found = await call.read(get_lease=leases_pb2.GetLeaseRequest(lease_id=lease))
        assert found.lease.ttl_ms == 1000
        listed = await call.read(list_leases=leases_pb2.ListLeasesRequest())
        assert [each.is_session for each in listed.leases] == [True, False]
        await call.write(revoke_lease=leases_pb2.RevokeLeaseRequest(lease_id=lease))


async def test_locks_are_paid_by_the_session(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        call = Caller(stream)
        acquire = locks_pb2.AcquireLockRequest(name="l", claimant="me")
        token = (await call.write(acquire_lock=acquire)).token
        found = await call.read(get_lock=locks_pb2.GetLockRequest(name="l"))
        assert found.lock.holders[0].token == token
        broken = await call.write(break_lock=locks_pb2.BreakLockRequest(name="l"))
        assert broken.holders == 1
        refusal = await call.write(
            release_lock=locks_pb2.ReleaseLockRequest(name="l", token=token)
        )
        assert refusal.reason in {"FENCED", "NOT_HOLDER", "NOT_FOUND"}


async def test_elections(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        call = Caller(stream)
        observing = await call.begin(
            observe_election=elections_pb2.ObserveElectionRequest(name="e")
        )
        await call.answer(observing)
        won = await call.write(
            campaign=elections_pb2.CampaignRequest(name="e", claimant="me")
        )
        while True:
            seen = await stream.reply(observing, len(stream.replies[observing]) + 1)
            events = seen.observe_election.events
            if events:
                break
        assert events[0].leader.epoch == won.epoch


async def test_jobs_with_operations_in_the_same_entry(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        call = Caller(stream)
        enqueue = queues_pb2.EnqueueJobsRequest(
            jobs=[txn_pb2.JobSpec(queue="q", payload=b"p")]
        )
        job = (await call.write(enqueue_jobs=enqueue)).jobs[0].job_id
        reserve = queues_pb2.ReserveJobsRequest(
            queues=[queues_pb2.QueueWeight(queue="q")]
        )
        taken = (await call.write(reserve_jobs=reserve)).jobs[0]
        again = (await call.again(2, reserve_jobs=reserve)).jobs[0]
        assert taken == again
        assert again.payload == b"p"
        count = txn_pb2.Op(increment=txn_pb2.IncrementOp(key=b"n", by=1))
        late = queues_pb2.CompleteJobRequest(
            job_id=job, token=taken.token + 1, ops=[count]
        )
        refusal = await call.write(complete_job=late)
        assert refusal.reason == "RESERVATION_LOST"
        complete = queues_pb2.CompleteJobRequest(
            job_id=job, token=taken.token, ops=[count]
        )
        for _ in range(2):
            done = await call.again(4, complete_job=complete)
            assert [each.increment.value for each in done.results] == [1]
        listed = await call.read(list_jobs=queues_pb2.ListJobsRequest(queue="q"))
        assert listed.jobs[0].state == queues_pb2.JOB_STATE_DONE


@pytest.mark.parametrize("wait_ms", [None, 60_000])
async def test_a_reserve_waits_on_the_stream(stubs: Stubs, wait_ms: int | None) -> None:
    async with session_stream(stubs) as stream:
        call = Caller(stream)
        reserve = queues_pb2.ReserveJobsRequest(
            queues=[queues_pb2.QueueWeight(queue="q")], wait_ms=wait_ms
        )
        waiting = await call.begin(1, reserve_jobs=reserve)
        enqueue = queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec(queue="q")])
        answer = await call.again(2, enqueue_jobs=enqueue)
        assert (await call.answer(waiting)).jobs[0].job_id == answer.jobs[0].job_id
