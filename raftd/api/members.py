"""The members at the doors: who they are, changes, and handing leadership over.

Rules: a member is named by its name or its id, and found in the list of the member
that was asked; the leader judges the change by ids. Whether a change is possible is the
node's word, the door only sees that it can be read.

Source: SEMANTICS.md section 7; RELIABILITY.md rules 39 to 46.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, TypeVar

from raftd.api.calls import Call, Direct
from raftd.api.checks import invalid
from raftd.api.limits import DoorLimits
from raftd.api.serve_flags import serve_flags
from raftd.node.service import (
    AddMember,
    MemberInfo,
    NodeService,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.statemachine.refusals import check_name
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import cluster_pb2

__all__ = ["MemberCalls", "check_address", "find_member", "kind_of"]

TakenIn = TypeVar(
    "TakenIn", cluster_pb2.AddMemberResponse, cluster_pb2.ReplaceMemberResponse
)

_PORT_MAX: Final = 65_535
_ID_MAX: Final = 65_536
"""Of a member that raftd would start with; see the setting node_id."""
_NAME_BYTES_MAX: Final = 64
_APART: Final = frozenset("=@/, ")
"""What stands between the parts of a list of members, and of a command line."""
_ADDRESS_BYTES_MAX: Final = 300
_FOR_EVER_S: Final = 60.0
"""A change that takes longer has no majority."""
_MARGIN_S_MAX: Final = 1.0
_MARGIN_SHARE: Final = 0.2
"""For the way to the leader and back, and a last look there: an answer that comes too
late says less than one that comes early.
"""


class MemberCalls:
    """The calls of ClusterService about members and leadership."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Direct("list_members", _list_members),
            Direct("add_member", self._add_member),
            Direct("remove_member", _remove_member),
            Direct("replace_member", self._replace_member),
            Direct("update_member", self._update_member),
            Direct("transfer_leadership", _transfer_leadership),
        )

    async def _add_member(
        self,
        node: NodeService,
        request: cluster_pb2.AddMemberRequest,
        timeout_s: float | None,
    ) -> cluster_pb2.AddMemberResponse | Refusal:
        refusal = _check_new(request)
        if refusal is not None:
            return refusal
        change = AddMember(
            request.name,
            request.peer_address,
            request.client_address,
            request.node_id,
            request.force,
        )
        response = cluster_pb2.AddMemberResponse()
        return await self._take_in(node, change, timeout_s, response)

    async def _replace_member(
        self,
        node: NodeService,
        request: cluster_pb2.ReplaceMemberRequest,
        timeout_s: float | None,
    ) -> cluster_pb2.ReplaceMemberResponse | Refusal:
        refusal = _check_new(request)
        if refusal is not None:
            return refusal
        old = find_member(node.members, request.old)
        if isinstance(old, Refusal):
            return old
        change = ReplaceMember(
            old.node_id,
            request.name,
            request.peer_address,
            request.client_address,
            request.node_id,
            request.force,
        )
        response = cluster_pb2.ReplaceMemberResponse()
        return await self._take_in(node, change, timeout_s, response)

    async def _take_in(
        self,
        node: NodeService,
        change: AddMember | ReplaceMember,
        timeout_s: float | None,
        response: TakenIn,
    ) -> TakenIn | Refusal:
        """Bring a member in, and tell who it is and how to start it."""
        added = await node.change_members(change, _limit_s(timeout_s))
        if isinstance(added, Refusal):
            return added
        response.serve_flags.extend(await serve_flags(node, added, self._limits))
        _fill_member(response.member, added)
        return response

    async def _update_member(
        self,
        node: NodeService,
        request: cluster_pb2.UpdateMemberRequest,
        timeout_s: float | None,
    ) -> cluster_pb2.UpdateMemberResponse | Refusal:
        member = find_member(node.members, request.member)
        if isinstance(member, Refusal):
            return member
        name, peer, client = request.name, request.peer_address, request.client_address
        if not (name or peer or client):
            return invalid("an update of a member changes its name or an address")
        refusal = _check_optional("peer address", peer) or _check_optional(
            "client address", client
        )
        if refusal is None and name and name != member.name:
            refusal = _check_name(name)
        if refusal is not None:
            return refusal
        change = UpdateMember(member.node_id, name, peer, client)
        updated = await node.change_members(change, _limit_s(timeout_s))
        if isinstance(updated, Refusal):
            return updated
        response = cluster_pb2.UpdateMemberResponse()
        _fill_member(response.member, updated)
        return response


async def _list_members(
    node: NodeService,
    request: cluster_pb2.ListMembersRequest,
    timeout_s: float | None,
) -> cluster_pb2.ListMembersResponse:
    index = node.machine.applied_index
    response = cluster_pb2.ListMembersResponse(members_index=index)
    for member in node.members:
        _fill_member(response.members.add(), member)
    return response


async def _remove_member(
    node: NodeService,
    request: cluster_pb2.RemoveMemberRequest,
    timeout_s: float | None,
) -> cluster_pb2.RemoveMemberResponse | Refusal:
    member = find_member(node.members, request.member)
    if isinstance(member, Refusal):
        return member
    change = RemoveMember(member.node_id, is_forced=request.force)
    removed = await node.change_members(change, _limit_s(timeout_s))
    if isinstance(removed, Refusal):
        return removed
    response = cluster_pb2.RemoveMemberResponse()
    _fill_member(response.member, removed)
    return response


async def _transfer_leadership(
    node: NodeService,
    request: cluster_pb2.TransferLeadershipRequest,
    timeout_s: float | None,
) -> cluster_pb2.TransferLeadershipResponse | Refusal:
    target: int | None = None
    if request.to:
        member = find_member(node.members, request.to)
        if isinstance(member, Refusal):
            return member
        target = member.node_id
    begin_s = time.monotonic()
    leader = await node.transfer_leadership(target, _limit_s(timeout_s))
    if isinstance(leader, Refusal):
        return leader
    paused_ms = round((time.monotonic() - begin_s) * 1000)
    return cluster_pb2.TransferLeadershipResponse(leader=leader, paused_ms=paused_ms)


def _limit_s(timeout_s: float | None) -> float:
    """Return how long the node may take, so that its answer is not too late."""
    if timeout_s is None:
        return _FOR_EVER_S
    return timeout_s - min(_MARGIN_S_MAX, timeout_s * _MARGIN_SHARE)


def find_member(members: Sequence[MemberInfo], text: str) -> MemberInfo | Refusal:
    """Return the member of this name, else the one of this id."""
    if not text:
        return invalid("the member is missing: give its name or id")
    named = [member for member in members if member.name == text]
    if len(named) > 1:  # one replaces the other
        ids = " or ".join(str(member.node_id) for member in named)
        return invalid(f"more than one member is called {text!r}: give an id, {ids}")
    if named:
        return named[0]
    for member in members:
        if str(member.node_id) == text:
            return member
    known = ", ".join(f"{member.name} (id {member.node_id})" for member in members)
    return Refusal(
        Reason.NOT_FOUND, f"there is no member {text!r}; the members are {known}"
    )


def _check_new(
    request: cluster_pb2.AddMemberRequest | cluster_pb2.ReplaceMemberRequest,
) -> Refusal | None:
    return (
        _check_name(request.name)
        or _check_id(request.node_id)
        or check_address("peer address", request.peer_address)
        or _check_optional("client address", request.client_address)
    )


def _check_name(name: str) -> Refusal | None:
    """Refuse a name that could be taken for an id, or for more than one word."""
    refusal = check_name("member", name, _NAME_BYTES_MAX)
    if refusal is not None:
        return refusal
    if name.isdigit():
        return invalid(f"the name {name!r} could be taken for an id; add a letter")
    if not name.isprintable() or _APART.intersection(name):
        return invalid(f"the name {name!r} holds a blank or one of = @ / and comma")
    return None


def _check_id(node_id: int) -> Refusal | None:
    """Refuse an id that raftd would not start with; 0 asks for the next free one."""
    if node_id <= _ID_MAX:
        return None
    return invalid(f"the id {node_id} is too large: ids go from 1 to {_ID_MAX}")


def check_address(what: str, address: str) -> Refusal | None:
    """Refuse what is no ``host:port``."""
    host, colon, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MAX
    is_host = host.isprintable() and " " not in host and "," not in host and host
    if colon and is_port and is_host and len(address) <= _ADDRESS_BYTES_MAX:
        return None
    return invalid(f"the {what} {address[:_ADDRESS_BYTES_MAX]!r} is not host:port")


def _check_optional(what: str, address: str) -> Refusal | None:
    return check_address(what, address) if address else None


def kind_of(kind: str) -> cluster_pb2.MemberKind.ValueType:
    """Return the wire's word for a kind; one that it does not have is unspecified."""
    try:
        return cluster_pb2.MemberKind.Value(f"MEMBER_KIND_{kind.upper()}")
    except ValueError:
        return cluster_pb2.MEMBER_KIND_UNSPECIFIED


def _fill_member(message: cluster_pb2.Member, member: MemberInfo) -> None:
    message.node_id = member.node_id
    message.name = member.name
    message.peer_address = member.peer_address
    message.client_address = member.client_address
    message.kind = kind_of(member.kind)
    message.is_joining = member.is_joining
    message.replaces = member.replaces
