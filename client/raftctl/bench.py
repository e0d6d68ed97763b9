"""``raftctl bench``: what the user's own cluster does, on the user's own machines.

Source: CLI.md; PERFORMANCE.md; what is run and how it is proved:
``raftctl.bench_workloads`` and ``raftctl.bench_run``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from raftclient import ClusterStatus, aio
from raftctl.app import App, claimant, pass_app
from raftctl.bench_plot import Picture
from raftctl.bench_run import Plan, Row, Said, run_plan
from raftctl.bench_told import announcement, shown, tell
from raftctl.bench_workloads import KEYS_PER_TASK, WORKLOADS, WorkloadFailed
from raftctl.durations import Duration
from raftctl.exit_codes import ExitCode, Failure
from raftctl.options import Command
from raftctl.sizes import format_bytes

__all__ = ["COMMANDS", "bench"]

_IN_FLIGHT_MAX: Final = 2048
_CONNECTIONS_MAX: Final = 64
_VALUE_BYTES_MAX: Final = 2**20
_FILL_BYTES_MAX: Final = 64 * 2**20
"""What all keys of one workload may hold together."""
_PREFIX_BYTES_MAX: Final = 200
_JSON_HELP: Final = """\b
-o json is one object:
  cluster_id, cluster   of the cluster: its id (hexadecimal digits) and name
  prefix, in_flight, connections, value_bytes, warm_up_s, measured_s
  workloads             one object each, in the order they ran:
    name, operations, rate           per second
    p50_us, p99_us, max_us, pause_us
    errors              how many by reason; {} if there were none
-o value: the rates. Exit codes: 0 all was found again, 1 the cluster did not hold what
it acknowledged, 4 the prefix is in use, 6 the cluster did not serve, 130 Ctrl-C."""


def _prefix(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> str | None:
    if value is None:
        return None
    name = value.rstrip("/")
    if not name or len(name.encode(errors="replace")) > _PREFIX_BYTES_MAX:
        raise click.BadParameter(f"give it 1 to {_PREFIX_BYTES_MAX} bytes")
    return name


@click.command(cls=Command, epilog=_JSON_HELP)
@click.argument(
    "workloads",
    nargs=-1,
    type=click.Choice(list(WORKLOADS)),
    metavar=f"[{'|'.join(WORKLOADS)}]...",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, _IN_FLIGHT_MAX),
    default=64,
    show_default=True,
    metavar="N",
    help="Operations at once; each is followed by the next when it has ended.",
)
@click.option(
    "--connections",
    "--clients",
    "connections",
    type=click.IntRange(1, _CONNECTIONS_MAX),
    default=1,
    show_default=True,
    metavar="N",
    help="Clients, each with a session, that share the operations.",
)
@click.option(
    "--value-size",
    "value_bytes",
    type=click.IntRange(1, _VALUE_BYTES_MAX),
    default=256,
    show_default=True,
    metavar="BYTES",
    help="Of what put and get write, and of a job's payload.",
)
@click.option(
    "--seconds",
    "measured_s",
    type=Duration(0.1, 600.0),
    default="3s",
    show_default=True,
    metavar="DURATION",
    help="How long each workload is measured.",
)
@click.option(
    "--warm-up",
    "warm_up_s",
    type=Duration(0.0, 60.0),
    default="500ms",
    show_default=True,
    metavar="DURATION",
    help="How long each runs before.",
)
@click.option(
    "--prefix",
    callback=_prefix,
    metavar="TEXT",
    help="Of all names it uses; nothing else may be there.  [default: a fresh one]",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Draw rates over time and latencies into FILE, a .png, .svg or .pdf; also what"
    " there is after Ctrl-C. Needs pip install 'raftd[plot]'.",
)
@pass_app
def bench(
    app: App,
    /,
    workloads: Sequence[str],
    prefix: str | None,
    plot: Path | None,
    **given: Any,
) -> None:
    """Measure the cluster: operations per second, and how long they take.

    Loads the cluster as hard as it can, one workload after the other, all if none is
    named: put; get, linearizable; incr of one key; lock: acquire and release; job:
    enqueue, reserve and complete. Each is proved: what was acknowledged is found again.
    Keys, locks and jobs are under a prefix of its own, and gone at the end, also after
    Ctrl-C. It goes on over a change of the leader, and counts errors.

    PAUSE: the longest time in which no operation was acknowledged. ERRORS: by reason.
    """
    plan = Plan(
        workloads=workloads or tuple(WORKLOADS),
        prefix=prefix or f"raftctl-bench/{secrets.token_hex(4)}",
        **given,
    )
    _check_sizes(plan)
    picture = None
    if plot is not None:
        picture = Picture(plot)
        picture.check(len(plan.workloads))
    run = _Run(app, plan)
    try:
        app.run(run.work, new_loop=_new_loop)
    except WorkloadFailed as error:
        raise Failure(
            f"the cluster does not hold what it acknowledged: {error}; unless somebody"
            " else wrote there, this is a bug: please report it",
            ExitCode.ERROR,
        ) from error
    except (KeyboardInterrupt, click.exceptions.Exit, Failure):
        _draw_what_there_is(run, picture)
        raise
    assert run.status is not None, "it was asked for first"
    tell(app, plan, run.status, run.rows)
    if picture is not None and picture.draw(plan, run.status, run.rows):
        app.out.note(f"the picture of it is {picture.name}")


class _Run:
    """One run, and what is known of it however it ended."""

    def __init__(self, app: App, plan: Plan) -> None:
        self.plan: Final = plan
        self.rows: Final[list[Row]] = []
        self.status: ClusterStatus | None = None
        self._app: Final = app

    async def work(self, client: aio.Client) -> None:
        self.status = await client.status()
        click.echo(announcement(self._app, self.plan, self.status), err=True)
        with shown(self._app, self.plan) as begun:
            said = Said(begun, lambda text: click.echo(text, err=True))
            connect = _connector(self._app)
            await run_plan(client, self.plan, connect, said, self.rows)


def _draw_what_there_is(run: _Run, picture: Picture | None) -> None:
    """Draw a run that ended early, and let nothing hide why it did."""
    if picture is None or run.status is None:
        return
    try:
        if picture.draw(run.plan, run.status, run.rows):
            text = f"the picture of what was measured is {picture.name}"
        else:
            text = f"nothing was measured, so {picture.name} was not drawn"
    except Failure as error:
        text = error.message
    click.echo(text, err=True)


def _check_sizes(plan: Plan) -> None:
    """Refuse what would harm a cluster, before anything is sent."""
    if plan.connections > plan.in_flight:
        raise click.UsageError(
            f"{plan.connections} connections have nothing to do with"
            f" {plan.in_flight} in flight; ask for more in flight"
        )
    fill_bytes = plan.in_flight * KEYS_PER_TASK * plan.value_bytes
    if fill_bytes > _FILL_BYTES_MAX:
        raise click.UsageError(
            f"{plan.in_flight} in flight, with {KEYS_PER_TASK} keys each, of"
            f" {format_bytes(plan.value_bytes)} are {format_bytes(fill_bytes)} in the"
            f" memory of every member; at most {format_bytes(_FILL_BYTES_MAX)}: ask for"
            " fewer or smaller ones"
        )


def _connector(app: App) -> Callable[[], aio.Client]:
    settings = app.settings
    return lambda: aio.connect(
        settings.endpoints, claimant=claimant(), timeout_s=settings.timeout_s
    )


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return the fastest loop: an application that cares would use it, too."""
    try:
        import uvloop  # noqa: PLC0415 - it exists only on some platforms
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


COMMANDS: Final = {"bench": bench}
