"""What producers and workers say about jobs: from request to command.

Rules: every call of a worker names the job and the reservation's token. Some of these
are operations of transactions too, whose fields have the same names.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.checks import (
    check_bytes,
    check_id,
    check_text,
    invalid,
    lease_of,
    optional_of,
)
from raftd.api.job_specs import to_enqueue
from raftd.api.limits import DoorLimits
from raftd.statemachine.claim_checks import check_range
from raftd.statemachine.refusals import check_name, too_large
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    FailJob,
    ReleaseJob,
    ReserveJobs,
    SavepointJob,
    SnoozeJob,
)
from raftpb.v1 import queues_pb2, txn_pb2

__all__ = ["JobWrites"]

_PER_MILLE: Final = 1000
_RESERVES_KEPT: Final = 1024
_KEPT_BYTES_MAX: Final = 1024
"""Of one request; it may hold fields that nobody knows."""

_Held = (
    queues_pb2.ExtendJobRequest
    | queues_pb2.SavepointJobRequest
    | queues_pb2.CompleteJobRequest
    | queues_pb2.FailJobRequest
    | queues_pb2.SnoozeJobRequest
    | queues_pb2.ReleaseJobRequest
    | txn_pb2.CompleteOp
    | txn_pb2.FailOp
)


class JobWrites:
    """Translators of the writes about jobs."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits
        self._reserves: Final[dict[tuple[bytes, int], ReserveJobs]] = {}
        """By the bytes of the request and its session."""

    def enqueue(
        self, request: queues_pb2.EnqueueJobsRequest | txn_pb2.EnqueueOp, session: int
    ) -> EnqueueJobs | Refusal:
        """Translate an enqueue."""
        return to_enqueue(request.jobs, self._limits)

    def reserve(
        self, request: queues_pb2.ReserveJobsRequest, session: int
    ) -> ReserveJobs | Refusal:
        """Translate a reserve; how long it waits is not in the command."""
        # A worker asks for the same again and again: to find a command that was made
        # for it costs a seventh of making it.
        known = self._reserves
        asked = request.SerializeToString(), session
        command = known.get(asked)
        if command is not None:
            return command
        made = self._to_reserve(request, session)
        if not isinstance(made, Refusal) and len(asked[0]) <= _KEPT_BYTES_MAX:
            if len(known) >= _RESERVES_KEPT:
                known.clear()
            known[asked] = made
        return made

    def _to_reserve(
        self, request: queues_pb2.ReserveJobsRequest, session: int
    ) -> ReserveJobs | Refusal:
        limits, apply = self._limits, self._limits.apply
        lease = lease_of(request.lease_id, session)
        if isinstance(lease, Refusal):
            return lease
        jobs_max = request.jobs_max or 1
        bytes_max = request.bytes_max or apply.reserve_bytes_max
        queues = tuple([(each.queue, each.weight or 1) for each in request.queues])
        worker, types = request.worker, tuple(request.types)
        refusal = (
            self._check_sources(queues, types)
            or check_text("the worker", worker, limits)
            or check_range("jobs_max", jobs_max, 1, apply.reserve_jobs_max)
            or check_range("bytes_max", bytes_max, 1, apply.reserve_bytes_max)
        )
        if refusal is not None:
            return refusal
        return ReserveJobs(
            lease,
            queues,
            worker,
            jobs_max,
            bytes_max,
            optional_of(request, "reservation_ms", request.reservation_ms),
            types,
        )

    def _check_sources(
        self, queues: Sequence[tuple[str, int]], types: Sequence[str]
    ) -> Refusal | None:
        limits, apply = self._limits, self._limits.apply
        count = len(queues)
        if not count:
            return invalid("a reserve names at least one queue")
        if count > apply.reserve_queues_max:
            return too_large(
                "the number of queues",
                count,
                "reserve_queues_max",
                apply.reserve_queues_max,
            )
        if len(types) > apply.reserve_types_max:
            return too_large(
                "the number of types",
                len(types),
                "reserve_types_max",
                apply.reserve_types_max,
            )
        for name, _ in queues:
            refusal = check_name("queue", name, apply.name_bytes_max)
            if refusal is not None:
                return refusal
        for name in types:
            refusal = check_text("the type", name, limits)
            if refusal is not None:
                return refusal
        return None

    def extend(
        self, request: queues_pb2.ExtendJobRequest, session: int
    ) -> ExtendJob | Refusal:
        """Translate an extension."""
        for_ms = optional_of(request, "for_ms", request.for_ms)
        return _check_held(request) or ExtendJob(request.job_id, request.token, for_ms)

    def savepoint(
        self, request: queues_pb2.SavepointJobRequest, session: int
    ) -> SavepointJob | Refusal:
        """Translate a savepoint, a progress, or both."""
        savepoint = request.savepoint if request.HasField("savepoint") else None
        progress = optional_of(request, "progress", request.progress)
        return (
            _check_held(request)
            or check_bytes("the savepoint", savepoint or b"", self._limits)
            or check_range("the progress", progress or 0, 0, _PER_MILLE)
            or SavepointJob(request.job_id, request.token, savepoint, progress)
        )

    def complete(
        self, request: queues_pb2.CompleteJobRequest | txn_pb2.CompleteOp, session: int
    ) -> CompleteJob | Refusal:
        """Translate a completion without operations."""
        result = request.result
        return (
            _check_held(request)
            or check_bytes("the result", result, self._limits)
            or CompleteJob(request.job_id, request.token, result)
        )

    def fail(
        self, request: queues_pb2.FailJobRequest | txn_pb2.FailOp, session: int
    ) -> FailJob | Refusal:
        """Translate a failure; its text is cut in the state."""
        retry_in_ms = optional_of(request, "retry_in_ms", request.retry_in_ms)
        return _check_held(request) or FailJob(
            request.job_id, request.token, request.error, retry_in_ms, request.fatal
        )

    def snooze(
        self, request: queues_pb2.SnoozeJobRequest, session: int
    ) -> SnoozeJob | Refusal:
        """Translate a snooze."""
        return _check_held(request) or SnoozeJob(
            request.job_id, request.token, request.for_ms
        )

    def release(
        self, request: queues_pb2.ReleaseJobRequest, session: int
    ) -> ReleaseJob | Refusal:
        """Translate a release."""
        return _check_held(request) or ReleaseJob(request.job_id, request.token)

    def cancel(
        self, request: queues_pb2.CancelJobRequest, session: int
    ) -> CancelJob | Refusal:
        """Translate a cancellation."""
        return check_id("job id", request.job_id) or CancelJob(request.job_id)


def _check_held(request: _Held) -> Refusal | None:
    return check_id("job id", request.job_id) or check_id("token", request.token)
