"""Queues: what an enqueue and a configuration say, and who works on what."""

from __future__ import annotations

import asyncio
import datetime

import pytest

from raftclient import (
    Backoff,
    InvalidRequest,
    JobSpec,
    OnConflict,
    QueueInfo,
    Unique,
    UniqueUntil,
    aio,
)
from raftclient.queue_info import QueueOptions, options_to_wire, queue_info
from raftpb.v1 import queues_pb2, txn_pb2
from tests.client.fake_server import FakeCluster

Spec = txn_pb2.JobSpec
Uniqueness = txn_pb2.UniqueSpec


def test_a_plain_job_says_nothing_that_it_was_not_told() -> None:
    assert JobSpec("p").to_wire("q") == Spec(queue="q", payload=b"p")


def test_a_job_says_all_it_was_told_in_the_apis_units() -> None:
    spec = JobSpec(
        b"p",
        type="mail",
        content_type="text/plain",
        meta={"a": "b"},
        priority=0,
        delay_s=1.5,
        run_at=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
        max_attempts=3,
        backoff=Backoff.LINEAR,
        backoff_base_s=0.25,
        backoff_cap_s=60,
        backoff_jitter=0,
        reservation_s=5,
        max_runtime_s=50,
        deadline_s=500,
        job_id="mine",
        unique=Unique("k", UniqueUntil.WINDOW, 2.0, OnConflict.DEBOUNCE),
        group="g",
        group_limit=2,
        after=[7, 8],
        runs_anyway=True,
    )
    assert spec.to_wire("q") == Spec(
        queue="q",
        payload=b"p",
        type="mail",
        content_type="text/plain",
        meta={"a": "b"},
        priority=0,
        delay_ms=1500,
        run_at_ms=1893456000000,
        max_attempts=3,
        backoff=txn_pb2.BACKOFF_LINEAR,
        backoff_base_ms=250,
        backoff_cap_ms=60_000,
        backoff_jitter=0,
        reservation_ms=5000,
        max_runtime_ms=50_000,
        deadline_ms=500_000,
        client_id="mine",
        unique=Uniqueness(
            key="k",
            until=Uniqueness.UNTIL_WINDOW,
            window_ms=2000,
            on_conflict=Uniqueness.ON_CONFLICT_DEBOUNCE,
        ),
        group="g",
        group_limit=2,
        after=[7, 8],
        on_parent_failure=Spec.ON_PARENT_FAILURE_CONTINUE,
    )


def test_a_misspelt_option_is_an_error_and_not_forgotten() -> None:
    with pytest.raises(InvalidRequest, match="priorty"):
        JobSpec("p", priorty=1)  # type: ignore[call-arg]  # the misspelling under test
    with pytest.raises(InvalidRequest, match="depth"):
        options_to_wire({"depth": 1})  # type: ignore[typeddict-unknown-key]  # as above


def test_a_queues_settings_come_back_as_they_were_given() -> None:
    given = QueueOptions(
        depth_max=5,
        concurrency_max=0,
        backoff=Backoff.FIXED,
        reservation_s=2.5,
        may_complete_late=False,
    )
    wire = queues_pb2.Queue(name="q", ready=3, options=options_to_wire(given))
    found = queue_info(wire)
    assert isinstance(found, QueueInfo)
    assert (found.name, found.ready) == ("q", 3)
    assert found.options == given


async def test_jobs_are_enqueued_together_and_told_apart(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.queue("q").enqueue_many(["a", JobSpec("b", priority=0)])
    (body,) = cluster.state.of_kind("enqueue_jobs")
    assert [job.payload for job in body.jobs] == [b"a", b"b"]
    assert not body.jobs[0].HasField("priority")
    assert body.jobs[1].HasField("priority"), "0 is the first, not the default"


async def test_a_reserve_names_its_session_queues_and_weights(
    cluster: FakeCluster, client: aio.Client
) -> None:
    assert await client.reserve({"a": 2, "b": 1}, 5, wait_s=0, types=["t"]) == []
    (body,) = cluster.state.of_kind("reserve_jobs")
    (session,) = cluster.state.sessions
    assert body.lease_id == session
    assert [(each.queue, each.weight) for each in body.queues] == [("a", 2), ("b", 1)]
    assert (body.jobs_max, body.wait_ms, list(body.types)) == (5, 0, ["t"])
    assert body.worker == client.claimant


async def test_a_job_whose_reservation_is_over_is_not_handed_out(
    cluster: FakeCluster, client: aio.Client
) -> None:
    """The answer was lost; asked again, the member has no more than id and token."""
    bare = queues_pb2.ReservedJob(job_id=7, token=8)
    cluster.state.jobs.append(bare)
    cluster.state.enqueue(b"a")
    (job,) = await client.reserve("q", 2, wait_s=0)
    assert job.payload == b"a"
    cluster.state.jobs.append(bare)
    assert await client.reserve("q", wait_s=0) == []
    cluster.state.jobs.append(bare)
    waiting = asyncio.create_task(client.reserve("q"))
    await cluster.until(lambda: cluster.state.reserve_line)
    cluster.state.enqueue(b"b")
    (job,) = await waiting
    assert job.payload == b"b"


async def test_a_reservation_made_elsewhere_is_finished_by_its_token(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.reservation(7, 9).complete("done")
    (body,) = cluster.state.of_kind("complete_job")
    assert (body.job_id, body.token, body.result) == (7, 9, b"done")
