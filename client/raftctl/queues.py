"""``raftctl queue``. Source: CLI.md; SEMANTICS.md section 6 (queue verbs)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import click

from raftclient import Backoff, JobState, QueueInfo, QueueOptions, aio
from raftctl.app import App, pass_app
from raftctl.durations import DURATION, format_ms
from raftctl.jobs import STATE
from raftctl.options import Group, count_option
from raftctl.params import choice_of

__all__ = [
    "COMMANDS",
    "configure",
    "list_queues",
    "pause",
    "purge",
    "queue",
    "resume",
    "stats",
]

_COLUMNS: Final = {
    "name": "QUEUE",
    "paused": "PAUSED",
    "ready": "READY",
    "reserved": "RESERVED",
    "scheduled": "SCHEDULED",
    "blocked": "BLOCKED",
    "done": "DONE",
    "dead": "DEAD",
    "oldest": "OLDEST READY",
}
_SPAN: Final[dict[str, Any]] = {"type": DURATION, "metavar": "DURATION"}
_SETTINGS: Final = (
    click.option("--depth-max", type=click.IntRange(1), help="Waiting jobs at most."),
    click.option("--max-attempts", type=click.IntRange(1)),
    click.option("--max-crashes", type=click.IntRange(1)),
    click.option("--backoff", type=choice_of(Backoff)),
    click.option("--backoff-base", "backoff_base_s", **_SPAN),
    click.option("--backoff-cap", "backoff_cap_s", **_SPAN),
    click.option("--backoff-jitter", type=click.IntRange(0, 100), help="Percent."),
    click.option(
        "--reservation", "reservation_s", help="A worker has so long.", **_SPAN
    ),
    click.option("--grace", "grace_s", help="After a reservation's end.", **_SPAN),
    click.option(
        "--concurrency-max",
        type=click.IntRange(0),
        help="Reserved at once; 0: no limit.",
    ),
    click.option(
        "--complete-late/--no-complete-late",
        "may_complete_late",
        default=None,
        help="Accept an ack after the reservation's end, if nobody else has the job.",
    ),
    click.option("--done-retention", "done_retention_s", **_SPAN),
    click.option("--dead-retention", "dead_retention_s", **_SPAN),
)


@click.group(cls=Group)
def queue() -> None:
    """Queues of jobs; one comes into being with its first job."""


@queue.command("ls")
@click.argument("prefix", default="")
@count_option
@pass_app
def list_queues(app: App, prefix: str, limit: int | None) -> None:
    """List queues with their counts."""

    async def work(client: aio.Client) -> list[QueueInfo]:
        return [each async for each in client.queues(prefix, limit=limit)]

    found = app.run(work)
    make = _row if app.out.is_human else _record
    app.out.rows(map(make, found), columns=_COLUMNS, value="name", empty="no queues")


@queue.command()
@click.argument("name", metavar="QUEUE")
@pass_app
def stats(app: App, name: str) -> None:
    """Show counts, totals and settings of QUEUE; -o value: how many are ready."""

    async def work(client: aio.Client) -> QueueInfo:
        return await client.queue(name).stats()

    found = app.run(work)
    record = _record(found)
    if app.out.is_human:
        options = record.pop("options")
        record["oldest_ready"] = _oldest(found)
        del record["oldest_ready_ms"]
        record |= options
    app.out.record(record, value=found.ready)


@queue.command()
@click.argument("name", metavar="QUEUE")
@pass_app
def pause(app: App, name: str) -> None:
    """Stop handing out jobs of QUEUE; reserved ones go on."""
    _do(app, name, "paused", lambda target: target.pause())


@queue.command()
@click.argument("name", metavar="QUEUE")
@pass_app
def resume(app: App, name: str) -> None:
    """Hand out jobs of QUEUE again."""
    _do(app, name, "resumed", lambda target: target.resume())


@queue.command()
@click.argument("name", metavar="QUEUE")
@click.option(
    "--state",
    "states",
    type=STATE,
    multiple=True,
    help="Repeatable; else all that wait.",
)
@pass_app
def purge(app: App, name: str, states: Sequence[str]) -> None:
    """Remove waiting jobs of QUEUE, or those of --state; prints how many.

    Reserved jobs stay.
    """

    async def work(client: aio.Client) -> int:
        return await client.queue(name).purge([JobState(each) for each in states])

    jobs = app.run(work)
    app.out.record({"queue": name, "jobs": jobs}, value=jobs, text=str(jobs))


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@queue.command()
@click.argument("name", metavar="QUEUE")
@_with_settings
@pass_app
def configure(app: App, /, name: str, **given: Any) -> None:
    """Make QUEUE, or change its settings; what is left out stays as it is."""
    options = {key: value for key, value in given.items() if value is not None}
    if not options:
        raise click.UsageError("say what to change, for example --max-attempts 3")
    if "backoff" in options:
        options["backoff"] = Backoff(options["backoff"])
    settings = cast("QueueOptions", options)
    _do(app, name, "configured", lambda target: target.configure(**settings))


def _do(
    app: App, name: str, done: str, call: Callable[[aio.Queue], Awaitable[None]]
) -> None:
    async def work(client: aio.Client) -> None:
        await call(client.queue(name))

    app.run(work)
    app.out.record({"queue": name, done: True}, value=name, text=f"{name} {done}")


def _record(found: QueueInfo) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def _oldest(found: QueueInfo) -> str | None:
    return format_ms(found.oldest_ready_ms) if found.ready else None


def _row(found: QueueInfo) -> dict[str, Any]:
    return _record(found) | {
        "paused": "paused" if found.is_paused else None,
        "oldest": _oldest(found),
    }


COMMANDS: Final = {"queue": queue}
