"""Everything one core knows: data, and the few questions asked of it everywhere.

Rules: no decision is taken here. The modules beside it each own one part of the
protocol and change this state; `Core` is the only one that outsiders hold.

Invariants: `applied <= handed <= commit <= log.last_index`; `term` never falls;
`vote` changes within a term only from None; `progress` is empty unless leading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raftd.consensus.config import Config
from raftd.consensus.log import Log, LogReader
from raftd.consensus.outbox import Outbox
from raftd.consensus.read_state import ReadState
from raftd.consensus.ready import SoftState
from raftd.consensus.types import (
    Entry,
    HardState,
    Index,
    Membership,
    NodeId,
    Proposal,
    Role,
    Term,
)

if TYPE_CHECKING:
    from random import Random

    from raftd.consensus.progress import Progress

__all__ = ["Persisted", "State"]

_START_INDEX = Index(0)
_FIRST_INDEX = Index(1)
_START_TERM = Term(0)
_NEW_HARD_STATE = HardState()


@dataclass(frozen=True, slots=True)
class Persisted:
    """What a core starts from: all of it durable.

    Args:
        membership: Who takes part, as of `applied`.
        hard_state: Term and vote; never lower than at any earlier start.
        commit: The stored commit index; clamped to the log here (rule 26).
        applied: What the state machine has taken in; at most the last index.
        first_index: The log's first index, or the next one if it is empty.
        prev_term: Term of the entry before `first_index`; 0 before the first.
        entries: The end of the log. At least the last entry, and all after `commit`.
        term_runs: (first index, term) of each run of equal terms in the whole log.
        reader: Reads what `entries` does not hold; None if that is nothing.
    """

    membership: Membership
    hard_state: HardState = _NEW_HARD_STATE
    commit: Index = _START_INDEX
    applied: Index = _START_INDEX
    first_index: Index = _FIRST_INDEX
    prev_term: Term = _START_TERM
    entries: Sequence[Entry] = ()
    term_runs: Sequence[tuple[Index, Term]] = ()
    reader: LogReader | None = None


class State:
    """The state of one core."""

    __slots__ = (
        "applied",
        "apply_room_bytes",
        "boot_commit",
        "campaign_until_tick",
        "commit",
        "config",
        "contact_tick",
        "election_elapsed",
        "failed",
        "handed",
        "heartbeat_elapsed",
        "id",
        "is_base_known",
        "is_flush_due",
        "is_unfit",
        "leader",
        "led_term",
        "local_wall_ms",
        "log",
        "membership",
        "orphans",
        "out",
        "peer_wall_ms",
        "peers",
        "pending_change_index",
        "progress",
        "reads",
        "rng",
        "role",
        "role_since_tick",
        "snapshots_wanted",
        "soft_told",
        "term",
        "term_start_index",
        "ticks",
        "timeout_ticks",
        "transfer_elapsed",
        "transfer_is_sent",
        "transfer_to",
        "uncommitted_bytes",
        "vote",
        "votes",
        "was_member",
    )

    def __init__(self, config: Config, persisted: Persisted, rng: "Random") -> None:
        self.config = config
        self.id = config.node_id
        self.rng = rng
        #: Own id was in a membership that was in force here.
        self.was_member = False
        self.set_membership(persisted.membership)
        #: The membership came from a change or a snapshot in this life. Before that it
        #: may be what a node heard when it joined, far ahead of where its log begins.
        self.is_base_known = False
        self._take_over_log(persisted)
        self.role = Role.FOLLOWER
        self.term = persisted.hard_state.term
        self.vote = persisted.hard_state.vote
        self.leader: NodeId | None = None
        #: The newest term whose leader was known here.
        self.led_term = _START_TERM
        self.out = Outbox(persisted.hard_state)
        self.soft_told = SoftState(self.role, self.leader, self.term)
        #: (Pre-)votes received in this campaign.
        self.votes: dict[NodeId, bool] = {}
        self.ticks = 0
        self.role_since_tick = 0
        #: When a leader was last heard, or this node last known to be one for sure;
        #: unlike `election_elapsed` no campaign and no vote resets it.
        self.contact_tick = 0
        #: Follower: ticks since the leader was heard or a vote given. Leader: ticks
        #: since the last quorum check.
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.timeout_ticks = 0
        self.redraw_timeout()
        self.clear_leadership()
        self.reads = ReadState(rng.getrandbits(32))
        #: Proposals of lost leaderships, as (term, first, last) until decided.
        self.orphans: list[tuple[Term, Index, Index]] = []
        #: Outcomes to report: proposal -> is_definite.
        self.failed: dict[Proposal, bool] = {}
        #: This node's disk or loop does not keep up: it does not campaign (rule 14).
        self.is_unfit = False
        #: The leader asked for a campaign that has to wait for what is being applied;
        #: it is off at this tick.
        self.campaign_until_tick = 0
        self.local_wall_ms = 0
        self.peer_wall_ms: dict[NodeId, int] = {}

    def _take_over_log(self, persisted: Persisted) -> None:
        self.log = Log(
            first_index=persisted.first_index,
            prev_term=persisted.prev_term,
            entries=persisted.entries,
            term_runs=persisted.term_runs,
            reader=persisted.reader,
            bytes_max=self.config.cached_log_bytes_max,
        )
        self.applied = persisted.applied
        assert self.applied <= self.log.last_index, "the log starts after the state"
        assert self.applied >= self.log.first_index - 1, "a gap before the log"
        self.commit = max(min(persisted.commit, self.log.last_index), self.applied)
        assert self.log.tail_first_index <= self.commit + 1, "uncommitted, not given"
        assert self.log.last_term <= persisted.hard_state.term, "the term fell"
        #: This much is applied before the node campaigns.
        self.boot_commit = self.commit
        #: Given out to be applied, up to here.
        self.handed = self.applied
        self.apply_room_bytes = self.config.apply_bytes_max

    def set_membership(self, membership: Membership) -> None:
        """Let `membership` count from here on; what follows is not done here."""
        self.membership = membership
        #: Everyone else that entries go to, sorted.
        self.peers = tuple(n for n in membership.members if n != self.id)
        self.was_member = self.was_member or self.id in membership.members

    def clear_leadership(self) -> None:
        """Forget what only a leader knows, whatever way leadership ended (rule 12)."""
        self.progress: dict[NodeId, Progress] = {}
        #: Index of this leadership's no-op.
        self.term_start_index = Index(0)
        self.uncommitted_bytes = 0
        self.transfer_to: NodeId | None = None
        self.transfer_elapsed = 0
        self.transfer_is_sent = False
        #: A membership change may stand up to here; applied beyond, none is under way.
        self.pending_change_index = Index(0)
        #: Followers in need of a snapshot that the node was not told about yet.
        self.snapshots_wanted: list[NodeId] = []
        #: Something may have to be sent that `ready` works out.
        self.is_flush_due = False

    def redraw_timeout(self) -> None:
        """Draw when to campaign, anew at every change of role or term (rule 1)."""
        ticks = self.config.election_ticks
        self.timeout_ticks = self.rng.randrange(ticks, 2 * ticks)

    @property
    def hard_state(self) -> HardState:
        """Term and vote as they should be on disk."""
        return HardState(self.term, self.vote)

    @property
    def is_departing(self) -> bool:
        """Tell whether this leader is no member any more and hands over (rule 44)."""
        return self.role is Role.LEADER and self.id not in self.membership.members

    @property
    def is_term_started(self) -> bool:
        """Tell whether this leader's no-op is committed (rule 10)."""
        return self.role is Role.LEADER and self.commit >= self.term_start_index
