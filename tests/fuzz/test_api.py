"""Requests with anything in them, at every RPC and on session streams.

Proved: each is answered, waits, or is refused by a reason of the error table with one
sentence; none is INTERNAL, none raises, and none leaves the state's indexes wrong.

Source: ERRORS.md; SEMANTICS.md section 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Self

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st

from raftd.api.errors import TABLE
from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.registry import Method, Table
from raftd.api.stream import StreamDoor
from raftd.api.unary import UnaryDoor
from raftd.node.service import WriteCall
from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.elections import Campaign
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.jobs import EnqueueJobs, JobSpec, ReserveJobs
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import GrantLease
from raftd.statemachine.schema.locks import AcquireLock
from raftd.statemachine.schema.sessions import OpenSession
from raftpb.v1 import sessions_pb2
from tests.api.solo_node import SoloNode, hash_key
from tests.fuzz.mutation import bad
from tests.fuzz.profiles import fuzzed
from tests.fuzz.protos import KEY, messages_of

TABLE_OF_CALLS: Final = Table(DEFAULT_DOOR_LIMITS)
DAY_MS: Final = 86_400_000
TURNS: Final = 30
"""Of the loop, for a call to come to its end; what waits then may wait for ever."""

START: Final[tuple[AnyCommand, ...]] = (
    OpenSession(hash_key(KEY), DAY_MS, "first"),
    GrantLease(DAY_MS, "second"),
    PutKey(b"k", b"7", lease=2),
    EnqueueJobs((JobSpec("n", b"p"), JobSpec("m", b""))),
    ReserveJobs(2, (("n", 1),), "w"),
    AcquireLock("n", 2, "a"),
    Campaign("n", 2, "a", b"v"),
)


class Aborted(Exception):
    """The call was ended with a status."""


class Context:
    """What a handler knows of its caller."""

    def __init__(self) -> None:
        self.status: status_pb2.Status | None = None
        self.code = 0
        self.written: list[bytes] = []

    def time_remaining(self) -> float | None:
        return None

    async def write(self, message: bytes) -> None:
        self.written.append(message)

    async def abort(self, code: Any, details: str, trailing: Any) -> None:
        self.code = code
        for key, value in trailing:
            assert key == "grpc-status-details-bin"
            self.status = status_pb2.Status.FromString(value)
        raise Aborted(details)


def check_refusal(context: Context) -> None:
    """A refusal is a row of the table, in one sentence."""
    assert context.status is not None
    info = error_details_pb2.ErrorInfo()
    assert context.status.details[0].Unpack(info)
    check_reason(info.reason, context.status.message)
    assert info.metadata["applied"] in {"no", "unknown"}


def check_reason(reason: str, sentence: str) -> None:
    assert Reason(reason) in TABLE
    assert reason != Reason.INTERNAL
    assert sentence
    assert not sentence.endswith(".")


class World:
    """A node that has a bit of everything, and whatever goes wrong behind calls."""

    def __init__(self) -> None:
        self.node = SoloNode()
        self.failures: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.failures.append(context))
        for command in START:
            await self.node.write(WriteCall(command=command), None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.node.advance(3 * DAY_MS)
        self.node.machine.queues.audit()
        await asyncio.sleep(0)
        assert not self.failures

    async def call(self, method: Method, raw: bytes) -> None:
        """Make one call; it ends, or still waits."""
        doors = UnaryDoor(self.node, TABLE_OF_CALLS, DEFAULT_DOOR_LIMITS).handlers()
        handler: Any = doors[method.service][method.name]
        context = Context()
        if handler.response_streaming:
            work = handler.unary_stream(raw, context)
        else:
            work = handler.unary_unary(raw, context)
        try:
            answer = await in_time(work)
        except Aborted:
            check_refusal(context)
            return
        for each in [*context.written, *([answer] if answer else [])]:
            method.response.FromString(each)


async def in_time(work: Awaitable[Any]) -> Any:
    """Return what comes within some turns of the loop, else nothing."""
    task = asyncio.ensure_future(work)
    for _ in range(TURNS):
        if task.done():
            return await task
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


def in_a_world(test: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        async with World() as world:
            await test(world)

    asyncio.run(run())


def encoded(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data


METHODS: Final = {method.name: method for method in TABLE_OF_CALLS.methods}


@pytest.mark.parametrize("name", METHODS)
@fuzzed(15, data=st.data())
def test_any_request_is_answered_or_refused(name: str, data: st.DataObject) -> None:
    method = METHODS[name]
    requests = data.draw(st.lists(messages_of(method.request), min_size=1, max_size=3))

    async def ask(world: World) -> None:
        for request in requests:
            await world.call(method, request.SerializeToString())

    in_a_world(ask)


@fuzzed(150, data=st.data(), name=st.sampled_from(sorted(METHODS)))
def test_bytes_that_are_no_request_are_refused(name: str, data: st.DataObject) -> None:
    method = METHODS[name]
    good = messages_of(method.request).map(encoded)
    raw = data.draw(bad(good))

    async def ask(world: World) -> None:
        await world.call(method, raw)

    in_a_world(ask)


# --- streams ------------------------------------------------------------------------

HELLO: Final = sessions_pb2.StreamSessionRequest(
    hello=sessions_pb2.StreamHello(session_id=2, session_key=KEY)
)


class Writer:
    """Collects what a stream says."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def write(self, message: bytes) -> None:
        self.said.append(sessions_pb2.StreamSessionResponse.FromString(message))


async def stream(world: World, messages: list[bytes]) -> None:
    """Say all of it on one stream, and judge what comes back."""
    door = StreamDoor(world.node, TABLE_OF_CALLS, DEFAULT_DOOR_LIMITS)

    async def arriving() -> AsyncIterator[bytes]:
        for message in messages:
            yield message
            await asyncio.sleep(0)
        await asyncio.get_running_loop().create_future()

    writer = Writer()
    await in_time(door.serve(arriving(), writer))
    for message in writer.said:
        for reply in message.replies:
            if reply.HasField("refusal"):
                check_reason(reply.refusal.reason, reply.refusal.message)
        if message.HasField("end"):
            check_reason(message.end.refusal.reason, message.end.refusal.message)


@fuzzed(
    200,
    messages=st.lists(messages_of(sessions_pb2.StreamSessionRequest), max_size=4),
    is_greeted=st.booleans(),
)
def test_any_messages_on_a_stream_are_answered_or_refused(
    messages: list[Message], is_greeted: bool
) -> None:
    said = [HELLO.SerializeToString()] if is_greeted else []
    for message in messages:
        if is_greeted:
            message.ClearField("hello")
        said.append(message.SerializeToString())

    async def talk(world: World) -> None:
        await stream(world, said)

    in_a_world(talk)


@fuzzed(
    100,
    raw=bad(messages_of(sessions_pb2.StreamSessionRequest).map(encoded)),
)
def test_bytes_that_are_no_message_end_the_stream(raw: bytes) -> None:
    async def talk(world: World) -> None:
        await stream(world, [HELLO.SerializeToString(), raw])

    in_a_world(talk)
