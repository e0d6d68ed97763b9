"""What the doctor looks at: the statuses of all members, once or twice.

Source: CLI.md (raftctl doctor).
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Final

import msgspec

from raftclient import ClusterStatus, MemberKind, MemberRole, MemberStatus

__all__ = ["Case", "Check", "Finding", "Look", "Severity"]


class Severity(enum.StrEnum):
    """How bad it is, worst first."""

    CRITICAL = "critical"
    """Something does not work, or is about to be lost."""
    WARNING = "warning"
    """It works; the next fault may end that."""
    NOTE = "note"
    """Should be known; may wait."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong or risky.

    Attributes:
        kind: What it is, for scripts: a word that stays.
        members: Names of those it is about.
        what: One sentence that says what was seen.
        means: One sentence that says why it matters.
        help: What to do, a command where there is one.
    """

    severity: Severity
    kind: str
    members: tuple[str, ...]
    what: str
    means: str
    help: str


class Look(msgspec.Struct, frozen=True):
    """One look at the cluster.

    Attributes:
        status: As one member told it.
        direct: What members told themselves that the first could not reach.
        at_s: When, on a clock that only goes on.
    """

    status: ClusterStatus
    direct: tuple[MemberStatus, ...] = ()
    at_s: float = 0.0


class Case:
    """What there is to judge: the last look, and an earlier one if there was one.

    A member that replaces another may have its name; here each name is one member's.
    """

    def __init__(self, now: Look, before: Look | None = None) -> None:
        counts = Counter(each.name for each in now.status.members)
        self._shared: Final = {name for name, count in counts.items() if count > 1}
        self._names: Final = {m.node_id: m.name for m in now.status.members}
        self.now: Final = msgspec.structs.replace(
            now.status, members=tuple(map(self._labelled, now.status.members))
        )
        self.direct: Final = {m.node_id: self._labelled(m) for m in now.direct}
        self._before: Final = before
        self.apart_s: Final = now.at_s - before.at_s if before is not None else 0.0

    @cached_property
    def members(self) -> Sequence[MemberStatus]:
        """All that belong to the cluster."""
        gone = {MemberKind.REMOVED}
        return [each for each in self.now.members if each.kind not in gone]

    @cached_property
    def voters(self) -> Sequence[MemberStatus]:
        """Those that count in majorities once no change is in progress."""
        return [each for each in self.members if each.kind is MemberKind.VOTER]

    @cached_property
    def learners(self) -> Sequence[MemberStatus]:
        """Those that do not count yet."""
        return [each for each in self.members if each.kind is MemberKind.LEARNER]

    @cached_property
    def reachable(self) -> Sequence[MemberStatus]:
        """Those that the member that was asked reaches."""
        return [each for each in self.members if each.is_reachable]

    @cached_property
    def told(self) -> Sequence[MemberStatus]:
        """All that said something, one way or the other."""
        found = (self.direct.get(m.node_id, m) for m in self.members)
        return [each for each in found if each.is_reachable]

    @cached_property
    def leader(self) -> MemberStatus | None:
        """Who leads, in the newest term that is known."""
        leaders = [each for each in self.told if each.role is MemberRole.LEADER]
        return max(leaders, key=lambda each: each.term, default=None)

    @property
    def asked(self) -> str:
        """Name of the member that was asked."""
        return self.name_of(self.now.node_id)

    def name_of(self, node_id: int) -> str:
        """Return a member's name."""
        for each in self.now.members:
            if each.node_id == node_id:
                return each.name
        return f"member {node_id}"

    def argument(self, member: MemberStatus) -> str:
        """Return what a command names a member by: its name, or its id."""
        name = self.plain_name(member)
        return name if name not in self._shared else str(member.node_id)

    def plain_name(self, member: MemberStatus) -> str:
        """Return a member's name as it is, though another may have it, too."""
        return self._names.get(member.node_id, member.name)

    def _labelled(self, member: MemberStatus) -> MemberStatus:
        if member.name not in self._shared:
            return member
        name = f"{member.name} (id {member.node_id})"
        return msgspec.structs.replace(member, name=name)

    def earlier(self, member: MemberStatus) -> MemberStatus | None:
        """Return a reachable member as it was at the first look, if there was one."""
        if self._before is None:
            return None
        for each in self._before.status.members:
            if each.node_id == member.node_id and each.is_reachable:
                return each
        return None

    def others(self, member: MemberStatus) -> Iterator[MemberStatus]:
        """Yield the other members that said something."""
        return (each for each in self.told if each.node_id != member.node_id)


Check = Callable[[Case], Iterator[Finding]]
"""Finds one kind of thing, in any number of members."""
