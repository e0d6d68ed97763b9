"""Keys: what the client asks for, and what it makes of the answers."""

from __future__ import annotations

import pytest

from raftclient import (
    ElectionFence,
    Fence,
    InvalidRequest,
    KeyValue,
    LeaseFence,
    LockFence,
    ReservationFence,
    aio,
)
from raftclient._values import prefix_end, range_of
from raftpb.v1 import common_pb2, kv_pb2
from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest
from tests.client.fake_server import FakeCluster
from tests.client.fake_stream import FakeStream


async def test_a_put_says_all_it_was_told(
    cluster: FakeCluster, client: aio.Client
) -> None:
    fences: list[Fence] = [
        LockFence("l", 1),
        ElectionFence("e", 2),
        ReservationFence(3, 4),
        LeaseFence(5),
    ]
    await client.put(
        "k\u00e9y", b"v", lease=7, if_mod_rev=0, want_previous=True, fences=fences
    )
    await client.put(b"k", "v")
    told, plain = cluster.state.of_kind("put_key")
    assert (told.key, told.value) == ("k\u00e9y".encode(), b"v")
    assert (told.lease_id, told.want_previous) == (7, True)
    assert told.HasField("if_mod_rev"), "0 means: must not exist"
    assert not plain.HasField("if_mod_rev")
    (sent,) = (
        request
        for message in cluster.messages
        for request in message.requests
        if request.fences
    )
    assert list(sent.fences) == [
        common_pb2.Fence(lock=common_pb2.LockFence(name="l", token=1)),
        common_pb2.Fence(election=common_pb2.ElectionFence(name="e", epoch=2)),
        common_pb2.Fence(reservation=common_pb2.ReservationFence(job_id=3, token=4)),
        common_pb2.Fence(lease_id=5),
    ]


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"a", b"b"),
        (b"a\xff", b"b"),
        (b"a\xfe", b"a\xff"),
        (b"\xff\xff", b""),
        (b"", b""),
    ],
)
def test_a_prefix_ends_before_the_first_key_that_has_another(
    prefix: bytes, end: bytes
) -> None:
    assert prefix_end(prefix) == end


def test_a_range_is_a_prefix_or_a_start_and_an_end() -> None:
    assert range_of("p", None, None) == (b"p", b"q")
    assert range_of(None, "a", None) == (b"a", b"")
    with pytest.raises(InvalidRequest):
        range_of("p", "a", None)


async def test_a_range_is_fetched_page_by_page_up_to_the_limit(
    cluster: FakeCluster, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[kv_pb2.ListKeysRequest] = []

    def read(stream: FakeStream, request: StreamRequest) -> None:
        body = request.list_keys
        asked.append(body)
        page = kv_pb2.ListKeysResponse(at_revision=42)
        for number in range(min(body.limit, 2)):
            page.key_values.add(key=b"%d" % (2 * len(asked) + number))
        page.next_page_token = b"page %d" % len(asked)
        stream.reply(StreamReply(tag=request.tag, list_keys=page))

    monkeypatch.setattr(FakeStream, "read", read)
    found = client.range(prefix="", limit=5)
    keys = [kv.key async for kv in found]
    assert keys == [b"2", b"3", b"4", b"5", b"6"]
    assert [body.limit for body in asked] == [5, 3, 1]
    assert [body.page_token for body in asked] == [b"", b"page 1", b"page 2"]
    assert found.revision == 42


async def test_text_and_bytes_are_equal_keys(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    assert isinstance(await client.get(b"a"), KeyValue)
    assert await client.incr(b"n", by=5) == 5
    assert await client.incr("n", by=-7) == -2
