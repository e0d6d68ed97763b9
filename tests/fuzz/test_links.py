"""Bytes on a peer link, in pieces: from strangers, from members, from who is dialled.

Proved: nothing that comes raises out of the protocol's own call (the loop would log a
traceback and cut the link without a reason), nothing is passed on before a greeting,
and what is passed on is what a core would send.

Source: RELIABILITY.md rule 46; DESIGN.md section 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from hypothesis import strategies as st

from raftd.consensus.messages import Append, Message
from raftd.consensus.types import Entry, EntryKind, Index, NodeId, Term
from raftd.storage.identity import Identity
from raftd.transport.accepted import Accepted
from raftd.transport.dialled import Dialled, _Connection
from raftd.transport.frames import (
    Call,
    Frame,
    Goodbye,
    Hello,
    Messages,
    Removed,
    encode,
)
from raftd.transport.greeting import Greeting
from raftd.transport.links import Links, LinkSettings
from tests.fuzz.mutation import bad
from tests.fuzz.profiles import fuzzed
from tests.fuzz.structs import values_of

CLUSTER: Final = b"c" * 16
SETTINGS: Final = LinkSettings()
# Small ids, so that the one who greeted is often the one who speaks.
IDS: Final = st.integers(0, 3)
FIELDS: Final = {"src": st.sampled_from([1, 1, 1, 2, 3]), "dst": IDS, "term": IDS}
FRAMES: Final = values_of(Frame, FIELDS)


@st.composite
def _appends(draw: st.DrawFn) -> Append:
    """Return an append that may well be in order."""
    index, terms = draw(IDS), draw(st.lists(IDS, min_size=1, max_size=4))
    entries = tuple(
        Entry(Index(index + number + draw(SLIPS)), Term(term), EntryKind.NORMAL, b"")
        for number, term in enumerate(terms[1:], 1)
    )
    return Append(
        *(NodeId(1), NodeId(2), Term(3), Index(index), Term(terms[0])),
        *(entries, Index(0)),
    )


SLIPS: Final = st.sampled_from([0, 0, 0, 0, 1, -1])
MESSAGES: Final = st.one_of(
    values_of(Messages, FIELDS),
    st.lists(_appends(), min_size=1, max_size=3).map(lambda it: Messages(tuple(it))),
)
CUTS: Final = st.lists(st.integers(1, 50), max_size=8)


def hello(node_id: int, expected: int) -> Hello:
    return Hello(
        version=2,
        cluster_name="c",
        cluster_id=CLUSTER,
        node_id=node_id,
        incarnation=bytes([node_id]) * 16,
        peers={1: b"\1" * 16, 2: b"\2" * 16},
        expected=expected,
        level=2,
        voters=(1, 2),
    )


class Wire:
    """What a protocol writes to, and whether it hung up."""

    def __init__(self) -> None:
        self.said = b""
        self.is_over = False
        self.is_written = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.said += data
        self.is_written.set()

    def close(self) -> None:
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_over

    def get_extra_info(self, name: str) -> Any:
        return None


class Member:
    """Member 2, unbound and without a port, and all that its links passed on."""

    def __init__(self) -> None:
        identity = Identity("c", NodeId(2), b"\2" * 16)
        self.links = Links({}, Greeting(identity, (1, 2)), SETTINGS)
        self.links.on_messages = self.take
        self.links.handler = self.answer
        self.messages: list[Message] = []
        self.calls: list[bytes] = []

    def take(self, messages: Sequence[Message]) -> None:
        self.messages += messages

    async def answer(self, peer: NodeId, body: bytes) -> bytes:
        self.calls.append(body)
        return body


def in_a_loop(test: Callable[[Member], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(Member())

    asyncio.run(run())


def feed(protocol: asyncio.Protocol, wire: Wire, data: bytes, cuts: list[int]) -> None:
    """Hand over bytes in pieces, as long as the connection is there."""
    place = 0
    for cut in [*cuts, len(data)]:
        if wire.is_over:
            return
        protocol.data_received(data[place : place + cut])
        place += cut


def connect(protocol: asyncio.Protocol) -> Wire:
    wire = Wire()
    protocol.connection_made(cast("asyncio.Transport", wire))
    return wire


@fuzzed(150, data=bad(FRAMES.map(encode)), cuts=CUTS)
def test_a_stranger_is_heard_only_as_far_as_its_greeting(
    data: bytes, cuts: list[int]
) -> None:
    async def stranger(member: Member) -> None:
        accepted = Accepted(member.links)
        feed(accepted, connect(accepted), data, cuts)
        if accepted.peer is None:
            assert not member.messages
            assert not member.calls
        accepted.connection_lost(None)

    in_a_loop(stranger)


@fuzzed(
    200,
    data=st.one_of(bad(MESSAGES.map(encode)), MESSAGES.map(encode)),
    cuts=CUTS,
)
def test_a_member_passes_on_only_what_a_core_would_send(
    data: bytes, cuts: list[int]
) -> None:
    async def talk(member: Member) -> None:
        accepted = Accepted(member.links)
        wire = connect(accepted)
        accepted.data_received(encode(hello(1, 2)))
        assert accepted.peer == 1
        feed(accepted, wire, data, cuts)
        for message in member.messages:
            assert message.src == 1
            assert message.dst == 2
            if isinstance(message, Append):
                places = [entry.index for entry in message.entries]
                first = message.prev_index + 1
                assert places == list(range(first, first + len(places)))
                terms = [message.prev_term, *(it.term for it in message.entries)]
                assert sorted(terms) == terms
                assert terms[-1] <= message.term
        accepted.connection_lost(None)

    in_a_loop(talk)


@fuzzed(60, body=st.binary(max_size=30), number=st.integers(0, (1 << 64) - 1))
def test_a_call_is_answered_under_its_number(body: bytes, number: int) -> None:
    async def ask(member: Member) -> None:
        accepted = Accepted(member.links)
        wire = connect(accepted)
        accepted.data_received(encode(hello(1, 2)))
        before = len(wire.said)
        wire.is_written.clear()
        accepted.data_received(encode(Call(number, body)))
        await wire.is_written.wait()
        assert member.calls == [body]
        assert wire.said[before:].endswith(body)
        accepted.connection_lost(None)

    in_a_loop(ask)


@fuzzed(150, data=bad(FRAMES.map(encode)), cuts=CUTS, is_greeted=st.booleans())
def test_who_is_dialled_cannot_make_the_dialler_fail(
    data: bytes, cuts: list[int], is_greeted: bool
) -> None:
    async def dial(member: Member) -> None:
        link = Dialled(NodeId(1), [("h", 1)], member.links, SETTINGS)
        connection = _Connection(link)
        wire = connect(connection)
        if is_greeted:
            connection.data_received(encode(hello(1, 0)))
            assert connection.greeted.done()
        feed(connection, wire, data, cuts)
        connection.connection_lost(None)
        assert connection.closed.done()
        assert connection.greeted.done()
        assert not member.messages

    in_a_loop(dial)


@fuzzed(60, frame=st.one_of(values_of(Goodbye), values_of(Removed)))
def test_a_goodbye_ends_a_link_whatever_it_says(frame: Goodbye | Removed) -> None:
    async def part(member: Member) -> None:
        accepted = Accepted(member.links)
        wire = connect(accepted)
        accepted.data_received(encode(hello(1, 2)))
        accepted.data_received(encode(frame))
        assert wire.is_over
        accepted.connection_lost(None)

    in_a_loop(part)
