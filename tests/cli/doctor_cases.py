"""Cases for the doctor: what members tell, and what is to be found in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raftclient import MemberKind, MemberRole, MemberStatus
from raftctl.look import Severity
from tests.cli.statuses import GIB, MIB, down, learner, member

__all__ = ["CASES", "Seen"]

CRITICAL, WARNING, NOTE = Severity.CRITICAL, Severity.WARNING, Severity.NOTE


@dataclass(frozen=True)
class Seen:
    """A case: what members told, and what is to be found.

    Attributes:
        before: At the first look; None = there was none.
    """

    what: str
    now: tuple[MemberStatus, ...]
    found: tuple[tuple[Severity, str, str], ...]
    before: tuple[MemberStatus, ...] | None = None
    leader: int = 1
    direct: tuple[MemberStatus, ...] = ()


def _three(**third: Any) -> tuple[MemberStatus, ...]:
    """Return a healthy cluster but for its third member."""
    return member(1), member(2), member(3, **third)


def _first(**told: Any) -> tuple[MemberStatus, ...]:
    """Return a healthy cluster but for its leader."""
    return member(1, **told), member(2), member(3)


CASES = [
    Seen("a healthy cluster", _three(), ()),
    Seen("five voters", tuple(member(n) for n in range(1, 6)), ()),
    Seen(
        "no majority",
        (member(1, leader=0, role=MemberRole.FOLLOWER), down(2), down(3)),
        (
            (CRITICAL, "no_majority", "n1 reaches 1 of 3 voters; 2 are needed."),
            (WARNING, "unreachable", "n2 (h2:7401) does not answer n1."),
            (WARNING, "unreachable", "n3 (h3:7401) does not answer n1."),
        ),
        leader=0,
    ),
    Seen(
        "no leader",
        tuple(member(n, role=MemberRole.FOLLOWER, leader=0) for n in (1, 2, 3)),
        ((CRITICAL, "no_leader", "No member leads, though 3 of 3 voters are up."),),
        leader=0,
    ),
    Seen(
        "states differ",
        _first(trouble="the members' states differ", trouble_reason="DIVERGED"),
        ((CRITICAL, "diverged", "States differ, and no majority agrees: n1 said so."),),
    ),
    Seen(
        "one voter",
        (member(1),),
        ((WARNING, "one_voter", "The cluster has one voter."),),
    ),
    Seen(
        "two voters",
        (member(1), member(2)),
        ((WARNING, "two_voters", "The cluster has two voters."),),
    ),
    Seen(
        "four voters",
        tuple(member(n) for n in range(1, 5)),
        ((NOTE, "even_voters", "The cluster has 4 voters, an even number."),),
    ),
    Seen(
        "an unreachable member",
        (member(1), member(2), down(3)),
        ((WARNING, "unreachable", "n3 (h3:7401) does not answer n1."),),
    ),
    Seen(
        "a member that only its peers cannot reach",
        (member(1), member(2), down(3)),
        (
            (
                WARNING,
                "unlinked",
                "n3 answers clients, but n1 cannot reach it at h3:7401.",
            ),
        ),
        direct=(member(3, role=MemberRole.CANDIDATE, leader=0),),
    ),
    Seen(
        "other limits keep a member out",
        (member(1), member(2), down(3)),
        (
            (
                CRITICAL,
                "limits_differ",
                "The limit key_bytes_max is not equal on all members: n1, n2: 1024;"
                " n3: 2048.",
            ),
            (
                WARNING,
                "unlinked",
                "n3 answers clients, but n1 cannot reach it at h3:7401.",
            ),
        ),
        direct=(member(3, limits={"key_bytes_max": 2048}, leader=0),),
    ),
    Seen(
        "a learner whose machine has not come",
        (member(1), member(2), member(3), down(4, kind=MemberKind.LEARNER,
         client_address="")),
        ((WARNING, "learner_absent", "n4 is a learner, and does not answer n1."),),
    ),
    Seen(
        "a learner that comes no nearer",
        (*_three(), learner(4, lag=60_000)),
        (
            (
                WARNING,
                "learner_stuck",
                "n4 is a learner, 60000 entries behind, and came no nearer in 5 s.",
            ),
        ),
        before=(*_three(), learner(4, lag=50_000)),
    ),
    Seen(
        "a learner that catches up",
        (*_three(), learner(4, lag=40_000)),
        (),
        before=(*_three(), learner(4, lag=50_000)),
    ),
    Seen(
        "a learner with a snapshot on its way",
        (*_first(snapshot_percent=60, snapshot_to=4), learner(4, lag=99_000)),
        (),
        before=(*_first(snapshot_percent=40, snapshot_to=4), learner(4, lag=98_000)),
    ),
    Seen(
        "a snapshot that does not get on",
        (*_first(snapshot_percent=40, snapshot_to=4), learner(4, lag=99_000)),
        (
            (
                WARNING,
                "snapshot_stuck",
                "The snapshot from n1 to n4 stayed at 40% for 5 s.",
            ),
        ),
        before=(*_first(snapshot_percent=40, snapshot_to=4), learner(4, lag=98_000)),
    ),
    Seen(
        "a voter that stays behind",
        _three(lag=20_000),
        (
            (
                WARNING,
                "lagging",
                "n3 is 20000 entries behind, and came no nearer in 5 s.",
            ),
        ),
        before=_three(lag=15_000),
    ),
    Seen("a voter that catches up", _three(lag=14_000), (), before=_three(lag=15_000)),
    Seen("a small lag under load", _three(lag=4000), (), before=_three(lag=3000)),
    Seen(
        "a member that hears no leader",
        _three(last_contact_ms=4000, role=MemberRole.PRE_CANDIDATE),
        ((WARNING, "no_contact", "n3 has not heard of the leader for 4s."),),
    ),
    Seen(
        "a disk that is slow by itself",
        _three(sync_p50_us=25_000),
        (
            (
                WARNING,
                "slow_disk",
                "The disk of n3 is slow: half of its log writes take more than 25ms.",
            ),
        ),
    ),
    Seen(
        "a disk that is slow beside the others",
        _three(sync_p50_us=6000),
        (
            (
                WARNING,
                "slow_disk",
                "The disk of n3 is slow: half of its log writes take more than 6.0ms,"
                " the others' 0.8ms.",
            ),
        ),
    ),
    Seen(
        "a member that has just caught up in large writes",
        _three(sync_p50_us=16_000, uptime_ms=20_000),
        (),
    ),
    Seen(
        "a disk that hung",
        _three(sync_max_us=900_000),
        (
            (
                WARNING,
                "slow_disk",
                "The disk of n3 is slow: one of its newest log writes took 900ms.",
            ),
        ),
    ),
    Seen(
        "equally slow disks",
        tuple(member(n, sync_p50_us=6000) for n in (1, 2, 3)),
        (),
    ),
    Seen(
        "a clock behind",
        _three(wall_ms=1_794_999_996_000),
        (
            (
                WARNING,
                "clocks_apart",
                "The clock of n3 is about 4.3s behind the others'.",
            ),
        ),
    ),
    Seen(
        "a clock far ahead",
        _three(wall_ms=1_795_000_060_000),
        (
            (
                CRITICAL,
                "clocks_apart",
                "The clock of n3 is about 59s ahead of the others'.",
            ),
        ),
    ),
    Seen(
        "an upgrade under way",
        _three(version="0.1.0", level=1, wall_ms=None, limits={}, compared_age_ms=None),
        (
            (
                NOTE,
                "releases_differ",
                "The members run different releases: n3: 0.1.0 (level 1); n1, n2: 0.2.0"
                " (level 2).",
            ),
        ),
    ),
    Seen(
        "a comparison long ago",
        _three(compared_age_ms=20 * 60_000, compared_index=50_000),
        (
            (
                WARNING,
                "not_compared",
                "The state of n3 was last compared 20m ago, at entry 50000.",
            ),
        ),
    ),
    Seen(
        "no comparison at all",
        _three(compared_age_ms=None, compared_index=0),
        (
            (
                WARNING,
                "not_compared",
                "The state of n3 was not compared since its start 1h ago.",
            ),
        ),
    ),
    Seen("an idle cluster", _three(compared_age_ms=3_600_000), ()),
    Seen(
        "a full disk",
        _three(is_disk_full=True, trouble="the disk is full", disk_free_bytes=0),
        ((CRITICAL, "disk_full", "The disk of n3 is full."),),
    ),
    Seen(
        "a disk that fills",
        _three(disk_free_bytes=5 * GIB),
        (
            (
                WARNING,
                "disk_nearly_full",
                "The disk of n3 has 5.0G left of 100G.",
            ),
        ),
    ),
    Seen(
        "a checkpoint that is not stored",
        _three(checkpoint_index=70_000),
        (
            (
                WARNING,
                "checkpoint_stuck",
                "n3 has not stored the checkpoint at entry 99000 in 5 s; its newest is"
                " at 70000.",
            ),
        ),
        before=_three(checkpoint_index=70_000),
    ),
    Seen(
        "a checkpoint that comes a little later",
        _three(checkpoint_index=98_000),
        (),
        before=_three(checkpoint_index=70_000),
    ),
    Seen(
        "a change of members that does not end",
        _first(config_pending=True),
        (
            (
                WARNING,
                "change_pending",
                "A change of the members has been in progress for more than 5 s.",
            ),
        ),
        before=_first(config_pending=True),
    ),
    Seen(
        "a change of members that has just begun",
        _first(config_pending=True),
        (),
        before=_first(),
    ),
    Seen(
        "a log kept for a member that is down",
        (member(1, log_bytes=900 * MIB), member(2), down(3)),
        (
            (WARNING, "unreachable", "n3 (h3:7401) does not answer n1."),
            (WARNING, "log_long", "The log is long on n1: up to 900M."),
        ),
    ),
    Seen(
        "a long log and nobody down",
        _first(log_bytes=900 * MIB),
        ((NOTE, "log_long", "The log is long on n1: up to 900M."),),
    ),
    Seen(
        "a loop that is held up",
        _three(loop_lag_max_us=400_000),
        ((WARNING, "loop_lag", "The work of n3 was held up for 400ms lately."),),
    ),
    Seen(
        "any other trouble",
        _three(trouble="this member is stopping", trouble_reason="SHUTTING_DOWN"),
        ((WARNING, "trouble", "n3 says: this member is stopping."),),
    ),
    Seen(
        "the worst comes first",
        (member(1), member(2, loop_lag_max_us=400_000), member(3, is_disk_full=True),
         member(4)),
        (
            (CRITICAL, "disk_full", "The disk of n3 is full."),
            (WARNING, "loop_lag", "The work of n2 was held up for 400ms lately."),
            (NOTE, "even_voters", "The cluster has 4 voters, an even number."),
        ),
    ),
]  # fmt: skip
