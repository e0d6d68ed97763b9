"""What a wish to change the members becomes in the log, or why it may not be.

Pure: given the roster and who is in touch, each function returns the change to propose
or a refusal in one sentence.

Rules: no change before every member that will get it has shown a release that knows
such entries. Nothing that would leave a majority of the new voters out of touch,
unless forced. A new member begins as a learner; a replacement names whom it replaces
and takes its place in one joint change when it has caught up. Names, addresses and ids
belong to one member each, but a replacement may take over the name and the addresses.
What members have shown of themselves goes along with any change.

Source: RELIABILITY.md rules 39, 43-46 and 54; SEMANTICS.md section 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

import msgspec

from raftd.consensus import changes
from raftd.consensus.types import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Membership,
    NodeId,
)
from raftd.node.member_sight import CHANGES_LEVEL, Shown, Sight, missing, unready
from raftd.node.member_words import (
    AddMember,
    MemberChange,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.node.roster import MEMBERS_MAX, MemberRecord, Roster, encode_context
from raftd.statemachine.schema.base import Reason, Refusal

__all__ = ["news", "plan", "promotion"]

_LEVEL_OF_NEW: Final = CHANGES_LEVEL
"""Earlier releases do not know how to join."""


def plan(
    roster: Roster, wish: MemberChange, sight: Sight
) -> tuple[ConfigChange, int] | Refusal:
    """Turn an operator's wish into a change.

    Returns:
        The change, and the id of the member that it is about; or why not.
    """
    match wish:
        case AddMember():
            return _add(roster, wish, sight)
        case RemoveMember():
            return _remove(roster, wish, sight)
        case ReplaceMember():
            return _replace(roster, wish, sight)
        case UpdateMember():
            return _update(roster, wish, sight)
        case _:
            assert_never(wish)


def promotion(roster: Roster, node_id: NodeId, sight: Sight) -> ConfigChange | None:
    """Return the change that makes a learner vote, None if it may not be yet.

    Whom it replaces goes in the same change.
    """
    record = roster.get(node_id)
    if record is None or not record.incarnation:
        return None
    steps = [ConfigStep(ChangeKind.PROMOTE, node_id)]
    old = NodeId(record.replaces)
    if old in roster.membership.members:
        steps.append(ConfigStep(ChangeKind.REMOVE, old))
    change = _change(
        roster, sight, steps, [msgspec.structs.replace(record, replaces=0)]
    )
    after = changes.after(roster.membership, change)
    if missing(after, sight) or unready(roster, sight, leaving=(old,)):
        return None
    return change


def news(roster: Roster, sight: Sight) -> ConfigChange | None:
    """Return the change that records what members have shown, None if it is known."""
    if unready(roster, sight):
        return None
    put = _fresh_records(roster, sight)
    return ConfigChange(context=encode_context(put)) if put else None


# --- the wishes ---------------------------------------------------------------------


def _add(
    roster: Roster, wish: AddMember, sight: Sight
) -> tuple[ConfigChange, int] | Refusal:
    node_id = NodeId(wish.node_id or roster.next_id)
    refusal = (
        _check_new(roster, node_id, wish.name, wish.peer_address, wish.client_address)
        or _check_ready(roster, sight)
        or _check_room(roster)
    )
    if refusal is not None:
        return refusal
    return _take_in(roster, wish, sight, node_id)


def _replace(
    roster: Roster, wish: ReplaceMember, sight: Sight
) -> tuple[ConfigChange, int] | Refusal:
    old, node_id = wish.node_id, NodeId(wish.new_id or roster.next_id)
    refusal = (
        _check_known(roster, old)
        or _check_new(
            roster,
            node_id,
            wish.name,
            wish.peer_address,
            wish.client_address,
            instead_of=old,
        )
        or _check_ready(roster, sight, leaving=(old,))
        or _check_room(roster)
    )
    if refusal is not None:
        return refusal
    for record in roster.members:
        if record.replaces == old:
            return _refuse(
                f"member {record.node_id} ({record.name}) is already on its way to"
                f" replace member {old}; remove it first, or wait"
            )
    return _take_in(roster, wish, sight, node_id, old)


def _take_in(
    roster: Roster,
    wish: AddMember | ReplaceMember,
    sight: Sight,
    node_id: NodeId,
    old: int = 0,
) -> tuple[ConfigChange, int] | Refusal:
    """Begin a new member as a learner, in the place of another or (0) beside all."""
    if not wish.is_forced:
        kept = [voter for voter in roster.membership.voters if voter != old]
        alive = Sight(sight.live | {node_id}, sight.shown)
        refusal = _check_live(Membership((*kept, node_id)), alive, "there would be")
        if refusal is not None:
            return refusal
    record = MemberRecord(
        node_id,
        wish.name,
        wish.peer_address,
        wish.client_address,
        level=_LEVEL_OF_NEW,
        replaces=old,
    )
    steps = [ConfigStep(ChangeKind.ADD_LEARNER, node_id)]
    leaving = (old,) if old else ()
    return _change(roster, sight, steps, [record], leaving), node_id


def _remove(
    roster: Roster, wish: RemoveMember, sight: Sight
) -> tuple[ConfigChange, int] | Refusal:
    node_id = NodeId(wish.node_id)
    membership = roster.membership
    refusal = _check_known(roster, node_id) or _check_ready(
        roster, sight, leaving=(node_id,)
    )
    if refusal is not None:
        return refusal
    if membership.voters == (node_id,):
        return _refuse(
            f"member {node_id} is the only voter; a cluster cannot be left without one"
        )
    steps = [ConfigStep(ChangeKind.REMOVE, node_id)]
    change = _change(roster, sight, steps, (), (node_id,))
    if not wish.is_forced and node_id in membership.voters:
        kept = tuple(n for n in membership.voters if n != node_id)
        refusal = _check_live(Membership(kept), sight, "would be left")
        if refusal is not None:
            return refusal
    return change, node_id


def _update(
    roster: Roster, wish: UpdateMember, sight: Sight
) -> tuple[ConfigChange, int] | Refusal:
    node_id = NodeId(wish.node_id)
    refusal = _check_known(roster, node_id) or _check_ready(roster, sight)
    if refusal is not None:
        return refusal
    old = roster.get(node_id) or MemberRecord(node_id, f"n{node_id}", "", "")
    new = msgspec.structs.replace(
        old,
        name=wish.name or old.name,
        peer_address=wish.peer_address or old.peer_address,
        client_address=wish.client_address or old.client_address,
    )
    taken = _check_taken(
        roster, new.name, new.peer_address, new.client_address, (node_id,)
    )
    refusal = taken or _check_own_word(wish, sight)
    if refusal is not None:
        return refusal
    return _change(roster, sight, (), [new]), node_id


# --- what goes along ------------------------------------------------------------------


def _change(
    roster: Roster,
    sight: Sight,
    steps: Iterable[ConfigStep],
    put: Iterable[MemberRecord],
    leaving: Iterable[int] = (),
) -> ConfigChange:
    """Make a change that also records what members have shown."""
    records = {record.node_id: record for record in _fresh_records(roster, sight)}
    for gone in leaving:
        records.pop(NodeId(gone), None)
    records.update((record.node_id, record) for record in put)
    context = encode_context(records[node_id] for node_id in sorted(records))
    return ConfigChange(tuple(steps), context)


def _fresh_records(roster: Roster, sight: Sight) -> list[MemberRecord]:
    """Return the records that differ from what members show; all at the first time.

    Before the first time each member has records of its own making.
    """
    is_first = all(record.level < CHANGES_LEVEL for record in roster.members)
    found = []
    for node_id in roster.membership.members:
        old = roster.get(node_id) or MemberRecord(node_id, f"n{node_id}", "", "")
        shown = sight.shown.get(node_id)
        new = _refreshed(old, shown) if shown is not None else old
        if new != old or (is_first and shown is not None):
            found.append(new)
    return found


def _refreshed(old: MemberRecord, shown: Shown) -> MemberRecord:
    if old.incarnation not in (b"", shown.incarnation):
        return old
    return msgspec.structs.replace(
        old,
        name=old.name or shown.name or f"n{old.node_id}",
        peer_address=shown.peer_address or old.peer_address,
        client_address=shown.client_address or old.client_address,
        incarnation=shown.incarnation,
        level=max(old.level, shown.level),
    )


# --- checks -------------------------------------------------------------------------


def _check_ready(
    roster: Roster, sight: Sight, leaving: Iterable[int] = ()
) -> Refusal | None:
    behind = unready(roster, sight, leaving)
    if not behind:
        return None
    return _refuse(
        f"{_names(behind)} not shown yet that its release knows changes of the"
        " members; start it, upgrade it, or remove it first"
    )


def _check_live(membership: Membership, sight: Sight, verb: str) -> Refusal | None:
    if missing(membership, sight) <= 0:
        return None
    voters = membership.voters
    live = sum(1 for node_id in voters if node_id in sight.live)
    silent = [int(node_id) for node_id in voters if node_id not in sight.live]
    return _refuse(
        f"of the {len(voters)} voters that {verb} only {live} can be reached, which"
        f" is no majority ({_ids(silent)} cannot); start or remove those first, or"
        " force the change"
    )


def _check_own_word(wish: UpdateMember, sight: Sight) -> Refusal | None:
    """Refuse an address that the member itself would put right at once."""
    shown = sight.shown.get(wish.node_id)
    if shown is None:
        return None
    for what, wanted, its_own in (
        ("peer", wish.peer_address, shown.peer_address),
        ("client", wish.client_address, shown.client_address),
    ):
        if wanted and its_own and wanted != its_own:
            return _refuse(
                f"member {wish.node_id} is up and gives {its_own!r} as its {what}"
                f" address; set advertise_{what} on its machine and start it again"
            )
    return None


def _check_known(roster: Roster, node_id: int) -> Refusal | None:
    kind = roster.kind_of(node_id)
    if kind in {"voter", "learner"}:
        return None
    if kind == "removed":
        sentence = f"member {node_id} was removed already"
    elif kind == "outgoing":
        sentence = f"member {node_id} is being removed already"
    else:
        sentence = f"there is no member {node_id}"
    return Refusal(Reason.NOT_FOUND, sentence, {"member": str(node_id)})


def _check_new(
    roster: Roster,
    node_id: int,
    name: str,
    peer_address: str,
    client_address: str,
    instead_of: int = 0,
) -> Refusal | None:
    if node_id in roster.removed:
        return _refuse(
            f"id {node_id} belonged to a member that was removed, and ids are never"
            " used twice; leave the id out to get the next free one"
        )
    if node_id in roster.membership.members:
        return _refuse(f"there is a member {node_id} already")
    return _check_taken(
        roster, name, peer_address, client_address, (node_id, instead_of)
    )


def _check_taken(
    roster: Roster,
    name: str,
    peer_address: str,
    client_address: str,
    apart_from: tuple[int, ...],
) -> Refusal | None:
    for record in roster.members:
        if record.node_id in apart_from:
            continue
        taken = {
            "the name": (name, record.name),
            "the peer address": (peer_address, record.peer_address),
            "the client address": (client_address, record.client_address),
        }
        for what, (wanted, theirs) in taken.items():
            if wanted and wanted == theirs:
                return _refuse(
                    f"{what} {wanted!r} belongs to member {record.node_id}"
                    f" ({record.name}) already"
                )
    return None


def _check_room(roster: Roster) -> Refusal | None:
    count = len(roster.membership.members)
    if count < MEMBERS_MAX:
        return None
    return Refusal(
        Reason.TOO_MANY,
        f"there are {count} members, and {MEMBERS_MAX} are the most",
        {"limit": str(MEMBERS_MAX)},
    )


def _refuse(sentence: str) -> Refusal:
    return Refusal(Reason.PRECONDITION, sentence, {"applied": "no"})


def _names(ids: list[int]) -> str:
    if len(ids) == 1:
        return f"member {ids[0]} has"
    return f"members {_ids(ids)} have"


def _ids(ids: list[int]) -> str:
    return " and ".join(str(node_id) for node_id in ids)
