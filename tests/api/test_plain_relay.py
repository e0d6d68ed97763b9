"""Plain streams that a member relays to the leader, both ways and to their end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from raftd.api.server import ApiServer
from raftd.node.service import MemberInfo
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import kv_pb2, sessions_pb2
from tests.api.clients import KEY
from tests.api.doors import answers_at_both_doors, get, put, said, served, session_on
from tests.api.solo_node import SoloNode
from tests.api.wire import Wire, turns

WATCH = sessions_pb2.StreamRequest(
    tag=7, watch_keys=kv_pb2.WatchKeysRequest(to_last=True)
)


class Two:
    """A leader, a member that follows it, and a session's stream over the latter."""

    def __init__(self, leader: SoloNode, wire: Wire) -> None:
        self.leader = leader
        self.wire = wire
        self.leading: ApiServer
        self.following: ApiServer


@contextlib.asynccontextmanager
async def two(**limits: int) -> AsyncIterator[Two]:
    leader, follower = SoloNode(), SoloNode()
    leader.node_id = leader.leader = follower.leader = 2
    async with served(leader) as leading, served(follower, **limits) as following:
        leader.members = follower.members = (
            MemberInfo(1, "n1", "h1:7401", "h1:7400"),
            MemberInfo(2, "n2", "h2:7401", f"127.0.0.1:{leading.port}"),
        )
        async with session_on(
            leader, following.port, relay=True, receives_bytes=1 << 16
        ) as wire:
            found = Two(leader, wire)
            found.leading, found.following = leading, following
            yield found


async def test_a_stream_is_served_by_the_leader() -> None:
    async with two() as each:
        await each.wire.write(said(put(1), get(2)))
        replies = list((await each.wire.answer()).replies)
        while len(replies) < 2:
            replies += (await each.wire.answer()).replies
        assert replies[0].put_key.mod_rev
        assert replies[1].get_key.key_value.value == b"v"
        assert each.leader.machine.kv.find(b"k") is not None


async def test_the_leaders_end_comes_through() -> None:
    async with two() as each:
        (sink,) = each.leader.streams.values()
        sink.close(Refusal(Reason.NOT_LEADER, "no more"))
        (message,) = await each.wire.answers()
        assert message.end.refusal.message == "no more"
        assert message.header.node_id == 2


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_a_client_that_goes_is_gone_at_the_leader(
    caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async with two() as each:
        await each.wire.write(said(WATCH))
        while not len(each.leader.watches):
            await turns(1)
        getattr(each.wire, how)()
        await each.leader.is_detached.wait()
        await each.leader.has_no_watches()
    assert caplog.records == []


async def test_a_leader_that_is_gone_ends_the_stream_with_no_leader() -> None:
    async with two() as each:
        await each.leading.stop(0)
        last = (await each.wire.answers())[-1]
        assert last.end.refusal.reason in {"NO_LEADER", "SHUTTING_DOWN"}
        await answers_at_both_doors(each.following.port)


async def test_a_frame_over_the_limit_ends_it_with_one_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Though the leader speaks on."""
    async with two(message_bytes_max=1000, request_bytes_max=500) as each:
        await each.wire.write(said(WATCH))
        while not len(each.leader.watches):
            await turns(1)
        await each.wire.write((1001).to_bytes(4, "big"))
        async with session_on(each.leader, each.leading.port) as other:
            for number in range(1, 20):
                await other.write(said(put(number)))
                await other.answer()
        ends = [
            message.end.refusal.reason
            for message in await each.wire.answers()
            if message.HasField("end")
        ]
        assert ends == ["TOO_LARGE"]
        each.wire.close()
        while 2 not in each.leader.detached:
            await turns(1)
    assert caplog.records == []


async def test_what_waits_for_the_leader_is_bounded_at_the_relay() -> None:
    """It is said to lead, and lets itself be dialled, and that is all."""
    follower = SoloNode()
    follower.leader = 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        follower.members = (MemberInfo(2, "n2", "h2:7401", address),)
        hello = sessions_pb2.StreamHello(session_id=9, session_key=KEY, relay=True)
        async with (
            served(follower) as server,
            asyncio.timeout(60),
            await Wire.dial(server.port) as wire,
        ):
            await wire.greet()
            await wire.write(said(hello=hello))
            (stream,) = server._front._streams  # noqa: SLF001  # what it keeps
            piece = said(*[get(tag) for tag in range(100, 4000)])
            sent, idle = 0, 0
            while idle < 100 and sent < (64 << 20):
                some = wire.write_some(piece[sent % len(piece) :])
                sent += some
                idle = 0 if some else idle + 1
                await turns(1)
                assert stream._early_bytes < (3 << 20)  # noqa: SLF001  # as above
            assert idle, "it is not read from any more"
            await answers_at_both_doors(server.port)
