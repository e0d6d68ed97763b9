"""Plain streams end: by the client, however it goes, and by the member, with a reason.

Source: docs/adr/0018; SEMANTICS.md section 1.
"""

from __future__ import annotations

import asyncio

import grpc
import pytest

from raftd.api.server import ApiServer
from raftd.node.refusals import SHUTTING_DOWN
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import locks_pb2, queues_pb2, sessions_pb2, txn_pb2
from tests.api.clients import Stubs
from tests.api.doors import get, put, said, served, session_on
from tests.api.solo_node import SoloNode
from tests.api.wire import Wire, turns

Request = sessions_pb2.StreamRequest

RESERVE = queues_pb2.ReserveJobsRequest(
    queues=[queues_pb2.QueueWeight(queue="q")], wait_ms=60_000
)
HELD = locks_pb2.AcquireLockRequest(name="l", claimant="a")
WAITING = locks_pb2.AcquireLockRequest(name="l", claimant="b")


def go(wire: Wire, how: str) -> None:
    match how:
        case "close":
            wire.close()
        case "half_close":
            wire.half_close()
        case _:
            wire.reset()


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
@pytest.mark.parametrize("reads", [True, False])
async def test_who_goes_takes_no_job_afterwards(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch, how: str, reads: bool
) -> None:
    """Though answers are on their way that it did not read."""
    monkeypatch.setattr("raftd.api.plain.LINGER_S", 600.0)
    async with (
        served(node) as server,
        session_on(node, server.port, receives_bytes=1 << 16) as wire,
    ):
        await wire.write(said(put(1, bytes(1 << 20))))
        await wire.answer()
        await wire.write(said(Request(tag=2, number=2, acquire_lock=HELD)))
        await wire.answer()
        waiting = Request(tag=3, number=3, acquire_lock=WAITING)
        await wire.write(said(waiting, Request(tag=4, number=4, reserve_jobs=RESERVE)))
        if not reads:
            await wire.write(b"".join(said(get(tag)) for tag in range(10, 42)))
        await node.has_writes(5)
        await turns(100)
        go(wire, how)
        await node.is_detached.wait()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stubs = Stubs(channel)
            await stubs.queues.EnqueueJobs(
                queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec(queue="q")])
            )
            listed = await stubs.queues.ListJobs(queues_pb2.ListJobsRequest(queue="q"))
            assert [job.state for job in listed.jobs] == [queues_pb2.JOB_STATE_READY]
            assert len(node.detached) == 1
            assert node.machine.leases.is_alive(node.detached[0])


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_a_connection_does_not_outlive_its_client(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """One that never takes its last answers is let go of in the end."""
    monkeypatch.setattr("raftd.api.plain.LINGER_S", 0.05)
    async with (
        served(node) as server,
        session_on(node, server.port, receives_bytes=1 << 16) as wire,
    ):
        await wire.write(said(put(1, bytes(1 << 20))))
        await wire.answer()
        await wire.write(b"".join(said(get(tag)) for tag in range(10, 42)))
        await turns(100)
        go(wire, how)
        await server._front._is_idle.wait()  # noqa: SLF001  # no door shows it
        assert len(node.detached) == 1


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_who_goes_in_the_middle_of_a_frame_is_gone(
    server: ApiServer,
    node: SoloNode,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    async with session_on(node, server.port) as wire:
        await wire.write(said(put(1)) + said(put(2))[:-1])
        await node.has_writes(2)
        await wire.answer()
        go(wire, how)
        await node.is_detached.wait()
        await turns(10)
        assert len(node.writes) == 2, "half a frame is none"
    assert caplog.records == []


async def test_a_half_close_may_still_read_what_was_answered(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        await wire.write(said(put(1)))
        assert (await wire.answer()).replies[0].tag == 1
        wire.half_close()
        assert await wire.answers() == []


REASONS = [
    Refusal(Reason.NOT_LEADER, "n2 leads", {"leader": "2"}),
    SHUTTING_DOWN,
    Refusal(Reason.SESSION_EXPIRED, "the session is over"),
]


@pytest.mark.parametrize("refusal", REASONS, ids=lambda each: each.reason)
async def test_a_member_says_why_it_ends_a_stream_and_hangs_up(
    server: ApiServer, node: SoloNode, refusal: Refusal
) -> None:
    async with session_on(node, server.port) as wire:
        node.is_stopped = True
        await wire.write(said(put(1)))
        await node.has_writes(2)
        node.leader = 2
        (sink,) = node.streams.values()
        sink.close(refusal)
        (message,) = await wire.answers()
        assert message.end.refusal.reason == refusal.reason
        assert message.end.refusal.message == refusal.sentence
        assert (message.end.leader, message.end.leader_address) == (2, "h2:7400")
        assert message.header.node_id == 1
        assert [each.node_id for each in message.members] == [1, 2]
        assert len(node.detached) == 1


async def test_answers_that_are_ready_come_before_the_end(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        node.is_stopped = True
        await wire.write(said(put(1), put(2)))
        await node.has_writes(3)
        node.is_stopped = False
        node.turn()
        (sink,) = node.streams.values()
        sink.close(SHUTTING_DOWN)
        messages = await wire.answers()
        assert [reply.tag for each in messages for reply in each.replies] == [1, 2]
        assert messages[-1].end.refusal.reason == "SHUTTING_DOWN"


async def test_who_is_busy_when_its_stream_ends_hears_why(
    server: ApiServer, node: SoloNode
) -> None:
    """What it sends until it knows must not cost it the reason."""
    async with session_on(node, server.port, receives_bytes=1 << 12) as wire:
        await wire.write(said(put(1, bytes(1 << 20))))
        await wire.answer()
        await wire.write(b"".join(said(get(tag)) for tag in range(2, 5)))
        await turns(50)
        (sink,) = node.streams.values()
        sink.close(REASONS[0])
        piece = said(*[get(tag) for tag in range(100, 1000)])
        sending = asyncio.create_task(wire.write(piece * 400))
        messages = await wire.answers()
        assert messages[-1].end.refusal.reason == "NOT_LEADER"
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
