"""``raftctl job``, for producers and onlookers: put get ls wait watch cancel redrive.

What workers do is in ``raftctl.job_work`` and ``raftctl.job_exec``.
Source: CLI.md; SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from raftclient import JobEvent, JobInfo, JobState, NotFound, Unavailable, aio
from raftctl.app import App, pass_app
from raftctl.durations import DURATION, format_ms
from raftctl.exit_codes import ExitCode, Failure
from raftctl.job_exec import exec_command
from raftctl.job_put import put
from raftctl.job_work import ack, extend, fail, release, reserve, savepoint
from raftctl.options import Group, count_option
from raftctl.output import ago, ahead

__all__ = [
    "COMMANDS",
    "STATE",
    "cancel",
    "get",
    "job",
    "list_jobs",
    "redrive",
    "wait",
    "watch",
]

_COLUMNS: Final = {
    "job_id": "JOB",
    "state": "STATE",
    "priority": "PRIO",
    "age": "AGE",
    "attempts": "ATTEMPTS",
    "worker": "WORKER",
    "payload": "PAYLOAD",
    "error": "ERROR",
}

STATE: Final = click.Choice(
    [each.value for each in JobState if each is not JobState.GONE],
    case_sensitive=False,
)
"""A job's state, as a flag's value."""


@click.group(cls=Group)
def job() -> None:
    """Jobs of the durable queue."""


for _command in (put, reserve, ack, fail, release, extend, savepoint, exec_command):
    job.add_command(_command)


@job.command()
@click.argument("job_id", metavar="ID")
@pass_app
def get(app: App, job_id: str) -> None:
    """Show job ID, by its number or by the id that its producer gave it."""

    async def work(client: aio.Client) -> JobInfo:
        try:
            return await client.job(int(job_id) if job_id.isdecimal() else job_id)
        except NotFound:
            if not job_id.isdecimal():
                raise
            return await client.job(job_id)  # a producer's id of digits only

    found = app.run(work)
    app.out.record(_record(found), value=found.state)


@job.command("ls")
@click.argument("queue")
@click.option("--state", "states", type=STATE, multiple=True, help="May be repeated.")
@click.option("--type", "kind", default="", help="Only of this type.")
@click.option("--no-payloads", is_flag=True, help="Leave payloads and results out.")
@count_option
@pass_app
def list_jobs(
    app: App,
    queue: str,
    states: Sequence[str],
    kind: str,
    no_payloads: bool,
    limit: int | None,
) -> None:
    """List the jobs of QUEUE by id."""

    async def work(client: aio.Client) -> list[JobInfo]:
        found = client.queue(queue).list(
            states=[JobState(each) for each in states],
            type=kind,
            limit=limit,
            payloads=not no_payloads,
        )
        return [each async for each in found]

    found = app.run(work)
    make = _row if app.out.is_human else _record
    columns = {
        name: head
        for name, head in _COLUMNS.items()
        if (name != "payload" or not no_payloads)
        and (name != "error" or any(each.error for each in found))
    }
    app.out.rows(map(make, found), columns=columns, value="job_id", empty="no jobs")


@job.command()
@click.argument("job_id", metavar="ID", type=int)
@click.option("--wait", "wait_s", type=DURATION, metavar="DURATION", help="How long.")
@pass_app
def wait(app: App, job_id: int, wait_s: float | None) -> None:
    """Wait until job ID has ended; prints its result.

    Exit code 0: DONE; 1: it ended otherwise; 4: it has not ended in time.
    """

    async def work(client: aio.Client) -> JobInfo:
        return await client.wait_job(job_id, wait_s=wait_s)

    async def waited(client: aio.Client) -> JobInfo:
        try:
            return await work(client)
        except Unavailable as error:
            if error.reason != "DEADLINE" or wait_s is None:
                raise
            raise Failure(
                f"job {job_id} has not ended in {wait_s:g}s; wait longer with --wait",
                ExitCode.PRECONDITION,
            ) from error

    found = app.run(waited)
    if found.state is JobState.DONE:
        app.out.payload(_record(found), found.result)
        return
    if not app.out.is_human:
        app.out.record(_record(found), value=found.state)
    why = f": {found.error}" if found.error else ""
    raise Failure(f"job {job_id} ended {found.state}{why}", ExitCode.ERROR)


@job.command()
@click.argument("job_id", metavar="ID", type=int, required=False)
@click.option("--queue", metavar="QUEUE", help="All jobs of a queue, from now on.")
@click.option("--rev", type=click.IntRange(1), metavar="N", help="From then on.")
@pass_app
def watch(app: App, job_id: int | None, queue: str | None, rev: int | None) -> None:
    """Follow job ID until it has ended, or a queue until interrupted."""
    if (job_id is None) == (queue is None):
        raise click.UsageError("give an ID or --queue, one of them")

    async def work(client: aio.Client) -> None:
        if job_id is not None:
            feed = client.watch_job(job_id, from_rev=rev)
        else:
            feed = client.watch_jobs(queue or "", from_rev=rev)
        async with feed:
            async for event in feed:
                _show(app, event)
                if job_id is not None and event.state.is_final:
                    return

    app.run(work)


@job.command()
@click.argument("job_id", metavar="ID", type=int)
@pass_app
def cancel(app: App, job_id: int) -> None:
    """Cancel job ID; a reserved one ends when its worker has heard of it."""

    async def work(client: aio.Client) -> JobState:
        return await client.cancel_job(job_id)

    state = app.run(work)
    later = " until its worker stops" if state is JobState.RESERVED else ""
    app.out.record(
        {"job_id": job_id, "state": state}, value=state, text=f"{state}{later}"
    )


@job.command()
@click.argument("queue")
@click.option(
    "--state", "states", type=STATE, multiple=True, help="May be repeated; else DEAD."
)
@click.option("--id", "job_ids", type=int, multiple=True, help="Only these.")
@click.option("--type", "kind", default="", help="Only of this type.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--force", is_flag=True, help="Needed for DONE.")
@pass_app
def redrive(
    app: App,
    queue: str,
    states: Sequence[str],
    job_ids: Sequence[int],
    kind: str,
    limit: int,
    force: bool,
) -> None:
    """Give ended jobs of QUEUE another life; prints how many."""

    async def work(client: aio.Client) -> int:
        return await client.queue(queue).redrive(
            [JobState(each) for each in states],
            job_ids=job_ids,
            type=kind,
            max=limit,
            force=force,
        )

    jobs = app.run(work)
    app.out.record({"queue": queue, "jobs": jobs}, value=jobs, text=str(jobs))


def _show(app: App, event: JobEvent) -> None:
    record: dict[str, Any] = {
        "revision": event.revision,
        "queue": event.queue,
        "job_id": event.job_id,
        "client_id": event.client_id,
        "state": event.state,
        "previous_state": event.previous_state,
        "is_resync": event.is_resync,
    }
    before = f"{event.previous_state} -> " if event.previous_state else ""
    missed = "  (changes were missed)" if event.is_resync else ""
    text = f"{event.revision}  job {event.job_id}  {before}{event.state}{missed}"
    app.out.event(record, value=event.state, text=text)


def _record(found: JobInfo) -> dict[str, Any]:
    skipped = {"age_ms", "due_in_ms"}
    record = {
        name: getattr(found, name)
        for name in found.__struct_fields__
        if name not in skipped
    }
    is_due = found.state in {JobState.SCHEDULED, JobState.RESERVED}
    return record | {
        "enqueued": ago(found.age_ms),
        "due": ahead(found.due_in_ms) if is_due else None,
    }


def _row(found: JobInfo) -> dict[str, Any]:
    return {
        "job_id": found.job_id,
        "state": found.state,
        "priority": found.priority,
        "age": format_ms(found.age_ms),
        "attempts": f"{found.attempt}/{found.max_attempts}",
        "worker": found.worker or None,
        "payload": found.payload,
        "error": found.error or None,
    }


COMMANDS: Final = {"job": job}
