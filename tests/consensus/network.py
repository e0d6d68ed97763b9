"""Real cores wired back to back: no sockets, no clock, a disk under the test's control.

Messages are encoded and decoded on the way. Every node has a durable image, which is
all that survives `restart`, and a queue of writes, which finish when told. `settle`
lets everything run to rest; smaller steps are for tests that need an exact order.
"""

from collections.abc import Callable
from random import Random

import msgspec

from raftd.consensus import (
    Config,
    ConfigChange,
    Core,
    Entry,
    EntryKind,
    HardState,
    Index,
    Install,
    InstallSnapshot,
    Membership,
    Message,
    NodeId,
    Proposal,
    Ready,
    Role,
    Term,
)
from raftd.consensus.messages import TimeoutNow, VoteReply
from tests.consensus.disk import Disk, Node, Snapshot, entries_of_terms, runs_of
from tests.consensus.oracle import Oracle
from tests.consensus.trace import show_membership, show_message, show_ready

__all__ = ["Disk", "Network", "Node", "entries_of_terms", "runs_of"]

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)
_ROUNDS_MAX = 10_000


class Network:
    """A cluster in one thread; `ids` are 1 to `size`."""

    def __init__(
        self,
        size: int = 3,
        *,
        seed: int = 0,
        logs: dict[int, list[Entry]] | None = None,
        terms: dict[int, int] | None = None,
        configure: Callable[[NodeId], Config] = Config,
        voters: tuple[int, ...] | None = None,
        learners: tuple[int, ...] | None = None,
    ) -> None:
        """Start every node from the given logs and terms; empty by default.

        Whoever is not among the voters learns, or else, if it is not among the
        learners that are named, is a stranger and knows of no member.
        """
        self.ids = [NodeId(n) for n in range(1, size + 1)]
        self.rng = Random(seed)
        self.oracle = Oracle()
        self.trace: list[str] = []
        #: (src, dst, encoded message) on its way, in the order sent.
        self.wire: list[tuple[NodeId, NodeId, bytes]] = []
        #: Links that lose everything, and links that deliver only when told.
        self.cut: set[tuple[int, int]] = set()
        self.held: set[tuple[int, int]] = set()
        self.sent: list[Message] = []
        self._configure = configure
        self._read_ctx = 0
        #: (leader, follower) -> the snapshot on its way, and the leader's term.
        self.offers: dict[tuple[int, int], tuple[Snapshot, Term]] = {}
        named = tuple(map(NodeId, voters or self.ids))
        if learners is None:
            learners = tuple(n for n in self.ids if n not in named)
        self.membership = Membership(named, learners=tuple(map(NodeId, learners)))
        self.nodes: dict[NodeId, Node] = {}
        for node in self.ids:
            log = (logs or {}).get(node, [])
            term = max((terms or {}).get(node, 0), log[-1].term if log else 0)
            is_member = node in self.membership.members
            known = self.membership if is_member else Membership(())
            start = Snapshot(Index(0), Term(0), known)
            self._start(node, Disk(HardState(Term(term)), list(log), state=start))

    def _start(self, node: NodeId, disk: Disk) -> None:
        rng = Random(self.rng.getrandbits(64))
        core = Core(self._configure(node), disk.persisted(), rng)
        applied = list(disk.state.applied)
        self.nodes[node] = Node(core, disk, list(disk.log), applied)

    def restart(self, node: int, *, keep_writes: int = 0) -> None:
        """Crash a node; of its unfinished writes only the first ones got to disk."""
        old = self.nodes[NodeId(node)]
        for _ in range(min(keep_writes, len(old.writes))):
            write = old.writes.popleft()[0]
            old.disk.apply(write, old.to_install(write))
        self._start(NodeId(node), old.disk)
        self.trace.append(f"{node}: restarted")

    # --- looking ----------------------------------------------------------------

    def core(self, node: int) -> Core:
        """Return the core of a node."""
        return self.nodes[NodeId(node)].core

    def __getitem__(self, node: int) -> Node:
        return self.nodes[NodeId(node)]

    def leader(self) -> int | None:
        """Return the leader of the highest term."""
        leaders = [c for c in map(self.core, self.ids) if c.role is Role.LEADER]
        return max(leaders, key=lambda c: c.term).node_id if leaders else None

    # --- small steps --------------------------------------------------------------

    def take_ready(self, node: int) -> Ready:
        """Take one Ready and carry it out, but for the write, which is queued."""
        n = self.nodes[NodeId(node)]
        ready = n.core.ready()
        self.trace += [f"{node}: {line}" for line in show_ready(ready)]
        for m in ready.send_now:
            self._send(n, m)
        if ready.write is not None:
            n.writes.append((ready.write, ready.send_after))
            if ready.write.install is not None:
                n.log.clear()
                n.applied[:] = n.loaded[ready.write.install].applied
            if ready.write.truncate_from is not None:
                n.log = [e for e in n.log if e.index < ready.write.truncate_from]
            n.log += ready.write.entries
        else:
            assert not ready.send_after, "messages that wait for no write"
        for entry in ready.commit:
            last = n.applied[-1].index if n.applied else Index(0)
            self.oracle.check_applied(entry, last)
            n.applied.append(entry)
            n.handed[entry.index] = entry
        if ready.commit and not n.is_apply_held:
            self.apply(node)
        n.snapshots += ready.snapshots
        for ctx, index in ready.reads:
            self.oracle.check_read(ctx, index)
            n.reads[ctx] = index
        n.reads_failed += ready.reads_failed
        n.failed += ready.failed
        self.oracle.check_role(n.core, n.log)
        return ready

    def apply(self, node: int) -> None:
        """Let the state machine of a node take in all that it was handed."""
        n = self.nodes[NodeId(node)]
        for entry in n.applied:
            is_new = entry.index > n.core.applied_index
            if is_new and entry.kind is EntryKind.CONFIG:
                membership = n.core.apply_change(entry.index, entry.payload)
                self.oracle.check_membership(entry.index, membership)
                self.trace.append(f"{node}: {show_membership(membership)}")
        if n.applied and n.applied[-1].index > n.core.applied_index:
            n.core.applied(n.applied[-1].index)

    def finish_write(self, node: int) -> None:
        """Make the oldest write of a node durable, and release what waited for it."""
        n = self.nodes[NodeId(node)]
        write, send_after = n.writes.popleft()
        n.disk.apply(write, n.to_install(write))
        self.trace.append(f"{node}: stored {write.id}")
        for m in send_after:
            self._send(n, m)
        n.core.stored(write.id)

    def _send(self, n: Node, m: Message) -> None:
        assert m.src == n.core.node_id
        assert m.dst != m.src
        self.oracle.check_sent(m, n.disk.hard_state, n.disk.last_index)
        self.sent.append(m)
        if (m.src, m.dst) not in self.cut:
            self.wire.append((m.src, m.dst, _ENCODER.encode(m)))

    def deliver(self, position: int = 0, *, is_copy: bool = False) -> None:
        """Deliver one message from the wire; a copy leaves the original there."""
        packet = self.wire[position] if is_copy else self.wire.pop(position)
        m = _DECODER.decode(packet[2])
        self.trace.append(f"{m.dst}: got {show_message(m)}")
        self.nodes[m.dst].core.step(m)

    def deliver_between(self, src: int, dst: int, count: int | None = None) -> None:
        """Deliver the oldest messages of one link, held or not; all by default."""
        mine = [p for p in self.wire if p[:2] == (src, dst)][:count]
        for packet in mine:
            self.deliver(self.wire.index(packet))

    def drop_between(self, src: int, dst: int) -> None:
        """Lose everything that is on its way on one link."""
        self.wire = [p for p in self.wire if p[:2] != (src, dst)]

    def inject(self, m: Message) -> None:
        """Deliver a message that no node of this run sent just now."""
        self.nodes[m.dst].core.step(_DECODER.decode(_ENCODER.encode(m)))

    # --- snapshots ------------------------------------------------------------------

    def checkpoint(self, node: int) -> None:
        """Make durable what a node has applied."""
        n = self.nodes[NodeId(node)]
        assert n.core.applied_index <= n.core.durable_index, "ahead of the log"
        n.disk.state = n.snapshot()

    def cut_log(self, node: int, index: int) -> None:
        """Cut a node's log up to `index`, which its newest checkpoint contains."""
        n = self.nodes[NodeId(node)]
        n.disk.cut(index)
        n.log = [e for e in n.log if e.index > index]
        n.core.compact(index)

    def offer(self, src: int, dst: int) -> None:
        """Begin to send a leader's newest checkpoint."""
        n = self.nodes[NodeId(src)]
        self.offers[src, dst] = (n.disk.state, n.core.term)
        n.core.snapshot_began(NodeId(dst), n.disk.state.index)

    def install(self, src: int, dst: int) -> None:
        """The snapshot on its way is at the follower, whole."""
        offer, term = self.offers[src, dst]
        n = self.nodes[NodeId(dst)]
        n.loaded[Install(offer.index, offer.term)] = offer
        n.core.step(
            InstallSnapshot(
                NodeId(src),
                NodeId(dst),
                term,
                offer.index,
                offer.term,
                offer.membership,
            )
        )

    # --- everything at once ---------------------------------------------------------

    def settle(self) -> None:
        """Run until nothing moves any more without time passing."""
        for _ in range(_ROUNDS_MAX):
            moved = [self._run_node(node) for node in self.ids]
            open_packets = [p for p in self.wire if p[:2] not in self.held]
            for packet in open_packets:
                self.deliver(self.wire.index(packet))
            if not any(moved) and not open_packets:
                return
        raise AssertionError("the network does not come to rest")

    def _run_node(self, node: NodeId) -> bool:
        n = self.nodes[node]
        moved = False
        while n.core.has_ready:
            moved = True
            self.take_ready(node)
        while n.writes and not n.is_disk_held:
            moved = True
            self.finish_write(node)
        return moved

    def tick(self, node: int, times: int = 1) -> None:
        """Let time pass at one node, and everything settle after each tick."""
        for _ in range(times):
            self.core(node).tick()
            self.settle()

    def tick_all(self, times: int = 1) -> None:
        """Let time pass everywhere."""
        for _ in range(times):
            for node in self.ids:
                self.core(node).tick()
            self.settle()

    def elect(self, node: int) -> None:
        """Make `node` lead: the others forget their leader, it times out."""
        for other in self.ids:
            self.core(other).forget_leader()
        for _ in range(3 * 2 * Config(NodeId(1)).election_ticks):
            if self.core(node).role is Role.LEADER:
                return
            self.tick(node)
        raise AssertionError(f"{node} was not elected")

    def elect_quietly(self, node: int) -> None:
        """Make `node` lead by another's grants, delivering none of its messages."""
        core = self.core(node)
        core.step(TimeoutNow(core.leader or NodeId(0), core.node_id, core.term))
        self.settle()
        for other in self.membership.voters:
            if core.role is Role.CANDIDATE and other != node:
                self.inject(VoteReply(other, core.node_id, core.term, True))
        assert core.role is Role.LEADER
        self.settle()

    def propose(self, node: int, payload: bytes) -> Proposal:
        """Propose without letting anything settle."""
        proposal = self.core(node).propose(payload)
        assert isinstance(proposal, Proposal), proposal
        return proposal

    def change(self, node: int, change: ConfigChange) -> Proposal:
        """Propose a membership change without letting anything settle."""
        proposal = self.core(node).change(change)
        assert isinstance(proposal, Proposal), proposal
        return proposal

    def read(self, node: int) -> int:
        """Begin a read without letting anything settle; return its ctx."""
        self._read_ctx += 1
        commits = [self.core(other).commit_index for other in self.ids]
        self.oracle.begin_read(self._read_ctx, commits)
        self.core(node).read_index(self._read_ctx)
        return self._read_ctx

    def isolate(self, *nodes: int) -> None:
        """Cut every link between `nodes` and the others, both ways."""
        for a in nodes:
            for b in self.ids:
                if b not in nodes:
                    self.cut |= {(a, b), (b, a)}

    def heal(self) -> None:
        """Mend and open all links."""
        self.cut.clear()
        self.held.clear()

    def check_logs(self) -> None:
        """Check log matching over all nodes, as their cores see their logs."""
        self.oracle.check_log_matching([n.log for n in self.nodes.values()])
