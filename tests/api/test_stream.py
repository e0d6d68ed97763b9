"""Session streams: hello, numbered writes, reads, keepalives, ends."""

from __future__ import annotations

import pytest

from raftd.node.refusals import handed_over, not_leader
from raftd.node.service import MemberInfo
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import common_pb2, kv_pb2, leases_pb2, locks_pb2, sessions_pb2
from tests.api.clients import (
    KEY,
    StreamClient,
    Stubs,
    open_session,
    session_stream,
)
from tests.api.solo_node import CLUSTER_ID, SoloNode

Request = sessions_pb2.StreamRequest

pytestmark = pytest.mark.parametrize("carrier", ["grpc", "plain"], indirect=True)


def put(number: int, key: bytes = b"k", value: bytes = b"v", tag: int = 0) -> Request:
    body = kv_pb2.PutKeyRequest(key=key, value=value)
    return Request(tag=tag or 100 + number, number=number, put_key=body)


def get(tag: int, key: bytes = b"k") -> Request:
    return Request(tag=tag, get_key=kv_pb2.GetKeyRequest(key=key))


async def test_a_hello_is_welcomed_with_who_is_where(stubs: Stubs) -> None:
    session = await open_session(stubs, ttl_ms=5000)
    stream = StreamClient(stubs)
    await stream.hello(session, KEY)
    message = await stream.read()
    assert message is not None
    assert message.welcome == sessions_pb2.StreamWelcome(
        node_id=1,
        ttl_ms=5000,
        members=[
            sessions_pb2.MemberAddress(node_id=1, name="n1", client_address="h1:7400"),
            sessions_pb2.MemberAddress(node_id=2, name="n2", client_address="h2:7400"),
        ],
        members_index=1,
    )
    assert message.header.cluster_id == CLUSTER_ID
    stream.cancel()


async def test_requests_may_come_with_the_hello(stubs: Stubs) -> None:
    session = await open_session(stubs)
    stream = StreamClient(stubs)
    hello = sessions_pb2.StreamHello(session_id=session, session_key=KEY)
    await stream.send(put(1), get(2), hello=hello)
    assert (await stream.reply(101)).put_key.mod_rev > session
    assert (await stream.reply(2)).get_key.key_value.value == b"v"
    stream.cancel()


async def test_a_welcome_names_the_highest_number_used(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        await stream.send(put(1), put(7))
        await stream.reply(107)
    again = StreamClient(stubs)
    await again.hello(await open_session(stubs), KEY)
    message = await again.read()
    assert message is not None
    assert message.welcome.number_max == 7
    again.cancel()


async def test_many_writes_of_one_message_come_back_in_one(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        await stream.send(*[put(number) for number in range(1, 501)])
        await stream.reply(600)
        last = stream.messages[-1]
        assert [reply.tag for reply in last.replies] == list(range(101, 601))
        revisions = [reply.revision for reply in last.replies]
        assert revisions == sorted(set(revisions))


async def test_a_number_sent_again_gets_its_first_answer(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        count = kv_pb2.IncrementKeyRequest(key=b"n", by=1)
        for tag in (1, 2):
            await stream.send(Request(tag=tag, number=1, increment_key=count))
            assert (await stream.reply(tag)).increment_key.value == 1
    found = node.machine.kv.find(b"n")
    assert found is not None
    assert found.value == b"1"


async def test_a_number_used_for_something_else_is_refused(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        await stream.send(put(1))
        await stream.reply(101)
        await stream.send(put(1, value=b"other", tag=9))
        assert (await stream.reply(9)).refusal.reason == "NUMBER_REUSED"


async def test_an_acknowledged_number_is_stale(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        await stream.send(put(1), put(2))
        await stream.reply(102)
        await stream.send(put(3), acknowledged=2)
        await stream.reply(103)
        await stream.send(put(2, tag=9))
        refusal = (await stream.reply(9)).refusal
        assert (refusal.reason, refusal.applied) == ("STALE_NUMBER", "unknown")


async def test_fences_guard_a_write_of_the_stream(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        acquire = locks_pb2.AcquireLockRequest(name="l", claimant="me")
        await stream.send(Request(tag=1, number=1, acquire_lock=acquire))
        token = (await stream.reply(1)).acquire_lock.token
        for number, fence, field in ((2, token, "put_key"), (3, token + 1, "refusal")):
            request = put(number)
            lock = common_pb2.LockFence(name="l", token=fence)
            request.fences.append(common_pb2.Fence(lock=lock))
            await stream.send(request)
            assert (await stream.reply(100 + number)).WhichOneof("body") == field
        refusal = stream.replies[103][0].refusal
        assert (refusal.reason, refusal.details["current"]) == ("FENCED", str(token))


async def test_a_keepalive_is_answered_with_its_id_and_what_is_lost(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        grant = leases_pb2.GrantLeaseRequest(ttl_ms=1000)
        await stream.send(Request(tag=1, number=1, grant_lease=grant))
        lease = (await stream.reply(1)).grant_lease.lease_id
        await stream.send(
            keepalive=True, keepalive_id=5, keepalive_leases=[lease, 999_999]
        )
        message = await stream.read()
        assert message is not None
        assert message.keepalive_id == 5
        assert list(message.lost_leases) == [999_999]
        node.advance(900)
        assert node.machine.leases.is_alive(lease)


async def test_a_waiting_lock_is_granted_on_the_stream(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        for number, claimant in ((1, "a"), (2, "b")):
            acquire = locks_pb2.AcquireLockRequest(name="l", claimant=claimant)
            await stream.send(Request(tag=number, number=number, acquire_lock=acquire))
        token = (await stream.reply(1)).acquire_lock.token
        assert 2 not in stream.replies
        release = locks_pb2.ReleaseLockRequest(name="l", token=token)
        await stream.send(Request(tag=3, number=3, release_lock=release))
        assert (await stream.reply(2)).acquire_lock.token > token
        assert (await stream.reply(3)).WhichOneof("body") == "release_lock"


# --- streams that may not begin, and streams that end -----------------------------


async def test_a_stream_on_a_follower_ends_and_says_who_leads(
    stubs: Stubs, node: SoloNode
) -> None:
    session = await open_session(stubs)
    node.leader = 2
    node.refusing = Refusal(Reason.NOT_LEADER, "n2 leads", {"leader": "2"})
    stream = StreamClient(stubs)
    await stream.hello(session, KEY)
    end = await stream.ended()
    assert end.refusal.reason == "NOT_LEADER"
    assert (end.leader, end.leader_address) == (2, "h2:7400")


async def test_a_stream_whose_member_loses_the_lead_ends_with_its_reason(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        session = next(iter(node.streams))
        node.streams[session].close(Refusal(Reason.NOT_LEADER, "no more"))
        assert (await stream.ended()).refusal.message == "no more"
        assert node.detached == [session]


@pytest.mark.parametrize(
    ("fields", "reason", "sentence"),
    [
        (
            {"acknowledged": 1},
            "INVALID_REQUEST",
            "the first message of a stream carries a hello",
        ),
        (
            {"hello": sessions_pb2.StreamHello(session_id=1, session_key=b"short")},
            "INVALID_REQUEST",
            "a session key has 16 bytes, not 5",
        ),
        (
            {"hello": sessions_pb2.StreamHello(session_key=KEY)},
            "INVALID_REQUEST",
            "a session key comes with its session",
        ),
        (
            {"hello": sessions_pb2.StreamHello(session_id=404, session_key=KEY)},
            "SESSION_UNKNOWN",
            "session 404 is unknown here",
        ),
    ],
)
async def test_a_bad_hello_ends_the_stream(
    stubs: Stubs, fields: dict[str, object], reason: str, sentence: str
) -> None:
    stream = StreamClient(stubs)
    await stream.send(**fields)
    end = await stream.ended()
    assert (end.refusal.reason, end.refusal.message) == (reason, sentence)


async def test_the_key_of_another_session_is_denied(stubs: Stubs) -> None:
    session = await open_session(stubs)
    stream = StreamClient(stubs)
    await stream.hello(session, b"x" * 16)
    assert (await stream.ended()).refusal.reason == "DENIED"


async def test_a_second_hello_ends_the_stream(stubs: Stubs) -> None:
    async with session_stream(stubs) as stream:
        await stream.hello(0)
        sentence = "only the first message of a stream carries a hello"
        assert (await stream.ended()).refusal.message == sentence


async def test_a_tag_in_use_ends_the_stream(stubs: Stubs, node: SoloNode) -> None:
    async with session_stream(stubs) as stream:
        node.is_stopped = True
        await stream.send(put(1, tag=5), put(2, tag=5))
        end = await stream.ended()
        assert end.refusal.message == "tag 5 is in use on this stream"
        assert len(node.writes) == 2, "the session's opening, and the first put"


# --- requests that make no sense --------------------------------------------------


async def test_a_senseless_request_is_refused_under_its_tag(stubs: Stubs) -> None:
    """The stream lives on, and the requests around it are carried out."""
    async with session_stream(stubs) as stream:
        numbered_read = get(4)
        numbered_read.number = 4
        await stream.send(
            Request(tag=1),
            Request(tag=2, put_key=kv_pb2.PutKeyRequest(key=b"k")),
            put(3, key=b"", tag=3),
            numbered_read,
            put(5, tag=5),
        )
        await stream.reply(5)
        sentences = {tag: stream.replies[tag][0].refusal.message for tag in range(1, 5)}
        assert sentences == {
            1: "the request is empty, or unknown to this version",
            2: "a write on a session stream carries a number from 1",
            3: "a key has at least one byte",
            4: "get_key is no write and carries no number",
        }
        reasons = {stream.replies[tag][0].refusal.reason for tag in range(1, 5)}
        assert reasons == {"INVALID_REQUEST"}
        assert stream.replies[5][0].HasField("put_key")


async def test_fences_in_the_wrong_place_are_not_overlooked(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        request = put(1)
        request.put_key.write.fences.add(lease_id=99)
        await stream.send(request)
        refusal = (await stream.reply(101)).refusal
        assert refusal.reason == "INVALID_REQUEST"
        assert refusal.message.endswith("its number and fences stand beside it")
        assert node.machine.kv.find(b"k") is None


async def test_a_stream_without_a_session_reads_only(stubs: Stubs) -> None:
    stream = StreamClient(stubs)
    await stream.hello()
    await stream.send(get(1), put(2))
    assert not (await stream.reply(1)).get_key.found
    sentence = "a stream without a session may only read and watch"
    assert (await stream.reply(102)).refusal.message == sentence
    stream.cancel()


async def test_a_stream_without_a_session_renews_nothing(stubs: Stubs) -> None:
    stream = StreamClient(stubs)
    await stream.hello()
    await stream.send(keepalive=True, keepalive_id=1)
    sentence = "a stream without a session has nothing to renew"
    assert (await stream.ended()).refusal.message == sentence


async def test_bytes_that_are_no_message_end_the_stream(stubs: Stubs) -> None:
    """Which requests they held cannot be known; the session lives on."""
    stream = StreamClient(stubs)
    await stream.send_bytes(b"\xff\xff\xff")
    end = await stream.ended()
    assert end.refusal.reason == "INVALID_REQUEST"
    sentence = "the bytes are no message of a session stream"
    assert end.refusal.message == sentence


ADDED = MemberInfo(3, "n3", "h3:7401", "h3:7400")
MOVED = MemberInfo(2, "n2", "h2:7401", "h9:7400")


def where(message: sessions_pb2.StreamSessionResponse | None) -> dict[int, str]:
    assert message is not None
    return {each.node_id: each.client_address for each in message.members}


async def test_every_stream_hears_when_the_members_change(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        reader = StreamClient(stubs)
        await reader.hello()
        assert await reader.read() is not None
        node.have_members(ADDED)
        for each in (stream, reader):
            message = await each.read()
            assert where(message) == {3: "h3:7400"}
            assert message is not None
            assert message.members_index == node.machine.applied_index
            assert message.members[0].name == "n3"
        reader.cancel()


async def test_changes_before_the_writers_turn_are_told_as_one(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        node.have_members(*node.members, ADDED)
        node.have_members(ADDED)
        node.have_members(MOVED, ADDED)
        assert where(await stream.read()) == {2: "h9:7400", 3: "h3:7400"}
        await stream.send(put(1))
        await stream.reply(101)
        assert [where(each) for each in stream.messages[2:]] == [{}]


async def test_an_end_names_who_is_about_to_lead_and_all_members(
    stubs: Stubs, node: SoloNode
) -> None:
    async with session_stream(stubs) as stream:
        (sink,) = node.streams.values()
        node.leader = 0
        node.have_members(MOVED, ADDED)
        sink.close(handed_over(3))
        end = await stream.ended()
        assert end.refusal.reason == "NOT_LEADER"
        assert (end.leader, end.leader_address) == (3, "h3:7400")
        assert where(stream.messages[-1]) == {2: "h9:7400", 3: "h3:7400"}


async def test_a_member_refuses_a_stream_with_who_the_members_are(
    stubs: Stubs, node: SoloNode
) -> None:
    session = await open_session(stubs)
    node.leader, node.refusing = 2, not_leader(2)
    stream = StreamClient(stubs)
    await stream.hello(session, KEY)
    assert (await stream.ended()).leader == 2
    assert where(stream.messages[-1]) == {1: "h1:7400", 2: "h2:7400"}
