"""A node among its peers: how it meets them, and whom it takes for members at first.

A blank node forms a cluster with all its configured members, or joins one that it was
added to. Either way the first roster is durable, as a checkpoint before the first entry
of the log, before the node is bound to the cluster and so before its first vote. A
directory of the release before is bound and has no roster: its members are those it
was formed with.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rules 46 and 54.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from raftd.consensus.types import Index, NodeId, Term
from raftd.node.errors import NodeFailed
from raftd.node.member_sight import Shown
from raftd.node.roster import (
    MemberRecord,
    Roster,
    RosterError,
    decode_roster,
    encode_roster,
    first_roster,
)
from raftd.server.settings import Settings
from raftd.statemachine.limits import Limits
from raftd.storage.open import Stores
from raftd.storage.types import NO_DIGEST, CheckpointMeta
from raftd.transport.address_book import AddressBook
from raftd.transport.frames import Hello
from raftd.transport.greeting import Formed, Greeting
from raftd.transport.introductions import Myself
from raftd.transport.links import Links, LinkSettings

__all__ = ["Neighbours"]

_logger = logging.getLogger(__name__)


class Neighbours:
    """The links of a node, who may be on them, and where they are dialled."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        """Begin from the data directory.

        Raises:
            NodeFailed: What it says of the members cannot be read.
        """
        self._settings: Final = settings
        self._stores: Final = stores
        self._roster = _stored_roster(stores, settings)
        self._book: Final = AddressBook(
            settings.node_id, {m.id: str(m.peer) for m in settings.members}
        )
        self._book.roster = self._roster
        self.greeting: Final = Greeting(
            stores.identity,
            [member.id for member in settings.members],
            _myself(settings, stores),
            self._roster,
        )
        self.links: Final = Links(self._book.peers(), self.greeting, LinkSettings())
        self.greeting.on_seen = self._on_seen

    @property
    def own(self) -> Shown:
        """What this member says of itself."""
        myself = self.greeting.myself
        return Shown(
            self._stores.identity.incarnation,
            myself.level,
            myself.peer_address,
            myself.client_address,
            myself.name,
        )

    async def start(self) -> None:
        """Listen for peers, and dial them.

        Raises:
            ListenFailed: The port cannot be listened on.
        """
        listen = self._settings.peer_listen
        await self.links.listen(listen.host, listen.port)
        self.links.start()
        self.links.knock([(each.host, each.port) for each in self._settings.join])

    async def meet(self) -> tuple[Formed, Roster]:
        """Wait until the cluster is known; bind to it, and say who its members are.

        Raises:
            NodeFailed: The cluster does not want this node.
            StorageError: With one sentence for the operator.
        """
        greeting = self.greeting
        if not greeting.formed.done():
            _logger.info("waiting_for_members members=%d", len(self._settings.members))
        either: list[asyncio.Future[Any]] = [greeting.formed, greeting.banned]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if greeting.banned.done():
            raise NodeFailed(greeting.banned.result())
        formed = greeting.formed.result()
        roster = self._roster
        if not self._stores.identity.is_bound or roster is None:
            records = _records(self._settings, formed.peers)
            roster = first_roster(formed.voters, records)
        if not self._stores.identity.is_bound or self._stores.state.meta is None:
            await _store_first(self._stores, roster)
        await self._stores.bind_cluster(
            formed.cluster_id,
            {NodeId(peer): mark for peer, mark in formed.peers.items()},
        )
        self.note_roster(roster)
        return formed, roster

    def note_roster(self, roster: Roster) -> None:
        """Judge by this roster, and dial whom it names, from now on."""
        self._roster = self._book.roster = roster
        self.greeting.note_roster(roster)
        self.links.set_peers(self._book.peers())

    @property
    def has_knocked(self) -> bool:
        """Whether a removed member came, and could not be told so yet."""
        return self.greeting.has_knocked

    def tell(self, removed: Sequence[int]) -> None:
        """Tell these that they were removed, now or when they come."""
        self.greeting.note_certain(removed)
        self.links.dismiss_removed()

    def _on_seen(self, hello: Hello) -> None:
        if self._book.note(hello):
            self.links.set_peers(self._book.peers())


async def _store_first(stores: Stores, roster: Roster) -> None:
    """Make the first roster durable, below whatever state was restored here."""
    meta = stores.state.meta
    if meta is None:
        meta = CheckpointMeta(Index(0), Term(0), NO_DIGEST, b"")
    await stores.state.checkpoint(
        msgspec.structs.replace(meta, membership=encode_roster(roster), install=None),
        (),
    )


def _stored_roster(stores: Stores, settings: Settings) -> Roster | None:
    """Return the roster of the checkpoint, with records where it has none yet."""
    identity, meta = stores.identity, stores.state.meta
    if not identity.is_bound:
        return None
    marks = {int(peer): mark for peer, mark in identity.peers.items()}
    if meta is None:
        return first_roster(marks, _records(settings, marks))
    try:
        roster = decode_roster(meta.membership)
    except RosterError as error:
        raise NodeFailed(f"state.db: {error}") from error
    known = {record.node_id: record for record in roster.members}
    records = [
        record
        for record in _records(settings, marks)
        if record.node_id in roster.membership.members
    ]
    filled = {record.node_id: record for record in records} | known
    return msgspec.structs.replace(
        roster, members=tuple(filled[node_id] for node_id in sorted(filled))
    )


def _records(settings: Settings, marks: dict[int, bytes]) -> list[MemberRecord]:
    """Say what is known of members before the log has said anything of them.

    Their level is that of the release before until the leader has logged what they
    showed, all in one: from then on these records are the same everywhere.
    """
    named = {member.id: member for member in settings.members}
    records = []
    for node_id in sorted({*marks}):
        member = named.get(node_id)
        client = settings.advertised_client if node_id == settings.node_id else None
        records.append(
            MemberRecord(
                NodeId(node_id),
                member.name if member else f"n{node_id}",
                str(member.peer) if member else "",
                str(client or (member.client if member else "")),
                marks[node_id],
            )
        )
    return records


def _myself(settings: Settings, stores: Stores) -> Myself:
    meta = stores.state.meta
    origin = b""
    if meta is not None and (meta.applied_index or meta.extra):
        parts = (meta.extra, meta.digest, meta.applied_index.to_bytes(8, "big"))
        origin = hashlib.blake2b(b"".join(parts), digest_size=16).digest()
    return Myself(
        limits=_digest_of(settings.limits.of_apply()),
        release=version("raftd"),
        name=settings.listed.name if settings.listed else "",
        peer_address=str(settings.advertised_peer or ""),
        client_address=str(settings.advertised_client or ""),
        origin=origin if not stores.identity.is_bound else b"",
        is_joining=bool(settings.join) and not stores.identity.is_bound,
    )


def _digest_of(limits: Limits) -> bytes:
    """Digest the limits that decide what an entry means; told in every greeting."""
    text = repr(sorted(dataclasses.asdict(limits).items()))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
