"""Reserve: ready jobs into a worker's hands; the choice is made here, in apply.

Rules:
* Among queues with something to give, the next job comes from each with a probability
  proportional to its weight, drawn from the token: no state, the same on every member,
  and no pattern of traffic can starve a queue. Within a queue: priority, then enqueue.
* The answer stops at the number of jobs or bytes asked for; the first job always fits.
* The window of a session keeps ids and tokens; ``refill`` finds the rest again for the
  jobs that are still held.

Source: SEMANTICS.md section 6 (Reserve); RELIABILITY.md scenarios 57 and 58.
"""

from typing import Final

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_range
from raftd.statemachine.context import Context
from raftd.statemachine.module import LeaseKeeper
from raftd.statemachine.queues.jobs import ORDER_MASK, Held, Job
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.mixing import mix
from raftd.statemachine.queues.queue import Queue
from raftd.statemachine.queues.specs import RESERVATION_MS_MAX, check_size
from raftd.statemachine.queues.table import JobTable, TimerKind
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import (
    JobsReserved,
    JobState,
    ReservedJob,
    ReserveJobs,
)
from raftd.statemachine.tables import Rank

__all__ = ["Reserve"]

_NOTHING: Final = JobsReserved()
_NO_META: Final[dict[str, str]] = {}
_WEIGHT_MAX: Final = 1000
_RESERVED: Final = JobState.RESERVED  # an enum's member costs a look-up each time
_RESERVATION: Final = int(TimerKind.RESERVATION)
_RANK: Final = int(Rank.QUEUES)
_Source = tuple[Queue, int]


class Reserve:
    """The handler of ReserveJobs."""

    def __init__(
        self, context: Context, table: JobTable, life: Life, leases: LeaseKeeper
    ) -> None:
        self._context: Final = context
        self._table: Final = table
        self._life: Final = life
        self._leases: Final = leases

    def reserve(self, command: ReserveJobs) -> JobsReserved | Refusal:
        """Hand out what is ready; nothing ready is no refusal and leaves no trace."""
        refusal = self._check(command)
        if refusal is not None:
            return refusal
        types = command.types
        sources = self._sources(command)
        taken: list[ReservedJob] = []
        bytes_left = command.bytes_max
        while sources:
            token = self._context.mint()
            source = sources[0] if len(sources) == 1 else _pick(sources, token)
            queue = source[0]
            order = queue.ready.first(types)
            assert order is not None
            job = self._table.jobs[order & ORDER_MASK]
            size_bytes = len(job.payload)
            if job.trail is not None:
                size_bytes += len(job.trail.savepoint)
            if taken and size_bytes > bytes_left:
                break
            refusal = self._leases.attach(command.lease, _RANK, job.id)
            if refusal is not None:
                if taken:
                    break
                return refusal
            bytes_left -= size_bytes
            self._take(job, queue, token, command)
            taken.append(_answer(job))
            if len(taken) == command.jobs_max:
                break
            if not queue.slots or queue.ready.first(types) is None:
                sources.remove(source)
        return JobsReserved(tuple(taken)) if taken else _NOTHING

    def refill(self, kept: JobsReserved) -> JobsReserved:
        """Find again what a window did not keep of an answer to a reserve.

        Args:
            kept: Ids and tokens.

        Returns:
            The answer with payloads. A job no longer held under its token stays bare:
            every call with that token is refused, and says why.
        """
        jobs: list[ReservedJob] = []
        for bare in kept.jobs:
            job = self._table.find(bare.id)
            is_held = (
                job is not None
                and job.state is JobState.RESERVED
                and job.token == bare.token
            )
            jobs.append(_answer(job) if job is not None and is_held else bare)
        return JobsReserved(tuple(jobs))

    def _sources(self, command: ReserveJobs) -> list[_Source]:
        queues, types = self._table.queues, command.types
        sources: list[_Source] = []
        for name, weight in command.queues:
            queue = queues.get(name)
            if queue is None or not queue.slots:
                continue
            if not types or queue.ready.first(types) is not None:
                sources.append((queue, weight))
        return sources

    def _take(self, job: Job, queue: Queue, token: int, command: ReserveJobs) -> None:
        now_ms = self._context.now_ms
        reservation_ms = command.reservation_ms
        extra = job.extra
        if reservation_ms is None and extra is not None:
            reservation_ms = extra.reservation_ms
        if reservation_ms is None:
            reservation_ms = queue.options.reservation_ms
        assert reservation_ms is not None
        until_ms = now_ms + reservation_ms
        if extra is not None and extra.max_runtime_ms is not None:
            until_ms = min(until_ms, now_ms + extra.max_runtime_ms)
        table = self._table
        table.touch(job)
        if extra is not None and job.delivery == 0:
            self._life.uniques.started(job)
        job.delivery += 1
        # The token before the move: the index of reserved jobs is by token.
        job.token = token
        job.held = Held(command.lease, command.worker, now_ms, until_ms, reservation_ms)
        table.move(job, _RESERVED)
        self._context.timers.lease.arm_rising(until_ms, _RANK, (_RESERVATION, token))

    def _check(self, command: ReserveJobs) -> Refusal | None:
        limits = self._context.limits
        if not 1 <= command.jobs_max <= limits.reserve_jobs_max:
            return check_range("jobs_max", command.jobs_max, 1, limits.reserve_jobs_max)
        if not 1 <= command.bytes_max <= limits.reserve_bytes_max:
            return check_range(
                "bytes_max", command.bytes_max, 1, limits.reserve_bytes_max
            )
        count = len(command.queues)
        if not 1 <= count <= limits.reserve_queues_max:
            return check_range(
                "the number of queues", count, 1, limits.reserve_queues_max
            )
        return (
            self._check_queues(command)
            or self._check_rest(command)
            or self._leases.require(command.lease)
        )

    def _check_queues(self, command: ReserveJobs) -> Refusal | None:
        queues = self._table.queues
        limit = self._context.limits.name_bytes_max
        for name, weight in command.queues:
            if not 1 <= weight <= _WEIGHT_MAX:
                return check_range("a queue's weight", weight, 1, _WEIGHT_MAX)
            if name not in queues:
                refusal = refusals.check_name("queue", name, limit)
                if refusal is not None:
                    return refusal
        if len(command.queues) > 1:
            names = [name for name, _ in command.queues]
            if len(dict.fromkeys(names)) < len(names):
                return Refusal(
                    Reason.INVALID_REQUEST, "a queue is named twice in one reserve"
                )
        return None

    def _check_rest(self, command: ReserveJobs) -> Refusal | None:
        limits = self._context.limits
        if command.types:
            refusal = check_size(
                "the number of types",
                len(command.types),
                "reserve_types_max",
                limits.reserve_types_max,
            )
            if refusal is not None:
                return refusal
        if command.reservation_ms is not None:
            refusal = check_range(
                "reservation_ms", command.reservation_ms, 1, RESERVATION_MS_MAX
            )
            if refusal is not None:
                return refusal
        return refusals.check_text(
            "the worker's name",
            command.worker,
            "claimant_bytes_max",
            limits.claimant_bytes_max,
        )


def _pick(sources: list[_Source], token: int) -> _Source:
    left = mix(token, 0) % sum(weight for _, weight in sources)
    for source in sources:
        left -= source[1]
        if left < 0:
            return source
    raise AssertionError("a weight below 1")


def _answer(job: Job) -> ReservedJob:
    held, trail, extra = job.held, job.trail, job.extra
    assert held is not None
    return ReservedJob(
        job.id,
        job.token,
        job.queue,
        job.type,
        job.payload,
        job.content_type,
        extra.meta if extra is not None else _NO_META,
        job.client_id,
        job.attempt,
        job.delivery,
        trail.savepoint if trail is not None else b"",
        held.reservation_ms,
        job.enqueued_ms,
    )
