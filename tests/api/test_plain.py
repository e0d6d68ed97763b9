"""Plain streams: frames of any size and number, and clients that do not read.

What a stream means is in ``test_stream*.py``, over both carriers.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from raftd.api.server import ApiServer
from raftd.api.stream import StreamDoor
from raftpb.v1 import kv_pb2, sessions_pb2
from tests.api.doors import (
    HELLO,
    answers_at_both_doors,
    get,
    put,
    said,
    served,
    session_on,
)
from tests.api.solo_node import SoloNode
from tests.api.wire import GREETING, Wire, framed, turns

Request = sessions_pb2.StreamRequest
LIMIT = 1000
TOO_LARGE = "the message is %d, over the limit of 1000 (message_bytes_max)"


def bounded(node: SoloNode) -> contextlib.AbstractAsyncContextManager[ApiServer]:
    return served(node, message_bytes_max=LIMIT, request_bytes_max=LIMIT // 2)


def of_size(number: int, size: int) -> bytes:
    """Return a put whose message has so many bytes."""
    over = len(said(put(number, bytes(size)))) - 4 - size
    found = said(put(number, bytes(size - over)))
    assert len(found) == size + 4
    return found


async def tags_on(wire: Wire, count: int) -> list[int]:
    """Read so many replies."""
    tags: list[int] = []
    while len(tags) < count:
        tags += [reply.tag for reply in (await wire.answer()).replies]
    return tags


# --- frames -------------------------------------------------------------------------


async def test_each_frame_is_a_message_however_they_come(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        stream = b"".join(said(put(number)) for number in range(1, 31))
        for start in range(0, len(stream), 7):
            await wire.write(stream[start : start + 7])
            await turns(1)
        assert await tags_on(wire, 30) == list(range(1, 31))
        await wire.write(b"".join(said(put(number)) for number in range(31, 2031)))
        assert await tags_on(wire, 2000) == list(range(31, 2031))


async def test_the_largest_message_is_taken_and_a_larger_one_ends_the_stream(
    node: SoloNode,
) -> None:
    async with bounded(node) as server, session_on(node, server.port) as wire:
        await wire.write(of_size(1, LIMIT))
        (refused,) = (await wire.answer()).replies
        assert refused.refusal.details["limit_name"] == "request_bytes_max"
        await wire.write(said(put(2)) + of_size(3, LIMIT + 1))
        messages = await wire.answers()
        assert [reply.tag for each in messages for reply in each.replies] in ([2], [])
        end = messages[-1].end
        assert end.refusal.reason == "TOO_LARGE"
        assert end.refusal.message == TOO_LARGE % (LIMIT + 1)
        await node.is_detached.wait()
        assert node.machine.leases.is_alive(node.detached[0]), "the session lives on"
        await answers_at_both_doors(server.port)


@pytest.mark.parametrize("before", [b"", HELLO])
@pytest.mark.parametrize("size", [LIMIT + 1, 0xFFFF_FFFF])
async def test_a_length_over_the_limit_is_refused_before_its_bytes_are_there(
    node: SoloNode, before: bytes, size: int
) -> None:
    async with (
        bounded(node) as server,
        asyncio.timeout(60),
        await Wire.dial(server.port) as wire,
    ):
        await wire.write(GREETING + before + size.to_bytes(4, "big"))
        await wire.greeted()
        refusal = (await wire.answers())[-1].end.refusal
        assert (refusal.reason, refusal.message) == ("TOO_LARGE", TOO_LARGE % size)
        assert refusal.details["size"] == str(size)


@pytest.mark.parametrize("before", [b"", HELLO])
async def test_who_is_still_sending_hears_why_it_ends(
    server: ApiServer, before: bytes
) -> None:
    """What was not read must not cost it the last message."""
    size = (16 << 20) + 1
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.greet()
        await wire.write(before)
        sending = asyncio.create_task(wire.write(size.to_bytes(4, "big") + bytes(size)))
        last = (await wire.answers())[-1]
        assert last.end.refusal.reason == "TOO_LARGE"
        await asyncio.gather(sending, return_exceptions=True)


async def test_who_never_stops_sending_is_hung_up_on(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftd.api.plain.LINGER_S", 0.05)
    async with bounded(node) as server, session_on(node, server.port) as wire:
        await wire.write(of_size(1, LIMIT + 1))
        assert (await wire.answers())[-1].end.refusal.reason == "TOO_LARGE"

        async def write_for_ever() -> None:
            while True:
                await wire.write(bytes(1 << 16))

        with pytest.raises(ConnectionError):
            await write_for_ever()


async def test_an_empty_frame_is_an_empty_message(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        await wire.write(framed(b"") * 3 + said(put(1)) + framed(b"") + said(put(2)))
        assert await tags_on(wire, 2) == [1, 2]
    async with await Wire.dial(server.port) as wire:
        await wire.write(GREETING + framed(b""))
        await wire.greeted()
        (message,) = await wire.answers()
        sentence = "the first message of a stream carries a hello"
        assert message.end.refusal.message == sentence


@pytest.mark.parametrize("before", [b"", HELLO])
async def test_bytes_that_are_no_message_end_the_stream(
    server: ApiServer, before: bytes
) -> None:
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.write(GREETING + before + framed(b"\xff\xff\xff") + said(get(7)))
        await wire.greeted()
        messages = await wire.answers()
        refusal = messages[-1].end.refusal
        assert refusal.reason == "INVALID_REQUEST"
        assert refusal.message == "the bytes are no message of a session stream"
        assert not [reply for each in messages for reply in each.replies]
    await answers_at_both_doors(server.port)


# --- clients that do not read -------------------------------------------------------


async def test_who_does_not_read_loses_its_stream_and_others_nothing(
    node: SoloNode,
) -> None:
    """What waits for it is bounded, in the sink and on the connection."""
    value = bytes(1 << 20)
    async with (
        served(node, stream_queued_bytes_max=4 << 20) as server,
        session_on(node, server.port) as other,
        session_on(node, server.port, receives_bytes=1 << 16) as wire,
    ):
        await other.write(said(put(1, value)))
        assert await tags_on(other, 1) == [1]
        for tag in range(1, 65):
            await wire.write(said(get(tag)))
            await other.write(said(get(100 + tag, b"none")))
            assert await tags_on(other, 1) == [100 + tag]
        await node.is_detached.wait()
        # It may go on sending; nobody keeps that.
        for tag in range(100, 110):
            await wire.write(said(get(tag)))
            await answers_at_both_doors(server.port)
        messages = await wire.answers()
        assert len(messages) < 32, "most of it was given up"
        refusal = messages[-1].end.refusal
        assert refusal.reason == "OVERLOADED"
        assert refusal.details["limit_name"] == "stream_queued_bytes_max"
        await other.write(said(get(9, b"none")))
        assert await tags_on(other, 1) == [9]
        (lost,) = filter(None, node.detached)
        assert node.machine.leases.is_alive(lost)


async def test_who_does_not_read_may_not_fill_memory_by_what_it_sends(
    node: SoloNode,
) -> None:
    """With its answers waiting for it, it sends on and on, and then reads."""
    async with (
        served(node, stream_queued_bytes_max=64 << 10) as server,
        session_on(node, server.port, receives_bytes=1 << 16) as wire,
    ):
        await wire.write(said(put(1, bytes(1 << 20))))
        for tag in range(2, 20):
            await wire.write(said(get(tag)))
        await node.is_detached.wait()
        (stream,) = server._front._streams  # noqa: SLF001  # what it keeps is the test
        piece = said(*[get(tag, bytes(1000)) for tag in range(64)]) * 16
        sent = 0
        while sent < (48 << 20):
            some = wire.write_some(piece[sent % len(piece) :])
            await turns(2)
            if not some:
                break
            sent += some
            assert stream._early_bytes < (2 << 20)  # noqa: SLF001  # as above
        assert (await wire.answers())[-1].end.refusal.reason == "OVERLOADED"


async def test_a_watch_of_who_does_not_read_waits_and_misses_nothing(
    node: SoloNode,
) -> None:
    async with (
        served(
            node,
            stream_watch_bytes_max=1 << 20,
            stream_queued_bytes_max=8 << 20,
            page_bytes_max=1 << 18,
        ) as server,
        session_on(node, server.port) as other,
        session_on(node, server.port, receives_bytes=1 << 16) as wire,
    ):
        body = kv_pb2.WatchKeysRequest(to_last=True)
        await wire.write(said(Request(tag=7, watch_keys=body)))
        value = bytes(1 << 17)
        for number in range(1, 161):
            await other.write(said(put(number, value)))
            assert await tags_on(other, 1) == [number]
        assert not node.detached
        seen: list[int] = []
        while len(seen) < 160:
            for reply in (await wire.answer()).replies:
                seen += [event.revision for event in reply.watch_keys.events]
        assert seen == sorted(set(seen))


async def test_answers_come_when_there_is_room_again(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port, receives_bytes=1 << 16) as wire:
        await wire.write(said(put(1, bytes(1 << 20))))
        assert await tags_on(wire, 1) == [1]
        await wire.write(said(*[get(tag) for tag in range(2, 34)]))
        await turns(100)
        (stream,) = server._front._streams  # noqa: SLF001  # what it keeps is the test
        transport = stream._transport  # noqa: SLF001  # as above
        assert transport is not None
        assert transport.get_write_buffer_size() < (4 << 20), "the rest can wait"
        assert await tags_on(wire, 32) == list(range(2, 34))
        await wire.write(said(put(40)))
        assert await tags_on(wire, 1) == [40]


# --- faults within ------------------------------------------------------------------


@pytest.mark.parametrize("place", ["serve_plain", "take", "next_message"])
async def test_a_fault_of_ours_ends_the_stream_and_is_logged(
    server: ApiServer,
    node: SoloNode,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a fault of ours")

    async with session_on(node, server.port) as other:
        with monkeypatch.context() as broken:
            if place == "serve_plain":
                broken.setattr(StreamDoor, place, fail)
            else:
                broken.setattr(f"raftd.api.stream._Stream.{place}", fail)
            async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
                await wire.write(GREETING + HELLO)
                assert await wire.read_rest() in (GREETING, b"")
        (record,) = caplog.records
        assert record.getMessage() == "stream_failed"
        assert record.exc_info is not None
        await other.write(said(put(1)))
        assert await tags_on(other, 1) == [1]
    await answers_at_both_doors(server.port)
