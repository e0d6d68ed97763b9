"""The roster is a function of the log, and what the last release stored is read."""

from __future__ import annotations

import msgspec
import pytest

from raftd.consensus.types import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Membership,
    NodeId,
)
from raftd.node.roster import (
    MemberRecord,
    Roster,
    RosterError,
    after,
    decode_roster,
    encode_context,
    encode_roster,
    first_roster,
)


def _ids(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def _record(node_id: int, **more: object) -> MemberRecord:
    record = MemberRecord(
        NodeId(node_id), f"n{node_id}", f"h{node_id}:7401", f"h{node_id}:7400"
    )
    return msgspec.structs.replace(record, **more)


def _three() -> Roster:
    return first_roster((3, 1, 2), [_record(n) for n in (1, 2, 3)])


def _change(
    *steps: tuple[ChangeKind, int], context: bytes = b"", is_leave: bool = False
) -> ConfigChange:
    made = tuple(ConfigStep(kind, NodeId(node)) for kind, node in steps)
    return ConfigChange(made, context, is_leave)


def test_a_first_roster_begins_the_ids_behind_its_voters() -> None:
    roster = _three()
    assert roster.membership == Membership(_ids(1, 2, 3))
    assert [member.node_id for member in roster.members] == [1, 2, 3]
    assert roster.next_id == 4
    assert roster.origin == (1, 2, 3)


def test_an_added_member_has_its_record_and_its_id_is_used_up() -> None:
    added = after(
        _three(),
        _change((ChangeKind.ADD_LEARNER, 7), context=encode_context([_record(7)])),
        Membership(_ids(1, 2, 3), learners=_ids(7)),
    )
    assert added.get(7) == _record(7)
    assert added.kind_of(7) == "learner"
    assert added.next_id == 8
    assert added.origin == (1, 2, 3), "where the log began does not change"


def test_who_leaves_is_barred_for_ever_and_its_record_is_gone() -> None:
    roster = after(_three(), _change((ChangeKind.REMOVE, 3)), Membership(_ids(1, 2)))
    assert roster.removed == (3,)
    assert roster.get(3) is None
    assert roster.kind_of(3) == "removed"
    again = after(
        roster,
        _change(context=encode_context([_record(1, name="renamed")])),
        roster.membership,
    )
    assert again.removed == (3,)
    assert again.next_id == 4


def test_an_outgoing_member_keeps_its_record_until_the_joint_change_is_left() -> None:
    joint = Membership(_ids(1, 2, 4), outgoing=_ids(1, 2, 3))
    roster = after(
        _three(),
        _change(
            (ChangeKind.PROMOTE, 4),
            (ChangeKind.REMOVE, 3),
            context=encode_context([_record(4)]),
        ),
        joint,
    )
    assert roster.kind_of(3) == "outgoing"
    assert roster.get(3) == _record(3)
    assert roster.removed == ()
    left = after(roster, _change(is_leave=True), Membership(_ids(1, 2, 4)))
    assert left.removed == (3,)
    assert [member.node_id for member in left.members] == [1, 2, 4]


def test_a_context_alone_changes_records_and_bars_ids() -> None:
    roster = _three()
    context = encode_context([_record(2, level=2, incarnation=b"i" * 16)], [9])
    changed = after(roster, _change(context=context), roster.membership)
    assert changed.get(2) == _record(2, level=2, incarnation=b"i" * 16)
    assert changed.removed == (9,)
    assert changed.next_id == 10


def test_the_level_is_the_lowest_of_the_members_and_1_without_records() -> None:
    roster = first_roster((1, 2), [_record(1, level=2), _record(2, level=2)])
    assert roster.level == 2
    assert first_roster((1, 2), [_record(1, level=2)]).level == 1


def test_a_roster_survives_storing() -> None:
    roster = after(
        _three(),
        _change((ChangeKind.REMOVE, 3), context=encode_context([_record(1, level=2)])),
        Membership(_ids(1, 2)),
    )
    assert decode_roster(encode_roster(roster)) == roster


@pytest.mark.parametrize("voters", [(1,), (1, 2, 3)])
def test_what_the_release_before_stored_is_a_roster_without_records(
    voters: tuple[int, ...],
) -> None:
    data = msgspec.msgpack.encode(Membership(_ids(*voters)))
    roster = decode_roster(data)
    assert roster == first_roster(voters)
    assert roster.level == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\x90", b"\xc1", msgspec.msgpack.encode([2, 3]), b"\x93\x01\x02"],
    ids=["nothing", "an empty list", "no msgpack", "no roster", "cut off"],
)
def test_what_is_no_roster_is_a_sentence(data: bytes) -> None:
    with pytest.raises(RosterError, match="cannot be read"):
        decode_roster(data)


def test_a_newer_format_is_named() -> None:
    data = msgspec.msgpack.encode([3, _three()])
    with pytest.raises(RosterError, match="format 3"):
        decode_roster(data)


def test_a_context_that_cannot_be_read_is_a_sentence() -> None:
    roster = _three()
    with pytest.raises(RosterError, match="context"):
        after(roster, _change(context=b"\xc1"), roster.membership)
