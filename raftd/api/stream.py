"""Session streams: requests in, pipelined and batched; answers out through the sink.

One message may hold many requests; each costs a few microseconds: a look-up in the
table, its translator, and ``submit``. Through gRPC there is one task that reads and one
that writes; a plain connection hands its messages in, and takes answers, without any.
There is one task per watch.

Rules:
* The first message is a hello, and only the first. A session's stream is served by the
  leader: elsewhere it ends at once and says who leads.
* Writes carry a number from 1, reads and watches none. A stream without a session may
  only read and watch.
* A request that makes no sense is refused under its tag and the stream lives on. What
  leaves open which requests were meant (bytes that are no message, a tag in use) ends
  the stream: a refusal under a doubtful tag could be taken for another's outcome.
* Reads are linearizable, which is as fresh as any revision the client can have seen.

Source: SEMANTICS.md section 1; DESIGN.md section 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from functools import partial
from typing import Any, Final, assert_never

from google.protobuf.message import DecodeError

from raftd.api.calls import (
    Call,
    Direct,
    Flow,
    Read,
    Watch,
    WatchPlan,
    Write,
    guard_query,
)
from raftd.api.carriers import MessageWriter, PlainLine
from raftd.api.checks import fences_of, invalid
from raftd.api.limits import DoorLimits
from raftd.api.registry import Table
from raftd.api.relay import Relay
from raftd.api.sessions import check_session_key
from raftd.api.stream_sink import ReplySink
from raftd.node.service import Answered, NodeService, WatchStream, WriteCall
from raftd.statemachine.refusals import too_large, too_many
from raftd.statemachine.schema.base import Fence, Refusal
from raftpb.v1 import sessions_pb2

__all__ = ["StreamDoor"]

_NO_FENCES: Final[tuple[Fence, ...]] = ()


class StreamDoor:
    """Serves StreamSession."""

    def __init__(self, node: NodeService, table: Table, limits: DoorLimits) -> None:
        self._node: Final = node
        self._calls: Final = table.stream_calls
        self._limits: Final = limits
        self._relay: Final = Relay(node)

    async def serve(
        self, messages: AsyncIterable[bytes], writer: MessageWriter
    ) -> None:
        """Serve one stream until it ends or is cancelled."""
        arriving = aiter(messages)
        first = await anext(arriving, None)
        if first is None:
            return
        address = self._relay.leader_address(first)
        if address:
            await self._relay.run(address, first, arriving, writer)
            return
        stream = _Stream(self._node, self._calls, self._limits)
        await stream.run(_from_first(first, arriving), writer)

    async def serve_plain(self, line: PlainLine) -> None:
        """Serve one plain stream until it ends or is cancelled."""
        first = await line.first()
        address = self._relay.leader_address(first)
        if address:
            await self._relay.run(address, first, line.others(), line)
            return
        stream = _Stream(self._node, self._calls, self._limits)
        await stream.run_on(line, first)


async def _from_first(
    first: bytes, others: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    yield first
    async for message in others:
        yield message


class _Stream:
    """One stream."""

    def __init__(
        self, node: NodeService, calls: Mapping[str, Call], limits: DoorLimits
    ) -> None:
        self._node: Final = node
        self._calls: Final = calls
        self._limits: Final = limits
        self._sink: Final = ReplySink(node, limits, self._stop)
        self._pending: Final = self._sink.pending
        self._session = 0
        self._session_key = b""
        self._is_attached = False
        self._is_over = False
        self._reader: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    # --- life ------------------------------------------------------------------------

    async def run(self, messages: AsyncIterator[bytes], writer: MessageWriter) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._reader = tasks.create_task(self._read_all(messages))
                await self._sink.write_all(writer)
        finally:
            self._stop()
            self._sink.abandon()

    async def run_on(self, line: PlainLine, first: bytes) -> None:
        """Serve what a connection hands in."""
        sink = self._sink
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self.take(first)
                sink.on_ready = line.join(self)
                sink.on_ready()
                await sink.ended.wait()
        finally:
            self._stop()
            self._sink.abandon()

    def take(self, raw: bytes) -> None:
        """Take one message; one that makes no sense ends the stream."""
        if self._is_over:
            return
        refusal = self._take_message(raw)
        if refusal is None:
            self._sink.flush()
        else:
            self.refuse(refusal)

    def refuse(self, refusal: Refusal) -> None:
        """End the stream with a reason."""
        self._sink.close(refusal)

    @property
    def is_over(self) -> bool:
        """Whether all that is left is to take its last messages."""
        return self._sink.is_over

    def next_message(self) -> bytes | None:
        """Return all that is ready as one message; None = nothing now."""
        return self._sink.next_message()

    def _stop(self) -> None:
        """Ask and wait for nothing more; what is written still goes out."""
        self._is_over = True
        if self._is_attached:
            self._is_attached = False
            self._node.detach(self._session, self._sink)
        if self._reader is not None:
            self._reader.cancel()
        for watch in self._sink.watches.values():
            watch.cancel()

    async def _read_all(self, messages: AsyncIterator[bytes]) -> None:
        """Take messages until there are no more, or one ends the stream."""
        async for raw in messages:
            self.take(raw)
        self._sink.last_request_in()

    # --- messages --------------------------------------------------------------------

    def _take_message(self, raw: bytes) -> Refusal | None:
        """Take what a message holds; a refusal ends the stream."""
        try:
            message = sessions_pb2.StreamSessionRequest.FromString(raw)
        except DecodeError:
            return invalid("the bytes are no message of a session stream")
        if message.HasField("hello"):
            refusal = self._take_hello(message.hello)
            if refusal is not None:
                return refusal
        elif not self._is_attached:
            return invalid("the first message of a stream carries a hello")
        for tag in message.cancel_tags:
            watch = self._sink.watches.pop(tag, None)
            if watch is not None:
                watch.cancel()
        if message.keepalive or message.keepalive_leases:
            refusal = self._renew(message)
            if refusal is not None:
                return refusal
        return self._take_requests(message, len(raw))

    def _take_hello(self, hello: sessions_pb2.StreamHello) -> Refusal | None:
        if self._is_attached:
            return invalid("only the first message of a stream carries a hello")
        session, key = hello.session_id, hello.session_key
        if session:
            refusal = check_session_key(key)
        else:
            refusal = invalid("a session key comes with its session") if key else None
        refusal = refusal or self._node.attach(session, key, self._sink)
        if refusal is not None:
            return refusal
        self._session, self._session_key = session, key
        self._is_attached = True
        ttl_ms, number_max = 0, 0
        if session:
            machine = self._node.machine
            ttl_ms = machine.leases.ttl_ms(session)
            number_max = machine.sessions.number_max(session)
        self._sink.welcome(ttl_ms, number_max)
        return None

    def _take_requests(
        self, message: sessions_pb2.StreamSessionRequest, size_bytes: int
    ) -> Refusal | None:
        count, limit = len(message.requests), self._limits.message_requests_max
        if count > limit:
            return too_large("the requests", count, "message_requests_max", limit)
        acknowledged = message.acknowledged
        bytes_max = self._limits.request_bytes_max
        is_any_large = size_bytes > bytes_max
        pending, watches = self._pending, self._sink.watches
        for request in message.requests:
            tag = request.tag
            if tag in pending or tag in watches:
                return invalid(f"tag {tag} is in use on this stream", tag=str(tag))
            call = self._calls.get(request.WhichOneof("body") or "")
            refusal: Refusal | None
            if is_any_large and request.ByteSize() > bytes_max:
                refusal = too_large(
                    "the request", request.ByteSize(), "request_bytes_max", bytes_max
                )
            elif type(call) is Write:
                refusal = self._write(call, request, tag, acknowledged)
            else:
                refusal = self._ask(call, request, tag)
            if refusal is not None:
                self._sink.refuse(tag, refusal)
                if self._is_over:  # more refusals than may wait
                    break
        return None

    def _renew(self, message: sessions_pb2.StreamSessionRequest) -> Refusal | None:
        leases = list(message.keepalive_leases)
        if not self._session:
            return invalid("a stream without a session has nothing to renew")
        limit = self._limits.keepalive_leases_max
        if len(leases) > limit:
            return too_large(
                "the number of leases to renew",
                len(leases),
                "keepalive_leases_max",
                limit,
            )
        done = partial(self._renewed, message.keepalive_id)
        self._node.renew(self._session, leases, done)
        return None

    def _renewed(self, keepalive_id: int, counts: bool, lost: list[int]) -> None:
        if counts:
            self._sink.renewed(keepalive_id, lost)

    def _ask(
        self, call: Call | None, request: sessions_pb2.StreamRequest, tag: int
    ) -> Refusal | None:
        """Begin what is no write, or say why not."""
        if call is None:
            return invalid("the request is empty, or unknown to this version")
        if request.number:
            return invalid(f"{call.field} is no write and carries no number")
        match call:
            case Read():
                return self._read(call, getattr(request, call.field), tag)
            case Watch():
                return self._watch(call, getattr(request, call.field), tag)
            case Write() | Direct() | Flow():
                raise AssertionError(f"{call.field} is not asked on a stream")
            case _:
                assert_never(call)

    # --- requests --------------------------------------------------------------------

    def _write(
        self,
        call: Write,
        request: sessions_pb2.StreamRequest,
        tag: int,
        acknowledged: int,
    ) -> Refusal | None:
        session = self._session
        number = request.number
        if not number or not session:
            return _unnumbered(session)
        sink = self._sink
        if sink.hold_back is not None:
            return sink.hold_back
        body: Any = getattr(request, call.field)
        if body.HasField("write"):
            return invalid(
                "on a stream a write has no header of its own; its number and fences"
                " stand beside it"
            )
        command = call.to_command(body, session)
        if isinstance(command, Refusal):
            return command
        if len(self._pending) >= self._limits.stream_requests_max:
            sink.hold_back = self._too_many_requests()
            return sink.hold_back
        fences = _NO_FENCES
        if request.fences:
            translated = fences_of(request.fences, self._limits)
            if isinstance(translated, Refusal):
                return translated
            fences = translated
        self._pending[tag] = call if call.bind is None else call.bind(body, command)
        self._node.submit(
            WriteCall(
                command=command,
                session=session,
                session_key=self._session_key,
                number=number,
                acknowledged=acknowledged,
                fences=fences,
                wait_ms=0 if call.wait_ms is None else call.wait_ms(body),
            ),
            sink,
            tag,
        )
        return None

    def _read(self, call: Read, body: Any, tag: int) -> Refusal | None:
        if len(self._pending) >= self._limits.stream_requests_max:
            return self._too_many_requests()
        query = call.to_query(body)
        if isinstance(query, Refusal):
            return query
        query = guard_query(call.field, query)
        self._pending[tag] = call
        if body.read.stale:
            machine = self._node.machine
            answered: Any = query(machine)
            self._sink.answer(tag, Answered(answered, machine.revision))
        else:
            self._node.read_soon(query, self._sink, tag)
        return None

    def _watch(self, call: Watch, body: Any, tag: int) -> Refusal | None:
        limit = self._limits.stream_watches_max
        watches = self._sink.watches
        if len(watches) >= limit:
            return too_many("watches on this stream", "stream_watches_max", limit)
        plan = call.to_watch(body)
        if isinstance(plan, Refusal):
            return plan
        watch = self._node.watch(plan.spec)
        if isinstance(watch, Refusal):
            return watch
        assert self._tasks is not None, "requests are read within the group"
        watches[tag] = following = self._tasks.create_task(
            self._follow(call.field, plan, watch, tag)
        )
        # Cancelled before its first turn, a task does not even begin.
        following.add_done_callback(lambda _: watch.close())
        return None

    async def _follow(
        self, field: str, plan: WatchPlan, watch: WatchStream, tag: int
    ) -> None:
        """Pass a watch on, no faster than the client takes it."""
        while True:
            batch = await watch.next()
            for message in plan.to_messages(batch):
                await self._sink.push(tag, field, batch.revision, message)

    def _too_many_requests(self) -> Refusal:
        name, limit = "stream_requests_max", self._limits.stream_requests_max
        return too_many("requests in flight on this stream", name, limit)


def _unnumbered(session: int) -> Refusal:
    if not session:
        return invalid("a stream without a session may only read and watch")
    return invalid("a write on a session stream carries a number from 1")
