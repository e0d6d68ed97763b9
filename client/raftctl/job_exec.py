"""``raftctl job exec``: a worker that runs a command for each job.

Rules:
    * The payload is the command's standard input. Exit code 0 completes the job with
      standard output as its result; anything else fails it with standard error.
    * While the command runs its reservation is extended; if that is lost, or somebody
      cancels the job, the command's process group is killed and nothing more said.
    * The first SIGTERM or SIGINT fetches no more and lets running jobs finish; the
      second kills their commands and gives the jobs back, without charge.

Source: CLI.md; SEMANTICS.md section 6.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import click

from raftclient import RaftError, aio
from raftctl.app import App, claimant, pass_app
from raftctl.exit_codes import ExitCode, failure_of
from raftctl.guarded import check_command
from raftctl.holding import LostSignal
from raftctl.options import Command
from raftctl.output import printable

__all__ = ["exec_command"]

RESULT_BYTES_MAX: Final = 64 * 1024
"""What the cluster keeps of a result; more of standard output is dropped."""

ERROR_BYTES_MAX: Final = 8 * 1024
"""The end of standard error that is kept as the job's error."""

PAUSE_S: Final = 0.5
WAIT_S: Final = 10.0
_CHUNK_BYTES: Final = 2**16


@click.command("exec", cls=Command)
@click.argument("queue")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Jobs at once.",
)
@click.option("--once", is_flag=True, help="One job, then end with CMD's exit code.")
@click.option("--drain", is_flag=True, help="Until no job is ready.")
@click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD ..."
)
@pass_app
def exec_command(
    app: App,
    queue: str,
    concurrency: int,
    once: bool,
    drain: bool,
    command: Sequence[str],
) -> int:
    """Run CMD for each job of QUEUE, until SIGTERM or Ctrl-C.

    The payload is CMD's standard input; exit code 0 completes the job with CMD's
    output as result, anything else fails it with what CMD wrote to standard error. CMD
    finds RAFTCTL_QUEUE, RAFTCTL_JOB_ID, RAFTCTL_JOB_TOKEN and RAFTCTL_JOB_ATTEMPT in
    its environment. SIGTERM lets running jobs finish.
    """
    if once and drain:
        raise click.UsageError("give --once or --drain, not both")
    check_command(command)

    async def work(client: aio.Client) -> int:
        runner = _Runner(app, client, queue, command, 1 if once else concurrency)
        return await runner.run(once=once, drain=drain)

    return app.run(work)


@dataclass(slots=True)
class _Runner:
    app: App
    client: aio.Client
    queue: str
    command: Sequence[str]
    concurrency: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    running: dict[asyncio.Task[None], LostSignal] = field(default_factory=dict)
    last_code: int = 0

    async def run(self, *, once: bool, drain: bool) -> int:
        """Work until told to stop, or as the flags say; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            while not self.stopping.is_set():
                found = await self._fetch(stopped, waits=not drain)
                if drain and not found and not self.running:
                    break
                if once and found:
                    break
                if len(self.running) >= self.concurrency or (drain and not found):
                    await self._one_ends(stopped)
        finally:
            stopped.cancel()
            if self.running:
                await asyncio.wait(self.running)
        return self.last_code if once else ExitCode.OK

    def _told_to_stop(self) -> None:
        if self.stopping.is_set():
            for kill in self.running.values():
                kill()
        self.stopping.set()

    async def _one_ends(self, stopped: asyncio.Task[bool]) -> None:
        if self.running:
            await asyncio.wait(
                {stopped, *self.running}, return_when=asyncio.FIRST_COMPLETED
            )

    async def _fetch(self, stopped: asyncio.Task[bool], *, waits: bool) -> bool:
        """Take jobs and start on them; returns whether there were any."""
        room = min(100, self.concurrency - len(self.running))
        fetching = asyncio.create_task(
            self.client.queue(self.queue).reserve(
                room, wait_s=WAIT_S if waits else 0.0, worker=claimant()
            )
        )
        await asyncio.wait({stopped, fetching}, return_when=asyncio.FIRST_COMPLETED)
        if not fetching.done():
            fetching.cancel()
            await asyncio.wait({fetching})
            if fetching.cancelled():
                return False
        try:
            jobs = fetching.result()
        except RaftError as error:
            if error.exit_code not in {ExitCode.UNAVAILABLE, ExitCode.UNKNOWN}:
                raise
            self.app.out.note(f"waiting: {error.message}")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), PAUSE_S)
            return False
        for job in jobs:
            kill = LostSignal()
            task = asyncio.create_task(self._work_on(job, kill))
            self.running[task] = kill
            task.add_done_callback(self._ended)
        return bool(jobs)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self.running[task]

    async def _work_on(self, job: aio.ReservedJob, kill: LostSignal) -> None:
        job.keep(on_lost=kill)
        ended = await _run_command(self.command, job, kill, self.app.settings.endpoints)
        self.last_code = ended.code
        try:
            if job.is_lost:
                self.last_code = ExitCode.LOST
                if job.cancel_requested:
                    await job.release()
                    what = "cancelled"
                else:
                    what = "lost: another worker may have it"
            elif kill.event.is_set():
                await job.release()
                what = "given back"
            elif ended.code == 0:
                await job.complete(ended.output)
                what = "done"
            else:
                state = await job.fail(ended.error_text())
                what = f"failed with code {ended.code}, now {state}"
        except RaftError as error:
            job.let_go()
            self.last_code = error.exit_code
            failure = failure_of(error, self.app.settings.endpoints)
            what = f"not settled: {failure.message}"
        self.app.out.note(f"job {job.job_id} {what}")


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int
    output: bytes
    errors: bytes

    def error_text(self) -> str:
        """Return what the job is to keep as its error."""
        text = printable(self.errors).strip()
        return text or f"exit code {self.code}"


async def _run_command(
    command: Sequence[str], job: aio.ReservedJob, kill: LostSignal, endpoints: str
) -> _Ended:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_variables(job), "RAFTCTL_ENDPOINTS": endpoints},
            process_group=0,
        )
    except OSError as error:
        text = f"{command[0]} cannot be run: {error.strerror}"
        return _Ended(ExitCode.NOT_EXECUTABLE, b"", text.encode())
    assert process.stdin is not None, "a pipe was asked for"
    assert process.stdout is not None, "a pipe was asked for"
    assert process.stderr is not None, "a pipe was asked for"
    killing = asyncio.create_task(_kill_when(kill, process.pid))
    try:
        _, output, errors, code = await asyncio.gather(
            _feed(process.stdin, job.payload),
            _read_head(process.stdout),
            _read_tail(process.stderr),
            process.wait(),
        )
    finally:
        killing.cancel()
        _kill(process.pid)  # what the command left behind, too
    return _Ended(code if code >= 0 else 128 - code, output, errors)


def _variables(job: aio.ReservedJob) -> dict[str, str]:
    return {
        "RAFTCTL_QUEUE": job.queue,
        "RAFTCTL_JOB_ID": str(job.job_id),
        "RAFTCTL_JOB_TOKEN": str(job.token),
        "RAFTCTL_JOB_ATTEMPT": str(job.attempt),
    }


async def _kill_when(kill: LostSignal, group: int) -> None:
    await kill.event.wait()
    _kill(group)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


async def _feed(stream: asyncio.StreamWriter, payload: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read it all
        stream.write(payload)
        await stream.drain()
    stream.close()


async def _read_head(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await stream.read(_CHUNK_BYTES):
        kept += data[: RESULT_BYTES_MAX - len(kept)]
    return kept


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await stream.read(_CHUNK_BYTES):
        kept = (kept + data)[-ERROR_BYTES_MAX:]
    return kept
