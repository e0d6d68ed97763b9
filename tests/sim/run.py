"""One run: a cluster under faults, then healed; it must recover, and agree.

Rules: first only a random majority is healed. Within ten election timeouts some node
leads, everything that clients have begun gets its answer, and the majority comes to
rest in one state. Then the others are started, and come to it too.

Source: RELIABILITY.md section 6 (phases, liveness, digests).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from raftd.statemachine.machine import Machine
from tests.sim.actions import Action, Script
from tests.sim.bounds import check_nobody_waits
from tests.sim.caller import Caller
from tests.sim.candidates import ELECTIONS, Candidate
from tests.sim.clients import Client
from tests.sim.cluster import Cluster
from tests.sim.configs import is_quorum
from tests.sim.faults import Faults
from tests.sim.invariants import Invariants
from tests.sim.jobs_model import QUEUE
from tests.sim.lockers import GATES, Locker
from tests.sim.members import Changes
from tests.sim.model import LOCKS
from tests.sim.node import SimNode
from tests.sim.ops import COUNTERS, KEYS, Tally
from tests.sim.options import Options, draw_options
from tests.sim.session import Beliefs
from tests.sim.swarm import widen
from tests.sim.virtual import virtual
from tests.sim.workers import Worker
from tests.sim.world import SimFailure, World

__all__ = ["Outcome", "Simulation", "swarm_options"]

_SAFETY_SHARE: Final = 0.7
_LEADER_TIMEOUTS: Final = 10
_SLOW_TIMEOUTS: Final = 40
"""Without pre-votes: one with a short log keeps others from campaigning for a while."""
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
    installs: int
    changes: int
    jobs: int
    elected: int
    trace_hash: str


class Simulation:
    """Everything of one seed."""

    def __init__(
        self,
        seed: int,
        options: Options | None = None,
        script: Script | None = None,
    ) -> None:
        """Make it; whatever is not given is drawn.

        Args:
            seed: Decides all draws.
            options: Instead of drawn ones.
            script: What is done to the cluster, instead of draws; see ``follow``.
        """
        self.world: Final = World(seed)
        self.options: Final = options or swarm_options(seed)
        self.actions: Final[list[Action]] = []
        """What was done to the cluster so far."""
        self.heal_us: int | None = None
        self._script: Final = script
        self.invariants: Final = Invariants(self.world)
        self.cluster: Final = Cluster(self.world, self.options, self.invariants)
        self.faults: Final = Faults(
            self.world, self.options, self.cluster, self.actions.append
        )
        self.changes: Final = Changes(
            self.world, self.options, self.cluster, self.actions.append
        )
        self.tally: Final = Tally()
        self.clients: Final = self._make_clients()

    def _make_clients(self) -> list[Caller]:
        options, beliefs = self.options, Beliefs()
        kinds: list[tuple[type[Caller], int, int]] = [
            (Client, 1, options.clients),
            (Worker, 101, options.workers),
            (Candidate, 201, options.candidates),
            (Locker, 301, options.lockers),
        ]
        return [
            kind(
                self.world,
                first + n,
                options,
                self.cluster,
                self.invariants,
                self.tally,
                beliefs,
            )
            for kind, first, count in kinds
            for n in range(count)
        ]

    def run(self, steps: int) -> Outcome:
        """Run to the end.

        Raises:
            SimFailure: A promise was broken.
            AssertionError: The production code found itself in an impossible state.
        """
        with virtual(self.options.chunk_bytes):
            try:
                return self._run(steps)
            finally:
                self.cluster.stop()

    def _run(self, steps: int) -> Outcome:
        self.begin()
        world = self.world
        if not self._hurt(steps):
            return self._outcome()
        self.heal_us = world.now_us
        self.changes.is_over = True
        core = self._choose_core()
        world.note(f"heal {[node.node_id for node in core]}")
        self.faults.heal(core)
        self.cluster.end_upgrades()
        self._recover(core)
        self.faults.heal_rest()
        self._await(self._is_at_rest_with_all, "all together")
        self._check_end(self._members())
        return self._outcome()

    def _hurt(self, steps: int) -> bool:
        """Run the first phase; False: there is no other."""
        world, script = self.world, self._script
        if script is None:
            while world.steps < steps * _SAFETY_SHARE:
                world.step()
            return True
        heal_us, until_us = script.heal_us, script.until_us
        assert heal_us is not None or until_us is not None, "it ends some time"
        while world.next_us <= (heal_us if heal_us is not None else until_us or 0):
            world.step()
        return heal_us is not None

    def _outcome(self) -> Outcome:
        world = self.world
        return Outcome(
            world.seed,
            world.steps,
            world.now_us // 1000,
            len(self.invariants.leaders),
            len(self.invariants.committed),
            self.tally.answered,
            self.tally.sessions,
            self.invariants.installs,
            self.invariants.configs.count,
            self.tally.jobs,
            self.tally.elected,
            world.trace_hash,
        )

    def begin(self) -> None:
        """Start every node, the clients and the faults."""
        for node in self.cluster.all():
            node.start()
        for client in self.clients:
            client.start()
        self.cluster.start_upgrades()
        if self._script is not None:
            self.faults.follow(self._script.actions)
            self.changes.follow(self._script.actions)
        else:
            self.faults.start()
            self.changes.start()

    # --- the end ------------------------------------------------------------------

    def _choose_core(self) -> list[SimNode]:
        """Choose nodes that suffice for each configuration that may still count.

        Those that left and were not told stay: they may be the only ones to know it.
        """
        configs = self.invariants.configs
        needed = self.cluster.needed()
        rng = self.world.rng("core")
        nodes = [n for n in self.cluster.all() if not n.disk.is_damaged]
        rng.shuffle(nodes)
        count = len(nodes) if rng.random() < 0.3 else 1
        while not all(
            is_quorum(each, [node.node_id for node in nodes[:count]]) for each in needed
        ):
            count += 1
            if count > len(nodes):
                raise SimFailure(f"too many have left: no quorum for one of {needed}")
        latest = configs.latest.membership.members
        gone = [node for node in nodes[count:] if node.node_id not in latest]
        return nodes[:count] + gone

    def _recover(self, core: list[SimNode]) -> None:
        world, t_us = self.world, self.options.election_us
        timeouts = _LEADER_TIMEOUTS if self.options.pre_vote else _SLOW_TIMEOUTS
        leader_by_us = world.now_us + timeouts * t_us
        while not any(_may_propose(node) for node in core):
            world.step()
            if world.now_us > leader_by_us:
                raise SimFailure(f"no leader {timeouts} timeouts after healing")
        for client in self.clients:
            client.drain()
        self._await(lambda: self._is_at_rest(core), "the majority")

    def _await(self, is_done: Callable[[], bool], who: str) -> None:
        """Wait for rest, for a while."""
        world, t_us = self.world, self.options.election_us
        wait_us = _LIVENESS_TIMEOUTS * t_us + 2000 * self.options.ttl_ms + _GRACE_US
        rest_by_us = world.now_us + wait_us
        while not is_done():
            world.step()
            if world.now_us > rest_by_us:
                raise SimFailure(f"no rest of {who}: {self._describe()}")

    def _members(self) -> list[SimNode]:
        members = self.invariants.configs.latest.membership.members
        return [node for node in self.cluster.all() if node.node_id in members]

    def _is_at_rest_with_all(self) -> bool:
        nodes = [node for node in self._members() if not node.disk.is_damaged]
        learners = self.invariants.configs.latest.membership.learners
        if self.options.is_managed and any(n.node_id in learners for n in nodes):
            return False  # they are to be promoted
        return self._is_at_rest(nodes)

    def _is_at_rest(self, nodes: list[SimNode]) -> bool:
        configs = self.invariants.configs
        if not all(client.is_idle for client in self.clients):
            return False
        latest = configs.latest.membership
        if latest.outgoing:
            return False
        last = len(self.invariants.committed)
        cores = [
            node.replica.core
            for node in nodes
            if node.replica is not None and node.node_id in latest.members
        ]
        return all(
            core.applied_index == last
            and core.durable_index == core.last_index == last
            and core.term == cores[0].term
            for core in cores
        ) and len(cores) >= sum(node.node_id in latest.members for node in nodes)

    def _describe(self) -> str:
        cores = [node.replica.core for node in self.cluster.all() if node.replica]
        shown = ", ".join(
            f"n{core.node_id} {core.role.value} term {core.term} commit"
            f" {core.commit_index} last {core.last_index}"
            for core in cores
        )
        busy = sum(not client.is_idle for client in self.clients)
        latest = self.invariants.configs.latest.membership
        return f"{busy} clients wait; {shown}; {latest}"

    def _check_end(self, nodes: list[SimNode]) -> None:
        views = {
            n.node_id: (n.replica.roster, _view(n.replica.machine))
            for n in nodes
            if n.replica is not None
        }
        first_id, first = next(iter(views.items()))
        for node_id, view in views.items():
            if view != first:
                raise SimFailure(f"n{first_id} and n{node_id} differ: {first} {view}")
        replayed = _view(self.invariants.replayed())
        if replayed != first[1]:
            raise SimFailure(f"a replay differs: {first} {replayed}")
        self._check_rest()
        self._check_counts()

    def _check_rest(self) -> None:
        """Let those that ask in vain give up, then see whether anybody waits."""
        until_us = self.world.now_us + 3 * self.options.election_us
        while self.world.now_us < until_us:
            self.world.step()
        for node in self._members():
            if node.replica is not None:
                check_nobody_waits(node.node_id, node.replica)

    def _check_counts(self) -> None:
        model = self.invariants.model
        for key, count in self.tally.counts.items():
            if model.count(key) != count:
                raise SimFailure(
                    f"{key!r} counts {model.count(key)}, acknowledged are {count}"
                )


def swarm_options(seed: int) -> Options:
    """Draw a run's parameters from the whole swarm."""
    world = World(seed)
    return widen(draw_options(world.rng("options")), world.rng("options/wide"))


def _may_propose(node: SimNode) -> bool:
    return node.replica is not None and node.replica.may_propose


def _view(machine: Machine) -> tuple[Any, ...]:
    """Return what of a state has to be equal everywhere."""
    sessions = [machine.sessions.view(lease) for lease in machine.leases.ids()]
    keys = [machine.kv.find(key) for key in KEYS + COUNTERS]
    locks = [machine.locks.inspect(name) for name in LOCKS + GATES]
    context = machine.context
    stamps = (context.revision, context.now_ms, context.wall_ms, context.size_bytes)
    elections = [machine.elections.inspect(name) for name in ELECTIONS]
    jobs = machine.queues.list_jobs(QUEUE)
    shown = (stamps, sessions, keys, locks, elections, jobs)
    return (machine.applied_index, *shown)
