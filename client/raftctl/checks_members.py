"""What the doctor finds wrong with single members: links, lag, log, digests.

Source: CLI.md (raftctl doctor); RELIABILITY.md rules 19, 31, 43, 52.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from raftclient import MemberKind, MemberRole, MemberStatus
from raftctl.durations import format_ms
from raftctl.look import Case, Check, Finding, Severity
from raftctl.sizes import format_bytes

__all__ = [
    "CHECKS",
    "COMPARED_MS",
    "CONTACT_MS",
    "LAG_ENTRIES",
    "LOG_BYTES",
    "is_receiving",
]

LAG_ENTRIES: Final = 5000
"""More than is on its way at any moment, even under the greatest load."""
CONTACT_MS: Final = 3000
"""Three election timeouts of the default."""
LOG_BYTES: Final = 512 << 20
"""Twice what the default keeps for a member that lags."""
COMPARED_MS: Final = 10 * 60_000
"""Ten checkpoints of the default, if there are writes."""


def _unreachable(case: Case) -> Iterator[Finding]:
    """Find members that do not answer."""
    for each in case.members:
        if each.is_reachable:
            continue
        if each.node_id in case.direct:
            yield _unlinked(case, each)
        elif each.kind is MemberKind.LEARNER:
            yield _absent(case, each)
        else:
            yield Finding(
                severity=Severity.WARNING,
                kind="unreachable",
                members=(each.name,),
                what=f"{each.name} ({each.peer_address}) does not answer {case.asked}.",
                means=_without(case, each),
                help=f"Start raftd on {each.name}, or look at its log"
                f"{_instead_of(case, each)}",
            )


def _unlinked(case: Case, member: MemberStatus) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        kind="unlinked",
        members=(member.name,),
        what=f"{member.name} answers clients, but {case.asked} cannot reach it at"
        f" {member.peer_address}.",
        means="It runs, and takes no part as seen from there.",
        help=f"Check the way from {case.asked} to {member.peer_address} (firewall,"
        f" name, address), and the logs of both; a new address: raftctl member update"
        f" {case.argument(member)} --peer HOST:PORT",
    )


def _absent(case: Case, member: MemberStatus) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        kind="learner_absent",
        members=(member.name,),
        what=f"{member.name} is a learner, and does not answer {case.asked}.",
        means="It does not vote yet, so no write waits for it; but nothing is gained"
        " either.",
        help="Start raftd there with the line that raftctl member add printed, or give"
        f" it up: raftctl member remove {case.argument(member)}",
    )


def _without(case: Case, member: MemberStatus) -> str:
    """Say what the absence of a member leaves."""
    live = sum(each.is_reachable and not each.is_disk_full for each in case.voters)
    spare = live - (len(case.voters) // 2 + 1)
    if spare < 0:
        return "Without it there is no majority that takes writes."
    if spare == 0:
        return "Writes go on; if one more voter stops, they stop."
    return f"Writes go on; {spare} more may stop."


def _instead_of(case: Case, member: MemberStatus) -> str:
    """Say how to put another in its place; only a majority can do that."""
    if sum(each.is_reachable for each in case.voters) <= len(case.voters) // 2:
        return "."
    return (
        f"; if its disk is lost: raftctl member replace {case.argument(member)}"
        f" {case.plain_name(member)} {member.peer_address or 'HOST:7401'}"
    )


def _no_nearer(case: Case, members: Iterable[MemberStatus]) -> Iterator[MemberStatus]:
    """Find members that answer, were far behind at both looks, and came no nearer."""
    for each in members:
        before = case.earlier(each)
        if not each.is_reachable or before is None or is_receiving(case, each):
            continue
        if min(each.lag, before.lag) > LAG_ENTRIES and each.lag >= before.lag:
            yield each


def _learner_stuck(case: Case) -> Iterator[Finding]:
    """Find learners that do not come nearer."""
    for each in _no_nearer(case, case.learners):
        yield Finding(
            severity=Severity.WARNING,
            kind="learner_stuck",
            members=(each.name,),
            what=f"{each.name} is a learner, {each.lag} entries behind, and came no"
            f" nearer in {case.apart_s:.0f} s.",
            means="It becomes a voter only once it has caught up.",
            help=f"Look at the disk and the network of {each.name}, and slow the writes"
            f" down; or give it up: raftctl member remove {case.argument(each)}",
        )


def _lagging(case: Case) -> Iterator[Finding]:
    """Find voters that stay behind."""
    for each in _no_nearer(case, case.voters):
        yield Finding(
            severity=Severity.WARNING,
            kind="lagging",
            members=(each.name,),
            what=f"{each.name} is {each.lag} entries behind, and came no nearer in"
            f" {case.apart_s:.0f} s.",
            means="Reads there are late, and it is of little help if another stops.",
            help=f"Look at the disk, the network and the load of {each.name}: raftctl"
            " status shows its sync times.",
        )


def _no_contact(case: Case) -> Iterator[Finding]:
    """Find members that have not heard of the leader for long."""
    if case.leader is None:
        return
    for each in case.reachable:
        silence_ms = each.last_contact_ms
        if silence_ms is None or silence_ms <= CONTACT_MS:
            continue
        if each.role is not MemberRole.LEADER:
            yield Finding(
                severity=Severity.WARNING,
                kind="no_contact",
                members=(each.name,),
                what=f"{each.name} has not heard of the leader for"
                f" {format_ms(silence_ms)}.",
                means="It is up, but takes no part, as if it were down.",
                help=f"Check the way between {each.name} ({each.peer_address}) and"
                f" {case.leader.name} ({case.leader.peer_address}).",
            )


def _snapshot_stuck(case: Case) -> Iterator[Finding]:
    """Find a snapshot that does not get on."""
    for each in case.reachable:
        if each.snapshot_percent is None or not each.snapshot_to:
            continue
        before = case.earlier(each)
        if before is None or before.snapshot_to != each.snapshot_to:
            continue
        if before.snapshot_percent != each.snapshot_percent:
            continue
        to = case.name_of(each.snapshot_to)
        yield Finding(
            severity=Severity.WARNING,
            kind="snapshot_stuck",
            members=(each.name, to),
            what=f"The snapshot from {each.name} to {to} stayed at"
            f" {each.snapshot_percent}% for {case.apart_s:.0f} s.",
            means=f"Without it {to} cannot take part.",
            help=f"Look at the disk room and the log of {to}, and at the network"
            f" between {each.name} and {to}.",
        )


def _checkpoint_stuck(case: Case) -> Iterator[Finding]:
    """Find members whose checkpoints, or merges of them, do not get on."""
    newest = max((each.checkpoint_index for each in case.told), default=0)
    for each in case.reachable:
        before = case.earlier(each)
        is_behind = each.checkpoint_index < newest <= each.applied_index
        if before is None or not is_behind or before.applied_index < newest:
            continue
        if before.checkpoint_index == each.checkpoint_index:
            yield Finding(
                severity=Severity.WARNING,
                kind="checkpoint_stuck",
                members=(each.name,),
                what=f"{each.name} has not stored the checkpoint at entry {newest} in"
                f" {case.apart_s:.0f} s; its newest is at {each.checkpoint_index}.",
                means="Its log grows, and its restart takes longer and longer.",
                help=f"Look at the log of {each.name} for failed checkpoints and"
                " merges, and at its disk room.",
            )


def _log_long(case: Case) -> Iterator[Finding]:
    """Find logs that are kept long for somebody."""
    silent = [each for each in case.members if not each.is_reachable]
    down = ", ".join(each.name for each in silent)
    long = [each for each in case.reachable if each.log_bytes > LOG_BYTES]
    if not long:
        return
    size = format_bytes(max(each.log_bytes for each in long))
    who = ", ".join(each.name for each in long)
    if down:
        means = f"It may be kept for {down}, to catch up from."
        who_first = case.argument(silent[0])
        help_ = f"Start {down}, or remove it: raftctl member remove {who_first}"
    else:
        means = "Either a member lags, or checkpoints do not get on."
        help_ = "Look at LAG in raftctl status, and at the members' logs."
    yield Finding(
        severity=Severity.WARNING if down else Severity.NOTE,
        kind="log_long",
        members=tuple(each.name for each in long),
        what=f"The log is long on {who}: up to {size}.",
        means=means,
        help=help_,
    )


def _not_compared(case: Case) -> Iterator[Finding]:
    """Find members whose state has not been compared with the others' for long."""
    if len(case.voters) < 2:
        return
    for each in case.reachable:
        age_ms = each.compared_age_ms
        since_ms = each.uptime_ms if age_ms is None else age_ms
        has_new_mark = each.checkpoint_index > each.compared_index
        if since_ms <= COMPARED_MS or not has_new_mark or each.level < 2:
            continue
        yield Finding(
            severity=Severity.WARNING,
            kind="not_compared",
            members=(each.name,),
            what=f"The state of {each.name} was last compared {format_ms(since_ms)}"
            f" ago, at entry {each.compared_index}."
            if age_ms is not None
            else f"The state of {each.name} was not compared since its start"
            f" {format_ms(since_ms)} ago.",
            means="A difference between the members' states would go unseen.",
            help="Comparing needs a majority that stores the same checkpoint; look who"
            " is down, or stores none.",
        )


def is_receiving(case: Case, member: MemberStatus) -> bool:
    """Tell whether a snapshot is on its way to a member."""
    return any(each.snapshot_to == member.node_id for each in case.reachable)


CHECKS: Final[tuple[Check, ...]] = (
    _unreachable,
    _no_contact,
    _snapshot_stuck,
    _learner_stuck,
    _lagging,
    _checkpoint_stuck,
    _not_compared,
    _log_long,
)
