"""What the doctor finds wrong with the members' machines: disks, loops, alarms.

Source: CLI.md (raftctl doctor); RELIABILITY.md rules 14, 49, 51.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Final

from raftclient import MemberStatus
from raftctl.durations import format_ms
from raftctl.look import Case, Check, Finding, Severity
from raftctl.sizes import format_bytes

__all__ = [
    "CHECKS",
    "DISK_FREE_BYTES",
    "DISK_FREE_PERCENT",
    "LOOP_LAG_US",
    "SYNC_MAX_US",
    "SYNC_P50_US",
]

DISK_FREE_PERCENT: Final = 10
DISK_FREE_BYTES: Final = 1 << 30
SYNC_P50_US: Final = 20_000
"""Every write waits so long; a disk of any kind can do better."""
SYNC_MAX_US: Final = 500_000
"""Half an election timeout of the default: a leader hands over then."""
SYNC_RATIO: Final = 5
SYNC_RATIO_US: Final = 3000
"""Below it nobody minds how much quicker the others are."""
CATCH_UP_MS: Final = 60_000
"""Until then a member's newest writes may be large ones, of its catching up."""
LOOP_LAG_US: Final = 250_000
"""A quarter of an election timeout of the default."""

_TOLD_ELSEWHERE: Final = frozenset({"DIVERGED", "DISK_FULL", "NO_LEADER"})


def _disk_room(case: Case) -> Iterator[Finding]:
    """Find disks that are full, or soon will be."""
    for each in case.told:
        if each.is_disk_full or each.trouble_reason == "DISK_FULL":
            yield Finding(
                severity=Severity.CRITICAL,
                kind="disk_full",
                members=(each.name,),
                what=f"The disk of {each.name} is full.",
                means="It takes no more entries; reads go on, and by itself it begins"
                " again when there is room.",
                help=f"Make room on the disk of {each.name}, or enlarge it; raftd need"
                " not be restarted.",
            )
        elif _is_nearly_full(each):
            free, total = each.disk_free_bytes or 0, each.disk_total_bytes or 0
            yield Finding(
                severity=Severity.WARNING,
                kind="disk_nearly_full",
                members=(each.name,),
                what=f"The disk of {each.name} has {format_bytes(free)} left of"
                f" {format_bytes(total)}.",
                means="When it is full, this member takes no more entries; a checkpoint"
                " needs room, too.",
                help=f"Make room on the disk of {each.name}, or enlarge it.",
            )


def _is_nearly_full(member: MemberStatus) -> bool:
    free, total = member.disk_free_bytes, member.disk_total_bytes
    if free is None or not total:
        return False
    return free * 100 < total * DISK_FREE_PERCENT or free < DISK_FREE_BYTES


def _slow_disk(case: Case) -> Iterator[Finding]:
    """Find disks that are slow, by themselves or beside the others."""
    for each in case.told:
        seen = _slowness(case, each)
        if seen:
            yield Finding(
                severity=Severity.WARNING,
                kind="slow_disk",
                members=(each.name,),
                what=f"The disk of {each.name} is slow: {seen}.",
                means="A write is answered when a majority has it on disk; a slow"
                " leader slows everybody, and hands over in the end.",
                help=f"Look what else uses the disk of {each.name}; put its data"
                " directory on a disk of its own, or hand over: raftctl leader"
                " transfer",
            )


def _slowness(case: Case, member: MemberStatus) -> str:
    """Say how a member's disk is slow; empty = it is not."""
    p50_us, max_us = member.sync_p50_us, member.sync_max_us
    p50 = f"half of its log writes take more than {_in_ms(p50_us)}"
    if p50_us > SYNC_P50_US:
        return p50
    others = [each.sync_p50_us for each in case.others(member) if each.sync_p50_us]
    if others and p50_us > SYNC_RATIO_US and member.uptime_ms > CATCH_UP_MS:
        usual_us = statistics.median_low(others)
        if p50_us > SYNC_RATIO * usual_us:
            return f"{p50}, the others' {_in_ms(usual_us)}"
    if max_us > SYNC_MAX_US:
        return f"one of its newest log writes took {_in_ms(max_us)}"
    return ""


def _loop_lag(case: Case) -> Iterator[Finding]:
    """Find processes that do not get their turn."""
    for each in case.told:
        lag_us = each.loop_lag_max_us
        if lag_us is not None and lag_us > LOOP_LAG_US:
            yield Finding(
                severity=Severity.WARNING,
                kind="loop_lag",
                members=(each.name,),
                what=f"The work of {each.name} was held up for {_in_ms(lag_us)}"
                " lately.",
                means="Heartbeats wait as long; beyond an election timeout the others"
                " elect another leader.",
                help=f"Look what else uses the processor and memory of {each.name}.",
            )


def _other_trouble(case: Case) -> Iterator[Finding]:
    """Find what members say of themselves and no other check knows."""
    for each in case.told:
        is_known = (
            each.trouble_reason in _TOLD_ELSEWHERE
            or each.is_disk_full
            or case.leader is None
        )
        if each.trouble and not is_known:
            yield Finding(
                severity=Severity.WARNING,
                kind="trouble",
                members=(each.name,),
                what=f"{each.name} says: {each.trouble}.",
                means="It does not serve as it should.",
                help=f"Look at the log of {each.name}.",
            )


def _in_ms(span_us: int) -> str:
    return f"{span_us / 1000:.1f}ms" if span_us < 10_000 else format_ms(span_us // 1000)


CHECKS: Final[tuple[Check, ...]] = (_disk_room, _slow_disk, _loop_lag, _other_trouble)
"""In the order in which equally bad things are told."""
