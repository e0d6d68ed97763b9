"""A scripted cluster on real sockets: the session protocol, and faults on demand.

Each node has a port of its own, for plain streams and for gRPC, served by threads, so
that a test may block its event loop and still be served. All nodes share one
``FakeState``; only the leader serves streams of sessions, as in the real cluster. What
a node was sent is recorded: ``hellos``, ``messages``, ``state.applied``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, Self

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from raftpb.v1 import (
    cluster_pb2,
    common_pb2,
    kv_pb2,
    leases_pb2,
    queues_pb2,
    sessions_pb2,
)
from tests.client.fake_door import FakeDoor
from tests.client.fake_state import CLUSTER_ID, FakeState, refusal
from tests.client.fake_stream import FakeStream

Handler = Any  # the library's own types cannot be subscripted at run time
Context = Any

BOTH = pytest.mark.parametrize(
    "cluster", [True, False], ids=["plain", "grpc"], indirect=True
)
"""Runs a test over plain streams, and against a member that knows none."""


class FakeNode:
    """One member."""

    def __init__(
        self,
        cluster: FakeCluster,
        node_id: int,
        *,
        knows_plain: bool = True,
        port: int = 0,
    ) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.streams: list[FakeStream] = []
        self.is_mute = False
        """Takes streams and says nothing, like a process that was stopped."""
        self.unary_calls: list[Any] = []
        self._server = grpc.server(ThreadPoolExecutor(32))
        for service, methods in self._handlers().items():
            handler = grpc.method_handlers_generic_handler(service, methods)
            self._server.add_generic_rpc_handlers((handler,))
        self.door = FakeDoor(self._stream_plain, port=port)
        self.door.knows_plain = knows_plain
        self.door.grpc_port = self._server.add_insecure_port("127.0.0.1:0")
        self.port = self.door.port
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()
        self.door.start()

    def stop(self) -> None:
        """Break every connection and close the port."""
        for stream in self.streams:
            stream.end()
        self._server.stop(grace=0).wait()
        self.door.stop()

    @property
    def dialects(self) -> list[str]:
        """How its streams came, in order."""
        return [stream.dialect for stream in self.streams]

    def header(self) -> common_pb2.ResponseHeader:
        """Say where an answer comes from."""
        return common_pb2.ResponseHeader(
            revision=self.cluster.state.revision,
            leader=self.cluster.leader,
            cluster_id=CLUSTER_ID,
            node_id=self.node_id,
        )

    def _handlers(self) -> dict[str, dict[str, Handler]]:
        return {
            "raftpb.v1.SessionService": {
                "OpenSession": unary(
                    self.open_session, sessions_pb2.OpenSessionRequest
                ),
                "CloseSession": unary(
                    self.close_session, sessions_pb2.CloseSessionRequest
                ),
                "StreamSession": grpc.stream_stream_rpc_method_handler(
                    self.stream_session,
                    sessions_pb2.StreamSessionRequest.FromString,
                    sessions_pb2.StreamSessionResponse.SerializeToString,
                ),
            },
            "raftpb.v1.LeaseService": {
                "KeepAliveLease": unary(
                    self.keep_alive_lease, leases_pb2.KeepAliveLeaseRequest
                )
            },
            "raftpb.v1.KvService": {
                "PutKey": unary(self.put_key, kv_pb2.PutKeyRequest),
                "GetKey": unary(self.get_key, kv_pb2.GetKeyRequest),
            },
            "raftpb.v1.QueueService": {
                "ExtendJob": unary(self.extend_job, queues_pb2.ExtendJobRequest)
            },
            "raftpb.v1.ClusterService": {
                "GetStatus": unary(self.get_status, cluster_pb2.GetStatusRequest),
                "ListMembers": unary(self.list_members, cluster_pb2.ListMembersRequest),
            },
        }

    # --- services ----------------------------------------------------------------

    def stream_session(
        self,
        messages: Iterator[sessions_pb2.StreamSessionRequest],
        context: Context,
    ) -> Iterator[sessions_pb2.StreamSessionResponse]:
        stream = FakeStream(self, "grpc", context.cancel)
        self.streams.append(stream)

        def read() -> None:
            try:
                for message in messages:
                    stream.take(message)
            except grpc.RpcError:
                pass  # cut by either side
            stream.end()

        threading.Thread(target=read, daemon=True).start()
        yield from stream.messages()

    def _stream_plain(self, hang_up: Callable[[], None]) -> FakeStream:
        stream = FakeStream(self, "plain", hang_up)
        self.streams.append(stream)
        return stream

    def open_session(
        self, request: sessions_pb2.OpenSessionRequest, context: Context
    ) -> sessions_pb2.OpenSessionResponse:
        with self.cluster.state.changed:
            self._need_leader(context)
            found = self.cluster.state.open(request.session_key, request.ttl_ms)
            if isinstance(found, common_pb2.Refusal):
                abort(context, found)
            return sessions_pb2.OpenSessionResponse(
                header=self.header(), session_id=found.session_id, ttl_ms=found.ttl_ms
            )

    def close_session(
        self, request: sessions_pb2.CloseSessionRequest, context: Context
    ) -> sessions_pb2.CloseSessionResponse:
        with self.cluster.state.changed:
            self._need_leader(context)
            self.cluster.state.sessions.pop(request.session_id, None)
            self.cluster.state.changed.notify_all()
            return sessions_pb2.CloseSessionResponse(header=self.header())

    def keep_alive_lease(
        self, request: leases_pb2.KeepAliveLeaseRequest, context: Context
    ) -> leases_pb2.KeepAliveLeaseResponse:
        state = self.cluster.state
        with state.changed:
            if not state.renews:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the network is down")
            state.renewals.append(request.lease_id)
            state.changed.notify_all()
            session = state.sessions.get(request.lease_id)
            ttl_ms = state.leases.get(request.lease_id, 0)
            if session is not None:
                ttl_ms = session.ttl_ms
            if session is not None and session.is_closed:
                abort(context, refusal("SESSION_EXPIRED"))
            return leases_pb2.KeepAliveLeaseResponse(
                header=self.header(), ttl_ms=ttl_ms
            )

    def extend_job(
        self, request: queues_pb2.ExtendJobRequest, context: Context
    ) -> queues_pb2.ExtendJobResponse:
        state = self.cluster.state
        with state.changed:
            state.extensions.append(request.job_id)
            state.changed.notify_all()
            if not state.extends:
                abort(context, refusal("RESERVATION_LOST"))
            return queues_pb2.ExtendJobResponse(
                header=self.header(),
                remaining_ms=state.extension_ms,
                cancel_requested=state.wants_cancel,
            )

    def put_key(
        self, request: kv_pb2.PutKeyRequest, context: Context
    ) -> kv_pb2.PutKeyResponse:
        state = self.cluster.state
        with state.changed:
            self.unary_calls.append(request)
            state.changed.notify_all()
            if request.key in state.leaderless_keys:
                abort(context, refusal("NO_LEADER"))
            if request.key in state.full_keys:
                abort(context, refusal("DISK_FULL"))
            session = state.sessions.get(request.write.session_id)
            if session is None:
                abort(context, refusal("SESSION_UNKNOWN", "unknown"))
            first = session.answers.get(request.write.number)
            if first is None:
                abort(context, refusal("SESSION_EXPIRED"))
            return first.put_key

    def get_key(
        self, request: kv_pb2.GetKeyRequest, context: Context
    ) -> kv_pb2.GetKeyResponse:
        with self.cluster.state.changed:
            self.unary_calls.append(request)
            header = self.header()
            header.age_ms = 1234
            value = self.cluster.state.keys.get(request.key)
            return kv_pb2.GetKeyResponse(
                header=header,
                found=value is not None,
                key_value=kv_pb2.KeyValue(key=request.key, value=value or b""),
            )

    def get_status(
        self, request: cluster_pb2.GetStatusRequest, context: Context
    ) -> cluster_pb2.GetStatusResponse:
        role = cluster_pb2.MemberStatus.ROLE_LEADER
        return cluster_pb2.GetStatusResponse(
            header=self.header(),
            members=[cluster_pb2.MemberStatus(node_id=self.node_id, role=role)],
        )

    def list_members(
        self, request: cluster_pb2.ListMembersRequest, context: Context
    ) -> cluster_pb2.ListMembersResponse:
        with self.cluster.state.changed:
            self.unary_calls.append(request)
            self.cluster.state.changed.notify_all()
            if not self.cluster.members_index:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
            answer = cluster_pb2.ListMembersResponse(
                header=self.header(), members_index=self.cluster.members_index
            )
            for node_id, address in self.cluster.advertised.items():
                answer.members.add(node_id=node_id, client_address=address)
            return answer

    def _need_leader(self, context: Context) -> None:
        if not self.cluster.leader:
            abort(context, refusal("NO_LEADER"))


class FakeCluster:
    """Nodes 1 to n, of which ``leader`` leads (0 = nobody)."""

    def __init__(self, nodes: int = 1, *, knows_plain: bool = True) -> None:
        self.state = FakeState()
        self.leader = 1
        self.hellos: list[tuple[int, sessions_pb2.StreamHello]] = []
        self.messages: list[sessions_pb2.StreamSessionRequest] = []
        self.held: list[tuple[FakeStream, sessions_pb2.StreamRequest]] = []
        self.watches: list[tuple[FakeStream, sessions_pb2.StreamRequest]] = []
        self.nodes = {
            number: FakeNode(self, number, knows_plain=knows_plain)
            for number in range(1, nodes + 1)
        }
        self.advertised = {number: node.address for number, node in self.nodes.items()}
        self.members_index = 0
        """0 = like the first release, which does not know of changes."""

    @property
    def endpoints(self) -> str:
        """What a client connects to."""
        return ",".join(node.address for node in self.nodes.values())

    def stop(self) -> None:
        """Stop every node."""
        for node in self.nodes.values():
            node.stop()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so, without blocking the loop."""
        await asyncio.to_thread(self.state.until, condition)

    def restart(self, number: int, *, knows_plain: bool) -> FakeNode:
        """Stop a node, and start its next release at the same port."""
        node = self.nodes[number]
        node.stop()
        self.nodes[number] = node = FakeNode(
            self, number, knows_plain=knows_plain, port=node.port
        )
        return node

    def add(self) -> FakeNode:
        """Start one node more, of which nobody is told yet."""
        number = max(self.nodes) + 1
        self.nodes[number] = node = FakeNode(self, number)
        return node

    def have_members(self, *numbers: int, index: int) -> None:
        """Let these be the members as of an entry, and tell all open streams."""
        with self.state.changed:
            self.advertised = {n: self.nodes[n].address for n in numbers}
            self.members_index = index
            told = self.addresses()
            for node in self.nodes.values():
                for stream in node.streams:
                    if stream.is_open:
                        message = sessions_pb2.StreamSessionResponse(
                            members=told, members_index=index
                        )
                        stream.send(message)

    def addresses(self) -> list[sessions_pb2.MemberAddress]:
        """Say who is where."""
        return [
            sessions_pb2.MemberAddress(node_id=node_id, client_address=address)
            for node_id, address in self.advertised.items()
        ]

    def cut_streams(self) -> None:
        """Break every stream."""
        with self.state.changed:
            for node in self.nodes.values():
                for stream in node.streams:
                    stream.cut()

    def release_held(self) -> None:
        """Apply and answer what was held, where the stream is still up."""
        with self.state.changed:
            held, self.held = self.held, []
            for stream, request in held:
                if stream.is_open:
                    stream.apply(request)

    def push(self, index: int, **body: Any) -> None:
        """Send one message of a watch, by the order in which watches began."""
        stream, request = self.watches[index]
        stream.reply(sessions_pb2.StreamReply(tag=request.tag, **body))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def unary(method: Callable[..., Message], request: type[Message]) -> Handler:
    """Serve a method by unary calls."""
    return grpc.unary_unary_rpc_method_handler(
        method, request.FromString, lambda message: message.SerializeToString()
    )


def abort(context: Context, why: common_pb2.Refusal) -> NoReturn:
    """End a unary call with a rich status."""
    info = error_details_pb2.ErrorInfo(
        reason=why.reason,
        domain="raftd",
        metadata={**why.details, "applied": why.applied},
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
    status = status_pb2.Status(code=code, message=why.message, details=[packed])
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort does not return")
