"""What anyone may look at in a core: the half that changes nothing.

Rules: every answer is a value of its own; what it was copied from may go on changing.
"""

import msgspec

from raftd.consensus.progress import ProgressState
from raftd.consensus.state import State
from raftd.consensus.types import Index, Membership, NodeId, Role, Term

__all__ = ["FollowerView", "View"]


class FollowerView(msgspec.Struct, frozen=True, gc=False):
    """One follower, as its leader sees it."""

    match_index: Index
    next_index: Index
    state: ProgressState
    #: Heard from since the quorum check before the last one: within T to 2T.
    is_active: bool
    #: The snapshot it is being sent; 0 if none, or not begun yet.
    snapshot_index: Index


class View:
    """The read-only face of one node's share of Raft."""

    __slots__ = ("_s",)

    _s: State

    @property
    def node_id(self) -> NodeId:
        """This node."""
        return self._s.id

    @property
    def role(self) -> Role:
        """What this node is."""
        return self._s.role

    @property
    def term(self) -> Term:
        """The term this node is in."""
        return self._s.term

    @property
    def vote(self) -> NodeId | None:
        """Whom it voted for in this term."""
        return self._s.vote

    @property
    def leader(self) -> NodeId | None:
        """Who leads this term, as far as known."""
        return self._s.leader

    @property
    def membership(self) -> Membership:
        """Who takes part, as of the last applied change."""
        return self._s.membership

    @property
    def has_pending_change(self) -> bool:
        """Whether a membership change is under way, as far as this node knows.

        A leader is cautious here: at the start of its term it takes everything that
        it did not see applied for a change (rule 39).
        """
        s = self._s
        return bool(s.membership.outgoing) or s.pending_change_index > s.applied

    @property
    def is_removed(self) -> bool:
        """Whether this node was a member, and a change has put it out.

        A leader still leads then, until it has handed over: a node that is about to
        end because of this does so once it leads no more (rule 44).
        """
        s = self._s
        return s.was_member and s.id not in s.membership.members

    @property
    def commit_index(self) -> Index:
        """The last index known to be committed."""
        return self._s.commit

    @property
    def applied_index(self) -> Index:
        """The last index reported as applied, or installed."""
        return self._s.applied

    @property
    def first_index(self) -> Index:
        """The first index in the log."""
        return self._s.log.first_index

    @property
    def last_index(self) -> Index:
        """The last index in the log, durable or not."""
        return self._s.log.last_index

    @property
    def last_term(self) -> Term:
        """The term of the last entry."""
        return self._s.log.last_term

    @property
    def durable_index(self) -> Index:
        """The last index that the local disk has."""
        return self._s.log.durable

    def term_at(self, index: int) -> Term | None:
        """The term at `index`; None if it is cut away or not yet there."""
        return self._s.log.term_at(index)

    def match_indexes(self) -> dict[NodeId, Index]:
        """A leader's knowledge of each member's log, itself included; else empty."""
        s = self._s
        if s.role is not Role.LEADER:
            return {}
        matches = {node: peer.match_index for node, peer in s.progress.items()}
        matches[s.id] = s.log.durable
        return matches

    def progress_states(self) -> dict[NodeId, ProgressState]:
        """How a leader sends each follower the log; else empty."""
        return {node: peer.state for node, peer in self._s.progress.items()}

    def followers(self) -> dict[NodeId, FollowerView]:
        """Everything that a leader knows of its followers; else empty."""
        return {
            node: FollowerView(
                peer.match_index,
                peer.next_index,
                peer.state,
                peer.is_active or peer.was_active,
                peer.snapshot_index,
            )
            for node, peer in self._s.progress.items()
        }

    @property
    def is_term_started(self) -> bool:
        """Whether this node leads and its no-op is committed (rule 10)."""
        return self._s.is_term_started

    @property
    def term_start_index(self) -> Index:
        """Index of the leader's no-op; 0 unless leading."""
        return self._s.term_start_index

    @property
    def role_ticks(self) -> int:
        """For how many ticks this node has been what it is."""
        return self._s.ticks - self._s.role_since_tick

    @property
    def ticks_since_contact(self) -> int:
        """A non-leader's ticks since it heard a leader, or certainly was one."""
        return self._s.ticks - self._s.contact_tick

    @property
    def transfer_target(self) -> NodeId | None:
        """To whom leadership is being handed."""
        return self._s.transfer_to

    @property
    def uncommitted_bytes(self) -> int:
        """A leader's payload bytes that are not committed."""
        return self._s.uncommitted_bytes

    @property
    def peer_wall_ms(self) -> dict[NodeId, int]:
        """The wall clock of each follower in its last reply to this leader."""
        return dict(self._s.peer_wall_ms)
