"""How a plain stream is carried: what waits for room, what ends it, who hears of it."""

from __future__ import annotations

import asyncio
import functools

import pytest

from raftclient import Unavailable
from raftclient._stream import StreamEnded
from raftpb.v1.sessions_pb2 import StreamSessionResponse
from tests.client.loops import on_each_loop
from tests.client.peer import (
    found,
    ignore,
    in_frame,
    listening,
    nothing,
    opened,
    said,
    some_turns,
    stream_to,
)

MORE_THAN_FITS = 32 * 1024 * 1024
"""More than both kernels' buffers hold together."""


def taken_from(left: list[bytes]) -> bytes | None:
    """Give the next of these."""
    return left.pop(0) if left else None


# --- room ----------------------------------------------------------------------------


@on_each_loop
async def test_nothing_more_is_written_while_the_other_side_takes_no_more() -> None:
    parts = [bytes([65 + n]) * (MORE_THAN_FITS // 4) for n in range(8)]
    left = parts.copy()
    async with listening() as peer:
        stream, line = await opened(peer)
        give = functools.partial(taken_from, left)
        carrying = asyncio.create_task(stream.carry(ignore, give))
        await some_turns()
        before = len(left)
        assert 0 < before < len(parts)
        stream.ring()
        await some_turns()
        assert len(left) == before, "even if it is rung for"
        for part in parts:
            assert await line.hear_bytes(4 + len(part)) == in_frame(part)
        line.end()
        with pytest.raises(StreamEnded):
            await carrying


@on_each_loop
async def test_what_is_rung_for_is_written() -> None:
    left = [b"one"]
    async with listening() as peer:
        stream, line = await opened(peer)
        give = functools.partial(taken_from, left)
        carrying = asyncio.create_task(stream.carry(ignore, give))
        assert await line.hear_bytes(7) == in_frame(b"one"), "at first, unasked"
        left += [b"two", b"three"]
        stream.ring()
        stream.ring()
        both = in_frame(b"two") + in_frame(b"three")
        assert await line.hear_bytes(len(both)) == both
        stream.cut()
        with pytest.raises(StreamEnded):
            await carrying
        left.append(b"late")
        stream.ring()
        await some_turns()
    assert left == [b"late"], "nobody takes it from there any more"


@on_each_loop
@pytest.mark.parametrize("is_cut_here", [True, False])
async def test_an_end_wakes_who_waits_for_room(*, is_cut_here: bool) -> None:
    left = [b"\0" * MORE_THAN_FITS, b"behind"]
    async with listening() as peer:
        stream, line = await opened(peer)
        give = functools.partial(taken_from, left)
        carrying = asyncio.create_task(stream.carry(ignore, give))
        await some_turns()
        assert left == [b"behind"]
        if is_cut_here:
            stream.cut()
        else:
            line.reset()
        with pytest.raises(StreamEnded):
            await carrying
        with pytest.raises(StreamEnded):
            await stream.send(b"more")
    assert left == [b"behind"], "it is for the next stream"


@on_each_loop
@pytest.mark.parametrize("then", ["is heard", "is cut", "is reset"])
async def test_a_hello_waits_for_room_like_all_else(then: str) -> None:
    async with listening() as peer:
        stream, line = await opened(peer)
        sending = asyncio.create_task(stream.send(b"\0" * MORE_THAN_FITS))
        await some_turns()
        assert not sending.done()
        match then:
            case "is heard":
                await line.hear_bytes(4 + MORE_THAN_FITS)
            case "is cut":
                stream.cut()
            case _:
                line.reset()
        await sending
        stream.cut()


# --- ends --------------------------------------------------------------------------


@on_each_loop
async def test_a_cut_wakes_who_reads_and_the_other_side_hears_the_end() -> None:
    async with listening() as peer:
        stream, line = await opened(peer)
        carrying = asyncio.create_task(stream.carry(ignore, nothing))
        await some_turns()
        assert not carrying.done()
        stream.cut()
        stream.cut()
        with pytest.raises(StreamEnded, match="given up"):
            await carrying
        assert await line.hear_all() == b""


@on_each_loop
async def test_who_is_cancelled_while_it_carries_lets_go_of_the_connection() -> None:
    async with listening() as peer:
        stream, line = await opened(peer)
        carrying = asyncio.create_task(stream.carry(ignore, nothing))
        await some_turns()
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
        assert await line.hear_all() == b""


@on_each_loop
@pytest.mark.parametrize("at_once", [True, False])
async def test_who_takes_may_end_the_stream_and_is_handed_no_more(
    *, at_once: bool
) -> None:
    """Whether the message came before ``carry`` was called, or later."""
    taken: list[int] = []

    def take(message: StreamSessionResponse) -> None:
        taken.append(message.replies[0].tag)
        if len(taken) == 2:
            raise StreamEnded(Unavailable("for this very reason"))

    async with listening() as peer:
        stream, line = await opened(peer)
        messages = [said(found(tag, b"")) for tag in (1, 2, 3)]
        if at_once:
            line.say(*messages)
            await some_turns()
        carrying = asyncio.create_task(stream.carry(take, nothing))
        await some_turns()
        if not at_once:
            line.say(*messages)
        with pytest.raises(StreamEnded, match="for this very reason"):
            await carrying
        assert await line.hear_all() == b""
    assert taken == [1, 2]


@on_each_loop
@pytest.mark.parametrize("is_of_take", [True, False])
async def test_a_crash_of_who_takes_or_gives_is_heard_of(*, is_of_take: bool) -> None:
    def crash(*_: object) -> None:
        raise LookupError("a bug")

    async with listening() as peer:
        stream, line = await opened(peer)
        line.say(said(found(1, b"")))
        with pytest.raises(LookupError, match="a bug"):
            await stream.carry(*((crash, nothing) if is_of_take else (ignore, crash)))
        assert await line.hear_all() == b""


@on_each_loop
async def test_a_stream_that_was_never_opened_may_be_cut() -> None:
    stream = stream_to("127.0.0.1:1")
    stream.cut()
    with pytest.raises(StreamEnded, match="given up"):
        await stream.receive()
