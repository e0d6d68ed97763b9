"""``raftctl lease``. Source: CLI.md; SEMANTICS.md section 1."""

from __future__ import annotations

from typing import Any, Final

import click

from raftclient import LeaseInfo, aio
from raftctl.app import App, claimant, pass_app
from raftctl.durations import Duration, format_ms
from raftctl.options import Group, count_option
from raftctl.output import ahead, plain

__all__ = [
    "COMMANDS",
    "TTL",
    "grant",
    "info",
    "keepalive",
    "lease",
    "list_leases",
    "revoke",
]

TTL: Final = Duration(1.0, 86_400.0)
"""What the cluster grants."""

_COLUMNS: Final = {
    "lease_id": "LEASE",
    "kind": "KIND",
    "ttl": "TTL",
    "remaining": "REMAINING",
    "attachments": "ATTACHED",
    "claimant": "CLAIMANT",
}


@click.group(cls=Group)
def lease() -> None:
    """Leases: time-bound claims that keys, locks and jobs hang on."""


@lease.command()
@click.option("--ttl", type=TTL, required=True, metavar="DURATION", help="1s to 1d.")
@pass_app
def grant(app: App, ttl: float) -> None:
    """Have a lease granted; prints its id.

    Nobody keeps it alive but you: lease keepalive ID.
    """

    async def work(client: aio.Client) -> int:
        return await client.grant_lease(ttl, claimant=claimant())

    lease_id = app.run(work)
    record = {"lease_id": lease_id, "ttl_ms": round(ttl * 1000)}
    app.out.record(record, value=lease_id, text=str(lease_id))


@lease.command()
@click.argument("lease_id", metavar="ID", type=int)
@pass_app
def keepalive(app: App, lease_id: int) -> None:
    """Renew lease ID once; prints until when it lasts."""

    async def work(client: aio.Client) -> float:
        return await client.keep_alive_lease(lease_id)

    ttl_ms = round(app.run(work) * 1000)
    until = ahead(ttl_ms)
    app.out.record(
        {"lease_id": lease_id, "ttl_ms": ttl_ms, "expires": until},
        value=plain(until),
        text=f"lease {lease_id} lasts until {plain(until)} ({format_ms(ttl_ms)})",
    )


@lease.command()
@click.argument("lease_id", metavar="ID", type=int)
@pass_app
def revoke(app: App, lease_id: int) -> None:
    """End lease ID; prints how many keys, locks and jobs went with it."""

    async def work(client: aio.Client) -> int:
        return await client.revoke_lease(lease_id)

    gone = app.run(work)
    app.out.record(
        {"lease_id": lease_id, "attachments": gone}, value=gone, text=str(gone)
    )


@lease.command()
@click.argument("lease_id", metavar="ID", type=int)
@pass_app
def info(app: App, lease_id: int) -> None:
    """Show lease ID and what hangs on it."""

    async def work(client: aio.Client) -> LeaseInfo:
        return await client.lease_info(lease_id)

    found = app.run(work)
    app.out.record(_record(found), value=found.remaining_ms)


@lease.command("ls")
@count_option
@pass_app
def list_leases(app: App, limit: int | None) -> None:
    """List leases and sessions."""

    async def work(client: aio.Client) -> list[LeaseInfo]:
        return [each async for each in client.leases(limit=limit)]

    found = app.run(work)
    if app.out.is_human:
        rows = (
            _record(each)
            | {
                "kind": "session" if each.is_session else "lease",
                "ttl": format_ms(each.ttl_ms),
                "remaining": format_ms(each.remaining_ms),
            }
            for each in found
        )
        app.out.rows(rows, columns=_COLUMNS, value="lease_id", empty="no leases")
    else:
        app.out.rows(map(_record, found), columns={}, value="lease_id")


def _record(found: LeaseInfo) -> dict[str, Any]:
    return {
        "lease_id": found.lease_id,
        "is_session": found.is_session,
        "claimant": found.claimant,
        "ttl_ms": found.ttl_ms,
        "remaining_ms": found.remaining_ms,
        "expires": ahead(found.remaining_ms),
        "attachments": found.attachments,
        "keys": found.keys,
        "locks": found.locks,
        "elections": found.elections,
        "jobs": found.jobs,
    }


COMMANDS: Final = {"lease": lease}
