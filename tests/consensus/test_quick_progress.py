"""What a leader knows of a follower, against a plain account: paper 5.3; thesis 10.2.

The first machine drives one `Progress`; the second a leading core over a link that
loses, repeats and reorders, to a follower that is a list.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raftd.consensus import Entry, Index, NodeId, ProgressState, Proposal, Role
from raftd.consensus.log import entry_bytes
from raftd.consensus.messages import Append, AppendReply, Heartbeat
from raftd.consensus.progress import Progress
from tests.consensus.helpers import HEARTBEAT, limited
from tests.consensus.network import Network
from tests.consensus.quick import QUICK
from tests.consensus.words import heartbeat_reply_of

_MESSAGES_MAX = 3
_BYTES_MAX = 100
_SELDOM = st.sampled_from([False, False, False, True])


class ProgressAgainstAccount(RuleBasedStateMachine):
    """The state, two indexes, and what is under way as a list."""

    @initialize(next_index=st.integers(1, 8))
    def begin(self, next_index: int) -> None:
        self.progress = Progress(Index(next_index))
        self.state = ProgressState.PROBE
        self.match = 0
        self.next = next_index
        self.is_waiting = False
        self.under_way: list[tuple[int, int]] = []
        self.snapshot = 0

    def enter(self, state: ProgressState, next_index: int) -> None:
        self.state, self.next = state, next_index
        self.is_waiting, self.under_way, self.snapshot = False, [], 0

    @rule(count=st.integers(1, 3), size=st.integers(1, 60), times=st.integers(1, 5))
    def send(self, count: int, size: int, times: int) -> None:
        for _ in range(times):
            self.send_one(count, size)

    def send_one(self, count: int, size: int) -> None:
        room = sum(n for _, n in self.under_way) < _BYTES_MAX
        may_send = {
            ProgressState.PROBE: not self.is_waiting,
            ProgressState.REPLICATE: room and len(self.under_way) < _MESSAGES_MAX,
            ProgressState.SNAPSHOT: False,
        }[self.state]
        assert self.progress.may_send(_MESSAGES_MAX, _BYTES_MAX) == may_send
        if not may_send:
            return
        last = self.next + count - 1
        self.progress.note_sent(Index(last), size)
        if self.state is ProgressState.PROBE:
            self.is_waiting = True
        else:
            self.next = last + 1
            self.under_way.append((last, size))

    @rule(index=st.integers(0, 12), first_index=st.integers(1, 6))
    def accept(self, index: int, first_index: int) -> None:
        is_news = index > self.match
        answer = self.progress.note_accepted(Index(index), Index(first_index))
        if is_news:
            self.match = index
            self.next = max(self.next, index + 1)
        is_cut_off = self.match + 1 < first_index
        if self.state is ProgressState.SNAPSHOT and is_cut_off:
            assert answer == is_news
        elif self.state is not ProgressState.REPLICATE and index == self.match:
            self.enter(ProgressState.REPLICATE, self.match + 1)
            assert answer
        else:
            self.under_way = [(last, n) for last, n in self.under_way if last > index]
            assert answer == is_news

    @rule(rejected=st.integers(0, 12), hint=st.integers(0, 12))
    def reject(self, rejected: int, hint: int) -> None:
        is_stale = self.progress.is_stale_rejection(Index(rejected))
        if self.state is ProgressState.REPLICATE:
            assert is_stale == (rejected <= self.match)
        else:
            assert is_stale == (rejected != self.next - 1)
        if not is_stale and self.state is not ProgressState.SNAPSHOT:
            self.progress.note_rejected(Index(min(hint, max(rejected - 1, 0))))
            follow = max(self.match, min(hint, max(rejected - 1, 0)))
            self.enter(ProgressState.PROBE, follow + 1)

    @rule()
    def lose_link(self) -> None:
        self.progress.note_unreachable()
        if self.state is ProgressState.SNAPSHOT:
            return
        is_probe = self.state is ProgressState.PROBE
        self.enter(ProgressState.PROBE, self.next if is_probe else self.match + 1)
        self.is_waiting = True

    @rule()
    def hear_again(self) -> None:
        self.progress.is_paused = self.is_waiting = False

    @rule()
    def cut_off(self) -> None:
        self.progress.note_cut_off()
        self.enter(ProgressState.SNAPSHOT, self.match + 1)

    @precondition(lambda self: self.state is ProgressState.SNAPSHOT)
    @rule(index=st.integers(1, 12))
    def begin_snapshot(self, index: int) -> None:
        self.progress.snapshot_index = Index(index)
        self.snapshot = index

    @precondition(lambda self: self.state is ProgressState.SNAPSHOT)
    @rule(is_installed=st.booleans())
    def end_snapshot(self, is_installed: bool) -> None:
        self.progress.note_snapshot_ended(is_installed=is_installed)
        reached = self.snapshot if is_installed else 0
        self.enter(ProgressState.PROBE, max(self.match, reached) + 1)
        self.is_waiting = not is_installed

    @invariant()
    def account_is_kept(self) -> None:
        p = self.progress
        assert (p.state, p.match_index, p.next_index) == (
            self.state,
            self.match,
            self.next,
        )
        assert p.snapshot_index == self.snapshot
        assert p.inflight_messages == len(self.under_way) <= _MESSAGES_MAX
        assert p.inflight_bytes == sum(size for _, size in self.under_way)
        assert p.inflight_bytes < _BYTES_MAX + 60
        assert p.match_index < p.next_index


@dataclass
class _List:
    """A follower: entries, and what it was told to be committed."""

    log: list[Entry] = field(default_factory=list)
    commit: int = 0

    def receive(self, m: Append) -> AppendReply:
        """Figure 2; everything is on disk at once."""
        prev = m.prev_index
        if prev > len(self.log) or (prev and self.log[prev - 1].term != m.prev_term):
            return AppendReply(m.dst, m.src, m.term, False, prev, Index(len(self.log)))
        for entry in m.entries:
            if entry.index > len(self.log):
                self.log.append(entry)
            assert self.log[entry.index - 1] == entry
        end = Index(prev + len(m.entries))
        self.commit = max(self.commit, min(m.commit, end))
        return AppendReply(m.dst, m.src, m.term, True, end)


class WindowOverBadLink(RuleBasedStateMachine):
    """A leading core, node 1, and node 2 as a list at the other end."""

    @initialize(
        messages_max=st.sampled_from([1, 2, 5]),
        bytes_max=st.sampled_from([1, 300, 1 << 20]),
        append_max=st.sampled_from([1, 200]),
    )
    def begin(self, messages_max: int, bytes_max: int, append_max: int) -> None:
        self.limits = (messages_max, bytes_max, append_max)
        self.net = Network(
            2,
            voters=(1,),
            configure=limited(
                inflight_messages_max=messages_max,
                inflight_bytes_max=bytes_max,
                append_bytes_max=append_max,
            ),
        )
        self.follower = _List()
        self.to_follower: list[Append] = []
        self.to_leader: list[AppendReply] = []
        self.pulses = 0
        self.match = 0
        self.net.isolate(1)
        self.net.elect(1)
        self.run_leader()
        self.deliver_all()

    def run_leader(self) -> None:
        self.net.settle()
        for m in self.net.sent:
            if isinstance(m, Append):
                sizes = list(map(entry_bytes, m.entries))
                assert len(sizes) <= 1 or sum(sizes) <= self.limits[2]
                self.to_follower.append(m)
            elif isinstance(m, Heartbeat):
                assert m.commit <= self.match
                self.pulses += 1
        self.net.sent.clear()

    @rule(count=st.integers(1, 4), size=st.integers(1, 80))
    def propose(self, count: int, size: int) -> None:
        for _ in range(count):
            assert isinstance(self.net.core(1).propose(b"x" * size), Proposal)
        self.run_leader()

    @rule()
    def tick(self) -> None:
        self.net.tick(1)
        self.run_leader()

    @precondition(lambda self: self.to_follower)
    @rule(data=st.data(), is_lost=_SELDOM, is_kept=_SELDOM)
    def follow(self, data: st.DataObject, is_lost: bool, is_kept: bool) -> None:
        at = data.draw(st.integers(0, min(2, len(self.to_follower) - 1)))
        m = self.to_follower[at]
        if not is_kept:
            del self.to_follower[at]
        if not is_lost:
            self.to_leader.append(self.follower.receive(m))

    @precondition(lambda self: self.to_leader)
    @rule(data=st.data(), is_lost=_SELDOM)
    def answer(self, data: st.DataObject, is_lost: bool) -> None:
        at = data.draw(st.integers(0, min(2, len(self.to_leader) - 1)))
        m = self.to_leader.pop(at)
        if not is_lost:
            self.hear(m)

    def hear(self, m: AppendReply) -> None:
        if m.accepted:
            self.match = max(self.match, m.index)
        self.net.inject(m)
        self.run_leader()

    @rule()
    def beat(self) -> None:
        if self.pulses:
            self.pulses = 0
            self.net.inject(heartbeat_reply_of(2, 1, 1))
            self.run_leader()

    def deliver_all(self) -> None:
        while self.to_follower or self.to_leader or self.pulses:
            self.beat()
            while self.to_follower:
                m = self.to_follower.pop(0)
                self.to_leader.append(self.follower.receive(m))
            while self.to_leader:
                self.hear(self.to_leader.pop(0))

    @rule()
    def lose_all(self) -> None:
        self.to_follower.clear()
        self.to_leader.clear()
        self.net.core(1).unreachable(NodeId(2))
        self.run_leader()

    @invariant()
    def leader_is_right(self) -> None:
        core = self.net.core(1)
        assert core.role is Role.LEADER
        view = core.followers()[NodeId(2)]
        assert view.match_index == self.match <= len(self.follower.log)
        assert view.match_index < view.next_index <= core.last_index + 1

    @invariant()
    def window_is_kept(self) -> None:
        progress = self.net.core(1)._s.progress[NodeId(2)]  # noqa: SLF001  # the window shows nowhere else
        messages_max, bytes_max, _ = self.limits
        assert progress.inflight_messages <= messages_max
        is_single = progress.inflight_messages <= 1
        assert is_single or progress.inflight_bytes <= bytes_max + 64 + 80

    def teardown(self) -> None:
        """Once nothing is lost any more, the follower comes to have all of it."""
        if not hasattr(self, "follower"):
            return
        core = self.net.core(1)
        for _ in range(4 * core.last_index + 8):
            self.net.tick(1, HEARTBEAT)
            self.run_leader()
            self.deliver_all()
        assert self.follower.log == self.net[1].log
        assert self.match == core.last_index


TestProgressAgainstAccount = ProgressAgainstAccount.TestCase
TestProgressAgainstAccount.settings = settings(
    QUICK, max_examples=100, stateful_step_count=30
)
TestWindowOverBadLink = WindowOverBadLink.TestCase
TestWindowOverBadLink.settings = settings(
    QUICK, max_examples=40, stateful_step_count=30
)
