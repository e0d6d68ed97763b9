"""``raftctl doctor``. Source: CLI.md; what is judged and how: ``raftctl.diagnosis``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import click
import msgspec

from raftclient import MemberStatus, RaftError, aio
from raftctl.app import App, pass_app
from raftctl.diagnosis import judge, needs_second_look
from raftctl.durations import Duration
from raftctl.exit_codes import ExitCode
from raftctl.look import Case, Finding, Look, Severity
from raftctl.options import Command, OutputFormat

__all__ = ["COMMANDS", "doctor"]

_DIRECT_S: Final = 1.0
_COLORS: Final = {
    Severity.CRITICAL: "red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "cyan",
}


@click.command(
    cls=Command,
    epilog="-o json is an array of objects, worst first: severity (critical, warning,"
    " note), kind (a word that stays), members (names), what, means, help. -o value:"
    " the kinds. Exit codes: 0 nothing was found, 1 something was, 6 no member could be"
    " reached.",
)
@click.option(
    "--apart",
    "apart_s",
    type=Duration(0.1, 600.0),
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="If something is under way, how long to wait for a second look.",
)
@pass_app
def doctor(app: App, apart_s: float) -> None:
    """Say what is wrong or risky in the cluster, worst first, and what to do.

    Looks at all members through the one that answers; those it cannot reach are asked
    themselves. If something is under way (a snapshot, a member catching up, a change of
    members, an election), it looks twice, to see whether it gets on.
    """

    async def work(client: aio.Client) -> tuple[Look, Look | None]:
        first = await _look(app, client)
        if not needs_second_look(first):
            return first, None
        app.out.note(f"something is under way; looking again in {apart_s:g} s")
        await asyncio.sleep(apart_s)
        return await _look(app, client), first

    now, before = app.run(work)
    found = judge(now, before)
    if app.out.format is not OutputFormat.HUMAN:
        records = [msgspec.structs.asdict(each) for each in found]
        app.out.rows(records, columns={}, value="kind")
    elif found:
        _tell(found)
    else:
        click.echo(_all_well(now))
    if found:
        raise click.exceptions.Exit(ExitCode.ERROR)


async def _look(app: App, client: aio.Client) -> Look:
    status = await client.status()
    missing = [m for m in status.members if not m.is_reachable and m.client_address]
    asking = (_ask(app, status.cluster_id, each) for each in missing)
    told = await asyncio.gather(*asking)
    direct = tuple(each for each in told if each is not None)
    return Look(status, direct, time.monotonic())


async def _ask(app: App, cluster_id: str, member: MemberStatus) -> MemberStatus | None:
    """Ask a member itself, at the address it has for clients, if it is there."""
    limit_s = min(_DIRECT_S, app.settings.timeout_s)
    try:
        async with aio.connect(member.client_address, timeout_s=limit_s) as client:
            found = await client.status()
    except RaftError:
        return None
    if (found.cluster_id, found.node_id) != (cluster_id, member.node_id):
        return None
    own = (each for each in found.members if each.node_id == found.node_id)
    return next(own, None)


def _tell(found: Sequence[Finding]) -> None:
    for finding in found:
        head = click.style(finding.severity.value, fg=_COLORS[finding.severity])
        click.echo(f"{head}: {finding.what}")
        click.echo(f"  {finding.means}")
        click.echo(f"  {finding.help}")


def _all_well(now: Look) -> str:
    case = Case(now)
    count = len(case.voters)
    leader = case.leader
    assert leader is not None, "without a leader something is found"
    spare = (count - 1) // 2
    return (
        f"nothing found: {count} voters, {leader.name} leads, {spare} may stop without"
        " harm"
    )


COMMANDS: Final = {"doctor": doctor}
