"""Random runs: any order, loss, repetition, crash; the oracle watches every step.

Source: Raft paper figure 3 (election safety, log matching, leader completeness,
state-machine safety); rules 22 and 33 for proposals and reads.

Every run draws its own parameters as well as its own events: fixed ranges find far
fewer faults. A failure names its seed, and the seed replays the run.
"""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from raftd.consensus import (
    ChangeKind,
    Config,
    ConfigChange,
    ConfigStep,
    Membership,
    NodeId,
    Proposal,
    Role,
)
from tests.consensus.disk import Node
from tests.consensus.helpers import limited
from tests.consensus.network import Network

_SEEDS = range(60)
#: What has to be in the traces of some of them, several times.
_EVENTS = (
    "restarted",
    "truncate-from",
    " definite",
    "read at",
    "needs a snapshot",
    " install=",
    ": voters",
    " outgoing",
    "change(leave)",
)
_STEPS = 10_000


class Run:
    """One seed: a cluster, its parameters and its events."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(f"consensus/{seed}")
        size = rng.choice([1, 2, 3, 3, 3, 4, 5, 5])
        self.config = self._draw_config()
        voters = tuple(range(1, rng.choice([size, (size + 1) // 2]) + 1))
        self.net = Network(
            size,
            seed=seed,
            configure=self.config,
            voters=voters,
            learners=(),
        )
        self.proposals: dict[Proposal, int] = {}
        self.reads: dict[int, int] = {}
        #: Every message that was on the wire, for being heard again much later.
        self.past: list[tuple[NodeId, NodeId, bytes]] = []
        self.commits = dict.fromkeys(self.net.ids, 0)
        actions: list[tuple[Callable[[], None], float]] = [
            (self.tick, rng.choice([5, 15, 40])),
            (self.deliver, 40),
            (self.ready, 40),
            (self.finish_write, rng.choice([5, 20, 40])),
            (self.propose, rng.choice([3, 10])),
            (self.read, rng.choice([0, 3])),
            (self.lose, rng.choice([0, 1, 5])),
            (self.repeat, rng.choice([0, 1, 3])),
            (self.replay, rng.choice([0, 0.5])),
            (self.crash, rng.choice([0, 0.1, 0.5])),
            (self.cut_links, rng.choice([0, 0.3, 1])),
            (self.heal, rng.choice([0.1, 0.3])),
            (self.meddle, rng.choice([0, 0.5])),
            (self.change, rng.choice([0, 0.3, 2])),
            (self.cut_log, rng.choice([0, 0.3, 2])),
            (self.offer, 2),
            (self.end_offer, rng.choice([0.5, 5])),
        ]
        self.actions = [action for action, _ in actions]
        self.weights = [weight for _, weight in actions]

    def _draw_config(self) -> Callable[[NodeId], Config]:
        rng = self.rng
        return limited(
            election_ticks=rng.choice([3, 6, 12]),
            heartbeat_ticks=rng.choice([1, 2]),
            append_bytes_max=rng.choice([1, 200, 1 << 18]),
            inflight_messages_max=rng.choice([1, 2, 256]),
            inflight_bytes_max=rng.choice([1, 500, 1 << 22]),
            apply_bytes_max=rng.choice([1, 300, 1 << 20]),
            cached_log_bytes_max=rng.choice([1, 500, 1 << 26]),
            uncommitted_bytes_max=rng.choice([10, 1 << 26]),
            pre_vote=rng.random() < 0.8,
            check_quorum=rng.random() < 0.8,
        )

    def go(self) -> None:
        """Let anything happen; then let it all heal and look at the end."""
        for step in range(_STEPS):
            self.rng.choices(self.actions, self.weights)[0]()
            if step % 50 == 0:
                self.net.check_logs()
                self.check_commits()
        self.recover()
        self.check_end()

    def check_commits(self) -> None:
        """The commit index never falls, but for a restart."""
        for node in self.net.ids:
            commit = self.net.core(node).commit_index
            assert commit >= self.commits[node]
            self.commits[node] = commit

    # --- events -----------------------------------------------------------------

    def _node(self) -> NodeId:
        return self.rng.choice(self.net.ids)

    def _victim(self) -> NodeId:
        """A node to trouble: every other time the leader."""
        leader = self.net.leader()
        return NodeId(leader) if leader and self.rng.random() < 0.5 else self._node()

    def tick(self) -> None:
        self.net.core(self._node()).tick()

    def ready(self) -> None:
        node = self._node()
        if self.net.core(node).has_ready:
            self.net.take_ready(node)
            self.past += self.net.wire[-3:]

    def finish_write(self) -> None:
        node = self._node()
        if self.net[node].writes:
            self.net.finish_write(node)

    def deliver(self) -> None:
        if self.net.wire:
            # Mostly in order, as a stream would; sometimes not.
            reach = 1 if self.rng.random() < 0.7 else len(self.net.wire)
            self.net.deliver(self.rng.randrange(reach))

    def repeat(self) -> None:
        if self.net.wire:
            self.net.deliver(self.rng.randrange(len(self.net.wire)), is_copy=True)

    def replay(self) -> None:
        if self.past:
            self.net.wire.append(self.rng.choice(self.past))

    def lose(self) -> None:
        if self.net.wire:
            self.net.wire.pop(self.rng.randrange(len(self.net.wire)))

    def propose(self) -> None:
        node = NodeId(self.net.leader() or self._node())
        payload = b"p%d" % len(self.proposals)
        answer = self.net.core(node).propose(payload)
        if isinstance(answer, Proposal):
            assert answer not in self.proposals
            self.proposals[answer] = node

    def read(self) -> None:
        node = self._node()
        self.reads[self.net.read(node)] = node

    def crash(self) -> None:
        node = self._victim()
        self._forget(node)
        self.net.restart(node, keep_writes=self.rng.randrange(4))
        self.commits[node] = 0

    def _forget(self, node: int) -> None:
        self.proposals = {p: n for p, n in self.proposals.items() if n != node}
        self.reads = {ctx: n for ctx, n in self.reads.items() if n != node}

    def cut_links(self) -> None:
        if self.rng.random() < 0.5:
            self.net.isolate(self._victim())
        else:
            self.net.cut.add((self._victim(), self._node()))

    def heal(self) -> None:
        self.net.heal()

    def meddle(self) -> None:
        core = self.net.core(self._victim())
        match self.rng.randrange(4):
            case 0:
                core.forget_leader()
            case 1:
                core.unreachable(self._node())
            case 2:
                core.transfer(self._node())
            case _:
                core.step_down()

    def change(self) -> None:
        config = self.config(NodeId(1))
        if not (config.pre_vote or config.check_quorum):
            # Nothing keeps those who were removed from disturbing.
            return
        node = NodeId(self.net.leader() or self._node())
        members = self.net.core(node).membership
        count = self.rng.choice([0, 1, 1, 2, 3])
        steps = tuple(
            ConfigStep(self._draw_kind(members, peer), peer)
            for peer in self.rng.sample(self.net.ids, min(count, len(self.net.ids)))
        )
        answer = self.net.core(node).change(ConfigChange(steps))
        if isinstance(answer, Proposal):
            self.proposals[answer] = node

    def _draw_kind(self, members: Membership, node: NodeId) -> ChangeKind:
        """Mostly something that fits."""
        if self.rng.random() < 0.05:
            return self.rng.choice(list(ChangeKind))
        if members.is_voter(node):
            return ChangeKind.REMOVE
        if node in members.learners and self.rng.random() < 0.2:
            return ChangeKind.REMOVE
        if node in members.learners or self.rng.random() < 0.5:
            return ChangeKind.PROMOTE
        return ChangeKind.ADD_LEARNER

    def cut_log(self) -> None:
        node = self._victim()
        n = self.net[node]
        if n.disk.state.index < n.core.applied_index <= n.core.durable_index:
            self.net.checkpoint(node)
        is_at_rest = n.disk.prev_index == n.core.first_index - 1
        if is_at_rest and n.disk.prev_index < n.disk.state.index <= n.disk.last_index:
            tail = self.rng.choice([0, 0, 5])
            self.net.cut_log(node, max(n.core.first_index, n.disk.state.index - tail))

    def offer(self) -> None:
        """Begin every snapshot that was asked for."""
        for node in self.net.ids:
            n = self.net[node]
            asked = list(dict.fromkeys(n.snapshots))
            n.snapshots.clear()
            for peer in asked:
                if n.core.role is Role.LEADER:
                    self.net.offer(node, peer)

    def end_offer(self) -> None:
        """End a snapshot's way, well or not, and maybe only for one of the two."""
        if not self.net.offers:
            return
        src, dst = self.rng.choice(list(self.net.offers))
        is_kept = self.rng.random() < 0.2
        is_whole = self.rng.random() < 0.8 and not self._is_cut(src, dst)
        if is_whole:
            self.net.install(src, dst)
        if not is_kept:
            del self.net.offers[src, dst]
            is_known = is_whole and self.rng.random() < 0.8
            if is_known:
                self.finish_all(dst)
            self.net.core(src).snapshot_sent(NodeId(dst), is_known)

    def finish_all(self, node: int) -> None:
        """Let a node finish what it writes, as it would before it answers."""
        while self.net.core(node).has_ready or self.net[node].writes:
            if self.net.core(node).has_ready:
                self.net.take_ready(node)
            else:
                self.net.finish_write(node)

    def _is_cut(self, src: int, dst: int) -> bool:
        return (src, dst) in self.net.cut

    # --- the end ------------------------------------------------------------------

    def recover(self) -> None:
        """Mend everything; then a leader, progress and equality must follow."""
        self.net.heal()
        self.net.settle()
        for rounds in range(400):
            if rounds >= 40 and self.net.leader() is not None:
                break
            self.net.tick_all(5)
            self.offer()
            for src, dst in list(self.net.offers):
                self.net.install(src, dst)
                del self.net.offers[src, dst]
                self.net.settle()
                self.net.core(src).snapshot_sent(NodeId(dst), True)
        leader = self.net.leader()
        assert leader is not None, "no leader though all is well"
        self.net.propose(leader, b"end")
        self.net.tick_all(6)

    def check_end(self) -> None:
        net = self.net
        leader = net.leader()
        assert leader is not None
        first = net[leader]
        assert first.applied[-1].payload == b"end"
        assert not first.core.membership.outgoing, "the joint phase does not end"
        for node in first.core.membership.members:
            assert net[node].applied == first.applied
            assert net.core(node).last_index == first.core.last_index
            assert net.core(node).membership == first.core.membership
            assert not net.core(node).has_ready
        self._check_outcomes(first)

    def _check_outcomes(self, first: Node) -> None:
        committed = {(e.term, e.index) for e in first.applied}
        told = {p: n.failed for n in self.net.nodes.values() for p, _ in n.failed}
        for proposal, node in self.proposals.items():
            is_committed = (proposal.term, proposal.index) in committed
            verdicts = [d for p, d in self.net[node].failed if p == proposal]
            n = self.net[node]
            if proposal.index in n.handed:
                assert is_committed or True in verdicts, f"{proposal} has no end"
            elif proposal.index <= n.core.applied_index:
                assert verdicts, f"{proposal} is behind a snapshot, and not told"
            assert verdicts in ([], [False], [True], [False, True])
        for failed in told.values():
            for proposal, is_definite in failed:
                is_committed = (proposal.term, proposal.index) in committed
                assert not (is_definite and is_committed), f"{proposal} did happen"
        for ctx, node in self.reads.items():
            n = self.net[node]
            assert (ctx in n.reads) + n.reads_failed.count(ctx) == 1


@pytest.mark.parametrize("seed", _SEEDS)
def test_nothing_breaks_whatever_happens(seed: int) -> None:
    Run(seed).go()


def test_the_same_seed_gives_the_same_run() -> None:
    traces = []
    for _ in range(2):
        run = Run(7)
        run.go()
        traces.append(run.net.trace)
    assert traces[0] == traces[1]


def test_the_runs_reach_what_they_are_for() -> None:
    """Runs in which little happens would prove little."""
    seen: Counter[str] = Counter()
    for seed in range(25):
        run = Run(seed)
        run.go()
        trace = run.net.trace
        seen["elections"] += len(run.net.oracle.leaders)
        for event in _EVENTS:
            seen[event] += sum(event in line for line in trace)
        assert any(run.net.core(n).role is Role.LEADER for n in run.net.ids)
    assert all(seen[event] >= 10 for event in ("elections", *_EVENTS)), seen
