"""Jobs through real unary calls."""

from __future__ import annotations

import asyncio

import pytest

from raftpb.v1 import common_pb2, kv_pb2, queues_pb2, txn_pb2
from tests.api.clients import KEY, Stubs, open_session, refusal_of
from tests.api.solo_node import SoloNode

READY = queues_pb2.JOB_STATE_READY
DONE = queues_pb2.JOB_STATE_DONE


async def enqueue(stubs: Stubs, *specs: txn_pb2.JobSpec) -> list[int]:
    request = queues_pb2.EnqueueJobsRequest(
        jobs=specs or [txn_pb2.JobSpec(queue="q", payload=b"p")]
    )
    answer = await stubs.queues.EnqueueJobs(request)
    return [job.job_id for job in answer.jobs]


def reserve_request(
    session: int, *, number: int = 0, wait_ms: int | None = 0
) -> queues_pb2.ReserveJobsRequest:
    return queues_pb2.ReserveJobsRequest(
        write=common_pb2.WriteHeader(
            session_id=session, session_key=KEY, number=number
        ),
        queues=[queues_pb2.QueueWeight(queue="q")],
        worker="w",
        wait_ms=wait_ms,
    )


async def reserve(stubs: Stubs, session: int) -> queues_pb2.ReservedJob:
    answer = await stubs.queues.ReserveJobs(reserve_request(session))
    job = answer.jobs[0]
    assert isinstance(job, queues_pb2.ReservedJob)
    return job


async def find(stubs: Stubs, job: int) -> queues_pb2.Job:
    answer = await stubs.queues.GetJob(queues_pb2.GetJobRequest(job_id=job))
    assert isinstance(answer, queues_pb2.GetJobResponse)
    return answer.job


async def test_a_job_from_enqueue_to_done(stubs: Stubs, node: SoloNode) -> None:
    session = await open_session(stubs)
    spec = txn_pb2.JobSpec(
        queue="q",
        payload=b"payload",
        type="t",
        content_type="text/plain",
        meta={"trace": "1"},
        client_id="mine",
    )
    (number,) = await enqueue(stubs, spec)
    node.advance(50)
    taken = await reserve(stubs, session)
    assert taken == queues_pb2.ReservedJob(
        job_id=number,
        token=taken.token,
        queue="q",
        type="t",
        payload=b"payload",
        content_type="text/plain",
        meta={"trace": "1"},
        client_id="mine",
        delivery=1,
        reservation_ms=30_000,
        age_ms=50,
    )
    held = await find(stubs, number)
    assert (held.state, held.worker) == (queues_pb2.JOB_STATE_RESERVED, "w")
    assert held.lease_id == session
    assert (held.token, held.due_in_ms) == (taken.token, 30_000)
    complete = queues_pb2.CompleteJobRequest(
        job_id=number, token=taken.token, result=b"r"
    )
    answer = await stubs.queues.CompleteJob(complete)
    assert not answer.results
    by_client = await stubs.queues.GetJob(queues_pb2.GetJobRequest(client_id="mine"))
    assert (by_client.job.state, by_client.job.result) == (DONE, b"r")


async def test_a_reserve_waits_for_a_job(stubs: Stubs, node: SoloNode) -> None:
    session = await open_session(stubs)
    request = reserve_request(session, wait_ms=None)
    waiting = asyncio.ensure_future(stubs.queues.ReserveJobs(request))
    await node.has_writes(2)
    assert node.writes[1].wait_ms is None
    (number,) = await enqueue(stubs)
    assert (await waiting).jobs[0].job_id == number


async def test_a_reserve_that_finds_nothing(stubs: Stubs) -> None:
    session = await open_session(stubs)
    answer = await stubs.queues.ReserveJobs(reserve_request(session))
    assert not answer.jobs


async def test_a_reserve_sent_again_gets_the_same_jobs_whole(stubs: Stubs) -> None:
    session = await open_session(stubs)
    await enqueue(stubs)
    request = reserve_request(session, number=1)
    first = await stubs.queues.ReserveJobs(request)
    again = await stubs.queues.ReserveJobs(request)
    assert again.jobs == first.jobs
    assert again.jobs[0].payload == b"p"


async def test_a_worker_may_extend_save_and_give_back(
    stubs: Stubs, node: SoloNode
) -> None:
    session = await open_session(stubs, ttl_ms=80_000)
    (number,) = await enqueue(stubs)
    taken = await reserve(stubs, session)
    node.advance(20_000)
    token = taken.token
    extended = await stubs.queues.ExtendJob(
        queues_pb2.ExtendJobRequest(job_id=number, token=token)
    )
    assert extended.remaining_ms == 30_000
    await stubs.queues.CancelJob(queues_pb2.CancelJobRequest(job_id=number))
    saved = await stubs.queues.SavepointJob(
        queues_pb2.SavepointJobRequest(
            job_id=number, token=token, savepoint=b"half", progress=500
        )
    )
    assert saved.cancel_requested
    job = await find(stubs, number)
    assert (job.savepoint, job.progress, job.cancel_requested) == (b"half", 500, True)
    release = queues_pb2.ReleaseJobRequest(job_id=number, token=token)
    await stubs.queues.ReleaseJob(release)
    assert (await find(stubs, number)).state == queues_pb2.JOB_STATE_CANCELLED


async def test_a_failed_job_is_tried_again_later(stubs: Stubs, node: SoloNode) -> None:
    session = await open_session(stubs)
    (number,) = await enqueue(stubs)
    taken = await reserve(stubs, session)
    fail = queues_pb2.FailJobRequest(
        job_id=number, token=taken.token, error="no luck", retry_in_ms=700
    )
    answer = await stubs.queues.FailJob(fail)
    assert (answer.state, answer.retry_in_ms) == (queues_pb2.JOB_STATE_SCHEDULED, 700)
    node.advance(200)
    job = await find(stubs, number)
    assert (job.attempt, job.error, job.due_in_ms) == (1, "no luck", 500)
    node.advance(500)
    taken = await reserve(stubs, session)
    snooze = queues_pb2.SnoozeJobRequest(job_id=number, token=taken.token, for_ms=90)
    await stubs.queues.SnoozeJob(snooze)
    assert (await find(stubs, number)).due_in_ms == 90


# --- complete with operations --------------------------------------------------------


def count_up(by: int = 1) -> txn_pb2.Op:
    return txn_pb2.Op(increment=txn_pb2.IncrementOp(key=b"n", by=by))


async def counted(stubs: Stubs) -> bytes:
    found = await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=b"n"))
    value: bytes = found.key_value.value
    return value


async def complete(
    stubs: Stubs, job: int, token: int, *ops: txn_pb2.Op
) -> queues_pb2.CompleteJobResponse:
    request = queues_pb2.CompleteJobRequest(job_id=job, token=token, ops=ops)
    answer = await stubs.queues.CompleteJob(request)
    assert isinstance(answer, queues_pb2.CompleteJobResponse)
    return answer


async def test_operations_are_applied_with_the_completion(stubs: Stubs) -> None:
    session = await open_session(stubs)
    (number,) = await enqueue(stubs)
    token = (await reserve(stubs, session)).token
    answer = await complete(stubs, number, token, count_up(2), count_up(3))
    assert [result.increment.value for result in answer.results] == [2, 5]
    assert (await find(stubs, number)).state == DONE


async def test_a_completion_sent_again_without_a_number_applies_nothing_twice(
    stubs: Stubs,
) -> None:
    session = await open_session(stubs)
    (number,) = await enqueue(stubs)
    token = (await reserve(stubs, session)).token
    for _ in range(2):
        await complete(stubs, number, token, count_up())
    assert await counted(stubs) == b"1"


async def test_a_lost_reservation_applies_none_of_the_operations(
    stubs: Stubs, node: SoloNode
) -> None:
    session = await open_session(stubs, ttl_ms=80_000)
    (number,) = await enqueue(stubs)
    old = (await reserve(stubs, session)).token
    node.advance(30_000)
    refused = await refusal_of(complete(stubs, number, old, count_up()))
    assert refused.reason == "RESERVATION_EXPIRED"
    node.advance(10_000)
    new = (await reserve(stubs, session)).token
    refused = await refusal_of(complete(stubs, number, old, count_up()))
    assert (refused.reason, refused.metadata["current"]) == (
        "RESERVATION_LOST",
        str(new),
    )
    await complete(stubs, number, new)
    refused = await refusal_of(complete(stubs, number, old, count_up()))
    assert (refused.reason, refused.metadata["state"]) == ("JOB_FINAL", "DONE")
    refused = await refusal_of(complete(stubs, 404, 1, count_up()))
    assert refused.reason == "NOT_FOUND"
    assert await counted(stubs) == b""


async def test_a_refused_operation_leaves_the_job_reserved(stubs: Stubs) -> None:
    """It is named by its place in the request, at the door and in the state."""
    session = await open_session(stubs)
    (number,) = await enqueue(stubs)
    token = (await reserve(stubs, session)).token
    for bad in (
        txn_pb2.Op(put=txn_pb2.PutOp(key=b"k", if_mod_rev=9)),
        txn_pb2.Op(put=txn_pb2.PutOp()),
    ):
        refused = await refusal_of(complete(stubs, number, token, count_up(), bad))
        assert refused.metadata["op"] == "1"
        assert refused.sentence.startswith("operation 1 of the transaction: ")
        assert refused.sentence.count("operation") == 1
    assert (await find(stubs, number)).state == queues_pb2.JOB_STATE_RESERVED
    assert await counted(stubs) == b""


# --- reads and refusals -----------------------------------------------------------


async def test_jobs_page_by_page(stubs: Stubs) -> None:
    jobs = await enqueue(stubs, *[txn_pb2.JobSpec(queue="q", type="a")] * 3)
    await enqueue(stubs, txn_pb2.JobSpec(queue="q", type="b"))
    request = queues_pb2.ListJobsRequest(
        queue="q", type="a", limit=2, states=[READY], no_payloads=True
    )
    page = await stubs.queues.ListJobs(request)
    assert ([job.job_id for job in page.jobs], page.more) == (jobs[:2], True)
    request.after_job_id = jobs[1]
    page = await stubs.queues.ListJobs(request)
    assert ([job.job_id for job in page.jobs], page.more) == (jobs[2:], False)


@pytest.mark.parametrize(
    ("request_", "reason", "sentence"),
    [
        (
            queues_pb2.EnqueueJobsRequest(),
            "INVALID_REQUEST",
            "an enqueue has at least one job",
        ),
        (
            queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec()]),
            "INVALID_NAME",
            "the name of a queue is empty",
        ),
        (
            queues_pb2.EnqueueJobsRequest(
                jobs=[txn_pb2.JobSpec(queue="q", payload=bytes((1 << 20) + 1))]
            ),
            "TOO_LARGE",
            "the payload is 1048577, over the limit of 1048576 (value_bytes_max)",
        ),
        (
            queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec(queue="q")] * 10_001),
            "TOO_LARGE",
            "the number of jobs is 10001, over the limit of 10000 (enqueue_jobs_max)",
        ),
        (
            queues_pb2.EnqueueJobsRequest(
                jobs=[txn_pb2.JobSpec(queue="q", priority=10)]
            ),
            "INVALID_REQUEST",
            "priority is 10, not within 0 to 9",
        ),
        (
            queues_pb2.EnqueueJobsRequest(
                jobs=[txn_pb2.JobSpec(queue="q", delay_ms=0, run_at_ms=0)]
            ),
            "INVALID_REQUEST",
            "a job has either a delay or a run_at, not both",
        ),
        (
            queues_pb2.ReserveJobsRequest(lease_id=1),
            "INVALID_REQUEST",
            "a reserve names at least one queue",
        ),
        (
            queues_pb2.ReserveJobsRequest(
                lease_id=1,
                jobs_max=101,
                queues=[queues_pb2.QueueWeight(queue="q")],
            ),
            "INVALID_REQUEST",
            "jobs_max is 101, not within 1 to 100",
        ),
        (
            queues_pb2.ReserveJobsRequest(queues=[queues_pb2.QueueWeight(queue="q")]),
            "INVALID_REQUEST",
            "the call names no lease and comes from no session",
        ),
        (
            queues_pb2.CompleteJobRequest(job_id=1),
            "INVALID_REQUEST",
            "the token is missing or 0",
        ),
        (
            queues_pb2.SavepointJobRequest(job_id=1, token=1, progress=1001),
            "INVALID_REQUEST",
            "the progress is 1001, not within 0 to 1000",
        ),
        (
            queues_pb2.GetJobRequest(),
            "INVALID_REQUEST",
            "a job is named by its id or by the client's own, not both",
        ),
        (queues_pb2.GetJobRequest(job_id=9), "NOT_FOUND", "there is no job 9"),
        (
            queues_pb2.ListJobsRequest(queue="none"),
            "NOT_FOUND",
            'there is no queue "none"',
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
