"""``raftctl status``. Source: CLI.md; SEMANTICS.md section 7."""

from __future__ import annotations

from typing import Any, Final

import click

from raftclient import ClusterStatus, MemberStatus, aio
from raftctl.app import App, pass_app
from raftctl.durations import format_ms
from raftctl.options import Command, OutputFormat

__all__ = ["COMMANDS", "status"]

_COLUMNS: Final = {
    "name": "NAME",
    "node_id": "ID",
    "role": "ROLE",
    "client_address": "ADDRESS",
    "term": "TERM",
    "commit_index": "COMMIT",
    "applied_index": "APPLIED",
    "lag": "LAG",
    "sync": "SYNC",
    "uptime": "UPTIME",
    "health": "HEALTH",
}


@click.command(cls=Command)
@pass_app
def status(app: App) -> None:
    """Show members, leader, term, commit and applied index, lag and health.

    Works while any member can be reached, leader or not; -o value prints the leader's
    name.
    """

    async def work(client: aio.Client) -> ClusterStatus:
        return await client.status()

    found = app.run(work)
    leader = next((m.name for m in found.members if m.node_id == found.leader), None)
    if app.out.format is not OutputFormat.HUMAN:
        members = [_record(found, each) for each in found.members]
        app.out.record(
            {
                "cluster_id": found.cluster_id,
                "leader": leader,
                "term": found.raft_term,
                "revision": found.revision,
                "answered_by": found.node_id,
                "members": members,
            },
            value=leader,
        )
        return
    rows = [_row(found, each) for each in found.members]
    app.out.rows(rows, columns=_COLUMNS, value="name")
    if leader is None:
        app.out.note("no leader: writes wait until a majority of the members is back")


def _health(found: ClusterStatus, member: MemberStatus) -> str:
    if not member.is_reachable:
        return "unreachable"
    if member.trouble:
        return member.trouble
    return "ok" if found.leader else "no leader"


def _record(found: ClusterStatus, member: MemberStatus) -> dict[str, Any]:
    names = (name for name in member.__struct_fields__ if name != "leader")
    fields = {name: getattr(member, name) for name in names}
    return fields | {"health": _health(found, member)}


def _row(found: ClusterStatus, member: MemberStatus) -> dict[str, Any]:
    record = _record(found, member)
    if not member.is_reachable:
        unknown = ("role", "term", "commit_index", "applied_index", "lag")
        return record | dict.fromkeys((*unknown, "sync", "uptime"))
    return record | {
        "sync": f"{member.sync_p50_us / 1000:.1f}ms",
        "uptime": format_ms(member.uptime_ms // 1000 * 1000),
    }


COMMANDS: Final = {"status": status}
