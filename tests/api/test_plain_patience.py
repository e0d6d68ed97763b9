"""How long the client port waits for whom, and how much it keeps meanwhile.

Source: docs/adr/0018.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import cast

import pytest

from raftd.api import front, plain
from raftd.api.carriers import PlainLine
from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.server import ApiServer
from raftd.api.stream import StreamDoor, _Stream
from raftd.node.refusals import SHUTTING_DOWN
from raftpb.v1 import sessions_pb2
from tests.api.doors import GET, HELLO, get, put, said, served, session_on
from tests.api.solo_node import SoloNode
from tests.api.wire import Wire, framed, turns
from tests.timers import Timers

ACKNOWLEDGED = sessions_pb2.StreamSessionRequest(acknowledged=1).SerializeToString()
RENEWAL = framed(sessions_pb2.StreamSessionRequest(keepalive=True, keepalive_id=7))


async def test_who_greets_and_says_no_more_is_hung_up_on(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "HELLO_S_MAX", 0.05)
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.greet()
        assert await wire.read_rest() == b""


async def test_who_has_said_hello_may_be_silent(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch, "raftd.api.plain.HELLO_S_MAX")
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.greet()
        await wire.write(HELLO)
        await wire.answer()
        async with await Wire.dial(server.port) as silent:
            await silent.greet()
            await timers.go_off(2)
            assert await silent.read_rest() == b"", "their time is over, too"
        await wire.write(GET)
        assert [reply.tag for reply in (await wire.answer()).replies] == [5]


async def test_the_oldest_of_too_many_that_say_nothing_goes(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "VISITORS_MAX", 2)
    monkeypatch.setattr(front, "TELL_S_MAX", 600.0)
    async with (
        asyncio.timeout(60),
        await Wire.dial(server.port) as first,
        await Wire.dial(server.port) as second,
        await Wire.dial(server.port) as third,
    ):
        assert await first.read_rest() == b""
        await second.greet()
        await third.greet()


async def test_a_renewal_that_comes_behind_the_end_says_nothing(
    node: SoloNode, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(node) as server, session_on(node, server.port) as wire:
        node.is_stopped = True
        await wire.write(RENEWAL + said(put(1)))
        await node.has_writes(2)  # the first opened the session
        node.streams.popitem()[1].close(SHUTTING_DOWN)
        last = await wire.answer()
        assert last.end.refusal.reason == "SHUTTING_DOWN"
        node.is_stopped = False
        node.turn()
        assert await wire.frame() is None
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_who_takes_nothing_is_let_go_soon_after_the_end(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last messages wait for room that never comes."""
    monkeypatch.setattr(plain, "LINGER_S", 0.05)
    async with (
        served(node) as server,
        session_on(node, server.port, receives_bytes=1 << 12) as wire,
    ):
        await wire.write(said(put(1, bytes(1 << 20))))
        await wire.answer()
        is_full = asyncio.Event()
        monkeypatch.setattr(plain.PlainStream, "pause_writing", _and_then(is_full.set))
        await wire.write(b"".join(said(get(tag)) for tag in range(10, 42)))
        await is_full.wait()
        node.streams.popitem()[1].close(SHUTTING_DOWN)
        await _all_gone(server)


def _and_then(tell: Callable[[], None]) -> Callable[[plain.PlainStream], None]:
    """Pause as always, and tell it."""
    pause = plain.PlainStream.pause_writing

    def pause_writing(stream: plain.PlainStream) -> None:
        pause(stream)
        tell()

    return pause_writing


async def _all_gone(server: ApiServer) -> None:
    """Wait until no plain stream is open at all."""
    await server._front._is_idle.wait()  # noqa: SLF001  # what a stop waits for


@pytest.mark.parametrize("message", [b"", ACKNOWLEDGED], ids=["empty", "acknowledged"])
async def test_many_small_messages_leave_turns_to_others(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, message: bytes
) -> None:
    """Megabytes of them came in one turn, and the node stood still as long."""
    rounds = 0

    def count() -> None:
        nonlocal rounds
        rounds += 1
        asyncio.get_running_loop().call_soon(count)

    taken: list[int] = []
    take = _Stream.take

    def take_in(stream: _Stream, raw: bytes) -> None:
        taken.append(rounds)
        take(stream, raw)

    monkeypatch.setattr(_Stream, "take", take_in)
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.greet()
        await wire.write(HELLO)
        await wire.answer()
        count()
        await wire.write(framed(message) * 1000 + GET)
        assert [reply.tag for reply in (await wire.answer()).replies] == [5]
    assert len(taken) == 1002
    assert max(map(taken.count, taken)) <= plain.MESSAGES_A_TURN


async def test_an_ended_stream_keeps_nothing_alive(
    node: SoloNode, server: ApiServer
) -> None:
    """The collector of a node looks for circles seldom, and large ones are few."""
    streams: list[weakref.ref[plain.PlainStream]] = []
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.greet()
        streams += map(weakref.ref, server._front._streams)  # noqa: SLF001  # it is there
        await wire.write((1 << 20).to_bytes(4, "big") + bytes(1000))
    assert streams
    gc.collect()
    gc.disable()
    try:
        await _all_gone(server)
        await turns(10)
        kept = [stream() for stream in streams]
    finally:
        gc.enable()
    assert kept == [None] * len(streams)


async def test_a_message_of_too_many_requests_is_refused_as_a_whole(
    node: SoloNode,
) -> None:
    async with (
        served(node, message_requests_max=3) as server,
        session_on(node, server.port) as wire,
    ):
        await wire.write(said(*map(get, range(1, 5))))
        refusal = (await wire.answer()).end.refusal
        assert refusal.reason == "TOO_LARGE"
        assert "message_requests_max" in refusal.message


class _Paused(asyncio.Transport):
    """A connection that notes whether it is read from."""

    is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it nowhere."""

    def pause_reading(self) -> None:
        self.is_paused = True


class _Door:
    """Takes no message at all, as a relay whose leader takes none."""

    async def serve_plain(self, line: PlainLine) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(("count", "is_paused"), [(10, False), (11, True)])
async def test_messages_that_wait_are_counted_though_they_are_empty(
    monkeypatch: pytest.MonkeyPatch, *, count: int, is_paused: bool
) -> None:
    monkeypatch.setattr(plain, "EARLY_BYTES_MAX", 1000)
    monkeypatch.setattr(plain, "PER_MESSAGE_BYTES", 100)
    monkeypatch.setattr(plain, "MESSAGES_A_TURN", 100)
    transport, door = _Paused(), cast("StreamDoor", _Door())
    stream = plain.PlainStream(door, DEFAULT_DOOR_LIMITS, lambda _: None)
    stream.begin(transport, bytes(4 * count))
    assert transport.is_paused is is_paused
    stream.connection_lost(None)
