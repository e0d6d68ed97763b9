"""A simulated node: the production core, machine and replica over a simulated world.

Rules: an input is followed by a turn, at once or a little later, as the driver does
it. What is under way when a node crashes is forgotten but for its disk. A paused node
loses nothing: all that came meanwhile arrives at once when it goes on.

Source: DESIGN.md section 3; ``raftd.node.driver``, whose place this takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import Ready, SoftState, Write
from raftd.consensus.types import Index, Membership, NodeId, Role
from raftd.node.read_queue import Query
from raftd.node.replica import Replica
from raftd.node.service import AnswerSink
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.schema.entry import MarkEntry
from tests.sim.checkpoints import Checkpoints
from tests.sim.clock import NodeClock
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants, Life
from tests.sim.network import Network
from tests.sim.options import TICK_MS, Options
from tests.sim.world import World
from tests.sim.writer import Writer

__all__ = ["SimNode"]


class _WatchedCore(Core):
    """The production core, watched at its only door out."""

    __slots__ = ("watch",)

    watch: Callable[[Core, Ready], None]

    def ready(self) -> Ready:
        """Take all that became due, and show it."""
        ready = super().ready()
        self.watch(self, ready)
        return ready


class SimNode:
    """One node through all its lives; its ``Effects`` too."""

    def __init__(
        self,
        world: World,
        node_id: int,
        options: Options,
        network: Network,
        invariants: Invariants,
    ) -> None:
        self.node_id: Final = node_id
        self._world: Final = world
        self._options: Final = options
        self._network: Final = network
        self._invariants: Final = invariants
        self._rng: Final = world.rng(f"node/{node_id}")
        self._label: Final = f"tick n{node_id}"
        self.clock: Final = NodeClock(world.rng(f"clock/{node_id}"), options.drift_ppm)
        voters = tuple(NodeId(n) for n in range(1, options.size + 1))
        self.disk: Final = Disk(Membership(voters))
        self.replica: Replica | None = None
        self.life = Life(node_id)
        self._is_calm = False
        self._life_number = 0
        self._is_paused = False
        self._backlog: Final[list[Callable[[], None]]] = []
        self._is_turn_due = False
        self._writer: Final = Writer(
            world, self.disk, self._rng, options.write_us, self._after, self._on_stored
        )

    # --- life -------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        assert self.replica is None, "it runs"
        options = self._options
        machine = self.disk.load_machine()
        persisted = self.disk.persisted(self._rng)
        core = _WatchedCore(options.config(self.node_id), persisted, self._rng)
        self.life = Life(self.node_id)
        core.watch = lambda core, ready: self._invariants.on_ready(
            self.life, core, ready
        )
        self.replica = replica = Replica(core, machine, self, options.settings())
        replica.marks.note_stored(self.disk.state.index, self.disk.state.digest)
        self._checkpoints = Checkpoints(
            replica, self.disk, self._rng, self._after, self._on_digest
        )
        replica.marks.may_mark = lambda: self._checkpoints.is_idle
        self._life_number += 1
        self._world.note(f"n{self.node_id} starts")
        self._tick()

    def crash(self) -> None:
        """Lose all but the disk, and of what was being written some prefix."""
        self._writer.crash()
        self.replica = None
        self._life_number += 1
        self._is_paused = self._is_turn_due = False
        self._backlog.clear()
        self.clock.restart()

    def pause(self) -> None:
        """Stand still; nothing is lost."""
        self._is_paused = True

    def resume(self) -> None:
        """Go on, with everything that came meanwhile."""
        if not self._is_paused:
            return
        self._is_paused = False
        backlog = self._backlog[:]
        self._backlog.clear()
        for action in backlog:
            action()

    def stall(self, until_us: int) -> None:
        """Let the disk finish nothing that it begins before an instant."""
        self._writer.stall(until_us)

    def calm(self) -> None:
        """Have it work well from here on."""
        self._is_calm = True
        self._writer.calm()

    @property
    def is_up(self) -> bool:
        """Whether it runs and is not paused."""
        return self.replica is not None and not self._is_paused

    @property
    def is_leader(self) -> bool:
        """Whether it believes to lead."""
        return self.replica is not None and self.replica.core.role is Role.LEADER

    # --- inputs -----------------------------------------------------------------

    def _after(self, delay_us: int, label: str, action: Callable[[], None]) -> None:
        life_number = self._life_number

        def act() -> None:
            if life_number != self._life_number:
                return
            if self._is_paused:
                self._backlog.append(act)
            else:
                action()

        self._world.after(delay_us, label, act)

    def _tick(self) -> None:
        tick_us = self.clock.true_us(TICK_MS * 1000)
        self._after(tick_us, self._label, self._tick)
        replica, now_us = self.replica, self._world.now_us
        assert replica is not None, "ticks end with the life"
        is_leading = replica.may_propose
        self.life.lease_ms = replica.clock.now_ms
        replica.tick(self.clock.monotonic_ms(now_us), self.clock.wall_ms(now_us))
        if is_leading:
            cap_ms = 2 * self._options.heartbeat_ms
            self._invariants.on_tick(self.life, replica.clock.now_ms, cap_ms)
        self._wake()

    def _take_in(self, action: Callable[[Replica], None]) -> None:
        """Do something with the replica and have a turn; later if it is paused."""
        if self._is_paused:
            self._backlog.append(lambda: self._take_in(action))
        elif self.replica is not None:
            action(self.replica)
            self._wake()

    def receive(self, message: Message) -> None:
        """Take in a peer's message."""
        self._take_in(lambda replica: replica.step((message,)))

    def submit(self, request: msgspec.Raw, sink: AnswerSink, tag: int) -> None:
        """Take in a client's write."""
        self._take_in(lambda replica: replica.submit(request, sink, tag))

    def read(self, query: Query, sink: AnswerSink, tag: int) -> None:
        """Take in a client's linearizable read."""
        self._take_in(lambda replica: replica.reads.add(query, sink, tag))

    def renew(self, session: int, done: Callable[[Sequence[int] | None], None]) -> None:
        """Take in a client's renewal."""
        self._take_in(lambda replica: replica.renew((session,), done))

    def link_down(self, peer: int, *, is_gone: bool) -> None:
        """A link broke; ``is_gone``: by the other process's end."""

        def act(replica: Replica) -> None:
            replica.core.unreachable(NodeId(peer))
            if is_gone and replica.core.leader == peer:
                replica.core.forget_leader()

        self._take_in(act)

    def transfer(self, peer: int) -> None:
        """Hand leadership over, if it leads."""
        self._take_in(lambda replica: _transfer(replica, peer))

    # --- turns --------------------------------------------------------------------

    def _wake(self) -> None:
        lag_us = 0 if self._is_calm else self._options.turn_lag_us
        if not lag_us:
            self._turn()
        elif not self._is_turn_due:
            self._is_turn_due = True
            self._after(
                self._rng.randrange(lag_us), f"turn n{self.node_id}", self._turn
            )

    def _turn(self) -> None:
        self._is_turn_due = False
        assert self.replica is not None, "turns end with the life"
        self.replica.turn()

    # --- Effects ------------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        """Send to peers."""
        for message in messages:
            self._invariants.on_sent(self.disk, message)
        self._network.send(messages)

    def write(self, write: Write, send_after: Sequence[Message]) -> None:
        """Begin a write behind those under way."""
        self._writer.put(write, send_after)

    def _on_stored(self, write: Write, send_after: Sequence[Message]) -> None:
        assert self.replica is not None, "writes end with the life"
        self.send(send_after)
        self.replica.stored(write.id)
        self._turn()

    def changed(self, soft: SoftState) -> None:
        """Role, leader or term changed: the trace has it already."""

    def applied(self, entry: AppliedEntry) -> None:
        """Compare what an entry did."""
        assert self.replica is not None, "it applies"
        self._invariants.on_applied(self.life, self.replica.machine, entry)

    def marked(self, index: int, mark: MarkEntry) -> None:
        """Take the checkpoint."""
        self._checkpoints.take(Index(index), mark)

    def _on_digest(self, index: int, digest: bytes) -> None:
        self._invariants.on_digest(self.node_id, index, digest)


def _transfer(replica: Replica, peer: int) -> None:
    replica.core.transfer(NodeId(peer))
