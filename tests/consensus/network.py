"""Real cores wired back to back: no sockets, no clock, a disk under the test's control.

Messages are encoded and decoded on the way. Every node has a durable image, which is
all that survives `restart`, and a queue of writes, which finish when told. `settle`
lets everything run to rest; smaller steps are for tests that need an exact order.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgspec

from raftd.consensus import (
    Config,
    Core,
    Entry,
    EntryKind,
    HardState,
    Index,
    Membership,
    Message,
    NodeId,
    Persisted,
    Proposal,
    Ready,
    Role,
    Term,
    Write,
)
from raftd.consensus.messages import TimeoutNow, VoteReply
from tests.consensus.oracle import Oracle
from tests.consensus.trace import show_message, show_ready

__all__ = ["Disk", "Network", "Node", "entries_of_terms", "runs_of"]

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)
_ROUNDS_MAX = 10_000


def entries_of_terms(*terms: int) -> list[Entry]:
    """Make a log from index 1 on whose entries have these terms."""
    return [
        Entry(Index(at), Term(term), EntryKind.NORMAL, b"%d.%d" % (term, at))
        for at, term in enumerate(terms, 1)
    ]


def runs_of(entries: list[Entry]) -> list[tuple[Index, Term]]:
    """List the term runs of a log."""
    runs: list[tuple[Index, Term]] = []
    for entry in entries:
        if not runs or runs[-1][1] != entry.term:
            runs.append((entry.index, entry.term))
    return runs


@dataclass
class Disk:
    """What a node has durably; indexes start at 1 and nothing is ever cut."""

    hard_state: HardState = field(default_factory=HardState)
    log: list[Entry] = field(default_factory=list)
    commit: int = 0

    def apply(self, write: Write) -> None:
        """Make one write durable."""
        if write.hard_state is not None:
            assert write.hard_state.term >= self.hard_state.term, "the term fell"
            self.hard_state = write.hard_state
        if write.truncate_from is not None:
            del self.log[write.truncate_from - 1 :]
        for entry in write.entries:
            assert entry.index == len(self.log) + 1, "a gap on disk"
            self.log.append(entry)
        self.commit = write.commit

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Read entries back, as `LogReader` asks."""
        found: list[Entry] = []
        used = 0
        for entry in self.log[lo - 1 : hi - 1]:
            used += len(entry.payload)
            if found and used > bytes_max:
                break
            found.append(entry)
        return found


@dataclass
class Node:
    """A core, its disk, and what came out of it."""

    core: Core
    disk: Disk
    #: What the disk will be when all writes are done: the core's own view of its log.
    log: list[Entry]
    writes: deque[tuple[Write, tuple[Message, ...]]] = field(default_factory=deque)
    applied: list[Entry] = field(default_factory=list)
    reads: dict[int, Index] = field(default_factory=dict)
    reads_failed: list[int] = field(default_factory=list)
    failed: list[tuple[Proposal, bool]] = field(default_factory=list)
    is_disk_held: bool = False
    is_apply_held: bool = False


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
    ) -> None:
        """Start every node from the given logs and terms; empty by default."""
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
        named = tuple(map(NodeId, voters or self.ids))
        learners = tuple(n for n in self.ids if n not in named)
        self.membership = Membership(named, learners=learners)
        self.nodes: dict[NodeId, Node] = {}
        for node in self.ids:
            log = (logs or {}).get(node, [])
            term = max((terms or {}).get(node, 0), log[-1].term if log else 0)
            self._start(node, Disk(HardState(Term(term)), list(log)))

    def _start(self, node: NodeId, disk: Disk) -> None:
        persisted = Persisted(
            membership=self.membership,
            hard_state=disk.hard_state,
            commit=Index(disk.commit),
            entries=list(disk.log),
            term_runs=runs_of(disk.log),
            reader=disk,
        )
        rng = Random(self.rng.getrandbits(64))
        core = Core(self._configure(node), persisted, rng)
        self.nodes[node] = Node(core, disk, list(disk.log))

    def restart(self, node: int, *, keep_writes: int = 0) -> None:
        """Crash a node; of its unfinished writes only the first ones got to disk."""
        old = self.nodes[NodeId(node)]
        for _ in range(min(keep_writes, len(old.writes))):
            old.disk.apply(old.writes.popleft()[0])
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
            if ready.write.truncate_from is not None:
                del n.log[ready.write.truncate_from - 1 :]
            n.log += ready.write.entries
        else:
            assert not ready.send_after, "messages that wait for no write"
        for entry in ready.commit:
            last = n.applied[-1].index if n.applied else Index(0)
            self.oracle.check_applied(entry, last)
            n.applied.append(entry)
        if ready.commit and not n.is_apply_held:
            n.core.applied(ready.commit[-1].index)
        for ctx, index in ready.reads:
            self.oracle.check_read(ctx, index)
            n.reads[ctx] = index
        n.reads_failed += ready.reads_failed
        n.failed += ready.failed
        self.oracle.check_role(n.core, n.log)
        return ready

    def finish_write(self, node: int) -> None:
        """Make the oldest write of a node durable, and release what waited for it."""
        n = self.nodes[NodeId(node)]
        write, send_after = n.writes.popleft()
        n.disk.apply(write)
        self.trace.append(f"{node}: stored {write.id}")
        for m in send_after:
            self._send(n, m)
        n.core.stored(write.id)

    def _send(self, n: Node, m: Message) -> None:
        assert m.src == n.core.node_id
        assert m.dst != m.src
        self.oracle.check_sent(m, n.disk.hard_state, n.disk.log)
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
