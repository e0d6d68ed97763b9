"""``raftctl lock``. Source: CLI.md; SEMANTICS.md section 4."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import click

from raftclient import LockClaim, LockInfo, LockMode, NotFound, RaftError, aio
from raftctl.app import App, claimant, pass_app
from raftctl.durations import DURATION, format_ms
from raftctl.guarded import OnLost, check_command
from raftctl.holding import LostSignal, exec_options, run_under
from raftctl.leases import TTL
from raftctl.options import Group, count_option
from raftctl.output import ago, printable

__all__ = [
    "COMMANDS",
    "acquire",
    "break_lock",
    "exec_command",
    "info",
    "list_locks",
    "lock",
    "release",
]

_RENEWALS_PER_TTL: Final = 5
_COLUMNS: Final = {
    "name": "NAME",
    "mode": "MODE",
    "held_by": "HELD BY",
    "for": "FOR",
    "waiting": "WAITING",
    "last_change": "LAST CHANGE",
}

_wait = click.option(
    "--wait",
    type=DURATION,
    metavar="DURATION",
    help="How long to wait for it; 0: do not.  [default: for ever]",
)
_shared = click.option(
    "--shared", is_flag=True, help="Together with other shared ones."
)
_limit = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="A semaphore: N at once."
)
_delay = click.option(
    "--delay",
    type=DURATION,
    default=0.0,
    metavar="DURATION",
    help="Stay closed so long after an involuntary loss.",
)


@click.group(cls=Group)
def lock() -> None:
    """Locks with fencing tokens; first come, first served."""


@lock.command("exec")
@click.argument("name")
@click.option("--ttl", type=TTL, default="10s", show_default=True, metavar="DURATION")
@_wait
@_shared
@_limit
@_delay
@exec_options
@pass_app
def exec_command(
    app: App,
    name: str,
    ttl: float,
    wait: float | None,
    shared: bool,
    limit: int | None,
    delay: float,
    on_lost: OnLost,
    command: Sequence[str],
) -> int:
    """Run CMD while holding lock NAME; its exit code is passed on.

    CMD finds RAFTCTL_LOCK_NAME, RAFTCTL_LOCK_TOKEN and RAFTCTL_LEASE_ID in its
    environment, has a process group of its own, and is stopped before the lease can
    end, even if raftctl itself is stopped or killed. What it leaves running in its
    group is killed when it ends. Exit code 4: not acquired in time; 5: lost.
    """
    mode = _mode(shared, limit)
    check_command(command)
    on_lost.grace_for(ttl)

    async def work(client: aio.Client) -> int:
        lost = LostSignal()
        wish = client.lock(
            name, mode=mode, limit=limit, wait_s=wait, delay_s=delay, on_lost=lost
        )
        grant = await wish.acquire()
        looking = asyncio.create_task(_look_for_break(client, grant, ttl, lost))
        try:
            return await run_under(
                app,
                client,
                command,
                what=f'lock "{name}"',
                ttl_s=ttl,
                remaining_s=lambda: grant.remaining_s,
                lost=lost,
                variables={
                    "RAFTCTL_LOCK_NAME": name,
                    "RAFTCTL_LOCK_TOKEN": str(grant.token),
                },
                on_lost=on_lost,
            )
        finally:
            looking.cancel()
            with suppress(RaftError):  # then it goes with the session
                await grant.release()

    return app.run(work, ttl_s=ttl)


@lock.command()
@click.argument("name")
@click.option("--ttl", type=TTL, required=True, metavar="DURATION", help="1s to 1d.")
@_wait
@_shared
@_limit
@_delay
@pass_app
def acquire(
    app: App,
    name: str,
    ttl: float,
    wait: float | None,
    shared: bool,
    limit: int | None,
    delay: float,
) -> None:
    """Take lock NAME for --ttl, and return; prints token and lease.

    Give it back with lock release NAME --token N; prolong it with lease keepalive ID.
    """
    mode = _mode(shared, limit)

    async def work(client: aio.Client) -> tuple[int, int]:
        lease_id = await client.grant_lease(ttl, claimant=claimant())
        renewing = asyncio.create_task(_renew(client, lease_id, ttl))
        try:
            wish = client.lock(
                name, mode=mode, limit=limit, wait_s=wait, delay_s=delay, lease=lease_id
            )
            grant = await wish.acquire()
            await client.keep_alive_lease(lease_id)  # the ttl counts from now
        except BaseException:
            with suppress(RaftError):
                await client.revoke_lease(lease_id)
            raise
        finally:
            renewing.cancel()
        return grant.token, lease_id

    token, lease_id = app.run(work)
    app.out.record(
        {"name": name, "token": token, "lease_id": lease_id, "ttl_ms": int(ttl * 1000)},
        value=token,
        text=f"token {token}\nlease {lease_id}",
    )


@lock.command()
@click.argument("name")
@click.option("--token", type=int, required=True, metavar="N", help="Of its grant.")
@pass_app
def release(app: App, name: str, token: int) -> None:
    """Give lock NAME back; a token that is not current is exit code 5."""

    async def work(client: aio.Client) -> None:
        lease_id = await _lease_of(client, name, token)
        await client.release_lock(name, token)
        if lease_id is not None:
            with suppress(RaftError):  # it ends by itself
                await client.revoke_lease(lease_id)

    app.run(work)
    record = {"name": name, "token": token, "released": True}
    app.out.record(record, value=token, text=f"released {printable(name)}")


@lock.command()
@click.argument("name")
@pass_app
def info(app: App, name: str) -> None:
    """Show who holds lock NAME, who waits, since when."""

    async def work(client: aio.Client) -> LockInfo:
        return await client.lock_info(name)

    found = app.run(work)
    tokens = [each.token for each in found.holders]
    app.out.record(_record(found), value=tokens, text=_text(found))


@lock.command("ls")
@click.argument("prefix", default="")
@count_option
@pass_app
def list_locks(app: App, prefix: str, limit: int | None) -> None:
    """List locks that are held or wanted, by name."""

    async def work(client: aio.Client) -> list[LockInfo]:
        return [each async for each in client.locks(prefix, limit=limit)]

    found = app.run(work)
    make = _row if app.out.is_human else _record
    app.out.rows(map(make, found), columns=_COLUMNS, value="name", empty="no locks")


@lock.command("break")
@click.argument("name")
@pass_app
def break_lock(app: App, name: str) -> None:
    """Take lock NAME from its holders (operator); prints how many lost it."""

    async def work(client: aio.Client) -> int:
        return await client.break_lock(name)

    holders = app.run(work)
    app.out.record({"name": name, "holders": holders}, value=holders, text=str(holders))


def _mode(shared: bool, limit: int | None) -> LockMode:
    if shared and limit is not None:
        raise click.UsageError("give --shared or --limit, not both")
    return LockMode.SHARED if shared else LockMode.EXCLUSIVE


async def _renew(client: aio.Client, lease_id: int, ttl_s: float) -> None:
    """Keep the lease of a wait alive; one that fails shows in the wait itself."""
    while True:
        await asyncio.sleep(ttl_s / _RENEWALS_PER_TTL)
        with suppress(RaftError):
            await client.keep_alive_lease(lease_id)


async def _look_for_break(
    client: aio.Client, grant: aio.Grant, ttl_s: float, lost: LostSignal
) -> None:
    """Look now and then whether an operator broke the lock."""
    while True:
        await asyncio.sleep(ttl_s / _RENEWALS_PER_TTL)
        try:
            found = await client.lock_info(grant.name)
            is_held = any(each.token == grant.token for each in found.holders)
        except NotFound:
            is_held = False
        except RaftError:  # the session's deadline judges an absent cluster
            continue
        if not is_held:
            lost()
            return


async def _lease_of(client: aio.Client, name: str, token: int) -> int | None:
    """Return the lease that ``lock acquire`` made for a grant, if it was that."""
    with suppress(RaftError):
        found = await client.lock_info(name)
        for each in found.holders:
            if each.token == token:
                lease = await client.lease_info(each.lease_id)
                mine = lease.claimant.startswith("raftctl/") and not lease.is_session
                return each.lease_id if mine and lease.attachments == 1 else None
    return None


def _claim(found: LockClaim) -> dict[str, Any]:
    record: dict[str, Any] = {
        "claimant": found.claimant,
        "lease_id": found.lease_id,
        "mode": found.mode,
        "since": ago(found.since_ms),
    }
    return record | {"token": found.token} if found.token else record


def _record(found: LockInfo) -> dict[str, Any]:
    return {
        "name": found.name,
        "mode": found.mode,
        "limit": found.limit,
        "holders": [_claim(each) for each in found.holders],
        "waiters": [_claim(each) for each in found.waiters],
        "last_change": found.last_change,
        "closed_ms": found.closed_ms,
    }


def _row(found: LockInfo) -> dict[str, Any]:
    first = found.holders[0] if found.holders else None
    more = f" and {len(found.holders) - 1} more" if len(found.holders) > 1 else ""
    return {
        "name": found.name,
        "mode": found.mode,
        "held_by": None if first is None else first.claimant + more,
        "for": None if first is None else format_ms(first.since_ms),
        "waiting": len(found.waiters),
        "last_change": found.last_change or None,
    }


def _text(found: LockInfo) -> str:
    limit = f" of {found.limit}" if found.mode is LockMode.SEMAPHORE else ""
    lines = [f"{printable(found.name)}: {found.mode}{limit}"]
    if found.closed_ms:
        lines.append(f"closed for another {format_ms(found.closed_ms)}")
    if found.last_change:
        lines.append(f"last change: {found.last_change}")
    for title, claims in (("held by", found.holders), ("waiting", found.waiters)):
        for each in claims:
            token = f" token {each.token}" if each.token else ""
            lines.append(
                f"{title} {printable(each.claimant)}{token} lease {each.lease_id}"
                f" for {format_ms(each.since_ms)}"
            )
    return "\n".join(lines)


COMMANDS: Final = {"lock": lock}
