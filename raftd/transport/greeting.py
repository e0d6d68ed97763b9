"""Who may be talked to, and how a new cluster comes to know itself.

Rules: a cluster is formed when every configured member has shown the incarnation of
its data; its id follows from all of them, so two clusters never share one. Afterwards
a member is accepted only under the incarnation it had then: a blank disk under a known
name is refused and told to stop. A member stops for good only if a majority refuses
it, or, while it is blank, if anybody does.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rule 46.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from typing import Final

from raftd.storage.identity import Identity
from raftd.transport.frames import PROTOCOL_VERSION, Goodbye, Hello

__all__ = ["Formed", "Greeting", "cluster_id_of"]

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Formed:
    """What a cluster is known by."""

    cluster_id: bytes
    peers: dict[int, bytes]


def cluster_id_of(cluster_name: str, incarnations: dict[int, bytes]) -> bytes:
    """Derive the cluster's id, 16 bytes, from all its members' incarnations."""
    digest = hashlib.blake2b(cluster_name.encode(), digest_size=16)
    for node_id in sorted(incarnations):
        digest.update(node_id.to_bytes(8, "big") + incarnations[node_id])
    return digest.digest()


class Greeting:
    """Introduces this member and judges the others."""

    def __init__(
        self, identity: Identity, members: tuple[int, ...], limits: bytes = b""
    ) -> None:
        """Begin from what the data directory says.

        Args:
            identity: Of this member's files.
            members: Ids of all configured members, this one included.
            limits: Digest of the limits that must be equal on all members.
        """
        loop = asyncio.get_running_loop()
        self._identity = identity
        self._members: Final = members
        self._limits: Final = limits
        self._seen: Final[dict[int, bytes]] = {identity.node_id: identity.incarnation}
        self._refusers: Final[dict[int, str]] = {}
        self.formed: Final[asyncio.Future[Formed]] = loop.create_future()
        self.banned: Final[asyncio.Future[str]] = loop.create_future()
        if identity.cluster_id:
            self.formed.set_result(
                Formed(
                    identity.cluster_id,
                    {int(peer): mark for peer, mark in identity.peers.items()},
                )
            )
        self._maybe_form()

    def hello(self, expected: int) -> Hello:
        """Introduce this member."""
        identity = self._identity
        formed = self._known()
        return Hello(
            version=PROTOCOL_VERSION,
            cluster_name=identity.cluster_name,
            cluster_id=formed.cluster_id if formed else b"",
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            peers=formed.peers if formed else {},
            limits=self._limits,
            expected=expected,
        )

    def judge(self, hello: Hello, expected: int) -> Goodbye | None:
        """Refuse a peer, or take note of it.

        Args:
            hello: What it said.
            expected: Whom we dialled; 0 if it dialled us.
        """
        goodbye = self._misdirected(hello, expected) or self._foreign(hello)
        if goodbye is None:
            self._refusers.pop(hello.node_id, None)
            self._learn(hello)
        return goodbye

    def refused(self, peer: int, goodbye: Goodbye) -> None:
        """Take note that a peer will not talk to us; stop if that is final."""
        if not goodbye.is_final:
            return
        self._refusers[peer] = goodbye.sentence
        is_blank = self._known() is None
        if is_blank or len(self._refusers) > len(self._members) // 2:
            self._ban(goodbye.sentence)

    def _known(self) -> Formed | None:
        return self.formed.result() if self.formed.done() else None

    def _misdirected(self, hello: Hello, expected: int) -> Goodbye | None:
        me = self._identity.node_id
        if hello.version != PROTOCOL_VERSION:
            return Goodbye(
                f"member {hello.node_id} speaks version {hello.version} of the peer"
                f" protocol, member {me} version {PROTOCOL_VERSION}"
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
        if hello.node_id == me or hello.node_id not in self._members:
            return Goodbye(
                f"member {hello.node_id} is not among the others that member {me} is"
                " configured with"
            )
        if hello.limits != self._limits:
            return Goodbye(
                f"member {hello.node_id} is configured with other limits than member"
                f" {me}; they must be equal on all members"
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
        if formed is None:
            return None
        if hello.cluster_id and hello.cluster_id != formed.cluster_id:
            return Goodbye(
                f"the data directory of member {hello.node_id} belongs to another"
                f" cluster of the name {identity.cluster_name!r}",
                is_final=True,
            )
        if formed.peers.get(hello.node_id) != hello.incarnation:
            return Goodbye(
                f"member {hello.node_id} is known under another incarnation: its data"
                " directory was lost or replaced, and a blank one may not vote in its"
                " name; restore its data",
                is_final=True,
            )
        return None

    def _learn(self, hello: Hello) -> None:
        if self._known() is not None:
            return
        me = self._identity
        if hello.cluster_id:
            if hello.peers.get(me.node_id) == me.incarnation:
                self.formed.set_result(Formed(hello.cluster_id, dict(hello.peers)))
            else:
                self._ban(
                    f"member {hello.node_id} knows member {me.node_id} under another"
                    " incarnation: this data directory is blank, but the member is"
                    " not new; restore its data"
                )
            return
        self._seen[hello.node_id] = hello.incarnation
        self._maybe_form()

    def _maybe_form(self) -> None:
        if self.formed.done() or any(m not in self._seen for m in self._members):
            return
        cluster_id = cluster_id_of(self._identity.cluster_name, self._seen)
        self.formed.set_result(Formed(cluster_id, dict(self._seen)))
        _logger.info("cluster_formed id=%s", cluster_id.hex())

    def _ban(self, sentence: str) -> None:
        if not self.banned.done():
            self.banned.set_result(sentence)
