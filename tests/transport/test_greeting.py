"""Who is let in: a cluster forms once, and then knows its members by their data."""

from __future__ import annotations

import msgspec
import pytest

from raftd.consensus.types import Membership, NodeId
from raftd.node.roster import MemberRecord, Roster, first_roster
from raftd.storage.identity import Identity
from raftd.transport.frames import Goodbye, Hello, OldHello, Removed
from raftd.transport.greeting import Greeting, cluster_id_of
from raftd.transport.introductions import Myself

_MEMBERS = (1, 2, 3)
_CLUSTER = b"C" * 16


def _mark(node_id: int, mark: str = "a") -> bytes:
    return (f"{node_id}{mark}" * 8)[:16].encode()


def _identity(node_id: int, mark: str = "a", name: str = "c") -> Identity:
    return Identity(name, NodeId(node_id), _mark(node_id, mark))


def _bound(node_id: int, mark: str = "a", cluster_id: bytes = _CLUSTER) -> Identity:
    return msgspec.structs.replace(
        _identity(node_id, mark),
        cluster_id=cluster_id,
        peers={NodeId(n): _mark(n) for n in _MEMBERS},
    )


def _record(node_id: int, mark: str = "a", level: int = 1) -> MemberRecord:
    incarnation = _mark(node_id, mark) if mark else b""
    name, host = f"n{node_id}", f"h{node_id}"
    return MemberRecord(
        NodeId(node_id), name, f"{host}:7401", f"{host}:7400", incarnation, level
    )


def _roster(*, level: int = 1, learner_mark: str = "") -> Roster:
    """Voters 1 to 3, learner 4, and 9 who was removed."""
    records = [_record(n, level=level) for n in _MEMBERS]
    records.append(_record(4, learner_mark, level))
    roster = first_roster(_MEMBERS, records, learners=[4])
    return msgspec.structs.replace(roster, removed=(9,))


def _member(node_id: int, roster: Roster | None = None) -> Greeting:
    return Greeting(_bound(node_id), _MEMBERS, None, roster or _roster())


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


# --- forming ------------------------------------------------------------------------


async def test_a_cluster_is_formed_when_all_have_met_and_all_derive_one_id() -> None:
    greetings = _greetings("a", "a", "a")
    assert not greetings[0].formed.done()
    _introduce(greetings)
    formed = [greeting.formed.result() for greeting in greetings]
    assert len({one.cluster_id for one in formed}) == 1
    assert formed[0].cluster_id == cluster_id_of("c", formed[0].peers)
    assert formed[0].voters == _MEMBERS
    assert not formed[0].is_joined


async def test_two_clusters_of_one_name_have_different_ids() -> None:
    first, second = _greetings("a", "a", "a"), _greetings("b", "b", "b")
    _introduce(first)
    _introduce(second)
    assert first[0].formed.result().cluster_id != second[0].formed.result().cluster_id
    goodbye = first[0].judge(second[1].hello(1), 0)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.is_final
    assert "another cluster" in goodbye.sentence


async def test_a_blank_disk_under_a_known_name_is_told_to_stop_and_how_to_return() -> (
    None
):
    greetings = _greetings("a", "a", "a")
    _introduce(greetings)
    blank = Greeting(_identity(3, "z"), _MEMBERS)
    goodbye = greetings[0].judge(blank.hello(1), 0)
    assert goodbye is not None
    blank.refused(1, goodbye)
    assert "another incarnation" in blank.banned.result()
    assert "raftctl member replace" in blank.banned.result()


async def test_a_blank_disk_stops_by_itself_when_it_hears_a_formed_member() -> None:
    greetings = _greetings("a", "a", "a")
    _introduce(greetings)
    blank = Greeting(_identity(3, "z"), _MEMBERS)
    blank.judge(greetings[0].hello(3), 1)
    assert "blank" in blank.banned.result()
    assert "raftctl member replace" in blank.banned.result()
    assert not blank.formed.done()


async def test_a_member_that_crashed_before_it_knew_adopts_the_formed_cluster() -> None:
    greetings = _greetings("a", "a", "a")
    _introduce(greetings)
    again = Greeting(_identity(3), _MEMBERS)
    assert again.judge(greetings[0].hello(3), 1) is None
    assert again.formed.result() == greetings[0].formed.result()


async def test_a_blank_node_and_restored_ones_form_nothing_together() -> None:
    restored = Myself(origin=b"o" * 16)
    one = Greeting(_identity(1), _MEMBERS, restored)
    two = Greeting(_identity(2), _MEMBERS, restored)
    blank = Greeting(_identity(3), _MEMBERS)
    assert one.judge(two.hello(1), 0) is None
    to_blank = one.judge(blank.hello(1), 0)
    assert isinstance(to_blank, Goodbye)
    assert to_blank.is_final, "nothing of the blank one's is lost when it stops"
    to_restored = blank.judge(one.hello(3), 0)
    assert isinstance(to_restored, Goodbye)
    assert not to_restored.is_final
    assert "the same backup" in to_restored.sentence
    assert not one.formed.done()
    assert not blank.formed.done()


async def test_members_of_one_backup_form_a_cluster() -> None:
    restored = Myself(origin=b"o" * 16)
    greetings = [Greeting(_identity(n), _MEMBERS, restored) for n in _MEMBERS]
    _introduce(greetings)
    assert all(greeting.formed.done() for greeting in greetings)


# --- judging by the roster ------------------------------------------------------------


async def test_a_known_member_stops_only_if_a_majority_refuses_it() -> None:
    member = _member(1)
    member.refused(2, Goodbye("no", is_final=True))
    assert not member.banned.done()
    member.refused(3, Goodbye("go away", is_final=True))
    assert member.banned.result() == "go away"


async def test_the_majority_is_that_of_the_live_voters() -> None:
    member = _member(1)
    five = tuple(NodeId(n) for n in range(1, 6))
    member.note_roster(Roster(Membership(five), origin=_MEMBERS))
    member.refused(2, Goodbye("no", is_final=True))
    member.refused(3, Goodbye("no", is_final=True))
    assert not member.banned.done()


async def test_strangers_and_former_voters_are_no_majority() -> None:
    member = _member(1)
    for stranger in (7, 8, 9):
        member.refused(stranger, Goodbye("no", is_final=True))
    assert not member.banned.done()
    member.refused(2, Goodbye("no", is_final=True))
    gone = Roster(Membership((NodeId(1), NodeId(3))), removed=(2,), origin=_MEMBERS)
    member.note_roster(gone)
    member.refused(3, Goodbye("no", is_final=True))
    assert not member.banned.done()


async def test_a_removed_member_is_sent_away_and_told_why_when_it_is_certain() -> None:
    removed = Greeting(_bound(9), _MEMBERS, None, first_roster((1, 2, 3, 9)))
    member = _member(1)
    refused = member.judge(removed.hello(1), 0)
    assert isinstance(refused, Goodbye)
    assert member.has_knocked
    removed.refused(1, refused)
    assert not removed.banned.done(), "it may be the only one that knows"
    member.note_certain([9])
    refused = member.judge(removed.hello(1), 0)
    assert isinstance(refused, Removed)
    removed.refused(1, refused)
    assert "was removed" in removed.banned.result()


async def test_a_stranger_of_our_cluster_is_accepted_and_known_where_it_is() -> None:
    member = _member(1)
    stranger = Greeting(
        _bound(7), _MEMBERS, Myself(peer_address="h7:7401"), first_roster((1, 2, 3, 7))
    )
    assert member.judge(stranger.hello(1), 0) is None
    assert member.seen[7].peer_address == "h7:7401"


async def test_a_blank_node_that_was_not_added_is_told_to_wait_for_that() -> None:
    goodbye = _member(1).judge(
        Greeting(_identity(7), _MEMBERS, Myself(is_joining=True)).hello(1), 0
    )
    assert isinstance(goodbye, Goodbye)
    assert not goodbye.is_final
    assert "raftctl member add" in goodbye.sentence


async def test_an_added_member_joins_under_any_incarnation_until_one_is_bound() -> None:
    member = _member(1)
    joiner = Greeting(_identity(4, "x"), (), Myself(is_joining=True))
    assert member.judge(joiner.hello(0), 0) is None
    assert joiner.judge(member.hello(4), 0) is None
    formed = joiner.formed.result()
    assert formed.cluster_id == _CLUSTER
    assert formed.voters == _MEMBERS
    assert formed.is_joined
    assert formed.peers[4] == _mark(4, "x")
    member.note_roster(_roster(learner_mark="x"))
    assert member.judge(joiner.hello(0), 0) is None
    other = Greeting(_identity(4, "y"), (), Myself(is_joining=True))
    goodbye = member.judge(other.hello(0), 0)
    assert isinstance(goodbye, Goodbye)
    assert goodbye.is_final


async def test_an_added_member_without_join_joins_too() -> None:
    joiner = Greeting(_identity(4, "x"), (*_MEMBERS, 4))
    assert joiner.judge(_member(1).hello(4), 1) is None
    assert joiner.formed.result().is_joined


async def test_a_blank_node_unknown_to_the_cluster_stops_unless_it_is_to_join() -> None:
    member = _member(1)
    lost = Greeting(_identity(7), (*_MEMBERS, 7))
    lost.judge(member.hello(7), 1)
    assert "raftctl member add" in lost.banned.result()
    patient = Greeting(_identity(7), (), Myself(is_joining=True))
    patient.judge(member.hello(7), 1)
    assert not patient.banned.done()
    assert not patient.formed.done()


async def test_a_restored_directory_cannot_join() -> None:
    joiner = Greeting(_identity(4), (), Myself(is_joining=True, origin=b"o"))
    joiner.judge(_member(1).hello(4), 0)
    assert "restored" in joiner.banned.result()


async def test_two_who_are_to_join_or_form_do_not_take_each_other_for_a_cluster() -> (
    None
):
    joiner = Greeting(_identity(1), (), Myself(is_joining=True))
    former = Greeting(_identity(2), (1, 2))
    for one, other in ((joiner, former), (former, joiner)):
        goodbye = one.judge(other.hello(0), 0)
        assert isinstance(goodbye, Goodbye)
        assert "member 1 is to join" in goodbye.sentence
    assert not former.formed.done()


# --- versions and levels --------------------------------------------------------------


async def test_version_1_is_answered_in_its_words_and_without_unknown_marks() -> None:
    member = _member(1)
    old = member.hello(2, 1)
    assert isinstance(old, OldHello)
    assert old.version == 1
    assert old.peers == {n: _mark(n) for n in _MEMBERS}


async def test_a_blank_member_forms_a_cluster_with_the_release_before() -> None:
    new = Greeting(_identity(1), (1, 2))
    old = OldHello(1, "c", b"", 2, _mark(2), {})
    assert new.judge(old, 0) is None
    assert new.formed.result().voters == (1, 2)


async def test_below_the_recorded_level_nobody_is_let_in() -> None:
    old = OldHello(1, "c", _CLUSTER, 2, _mark(2), {n: _mark(n) for n in _MEMBERS})
    assert _member(1).judge(old, 0) is None
    raised = Greeting(_bound(1), _MEMBERS, None, _roster(level=2, learner_mark="a"))
    goodbye = raised.judge(old, 0)
    assert isinstance(goodbye, Goodbye)
    assert not goodbye.is_final
    assert "level 2" in goodbye.sentence


async def test_a_version_1_hello_does_not_hide_what_a_member_said_before() -> None:
    member = _member(1)
    newer = Greeting(_bound(2), _MEMBERS, Myself(peer_address="h:1"), _roster())
    assert member.judge(newer.hello(1), 0) is None
    assert member.judge(newer.hello(1, 1), 0) is None
    assert member.seen[2].peer_address == "h:1"


def _changed(hello: Hello | OldHello, **fields: object) -> Hello | OldHello:
    return msgspec.structs.replace(hello, **fields)


@pytest.mark.parametrize("version", [1, 2])
async def test_misdirected_and_foreign_hellos_are_told_what_is_wrong(
    version: int,
) -> None:
    one = Greeting(_identity(1), _MEMBERS)
    two = Greeting(_identity(2), _MEMBERS)
    twin = Greeting(_identity(1, "b"), _MEMBERS)
    foreign = Greeting(_identity(2, name="other"), _MEMBERS)
    stranger = Greeting(_identity(9), (*_MEMBERS, 9))
    hello = two.hello(1, version)
    cases = [
        (two.hello(3, version), 0, "member 3 was expected here"),
        (hello, 3, "member 3 was expected, but"),
        (foreign.hello(1, version), 0, "belongs to cluster 'other'"),
        (stranger.hello(1, version), 0, "not among the others"),
        (twin.hello(0, version), 0, "this is member 1 too"),
        (_changed(hello, version=0), 0, "speaks version 0"),
        (_changed(hello, version=3 - version), 0, "speaks version"),
        (_changed(hello, limits=b"x"), 0, "other limits"),
    ]
    for given, expected, words in cases:
        goodbye = one.judge(given, expected)
        assert goodbye is not None, words
        assert words in goodbye.sentence
