"""Who the members are: their names, addresses, incarnations and levels.

The core knows ids; this is everything else about them. A roster is a value, a function
of the log: each member change carries a context (records to put, ids to bar), and
``after`` makes the next roster of it. It is stored with every checkpoint and told in
every snapshot.

Rules: an id is never used twice: who leaves the membership goes to ``removed``, for
ever. A record whose incarnation is empty belongs to a member that was added and has
not shown its data yet; the first incarnation that shows itself is bound through the
log, and afterwards no other is accepted. ``origin`` are the voters that the log of
this cluster began with, so that a blank member can begin from there too.

Source: RELIABILITY.md rules 39-46 and 54; DESIGN.md section 6 (identity).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from raftd.consensus.types import Membership, NodeId
from raftd.storage.errors import BAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftd.consensus.types import ConfigChange

__all__ = [
    "LEVEL",
    "MEMBERS_MAX",
    "MemberRecord",
    "Roster",
    "RosterError",
    "after",
    "decode_roster",
    "encode_context",
    "encode_roster",
    "first_roster",
]

LEVEL: Final = 2
"""What this release can do; 1 is the release before: fixed members, no snapshots."""

MEMBERS_MAX: Final = 9
"""Voters and learners; each more makes every write slower, none makes it safer."""

_FORMAT: Final = 2
"""Of a stored roster; the release before stored a bare membership."""


class RosterError(Exception):
    """What is stored or told is no roster."""


class MemberRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One member.

    Attributes:
        peer_address: ``host:port`` for the other members.
        client_address: ``host:port`` for clients.
        incarnation: Of its data directory; empty until it has shown it.
        level: The highest that it has shown; see ``LEVEL``.
        replaces: Whom it is to replace when it has caught up; 0 = nobody.
    """

    node_id: NodeId
    name: str
    peer_address: str
    client_address: str
    incarnation: bytes = b""
    level: int = 1
    replaces: int = 0


class Roster(msgspec.Struct, frozen=True, array_like=True):
    """All members as of one entry of the log.

    Attributes:
        membership: As the core has it.
        members: Their records, by id.
        removed: Ids that were members and never will be again, sorted.
        next_id: The lowest id that was never used.
        origin: The voters before the first entry of the log.
    """

    membership: Membership
    members: tuple[MemberRecord, ...] = ()
    removed: tuple[int, ...] = ()
    next_id: int = 1
    origin: tuple[int, ...] = ()

    def get(self, node_id: int) -> MemberRecord | None:
        """Return a member's record."""
        return next((m for m in self.members if m.node_id == node_id), None)

    def named(self, name: str) -> MemberRecord | None:
        """Return the record of a member by its name."""
        return next((m for m in self.members if m.name == name), None)

    @property
    def level(self) -> int:
        """The lowest recorded level: what every member understands."""
        known = {m.node_id: m.level for m in self.members}
        ids = self.membership.members
        return min((known.get(node_id, 1) for node_id in ids), default=1)

    def kind_of(self, node_id: int) -> str:
        """Return a member's part: voter, learner, outgoing, removed, or nothing."""
        membership = self.membership
        if node_id in membership.voters:
            return "voter"
        if node_id in membership.outgoing:
            return "outgoing"
        if node_id in membership.learners:
            return "learner"
        return "removed" if node_id in self.removed else ""


class _Context(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a member change says beyond its steps."""

    put: tuple[MemberRecord, ...] = ()
    removed: tuple[int, ...] = ()


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A roster as it is stored: the format comes first."""

    format_version: int
    roster: Roster


_encoder: Final = msgspec.msgpack.Encoder()
_contexts: Final = msgspec.msgpack.Decoder(_Context)
_stored: Final = msgspec.msgpack.Decoder(_Stored)
_memberships: Final = msgspec.msgpack.Decoder(Membership)
_shapes: Final = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])


def first_roster(
    voters: Iterable[int],
    records: Iterable[MemberRecord] = (),
    *,
    learners: Iterable[int] = (),
) -> Roster:
    """Make the roster that a cluster begins with.

    Args:
        voters: Before the first entry of the log.
        records: Of members; those of others are left out.
        learners: Who takes part without a vote.
    """
    ids = tuple(NodeId(n) for n in sorted(voters))
    membership = Membership(ids, (), tuple(NodeId(n) for n in sorted(learners)))
    return Roster(
        membership,
        _sorted(membership, {m.node_id: m for m in records}),
        (),
        max(membership.members, default=0) + 1,
        ids,
    )


def after(roster: Roster, change: ConfigChange, membership: Membership) -> Roster:
    """Return the roster after a committed change.

    Args:
        roster: Before it.
        change: The entry.
        membership: After it, as the core computed it.

    Raises:
        RosterError: The context cannot be read.
    """
    context = _decode_context(change.context)
    records = {m.node_id: m for m in roster.members}
    records.update((record.node_id, record) for record in context.put)
    members = membership.members
    gone = [n for n in roster.membership.members if n not in members]
    removed = dict.fromkeys((*roster.removed, *gone, *context.removed))
    return Roster(
        membership,
        _sorted(membership, records),
        tuple(sorted(removed)),
        max(roster.next_id, max((*members, *removed), default=0) + 1),
        roster.origin,
    )


def _sorted(
    membership: Membership, records: dict[NodeId, MemberRecord]
) -> tuple[MemberRecord, ...]:
    return tuple(records[n] for n in membership.members if n in records)


def encode_context(
    put: Iterable[MemberRecord] = (), removed: Iterable[int] = ()
) -> bytes:
    """Encode the context of a member change.

    Args:
        put: Records, new or changed; those of ids that are then no members are lost.
        removed: Ids never to be used again, beside those that the steps remove.
    """
    return _encoder.encode(_Context(tuple(put), tuple(removed)))


def _decode_context(data: bytes) -> _Context:
    if not data:
        return _Context()
    try:
        return _contexts.decode(data)
    except BAD_BYTES as error:
        raise RosterError(
            f"the context of a member change cannot be read: {error}"
        ) from error


def encode_roster(roster: Roster) -> bytes:
    """Encode a roster for a checkpoint or a snapshot."""
    return _encoder.encode(_Stored(_FORMAT, roster))


def decode_roster(data: bytes) -> Roster:
    """Decode a stored roster.

    What the release before stored is read too: a bare membership. Its members have no
    records then, and it never changed, so it is also the origin.

    Raises:
        RosterError: It cannot be read.
    """
    try:
        shape = _shapes.decode(data)
        is_bare = not shape or not isinstance(msgspec.msgpack.decode(shape[0]), int)
        if is_bare:
            bare = _memberships.decode(data)
            return first_roster(bare.voters, learners=bare.learners)
        stored = _stored.decode(data)
    except BAD_BYTES as error:
        raise RosterError(f"the list of members cannot be read: {error}") from error
    if stored.format_version > _FORMAT:
        raise RosterError(
            f"the list of members has format {stored.format_version}; this raftd reads"
            f" up to {_FORMAT}"
        )
    return stored.roster
