"""A plain worker loop: reserve, run the handler, complete or fail.

Rules: at most ``concurrency`` handlers run at once, and no job is fetched that none is
free for. While a handler runs its reservation is extended apart from the loop; if it
is lost, or the job cancelled, the handler is cancelled and nothing more is said about
the job. What the handler returns is the job's result; what it raises is its failure.
A handler may also settle the job itself (``job.complete(ops=...)``) and return.

``stop`` fetches no more, gives running handlers ``grace_s`` to finish, and then
cancels them and gives their jobs back, without charge.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from raftclient._guard import BodyGuard
from raftclient._reserve import reserve, weights_of
from raftclient._unary import Backoff
from raftclient._values import Data
from raftclient.errors import (
    LeaseLost,
    LimitExceeded,
    OutcomeUnknown,
    RaftError,
    Unavailable,
)
from raftclient.reservations import CANCEL_REQUESTED, ReservedJob

if TYPE_CHECKING:
    from raftclient._core import Core

__all__ = ["Handler", "Worker", "WorkerCalls"]

_logger = logging.getLogger(__name__)

Handler = Callable[[ReservedJob], Awaitable[Data | None]]
"""Works on one job; returns its result."""

WAIT_S: Final = 10.0
ERROR_CHARS_MAX: Final = 8192


class Worker:
    """See the module; made by ``client.worker``, run with ``run``."""

    def __init__(
        self,
        core: Core,
        queues: Mapping[str, int],
        handler: Handler,
        *,
        concurrency: int,
        types: Sequence[str],
        name: str | None,
        reservation_s: float | None,
        grace_s: float,
    ) -> None:
        self._core: Final = core
        self._queues: Final = queues
        self._handler: Final = handler
        self._concurrency: Final = concurrency
        self._types: Final = types
        self._name: Final = name
        self._reservation_s: Final = reservation_s
        self._grace_s: Final = grace_s
        self._running: set[asyncio.Task[None]] = set()
        self._has_room: Final = asyncio.Event()
        self._stopping: Final = asyncio.Event()
        self.handled = 0
        """Jobs that were settled here, one way or another."""

    async def run(self) -> None:
        """Work until ``stop``, or until cancelled (then as ``stop`` without grace)."""
        fetching = asyncio.create_task(self._fetch_all())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait(
                {fetching, stopping}, return_when=asyncio.FIRST_COMPLETED
            )
            fetching.cancel()
            await asyncio.wait({fetching})
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace_s)
        finally:
            for task in (fetching, stopping, *self._running):
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)
        if not fetching.cancelled():
            fetching.result()

    def stop(self) -> None:
        """Fetch no more, and end ``run`` as the module says; may be called twice."""
        self._stopping.set()

    async def _fetch_all(self) -> None:
        backoff = Backoff(0.05, 2.0)
        while True:
            room = self._concurrency - len(self._running)
            if room <= 0:
                self._has_room.clear()
                await self._has_room.wait()
                continue
            try:
                jobs = await self._fetch(room)
            except (Unavailable, OutcomeUnknown, LeaseLost, LimitExceeded) as error:
                if self._core.is_closed:
                    raise
                _logger.warning("worker_fetch_failed reason=%s", error.reason)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            for job in jobs:
                self._start(job)

    async def _fetch(self, room: int) -> list[ReservedJob]:
        return await reserve(
            self._core,
            self._queues,
            min(room, 100),
            wait_s=WAIT_S,
            lease=None,
            worker=self._name,
            reservation_s=self._reservation_s,
            types=self._types,
            timeout_s=None,
        )

    def _start(self, job: ReservedJob) -> None:
        task = asyncio.create_task(self._handle(job))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._has_room.set()

    async def _handle(self, job: ReservedJob) -> None:
        guard = BodyGuard(job.held, self._core.loop)
        job.keep()
        try:
            result = await self._handler(job)
        except asyncio.CancelledError as cancel:
            if guard.leave(type(cancel)) is not None:
                await self._stopped(job)
                return
            await self._settle(job, job.release)
            raise
        except Exception as error:  # whatever a handler raises is the job's failure
            guard.leave(type(error))
            _logger.warning("job_failed job=%d error=%r", job.job_id, error)
            text = _text_of(error)
            await self._settle(job, lambda: job.fail(text))
        else:
            if guard.leave(None) is not None:
                await self._stopped(job)
            else:
                await self._settle(job, lambda: job.complete(result or b""))

    async def _stopped(self, job: ReservedJob) -> None:
        """Say nothing of a lost job, but confirm that a cancelled one has stopped."""
        if job.is_over:  # the handler settled it and went on
            return
        reason = job.held.error().reason
        _logger.warning("job_lost job=%d reason=%s", job.job_id, reason)
        if reason == CANCEL_REQUESTED:
            await self._settle(job, job.release)
        else:
            job.let_go()

    async def _settle(
        self, job: ReservedJob, call: Callable[[], Awaitable[object]]
    ) -> None:
        """Say how the job went, unless the handler has; a refusal ends the matter."""
        if not job.is_over:
            try:
                await call()
            except RaftError as error:
                job.let_go()
                _logger.warning(
                    "job_not_settled job=%d reason=%s applied=%s",
                    job.job_id,
                    error.reason,
                    error.applied,
                )
                return
        self.handled += 1


class WorkerCalls:
    """The call that makes a worker."""

    _core: Core

    def worker(
        self,
        queues: str | Sequence[str] | Mapping[str, int],
        handler: Handler,
        *,
        concurrency: int = 1,
        types: Sequence[str] = (),
        name: str | None = None,
        reservation_s: float | None = None,
        grace_s: float = 10.0,
    ) -> Worker:
        """Make a worker; nothing happens before ``run``.

        Args:
            queues: A name, names, or names with weights.
            handler: Called with each job; its result is the job's, its exception the
                job's failure.
            concurrency: Handlers at once.
            types: Only of these types; empty = all.
            name: Who works, for people; None = the client's claimant.
            reservation_s: How long a job is reserved; None = as the job says. A
                handler may take longer: it is extended while it runs.
            grace_s: How long running handlers may take after ``stop``.
        """
        return Worker(
            self._core,
            weights_of(queues),
            handler,
            concurrency=concurrency,
            types=types,
            name=name,
            reservation_s=reservation_s,
            grace_s=grace_s,
        )


def _text_of(error: Exception) -> str:
    lines = traceback.format_exception(error)
    return "".join(lines)[-ERROR_CHARS_MAX:]
