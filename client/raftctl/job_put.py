"""``raftctl job put``: one job, or one for each line of standard input.

Lines go in batches, as many as have arrived, up to the bounds below; each batch is
enqueued whole or not at all.

Source: CLI.md; SEMANTICS.md section 6 (Enqueue).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import click

from raftclient import (
    Backoff,
    EnqueuedJob,
    JobOptions,
    JobSpec,
    OnConflict,
    Unique,
    UniqueUntil,
    aio,
)
from raftctl.app import App, pass_app
from raftctl.durations import DURATION
from raftctl.exit_codes import ExitCode, Failure
from raftctl.options import Command
from raftctl.params import choice_of

__all__ = ["batches_of", "put", "read_lines"]

BATCH_JOBS_MAX: Final = 100
BATCH_BYTES_MAX: Final = 2**20
LINE_BYTES_MAX: Final = 2**20
_CHUNK_BYTES: Final = 2**16


def _moment(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone()
    except ValueError as error:
        raise click.BadParameter(
            f'"{value}" is no time; write it like 2030-01-31T08:00:00Z'
        ) from error


def _meta(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if any(not sign for _, sign, _ in pairs):
        raise click.BadParameter("write it like NAME=VALUE")
    return {name: value for name, _, value in pairs}


_SPAN: Final[dict[str, Any]] = {"type": DURATION, "metavar": "DURATION"}
_OPTIONS: Final = (
    click.option("--lines", is_flag=True, help="One job per line of standard input."),
    click.option(
        "--id", "job_id", metavar="TEXT", help="Your id: put once, however often."
    ),
    click.option(
        "--type", "type", metavar="TEXT", help="For workers of some types only."
    ),
    click.option("--content-type", metavar="TEXT"),
    click.option(
        "--meta",
        multiple=True,
        callback=_meta,
        metavar="NAME=VALUE",
        help="Repeatable.",
    ),
    click.option(
        "--priority", type=click.IntRange(0, 9), help="0 first; 5 if left out."
    ),
    click.option("--delay", "delay_s", help="Not before so long from now.", **_SPAN),
    click.option("--run-at", callback=_moment, metavar="TIME", help="ISO 8601."),
    click.option("--max-attempts", type=click.IntRange(1)),
    click.option("--backoff", type=choice_of(Backoff)),
    click.option("--backoff-base", "backoff_base_s", **_SPAN),
    click.option("--backoff-cap", "backoff_cap_s", **_SPAN),
    click.option(
        "--reservation", "reservation_s", help="A worker has so long.", **_SPAN
    ),
    click.option("--max-runtime", "max_runtime_s", **_SPAN),
    click.option(
        "--deadline", "deadline_s", help="EXPIRED if it waits longer.", **_SPAN
    ),
    click.option("--group", metavar="TEXT", help="Jobs of a group run in order."),
    click.option("--group-limit", type=click.IntRange(1), help="At once in the group."),
    click.option(
        "--after", type=int, multiple=True, help="Wait for this job; repeatable."
    ),
    click.option("--runs-anyway", is_flag=True, help="Even if a job of --after fails."),
    click.option(
        "--unique", metavar="KEY", help="At most one job at a time under KEY."
    ),
    click.option("--unique-until", type=choice_of(UniqueUntil), default="done"),
    click.option("--unique-window", default=0.0, **_SPAN),
    click.option("--on-conflict", type=choice_of(OnConflict), default="reject"),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(cls=Command)
@click.argument("queue")
@click.argument("payload", default="")
@_with_options
@pass_app
def put(app: App, /, queue: str, payload: str, lines: bool, **given: Any) -> None:
    """Enqueue a job into QUEUE; prints its id.

    PAYLOAD is the text itself, - for standard input, or @FILE. With --lines each line
    of standard input is a job, in batches of up to 100 and 1 MiB.
    """
    options = _job_options(given)
    if not lines:
        _put_one(app, queue, _payload(payload), options)
        return
    if payload not in {"", "-"}:
        raise click.UsageError("--lines takes the payloads from standard input")
    if "job_id" in options:
        raise click.UsageError("--id is for one job, not for --lines")
    _put_lines(app, queue, options)


def _job_options(given: dict[str, Any]) -> JobOptions:
    options = {k: v for k, v in given.items() if v not in (None, (), {}, False)}
    key = options.pop("unique", None)
    until, window_s, conflict = (
        options.pop("unique_until"),
        options.pop("unique_window", 0.0),
        options.pop("on_conflict"),
    )
    if key is not None:
        options["unique"] = Unique(
            key, UniqueUntil(until), window_s, OnConflict(conflict)
        )
    if "backoff" in options:
        options["backoff"] = Backoff(options["backoff"])
    return cast("JobOptions", options)


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return os.fsencode(text)


def _record(queue: str, found: EnqueuedJob) -> dict[str, Any]:
    return {
        "job_id": found.job_id,
        "queue": queue,
        "state": found.state,
        "existed": found.existed,
    }


def _put_one(app: App, queue: str, payload: bytes, options: JobOptions) -> None:
    async def work(client: aio.Client) -> EnqueuedJob:
        return await client.queue(queue).enqueue(payload, **options)

    found = app.run(work)
    if found.existed:
        app.out.note("the job was there already")
    app.out.record(_record(queue, found), value=found.job_id, text=str(found.job_id))


def _put_lines(app: App, queue: str, options: JobOptions) -> None:
    count = 0

    async def work(client: aio.Client) -> None:
        nonlocal count
        target = client.queue(queue)
        with _progress(app) as advance:
            async for batch in read_lines(sys.stdin.fileno()):
                specs = [JobSpec(line, **options) for line in batch]
                for found in await target.enqueue_many(specs):
                    if not app.out.is_human:
                        app.out.event(
                            _record(queue, found), value=found.job_id, text=""
                        )
                count += len(batch)
                advance(count)

    try:
        app.run(work)
    except BaseException:
        click.echo(f"note: {count} lines were enqueued before", err=True)
        raise
    if app.out.is_human:
        app.out.event({}, value=count, text=f"{count} jobs")


async def read_lines(fd: int) -> AsyncIterator[list[bytes]]:
    """Yield batches of lines, without their ends, as they arrive.

    Raises:
        Failure: A line is longer than a payload may be.
    """
    rest = b""
    while True:
        data = await asyncio.to_thread(os.read, fd, _CHUNK_BYTES)
        *lines, rest = (rest + data).split(b"\n")
        if not data and rest:
            lines, rest = [rest], b""
        if len(rest) > LINE_BYTES_MAX or any(len(x) > LINE_BYTES_MAX for x in lines):
            raise Failure(
                f"a line is longer than {LINE_BYTES_MAX} bytes, the most a payload may"
                " have; split it, or put a reference to it",
                ExitCode.USAGE,
            )
        for batch in batches_of(lines):
            yield batch
        if not data:
            return


def batches_of(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Cut lines into batches within the bounds."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        is_full = len(batch) == BATCH_JOBS_MAX or size + len(line) > BATCH_BYTES_MAX
        if batch and is_full:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


@contextmanager
def _progress(app: App) -> Iterator[Callable[[int], None]]:
    """Show how far it is, if a person looks on; the total is known of a file only."""
    if not (app.out.is_human and sys.stderr.isatty()):
        yield lambda count: None
        return
    import rich.console  # noqa: PLC0415 - slow to load, and scripts never need it
    import rich.progress  # noqa: PLC0415 - slow to load, and scripts never need it

    with rich.progress.Progress(
        rich.progress.SpinnerColumn(),
        rich.progress.TextColumn("{task.completed} jobs"),
        rich.progress.BarColumn(),
        rich.progress.TimeElapsedColumn(),
        console=rich.console.Console(stderr=True),
        transient=True,
    ) as shown:
        task = shown.add_task("put", total=_lines_of_stdin())
        yield lambda count: shown.update(task, completed=count)


def _lines_of_stdin() -> int | None:
    """Count the lines of standard input, if it is a file."""
    try:
        at = os.lseek(0, 0, os.SEEK_CUR)
    except OSError:
        return None
    count = 0
    while data := os.read(0, _CHUNK_BYTES):
        count += data.count(b"\n")
    os.lseek(0, at, os.SEEK_SET)
    return count
