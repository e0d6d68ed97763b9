"""``raftctl status``. Source: CLI.md; SEMANTICS.md section 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from raftclient import ClusterStatus, MemberStatus, aio
from raftctl.app import App, pass_app
from raftctl.durations import format_ms
from raftctl.options import Command, OutputFormat
from raftctl.output import printable
from raftctl.sizes import format_bytes

__all__ = ["COMMANDS", "fit", "health_of", "status", "table_row"]

WIDTH_MAX: Final = 100
_GAP: Final = 2

_COLUMNS: Final = {
    "name": "NAME",
    "node_id": "ID",
    "role": "ROLE",
    "client_address": "ADDRESS",
    "lag": "LAG",
    "log": "LOG",
    "state": "STATE",
    "sync": "SYNC",
    "disk": "DISK",
    "uptime": "UPTIME",
    "health": "HEALTH",
}
_LESS_AND_LESS_NEEDED: Final = ("uptime", "disk", "state", "log")
"""Left out, in this order, where names and addresses are long."""

_JSON_HELP: Final = """\b
-o json is one object:
  cluster_id, cluster   of the cluster: its id (hexadecimal digits) and name
  leader                name, or null;   answered_by: id of the member asked
  term, revision        of that member
  members               one object each:
    name, node_id, peer_address, client_address
    kind                voter, learner, outgoing, removed
    role                leader, follower, candidate, pre-candidate, learner
    is_reachable, health, trouble, trouble_reason
    term, commit_index, applied_index, first_index, last_index, revision
    lag                 entries behind;   last_contact_ms: since it heard the leader
    log_bytes, log_entries, state_bytes, keys, sessions
    sync_p50_us, sync_max_us         of its newest log writes
    snapshot_percent, snapshot_to    of a snapshot it sends, or null; id of whom
    disk_free_bytes, disk_total_bytes, is_disk_full
    checkpoint_index, compared_index, compared_age_ms    of the digests
    wall_ms, loop_lag_max_us, uptime_ms, version, level
    config_pending      a change of members is in progress
    limits, cluster_name
What a member of an older release does not tell is null, 0 or empty."""


@click.command(cls=Command, epilog=_JSON_HELP)
@pass_app
def status(app: App) -> None:
    """Show members, their part, lag, sizes, sync times, disk and health.

    LAG: entries behind. LOG, STATE: bytes on disk. SYNC: median and worst of the newest
    log writes. DISK: how full it is. Works while any member can be reached, leader or
    not; -o value prints the leader's name; what is left out of a narrow table is in
    -o json.
    """

    async def work(client: aio.Client) -> ClusterStatus:
        return await client.status()

    found = app.run(work)
    leader = _name_of(found, found.leader)
    if app.out.format is not OutputFormat.HUMAN:
        app.out.record(_document(found, leader), value=leader)
        return
    rows = [table_row(found, each) for each in found.members]
    app.out.rows(rows, columns=fit(rows), value="name")
    for text in _notes(found, leader):
        app.out.note(text)


def health_of(found: ClusterStatus, member: MemberStatus) -> str:
    """Say how a member does, in a few words or the member's own sentence."""
    if not member.is_reachable:
        return "unreachable"
    if member.trouble:
        return member.trouble
    percent = _received_percent(found, member)
    if percent is not None:
        return f"snapshot {percent}%"
    return "ok" if found.leader else "no leader"


def table_row(found: ClusterStatus, member: MemberStatus) -> dict[str, Any]:
    """Return a member's line of the table."""
    row: dict[str, Any] = {
        "name": member.name,
        "node_id": member.node_id,
        "client_address": member.client_address or member.peer_address,
        "health": "trouble" if member.trouble else health_of(found, member),
    }
    if not member.is_reachable:
        return dict.fromkeys(_COLUMNS) | row | {"health": "unreachable"}
    return row | {
        "role": member.role.value,
        "lag": member.lag,
        "log": format_bytes(member.log_bytes),
        "state": format_bytes(member.state_bytes),
        "sync": f"{member.sync_p50_us / 1000:.1f}/{member.sync_max_us / 1000:.0f}ms",
        "disk": _disk(member),
        "uptime": format_ms(member.uptime_ms // 1000 * 1000),
    }


def fit(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns that fit side by side."""
    columns = dict(_COLUMNS)
    for name in _LESS_AND_LESS_NEEDED:
        widths = (
            max(len(head), *(len(printable(row[key])) for row in rows))
            for key, head in columns.items()
        )
        if sum(widths) + _GAP * (len(columns) - 1) <= WIDTH_MAX:
            break
        del columns[name]
    return columns


def _document(found: ClusterStatus, leader: str | None) -> dict[str, Any]:
    return {
        "cluster_id": found.cluster_id,
        "cluster": _cluster_name(found),
        "leader": leader,
        "term": found.raft_term,
        "revision": found.revision,
        "answered_by": found.node_id,
        "members": [_record(found, each) for each in found.members],
    }


def _record(found: ClusterStatus, member: MemberStatus) -> dict[str, Any]:
    names = (name for name in member.__struct_fields__ if name != "leader")
    fields = {name: getattr(member, name) for name in names}
    return fields | {"health": health_of(found, member)}


def _notes(found: ClusterStatus, leader: str | None) -> list[str]:
    commit = max((m.commit_index for m in found.members), default=0)
    facts = f"term {found.raft_term}, commit {commit}, revision {found.revision}"
    name = _cluster_name(found)
    notes = [f"cluster {name or found.cluster_id}: {facts}"]
    if leader is None:
        notes.append("no leader: writes wait until a majority of the members is back")
    notes.extend(
        f"{each.name}: {each.trouble}"
        for each in found.members
        if each.is_reachable and each.trouble
    )
    if any(each.config_pending for each in found.members):
        notes.append("a change of the members is in progress")
    return notes


def _name_of(found: ClusterStatus, node_id: int) -> str | None:
    return next((m.name for m in found.members if m.node_id == node_id), None)


def _cluster_name(found: ClusterStatus) -> str:
    return next((m.cluster_name for m in found.members if m.cluster_name), "")


def _received_percent(found: ClusterStatus, member: MemberStatus) -> int | None:
    """Return how much of a snapshot a member has been sent, None if none is sent."""
    for each in found.members:
        if each.snapshot_percent is not None and each.snapshot_to == member.node_id:
            return each.snapshot_percent
    return None


def _disk(member: MemberStatus) -> str | None:
    free, total = member.disk_free_bytes, member.disk_total_bytes
    return f"{100 - 100 * free // total}%" if total and free is not None else None


COMMANDS: Final = {"status": status}
