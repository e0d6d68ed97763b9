"""What a write may say when its leader went, over a real driver and scripted peers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.types import Index, Membership, NodeId, Term
from raftd.node.driver import Driver
from raftd.node.errors import LinkDown, LinkLost
from raftd.node.node import Node
from raftd.node.peer_calls import Forwarded, ForwardWrite, decode_call, encode
from raftd.node.ports import DiskLook
from raftd.node.refusals import (
    DEADLINE_NOT_PROPOSED,
    DEADLINE_UNKNOWN,
    DIVERGED,
    LEADERSHIP_LOST,
    NOT_APPLIED,
)
from raftd.node.roster import LEVEL, Roster
from raftd.node.service import WriteCall
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import encode_answer
from raftd.statemachine.schema.kv import PutKey
from raftd.storage.types import InstallMark
from tests.node.lone import core_of


class _World:
    """Links, log and clocks of a member that never wins an election."""

    def __init__(self) -> None:
        self.script: Iterator[Refusal | Exception] = iter(())
        self.calls: list[ForwardWrite] = []
        self.is_over = asyncio.Event()
        self.now_ms = 0

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        return

    def is_up(self, peer: NodeId) -> bool:
        return True

    def level(self, peer: NodeId) -> int:
        return LEVEL

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        call = decode_call(request)
        assert isinstance(call, ForwardWrite)
        self.calls.append(call)
        told = next(self.script, None)
        if told is None:
            self.is_over.set()
            raise LinkDown("the script is over")
        if isinstance(told, Exception):
            raise told
        return encode(Forwarded(encode_answer(told), 0))

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        return

    async def write(self, write: Write) -> None:
        return

    ballast_bytes = 0

    def look(self) -> DiskLook:
        return DiskLook(1 << 30, 1 << 30, has_ballast=True, replaced="")

    def fill_ballast(self) -> bool:
        return True

    def release_ballast(self) -> None:
        return

    async def cut_prefix(self, upto: Index) -> None:
        return

    async def reset(self, index: Index, term: Term, mark: InstallMark) -> None:
        return

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


class _Follower:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: Refusal | Exception):
        self.world = world = _World()
        world.script = iter(script)
        core = core_of(1, 2, 3)
        monkeypatch.setattr(type(core), "leader", NodeId(2))
        self.driver = Driver(
            core,
            Machine(),
            log=world,
            disk=world,
            peers=world,
            clock=world,
            settings=ReplicaSettings(),
        )
        self.node = Node(
            self.driver,
            world,
            Roster(Membership((NodeId(1), NodeId(2), NodeId(3)))),
            node_id=1,
            cluster_id=b"c",
            settings=ReplicaSettings(),
        )

    async def put(self, timeout_s: float, number: int = 1) -> object:
        call = WriteCall(command=PutKey(b"k", b"v"), session=7, number=number)
        return (await self.node.write(call, timeout_s)).answer


async def test_a_write_that_was_never_sent_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = _Follower(monkeypatch, LinkDown("down"), NOT_APPLIED)
    assert await follower.put(0.1) == DEADLINE_NOT_PROPOSED
    lefts = [call.timeout_ms for call in follower.world.calls]
    assert all(left is not None and 0 <= left <= 100 for left in lefts)


async def test_once_sent_and_lost_no_later_refusal_makes_it_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = _Follower(monkeypatch, LinkLost("lost"), NOT_APPLIED)
    assert await follower.put(0.1) == DEADLINE_UNKNOWN


async def test_an_alarm_does_not_deny_what_may_have_been_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = _Follower(monkeypatch, LinkLost("lost"), NOT_APPLIED)
    waiting = asyncio.create_task(follower.put(10))
    await follower.world.is_over.wait()
    follower.node.refuse_writes(DIVERGED)
    assert await waiting == LEADERSHIP_LOST
    assert await follower.put(10) == DIVERGED
    assert await follower.node.keep_alive(7, b"") == DIVERGED


async def test_an_alarm_is_news_to_who_waits_for_a_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = _Follower(monkeypatch)
    waiting = asyncio.create_task(follower.node.leader_changed())
    await asyncio.sleep(0)
    follower.node.refuse_writes(DIVERGED)
    async with asyncio.timeout(1):
        await waiting


async def test_a_revision_nobody_waits_for_any_more_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = _Follower(monkeypatch).node
    answer = await node.read(lambda _: 1, min_revision=1000, timeout_s=0.01)
    assert answer.value == DEADLINE_NOT_PROPOSED
    assert not node._revision_waits  # noqa: SLF001  # a leak shows nowhere else


async def test_a_message_that_breaks_the_core_ends_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = _Follower(monkeypatch)
    follower.driver.receive([None])  # type: ignore[list-item]  # the worst message
    assert "a message of a peer could not be carried out" in str(
        await follower.driver.failed
    )
