"""What a leader answers to the calls that its peers forward."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from raftd.consensus.types import NodeId
from raftd.node import peer_service
from raftd.node.node import Node
from raftd.node.peer_calls import (
    Forwarded,
    ForwardKeepAlive,
    ForwardWrite,
    Renewed,
    decode_reply,
    encode,
)
from raftd.node.peer_service import PeerService
from raftd.node.refusals import OVERLOADED, UNREADABLE
from raftd.node.service import Answered, WriteCall
from raftd.statemachine.schema.entry import decode_answer, seal
from raftd.statemachine.schema.kv import KeyPut, PutKey
from tests.node.cluster import Cluster

_PEER = NodeId(2)
_PUT = bytes(seal(0, 0, 0, PutKey(b"k", b"v")))


def _forward(request: bytes = _PUT) -> bytes:
    return encode(ForwardWrite(0, b"", request, False, None, 10_000))


def _service(node: Node) -> PeerService:
    service = node.peer_service
    assert isinstance(service, PeerService)
    return service


async def _told(service: PeerService, body: bytes, peer: NodeId = _PEER) -> object:
    reply = decode_reply(await service.answer(peer, body))
    assert isinstance(reply, Forwarded)
    return decode_answer(reply.answer)


async def test_a_request_of_a_later_release_is_refused_in_words(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        service = _service(await cluster.leader())
        request = msgspec.msgpack.decode(_PUT)
        unknown = msgspec.msgpack.encode([*request[:-1], [60_000, b"k"]])
        for body in (unknown, b"\xc1"):
            assert await _told(service, _forward(body)) == UNREADABLE
        assert isinstance(await _told(service, _forward()), KeyPut)


async def test_calls_beyond_the_bound_of_one_peer_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_service, "FORWARDED_CALLS_MAX", 1)
    async with Cluster(tmp_path, 1) as cluster:
        node = await cluster.leader()
        service, carry_out = _service(node), node.writes.answer_of
        has_begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(write: WriteCall, request: msgspec.Raw) -> Answered:
            has_begun.set()
            await may_end.wait()
            return await carry_out(write, request)

        with monkeypatch.context() as patch:
            patch.setattr(node.writes, "answer_of", slow)
            first = asyncio.create_task(_told(service, _forward()))
            await has_begun.wait()
        assert await _told(service, _forward()) == OVERLOADED
        renewed = decode_reply(
            await service.answer(_PEER, encode(ForwardKeepAlive(1, b"")))
        )
        assert isinstance(renewed, Renewed)
        assert decode_answer(renewed.refusal) == OVERLOADED
        assert isinstance(await _told(service, _forward(), NodeId(3)), KeyPut)
        may_end.set()
        assert isinstance(await first, KeyPut)
        assert isinstance(await _told(service, _forward()), KeyPut)
