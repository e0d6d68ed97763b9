"""What must hold in every run, checked as it happens.

Source: the five properties of figure 3 of the Raft paper; rules 22, 23 and 33.
"""

from raftd.consensus import (
    Core,
    Entry,
    HardState,
    Index,
    Membership,
    Message,
    NodeId,
    Role,
    Term,
)
from raftd.consensus.messages import AppendReply, VoteReply

__all__ = ["Oracle"]


class Oracle:
    """Sees every node from outside and fails the test at the first contradiction."""

    def __init__(self) -> None:
        self.leaders: dict[Term, NodeId] = {}
        #: Index -> the entry that some node applied there.
        self.committed: dict[Index, Entry] = {}
        #: Index of a change -> what it made.
        self.memberships: dict[Index, Membership] = {}
        #: ctx -> the highest commit index anywhere when the read began.
        self.read_floor: dict[int, Index] = {}

    def check_role(self, core: Core, log: list[Entry]) -> None:
        """Election safety and leader completeness."""
        if core.role is not Role.LEADER:
            return
        known = self.leaders.setdefault(core.term, core.node_id)
        assert known == core.node_id, f"two leaders in term {core.term}"
        have = {entry.index: entry for entry in log}
        for index, entry in self.committed.items():
            # A leader of an older term may be behind, or even wrong, unnoticed.
            is_older = entry.term < core.term and index <= core.term_start_index
            if is_older and index >= core.first_index:
                assert have[index] == entry, f"leader lacks committed {index}"

    def check_applied(self, entry: Entry, last_applied: Index) -> None:
        """State-machine safety, and no gap."""
        assert entry.index == last_applied + 1, "applied out of order"
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"two entries applied at {entry.index}"

    def check_log_matching(self, logs: list[list[Entry]]) -> None:
        """Logs with an entry in common are equal up to it, as far as both begin."""
        for position, one in enumerate(logs):
            for other in logs[position + 1 :]:
                if one and other:
                    first = max(one[0].index, other[0].index)
                    _check_pair(
                        one[first - one[0].index :], other[first - other[0].index :]
                    )

    def check_membership(self, index: Index, membership: Membership) -> None:
        """Every node makes the same of a change."""
        known = self.memberships.setdefault(index, membership)
        assert known == membership, f"two memberships at {index}"

    def check_sent(self, m: Message, durable: HardState, last_index: int) -> None:
        """Nothing is promised that the sender's disk does not have (rule 23)."""
        if isinstance(m, VoteReply | AppendReply):
            assert durable.term >= m.term, f"promised in a term not on disk: {m}"
        if durable.term != m.term:
            return
        if isinstance(m, VoteReply) and m.granted:
            assert durable.vote == m.dst, f"a vote not on disk: {m}"
        if isinstance(m, AppendReply) and m.accepted:
            assert last_index >= m.index, f"acknowledged, not on disk: {m}"

    def begin_read(self, ctx: int, commit_indexes: list[Index]) -> None:
        """Remember what is committed anywhere as the read begins."""
        assert ctx not in self.read_floor
        self.read_floor[ctx] = max(commit_indexes)

    def check_read(self, ctx: int, index: Index) -> None:
        """A read sees everything that was committed before it began."""
        assert index >= self.read_floor[ctx], f"stale read: {index}"


def _check_pair(one: list[Entry], other: list[Entry]) -> None:
    length = min(len(one), len(other))
    same = [one[i].term == other[i].term for i in range(length)]
    if True in same:
        last = length - 1 - same[::-1].index(True)
        assert one[: last + 1] == other[: last + 1], "log matching"
