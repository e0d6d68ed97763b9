"""The wire format between peers: closed, tagged, stable."""

from typing import get_args

import msgspec
import pytest

from raftd.consensus import Entry, EntryKind, Index, Message, NodeId, Term
from raftd.consensus.messages import Append, AppendReply, HeartbeatReply

# A tag, once used, never means anything else.
_TAGS = {
    "PreVote": 1,
    "PreVoteReply": 2,
    "Vote": 3,
    "VoteReply": 4,
    "Append": 5,
    "AppendReply": 6,
    "Heartbeat": 7,
    "HeartbeatReply": 8,
    "ReadIndexRequest": 9,
    "ReadIndexReply": 10,
    "TimeoutNow": 11,
}


def test_tags_never_change() -> None:
    kinds = get_args(Message)
    assert {k.__name__: k.__struct_config__.tag for k in kinds} == _TAGS


def test_an_append_survives_the_wire_without_copying_its_shape() -> None:
    entry = Entry(Index(7), Term(3), EntryKind.NORMAL, b"\x00payload")
    sent = Append(NodeId(1), NodeId(2), Term(3), Index(6), Term(2), (entry,), Index(5))
    got = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Message)
    assert got == sent


@pytest.mark.parametrize(
    "broken",
    [
        [99, 1, 2, 3],
        [5, 1, 2, 3, 6, 2, [[7, 3, 9, b""]], 5],
        [5, 1, 2, "3", 6, 2, [], 5],
        [6, 1, 2],
        {"type": 5},
    ],
)
def test_what_is_no_message_is_refused(broken: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(broken), type=Message)


def test_clocks_are_optional_so_that_older_peers_are_understood() -> None:
    reply = msgspec.msgpack.encode([8, 1, 2, 3, 4])
    assert msgspec.msgpack.decode(reply, type=Message) == HeartbeatReply(
        NodeId(1), NodeId(2), Term(3), 4
    )
    accepted = msgspec.msgpack.encode([6, 1, 2, 3, True, 9])
    assert msgspec.msgpack.decode(accepted, type=Message) == AppendReply(
        NodeId(1), NodeId(2), Term(3), True, Index(9)
    )
