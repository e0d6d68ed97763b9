"""Planted bugs of snapshots, member changes and disks; see ``planted``.

Source: RELIABILITY.md rules 12, 28 to 31, 39 to 46 and 51; section 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from raftd.consensus import (
    installing,
    proposals,
    reconfiguring,
    replication,
    transfer,
)
from raftd.consensus.changes import after as changed
from raftd.consensus.changes import encode_change
from raftd.consensus.following import acknowledge
from raftd.consensus.messages import AppendReply, InstallSnapshot
from raftd.consensus.progress import ProgressState
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
    Refused,
)
from raftd.consensus.view import FollowerView
from raftd.node import replica, snapshots_in, write_queue
from raftd.node.checkpoints import Checkpoints
from raftd.node.log_cut import LogCut
from raftd.node.members import Members
from raftd.node.roster import Roster, after
from raftd.statemachine.machine import MachineLoading
from raftd.statemachine.rows import Row
from raftd.statemachine.tables import Table
from raftd.storage.errors import DiskFull

__all__ = ["PLANTED_CHANGES"]

Patch = tuple[Any, str, Any]


# --- snapshots --------------------------------------------------------------------


_on_install = installing.on_install


def _acknowledge_first(s: State, m: InstallSnapshot) -> None:
    """Acknowledge a snapshot whose install is only begun."""
    is_news = m.index > s.commit
    _on_install(s, m)
    if is_news:
        s.out.now.append(AppendReply(s.id, m.src, s.term, True, m.index))


class _LoadingWithoutSessions(MachineLoading):
    """Leaves sessions and their windows out of a snapshot."""

    def feed(self, rows: Iterable[Row]) -> None:
        """Take in most rows."""
        super().feed(row for row in rows if row[0] != Table.SESSIONS)


def _keep_the_suffix(s: State, m: InstallSnapshot) -> None:
    """Take any entry at the snapshot's index for the snapshot's own."""
    if s.commit < m.index <= s.log.last_index:
        advance_commit(s, m.index)
        acknowledge(s, m.src, m.index)
    else:
        _on_install(s, m)


def _store_the_old_one(_: Checkpoints) -> None:
    """Go on with checkpoints of a state that was replaced."""


_choose = LogCut.choose


def _cut_under_the_snapshot(
    self: LogCut,
    own_index: int,
    state_index: int,
    followers: Mapping[NodeId, FollowerView],
) -> int:
    others = {
        node: seen
        for node, seen in followers.items()
        if seen.state is not ProgressState.SNAPSHOT
    }
    return _choose(self, own_index, state_index, others)


# --- members ----------------------------------------------------------------------


def _change_before_the_no_op(s: State, change: ConfigChange) -> Proposal | Refused:
    refused = proposals.refusal(s, len(change.context))
    return refused or reconfiguring._append(s, change)  # noqa: SLF001  # without guards


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


# --- transfer, disk ---------------------------------------------------------------


def _never_give_up(_: State) -> None:
    """Leave the transfer as it is, although its time is over."""


_write = write_queue.WriteQueue._write  # noqa: SLF001  # put back in its own place


async def _swallow_full(self: write_queue.WriteQueue, write: Any) -> None:
    async def ignore(_: DiskFull) -> None:
        raise _SwallowedError

    on_full, self.on_full = self.on_full, ignore
    try:
        await _write(self, write)
    except _SwallowedError:
        pass
    finally:
        self.on_full = on_full


class _SwallowedError(Exception):
    """A full disk was taken for a stored write."""


PLANTED_CHANGES: Final[dict[str, tuple[Patch, ...]]] = {
    "change-before-the-no-op": (
        (reconfiguring, "propose_change", _change_before_the_no_op),
    ),
    "change-without-apply": ((reconfiguring, "_append", _take_effect_at_once),),
    "cut-under-a-snapshot": ((LogCut, "choose", _cut_under_the_snapshot),),
    "full-disk-swallowed": ((write_queue.WriteQueue, "_write", _swallow_full),),
    "id-reused": ((replica, "after", _forget_the_removed),),
    "install-acked-early": ((installing, "on_install", _acknowledge_first),),
    "install-keeps-suffix": ((installing, "on_install", _keep_the_suffix),),
    "joint-half": ((replication, "committed_index", _count_one_half),),
    "learner-counted": ((replication, "committed_index", _count_learners),),
    "old-state-over-new": ((Checkpoints, "replace", _store_the_old_one),),
    "removed-counts-itself": ((replication, "maybe_commit", _count_the_removed),),
    "snapshot-without-sessions": (
        (snapshots_in, "MachineLoading", _LoadingWithoutSessions),
    ),
    "told-too-early": ((Members, "_tell_removed", _tell_at_once),),
    "transfer-stuck": ((transfer, "_give_up", _never_give_up),),
}
