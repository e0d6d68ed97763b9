"""From requests about jobs to commands: every field, and reserves that are repeated."""

from __future__ import annotations

from raftd.api.job_specs import to_enqueue
from raftd.api.job_writes import JobWrites
from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import (
    Backoff,
    EnqueueJobs,
    JobSpec,
    OnConflict,
    OnParentFailure,
    ReserveJobs,
    UniqueSpec,
    UniqueUntil,
)
from raftpb.v1 import queues_pb2, txn_pb2

FULL = txn_pb2.JobSpec(
    queue="q",
    payload=b"p",
    type="t",
    content_type="c",
    meta={"a": "b"},
    priority=3,
    delay_ms=7,
    max_attempts=2,
    backoff=txn_pb2.BACKOFF_LINEAR,
    backoff_base_ms=5,
    backoff_cap_ms=6,
    backoff_jitter=8,
    reservation_ms=9,
    max_runtime_ms=10,
    deadline_ms=11,
    client_id="id",
    unique=txn_pb2.UniqueSpec(key="k"),
    group="g",
    group_limit=4,
    after=[12, 13],
    on_parent_failure=txn_pb2.JobSpec.ON_PARENT_FAILURE_CONTINUE,
)


def specs_of(*messages: txn_pb2.JobSpec) -> tuple[JobSpec, ...]:
    """Translate jobs that are all right."""
    command = to_enqueue(messages, DEFAULT_DOOR_LIMITS)
    assert isinstance(command, EnqueueJobs), command
    return command.jobs


def reserve(writes: JobWrites, session: int, **fields: object) -> ReserveJobs | Refusal:
    """Translate a reserve of one queue."""
    request = queues_pb2.ReserveJobsRequest(
        queues=[queues_pb2.QueueWeight(queue="q")],
        worker="w",
        **fields,  # type: ignore[arg-type]  # fields of the message
    )
    return writes.reserve(request, session)


def test_every_field_of_a_job_is_translated() -> None:
    """What a message says, the command says; no field is new to the command."""
    names = {field.name for field in txn_pb2.JobSpec.DESCRIPTOR.fields}
    assert names == set(JobSpec.__struct_fields__)
    assert specs_of(FULL) == (
        JobSpec(
            "q",
            b"p",
            "t",
            "c",
            {"a": "b"},
            3,
            7,
            None,
            2,
            Backoff.LINEAR,
            5,
            6,
            8,
            9,
            10,
            11,
            "id",
            UniqueSpec("k", UniqueUntil.DONE, 0, OnConflict.REJECT),
            "g",
            4,
            (12, 13),
            OnParentFailure.CONTINUE,
        ),
    )


def test_what_is_absent_stays_open() -> None:
    """Nothing said is None or the default; a 0 that was said is a 0."""
    bare = txn_pb2.JobSpec(queue="q")
    zeros = txn_pb2.JobSpec(queue="q", priority=0, delay_ms=0, backoff_jitter=0)
    assert specs_of(bare, zeros) == (
        JobSpec("q", b""),
        JobSpec("q", b"", priority=0, delay_ms=0, backoff_jitter=0),
    )


def test_an_enum_of_a_later_version_is_refused() -> None:
    """Backoffs and policies that this version does not know."""
    for job in (
        txn_pb2.JobSpec(queue="q", backoff=99),  # type: ignore[arg-type]  # of a later version
        txn_pb2.JobSpec(queue="q", on_parent_failure=99),  # type: ignore[arg-type]  # of a later version
    ):
        refusal = to_enqueue([job], DEFAULT_DOOR_LIMITS)
        assert isinstance(refusal, Refusal)
        assert "99 is no" in refusal.sentence


def test_a_repeated_reserve_is_the_same_command() -> None:
    """Equal bytes of one session; another session or setting is another command."""
    writes = JobWrites(DEFAULT_DOOR_LIMITS)
    first = reserve(writes, 5)
    assert first == ReserveJobs(5, (("q", 1),), "w")
    assert reserve(writes, 5) is first
    assert reserve(writes, 6) == ReserveJobs(6, (("q", 1),), "w")
    other = reserve(writes, 5, reservation_ms=7)
    assert other == ReserveJobs(5, (("q", 1),), "w", reservation_ms=7)
    assert reserve(writes, 5) is first


def test_refused_and_bloated_reserves_are_not_kept() -> None:
    """What is refused is judged each time; what is large would fill the memory."""
    writes = JobWrites(DEFAULT_DOOR_LIMITS)
    assert isinstance(reserve(writes, 0), Refusal)
    assert isinstance(reserve(writes, 0), Refusal)
    types = [f"{number:050d}" for number in range(50)]
    large = reserve(writes, 5, types=types)
    again = reserve(writes, 5, types=types)
    assert large == again
    assert large is not again


def test_kept_reserves_are_bounded() -> None:
    """Sessions come and go; their reserves are forgotten, and made again."""
    writes = JobWrites(DEFAULT_DOOR_LIMITS)
    first = reserve(writes, 1)
    for session in range(2, 1500):
        reserve(writes, session)
    again = reserve(writes, 1)
    assert again == first
    assert again is not first
