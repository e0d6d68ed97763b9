"""What a session hears over plain streams: frames in any pieces, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from raftclient import aio
from raftclient._plain import GREETING
from raftclient._stream import StreamEnded
from raftclient._unary import Backoff
from raftpb.v1 import common_pb2
from raftpb.v1.sessions_pb2 import StreamSessionResponse
from tests.client.fake_door import framed
from tests.client.loops import on_each_loop
from tests.client.peer import HELLO, WELCOME, found, listening, nothing, said, stream_to

NO_MESSAGE = b"\0\0\0\2\xff\xff"


class Memory(asyncio.Transport):
    """A connection on which a test says what arrives, in which pieces."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        pass

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


def never() -> float:
    raise AssertionError("there is nothing to wait for")


# --- frames --------------------------------------------------------------------------


async def heard(
    pieces: Iterable[bytes], patch: pytest.MonkeyPatch, *, at_once: bool = False
) -> list[StreamSessionResponse]:
    """Return what a stream makes of these pieces, until its end.

    Each comes in a round of the loop of its own, or all of them in one, and the end.
    """

    async def connect(new: Callable[[], asyncio.Protocol], *_: Any) -> Any:
        protocol = new()
        protocol.connection_made(memory := Memory(protocol))

        loop, left = asyncio.get_running_loop(), iter(pieces)

        def arrive() -> None:
            if (piece := next(left, None)) is None:
                protocol.connection_lost(None)
            else:
                protocol.data_received(piece)
                if at_once:
                    arrive()
                else:
                    loop.call_soon(arrive)

        loop.call_soon(arrive)
        return memory, protocol

    patch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    stream = stream_to("127.0.0.1:1")
    messages = [await stream.say_hello(HELLO, 30)]
    with pytest.raises(StreamEnded, match="ended the stream"):
        await stream.carry(messages.append, nothing)
    return messages


LIKE_A_FRAME = framed(said(found(7, b"never sent")))
"""A value at whose beginning a cut is hard to tell from one between two messages."""


@pytest.mark.parametrize("value", [b"", b"x" * 300, LIKE_A_FRAME], ids=len)
async def test_messages_are_put_together_wherever_they_were_cut(
    monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    empty = StreamSessionResponse()
    messages = [WELCOME, said(found(1, value)), empty, said(found(2, value)), empty]
    frames = [GREETING, *map(framed, messages)]
    whole = b"".join(frames)
    for cut in range(1, len(whole)):
        assert await heard([whole[:cut], whole[cut:]], monkeypatch) == messages, cut
        for behind in range(cut + 1, min(cut + 5, len(whole))):
            pieces = whole[:cut], whole[cut:behind], whole[behind:]
            assert await heard(pieces, monkeypatch) == messages, (cut, behind)
    assert await heard([whole], monkeypatch) == messages
    assert await heard(frames, monkeypatch) == messages
    assert await heard(frames, monkeypatch, at_once=True) == messages
    assert await heard([bytes([each]) for each in whole], monkeypatch) == messages


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


# --- ends ----------------------------------------------------------------------------


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
