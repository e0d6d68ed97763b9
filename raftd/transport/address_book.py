"""Where each member may be dialled: what it said itself, what is configured, the log.

Rules: an id is who somebody is, an address only where to look. Several may be known for
one id, and they are tried in turn: the one the member told last, the configured one,
the one in the roster. The configured list is no more than that: addresses to try.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rule 46.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftd.consensus.types import NodeId
from raftd.node.roster import MEMBERS_MAX, Roster
from raftd.transport.frames import Hello

__all__ = ["Address", "AddressBook", "split_address"]

Address = tuple[str, int]

_PORT_MAX: Final = 2**16 - 1


def split_address(text: str) -> Address | None:
    """Split ``host:port``, IPv6 hosts in brackets; None if it is no such thing."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        return None
    return host, int(port)


class AddressBook:
    """The addresses of all others; see the module's rules."""

    def __init__(self, node_id: int, configured: Mapping[int, str]) -> None:
        """Begin with what the configuration says.

        Args:
            node_id: This member, who is not dialled.
            configured: ``host:port`` by id.
        """
        self._node_id: Final = node_id
        self._configured: Final = dict(configured)
        self._told: Final[dict[int, str]] = {}
        self.roster: Roster | None = None

    def note(self, hello: Hello) -> bool:
        """Take note of where a peer says it is; tell whether that is news."""
        address, node_id = hello.peer_address, hello.node_id
        if split_address(address) is None or self._told.get(node_id) == address:
            return False
        is_known = node_id in self._told or node_id in self._ids(())
        if not is_known and len(self._told) >= 2 * MEMBERS_MAX:
            return False  # strangers enough
        self._told[node_id] = address
        return True

    def peers(self) -> dict[NodeId, tuple[Address, ...]]:
        """Return everyone who is to be dialled, with where to try."""
        return {
            NodeId(node_id): found
            for node_id in self._ids(self._told)
            if (found := self._addresses_of(node_id))
        }

    def _ids(self, more: Iterable[int]) -> list[int]:
        roster = self.roster
        members = roster.membership.members if roster else ()
        removed = roster.removed if roster else ()
        ids = dict.fromkeys((*self._configured, *members, *more))
        return sorted(n for n in ids if n != self._node_id and n not in removed)

    def _addresses_of(self, node_id: int) -> tuple[Address, ...]:
        record = self.roster.get(node_id) if self.roster else None
        texts = (
            self._told.get(node_id, ""),
            self._configured.get(node_id, ""),
            record.peer_address if record else "",
        )
        found = (split_address(text) for text in texts)
        return tuple(dict.fromkeys(address for address in found if address))
