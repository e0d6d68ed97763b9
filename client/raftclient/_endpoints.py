"""Which member to talk to next.

Rules: own endpoints come first, because they are known to be reachable from here. A
leader is named by node id; which id is behind an own endpoint is learnt from each
welcome. The address that a member advertises is used only if no own endpoint can be
that member; if that fails too, an own endpoint relays.

Members come and go: a list that says as of which log entry it is replaces what was
known before that entry, and who is missing in it is forgotten. An own endpoint is
never forgotten, but the one of a member that left comes last. A list without an index
(of an older member) only adds. Lists come with streams and, by ``ListMembers``, beside
other calls that were answered, also on the keeper's thread.

Source: DESIGN.md section 7; docs/adr/0010.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._clock import boottime_s
from raftclient.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftpb.v1.cluster_pb2 import ListMembersResponse
    from raftpb.v1.common_pb2 import ResponseHeader
    from raftpb.v1.sessions_pb2 import StreamSessionResponse, StreamWelcome

__all__ = ["Endpoints", "Members", "Target", "members_of", "parse_endpoints"]

DEFAULT_PORT: Final = 7400
_PORT_MAX: Final = 65535
ASK_AGAIN_S = 10.0
"""How old a list of members may get while no stream brings a newer one."""
ASK_AT_ONCE_S: Final = 1.0
"""The same after an endpoint has failed."""
STALE_S: Final = 1.0
"""For so long others may still name a leader that has fallen silent, and it is no use
to try there again."""


class Target(msgspec.Struct, frozen=True):
    """Where to open the next stream."""

    address: str
    is_relay: bool = False


class Members(msgspec.Struct, frozen=True):
    """Who the members are.

    Attributes:
        addresses: For clients, by node id; empty = not known yet.
        index: The log entry as of which they are so, 0 = not told.
        cluster_id: Whose log.
    """

    addresses: dict[int, str]
    index: int = 0
    cluster_id: bytes = b""


def members_of(
    told: StreamWelcome | StreamSessionResponse | ListMembersResponse,
    header: ResponseHeader,
) -> Members:
    """Return the members as a message names them."""
    addresses = {each.node_id: each.client_address for each in told.members}
    return Members(addresses, told.members_index, header.cluster_id)


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
        if not host or not _is_port(port):
            raise InvalidRequest(f"{part!r} is not an endpoint like host:7400")
        found.append(f"{host}:{port}")
    if not found:
        raise InvalidRequest("at least one endpoint is needed, like host:7400")
    return tuple(dict.fromkeys(found))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _PORT_MAX


class Endpoints:
    """The members of a cluster as this client may reach them."""

    def __init__(self, own: Sequence[str]) -> None:
        self._own: Final = tuple(own)
        self._lock: Final = threading.Lock()
        self._node_ids: dict[str, int] = {}
        self._advertised: dict[int, str] = {}
        self._gone: frozenset[int] = frozenset()
        self._as_of = (b"", 0)
        self._told_s = boottime_s()  # a client that ends soon need not ask
        self._has_news = False
        self._leader = 0
        self._failed: set[str] = set()
        self._silent_s: dict[str, float] = {}
        self._turn = 0
        self._asked = 0

    @property
    def own(self) -> tuple[str, ...]:
        """The endpoints that the caller named."""
        return self._own

    @property
    def leader(self) -> int:
        """Who leads, as far as known; 0 = nobody knows."""
        return self._leader

    def known(self) -> tuple[str, ...]:
        """Return all addresses of members, in the order in which they deserve trust."""
        return tuple(dict.fromkeys(itertools.chain(*self._ranked())))

    def learn(self, address: str, node_id: int, members: dict[int, str]) -> None:
        """Note who is behind an address, and where members say they are."""
        self._node_ids[address] = node_id
        self.learn_members(Members(members))

    def learn_members(self, members: Members) -> None:
        """Note who the members are; callable from any thread."""
        with self._lock:
            if members.index:
                self._take_list(members)
            else:
                added = _named(members.addresses, but=self._gone)
                self._advertised = self._advertised | added

    def _take_list(self, members: Members) -> None:
        cluster_id, index = self._as_of
        if members.cluster_id != cluster_id:
            self._advertised, self._gone, index = {}, frozenset(), 0
        if members.index < index:
            return
        self._as_of = (members.cluster_id, members.index)
        self._told_s, self._has_news = boottime_s(), False
        present = members.addresses
        gone = {i: a for i, a in self._advertised.items() if i not in present}
        for node_id, address in gone.items():
            self._node_ids.setdefault(address, node_id)
        self._gone = (self._gone | gone.keys()) - present.keys()
        self._advertised = _named(present)

    def wants_members(self) -> bool:
        """Tell whether it is time to ask who the members are; then ask."""
        now_s = boottime_s()
        limit_s = ASK_AT_ONCE_S if self._has_news else ASK_AGAIN_S
        if now_s - self._told_s < limit_s:
            return False
        self._told_s, self._has_news = now_s, False
        return True

    def redirect(self, leader: int, leader_address: str) -> None:
        """Note who leads; 0 = nobody knows.

        A leader that has just fallen silent is not believed in: who names it has not
        found out yet.
        """
        if leader and leader_address:
            self.learn_members(Members({leader: leader_address}))
        if leader != self._leader and not self._has_fallen_silent(leader):
            self._leader = leader
            self._failed.clear()

    def succeeded(self, address: str) -> None:
        """A stream is up here: all earlier failures are history."""
        self._failed.clear()
        self._silent_s.pop(address, None)
        self._turn = self._own.index(address) if address in self._own else self._turn

    def failed(self, address: str, *, is_silent: bool = False) -> None:
        """Do not come back here before the others have been tried.

        Args:
            address: Where.
            is_silent: Nothing came from there; it did not end anything by itself.
        """
        self._failed.add(address)
        if is_silent:
            self._silent_s[address] = boottime_s()
        self._has_news = True
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

    def another(self, than: str) -> str | None:
        """Choose whom to ask beside one member, in turn; None = there is nobody."""
        others = [address for address in self.known() if address != than]
        self._asked += 1
        return others[self._asked % len(others)] if others else None

    def is_other(self, address: str, node_id: int) -> bool:
        """Tell whether another member is known to be behind an address."""
        return self._node_ids.get(address, node_id) != node_id

    def _has_fallen_silent(self, leader: int) -> bool:
        return any(
            self._is_silent(address) and self._node_ids.get(address) == leader
            for address in self._silent_s
        )

    def _is_silent(self, address: str) -> bool:
        return boottime_s() - self._silent_s[address] < STALE_S

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
        """Choose whom to try next: another time it is another's turn.

        To try one that is silent takes long: others come first, even if they failed.
        """
        silent = {address for address in self._silent_s if self._is_silent(address)}
        in_turn = (
            candidates[(self._turn + step) % len(candidates)]
            for candidates in self._ranked()
            for step in range(len(candidates))
        )
        address = min(in_turn, key=lambda each: (each in silent, each in self._failed))
        if address in self._failed:
            self._failed.clear()
            self._turn += 1
        return address

    def _ranked(self) -> tuple[tuple[str, ...], ...]:
        """Group what is known: own endpoints, learnt ones, those of members gone."""
        gone = self._gone
        left = tuple(a for a in self._own if self._node_ids.get(a) in gone)
        own = tuple(a for a in self._own if a not in left)
        learnt = tuple(a for a in self._advertised.values() if a not in self._own)
        return own, learnt, left


def _named(
    addresses: dict[int, str], but: frozenset[int] = frozenset()
) -> dict[int, str]:
    """Leave out who has no address yet."""
    return {i: a for i, a in addresses.items() if a and i not in but}
