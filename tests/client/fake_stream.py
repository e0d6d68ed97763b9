"""One session stream of the scripted cluster.

It greets, redirects and answers as a member does, except where ``FakeState.behave``
says otherwise; what it is sent is recorded with the cluster.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from raftpb.v1 import common_pb2, sessions_pb2
from tests.client.fake_state import Act, FakeSession, refusal

if TYPE_CHECKING:
    from tests.client.fake_server import FakeNode


class FakeStream:
    """One open session stream.

    Attributes:
        dialect: How it came: "plain" or "grpc".
    """

    def __init__(
        self, node: FakeNode, dialect: str, hang_up: Callable[[], None]
    ) -> None:
        self.node = node
        self.state = node.cluster.state
        self.session: FakeSession | None = None
        self.is_open = True
        self.dialect = dialect
        self._hang_up = hang_up
        self._out: queue.SimpleQueue[sessions_pb2.StreamSessionResponse | None] = (
            queue.SimpleQueue()
        )

    def messages(self) -> Iterator[sessions_pb2.StreamSessionResponse]:
        """Yield what goes to the client."""
        while (message := self._out.get()) is not None:
            yield message

    def send(self, message: sessions_pb2.StreamSessionResponse) -> None:
        """Queue a message, with its header."""
        message.header.CopyFrom(self.node.header())
        self._out.put(message)

    def reply(self, *replies: sessions_pb2.StreamReply) -> None:
        """Queue replies as one message."""
        self.send(sessions_pb2.StreamSessionResponse(replies=replies))

    def end(self, why: common_pb2.Refusal | None = None) -> None:
        """Say why, if told, and end the stream in good order."""
        if why is not None:
            leader = self.node.cluster.leader
            message = sessions_pb2.StreamSessionResponse()
            message.end.refusal.CopyFrom(why)
            message.end.leader = leader
            message.end.leader_address = self.node.cluster.advertised.get(leader, "")
            self.send(message)
        self._note_end()
        self._out.put(None)

    def cut(self) -> None:
        """Break the stream, without a word."""
        self._note_end()
        self._hang_up()
        self._out.put(None)

    def _note_end(self) -> None:
        """Take nothing more, and have it known."""
        with self.state.changed:
            self.is_open = False
            self.state.changed.notify_all()

    def take(self, message: sessions_pb2.StreamSessionRequest) -> None:
        """Take one message of the client."""
        with self.state.changed:
            if self.node.is_mute:
                return
            self.node.cluster.messages.append(message)
            self.state.changed.notify_all()
            if message.HasField("hello"):
                self._greet(message.hello)
            if self.session is not None and message.acknowledged:
                self.session.acknowledged = message.acknowledged
            if message.keepalive:
                self.send(
                    sessions_pb2.StreamSessionResponse(
                        keepalive_id=message.keepalive_id
                    )
                )
            for request in message.requests:
                if self.is_open:
                    self._take_request(request)

    def _greet(self, hello: sessions_pb2.StreamHello) -> None:
        cluster = self.node.cluster
        cluster.hellos.append((self.node.node_id, hello))
        if cluster.leader != self.node.node_id and not hello.relay:
            self.end(refusal("NOT_LEADER" if cluster.leader else "NO_LEADER"))
            return
        if hello.session_id:
            self.session = self.state.sessions.get(hello.session_id)
            if self.session is None or self.session.is_closed:
                is_known = self.session is not None
                self.end(
                    refusal("SESSION_EXPIRED")
                    if is_known
                    else refusal("SESSION_UNKNOWN", "unknown")
                )
                return
        welcome = sessions_pb2.StreamWelcome(
            node_id=self.node.node_id,
            members=cluster.addresses(),
            members_index=cluster.members_index,
        )
        self.send(sessions_pb2.StreamSessionResponse(welcome=welcome))

    def _take_request(self, request: sessions_pb2.StreamRequest) -> None:
        kind = request.WhichOneof("body")
        if kind in {"watch_keys", "observe_election", "watch_jobs"}:
            self.node.cluster.watches.append((self, request))
            return
        if not request.number:
            self.read(request)
            return
        act = self.state.behave(request)
        match act:
            case common_pb2.Refusal():
                self.reply(sessions_pb2.StreamReply(tag=request.tag, refusal=act))
            case Act.ANSWER:
                self.apply(request)
            case Act.HOLD:
                self.node.cluster.held.append((self, request))
            case Act.APPLY_AND_CUT:
                self.apply(request, is_silent=True)
                self.cut()
            case Act.CUT:
                self.cut()

    def apply(
        self, request: sessions_pb2.StreamRequest, *, is_silent: bool = False
    ) -> None:
        """Apply a write and answer it."""

        def answer(reply: sessions_pb2.StreamReply) -> None:
            if not is_silent:
                out = sessions_pb2.StreamReply()
                out.CopyFrom(reply)
                out.tag = request.tag
                self.reply(out)

        assert self.session is not None, "writes belong to a session"
        self.state.write(self.session, request, answer)

    def read(self, request: sessions_pb2.StreamRequest) -> None:
        """Answer a read."""
        reply = sessions_pb2.StreamReply(tag=request.tag, revision=self.state.revision)
        kind = request.WhichOneof("body")
        if kind == "get_key":
            value = self.state.keys.get(request.get_key.key)
            reply.get_key.found = value is not None
            reply.get_key.key_value.value = value or b""
        else:
            assert kind is not None, "a request has a body"
            getattr(reply, kind).SetInParent()
        self.reply(reply)
