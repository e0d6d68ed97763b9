"""What a member says of itself, in either version of the greeting.

Source: RELIABILITY.md rules 46 and 54; ``frames``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from raftd.node.member_sight import Shown
from raftd.node.roster import LEVEL
from raftd.storage.identity import Identity
from raftd.transport.frames import (
    OLD_VERSION,
    PROTOCOL_VERSION,
    Goodbye,
    Hello,
    OldHello,
    Removed,
)

__all__ = ["OLD_LEVEL", "Myself", "introduce", "read", "shown_by", "to_version"]

OLD_LEVEL: Final = 1
"""Of who speaks version 1."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Myself:
    """What a member knows of itself beside its data directory.

    Attributes:
        limits: Digest of the limits that must be equal on all members.
        level: What this release can do.
        release: Its version, for people.
        name: As configured; empty if none is.
        peer_address: ``host:port`` where it can be dialled; empty if not known.
        client_address: The same for clients.
        origin: Digest of what the state was restored from; empty if from nothing.
        is_joining: It is to join a cluster, not to form one.
    """

    limits: bytes = b""
    level: int = LEVEL
    release: str = ""
    name: str = ""
    peer_address: str = ""
    client_address: str = ""
    origin: bytes = b""
    is_joining: bool = False


def introduce(
    identity: Identity,
    myself: Myself,
    *,
    version: int,
    expected: int,
    cluster_id: bytes,
    peers: Mapping[int, bytes],
    voters: tuple[int, ...],
) -> Hello | OldHello:
    """Make this member's greeting.

    Args:
        identity: Of its data directory.
        myself: What else it knows of itself.
        version: Of the greeting.
        expected: Who is believed to be on the other side; 0 in an answer.
        cluster_id: Empty before the cluster is known.
        peers: Incarnations of the members, as far as known.
        voters: Those before the first entry of the log.
    """
    if version == OLD_VERSION:
        return OldHello(
            version=OLD_VERSION,
            cluster_name=identity.cluster_name,
            cluster_id=cluster_id,
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            peers={peer: mark for peer, mark in peers.items() if mark},
            limits=myself.limits,
            expected=expected,
        )
    return Hello(
        version=PROTOCOL_VERSION,
        cluster_name=identity.cluster_name,
        cluster_id=cluster_id,
        node_id=identity.node_id,
        incarnation=identity.incarnation,
        peers=dict(peers),
        limits=myself.limits,
        expected=expected,
        level=myself.level,
        release=myself.release,
        name=myself.name,
        peer_address=myself.peer_address,
        client_address=myself.client_address,
        voters=voters,
        origin=myself.origin,
        is_joining=myself.is_joining and not cluster_id,
    )


def read(hello: Hello | OldHello) -> Hello:
    """Read either version as the newer one.

    The members of version 1 never change, so those it knows are also the first ones.
    """
    if isinstance(hello, Hello):
        return hello
    return Hello(
        version=hello.version,
        cluster_name=hello.cluster_name,
        cluster_id=hello.cluster_id,
        node_id=hello.node_id,
        incarnation=hello.incarnation,
        peers=hello.peers,
        limits=hello.limits,
        expected=hello.expected,
        level=OLD_LEVEL,
        voters=tuple(sorted(hello.peers)),
    )


def shown_by(hello: Hello) -> Shown:
    """Return what a peer said of itself."""
    return Shown(
        hello.incarnation,
        hello.level,
        hello.peer_address,
        hello.client_address,
        hello.name,
    )


def to_version(refused: Goodbye | Removed, version: int) -> Goodbye | Removed:
    """Say no in words that the other side knows."""
    if version == OLD_VERSION and isinstance(refused, Removed):
        return Goodbye(refused.sentence, is_final=True)
    return refused
