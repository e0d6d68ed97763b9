"""One run at level B: nodes and clients under faults, then healed, at rest, judged.

Rules: the faults end after a share of the time. Then everything is answered, queues are
drained, all nodes come to one state and tell one digest, and the history, with the log
as its evidence, is judged by every checker.

Source: RELIABILITY.md section 6 (phases) and section 4.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from typing import Any, Final

from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from tests.checkers.judge import judge
from tests.checkers.recorder import Recorder
from tests.checkers.records import Meta
from tests.service.apps import client_address, simulated
from tests.service.faults import Faults
from tests.service.loads import Clients
from tests.service.nodes import Nodes
from tests.service.options import ServiceOptions, draw_service_options
from tests.service.virtual import virtual_service
from tests.service.wires import WireNet
from tests.sim.bounds import check_nobody_waits
from tests.sim.invariants import Invariants
from tests.sim.world import SimFailure, World
from tests.workload.evidence import as_log

__all__ = ["Outcome", "Service"]

_SECOND_US: Final = 1_000_000
_LEADER_TIMEOUTS: Final = 15
_END_US: Final = 240 * _SECOND_US
"""The drain alone may take 60 s before the load itself calls it stuck."""
_STEPS_MAX: Final = 3_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    steps: int
    time_ms: int
    terms: int
    entries: int
    calls: int
    unknown: int
    faults: int
    trace_hash: str


class _NoModel:
    """In place of the model of level A, whose clients do less: the checkers judge."""

    applied_index = 0

    def apply(self, payload: bytes, machine: Machine, applied: AppliedEntry) -> None:
        """Take in an entry."""
        self.applied_index += 1


class Service:
    """Everything of one seed."""

    def __init__(self, seed: int, options: ServiceOptions | None = None) -> None:
        self.world: Final = World(seed)
        self.options: Final = options or draw_service_options(
            self.world.rng("service-options")
        )
        self._net: Final = WireNet(self.world, self.options.net)
        self.invariants: Final = Invariants(self.world)
        model: Any = _NoModel()
        vars(self.invariants)["model"] = model
        self.nodes: Final = Nodes(self.world, self.options, self._net, self.invariants)
        self._waits = ""
        meta = Meta(made_by="service", seed=seed, options=_shown(self.options))
        self.recorder: Final = Recorder(lambda: self.world.now_us, meta)
        self.clients: Final = Clients(
            self.world,
            self.options,
            [client_address(n) for n in self.nodes.node_ids],
            self.recorder,
        )
        self.faults: Final = Faults(
            self.world, self.options, self.nodes, self.clients, self._net
        )

    def run(self, seconds: float) -> Outcome:
        """Run to the end; the history is complete then.

        Raises:
            SimFailure: A promise was broken.
            AssertionError: The production code found itself in an impossible state.
        """
        with virtual_service(self._net, self.options.node.chunk_bytes), simulated():
            try:
                return self._run(seconds)
            finally:
                self.clients.kill()
                self.nodes.stop()
                gc.collect()

    # --- phases ---------------------------------------------------------------------

    def _run(self, seconds: float) -> Outcome:
        world = self.world
        for node in self.nodes.all():
            node.start()
        for client in self.clients.processes:
            client.start()
        self.faults.start()
        until_us = int(seconds * _SECOND_US)
        while world.now_us < until_us:
            self.step()
        world.note("heal")
        self.faults.heal()
        self._await(self._has_leader, "a leader", self._leader_us())
        self._end_clients()
        self._await(self._is_at_rest, "one state", self._leader_us() + 30 * _SECOND_US)
        self._compare_digests()
        self.recorder.log(as_log(self.invariants.committed))
        self._judge()
        count = self.clients.count
        return Outcome(
            world.seed,
            world.steps,
            world.now_us // 1000,
            len(self.invariants.leaders),
            len(self.invariants.committed),
            count(lambda tally: tally.calls),
            count(lambda tally: tally.unknown),
            self.faults.count,
            world.trace_hash,
        )

    def step(self) -> None:
        """Let the next event happen."""
        world = self.world
        try:
            world.step()
        except IndexError:
            raise SimFailure("deadlock: nothing will ever happen again") from None
        if world.steps > _STEPS_MAX:
            raise SimFailure(f"no end after {_STEPS_MAX} events")

    def _leader_us(self) -> int:
        return _LEADER_TIMEOUTS * self.options.node.election_us

    def _await(self, is_done: Callable[[], bool], what: str, within_us: int) -> None:
        by_us = self.world.now_us + within_us
        while not is_done():
            self.step()
            if self.world.now_us > by_us:
                raise SimFailure(
                    f"no {what} after {within_us // 1000} ms: {self._describe()}"
                )

    def _end_clients(self) -> None:
        clients = self.clients
        for client in clients.others():
            client.stop()
        self._await(
            lambda: all(each.is_done for each in clients.others()),
            "end of the callers",
            _END_US,
        )
        first = clients.processes[0]
        first.stop()
        self._await(lambda: first.is_done, "end of the first client", _END_US)
        if clients.troubles:
            raise SimFailure("; ".join(clients.troubles))

    # --- the end --------------------------------------------------------------------

    def _has_leader(self) -> bool:
        return any(
            node.replica is not None and node.replica.may_propose
            for node in self.nodes.all()
        )

    def _is_at_rest(self) -> bool:
        last = len(self.invariants.committed)
        replicas = [node.replica for node in self.nodes.all()]
        return all(node.is_ready for node in self.nodes.all()) and all(
            replica is not None
            and replica.core.applied_index == last
            and replica.core.durable_index == replica.core.last_index == last
            and replica.core.term == max(self.invariants.leaders)
            for replica in replicas
        )

    def _is_forgotten(self) -> bool:
        """Tell whether no node waits any more for those who have gone.

        A read or a renewal whose caller gave up is kept until its round is answered,
        a ticket until its entry is applied or the node learns of a new term, a stream
        until its kernel takes a silent connection for dead: soon, but not at once.
        """
        try:
            for node in self.nodes.all():
                if node.replica is None:
                    return False
                check_nobody_waits(node.node_id, node.replica)
                node.check_nobody_is_served()
        except SimFailure as still:
            self._waits = str(still)
            return False
        return True

    def _compare_digests(self) -> None:
        """Have all take a checkpoint at one entry; the invariants compare."""
        asked = len(self.invariants.committed)

        def is_stored() -> bool:
            return all(node.disk.state_index >= asked for node in self.nodes.all())

        for node in self.nodes.all():
            node.mark_beyond(asked)
        self._await(is_stored, "checkpoint of all", 30 * _SECOND_US)
        self._await(self._is_at_rest, "one state", 30 * _SECOND_US)
        self.invariants.replayed()
        self._await(self._is_forgotten, "end of all waits", 30 * _SECOND_US)
        views = [_view(node.replica) for node in self.nodes.all()]
        if any(view != views[0] for view in views):
            raise SimFailure(f"the nodes differ in the end: {views}")

    def _judge(self) -> None:
        """Have every checker look at the history; one that cannot say fails the run."""
        verdicts = judge(self.recorder.history())
        for outcome in ("illegal", "unknown"):
            for verdict in verdicts:
                if verdict.outcome == outcome:
                    raise SimFailure(
                        f"{verdict.checker}: {outcome}, {verdict.sentence}"
                    )

    def _describe(self) -> str:
        shown = []
        for node in self.nodes.all():
            if node.replica is None:
                shown.append(f"{node.host.name} down")
                continue
            core = node.replica.core
            shown.append(
                f"{node.host.name} {core.role.value} term {core.term} commit"
                f" {core.commit_index} applied {core.applied_index} last"
                f" {core.last_index}"
            )
        shown.append(self._waits)
        busy = [c.host.name for c in self.clients.processes if not c.is_done]
        return f"{shown}; still busy: {busy}; {self.clients.troubles}"


def _shown(options: ServiceOptions) -> dict[str, str]:
    lines = (line.strip().partition(" = ") for line in options.lines())
    return {name: value for name, _, value in lines}


def _view(replica: Any) -> tuple[Any, ...]:
    """Return what of a state has to be equal everywhere."""
    machine = replica.machine
    context = machine.context
    return (
        machine.applied_index,
        (context.revision, context.now_ms, context.wall_ms, context.size_bytes),
        machine.leases.count(),
        machine.kv.count_all,
    )
