"""Who is let in: a cluster forms once, and then knows its members by their data."""

from __future__ import annotations

import msgspec

from raftd.consensus.types import NodeId
from raftd.storage.identity import Identity
from raftd.transport.frames import Goodbye
from raftd.transport.greeting import Greeting, cluster_id_of

_MEMBERS = (1, 2, 3)


def _identity(node_id: int, mark: str = "a", name: str = "c") -> Identity:
    return Identity(name, NodeId(node_id), (f"{node_id}{mark}" * 8)[:16].encode())


def _greetings(*marks: str) -> list[Greeting]:
    return [
        Greeting(_identity(node_id, mark), _MEMBERS)
        for node_id, mark in zip(_MEMBERS, marks, strict=True)
    ]


def _introduce(greetings: list[Greeting]) -> None:
    for index, one in enumerate(greetings):
        for other in greetings:
            if other is not one:
                assert one.judge(other.hello(index + 1), 0) is None


async def test_a_cluster_is_formed_when_all_have_met_and_all_derive_one_id() -> None:
    greetings = _greetings("a", "a", "a")
    assert not greetings[0].formed.done()
    _introduce(greetings)
    formed = [greeting.formed.result() for greeting in greetings]
    assert len({one.cluster_id for one in formed}) == 1
    assert formed[0].cluster_id == cluster_id_of("c", formed[0].peers)


async def test_two_clusters_of_one_name_have_different_ids() -> None:
    first, second = _greetings("a", "a", "a"), _greetings("b", "b", "b")
    _introduce(first)
    _introduce(second)
    assert first[0].formed.result().cluster_id != second[0].formed.result().cluster_id
    goodbye = first[0].judge(second[1].hello(1), 0)
    assert goodbye is not None
    assert goodbye.is_final
    assert "another cluster" in goodbye.sentence


async def test_a_blank_disk_under_a_known_name_is_told_to_stop() -> None:
    greetings = _greetings("a", "a", "a")
    _introduce(greetings)
    blank = Greeting(_identity(3, "z"), _MEMBERS)
    goodbye = greetings[0].judge(blank.hello(1), 0)
    assert goodbye is not None
    blank.refused(1, goodbye)
    assert "another incarnation" in blank.banned.result()


async def test_a_blank_disk_stops_by_itself_when_it_hears_a_formed_member() -> None:
    greetings = _greetings("a", "a", "a")
    _introduce(greetings)
    blank = Greeting(_identity(3, "z"), _MEMBERS)
    blank.judge(greetings[0].hello(3), 1)
    assert "blank" in blank.banned.result()
    assert not blank.formed.done()


async def test_a_member_that_crashed_before_it_knew_adopts_the_formed_cluster() -> None:
    greetings = _greetings("a", "a", "a")
    _introduce(greetings)
    again = Greeting(_identity(3), _MEMBERS)
    assert again.judge(greetings[0].hello(3), 1) is None
    assert again.formed.result() == greetings[0].formed.result()


async def test_a_known_member_stops_only_if_a_majority_refuses_it() -> None:
    formed = _greetings("a", "a", "a")
    _introduce(formed)
    known = formed[0].formed.result()
    member = Greeting(
        msgspec.structs.replace(
            _identity(1),
            cluster_id=known.cluster_id,
            peers={NodeId(n): mark for n, mark in known.peers.items()},
        ),
        _MEMBERS,
    )
    member.refused(2, Goodbye("no", is_final=True))
    assert not member.banned.done()
    member.refused(3, Goodbye("go away", is_final=True))
    assert member.banned.result() == "go away"


async def test_misdirected_and_foreign_hellos_are_told_what_is_wrong() -> None:
    one = Greeting(_identity(1), _MEMBERS)
    two = Greeting(_identity(2), _MEMBERS)
    foreign = Greeting(_identity(2, name="other"), _MEMBERS)
    stranger = Greeting(_identity(9), (*_MEMBERS, 9))
    cases = [
        (two.hello(3), 0, "member 3 was expected here"),
        (two.hello(1), 3, "member 3 was expected, but"),
        (foreign.hello(1), 0, "belongs to cluster 'other'"),
        (stranger.hello(1), 0, "not among the others"),
        (msgspec.structs.replace(two.hello(1), version=99), 0, "version 99"),
        (msgspec.structs.replace(two.hello(1), limits=b"x"), 0, "other limits"),
    ]
    for hello, expected, words in cases:
        goodbye = one.judge(hello, expected)
        assert goodbye is not None, words
        assert words in goodbye.sentence
