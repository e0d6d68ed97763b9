"""A member that tells what a test wants, on a real socket, for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
import msgspec
from google.protobuf.message import Message

from raftclient import ClusterStatus, MemberKind, MemberRole, MemberStatus
from raftpb.v1 import cluster_pb2, common_pb2
from tests.client.fake_server import abort, unary

__all__ = ["FakeMember", "refusal", "wire_status"]

_UNARY = {
    "ListMembers": cluster_pb2.ListMembersRequest,
    "AddMember": cluster_pb2.AddMemberRequest,
    "RemoveMember": cluster_pb2.RemoveMemberRequest,
    "ReplaceMember": cluster_pb2.ReplaceMemberRequest,
    "UpdateMember": cluster_pb2.UpdateMemberRequest,
    "TransferLeadership": cluster_pb2.TransferLeadershipRequest,
}


def refusal(reason: str, message: str) -> common_pb2.Refusal:
    """Return a refusal after which nothing happened."""
    return common_pb2.Refusal(reason=reason, message=message, applied="no")


class FakeMember:
    """Answers calls about the cluster.

    Attributes:
        looks: What each next status is; the last one stays.
        answers: By method; a refusal, or the response without its header.
        asked: What came in, statuses aside.
        backup: The messages of a backup.
    """

    def __init__(self) -> None:
        self.looks: list[ClusterStatus] = []
        self.answers: dict[str, Message] = {}
        self.asked: list[Message] = []
        self.backup: list[cluster_pb2.StreamBackupResponse] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        handlers: dict[str, Any] = {
            "GetStatus": unary(self._status, cluster_pb2.GetStatusRequest),
            "StreamBackup": grpc.unary_stream_rpc_method_handler(
                self._backup,
                cluster_pb2.StreamBackupRequest.FromString,
                cluster_pb2.StreamBackupResponse.SerializeToString,
            ),
        }
        for name, request in _UNARY.items():
            handlers[name] = unary(self._handler(name), request)
        service = "raftpb.v1.ClusterService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, handlers),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def _status(self, request: cluster_pb2.GetStatusRequest, context: Any) -> Message:
        is_a_look = request.all and len(self.looks) > 1
        found = self.looks.pop(0) if is_a_look else self.looks[0]
        return wire_status(found)

    def _handler(self, name: str) -> Any:
        def handle(request: Message, context: Any) -> Message:
            self.asked.append(request)
            answer = self.answers[name]
            if isinstance(answer, common_pb2.Refusal):
                abort(context, answer)
            return answer

        return handle

    def _backup(
        self, request: cluster_pb2.StreamBackupRequest, context: Any
    ) -> Iterator[cluster_pb2.StreamBackupResponse]:
        yield from self.backup

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=0).wait()


_ROLES = {
    MemberRole.LEADER: cluster_pb2.MemberStatus.ROLE_LEADER,
    MemberRole.FOLLOWER: cluster_pb2.MemberStatus.ROLE_FOLLOWER,
    MemberRole.LEARNER: cluster_pb2.MemberStatus.ROLE_LEARNER,
}


def wire_status(found: ClusterStatus) -> cluster_pb2.GetStatusResponse:
    """Return a status as a member sends it."""
    header = common_pb2.ResponseHeader(
        cluster_id=bytes.fromhex(found.cluster_id),
        leader=found.leader,
        node_id=found.node_id,
        raft_term=found.raft_term,
        revision=found.revision,
    )
    members = [_wire_member(each) for each in found.members]
    return cluster_pb2.GetStatusResponse(header=header, members=members)


def _wire_member(member: MemberStatus) -> cluster_pb2.MemberStatus:
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(member).items()
        if value is not None and name not in {"role", "kind"}
    }
    assert member.kind is not MemberKind.UNKNOWN, "no member says that of itself"
    return cluster_pb2.MemberStatus(
        role=_ROLES.get(member.role, cluster_pb2.MemberStatus.ROLE_UNSPECIFIED),
        kind=cluster_pb2.MemberKind.Value(f"MEMBER_KIND_{member.kind.name}"),
        **fields,
    )
