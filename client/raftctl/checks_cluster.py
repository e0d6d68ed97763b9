"""What the doctor finds wrong with the cluster as a whole.

Source: CLI.md (raftctl doctor); RELIABILITY.md rules 4, 39, 43, 52, 54.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raftctl.durations import format_ms
from raftctl.look import Case, Check, Finding, Severity

__all__ = ["CHECKS", "CLOCKS_BAD_MS", "CLOCKS_MS"]

CLOCKS_MS: Final = 2000
"""Members answer within a second of each other, so twice that is no accident."""
CLOCKS_BAD_MS: Final = 10_000
"""A member this far off does not lead any more."""


def _no_majority(case: Case) -> Iterator[Finding]:
    """Find that too few voters are up."""
    live = [each for each in case.voters if each.is_reachable]
    needed = len(case.voters) // 2 + 1
    if len(live) >= needed:
        return
    down = [each.name for each in case.voters if not each.is_reachable]
    yield Finding(
        severity=Severity.CRITICAL,
        kind="no_majority",
        members=tuple(down),
        what=f"{case.asked} reaches {len(live)} of {len(case.voters)} voters;"
        f" {needed} are needed.",
        means="Nothing can be written, and only stale reads are answered.",
        help=f"Start raftd on {_list(down)}; if that is impossible for good, see"
        " raftd recover -h.",
    )


def _no_leader(case: Case) -> Iterator[Finding]:
    """Find that nobody leads though somebody could."""
    live = sum(each.is_reachable for each in case.voters)
    if case.leader is not None or live <= len(case.voters) // 2:
        return
    yield Finding(
        severity=Severity.CRITICAL,
        kind="no_leader",
        members=(),
        what=f"No member leads, though {live} of {len(case.voters)} voters are up.",
        means="Writes wait; an election takes seconds, not more.",
        help="Run raftctl status again; if it stays so, look at the members' logs for"
        " elections that nobody wins.",
    )


def _few_voters(case: Case) -> Iterator[Finding]:
    """Find numbers of voters that tolerate less than they cost."""
    count = len(case.voters)
    names = tuple(each.name for each in case.voters)
    add = "raftctl member add NAME HOST:7401"
    if count == 1:
        yield Finding(
            severity=Severity.WARNING,
            kind="one_voter",
            members=names,
            what="The cluster has one voter.",
            means="If its machine stops, everything stops; if its disk is lost, all"
            " data is.",
            help=f"Add two more: {add}",
        )
    elif count == 2:
        yield Finding(
            severity=Severity.WARNING,
            kind="two_voters",
            members=names,
            what="The cluster has two voters.",
            means="Both must be up for any write: two tolerate nothing, and fail twice"
            " as often as one.",
            help=f"Add a third: {add}",
        )
    elif count and count % 2 == 0:
        yield Finding(
            severity=Severity.NOTE,
            kind="even_voters",
            members=names,
            what=f"The cluster has {count} voters, an even number.",
            means=f"They tolerate {count // 2 - 1} down, no more than {count - 1}"
            " would, and every write waits for one more.",
            help=f"Add one ({add}) or remove one (raftctl member remove NAME).",
        )


def _clocks_apart(case: Case) -> Iterator[Finding]:
    """Find a clock that differs from most."""
    clocks = sorted(each.wall_ms for each in case.told if each.wall_ms is not None)
    if len(clocks) < 2:
        return
    middle = clocks[(len(clocks) - 1) // 2]
    for each in case.told:
        if each.wall_ms is None or abs(each.wall_ms - middle) <= CLOCKS_MS:
            continue
        apart_ms = each.wall_ms - middle
        word = "ahead of" if apart_ms > 0 else "behind"
        is_bad = abs(apart_ms) > CLOCKS_BAD_MS
        yield Finding(
            severity=Severity.CRITICAL if is_bad else Severity.WARNING,
            kind="clocks_apart",
            members=(each.name,),
            what=f"The clock of {each.name} is about {format_ms(abs(apart_ms))} {word}"
            " the others'.",
            means="Schedules fire at the wrong time under a leader with such a clock;"
            " beyond 10 s it may not lead.",
            help=f"Set the clock of {each.name}, and keep it set: chronyc makestep, or"
            " timedatectl set-ntp true",
        )


def _releases_differ(case: Case) -> Iterator[Finding]:
    """Find an upgrade that is not complete."""
    versions: dict[str, list[str]] = {}
    for each in case.told:
        versions.setdefault(f"{each.version} (level {each.level})", []).append(
            each.name
        )
    if len(versions) < 2:
        return
    shown = "; ".join(f"{_list(who)}: {what}" for what, who in sorted(versions.items()))
    yield Finding(
        severity=Severity.NOTE,
        kind="releases_differ",
        members=tuple(name for who in versions.values() for name in who),
        what=f"The members run different releases: {shown}.",
        means="That is how an upgrade goes; until it is complete, what only the newer"
        " release can do is refused.",
        help="Upgrade the others, one at a time: stop raftd, install, start, wait for"
        " raftctl status.",
    )


def _limits_differ(case: Case) -> Iterator[Finding]:
    """Find a limit of apply that is not equal on all."""
    told = [each for each in case.told if each.limits]
    for name in sorted({name for each in told for name in each.limits}):
        values: dict[int, list[str]] = {}
        for each in told:
            if name in each.limits:
                values.setdefault(each.limits[name], []).append(each.name)
        if len(values) > 1:
            shown = "; ".join(f"{_list(who)}: {value}" for value, who in values.items())
            yield Finding(
                severity=Severity.CRITICAL,
                kind="limits_differ",
                members=tuple(who for each in values.values() for who in each),
                what=f"The limit {name} is not equal on all members: {shown}.",
                means="Members with other limits would judge the same request"
                " differently, so they do not talk to each other.",
                help=f"Give all the same limits.{name}, and restart those changed.",
            )


def _change_pending(case: Case) -> Iterator[Finding]:
    """Find a change of members that does not come to its end."""
    leader = case.leader
    if leader is None or not leader.config_pending:
        return
    before = case.earlier(leader)
    if before is None or not before.config_pending:
        return
    yield Finding(
        severity=Severity.WARNING,
        kind="change_pending",
        members=(leader.name,),
        what="A change of the members has been in progress for more than"
        f" {case.apart_s:.0f} s.",
        means="It waits for a majority, of the new voters too; no other change is"
        " possible before.",
        help="raftctl member ls shows who is new; make sure that their raftd runs.",
    )


def _diverged(case: Case) -> Iterator[Finding]:
    """Find the alarm that states differ."""
    names = [each.name for each in case.told if each.trouble_reason == "DIVERGED"]
    if names:
        yield Finding(
            severity=Severity.CRITICAL,
            kind="diverged",
            members=tuple(names),
            what=f"States differ, and no majority agrees: {_list(names)} said so.",
            means="Writes are refused, so that it does not get worse; a bug or a"
            " broken machine is behind it.",
            help="Save what each member has (raftctl --endpoints THAT_MEMBER backup"
            " save FILE), then report it.",
        )


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


CHECKS: Final[tuple[Check, ...]] = (
    _no_majority,
    _no_leader,
    _diverged,
    _limits_differ,
    _few_voters,
    _clocks_apart,
    _change_pending,
    _releases_differ,
)
