"""A job in a worker's hands: extend, save progress, complete, fail, give back.

Every call carries the token of the reservation; when the job has gone to another
worker it is refused, and changes nothing. ``keep()`` has the process's keeper extend
the reservation, apart from the caller's thread and loop.

Source: SEMANTICS.md section 6 (token on every worker call).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftclient._clock import boottime_s, to_ms
from raftclient._held import Held
from raftclient._keepalive import KEEPER
from raftclient._values import Data, as_bytes
from raftclient.errors import ReservationLost
from raftclient.fences import ReservationFence
from raftclient.jobs import JobState, state_from_wire
from raftclient.results import results_from_wire
from raftclient.txn import ops_to_wire
from raftpb.v1 import queues_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raftclient._core import Core
    from raftclient.fences import Fence
    from raftclient.results import OpResult
    from raftclient.txn import Op

__all__ = [
    "CANCEL_REQUESTED",
    "Reservation",
    "ReservationCalls",
    "ReservedJob",
    "release_request",
]

EXTENSIONS_PER_RESERVATION: Final = 3

CANCEL_REQUESTED: Final = "CANCEL_REQUESTED"
"""Why a kept reservation ended: somebody cancelled the job."""


class Reservation:
    """A reservation by job id and token: all that its calls need."""

    cancel_requested = False
    """Whether somebody asked the worker to stop, as of the last answer."""
    is_over = False
    """Whether this object gave the job back, completed or failed it."""

    def __init__(self, core: Core, job_id: int, token: int) -> None:
        self._core: Final = core
        self.job_id: Final = job_id
        self.token: Final = token

    def fence(self) -> ReservationFence:
        """Return the fence that binds a write to this reservation."""
        return ReservationFence(self.job_id, self.token)

    async def extend(
        self, for_s: float | None = None, *, timeout_s: float | None = None
    ) -> float:
        """Prolong it; returns how long it lasts from now, in seconds.

        Args:
            for_s: From now; None = the job's own reservation time.
            timeout_s: How long to try; None = the client's default.

        Raises:
            ReservationLost: Stop the work on it.
            JobFinal: The job has ended otherwise: stop the work on it.
        """
        body = queues_pb2.ExtendJobRequest(
            job_id=self.job_id,
            token=self.token,
            for_ms=None if for_s is None else to_ms(for_s),
        )
        sent_s = boottime_s()
        reply = await self._core.write(StreamRequest(extend_job=body), timeout_s)
        return self._prolonged(sent_s, reply.extend_job)

    async def savepoint(
        self,
        data: Data | None = None,
        progress: float | None = None,
        *,
        timeout_s: float | None = None,
    ) -> float:
        """Store progress with the job, and extend it; see ``extend``.

        Args:
            data: For its next worker, if this one dies; None = unchanged.
            progress: 0.0 to 1.0, for people; None = unchanged.
            timeout_s: How long to try; None = the client's default.
        """
        body = queues_pb2.SavepointJobRequest(job_id=self.job_id, token=self.token)
        if data is not None:
            body.savepoint = as_bytes(data)
        if progress is not None:
            body.progress = round(progress * 1000)
        sent_s = boottime_s()
        reply = await self._core.write(StreamRequest(savepoint_job=body), timeout_s)
        return self._prolonged(sent_s, reply.savepoint_job)

    async def complete(
        self,
        result: Data = b"",
        *,
        ops: Sequence[Op] = (),
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
    ) -> tuple[OpResult, ...]:
        """End the job as DONE, together with operations: both or neither.

        Args:
            result: Kept to 64 KiB.
            ops: Made by ``raftclient.txn``; applied in the same entry.
            fences: Claims that must still be current.
            timeout_s: How long to try; None = the client's default.

        Returns:
            What the operations gave, in order.

        Raises:
            ReservationLost: Another worker may have it: nothing was applied.
            JobFinal: The job has ended otherwise: nothing was applied.
        """
        request = StreamRequest()
        body = request.complete_job
        body.job_id = self.job_id
        body.token = self.token
        if result:
            body.result = as_bytes(result)
        if ops:
            body.ops.extend(ops_to_wire(ops))
        reply = await self._core.write(request, timeout_s, fences=fences)
        self._end()
        return results_from_wire(reply.complete_job.results) if ops else ()

    async def fail(
        self,
        error: str,
        *,
        retry_in_s: float | None = None,
        fatal: bool = False,
        timeout_s: float | None = None,
    ) -> JobState:
        """Count a failed attempt; returns SCHEDULED, READY or DEAD (or CANCELLED).

        Args:
            error: For people; kept with the job.
            retry_in_s: When to try again; None = as the job's backoff says.
            fatal: DEAD at once.
            timeout_s: How long to try; None = the client's default.

        Raises:
            ReservationLost, JobFinal: Nothing was applied.
        """
        body = queues_pb2.FailJobRequest(
            job_id=self.job_id,
            token=self.token,
            error=error,
            retry_in_ms=None if retry_in_s is None else to_ms(retry_in_s),
            fatal=fatal,
        )
        reply = await self._core.write(StreamRequest(fail_job=body), timeout_s)
        self._end()
        return state_from_wire(reply.fail_job.state)

    async def snooze(self, for_s: float, *, timeout_s: float | None = None) -> None:
        """Put the job off; no attempt is charged. Raises as ``fail``."""
        body = queues_pb2.SnoozeJobRequest(
            job_id=self.job_id, token=self.token, for_ms=to_ms(for_s)
        )
        await self._core.write(StreamRequest(snooze_job=body), timeout_s)
        self._end()

    async def release(self, *, timeout_s: float | None = None) -> None:
        """Give the job back at once; no attempt is charged. Raises as ``fail``.

        This is also how a worker confirms that it stopped a cancelled job.
        """
        request = release_request(self.job_id, self.token)
        await self._core.write(request, timeout_s)
        self._end()

    def _prolonged(
        self,
        sent_s: float,
        answer: queues_pb2.ExtendJobResponse | queues_pb2.SavepointJobResponse,
    ) -> float:
        self.cancel_requested = answer.cancel_requested
        return answer.remaining_ms / 1000

    def _end(self) -> None:
        self.is_over = True


class ReservedJob(Reservation):
    """A job in this process's hands, with all that its work needs."""

    def __init__(
        self, core: Core, found: queues_pb2.ReservedJob, parent: Held | None
    ) -> None:
        super().__init__(core, found.job_id, found.token)
        self.queue: Final = found.queue
        self.type: Final = found.type
        self.payload: Final = found.payload
        self.content_type: Final = found.content_type
        self.meta: Final = dict(found.meta) if found.meta else {}
        self.client_id: Final = found.client_id
        self.attempt: Final = found.attempt
        """Failed attempts before this one."""
        self.delivery: Final = found.delivery
        """Reservations so far, with this one."""
        self.saved: Final = found.savepoint
        """What an earlier worker left with ``savepoint``."""
        self.age_ms: Final = found.age_ms
        self.reservation_ms: Final = found.reservation_ms
        self.held: Final = Held(
            f"the reservation of job {self.job_id}",
            self.job_id,
            found.reservation_ms,
            boottime_s(),
            lost_class=ReservationLost,
            parent=parent,
        )
        self._is_kept = False

    def __repr__(self) -> str:
        return f"<ReservedJob {self.job_id} of {self.queue!r}>"

    @property
    def is_lost(self) -> bool:
        """Whether the reservation must count as over."""
        return self.held.is_lost()

    @property
    def remaining_s(self) -> float:
        """How long it is safe without another extension; 0 if lost."""
        return self.held.remaining_s

    def keep(self, on_lost: Callable[[], None] | None = None) -> None:
        """Have it extended every third of its time, until it is over or lost.

        Args:
            on_lost: Called once if it is lost, or the job cancelled, on any thread;
                must not block.
        """
        if on_lost is not None:
            self.held.on_lost(on_lost)
        request = queues_pb2.ExtendJobRequest(job_id=self.job_id, token=self.token)
        self._is_kept = True
        self._core.hold(self.held)
        KEEPER.add(
            self.held,
            self._core.shared.renewer.sender(request),
            self._extended,
            per_ttl=EXTENSIONS_PER_RESERVATION,
        )

    def let_go(self) -> None:
        """Extend it no longer: the job comes back when the reservation ends."""
        if self._is_kept:
            KEEPER.remove(self.held)
            self._core.drop(self.held)
        self.held.give_back()

    def _extended(self, answer: Any) -> int:
        if answer.cancel_requested:
            self.cancel_requested = True
            self.held.lose(
                ReservationLost(
                    f"job {self.job_id} was cancelled", reason=CANCEL_REQUESTED
                )
            )
        remaining_ms: int = answer.remaining_ms
        return remaining_ms

    def _prolonged(
        self,
        sent_s: float,
        answer: queues_pb2.ExtendJobResponse | queues_pb2.SavepointJobResponse,
    ) -> float:
        self.held.renew(sent_s, answer.remaining_ms)
        return super()._prolonged(sent_s, answer)

    def _end(self) -> None:
        super()._end()
        self.let_go()


class ReservationCalls:
    """The call that takes up a reservation made elsewhere."""

    _core: Core

    def reservation(self, job_id: int, token: int) -> Reservation:
        """Name a reservation by job and token, to finish it from another process."""
        return Reservation(self._core, job_id, token)


def release_request(job_id: int, token: int) -> StreamRequest:
    """Return the request that gives a job back."""
    body = queues_pb2.ReleaseJobRequest(job_id=job_id, token=token)
    return StreamRequest(release_job=body)
