"""What goes over a plain stream: frames in any pieces, room, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from raftclient import aio
from raftclient._plain import GREETING, PlainStream
from raftclient._stream import StreamEnded
from raftclient._unary import Backoff
from raftpb.v1 import common_pb2
from raftpb.v1.sessions_pb2 import StreamSessionResponse
from tests.client.fake_door import framed
from tests.client.loops import on_each_loop
from tests.client.peer import (
    HELLO,
    WELCOME,
    Line,
    Peer,
    found,
    listening,
    said,
    stream_to,
)

NO_MESSAGE = b"\0\0\0\2\xff\xff"
MORE_THAN_FITS = 32 * 1024 * 1024
"""More than both kernels' buffers hold together."""


class Memory(asyncio.Transport):
    """A connection on which a test says what arrives, in which pieces."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        pass

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


async def opened(peer: Peer) -> tuple[PlainStream, Line]:
    """Open a stream, and take its other end."""
    stream = stream_to(peer.address)
    greeting = asyncio.create_task(stream.say_hello(HELLO, 30))
    line = await peer.line()
    await line.welcome()
    assert (await greeting).HasField("welcome")
    return stream, line


async def some_turns() -> None:
    """Let the loop do what it can do without anything from outside."""
    for _ in range(5):
        await asyncio.sleep(0)


def never() -> float:
    raise AssertionError("there is nothing to wait for")


# --- frames --------------------------------------------------------------------------


async def heard(pieces: Iterable[bytes], patch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what a stream makes of these pieces, until its end."""

    async def connect(new: Callable[[], asyncio.Protocol], *_: Any) -> Any:
        protocol = new()
        protocol.connection_made(memory := Memory(protocol))

        def arrive() -> None:
            for piece in pieces:
                protocol.data_received(piece)
            protocol.connection_lost(None)

        asyncio.get_running_loop().call_soon(arrive)
        return memory, protocol

    patch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    stream = stream_to("127.0.0.1:1")
    values = []
    assert (await stream.say_hello(HELLO, 30)).HasField("welcome")
    with contextlib.suppress(StreamEnded):
        while True:
            message = await stream.receive()
            values += [reply.get_key.key_value.value for reply in message.replies]
    return values


@pytest.mark.parametrize("size", [0, 1, 300])
async def test_messages_are_put_together_wherever_they_were_cut(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    values = [bytes([65 + n]) * size for n in range(3)]
    messages = [said(found(n + 1, value)) for n, value in enumerate(values)]
    whole = GREETING + b"".join(map(framed, [WELCOME, *messages]))
    for cut in range(1, len(whole)):
        assert await heard([whole[:cut], whole[cut:]], monkeypatch) == values, cut
    assert await heard([whole], monkeypatch) == values
    assert await heard([bytes([each]) for each in whole], monkeypatch) == values
    one_by_one = [GREETING, *map(framed, [WELCOME, *messages])]
    assert await heard(one_by_one, monkeypatch) == values


@on_each_loop
async def test_an_answer_of_8_mib_arrives_whole() -> None:
    value = bytes(range(256)) * (8 * 4096)
    async with listening() as peer, aio.connect(peer.address) as client:
        reading = asyncio.create_task(client.get("a", timeout_s=30))
        line = await peer.line()
        await line.welcome()
        line.say(said(found((await line.asked()).tag, value)))
        answer = await reading
    assert answer is not None
    assert answer.value == value


@on_each_loop
async def test_a_frame_that_is_no_message_ends_the_stream_and_not_the_session() -> None:
    async with listening() as peer, aio.connect(peer.address) as client:
        reading = asyncio.create_task(client.get("a", timeout_s=30))
        first = await peer.line()
        await first.welcome()
        tag = (await first.asked()).tag
        first.write(NO_MESSAGE + framed(said(found(tag, b"behind it"))))
        second = await peer.line()
        await second.welcome()
        second.say(said(found((await second.asked()).tag, b"right")))
        answer = await reading
        assert await first.hear_all() == b"", "the client has let go of it"
    assert answer is not None
    assert answer.value == b"right", "nothing is taken from behind such a frame"


# --- room ----------------------------------------------------------------------------


@on_each_loop
async def test_who_sends_waits_while_the_other_side_takes_no_more() -> None:
    async with listening() as peer:
        stream, line = await opened(peer)
        sending = asyncio.create_task(stream.send(b"\0" * MORE_THAN_FITS))
        await some_turns()
        assert not sending.done()
        behind = asyncio.create_task(stream.send(b"behind"))
        await line.hear_bytes(4 + MORE_THAN_FITS)
        await sending
        await behind
        assert await line.hear_bytes(4 + len(b"behind")) == b"\0\0\0\6behind"
        stream.cut()


@on_each_loop
@pytest.mark.parametrize("is_cut_here", [True, False])
async def test_an_end_wakes_who_waits_for_room(*, is_cut_here: bool) -> None:
    async with listening() as peer:
        stream, line = await opened(peer)
        sending = asyncio.create_task(stream.send(b"\0" * MORE_THAN_FITS))
        await some_turns()
        assert not sending.done()
        if is_cut_here:
            stream.cut()
        else:
            line.reset()
        await asyncio.wait({sending})
        assert isinstance(sending.exception(), StreamEnded | None)
        with pytest.raises(StreamEnded):
            await stream.send(b"more")


# --- ends ----------------------------------------------------------------------------


@on_each_loop
async def test_a_cut_wakes_who_reads_and_the_other_side_hears_the_end() -> None:
    async with listening() as peer:
        stream, line = await opened(peer)
        reading = asyncio.create_task(stream.receive())
        await some_turns()
        assert not reading.done()
        stream.cut()
        stream.cut()
        with pytest.raises(StreamEnded, match="given up"):
            await reading
        assert await line.hear_all() == b""


@on_each_loop
async def test_a_stream_that_was_never_opened_may_be_cut() -> None:
    stream = stream_to("127.0.0.1:1")
    stream.cut()
    with pytest.raises(StreamEnded, match="given up"):
        await stream.receive()


@on_each_loop
async def test_answers_that_came_before_the_end_are_not_lost() -> None:
    async with listening() as peer, aio.connect(peer.address) as client:
        reading = [asyncio.create_task(client.get(key)) for key in "ab"]
        line = await peer.line()
        await line.welcome()
        one, two = (await line.hear()).requests
        line.say(said(found(one.tag, b"1")), said(found(two.tag, b"2")))
        line.end()
        answers = await asyncio.gather(*reading)
        assert [each.value for each in answers if each] == [b"1", b"2"]
        assert len(peer.lines) == 1, "asked once"


@on_each_loop
async def test_what_was_not_answered_is_asked_again_after_a_reset() -> None:
    async with listening() as peer, aio.connect(peer.address) as client:
        reading = asyncio.create_task(client.get("a", timeout_s=30))
        first = await peer.line()
        await first.welcome()
        request = await first.asked()
        first.reset()
        second = await peer.line()
        await second.welcome()
        again = await second.asked()
        assert again == request
        second.say(said(found(again.tag, b"1")))
        answer = await reading
    assert answer is not None


def redirect(address: str) -> StreamSessionResponse:
    """Build the last message of who does not lead."""
    last = StreamSessionResponse(header=common_pb2.ResponseHeader(node_id=1))
    last.end.refusal.reason = "NOT_LEADER"
    last.end.refusal.applied = "no"
    last.end.leader = 2
    last.end.leader_address = address
    return last


@on_each_loop
@pytest.mark.parametrize("is_greeted", [True, False])
async def test_who_does_not_lead_says_where_to_go(
    monkeypatch: pytest.MonkeyPatch, *, is_greeted: bool
) -> None:
    monkeypatch.setattr(Backoff, "next_s", lambda backoff: never())
    async with (
        listening() as follower,
        listening() as leader,
        aio.connect(follower.address) as client,
    ):
        reading = [asyncio.create_task(client.get(key)) for key in "ab"]
        first = await follower.line()
        last = redirect(leader.address)
        if is_greeted:
            await first.welcome()
            last.replies.append(found((await first.hear()).requests[0].tag, b"0"))
            first.say(last)
        else:
            await first.hello()
            first.write(GREETING + framed(last))
        first.end()
        second = await leader.line()
        await second.welcome()
        left = (await second.hear()).requests
        second.say(said(*(found(each.tag, b"1") for each in left)))
        answers = await asyncio.gather(*reading)
    expected = [b"0", b"1"] if is_greeted else [b"1", b"1"]
    assert [each.value for each in answers if each] == expected
