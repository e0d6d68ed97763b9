"""Bytes on the client port, in pieces: from strangers, and from clients gone wrong.

One member is served for all examples, on the loop that nodes run on. Proved: whoever
comes is answered in frames that can be read, or not at all, and its connection ends;
no refusal is INTERNAL, nothing is logged, nothing of it stays behind, and the member
answers at both doors afterwards.

Source: docs/adr/0018; ERRORS.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, Final

import pytest
import uvloop
from hypothesis import strategies as st

from raftd.api.server import ApiServer
from raftd.node.service import WriteCall
from raftpb.v1 import sessions_pb2
from tests.api.doors import HTTP_2, PING, answers_at_both_doors
from tests.api.solo_node import SoloNode
from tests.api.wire import GREETING, Wire, framed, turns
from tests.fuzz.mutation import bad, harmed
from tests.fuzz.profiles import fuzzed
from tests.fuzz.protos import KEY, messages_of
from tests.fuzz.test_api import START, check_reason

PATIENCE_S: Final = 60.0
HELLOS: Final = st.sampled_from(
    [
        sessions_pb2.StreamHello(session_id=2, session_key=KEY),
        sessions_pb2.StreamHello(session_id=2, session_key=KEY, relay=True),
        sessions_pb2.StreamHello(),
    ]
)
CUTS: Final = st.lists(st.integers(1, 60), max_size=6)
ENDS: Final = st.sampled_from(["half_close", "half_close", "close", "reset"])


class Port:
    """A member, served, and all that was logged or raised behind it."""

    def __init__(self) -> None:
        self.node = SoloNode()
        self.server: ApiServer
        self.failures: list[Any] = []
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def in_time() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await work

        self._runner.run(in_time())

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.failures.append(context))
        for command in START:
            await self.node.write(WriteCall(command=command), None)
        self.server = ApiServer(self.node, "127.0.0.1:0")
        await self.server.start()

    def close(self) -> None:
        self.run(self.server.stop(0))
        self._runner.close()

    async def visited(self, data: bytes, cuts: list[int], end: str) -> bytes:
        """Say all of it and go, and return what was answered, as far as it was read."""
        async with await Wire.dial(self.server.port) as wire:
            place = 0
            try:
                for cut in [*cuts, len(data)]:
                    await wire.write(data[place : place + cut])
                    place += cut
                    await turns(1)
                getattr(wire, end)()
            except OSError:  # it was hung up on
                return await wire.read_rest()
            return await wire.read_rest() if end == "half_close" else b""

    async def is_well(self) -> None:
        """See that nothing is left, and that others are served."""
        front: Any = self.server._front  # noqa: SLF001  # no door shows what is left
        while front._visitors or front._streams or front._pipes:  # noqa: SLF001  # as above
            await turns(1)
        assert not self.failures
        await answers_at_both_doors(self.server.port)


class Logged(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self, failures: list[Any]) -> None:
        super().__init__(logging.WARNING)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self._failures.append(record.getMessage())


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    found = Port()
    found.run(found.start())
    logged = Logged(found.failures)
    logging.getLogger("raftd").addHandler(logged)
    yield found
    logging.getLogger("raftd").removeHandler(logged)
    found.close()


def check_answers(answered: bytes) -> None:
    """A plain stream answers in whole frames, and says why it ends, last."""
    if not answered:
        return
    assert answered.startswith(GREETING)
    place, messages = len(GREETING), []
    while place < len(answered):
        end = place + 4 + int.from_bytes(answered[place : place + 4], "big")
        assert end <= len(answered), "a frame was cut off"
        messages.append(
            sessions_pb2.StreamSessionResponse.FromString(answered[place + 4 : end])
        )
        place = end
    for message in messages:
        for reply in message.replies:
            if reply.HasField("refusal"):
                check_reason(reply.refusal.reason, reply.refusal.message)
        if message.HasField("end"):
            check_reason(message.end.refusal.reason, message.end.refusal.message)
            assert message is messages[-1]


@st.composite
def _talks(draw: st.DrawFn) -> bytes:
    """Return a plain stream's bytes, in order."""
    hello = sessions_pb2.StreamSessionRequest(hello=draw(HELLOS))
    messages = draw(
        st.lists(messages_of(sessions_pb2.StreamSessionRequest), max_size=3)
    )
    for message in messages:
        message.ClearField("hello")
    return b"".join(
        framed(message.SerializeToString()) for message in [hello, *messages]
    )


TALKS: Final = _talks()


@fuzzed(60, data=TALKS, cuts=CUTS, end=ENDS)
def test_a_talk_in_order_is_answered(
    port: Port, data: bytes, cuts: list[int], end: str
) -> None:
    async def talk() -> None:
        check_answers(await port.visited(GREETING + data, cuts, end))
        await port.is_well()

    port.run(talk())


@fuzzed(90, data=bad(TALKS), cuts=CUTS, end=ENDS)
def test_a_talk_gone_wrong_ends(
    port: Port, data: bytes, cuts: list[int], end: str
) -> None:
    async def talk() -> None:
        check_answers(await port.visited(GREETING + data, cuts, end))
        await port.is_well()

    port.run(talk())


@st.composite
def _strangers(draw: st.DrawFn) -> bytes:
    """Return bytes of who may not be a client of ours at all."""
    like = draw(
        st.sampled_from([GREETING, HTTP_2 + PING * 2, b"GET / HTTP/1.1\r\n\r\n"])
    )
    data = draw(st.one_of(st.binary(max_size=80), st.just(like)))
    return harmed(draw, data, [GREETING, HTTP_2])


@fuzzed(120, data=_strangers(), cuts=CUTS, end=ENDS)
def test_a_stranger_ends(port: Port, data: bytes, cuts: list[int], end: str) -> None:
    async def talk() -> None:
        answered = await port.visited(data, cuts, end)
        if data.startswith(GREETING):
            check_answers(answered)
        else:
            assert not answered.startswith(GREETING)
        await port.is_well()

    port.run(talk())


@fuzzed(12, visits=st.lists(st.tuples(bad(TALKS), CUTS, ENDS), min_size=2, max_size=8))
def test_many_gone_wrong_at_once_leave_the_others_alone(
    port: Port, visits: list[tuple[bytes, list[int], str]]
) -> None:
    async def talk() -> None:
        answered = await asyncio.gather(
            *[port.visited(GREETING + data, cuts, end) for data, cuts, end in visits]
        )
        for each in answered:
            check_answers(each)
        await port.is_well()

    port.run(talk())
