"""``raftctl member`` and ``raftctl leader``. Source: CLI.md; SEMANTICS.md section 7."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from raftclient import HandOver, Member, MemberKind, MemberStatus, NewMember, aio
from raftctl.app import App, pass_app
from raftctl.durations import DURATION, format_ms
from raftctl.exit_codes import ExitCode, Failure
from raftctl.options import Group
from raftctl.progress import Bar, progress

__all__ = [
    "COMMANDS",
    "add",
    "leader",
    "list_members",
    "member",
    "remove",
    "replace",
    "serve_line",
    "transfer",
    "update",
]

_COLUMNS: Final = {
    "name": "NAME",
    "node_id": "ID",
    "kind": "KIND",
    "peer_address": "PEER ADDRESS",
    "client_address": "CLIENT ADDRESS",
    "state": "STATE",
}
_LOOK_S: Final = 0.5
_CLIENT_PORT: Final = "7400"

_client_option = click.option(
    "--client",
    "client_address",
    metavar="HOST:PORT",
    default="",
    help="Where clients reach it; else it says so itself when it comes.",
)
_id_option = click.option(
    "--id",
    "node_id",
    type=click.IntRange(1, 65_536),
    metavar="N",
    help="Its id, never used before; else the next free one.",
)
_force_option = click.option(
    "--force",
    is_flag=True,
    help="Even if a majority of the voters would not be live then.",
)
_wait_option = click.option(
    "--wait",
    "wait_s",
    type=DURATION,
    metavar="DURATION",
    help="Start its machine meanwhile; ends when it is a voter, else code 1.",
)


@click.group(
    cls=Group,
    epilog="-o json: ls is an array, the others one object: name, node_id, kind"
    " (voter, learner, outgoing, removed), peer_address, client_address, is_joining,"
    " replaces (id, or 0); add and replace also command, the words of the raftd line"
    " for its machine. -o value: names (ls), the id (others).",
)
def member() -> None:
    """Members of the cluster: who they are, and changing that, one at a time."""


@member.command("ls")
@pass_app
def list_members(app: App) -> None:
    """List the members, as the member that answers knows them."""

    async def work(client: aio.Client) -> list[Member]:
        return await client.cluster.members()

    found = app.run(work)
    names = {each.node_id: each.name for each in found}
    make = _row_with(names) if app.out.is_human else msgspec.structs.asdict
    app.out.rows(map(make, found), columns=_COLUMNS, value="name")


@member.command()
@click.argument("name")
@click.argument("peer_address", metavar="PEER_ADDR")
@_client_option
@_id_option
@_force_option
@_wait_option
@pass_app
def add(
    app: App,
    name: str,
    peer_address: str,
    client_address: str,
    node_id: int | None,
    force: bool,
    wait_s: float | None,
) -> None:
    """Add NAME, found by the others at PEER_ADDR (host:port); prints how to start it.

    It is a learner first, and becomes a voter by itself once it has caught up.
    """

    async def work(client: aio.Client) -> NewMember:
        return await client.cluster.add(
            name,
            peer_address,
            client_address=client_address,
            node_id=node_id or 0,
            force=force,
        )

    found = app.run(work)
    _say_forced(is_forced=force)
    _take_in(app, found, wait_s, "becomes a voter by itself")


@member.command()
@click.argument("old")
@click.argument("name", metavar="NEW")
@click.argument("peer_address", metavar="PEER_ADDR")
@_client_option
@_id_option
@_force_option
@_wait_option
@pass_app
def replace(
    app: App,
    old: str,
    name: str,
    peer_address: str,
    client_address: str,
    node_id: int | None,
    force: bool,
    wait_s: float | None,
) -> None:
    """Put NEW, found at PEER_ADDR, in the place of OLD (name or id); prints how to
    start it.

    NEW may have the name and addresses of OLD, for a machine whose disk was lost. It is
    a learner first; once it has caught up, it comes and OLD goes in one step.
    """  # noqa: D205 - the first line of a help is as long as its arguments need

    async def work(client: aio.Client) -> NewMember:
        return await client.cluster.replace(
            old,
            name,
            peer_address,
            client_address=client_address,
            node_id=node_id or 0,
            force=force,
        )

    found = app.run(work)
    _say_forced(is_forced=force)
    _take_in(app, found, wait_s, f"takes the place of {old}")


@member.command()
@click.argument("name", metavar="MEMBER")
@_force_option
@pass_app
def remove(app: App, name: str, force: bool) -> None:
    """Remove MEMBER (name or id) for good; the leader may be removed, too.

    Its id is never used again: a machine that comes back does so as a new member.
    """

    async def work(client: aio.Client) -> Member:
        return await client.cluster.remove(name, force=force)

    found = app.run(work)
    _say_forced(is_forced=force)
    text = f"{_named(found)} is removed; stop its raftd, then delete its data directory"
    app.out.record(msgspec.structs.asdict(found), value=found.node_id, text=text)


@member.command()
@click.argument("name", metavar="MEMBER")
@click.option("--name", "new_name", default="", metavar="NAME", help="Its new name.")
@click.option(
    "--peer",
    "peer_address",
    default="",
    metavar="HOST:PORT",
    help="Where the other members find it.",
)
@click.option(
    "--client",
    "client_address",
    default="",
    metavar="HOST:PORT",
    help="Where clients find it.",
)
@pass_app
def update(
    app: App, name: str, new_name: str, peer_address: str, client_address: str
) -> None:
    """Change the name or the addresses of MEMBER (name or id); the rest stays."""
    if not (new_name or peer_address or client_address):
        raise click.UsageError("say what to change: --name, --peer or --client")

    async def work(client: aio.Client) -> Member:
        return await client.cluster.update(
            name,
            name=new_name,
            peer_address=peer_address,
            client_address=client_address,
        )

    found = app.run(work)
    text = f"{_named(found)} is at {found.peer_address}, for clients at"
    app.out.record(
        msgspec.structs.asdict(found),
        value=found.node_id,
        text=f"{text} {found.client_address or 'an address it will say itself'}",
    )


@click.group(cls=Group)
def leader() -> None:
    """Leadership of the cluster; that of names is raftctl elect."""


@leader.command(
    epilog="-o json: leader (name), node_id, paused_ms. -o value: the leader's name."
)
@click.argument("name", required=False)
@pass_app
def transfer(app: App, name: str | None) -> None:
    """Hand leadership to NAME (name or id), else to the follower that is furthest.

    Prints who leads, and how long writes paused at most.
    """

    async def work(client: aio.Client) -> tuple[HandOver, list[Member]]:
        moved = await client.cluster.transfer(name)
        return moved, await client.cluster.members()

    moved, members = app.run(work)
    names = {each.node_id: each.name for each in members}
    who = names.get(moved.leader, str(moved.leader))
    app.out.record(
        {"leader": who, "node_id": moved.leader, "paused_ms": moved.paused_ms},
        value=who,
        text=f"{who} leads; writes paused for {format_ms(moved.paused_ms)} at most",
    )


def serve_line(found: NewMember) -> list[str]:
    """Return the words that start a new member's raftd on its machine."""
    host = found.peer_address.rpartition(":")[0]
    client = found.client_address or f"{host}:{_CLIENT_PORT}"
    return [
        *("raftd", "serve", *found.serve_flags),
        *("--peer-listen", found.peer_address, "--client-listen", client),
        *("--data-dir", f"raftd-{found.node_id}"),
    ]


def _say_forced(*, is_forced: bool) -> None:
    """Say aloud what a forced change went without, to scripts also."""
    if is_forced:
        click.echo(
            "warning: it was not checked that a majority of the voters is live;"
            " without one nothing can be written: look at raftctl status",
            err=True,
        )


def _take_in(app: App, found: NewMember, wait_s: float | None, then: str) -> None:
    """Say how to start a new member, and wait for it if that is wanted."""
    command = serve_line(found)
    record = msgspec.structs.asdict(found) | {"command": command}
    del record["serve_flags"]
    text = (
        f"{_named(found)} is a learner and {then} once it has caught up; on its machine"
        f" run\n{shlex.join(command)}"
    )
    app.out.record(record, value=found.node_id, text=text)
    if wait_s is not None:
        _wait_for_voter(app, found, wait_s)


def _wait_for_voter(app: App, found: NewMember, wait_s: float) -> None:
    async def work(client: aio.Client) -> None:
        with progress(app, f"{found.name} catches up") as bar:
            try:
                async with asyncio.timeout(wait_s):
                    while True:
                        if await _is_voter(client, found.node_id, bar):
                            return
                        await asyncio.sleep(_LOOK_S)
            except TimeoutError:
                raise Failure(
                    f"{_named(found)} is added, but no voter after"
                    f" {format_ms(round(wait_s * 1000))}; look at raftctl doctor",
                    ExitCode.ERROR,
                ) from None

    app.run(work)
    app.out.note(f"{_named(found)} is a voter")


async def _is_voter(client: aio.Client, node_id: int, bar: Bar) -> bool:
    """Look how far a new member is."""
    members = (await client.status()).members
    bar(_percent(members, node_id), 100)
    return any(
        each.node_id == node_id and each.kind is MemberKind.VOTER for each in members
    )


def _percent(members: tuple[MemberStatus, ...], node_id: int) -> int:
    for each in members:
        if each.snapshot_to == node_id and each.snapshot_percent is not None:
            return each.snapshot_percent
    last = max((each.last_index for each in members), default=0)
    applied = next((m.applied_index for m in members if m.node_id == node_id), 0)
    return 100 * applied // last if last else 0


def _named(found: Member) -> str:
    return f"{found.name} (id {found.node_id})"


def _row_with(names: dict[int, str]) -> Callable[[Member], dict[str, Any]]:
    def row(found: Member) -> dict[str, Any]:
        state = "joining" if found.is_joining else ""
        if found.replaces:
            old = names.get(found.replaces, str(found.replaces))
            state = f"{state}, replaces {old}".removeprefix(", ")
        return msgspec.structs.asdict(found) | {
            "kind": found.kind.value,
            "client_address": found.client_address or None,
            "state": state or None,
        }

    return row


COMMANDS: Final = {"member": member, "leader": leader}
