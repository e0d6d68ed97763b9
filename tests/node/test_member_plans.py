"""Wishes become changes, or one sentence each; what members show goes along."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from raftd.consensus import changes
from raftd.consensus.types import ChangeKind, ConfigChange, Membership, NodeId
from raftd.node.member_plans import news, plan, promotion
from raftd.node.member_sight import Shown, Sight
from raftd.node.member_words import (
    AddMember,
    MemberChange,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.node.roster import MEMBERS_MAX, MemberRecord, Roster, after, first_roster
from raftd.statemachine.schema.base import Reason, Refusal


def _mark(node_id: int) -> bytes:
    return bytes([node_id]) * 16


def _record(node_id: int, **fields: object) -> MemberRecord:
    record = MemberRecord(
        NodeId(node_id),
        f"n{node_id}",
        f"h{node_id}:7401",
        f"h{node_id}:7400",
        _mark(node_id),
        level=2,
    )
    return msgspec.structs.replace(record, **fields)


def _roster(
    voters: Iterable[int] = (1, 2, 3),
    learners: Iterable[int] = (),
    *special: MemberRecord,
    level: int = 2,
) -> Roster:
    ids = [*voters, *learners]
    records = {n: _record(n, level=level) for n in ids}
    records.update((record.node_id, record) for record in special)
    return first_roster(voters, records.values(), learners=learners)


def _shown(node_id: int, level: int = 2) -> Shown:
    return Shown(_mark(node_id), level, f"h{node_id}:7401", f"h{node_id}:7400", "")


def _sight(live: Iterable[int], levels: dict[int, int] | None = None) -> Sight:
    ids = tuple(live)
    found = levels or {}
    return Sight(frozenset(ids), {n: _shown(n, found.get(n, 2)) for n in ids})


def _steps(change: ConfigChange) -> list[tuple[ChangeKind, int]]:
    return [(step.kind, int(step.node)) for step in change.steps]


def _applied(roster: Roster, change: ConfigChange) -> Roster:
    return after(roster, change, changes.after(roster.membership, change))


def _planned(
    roster: Roster, wish: MemberChange, sight: Sight
) -> tuple[ConfigChange, int]:
    planned = plan(roster, wish, sight)
    assert not isinstance(planned, Refusal), planned
    return planned


def _sentence(roster: Roster, wish: MemberChange, sight: Sight) -> str:
    planned = plan(roster, wish, sight)
    assert isinstance(planned, Refusal), planned
    return planned.sentence


# --- wishes -------------------------------------------------------------------------


def test_an_added_member_begins_as_a_learner_with_the_next_free_id() -> None:
    roster = _roster()
    change, node_id = _planned(roster, AddMember("new", "h:1"), _sight((1, 2, 3)))
    assert node_id == 4
    assert _steps(change) == [(ChangeKind.ADD_LEARNER, 4)]
    added = _applied(roster, change).get(4)
    assert added == MemberRecord(NodeId(4), "new", "h:1", "", level=2)


def test_an_id_may_be_chosen_unless_it_was_ever_used() -> None:
    roster = msgspec.structs.replace(_roster(), removed=(9,))
    _, node_id = _planned(roster, AddMember("x", "h:1", node_id=7), _sight((1, 2, 3)))
    assert node_id == 7
    wish = AddMember("x", "h:1", node_id=9)
    assert "never used twice" in _sentence(roster, wish, _sight((1, 2, 3)))


def test_a_replacement_may_take_over_the_name_and_the_addresses() -> None:
    roster = _roster()
    wish = ReplaceMember(3, "n3", "h3:7401", "h3:7400")
    change, node_id = _planned(roster, wish, _sight((1, 2)))
    assert _steps(change) == [(ChangeKind.ADD_LEARNER, 4)]
    added = _applied(roster, change).get(node_id)
    assert added is not None
    assert added.replaces == 3
    other = ReplaceMember(3, "n2", "h3:7401")
    assert "the name 'n2'" in _sentence(roster, other, _sight((1, 2)))


def test_a_member_is_replaced_by_one_at_a_time() -> None:
    roster = _roster((1, 2, 3), (4,), _record(4, replaces=3))
    wish = ReplaceMember(3, "x", "h:1")
    assert "already on its way" in _sentence(roster, wish, _sight((1, 2, 3)))


@pytest.mark.parametrize(
    ("live", "wish", "words"),
    [
        ((1, 2), RemoveMember(2), "of the 2 voters that would be left only 1"),
        ((1,), AddMember("x", "h:1"), "of the 4 voters that there would be only 2"),
        ((1,), ReplaceMember(2, "x", "h:1"), ""),
        ((1, 2), RemoveMember(3), ""),
        ((1, 2), AddMember("x", "h:1"), ""),
        ((1,), RemoveMember(3), "of the 2 voters that would be left only 1"),
    ],
)
def test_the_new_majority_must_be_live(
    live: tuple[int, ...], wish: MemberChange, words: str
) -> None:
    roster, sight = _roster(), _sight(live)
    if words:
        assert words in _sentence(roster, wish, sight)
        forced = (
            msgspec.structs.replace(wish, is_forced=True)
            if not isinstance(wish, UpdateMember)
            else wish
        )
        _planned(roster, forced, sight)
    else:
        _planned(roster, wish, sight)


def test_a_learner_is_removed_whoever_is_live() -> None:
    change, _ = _planned(_roster((1, 2, 3), (4,)), RemoveMember(4), _sight((1,)))
    assert _steps(change) == [(ChangeKind.REMOVE, 4)]


def test_there_are_only_so_many_members() -> None:
    voters = range(1, MEMBERS_MAX + 1)
    refusal = plan(_roster(voters), AddMember("x", "h:1"), _sight(voters))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.TOO_MANY


def test_what_an_update_leaves_out_stays() -> None:
    roster = _roster()
    change, _ = _planned(
        roster, UpdateMember(2, client_address="new:7400"), _sight((1, 3))
    )
    assert _steps(change) == []
    assert _applied(roster, change).get(2) == _record(2, client_address="new:7400")


def test_no_address_is_changed_against_the_word_of_the_member_itself() -> None:
    """It would tell its own again, and be believed."""
    roster, sight = _roster(), _sight((1, 2, 3))
    for wish in (UpdateMember(2, peer_address="x:1"), UpdateMember(2, "n", "", "x:1")):
        assert "advertise_" in _sentence(roster, wish, sight)
    _planned(roster, UpdateMember(2, "renamed", "h2:7401"), sight)


# --- the release before ---------------------------------------------------------------


def test_nothing_is_changed_before_all_have_shown_that_they_know_changes() -> None:
    roster = _roster(level=1)
    for sight in (_sight((1, 2)), _sight((1, 2, 3), {3: 1})):
        assert news(roster, sight) is None
        for wish in (AddMember("x", "h:1"), RemoveMember(2), UpdateMember(2, "x")):
            assert "member 3 has not shown" in _sentence(roster, wish, sight)


def test_who_has_not_shown_it_may_be_removed_or_replaced_all_the_same() -> None:
    roster = _roster(level=1)
    for wish in (RemoveMember(3), ReplaceMember(3, "x", "h:1")):
        change, _ = _planned(roster, wish, _sight((1, 2)))
        changed = _applied(roster, change)
        levels = {m.node_id: m.level for m in changed.members}
        assert (levels[NodeId(1)], levels[NodeId(2)]) == (2, 2)


def test_who_is_being_replaced_holds_nothing_up_and_nothing_is_recorded_twice() -> None:
    old = _roster(level=1)
    change, node_id = _planned(old, ReplaceMember(3, "x", "h:1"), _sight((1, 2)))
    roster = _applied(old, change)
    assert news(roster, _sight((1, 2))) is None, "the same again and again"
    binding = news(roster, _sight((1, 2, node_id)))
    assert binding is not None
    bound = _applied(roster, binding)
    assert news(bound, _sight((1, 2, node_id))) is None
    assert promotion(bound, NodeId(node_id), _sight((1, 2, node_id))) is not None


def test_the_first_change_records_every_member_as_it_shows_itself() -> None:
    bare = first_roster((1, 2, 3))
    change = news(bare, _sight((1, 2, 3)))
    assert change is not None
    recorded = _applied(bare, change)
    assert recorded.members == tuple(_record(n) for n in (1, 2, 3))
    assert recorded.level == 2
    assert news(recorded, _sight((1, 2, 3))) is None


def test_what_a_member_shows_later_is_recorded_alone() -> None:
    roster = _roster((1, 2, 3), (4,), _record(4, incarnation=b""))
    shown = {n: _shown(n) for n in (1, 2, 4)}
    shown[2] = Shown(_mark(2), 3, "moved:1", "", "other name")
    change = news(roster, Sight(frozenset((1, 2, 4)), shown))
    assert change is not None
    recorded = _applied(roster, change)
    assert recorded.get(2) == _record(2, peer_address="moved:1", level=3)
    assert recorded.get(4) == _record(4), "its incarnation is bound"
    assert recorded.get(3) == _record(3)


def test_another_incarnation_under_a_bound_id_records_nothing() -> None:
    shown = {1: _shown(1), 2: Shown(b"other" * 3, 2, "elsewhere:1")}
    assert news(_roster(), Sight(frozenset((1, 2)), shown)) is None


def test_a_learner_that_was_not_seen_yet_holds_nothing_up() -> None:
    roster = _roster((1, 2, 3), (4,), _record(4, incarnation=b""))
    _planned(roster, UpdateMember(2, "x"), _sight((1, 2, 3)))
    assert roster.level == 2


# --- promotion ------------------------------------------------------------------------


def test_a_learner_is_promoted_when_its_disk_is_bound_and_a_majority_is_live() -> None:
    bound = _roster((1, 2, 3), (4,))
    change = promotion(bound, NodeId(4), _sight((1, 2, 4)))
    assert change is not None
    assert _steps(change) == [(ChangeKind.PROMOTE, 4)]
    assert promotion(bound, NodeId(4), _sight((1, 4))) is None
    blank = _roster((1, 2, 3), (4,), _record(4, incarnation=b""))
    assert promotion(blank, NodeId(4), _sight((1, 2, 3, 4))) is None


def test_a_replacement_and_its_promotion_are_one_joint_change() -> None:
    roster = _roster((1, 2, 3), (4,), _record(4, replaces=3))
    change = promotion(roster, NodeId(4), _sight((1, 2, 4)))
    assert change is not None
    joint = _applied(roster, change)
    ids = tuple(NodeId(n) for n in (1, 2, 4))
    assert joint.membership == Membership(ids, tuple(NodeId(n) for n in (1, 2, 3)))
    replaced = joint.get(4)
    assert replaced is not None
    assert replaced.replaces == 0


def test_who_was_to_be_replaced_and_has_gone_is_not_removed_again() -> None:
    roster = _roster((1, 2), (4,), _record(4, replaces=3))
    change = promotion(roster, NodeId(4), _sight((1, 2, 4)))
    assert change is not None
    assert _steps(change) == [(ChangeKind.PROMOTE, 4)]


def test_a_joint_change_needs_both_majorities_live() -> None:
    roster = _roster((1, 2, 3), (4,), _record(4, replaces=1))
    assert promotion(roster, NodeId(4), _sight((3, 4))) is None
