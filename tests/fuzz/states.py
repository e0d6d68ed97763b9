"""A state with rows of every table, and what it is made from."""

from __future__ import annotations

import dataclasses
from typing import Final

from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.elections import Campaign
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.jobs import (
    EnqueueJobs,
    JobSpec,
    ReserveJobs,
    SavepointJob,
    UniqueSpec,
    UniqueUntil,
)
from raftd.statemachine.schema.kv import DeleteKey, PutKey
from raftd.statemachine.schema.leases import GrantLease
from raftd.statemachine.schema.locks import AcquireLock
from raftd.statemachine.schema.queues import ConfigureQueue, DeleteQueue, QueueOptions
from tests.statemachine.harness import Harness

__all__ = ["RICH_LIMITS", "rich_harness"]

RICH_LIMITS: Final[Limits] = dataclasses.replace(DEFAULT_LIMITS, work_rows_max=2)
"""So little work in one entry that the deletion of a queue is left half done."""

_DAY_MS: Final = 86_400_000


def _commands(session: int) -> list[AnyCommand]:
    unique = UniqueSpec("u", UniqueUntil.WINDOW, 5000)
    return [
        GrantLease(_DAY_MS, "lease"),
        PutKey(b"k", b"one", lease=session),
        PutKey(b"k", b"two"),
        PutKey(b"gone", b""),
        DeleteKey(b"gone"),
        AcquireLock("lock", session, "a"),
        AcquireLock("lock", session, "b", wait_ms=None),
        Campaign("election", session, "a", b"value"),
        Campaign("election", session, "b", b"", wait_ms=5000),
        ConfigureQueue("q", QueueOptions(concurrency_max=2, done_retention_ms=0)),
        EnqueueJobs(
            (
                JobSpec("q", b"payload", client_id="c1", group="g", meta={"m": "v"}),
                JobSpec("q", b"", group="h", group_limit=2, unique=unique),
                JobSpec("q", b"", delay_ms=900, max_attempts=3),
            )
        ),
        ReserveJobs(session, (("q", 1),), "w"),
        EnqueueJobs(tuple(JobSpec("doomed", b"", client_id=f"d{n}") for n in range(9))),
    ]


def rich_harness() -> Harness:
    """Return a machine that has rows of every table, its rows written."""
    harness = Harness(RICH_LIMITS, Machine(RICH_LIMITS))
    session = harness.open(ttl_ms=_DAY_MS)
    for number, command in enumerate(_commands(session), 1):
        answer = harness.send(session, number, command)
        assert not isinstance(answer, Refusal), (command, answer)
    job = harness.machine.queues.list_jobs("q")
    assert job is not None
    reserved = job.jobs[0]
    token = harness.machine.queues.reservation_token(reserved.id)
    harness.do(SavepointJob(reserved.id, token, b"half", 500))
    harness.do(DeleteQueue("doomed", is_forced=True))
    assert harness.machine.has_backlog
    harness.save()
    return harness
