"""One run: a cluster under faults, then healed; it must recover, and agree.

Rules: after healing, some node leads within ten election timeouts, everything that
clients have begun gets its answer, and all nodes come to the same state.

Source: RELIABILITY.md section 6 (phases, liveness, digests).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from raftd.consensus.messages import Message
from tests.sim.clients import Client
from tests.sim.faults import Faults
from tests.sim.invariants import Invariants
from tests.sim.model import LOCKS
from tests.sim.network import Network
from tests.sim.node import SimNode
from tests.sim.ops import COUNTERS, KEYS, Tally
from tests.sim.options import Options, draw_options
from tests.sim.session import Beliefs
from tests.sim.world import SimFailure, World

__all__ = ["Outcome", "Simulation"]

_SAFETY_SHARE: Final = 0.7
_LEADER_TIMEOUTS: Final = 10
_GRACE_US: Final = 20_000_000
_LIVENESS_TIMEOUTS: Final = 30


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    steps: int
    time_ms: int
    terms: int
    entries: int
    answered: int
    sessions: int
    trace_hash: str


class Simulation:
    """Everything of one seed."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.world: Final = World(seed)
        self.options: Final = options or draw_options(self.world.rng("options"))
        self.invariants: Final = Invariants(self.world)
        self.network: Final = Network(self.world, self.options, self._deliver)
        self.nodes: Final = {
            n: SimNode(self.world, n, self.options, self.network, self.invariants)
            for n in range(1, self.options.size + 1)
        }
        self.faults: Final = Faults(self.world, self.options, self.nodes, self.network)
        self.tally: Final = Tally()
        beliefs: Beliefs = {}
        self.clients: Final = [
            Client(
                self.world,
                n,
                self.options,
                self.nodes,
                self.invariants,
                self.tally,
                beliefs,
            )
            for n in range(1, self.options.clients + 1)
        ]

    def _deliver(self, message: Message) -> None:
        self.nodes[message.dst].receive(message)

    def run(self, steps: int) -> Outcome:
        """Run to the end.

        Raises:
            SimFailure: A promise was broken.
            AssertionError: The production code found itself in an impossible state.
        """
        self.begin()
        world = self.world
        while world.steps < steps * _SAFETY_SHARE:
            world.step()
        world.note("heal")
        self.faults.heal()
        self._recover()
        self._check_end()
        return Outcome(
            world.seed,
            world.steps,
            world.now_us // 1000,
            len(self.invariants.leaders),
            len(self.invariants.committed),
            self.tally.answered,
            self.tally.sessions,
            world.trace_hash,
        )

    def begin(self) -> None:
        """Start every node, the clients and the faults."""
        for node in self.nodes.values():
            node.start()
        for client in self.clients:
            client.start()
        self.faults.start()

    # --- the end ------------------------------------------------------------------

    def _recover(self) -> None:
        world, t_us = self.world, self.options.election_us
        leader_by_us = world.now_us + _LEADER_TIMEOUTS * t_us
        while not self._has_leader():
            world.step()
            if world.now_us > leader_by_us:
                raise SimFailure(f"no leader {_LEADER_TIMEOUTS} timeouts after healing")
        for client in self.clients:
            client.drain()
        wait_us = _LIVENESS_TIMEOUTS * t_us + 2000 * self.options.ttl_ms + _GRACE_US
        rest_by_us = world.now_us + wait_us
        while not self._is_at_rest():
            world.step()
            if world.now_us > rest_by_us:
                raise SimFailure(f"no rest after healing: {self._describe()}")

    def _has_leader(self) -> bool:
        return any(
            node.replica is not None and node.replica.may_propose
            for node in self.nodes.values()
        )

    def _is_at_rest(self) -> bool:
        if not all(client.is_idle for client in self.clients):
            return False
        last = len(self.invariants.committed)
        return all(
            node.replica is not None
            and node.replica.core.applied_index == last
            and node.replica.core.durable_index == node.replica.core.last_index == last
            and node.replica.core.term == self.nodes[1].disk.hard_state.term
            for node in self.nodes.values()
        )

    def _describe(self) -> str:
        cores = [node.replica.core for node in self.nodes.values() if node.replica]
        shown = ", ".join(
            f"n{core.node_id} {core.role.value} term {core.term} commit"
            f" {core.commit_index} last {core.last_index}"
            for core in cores
        )
        busy = sum(not client.is_idle for client in self.clients)
        return f"{busy} clients wait; {shown}"

    def _check_end(self) -> None:
        views = {n: self._view(node) for n, node in self.nodes.items()}
        first = views[1]
        for node_id, view in views.items():
            if view != first:
                raise SimFailure(f"n1 and n{node_id} differ: {first} {view}")
        model = self.invariants.model
        for key, count in self.tally.counts.items():
            if model.count(key) != count:
                raise SimFailure(
                    f"{key!r} counts {model.count(key)}, acknowledged are {count}"
                )

    def _view(self, node: SimNode) -> tuple[Any, ...]:
        assert node.replica is not None, "healed"
        machine = node.replica.machine
        sessions = [machine.sessions.view(lease) for lease in machine.leases.ids()]
        keys = [machine.kv.find(key) for key in KEYS + COUNTERS]
        locks = [machine.locks.inspect(name) for name in LOCKS]
        context = machine.context
        stamps = (context.revision, context.now_ms, context.wall_ms, context.size_bytes)
        return (machine.applied_index, stamps, sessions, keys, locks)
