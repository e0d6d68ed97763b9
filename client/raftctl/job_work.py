"""``raftctl job reserve ack fail release extend savepoint``: a worker by hand.

A reservation hangs on a lease of its own that outlives the command, so that another
process can finish the job. The lease lasts at least an hour, ``extend`` and
``savepoint`` renew it, and what ends the reservation revokes it.

Source: CLI.md; SEMANTICS.md section 6 (token on every worker call).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import click

from raftclient import JobState, NotFound, RaftError, aio
from raftctl.app import App, claimant, pass_app
from raftctl.durations import DURATION, format_ms
from raftctl.exit_codes import ExitCode, Failure
from raftctl.options import Command
from raftctl.output import printable
from raftctl.params import BYTES

__all__ = ["ack", "extend", "fail", "release", "reserve", "savepoint"]

T = TypeVar("T")

LEASE_S_MIN: Final = 3600.0
LEASE_S_MAX: Final = 86_400.0

_id = click.argument("job_id", metavar="ID", type=int)
_token = click.option(
    "--token", type=int, required=True, metavar="N", help="As job reserve printed it."
)


@click.command(cls=Command)
@click.argument("queue")
@click.option(
    "--wait",
    type=DURATION,
    metavar="DURATION",
    help="How long to wait for a job; 0: do not.  [default: for ever]",
)
@click.option(
    "--for",
    "reservation",
    type=DURATION,
    metavar="DURATION",
    help="How long it is yours.  [default: as the job says]",
)
@click.option("--type", "types", multiple=True, help="Only of this type; repeatable.")
@pass_app
def reserve(
    app: App,
    queue: str,
    wait: float | None,
    reservation: float | None,
    types: Sequence[str],
) -> None:
    """Take a ready job of QUEUE, or wait for one; prints id, token and payload.

    It is yours until the reservation ends: finish it with job ack ID --token N (from
    any process), or prolong it with job extend. Exit code 3: no job in time.
    """
    ttl_s = min(LEASE_S_MAX, max(LEASE_S_MIN, (reservation or 0.0) + 60.0))

    async def work(client: aio.Client) -> aio.ReservedJob | None:
        lease_id = await client.grant_lease(ttl_s, claimant=claimant())
        jobs: list[aio.ReservedJob] = []
        try:
            jobs = await client.queue(queue).reserve(
                wait_s=wait,
                lease=lease_id,
                worker=claimant(),
                reservation_s=reservation,
                types=types,
            )
        finally:
            if not jobs:
                with suppress(RaftError):
                    await client.revoke_lease(lease_id)
        return jobs[0] if jobs else None

    found = app.run(work)
    if found is None:
        raise Failure(
            f'no job of "{printable(queue)}" was ready in time; --wait waits longer',
            ExitCode.NOT_FOUND,
        )
    if found.reservation_ms > ttl_s * 1000:
        app.out.note(f"job extend is needed within {format_ms(int(ttl_s * 1000))}")
    app.out.record(_record(found), value=found.payload, text=_text(found))


def _record(found: aio.ReservedJob) -> dict[str, Any]:
    return {
        "job_id": found.job_id,
        "token": found.token,
        "queue": found.queue,
        "type": found.type,
        "payload": found.payload,
        "content_type": found.content_type,
        "meta": found.meta,
        "client_id": found.client_id,
        "attempt": found.attempt,
        "delivery": found.delivery,
        "savepoint": found.saved,
        "reservation_ms": found.reservation_ms,
    }


def _text(found: aio.ReservedJob) -> str:
    saved = f"\nsavepoint {printable(found.saved)}" if found.saved else ""
    return (
        f"id {found.job_id}\ntoken {found.token}{saved}"
        f"\npayload {printable(found.payload)}"
    )


@click.command(cls=Command)
@_id
@_token
@click.option("--result", type=BYTES, default=b"", help="Kept with the job, to 64 KiB.")
@pass_app
def ack(app: App, job_id: int, token: int, result: bytes) -> None:
    """Complete job ID. Exit code 5: it is no longer yours, and nothing was done."""

    async def call(reservation: aio.Reservation) -> JobState:
        await reservation.complete(result)
        return JobState.DONE

    _end(app, job_id, token, call)


@click.command(cls=Command)
@_id
@_token
@click.option("--error", default="", metavar="TEXT", help="Kept with the job.")
@click.option(
    "--retry-in", type=DURATION, metavar="DURATION", help="Instead of backoff."
)
@click.option("--fatal", is_flag=True, help="DEAD at once, no more attempts.")
@pass_app
def fail(
    app: App, job_id: int, token: int, error: str, retry_in: float | None, fatal: bool
) -> None:
    """Count a failed attempt of job ID; prints what it is now."""

    async def call(reservation: aio.Reservation) -> JobState:
        return await reservation.fail(error, retry_in_s=retry_in, fatal=fatal)

    _end(app, job_id, token, call)


@click.command(cls=Command)
@_id
@_token
@click.option("--delay", type=DURATION, metavar="DURATION", help="Put it off so long.")
@pass_app
def release(app: App, job_id: int, token: int, delay: float | None) -> None:
    """Give job ID back; no attempt is charged."""

    async def call(reservation: aio.Reservation) -> JobState:
        if delay is None:
            await reservation.release()
            return JobState.READY
        await reservation.snooze(delay)
        return JobState.SCHEDULED

    _end(app, job_id, token, call)


@click.command(cls=Command)
@_id
@_token
@click.option("--for", "for_s", type=DURATION, metavar="DURATION", help="From now.")
@pass_app
def extend(app: App, job_id: int, token: int, for_s: float | None) -> None:
    """Prolong the reservation of job ID; prints how long it lasts."""

    async def call(reservation: aio.Reservation) -> float:
        return await reservation.extend(for_s)

    _prolong(app, job_id, token, call)


@click.command(cls=Command)
@_id
@_token
@click.option("--data", type=BYTES, help="For the next worker, if this one dies.")
@click.option("--progress", type=click.FloatRange(0.0, 1.0), help="0.0 to 1.0.")
@pass_app
def savepoint(
    app: App, job_id: int, token: int, data: bytes | None, progress: float | None
) -> None:
    """Store progress with job ID, and prolong its reservation."""
    if data is None and progress is None:
        raise click.UsageError("give --data, --progress or both")

    async def call(reservation: aio.Reservation) -> float:
        return await reservation.savepoint(data, progress)

    _prolong(app, job_id, token, call)


def _end(
    app: App,
    job_id: int,
    token: int,
    call: Callable[[aio.Reservation], Awaitable[JobState]],
) -> None:
    async def work(client: aio.Client) -> JobState:
        lease_id = await _own_lease(client, job_id, token)
        state = await call(client.reservation(job_id, token))
        if lease_id is not None:
            with suppress(RaftError):  # it ends by itself
                await client.revoke_lease(lease_id)
        return state

    state = app.run(work)
    app.out.record({"job_id": job_id, "state": state}, value=state, text=state)


def _prolong(
    app: App,
    job_id: int,
    token: int,
    call: Callable[[aio.Reservation], Awaitable[float]],
) -> None:
    async def work(client: aio.Client) -> tuple[float, bool]:
        lease_id = await _own_lease(client, job_id, token)
        if lease_id is not None:
            await client.keep_alive_lease(lease_id)
        reservation = client.reservation(job_id, token)
        remaining_s = await call(reservation)
        return remaining_s, reservation.cancel_requested

    remaining_s, is_cancelled = app.run(work)
    remaining_ms = round(remaining_s * 1000)
    if is_cancelled:
        app.out.note("somebody cancelled the job: stop, and job release it")
    app.out.record(
        {
            "job_id": job_id,
            "remaining_ms": remaining_ms,
            "cancel_requested": is_cancelled,
        },
        value=remaining_ms,
        text=format_ms(remaining_ms),
    )


async def _own_lease(client: aio.Client, job_id: int, token: int) -> int | None:
    """Return the lease that ``job reserve`` made for a reservation, if it was that."""
    try:
        job = await client.job(job_id)
        if job.state is not JobState.RESERVED or job.token != token:
            return None
        lease = await client.lease_info(job.lease_id)
    except NotFound:
        return None
    is_own = lease.claimant.startswith("raftctl/") and not lease.is_session
    return lease.lease_id if is_own and lease.attachments == 1 else None
