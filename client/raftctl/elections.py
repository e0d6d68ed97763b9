"""``raftctl elect``. Source: CLI.md; SEMANTICS.md section 5."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import click

from raftclient import ElectionEvent, ElectionInfo, LeaderInfo, RaftError, aio
from raftctl.app import App, claimant, pass_app
from raftctl.durations import DURATION, format_ms
from raftctl.exit_codes import ExitCode, Failure
from raftctl.guarded import OnLost, check_command
from raftctl.holding import LostSignal, exec_options, run_under
from raftctl.leases import TTL
from raftctl.options import Group, count_option
from raftctl.output import ago, printable
from raftctl.params import BYTES

__all__ = [
    "COMMANDS",
    "campaign",
    "elect",
    "exec_command",
    "leader",
    "list_elections",
    "observe",
    "transfer",
]

_COLUMNS: Final = {
    "name": "NAME",
    "leader": "LEADER",
    "value": "VALUE",
    "epoch": "EPOCH",
    "for": "FOR",
    "candidates": "WAITING",
}

_ttl = click.option(
    "--ttl", type=TTL, default="10s", show_default=True, metavar="DURATION"
)
_wait = click.option(
    "--wait",
    type=DURATION,
    metavar="DURATION",
    help="How long to wait to win; 0: do not.  [default: for ever]",
)


@click.group(cls=Group)
def elect() -> None:
    """Elections: one leader of a name at a time, and everybody can watch."""


@elect.command()
@click.argument("name")
@click.argument("value", type=BYTES)
@_ttl
@_wait
@pass_app
def campaign(app: App, name: str, value: bytes, ttl: float, wait: float | None) -> None:
    """Stand in election NAME; prints the epoch on winning, leads until interrupted.

    VALUE is what observers see. Exit code 4: not won in time; 5: leadership lost.
    """

    async def work(client: aio.Client) -> None:
        leadership = await client.election(name).campaign(value, wait_s=wait)
        async with leadership:
            epoch = leadership.epoch
            record = {"name": name, "epoch": epoch, "value": value}
            app.out.event(record, value=epoch, text=str(epoch))
            await asyncio.Event().wait()

    app.run(work, ttl_s=ttl)


@elect.command("exec")
@click.argument("name")
@click.option(
    "--value", type=BYTES, help="What observers see.  [default: host and process]"
)
@_ttl
@_wait
@exec_options
@pass_app
def exec_command(
    app: App,
    name: str,
    value: bytes | None,
    ttl: float,
    wait: float | None,
    on_lost: OnLost,
    command: Sequence[str],
) -> int:
    """Run CMD while leading NAME; its exit code is passed on.

    CMD finds RAFTCTL_ELECTION_NAME, RAFTCTL_EPOCH and RAFTCTL_LEASE_ID in its
    environment, and is stopped before leadership can end, as lock exec does it.
    Exit code 4: not won in time; 5: lost.
    """
    check_command(command)
    on_lost.grace_for(ttl)

    async def work(client: aio.Client) -> int:
        lost = LostSignal()
        leadership = await client.election(name).campaign(
            claimant() if value is None else value, wait_s=wait, on_lost=lost
        )
        try:
            return await run_under(
                app,
                client,
                command,
                what=f'leadership of "{name}"',
                ttl_s=ttl,
                remaining_s=lambda: leadership.remaining_s,
                lost=lost,
                variables={
                    "RAFTCTL_ELECTION_NAME": name,
                    "RAFTCTL_EPOCH": str(leadership.epoch),
                },
                on_lost=on_lost,
            )
        finally:
            with suppress(RaftError):  # then it goes with the session
                await leadership.resign()

    return app.run(work, ttl_s=ttl)


@elect.command()
@click.argument("name")
@pass_app
def leader(app: App, name: str) -> None:
    """Print the value of NAME's leader; nobody leads: exit code 3."""

    async def work(client: aio.Client) -> LeaderInfo | None:
        return await client.leader(name)

    found = app.run(work)
    if found is None:
        raise Failure(
            f'nobody leads "{printable(name)}"; raftctl elect observe waits for one',
            ExitCode.NOT_FOUND,
        )
    app.out.payload({"name": name, **_leader(found)}, found.value)


@elect.command()
@click.argument("name")
@click.option("--rev", type=click.IntRange(1), metavar="N", help="From then on.")
@pass_app
def observe(app: App, name: str, rev: int | None) -> None:
    """Follow who leads NAME, "nobody" included, until interrupted."""

    async def work(client: aio.Client) -> None:
        async with client.observe(name, from_rev=rev) as feed:
            async for event in feed:
                _show(app, name, event)

    app.run(work)


@elect.command("ls")
@click.argument("prefix", default="")
@count_option
@pass_app
def list_elections(app: App, prefix: str, limit: int | None) -> None:
    """List elections that somebody leads or stands in."""

    async def work(client: aio.Client) -> list[ElectionInfo]:
        return [each async for each in client.elections(prefix, limit=limit)]

    found = app.run(work)
    make = _row if app.out.is_human else _record
    app.out.rows(map(make, found), columns=_COLUMNS, value="name", empty="no elections")


@elect.command()
@click.argument("name")
@click.argument("to")
@pass_app
def transfer(app: App, name: str, to: str) -> None:
    """Hand leadership of NAME to the waiting candidate TO (its claimant).

    raftctl elect ls -o json shows the claimants; prints the new epoch.
    """

    async def work(client: aio.Client) -> int:
        return await client.transfer_election(name, to)

    epoch = app.run(work)
    app.out.record(
        {"name": name, "to": to, "epoch": epoch}, value=epoch, text=str(epoch)
    )


def _show(app: App, name: str, event: ElectionEvent) -> None:
    found = event.leader
    record: dict[str, Any] = {"name": name, "revision": event.revision}
    if event.is_resync:
        record["is_resync"] = True
    if found is None:
        record["leader"] = None
        text, value = f"{event.revision}  nobody leads", b""
    else:
        record["leader"] = _leader(found)
        value = found.value
        text = (
            f"{event.revision}  {printable(value)}  epoch {found.epoch}"
            f"  ({printable(found.claimant)})"
        )
    app.out.event(record, value=value, text=text)


def _leader(found: LeaderInfo) -> dict[str, Any]:
    return {
        "value": found.value,
        "epoch": found.epoch,
        "claimant": found.claimant,
        "lease_id": found.lease_id,
        "since": ago(found.since_ms),
    }


def _record(found: ElectionInfo) -> dict[str, Any]:
    return {
        "name": found.name,
        "leader": None if found.leader is None else _leader(found.leader),
        "candidates": [
            {
                "claimant": each.claimant,
                "lease_id": each.lease_id,
                "value": each.value,
                "since": ago(each.since_ms),
            }
            for each in found.candidates
        ],
    }


def _row(found: ElectionInfo) -> dict[str, Any]:
    ruler = found.leader
    return {
        "name": found.name,
        "leader": None if ruler is None else ruler.claimant,
        "value": None if ruler is None else ruler.value,
        "epoch": None if ruler is None else ruler.epoch,
        "for": None if ruler is None else format_ms(ruler.since_ms),
        "candidates": len(found.candidates),
    }


COMMANDS: Final = {"elect": elect}
