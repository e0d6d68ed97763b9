"""What bounds a session stream, and what a client is told at each bound."""

from __future__ import annotations

import dataclasses
from typing import Any

import grpc
import pytest

from raftd.api.limits import DEFAULT_DOOR_LIMITS, DoorLimits
from raftd.node.service import Answered
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import kv_pb2, sessions_pb2
from tests.api.clients import Stubs, session_stream
from tests.api.pipes import Pipe
from tests.api.solo_node import SoloNode

Request = sessions_pb2.StreamRequest


def put(number: int, value: bytes = b"v") -> Request:
    body = kv_pb2.PutKeyRequest(key=b"k", value=value)
    return Request(tag=number, number=number, put_key=body)


def get(tag: int) -> Request:
    return Request(tag=tag, get_key=kv_pb2.GetKeyRequest(key=b"k"))


def watch(tag: int) -> Request:
    return Request(tag=tag, watch_keys=kv_pb2.WatchKeysRequest(to_last=True))


def limits(**changed: int) -> DoorLimits:
    changes: dict[str, Any] = dict(changed)
    return dataclasses.replace(DEFAULT_DOOR_LIMITS, **changes)


async def test_beyond_its_requests_in_flight_a_stream_takes_no_later_number(
    node: SoloNode,
) -> None:
    """Else a later number could overtake the refused one."""
    async with Pipe(node, limits(stream_requests_max=3)) as pipe:
        node.is_stopped = True
        pipe.send(*[put(number) for number in range(1, 6)], get(9))
        refused = await pipe.replies(3)
        assert set(refused) == {4, 5, 9}
        for reply in refused.values():
            assert reply.refusal.reason == "TOO_MANY"
            assert reply.refusal.message == (
                "there are already 3 requests in flight on this stream"
                " (stream_requests_max)"
            )
        node.is_stopped = False
        node.turn()
        await pipe.replies(6)
        pipe.send(put(6), get(10))
        answered = await pipe.replies(8)
        assert answered[3].HasField("put_key")
        assert answered[6].refusal.reason == "TOO_MANY"
        assert answered[10].HasField("get_key")


@pytest.mark.parametrize(
    ("refusal", "holds_back"),
    [
        (Refusal(Reason.NO_LEADER, "nobody leads"), True),
        (Refusal(Reason.OVERLOADED, "too much"), True),
        (Refusal(Reason.TOO_MANY, "full", {"limit_name": "window_bytes_max"}), True),
        (Refusal(Reason.TOO_MANY, "full", {"limit_name": "waiters_max"}), False),
        (Refusal(Reason.PRECONDITION, "no such key"), False),
    ],
)
async def test_a_refusal_for_lack_of_room_or_leader_holds_later_numbers_back(
    node: SoloNode, refusal: Refusal, holds_back: bool
) -> None:
    async with Pipe(node, limits()) as pipe:
        node.is_stopped = True
        pipe.send(put(1))
        await node.has_writes(2)
        sink = next(iter(node.streams.values()))
        sink.answer(1, Answered(refusal, 1))
        sink.flush()
        await pipe.replies(1)
        node.drop_queued()
        node.is_stopped = False
        pipe.send(put(2))
        answered = await pipe.replies(2)
        assert answered[1].refusal.reason == refusal.reason
        assert answered[2].HasField("refusal") is holds_back


async def test_watches_of_a_stream_are_counted(node: SoloNode) -> None:
    async with Pipe(node, limits(stream_watches_max=2)) as pipe:
        pipe.send(watch(1), watch(2), watch(3))
        refusal = (await pipe.replies(1))[3].refusal
        assert refusal.reason == "TOO_MANY"
        assert refusal.message == (
            "there are already 2 watches on this stream (stream_watches_max)"
        )
        pipe.send(watch(4), cancel_tags=[1])
        pipe.send(get(5))
        assert 4 not in await pipe.replies(2)
        assert len(node.watches) == 2


async def test_leases_of_one_keepalive_are_counted(node: SoloNode) -> None:
    async with Pipe(node, limits(keepalive_leases_max=2)) as pipe:
        pipe.send(keepalive=True, keepalive_leases=[1, 2, 3])
        await pipe.ended.wait()
        assert pipe.end().refusal.message == (
            "the number of leases to renew is 3, over the limit of 2"
            " (keepalive_leases_max)"
        )


async def test_one_request_too_large_does_not_harm_its_neighbours(
    node: SoloNode,
) -> None:
    async with Pipe(node, limits(request_bytes_max=1000)) as pipe:
        pipe.send(put(1, bytes(500)), put(2, bytes(2000)), put(3, bytes(500)))
        answered = await pipe.replies(3)
        assert answered[2].refusal.reason == "TOO_LARGE"
        assert answered[2].refusal.details["limit_name"] == "request_bytes_max"
        assert answered[1].HasField("put_key")
        assert answered[3].HasField("put_key")


async def test_answers_are_cut_into_messages_by_count_and_by_bytes(
    node: SoloNode,
) -> None:
    async with Pipe(node, limits(replies_max=10, replies_bytes_max=2000)) as pipe:
        pipe.send(put(1, bytes(1500)), *[put(number) for number in range(2, 26)])
        await pipe.replies(25)
        assert [len(message.replies) for message in pipe.messages[1:]] == [10, 10, 5]
        pipe.send(put(26, bytes(1500)))
        await pipe.replies(26)
        count = len(pipe.messages)
        pipe.send(*[get(tag) for tag in range(31, 36)])
        await pipe.replies(31)
        assert [len(message.replies) for message in pipe.messages[count:]] == [2, 2, 1]


async def test_a_client_that_does_not_read_loses_its_stream_and_not_its_session(
    node: SoloNode,
) -> None:
    bounds = limits(stream_queued_bytes_max=10_000, replies_bytes_max=2000)
    async with Pipe(node, bounds) as pipe:
        pipe.send(put(1, bytes(1000)))
        await pipe.replies(1)
        pipe.reads.clear()
        pipe.send(*[get(tag) for tag in range(2, 40)])
        await node.is_detached.wait()
        pipe.reads.set()
        await pipe.ended.wait()
        assert pipe.end().refusal.reason == "OVERLOADED"
        assert pipe.end().refusal.details["limit_name"] == "stream_queued_bytes_max"
        session = next(iter(node.streams))
        assert node.machine.leases.is_alive(session)


async def test_a_watch_waits_for_a_slow_client_and_misses_nothing(
    node: SoloNode,
) -> None:
    """However much happens, it never grows to the bound that ends a stream."""
    bounds = limits(
        stream_watch_bytes_max=2000,
        stream_queued_bytes_max=20_000,
        page_bytes_max=1000,
    )
    async with Pipe(node, bounds) as pipe:
        pipe.send(watch(1), get(2))
        await pipe.replies(1)
        pipe.reads.clear()
        for number in range(1, 101):
            pipe.send(put(number + 10, bytes(1000)))
            await node.has_writes(number + 1)
            node.turn()
        pipe.reads.set()
        seen: list[int] = []
        while len(seen) < 100:
            await pipe.has_messages(len(pipe.messages) + 1)
            seen = [
                event.revision
                for message in pipe.messages
                for reply in message.replies
                if reply.tag == 1
                for event in reply.watch_keys.events
            ]
        assert seen == sorted(set(seen))


@pytest.mark.parametrize("carrier", ["grpc", "plain"], indirect=True)
async def test_a_message_may_hold_more_than_one_large_request(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        await stream.send(*[put(number, bytes(1 << 20)) for number in range(1, 7)])
        for number in range(1, 7):
            assert (await stream.reply(number)).HasField("put_key")


async def test_a_client_that_refuses_a_message_ends_its_stream_quietly(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(message: bytes) -> None:
        raise grpc.aio.InternalError('Failed "execute_batch"')

    async with Pipe(node, limits()) as pipe:
        pipe.send(watch(1))
        await pipe.replies(1)
        monkeypatch.setattr(pipe, "write", refuse)
        pipe.send(get(2))
        await pipe.ended.wait()
    assert len(node.detached) == 1
    assert caplog.records == []


@pytest.mark.parametrize("last", [put(1), watch(2)], ids=["write", "watch"])
async def test_nothing_is_begun_behind_the_refusal_that_ended_the_stream(
    node: SoloNode, last: Request
) -> None:
    """Nobody would take its answer: a reserve would take its job all the same."""
    bounds = limits(stream_queued_bytes_max=2000, replies_max=10)
    async with Pipe(node, bounds) as pipe:
        pipe.send(*[Request(tag=tag) for tag in range(100, 200)], last)
        await pipe.ended.wait()
        assert pipe.end().refusal.reason == "OVERLOADED"
        assert len(node.writes) == 1, "the session's opening"
        assert len(node.watches) == 0
