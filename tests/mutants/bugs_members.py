"""Planted bugs of member changes.

A change counts where it is applied (rule 41, etcd's way), so there is no roll-back that
could be forgotten; ``change-without-apply`` is what a forgotten one comes to.

Source: RELIABILITY.md rules 39 to 46; section 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from raftd.consensus import proposals, reconfiguring, replication
from raftd.consensus.changes import after as changed
from raftd.consensus.changes import encode_change
from raftd.consensus.proposals import advance_commit
from raftd.consensus.quorum import committed_index
from raftd.consensus.state import State
from raftd.consensus.types import (
    ConfigChange,
    EntryKind,
    Index,
    Membership,
    NodeId,
    Proposal,
    RefusalReason,
    Refused,
)
from raftd.node import member_plans, replica
from raftd.node.member_sight import Sight, unready
from raftd.node.members import Members
from raftd.node.roster import Roster, after
from tests.mutants.bug import Bug
from tests.mutants.finders import Simulated
from tests.sim.focus import CHURN

__all__ = ["MEMBERS"]


def _change_before_the_no_op(s: State, change: ConfigChange) -> Proposal | Refused:
    refused = proposals.refusal(s, len(change.context))
    return refused or reconfiguring._append(s, change)  # noqa: SLF001  # without guards


def _change_beside_another(s: State, change: ConfigChange) -> Proposal | Refused:
    if not s.is_term_started:
        return Refused(RefusalReason.TERM_NOT_STARTED, s.leader)
    return _change_before_the_no_op(s, change)


def _count_one_half(membership: Membership, matches: Mapping[NodeId, Index]) -> Index:
    return committed_index(Membership(membership.voters), matches)


def _count_learners(membership: Membership, matches: Mapping[NodeId, Index]) -> Index:
    voters = tuple(sorted(membership.voters + membership.learners))
    return committed_index(Membership(voters, membership.outgoing), matches)


def _count_the_removed(s: State) -> None:
    """A leader that is no member any more counts itself beside the voters."""
    matches = {peer: progress.match_index for peer, progress in s.progress.items()}
    matches[s.id] = s.log.durable
    voters = tuple(sorted({*s.membership.voters, s.id}))
    index = committed_index(Membership(voters, s.membership.outgoing), matches)
    if index > s.commit and index >= s.term_start_index:
        advance_commit(s, index)
        s.is_flush_due = True


def _take_effect_at_once(s: State, change: ConfigChange) -> Proposal:
    """Go by a change as soon as it is in the leader's own log."""
    result = changed(s.membership, change)
    whole = msgspec.structs.replace(change, result=result)
    proposal = proposals.append_proposal(s, EntryKind.CONFIG, encode_change(whole))
    s.pending_change_index = proposal.index
    reconfiguring.enter(s, result)
    return proposal


def _forget_the_removed(
    roster: Roster, change: ConfigChange, membership: Membership
) -> Roster:
    new = after(roster, change, membership)
    next_id = max(membership.members) + 1
    return msgspec.structs.replace(new, removed=(), next_id=next_id)


def _tell_at_once(self: Members) -> None:
    """Tell the removed before the others are sure to know it."""
    if self.roster.removed:
        self._farewell.tell(self.roster.removed)


def _ask_those_in_touch(
    roster: Roster, sight: Sight, leaving: Iterable[int] = ()
) -> list[int]:
    """Take it that those who are away know all that this release does."""
    return [node for node in unready(roster, sight, leaving) if node in sight.shown]


def _never_leave(_: State) -> None:
    """Stay in the joint configuration."""


MEMBERS: Final = (
    Bug(
        name="change-before-the-no-op",
        does="a leader changes members before it has committed an entry of its term",
        breaks=("CFG", "SMS"),
        repeats="the bug of 2015 in Raft's single-server changes, scenario 29",
        patches=((reconfiguring, "propose_change", _change_before_the_no_op),),
        finder=Simulated(CHURN),
    ),
    Bug(
        name="two-changes-at-once",
        does="a change is begun while another one is not applied yet",
        breaks=("CFG",),
        repeats="rule 39",
        patches=((reconfiguring, "propose_change", _change_beside_another),),
        finder=Simulated(CHURN),
    ),
    Bug(
        name="change-without-apply",
        does="a leader goes by a change that may still be cut off, and never goes back",
        breaks=("CFG", "ES"),
        repeats="scylladb#31074, canonical/raft#323, scenario 30",
        patches=((reconfiguring, "_append", _take_effect_at_once),),
        finder=Simulated(),
    ),
    Bug(
        name="joint-half",
        does="in a joint configuration the majority of the new half decides alone",
        breaks=("CFG", "LC"),
        repeats="rule 42",
        patches=((replication, "committed_index", _count_one_half),),
        finder=Simulated(CHURN, changes=("replace",)),
    ),
    Bug(
        name="joint-for-ever",
        does="nobody leaves a joint configuration",
        breaks=("LIV",),
        repeats="rule 42 (auto-leave)",
        patches=((reconfiguring, "leave_if_due", _never_leave),),
        finder=Simulated(CHURN, changes=("replace",)),
    ),
    Bug(
        name="learner-counted",
        does="learners are counted among those that commit",
        breaks=("DUR", "LC"),
        repeats="rules 8 and 43",
        patches=((replication, "committed_index", _count_learners),),
        finder=Simulated(CHURN, changes=("add", "add", "remove")),
    ),
    Bug(
        name="removed-counts-itself",
        does="a leader that was removed counts itself on",
        breaks=("DUR", "LC"),
        repeats="thesis 4.2.2, rule 44",
        patches=((replication, "maybe_commit", _count_the_removed),),
        finder=Simulated(CHURN),
    ),
    Bug(
        name="id-reused",
        does="the id of a removed member is given to a new one",
        breaks=("ES", "DUR"),
        repeats="RedisRaft#2 and #70, RethinkDB 2.2.3, scenario 32",
        patches=((replica, "after", _forget_the_removed),),
        finder=Simulated(),
    ),
    Bug(
        name="told-too-early",
        does="a removed member ends before the others are sure to know of its removal",
        breaks=("LIV",),
        repeats="rule 44, scenario 34",
        patches=((Members, "_tell_removed", _tell_at_once),),
        finder=Simulated(
            CHURN,
            is_managed=True,
            size=2,
            changes=("remove", "replace"),
            change_interval_us=600_000,
            downtime_us=1_500_000,
        ),
    ),
    Bug(
        name="change-before-upgrade",
        does="members change while one that is away may not know what that is",
        breaks=("CFG", "SMS"),
        repeats="rule 54",
        patches=((member_plans, "unready", _ask_those_in_touch),),
        finder=Simulated(
            CHURN, is_managed=True, upgrade_us=1_000_000, downtime_us=3_000_000
        ),
    ),
)
