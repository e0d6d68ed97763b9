"""The members of the cluster: who they are, and changing that.

Rules: changes are made one at a time, and never repeated by the client: the list of
members tells whether one that was lost on the way took place.

Source: SEMANTICS.md section 7; proto/raftpb/v1/cluster.proto.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._ask import ask_once
from raftclient.backups import BackupInfo, BackupProgress, save_backup
from raftpb.v1 import cluster_pb2

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from raftclient._core import Core

__all__ = [
    "Cluster",
    "HandOver",
    "Member",
    "MemberKind",
    "NewMember",
    "kind_from_wire",
]


class MemberKind(enum.StrEnum):
    """What a member is in the cluster's configuration."""

    UNKNOWN = "unknown"
    VOTER = "voter"
    LEARNER = "learner"
    OUTGOING = "outgoing"
    REMOVED = "removed"


_KINDS: Final = {
    # The first release has voters only, and does not say so.
    cluster_pb2.MEMBER_KIND_UNSPECIFIED: MemberKind.VOTER,
    cluster_pb2.MEMBER_KIND_VOTER: MemberKind.VOTER,
    cluster_pb2.MEMBER_KIND_LEARNER: MemberKind.LEARNER,
    cluster_pb2.MEMBER_KIND_OUTGOING: MemberKind.OUTGOING,
    cluster_pb2.MEMBER_KIND_REMOVED: MemberKind.REMOVED,
}


def kind_from_wire(kind: cluster_pb2.MemberKind.ValueType) -> MemberKind:
    """Return a kind; one of a later release is UNKNOWN."""
    return _KINDS.get(kind, MemberKind.UNKNOWN)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member as the configuration has it.

    Attributes:
        peer_address: ``host:port`` for the other members.
        client_address: ``host:port`` for clients; empty until the member has said it.
        is_joining: Added, but not caught up yet.
        replaces: The member that leaves when this one becomes a voter; 0 = none.
    """

    node_id: int
    name: str
    peer_address: str
    client_address: str
    kind: MemberKind
    is_joining: bool = False
    replaces: int = 0


class NewMember(Member, frozen=True, kw_only=True):
    """A member that was added.

    Attributes:
        serve_flags: Flags of ``raftd serve`` that its machine must be started with,
            besides its own addresses to listen on and its data directory.
    """

    serve_flags: tuple[str, ...]


class HandOver(msgspec.Struct, frozen=True):
    """Leadership that was handed over.

    Attributes:
        leader: Node id of who leads now.
        paused_ms: No write waited longer because of it.
    """

    leader: int
    paused_ms: int


class Cluster:
    """The cluster as a whole; ``client.cluster``."""

    def __init__(self, core: Core) -> None:
        self._core: Final = core

    async def members(self, *, timeout_s: float | None = None) -> list[Member]:
        """List the members, as the member that answers knows them.

        Args:
            timeout_s: How long to try; None = the client's default.

        Raises:
            Unavailable: No member could be reached in time: check the endpoints.
        """
        request = cluster_pb2.ListMembersRequest()
        answer = await ask_once(self._core, request, timeout_s)
        return [_member(found) for found in answer.members]

    async def add(
        self,
        name: str,
        peer_address: str,
        *,
        client_address: str = "",
        node_id: int = 0,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> NewMember:
        """Add a member: a learner, which becomes a voter once it has caught up.

        Start its machine with the result's ``serve_flags``.

        Args:
            name: One that no other member has.
            peer_address: ``host:port`` where the other members will find it.
            client_address: The same for clients; empty = it will say it itself.
            node_id: 0 = the next free one; one that was ever used is refused.
            force: Even if the voters cannot agree at present.
            timeout_s: How long to try; None = the client's default.

        Raises:
            InvalidRequest: A name or address cannot be used: mend it.
            PreconditionFailed: Another change is in progress, the name or address is
                taken, or the voters could not agree: wait, or mend what is down.
            OutcomeUnknown: Look at ``members``, then decide.
        """
        request = cluster_pb2.AddMemberRequest(
            name=name,
            peer_address=peer_address,
            client_address=client_address,
            node_id=node_id,
            force=force,
        )
        return await self._take_in(request, timeout_s)

    async def remove(
        self, member: str | int, *, force: bool = False, timeout_s: float | None = None
    ) -> Member:
        """Remove a member for good; its id is never used again.

        Args:
            member: Its name or id.
            force: Even if the voters that are left cannot agree at present.
            timeout_s: How long to try; None = the client's default.

        Raises:
            NotFound: There is no such member.
            PreconditionFailed: Another change is in progress, it is the last voter, or
                those that are left could not agree: wait, or mend what is down.
            OutcomeUnknown: Look at ``members``, then decide.
        """
        request = cluster_pb2.RemoveMemberRequest(member=str(member), force=force)
        return _member((await ask_once(self._core, request, timeout_s)).member)

    async def replace(
        self,
        old: str | int,
        name: str,
        peer_address: str,
        *,
        client_address: str = "",
        node_id: int = 0,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> NewMember:
        """Add a member that takes another's place once it has caught up.

        Args:
            old: Name or id of the one that leaves.
            name: Of the new one; may be the old one's.
            peer_address: ``host:port``; may be the old one's.
            client_address: The same for clients; empty = it will say it itself.
            node_id: 0 = the next free one; one that was ever used is refused.
            force: Even if the voters that are left cannot agree at present.
            timeout_s: How long to try; None = the client's default.

        Raises:
            InvalidRequest: A name or address cannot be used: mend it.
            NotFound: There is no member ``old``.
            PreconditionFailed: Another change is in progress, the name or address is
                taken, or the voters could not agree: wait, or mend what is down.
            OutcomeUnknown: Look at ``members``, then decide.
        """
        request = cluster_pb2.ReplaceMemberRequest(
            old=str(old),
            name=name,
            peer_address=peer_address,
            client_address=client_address,
            node_id=node_id,
            force=force,
        )
        return await self._take_in(request, timeout_s)

    async def _take_in(
        self,
        request: cluster_pb2.AddMemberRequest | cluster_pb2.ReplaceMemberRequest,
        timeout_s: float | None,
    ) -> NewMember:
        answer = await ask_once(self._core, request, timeout_s)
        member = msgspec.structs.asdict(_member(answer.member))
        return NewMember(**member, serve_flags=tuple(answer.serve_flags))

    async def update(
        self,
        member: str | int,
        *,
        name: str = "",
        peer_address: str = "",
        client_address: str = "",
        timeout_s: float | None = None,
    ) -> Member:
        """Change a member's name or addresses; what is empty stays as it is.

        Args:
            member: Its name or id.
            name: One that no other member has.
            peer_address: ``host:port`` for the other members.
            client_address: The same for clients.
            timeout_s: How long to try; None = the client's default.

        Raises:
            InvalidRequest: Nothing is changed, or it cannot be used: mend it.
            NotFound: There is no such member.
            PreconditionFailed: Another change is in progress, or the name or address
                is taken: wait, or choose another.
            OutcomeUnknown: Look at ``members``, then decide.
        """
        request = cluster_pb2.UpdateMemberRequest(
            member=str(member),
            name=name,
            peer_address=peer_address,
            client_address=client_address,
        )
        return _member((await ask_once(self._core, request, timeout_s)).member)

    async def transfer(
        self, to: str | int | None = None, *, timeout_s: float | None = None
    ) -> HandOver:
        """Hand leadership over, and wait until the other one leads.

        Args:
            to: Name or id of a voter; None = the follower that is furthest.
            timeout_s: How long to try; None = the client's default.

        Raises:
            NotFound: There is no such member.
            PreconditionFailed: It cannot lead, for example as a learner, or did not
                come to lead in time; the old leader goes on.
            OutcomeUnknown: Look at ``status``, then decide.
        """
        request = cluster_pb2.TransferLeadershipRequest(
            to="" if to is None else str(to)
        )
        answer = await ask_once(self._core, request, timeout_s)
        return HandOver(answer.leader, answer.paused_ms)

    async def backup(
        self,
        path: str | os.PathLike[str],
        *,
        on_progress: Callable[[BackupProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> BackupInfo:
        """Save a backup of the whole state to a file, while the cluster works.

        The file is there whole, or not at all; an older one of the name is replaced in
        one step.

        Args:
            path: Of the file.
            on_progress: Told after each piece, on the client's loop.
            timeout_s: Until it begins; None = the client's default. Then it takes as
                long as it takes, as long as something comes.

        Raises:
            Unavailable: It could not be made, or broke off: try again.
            OSError: The file cannot be written.
        """
        return await save_backup(self._core, path, on_progress, timeout_s)


def _member(found: cluster_pb2.Member) -> Member:
    return Member(
        node_id=found.node_id,
        name=found.name,
        peer_address=found.peer_address,
        client_address=found.client_address,
        kind=kind_from_wire(found.kind),
        is_joining=found.is_joining,
        replaces=found.replaces,
    )
