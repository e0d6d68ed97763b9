"""The worker loop: every job is settled once, or left to others, and nobody hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raftclient import CANCEL_REQUESTED, InvalidRequest, ReservationLost, aio, txn
from raftclient.aio import ReservedJob
from raftpb.v1.common_pb2 import Refusal
from raftpb.v1.sessions_pb2 import StreamRequest
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import Act, Behave, refusal

KEPT_MS = 20_000
"""Of a reservation that must not be lost: long beside any moment of standing still."""


@asynccontextmanager
async def working(worker: aio.Worker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.stop()
        await task


async def upper(job: ReservedJob) -> bytes:
    return job.payload.upper()


async def test_results_become_completions(
    cluster: FakeCluster, client: aio.Client
) -> None:
    worker = client.worker("q", upper, concurrency=2)
    async with working(worker):
        cluster.state.enqueue(b"a", b"b", b"c")
        await cluster.until(lambda: len(cluster.state.of_kind("complete_job")) == 3)
    results = {body.result for body in cluster.state.of_kind("complete_job")}
    assert results == {b"A", b"B", b"C"}
    assert worker.handled == 3


async def test_an_exception_is_the_jobs_failure(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async def handler(job: ReservedJob) -> None:
        raise ValueError(job.payload.decode())

    async with working(client.worker("q", handler)):
        cluster.state.enqueue(b"broken")
        await cluster.until(lambda: cluster.state.of_kind("fail_job"))
    (failed,) = cluster.state.of_kind("fail_job")
    assert "ValueError: broken" in failed.error
    assert "handler" in failed.error, "with its traceback"


async def test_a_handler_may_settle_the_job_itself(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async def handler(job: ReservedJob) -> bytes:
        await job.complete("mine", ops=[txn.increment("n")])
        return b"ignored"

    async with working(client.worker("q", handler)):
        cluster.state.enqueue(b"a")
        await cluster.until(lambda: cluster.state.of_kind("complete_job"))
    (completed,) = cluster.state.of_kind("complete_job")
    assert completed.result == b"mine"
    assert completed.ops[0].increment.key == b"n"


async def test_no_more_jobs_are_fetched_than_handlers_are_free(
    cluster: FakeCluster, client: aio.Client
) -> None:
    full, gate = asyncio.Event(), asyncio.Event()
    inside = 0
    most = 0

    async def handler(job: ReservedJob) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 3:
            full.set()
        await gate.wait()
        inside -= 1

    async with working(client.worker("q", handler, concurrency=3)):
        cluster.state.enqueue(*(b"%d" % n for n in range(9)))
        await full.wait()
        assert len(cluster.state.jobs) == 6
        gate.set()
        await cluster.until(lambda: len(cluster.state.of_kind("complete_job")) == 9)
    assert most == 3


@pytest.mark.usefixtures("_often")
async def test_a_long_job_is_extended_though_the_handler_blocks_the_loop(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async def handler(job: ReservedJob) -> None:
        cluster.state.until(lambda: len(cluster.state.extensions) >= 4)

    cluster.state.extension_ms = KEPT_MS
    async with working(client.worker("q", handler)):
        cluster.state.enqueue(b"long", reservation_ms=KEPT_MS)
        await cluster.until(lambda: cluster.state.of_kind("complete_job"))
    assert len(cluster.state.of_kind("complete_job")) == 1


async def test_a_lost_reservation_cancels_the_handler_and_says_nothing(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cancelled = asyncio.Event()

    async def handler(job: ReservedJob) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    cluster.state.extends = False
    async with working(client.worker("q", handler)):
        cluster.state.enqueue(b"a", reservation_ms=600)
        await cancelled.wait()
    kinds = {each.kind for each in cluster.state.applied}
    assert kinds == {"reserve_jobs"}


@pytest.mark.usefixtures("_often")
async def test_a_cancelled_job_is_stopped_and_confirmed(
    cluster: FakeCluster, client: aio.Client
) -> None:
    reasons = []

    async def handler(job: ReservedJob) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(job.held.error().reason)

    cluster.state.wants_cancel = True
    async with working(client.worker("q", handler)):
        cluster.state.enqueue(b"a", reservation_ms=KEPT_MS)
        await cluster.until(lambda: cluster.state.of_kind("release_job"))
    assert reasons == [CANCEL_REQUESTED]


async def test_stopping_lets_handlers_finish(
    cluster: FakeCluster, client: aio.Client
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def handler(job: ReservedJob) -> None:
        begun.set()
        await gate.wait()

    worker = client.worker("q", handler)
    async with working(worker):
        cluster.state.enqueue(b"a")
        await begun.wait()
        worker.stop()
        gate.set()
    assert len(cluster.state.of_kind("complete_job")) == 1


async def test_stopping_without_grace_gives_jobs_back(
    cluster: FakeCluster, client: aio.Client
) -> None:
    begun = asyncio.Event()

    async def handler(job: ReservedJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with working(client.worker("q", handler, grace_s=0.0)):
        cluster.state.enqueue(b"a")
        await begun.wait()
    assert len(cluster.state.of_kind("release_job")) == 1
    assert not cluster.state.of_kind("complete_job")


async def test_a_cancelled_run_gives_jobs_back_and_stays_cancelled(
    cluster: FakeCluster, client: aio.Client
) -> None:
    begun = asyncio.Event()

    async def handler(job: ReservedJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(client.worker("q", handler).run())
    await cluster.until(lambda: cluster.state.reserve_line)
    cluster.state.enqueue(b"a")
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(cluster.state.of_kind("release_job")) == 1


async def test_a_refused_completion_ends_the_matter(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.behave = _refusing("complete_job", "RESERVATION_LOST")
    worker = client.worker("q", upper)
    async with working(worker):
        cluster.state.enqueue(b"a")
        await cluster.until(lambda: len(cluster.state.of_kind("reserve_jobs")) == 2)
    assert worker.handled == 0


async def test_a_reserve_that_makes_no_sense_ends_the_worker(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.behave = _refusing("reserve_jobs", "INVALID_NAME")
    with pytest.raises(InvalidRequest):
        await client.worker("", upper).run()


async def test_jobs_that_nobody_waits_for_any_more_are_given_back(
    cluster: FakeCluster, client: aio.Client
) -> None:
    reserving = asyncio.create_task(client.queue("q").reserve())
    await cluster.until(lambda: cluster.state.reserve_line)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    cluster.state.enqueue(b"a")
    await cluster.until(lambda: cluster.state.of_kind("release_job"))


async def test_a_reservation_goes_with_the_session(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.enqueue(b"a")
    (job,) = await client.queue("q").reserve(wait_s=0)
    session = await client.session()
    session.held.lose(ReservationLost("for the test"))
    assert job.is_lost


def _refusing(kind: str, reason: str) -> Behave:
    def behave(request: StreamRequest) -> Act | Refusal:
        return refusal(reason) if request.WhichOneof("body") == kind else Act.ANSWER

    return behave
