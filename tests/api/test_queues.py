"""Queues through real unary calls."""

from __future__ import annotations

import pytest

from raftd.statemachine.queues import queries
from raftpb.v1 import queues_pb2, txn_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.solo_node import SoloNode


async def enqueue(stubs: Stubs, queue: str, count: int = 1) -> list[int]:
    request = queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec(queue=queue)] * count)
    answer = await stubs.queues.EnqueueJobs(request)
    return [job.job_id for job in answer.jobs]


async def find(stubs: Stubs, name: str) -> queues_pb2.Queue:
    answer = await stubs.queues.GetQueue(queues_pb2.GetQueueRequest(queue=name))
    assert isinstance(answer, queues_pb2.GetQueueResponse)
    return answer.queue


async def test_counts_and_settings(stubs: Stubs, node: SoloNode) -> None:
    await enqueue(stubs, "q", 3)
    node.advance(70)
    queue = await find(stubs, "q")
    assert (queue.name, queue.ready, queue.enqueued_total) == ("q", 3, 3)
    assert queue.oldest_ready_ms == 70
    assert not queue.is_paused
    assert queue.options.reservation_ms == 30_000
    assert queue.options.backoff == txn_pb2.BACKOFF_EXPONENTIAL


async def test_what_is_not_named_stays_as_it_was(stubs: Stubs) -> None:
    for options in (
        queues_pb2.QueueOptions(depth_max=5, backoff=txn_pb2.BACKOFF_FIXED),
        queues_pb2.QueueOptions(backoff_jitter=0, may_complete_late=True),
    ):
        request = queues_pb2.ConfigureQueueRequest(queue="q", options=options)
        await stubs.queues.ConfigureQueue(request)
    found = (await find(stubs, "q")).options
    assert (found.depth_max, found.backoff) == (5, txn_pb2.BACKOFF_FIXED)
    assert (found.backoff_jitter, found.may_complete_late) == (0, True)
    assert found.max_attempts == 20


async def test_a_full_queue_refuses(stubs: Stubs) -> None:
    options = queues_pb2.QueueOptions(depth_max=1)
    await stubs.queues.ConfigureQueue(
        queues_pb2.ConfigureQueueRequest(queue="q", options=options)
    )
    await enqueue(stubs, "q")
    refused = await refusal_of(enqueue(stubs, "q"))
    assert (refused.reason, refused.applied) == ("QUEUE_FULL", "no")


async def test_pause_and_resume(stubs: Stubs) -> None:
    await enqueue(stubs, "q")
    await stubs.queues.PauseQueue(queues_pb2.PauseQueueRequest(queue="q"))
    assert (await find(stubs, "q")).is_paused
    await stubs.queues.ResumeQueue(queues_pb2.ResumeQueueRequest(queue="q"))
    assert not (await find(stubs, "q")).is_paused


async def test_purge_redrive_and_delete(stubs: Stubs) -> None:
    jobs = await enqueue(stubs, "q", 3)
    await stubs.queues.CancelJob(queues_pb2.CancelJobRequest(job_id=jobs[0]))
    redriven = await stubs.queues.RedriveJobs(
        queues_pb2.RedriveJobsRequest(
            queue="q", states=[queues_pb2.JOB_STATE_CANCELLED]
        )
    )
    assert redriven.jobs == 1
    purged = await stubs.queues.PurgeQueue(queues_pb2.PurgeQueueRequest(queue="q"))
    assert purged.jobs == 3
    await enqueue(stubs, "q")
    plain = queues_pb2.DeleteQueueRequest(queue="q")
    assert (await refusal_of(stubs.queues.DeleteQueue(plain))).reason == "PRECONDITION"
    forced = queues_pb2.DeleteQueueRequest(queue="q", force=True)
    assert (await stubs.queues.DeleteQueue(forced)).jobs == 1
    assert (await refusal_of(find(stubs, "q"))).reason == "NOT_FOUND"


async def test_queues_page_by_page(stubs: Stubs) -> None:
    for name in ("a", "p/1", "p/2", "z"):
        await enqueue(stubs, name)
    request = queues_pb2.ListQueuesRequest(prefix="p/", limit=1)
    page = await stubs.queues.ListQueues(request)
    assert ([queue.name for queue in page.queues], page.more) == (["p/1"], True)
    request.after_name = "p/1"
    page = await stubs.queues.ListQueues(request)
    assert ([queue.name for queue in page.queues], page.more) == (["p/2"], False)


@pytest.mark.parametrize(
    ("request_", "reason", "sentence"),
    [
        (
            queues_pb2.PauseQueueRequest(queue="q" * 257),
            "INVALID_NAME",
            "the name of a queue has 257 bytes, over the limit of 256",
        ),
        (
            queues_pb2.PurgeQueueRequest(
                queue="q", states=[queues_pb2.JOB_STATE_RESERVED]
            ),
            "INVALID_REQUEST",
            "a purge leaves reserved jobs alone",
        ),
        (
            queues_pb2.RedriveJobsRequest(queue="q", jobs_max=100_001),
            "INVALID_REQUEST",
            "jobs_max is 100001, not within 1 to 100000",
        ),
        (
            queues_pb2.RedriveJobsRequest(
                queue="q", states=[queues_pb2.JOB_STATE_UNSPECIFIED]
            ),
            "INVALID_REQUEST",
            "0 is no JobState",
        ),
    ],
)
async def test_a_bad_request_is_refused_and_never_proposed(
    stubs: Stubs, node: SoloNode, request_: object, reason: str, sentence: str
) -> None:
    method = getattr(stubs.queues, type(request_).__name__.removesuffix("Request"))
    refused = await refusal_of(method(request_))
    assert (refused.reason, refused.sentence) == (reason, sentence)
    assert node.writes == []


async def test_a_rare_state_is_listed_over_empty_pages_if_the_caller_can(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_LOOKS_MAX", 3)
    ids = await enqueue(stubs, "q", 8)
    await stubs.queues.CancelJob(queues_pb2.CancelJobRequest(job_id=ids[-1]))
    request = queues_pb2.ListJobsRequest(
        queue="q", states=[queues_pb2.JOB_STATE_CANCELLED]
    )
    at_once = await stubs.queues.ListJobs(request)
    assert [job.job_id for job in at_once.jobs] == ids[-1:]
    request.allow_empty_pages = True
    pages: list[queues_pb2.ListJobsResponse] = []
    while not pages or pages[-1].more:
        pages.append(await stubs.queues.ListJobs(request))
        request.after_job_id = pages[-1].next_after_job_id
    assert [len(page.jobs) for page in pages] == [0, 0, 1]
    assert pages[0].next_after_job_id == ids[2]
