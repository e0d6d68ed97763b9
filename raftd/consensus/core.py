"""The face of the core: what goes in, and `ready` as the only way out.

Rules:

* Term rules are applied once, here, for every message and role, before the message
  reaches the module that understands it (Raft paper section 5.1).
* Nothing here blocks, reads a clock or does I/O; the log reader that is handed in is
  called only for entries that have left memory.
* The same inputs give the same outputs in the same order.

Source: Raft paper figure 2.
"""

from typing import TYPE_CHECKING, assert_never

from raftd.consensus import (
    following,
    installing,
    output,
    proposals,
    reads,
    reconfiguring,
    replication,
    transfer,
    voting,
)
from raftd.consensus.config import Config
from raftd.consensus.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Input,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    TimeoutNow,
    Vote,
    VoteReply,
)
from raftd.consensus.ready import Ready
from raftd.consensus.roles import become_follower, set_leader
from raftd.consensus.state import Persisted, State
from raftd.consensus.types import (
    ConfigChange,
    Index,
    Membership,
    NodeId,
    Proposal,
    Refused,
    Role,
)
from raftd.consensus.view import View

if TYPE_CHECKING:
    from random import Random

__all__ = ["Core"]


class Core(View):
    """One node's share of Raft.

    Call any method, then take `ready` and carry it out (see `raftd.consensus.ready`);
    any number of calls may come before that, and are then answered together.
    """

    __slots__ = ()

    def __init__(self, config: Config, persisted: Persisted, rng: "Random") -> None:
        """Start as a follower of nobody.

        Args:
            config: Limits and timeouts.
            persisted: What this node has durably.
            rng: Draws election timeouts; owned by this core from here on.
        """
        self._s = State(config, persisted, rng)

    # --- in -------------------------------------------------------------------

    def tick(self) -> None:
        """One unit of time passed."""
        s = self._s
        s.ticks += 1
        s.election_elapsed += 1
        if s.role is Role.LEADER:
            _tick_leader(s)
            return
        s.reads.expire(s.ticks)
        if s.election_elapsed >= s.timeout_ticks and voting.may_campaign(s):
            voting.campaign(s)

    def step(self, m: Input) -> None:
        """Take in a peer's message; stale, repeated and reordered ones are normal."""
        s = self._s
        if m.dst != s.id:
            return
        if m.term < s.term:
            _step_older(s, m)
        elif m.term == s.term or _meet_newer(s, m):
            _dispatch(s, m)

    def propose(self, payload: bytes) -> Proposal | Refused:
        """Append `payload` as one entry, if this node leads.

        It is committed if exactly this (term, index) comes out of `Ready.commit`.
        """
        return proposals.propose(self._s, payload)

    def change(self, change: ConfigChange) -> Proposal | Refused:
        """Append a membership change as one entry, if this node leads and may.

        It takes effect at each node when that applies it. A joint configuration is
        left by an entry that the core adds by itself.
        """
        return reconfiguring.propose_change(self._s, change)

    def apply_change(self, index: int, payload: bytes) -> Membership:
        """Let a committed CONFIG entry take effect; `applied` follows.

        Args:
            index: Of the entry, among those handed out and not yet `applied`.
            payload: Of the entry.

        Returns:
            The membership that counts from here on.
        """
        return reconfiguring.apply_change(self._s, index, payload)

    def read_index(self, ctx: int) -> None:
        """Ask from which index on a read that arrived just now is linearizable.

        Args:
            ctx: Given back in `Ready.reads` or `Ready.reads_failed`, exactly once.
        """
        reads.read_index(self._s, ctx)

    def transfer(self, to: NodeId) -> bool:
        """Hand leadership to `to`; return whether that was begun."""
        return transfer.begin(self._s, to)

    def stored(self, write_id: int) -> None:
        """The write of this id, and all before it, are durable."""
        s = self._s
        durable = s.out.complete(write_id)
        if durable is None:
            return
        s.log.durable = durable
        if s.role is Role.CANDIDATE:
            voting.count_own_vote(s)
        elif s.role is Role.LEADER:
            replication.maybe_commit(s)

    def applied(self, index: int) -> None:
        """The state machine has taken in everything up to `index`."""
        s = self._s
        assert s.applied <= index <= s.handed, "only what was handed out is applied"
        s.applied = Index(index)
        if s.applied == s.handed:
            s.apply_room_bytes = s.config.apply_bytes_max
        s.log.evict(s.applied)
        if s.membership.outgoing:
            reconfiguring.leave_if_due(s)
        if s.campaign_until_tick:
            transfer.resume(s)

    def snapshot_began(self, to: NodeId, index: int) -> None:
        """The sender reports: the snapshot that ends at `index` is on its way."""
        replication.on_snapshot_began(self._s, to, index)

    def snapshot_sent(self, to: NodeId, ok: bool) -> None:
        """The sender reports: `to` has installed the snapshot, or nothing came of it.

        After a failure `Ready.snapshots` names the follower again, when it is heard
        and still needs one.
        """
        replication.on_snapshot_sent(self._s, to, is_installed=ok)

    def unreachable(self, peer: NodeId) -> None:
        """The link to `peer` broke: what was on its way may be lost."""
        s = self._s
        progress = s.progress.get(peer)
        if progress is not None:
            progress.note_unreachable()
        elif s.leader == peer:
            s.reads.fail_asked()

    def forget_leader(self) -> None:
        """The leader's process is gone: campaign soon, and let others (rule 13).

        Only for a follower; safe as long as no reads rely on leases. The delay is
        random, so that two followers which learn it together do not collide.
        """
        s = self._s
        if s.role is not Role.FOLLOWER or s.leader is None:
            return
        set_leader(s, None)
        s.election_elapsed = 0
        s.timeout_ticks = s.rng.randint(1, 2 * s.config.heartbeat_ticks)

    def step_down(self) -> None:
        """Stop leading, in the same term, because this node is unfit (rule 14)."""
        s = self._s
        if s.role is Role.LEADER:
            become_follower(s, s.term, None)

    def compact(self, index: int) -> None:
        """The node has cut its stored log up to `index`, which it has applied."""
        s = self._s
        assert index <= s.applied, "only what is applied is cut"
        s.log.compact(Index(index))

    @property
    def unfit(self) -> bool:
        """Whether this node must not come to lead: its own disk or clock is bad."""
        return self._s.is_unfit

    @unfit.setter
    def unfit(self, is_unfit: bool) -> None:
        self._s.is_unfit = is_unfit

    @property
    def local_wall_ms(self) -> int:
        """The wall clock that replies carry: set by the node, opaque here."""
        return self._s.local_wall_ms

    @local_wall_ms.setter
    def local_wall_ms(self, wall_ms: int) -> None:
        self._s.local_wall_ms = wall_ms

    # --- out ------------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether `ready` would give anything."""
        return output.has_ready(self._s)

    def ready(self) -> Ready:
        """Take all that became due; called twice in a row, the second is empty."""
        return output.take_ready(self._s)


def _tick_leader(s: State) -> None:
    if s.election_elapsed >= s.config.election_ticks:
        s.election_elapsed = 0
        if s.config.check_quorum and not replication.has_active_quorum(s):
            become_follower(s, s.term, None)
            return
    transfer.tick(s)
    if s.role is not Role.LEADER:
        return
    s.heartbeat_elapsed += 1
    if s.heartbeat_elapsed >= s.config.heartbeat_ticks:
        s.heartbeat_elapsed = 0
        replication.broadcast_heartbeats(s)
        transfer.repeat(s)
        reconfiguring.leave_if_due(s)
    else:
        replication.tell_commit(s)


def _step_older(s: State, m: Input) -> None:
    """A message of a lower term: answer who must learn ours, drop the rest."""
    match m:
        case Append() | Heartbeat() | InstallSnapshot():
            following.answer_old_leader(s, m.src)
        case PreVote():
            voting.on_pre_vote(s, m)
        case Vote():
            voting.refuse_old_vote(s, m)
        case _:
            pass


def _meet_newer(s: State, m: Input) -> bool:
    """A message of a higher term: enter it, if it speaks of that term's present.

    Returns:
        Whether the message is to be looked at.
    """
    match m:
        case Append() | Heartbeat() | InstallSnapshot():
            become_follower(s, m.term, m.src)
        case PreVote():
            return not voting.is_leased_against(s, m.src)
        case Vote():
            if not m.transfer and voting.is_leased_against(s, m.src):
                return False
            become_follower(s, m.term, None)
        case PreVoteReply() if m.granted:
            pass
        case _:
            if s.role is Role.LEADER and m.src not in s.progress:
                # A late word of somebody removed must not end a leadership.
                return False
            become_follower(s, m.term, None)
    return True


def _dispatch(s: State, m: Input) -> None:
    """Hand a message of this term to who understands it; the frequent kinds first."""
    match m:
        case AppendReply():
            replication.on_append_reply(s, m)
        case Append():
            following.on_append(s, m)
        case HeartbeatReply():
            replication.on_heartbeat_reply(s, m)
            reads.on_confirmation(s, m)
        case Heartbeat():
            following.on_heartbeat(s, m)
        case ReadIndexRequest():
            reads.on_request(s, m)
        case ReadIndexReply():
            reads.on_reply(s, m)
        case TimeoutNow():
            transfer.on_timeout_now(s, m)
        case InstallSnapshot():
            installing.on_install(s, m)
        case _:
            _dispatch_campaign(s, m)


def _dispatch_campaign(s: State, m: PreVote | PreVoteReply | Vote | VoteReply) -> None:
    match m:
        case PreVote():
            voting.on_pre_vote(s, m)
        case PreVoteReply():
            voting.on_pre_vote_reply(s, m)
        case Vote():
            voting.on_vote(s, m)
        case VoteReply():
            voting.on_vote_reply(s, m)
        case _:
            assert_never(m)
