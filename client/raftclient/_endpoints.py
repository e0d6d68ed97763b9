"""Which member to talk to next.

Rules: own endpoints come first, because they are known to be reachable from here. A
leader is named by node id; which id is behind an own endpoint is learnt from each
welcome. The address that a member advertises is used only if no own endpoint can be
that member; if that fails too, an own endpoint relays.

Source: DESIGN.md section 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from raftclient.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Endpoints", "Target", "parse_endpoints"]

DEFAULT_PORT: Final = 7400


class Target(msgspec.Struct, frozen=True):
    """Where to open the next stream."""

    address: str
    is_relay: bool = False


def parse_endpoints(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split ``host:port,host:port``; a missing port is 7400.

    Raises:
        InvalidRequest: There is no endpoint in it, or a port is no number.
    """
    parts = text.split(",") if isinstance(text, str) else text
    found = []
    for part in (part.strip() for part in parts):
        if not part:
            continue
        host, colon, port = part.rpartition(":")
        is_bare_ipv6 = part.count(":") > 1 and not part.startswith("[")
        if not colon or is_bare_ipv6 or part.endswith("]"):
            host, port = (f"[{part}]" if is_bare_ipv6 else part), str(DEFAULT_PORT)
        if not host or not port.isascii() or not port.isdigit():
            raise InvalidRequest(f"{part!r} is not an endpoint like host:7400")
        found.append(f"{host}:{port}")
    if not found:
        raise InvalidRequest("at least one endpoint is needed, like host:7400")
    return tuple(dict.fromkeys(found))


class Endpoints:
    """The members of a cluster as this client may reach them."""

    def __init__(self, own: Sequence[str]) -> None:
        self._own: Final = tuple(own)
        self._node_ids: dict[str, int] = {}
        self._advertised: dict[int, str] = {}
        self._leader = 0
        self._failed: set[str] = set()
        self._turn = 0

    @property
    def own(self) -> tuple[str, ...]:
        """The endpoints that the caller named."""
        return self._own

    def learn(self, address: str, node_id: int, members: dict[int, str]) -> None:
        """Note who is behind an address, and where members say they are."""
        self._node_ids[address] = node_id
        self._advertised.update((i, a) for i, a in members.items() if a)

    def redirect(self, leader: int, leader_address: str) -> None:
        """Note who leads; 0 = nobody knows."""
        if leader and leader_address:
            self._advertised[leader] = leader_address
        if leader != self._leader:
            self._leader = leader
            self._failed.clear()

    def succeeded(self, address: str) -> None:
        """A stream is up here: all earlier failures are history."""
        self._failed.clear()
        self._turn = self._own.index(address) if address in self._own else self._turn

    def failed(self, address: str) -> None:
        """Do not come back here before the others have been tried."""
        self._failed.add(address)
        if self._leader and self._node_ids.get(address) == self._leader:
            self._leader = 0

    def pick(self) -> Target:
        """Choose where to go next."""
        if self._leader:
            target = self._toward_leader(self._leader)
            if target is not None:
                return target
            self._leader = 0
        return Target(self._any())

    def preferred(self) -> str:
        """Choose where to send a unary call: near the leader, else anywhere."""
        for address in self._own:
            is_leader = self._leader and self._node_ids.get(address) == self._leader
            if is_leader and address not in self._failed:
                return address
        return self._any()

    def _toward_leader(self, leader: int) -> Target | None:
        for address in self._own:
            if self._node_ids.get(address) == leader and address not in self._failed:
                return Target(address)
        for address in self._own:
            if address not in self._node_ids and address not in self._failed:
                return Target(address)
        advertised = self._advertised.get(leader)
        if advertised is not None and advertised not in self._failed:
            return Target(advertised)
        for address in self._own:
            if address not in self._failed:
                return Target(address, is_relay=True)
        return None

    def _any(self) -> str:
        learnt = [a for a in self._advertised.values() if a not in self._own]
        for _ in range(2):
            for candidates in (self._own, learnt):
                for step in range(len(candidates)):
                    address = candidates[(self._turn + step) % len(candidates)]
                    if address not in self._failed:
                        return address
            self._failed.clear()
            self._turn += 1
        raise AssertionError("there is always an own endpoint")
