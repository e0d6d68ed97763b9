"""What clients of both doors say, byte by byte, and how they see that all is well."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.server import ApiServer
from raftd.node.service import WriteCall
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened
from raftpb.v1 import kv_pb2, sessions_pb2
from tests.api.clients import KEY, Stubs
from tests.api.solo_node import SoloNode, hash_key
from tests.api.wire import GREETING, Wire, framed

__all__ = [
    "BEGINNING",
    "GET",
    "HELLO",
    "HTTP_2",
    "PING",
    "PONG",
    "answers_at_both_doors",
    "get",
    "is_begun",
    "is_ponged",
    "put",
    "said",
    "served",
    "session_on",
]

Request = sessions_pb2.StreamRequest


def get(tag: int, key: bytes = b"k") -> Request:
    return Request(tag=tag, get_key=kv_pb2.GetKeyRequest(key=key))


def put(number: int, value: bytes = b"v", key: bytes = b"k") -> Request:
    body = kv_pb2.PutKeyRequest(key=key, value=value)
    return Request(tag=number, number=number, put_key=body)


def said(*requests: Request, **fields: Any) -> bytes:
    """Return the frame of a message."""
    message = sessions_pb2.StreamSessionRequest(requests=requests, **fields)
    return framed(message.SerializeToString())


HELLO: Final = said(hello=sessions_pb2.StreamHello())
"""Of a stream without a session."""
GET: Final = said(get(5))
BEGINNING: Final = GREETING + HELLO + GET

HTTP_2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How gRPC begins: its words, and no settings."""
PING: Final = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"whothere"
PONG: Final = bytes([0, 0, 8, 6, 1, 0, 0, 0, 0]) + b"whothere"


async def is_begun(wire: Wire) -> None:
    """Read what ``BEGINNING`` is answered with."""
    await wire.greeted()
    first = last = await wire.answer()
    assert first.welcome.node_id == 1
    while not last.replies:
        last = await wire.answer()
    assert [reply.tag for reply in last.replies] == [5]


async def is_ponged(wire: Wire) -> None:
    """Read until a ``PING`` is answered."""
    came = b""
    while PONG not in came:
        byte = await wire.read(1)
        assert byte, "the connection ended"
        came += byte


async def answers_at_both_doors(port: int, host: str = "127.0.0.1") -> None:
    """See that a member is well."""
    async with asyncio.timeout(60), await Wire.dial(port, host) as wire:
        await wire.write(BEGINNING)
        await is_begun(wire)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with grpc.aio.insecure_channel(target) as channel:
        answer = await Stubs(channel).kv.PutKey(kv_pb2.PutKeyRequest(key=b"well"))
        assert answer.mod_rev


@contextlib.asynccontextmanager
async def served(node: SoloNode, **limits: int) -> AsyncIterator[ApiServer]:
    """Serve a node with these limits."""
    changes: dict[str, Any] = dict(limits)
    bounds = dataclasses.replace(DEFAULT_DOOR_LIMITS, **changes)
    server = ApiServer(node, "127.0.0.1:0", bounds)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def session_on(
    node: SoloNode, port: int, *, relay: bool = False, receives_bytes: int = 0
) -> AsyncIterator[Wire]:
    """Open a session and its plain stream; the welcome has been read."""
    command = OpenSession(hash_key(KEY), 10_000, "")
    opened = (await node.write(WriteCall(command=command), None)).answer
    assert isinstance(opened, SessionOpened)
    hello = sessions_pb2.StreamHello(
        session_id=opened.session, session_key=KEY, relay=relay
    )
    async with (
        asyncio.timeout(60),
        await Wire.dial(port, receives_bytes=receives_bytes) as wire,
    ):
        await wire.greet()
        await wire.write(said(hello=hello))
        assert (await wire.answer()).welcome.node_id == node.node_id
        yield wire
