"""A scenario on the nodes and clients of the service simulator.

Random runs hold locks for moments only: that a holder is cut off while somebody waits
is rare there, and is played here.
"""

from __future__ import annotations

import dataclasses
import gc
from typing import TYPE_CHECKING, Final

from raftclient import aio
from tests.service.apps import client_address, simulated
from tests.service.hosts import Host
from tests.service.options import draw_service_options
from tests.service.run import Service
from tests.service.virtual import virtual_service
from tests.service.wires import NetOptions
from tests.sim.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["a_holder_is_cut_off_while_another_waits"]

_SECOND_US: Final = 1_000_000
_PATIENCE_US: Final = 30 * _SECOND_US


class _Holder:
    """A client process that wants one lock, and keeps it."""

    def __init__(self, service: Service, name: str, endpoints: str) -> None:
        self.host: Final = Host(service.world, name, 0, is_shuffled=False)
        self.grant: aio.Grant | None = None
        self.is_lost = False
        self._endpoints: Final = endpoints
        main, _ = self.host.boot(0, "", "k")
        main.take(main.create_task, self._live())

    async def _live(self) -> None:
        client = aio.connect(self._endpoints, ttl_s=2.0, timeout_s=60.0)
        self.grant = await client.lock("l").acquire()

    def look(self) -> bool:
        """Ask it, by its own clock, whether it still believes that the lock is its."""
        assert self.grant is not None

        def ask() -> None:
            assert self.grant is not None
            self.is_lost = self.grant.is_lost

        self.host.loops[0].take(ask)
        return not self.is_lost


def _step_until(service: Service, is_so: Callable[[], bool], what: str) -> None:
    by_us = service.world.now_us + _PATIENCE_US
    while not is_so():
        service.world.step()
        assert service.world.now_us < by_us, f"no {what}"


def _play(service: Service, holders: list[_Holder]) -> None:
    nodes = service.nodes.all()
    for node in nodes:
        node.start()
    endpoints = ",".join(map(client_address, service.nodes.node_ids))
    first = _Holder(service, "a", endpoints)
    holders.append(first)
    _step_until(service, lambda: first.grant is not None, "first grant")
    second = _Holder(service, "b", endpoints)
    holders.append(second)
    later_us = service.world.now_us + _SECOND_US
    _step_until(service, lambda: service.world.now_us >= later_us, "time")
    for node in nodes:
        service._net.block("a", node.host.name)  # noqa: SLF001  # as faults do
        service._net.block(node.host.name, "a")  # noqa: SLF001  # as above
    _step_until(service, lambda: second.grant is not None, "second grant")
    assert second.look(), "the second has it"
    assert not first.look(), "two clients believe at once that a lock is theirs"


def a_holder_is_cut_off_while_another_waits() -> None:
    """One is cut off from all nodes; when the other gets the lock, it has given it up.

    Each is asked by its own clock, at the instant of the second grant.
    """
    drawn = draw_service_options(World(1).rng("service-options"))
    node = dataclasses.replace(drawn.node, size=3, loss=0, tail=0, drift_ppm=0)
    options = dataclasses.replace(
        drawn,
        size=3,
        clients=1,
        faults=(),
        net=NetOptions(latency_us=1000, loss=0, breaks=0, silent=0),
        node=node,
    )
    service = Service(1, options)
    holders: list[_Holder] = []
    net = service._net  # noqa: SLF001  # as faults do
    with virtual_service(net, node.chunk_bytes), simulated():
        try:
            _play(service, holders)
        finally:
            for holder in holders:
                holder.host.kill()
            service.nodes.stop()
            gc.collect()
