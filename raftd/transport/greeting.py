"""Who may be talked to, and how a cluster comes to know itself, or a node its cluster.

Rules:
    * A cluster is formed when every configured member has shown the incarnation of its
      data; its id follows from all of them, so two clusters never share one. All of
      them begin blank, or restored from one and the same backup.
    * Afterwards the roster judges: a member is accepted under its incarnation alone,
      so that a blank disk under a known name is refused and told to stop; a member
      that was added and has shown no incarnation yet is accepted under any.
    * An unknown id with our cluster's id is a stranger, and accepted: its votes must be
      answered, as its promotion may be on the way to us (rule 8). A removed id is sent
      away, and told so once the leader is certain (ADR 0010).
    * A node that is to join takes the cluster's id and first voters from any member
      that knows it as added.
    * A member stops for good only if a majority of the voters refuses it; while it is
      blank, or when it was removed, if anybody does.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rules 8, 44, 46 and 54.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

from raftd.consensus.types import NodeId
from raftd.node.roster import MemberRecord, Roster, first_roster
from raftd.storage.identity import Identity
from raftd.transport.frames import (
    OLD_VERSION,
    PROTOCOL_VERSION,
    Goodbye,
    Hello,
    OldHello,
    Removed,
)
from raftd.transport.introductions import Myself, introduce, read

__all__ = ["Formed", "Greeting", "cluster_id_of"]

_logger = logging.getLogger(__name__)

_REPLACE: Final = (
    "a blank disk may not vote in its name; bring the machine back under a new id with"
    " `raftctl member replace`"
)
_ADD: Final = "add it with `raftctl member add` and start it with --join"


@dataclasses.dataclass(frozen=True, slots=True)
class Formed:
    """What a cluster is known by.

    Attributes:
        peers: Incarnations of the members, empty for those that have shown none.
        voters: Those before the first entry of the log.
        is_joined: This node was added to a cluster that others formed.
    """

    cluster_id: bytes
    peers: dict[int, bytes]
    voters: tuple[int, ...]
    is_joined: bool = False


def cluster_id_of(cluster_name: str, incarnations: dict[int, bytes]) -> bytes:
    """Derive the cluster's id, 16 bytes, from all its first members' incarnations."""
    digest = hashlib.blake2b(cluster_name.encode(), digest_size=16)
    for node_id in sorted(incarnations):
        digest.update(node_id.to_bytes(8, "big") + incarnations[node_id])
    return digest.digest()


class Greeting:
    """Introduces this member and judges the others."""

    def __init__(
        self,
        identity: Identity,
        configured: Iterable[int],
        myself: Myself | None = None,
        roster: Roster | None = None,
    ) -> None:
        """Begin from what the data directory says.

        Args:
            identity: Of this member's files.
            configured: Ids of all configured members, this one perhaps among them.
            myself: What else this member says of itself.
            roster: As of the checkpoint; needed if the identity is bound.
        """
        loop = asyncio.get_running_loop()
        self._identity = identity
        self._configured: Final = tuple(configured)
        self._myself: Final = myself or Myself()
        self._marks: Final[dict[int, bytes]] = {identity.node_id: identity.incarnation}
        self._refusers: Final[dict[int, str]] = {}
        self._roster = roster
        self._certain: tuple[int, ...] = ()
        self._knocked: Final[dict[int, None]] = {}
        self.seen: Final[dict[int, Hello]] = {}
        self.on_seen: Callable[[Hello], None] = _ignore
        self.formed: Final[asyncio.Future[Formed]] = loop.create_future()
        self.banned: Final[asyncio.Future[str]] = loop.create_future()
        if identity.cluster_id:
            assert roster is not None, "who is bound has a roster"
            peers = {int(peer): mark for peer, mark in identity.peers.items()}
            self.formed.set_result(Formed(identity.cluster_id, peers, roster.origin))
        self._maybe_form()

    @property
    def myself(self) -> Myself:
        """What this member says of itself."""
        return self._myself

    def note_roster(self, roster: Roster) -> None:
        """Judge by this roster from now on."""
        self._roster = roster
        for node_id in [n for n in self._refusers if n not in self._voters]:
            del self._refusers[node_id]

    def hello(self, expected: int, version: int = PROTOCOL_VERSION) -> Hello | OldHello:
        """Introduce this member."""
        formed, roster = self._known(), self._roster
        peers: dict[int, bytes] = {}
        if roster is not None and formed is not None:
            peers = {n: self._mark_of(roster, n) for n in roster.membership.members}
        return introduce(
            self._identity,
            self._myself,
            version=version,
            expected=expected,
            cluster_id=formed.cluster_id if formed else b"",
            peers=peers,
            voters=formed.voters if formed else (),
        )

    def judge(self, frame: Hello | OldHello, expected: int) -> Goodbye | Removed | None:
        """Refuse a peer, or take note of it.

        Args:
            frame: What it said.
            expected: Whom we dialled; 0 if it dialled us.
        """
        hello = read(frame)
        refused = (
            self._misdirected(frame, hello, expected)
            or self._foreign(hello)
            or self._unwanted(hello)
        )
        if refused is None:
            self._refusers.pop(hello.node_id, None)
            self._learn(hello)
            if isinstance(frame, Hello):
                self.seen[hello.node_id] = hello
            self.on_seen(hello)
        return refused

    def note_certain(self, removed: Iterable[int]) -> None:
        """Let these be told that they were removed: a majority without them knows."""
        self._certain = tuple(removed)
        self._knocked.clear()

    @property
    def has_knocked(self) -> bool:
        """Whether one that was removed came, and could not be told yet."""
        return bool(self._knocked)

    def is_removed(self, peer: int) -> bool:
        """Tell whether a peer was a member, as far as this node knows, and is none."""
        return self._roster is not None and peer in self._roster.removed

    def dismissal(self, peer: int) -> Removed | None:
        """Return what to say to a peer that was removed; None if it may not be told."""
        if not self.is_removed(peer) or peer not in self._certain:
            return None
        return Removed(
            f"member {peer} was removed from the cluster, and its id is not used again;"
            " to bring the machine back, clear its data directory and add it with"
            " `raftctl member add`"
        )

    def refused(self, peer: int, goodbye: Goodbye | Removed) -> None:
        """Take note that a peer will not talk to us; stop if that is final."""
        if not isinstance(goodbye, Removed) and not goodbye.is_final:
            return
        if isinstance(goodbye, Removed) or self._known() is None:
            self._ban(goodbye.sentence)
        elif peer in self._voters:  # a stranger's word does not count
            self._refusers[peer] = goodbye.sentence
            if len(self._refusers) > len(self._voters) // 2:
                self._ban(goodbye.sentence)

    @property
    def _voters(self) -> tuple[NodeId, ...]:
        return self._roster.membership.voters if self._roster is not None else ()

    def _known(self) -> Formed | None:
        return self.formed.result() if self.formed.done() else None

    def _mark_of(self, roster: Roster, node_id: int) -> bytes:
        record = roster.get(node_id)
        return record.incarnation if record is not None else b""

    # --- judging --------------------------------------------------------------------

    def _misdirected(
        self, frame: Hello | OldHello, hello: Hello, expected: int
    ) -> Goodbye | None:
        me = self._identity.node_id
        is_old = isinstance(frame, OldHello)
        if (hello.version == OLD_VERSION) != is_old or hello.version < OLD_VERSION:
            return Goodbye(
                f"member {hello.node_id} speaks version {hello.version} of the peer"
                f" protocol, member {me} versions {OLD_VERSION} and {PROTOCOL_VERSION}"
            )
        if hello.expected not in (0, me):
            return Goodbye(
                f"member {hello.expected} was expected here, but this is member {me};"
                " check the peer addresses"
            )
        if expected and hello.node_id != expected:
            return Goodbye(
                f"member {expected} was expected, but member {hello.node_id} answered;"
                " check the peer addresses"
            )
        if hello.node_id == me:
            return Goodbye(
                f"this is member {me} too; every member has an id of its own"
            )
        return None

    def _foreign(self, hello: Hello) -> Goodbye | None:
        identity, formed = self._identity, self._known()
        if hello.cluster_name != identity.cluster_name:
            return Goodbye(
                f"member {hello.node_id} belongs to cluster {hello.cluster_name!r},"
                f" member {identity.node_id} to {identity.cluster_name!r}",
                is_final=True,
            )
        if formed and hello.cluster_id and hello.cluster_id != formed.cluster_id:
            return Goodbye(
                f"the data directory of member {hello.node_id} belongs to another"
                f" cluster of the name {identity.cluster_name!r}",
                is_final=True,
            )
        if hello.limits != self._myself.limits:
            return Goodbye(
                f"member {hello.node_id} is configured with other limits than member"
                f" {identity.node_id}; they must be equal on all members"
            )
        return None

    def _unwanted(self, hello: Hello) -> Goodbye | Removed | None:
        roster, formed = self._roster, self._known()
        if formed is None:
            return None if hello.cluster_id else self._unwanted_blank(hello)
        assert roster is not None, "who is formed has a roster"
        node_id = hello.node_id
        dismissal = self.dismissal(node_id)
        if dismissal is not None:
            return dismissal
        if self.is_removed(node_id):
            self._knocked[node_id] = None
            return Goodbye(
                f"member {node_id} is a member no more; the leader tells it so as soon"
                " as that is certain"
            )
        if hello.level < roster.level:
            return Goodbye(
                f"member {node_id} runs a release of level {hello.level}, but the"
                f" cluster uses what level {roster.level} can do; upgrade it"
            )
        if node_id not in roster.membership.members:
            if hello.cluster_id:
                return None
            return Goodbye(f"member {node_id} is no member of this cluster; {_ADD}")
        mark = self._mark_of(roster, node_id)
        if mark not in (b"", hello.incarnation):
            return Goodbye(
                f"member {node_id} is known under another incarnation: its data"
                f" directory was lost or replaced, and {_REPLACE}",
                is_final=True,
            )
        return None

    def _unwanted_blank(self, hello: Hello) -> Goodbye | None:
        """Neither of us knows a cluster: shall we form one together?"""
        me, node_id = self._identity.node_id, hello.node_id
        if hello.is_joining or self._myself.is_joining:
            who = node_id if hello.is_joining else me
            return Goodbye(
                f"member {who} is to join a cluster, and members {me} and {node_id}"
                " know none yet"
            )
        if node_id not in self._configured:
            return Goodbye(
                f"member {node_id} is not among the others that member {me} is"
                " configured with"
            )
        if hello.origin != self._myself.origin:
            return Goodbye(
                f"members {me} and {node_id} do not begin alike: restore the same"
                " backup with the same members on each, or on none",
                is_final=not hello.origin,
            )
        return None

    # --- learning -------------------------------------------------------------------

    def _learn(self, hello: Hello) -> None:
        if self._known() is not None:
            return
        if hello.cluster_id:
            self._meet_formed(hello)
        else:
            self._marks[hello.node_id] = hello.incarnation
            self._maybe_form()

    def _meet_formed(self, hello: Hello) -> None:
        """A member of a cluster answered us, who know none."""
        me = self._identity
        mark = hello.peers.get(me.node_id)
        if mark == me.incarnation:
            is_joined = me.node_id not in hello.voters
            self._form(
                Formed(hello.cluster_id, dict(hello.peers), hello.voters, is_joined)
            )
        elif mark:
            self._ban(
                f"member {hello.node_id} knows member {me.node_id} under another"
                f" incarnation: this data directory is blank, but the member is not"
                f" new, and {_REPLACE}"
            )
        elif mark is None:
            if not self._myself.is_joining:
                self._ban(
                    f"the cluster of member {hello.node_id} knows no member"
                    f" {me.node_id}; {_ADD}"
                )
        elif self._myself.origin:
            self._ban(
                f"member {me.node_id} is to join a cluster, but its data directory was"
                " restored from a backup; clear it"
            )
        else:
            peers = {**hello.peers, me.node_id: me.incarnation}
            self._form(Formed(hello.cluster_id, peers, hello.voters, is_joined=True))

    def _maybe_form(self) -> None:
        if self._known() or self._myself.is_joining:
            return
        if any(member not in self._marks for member in self._configured):
            return
        marks = {member: self._marks[member] for member in sorted(self._configured)}
        cluster_id = cluster_id_of(self._identity.cluster_name, marks)
        self._form(Formed(cluster_id, marks, tuple(sorted(marks))))

    def _form(self, formed: Formed) -> None:
        records = [
            MemberRecord(NodeId(peer), "", "", "", mark)
            for peer, mark in formed.peers.items()
        ]
        self._roster = first_roster(formed.voters, records)  # until it is stored
        self.formed.set_result(formed)
        event = "cluster_joined" if formed.is_joined else "cluster_formed"
        _logger.info("%s id=%s", event, formed.cluster_id.hex())

    def _ban(self, sentence: str) -> None:
        if not self.banned.done():
            self.banned.set_result(sentence)


def _ignore(_: Hello) -> None:
    return
