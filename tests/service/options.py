"""What a seed draws before a run at level B begins.

Rules: as at level A, random parameters and not only random events: each run has its own
sizes, delays and rates, and each class of faults is off in every other run. What would
keep clients from getting anything done is drawn less often than there.

Source: RELIABILITY.md section 6 (swarm per seed); ``tests.sim.options``.
"""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Final

from tests.service.wires import NetOptions
from tests.sim.options import Options, draw_options

__all__ = ["FAULTS", "ServiceOptions", "draw_service_options"]

FAULTS: Final = (
    "bad-sync",
    "break",
    "client-crash",
    "client-pause",
    "crash",
    "crash-all",
    "cut-client",
    "full-disk",
    "partition",
    "pause",
    "restart",
    "roll",
    "stall",
    "transfer",
    "wall-step",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """One run's parameters; times in the unit of their name."""

    size: int
    clients: int
    ttl_ms: int
    timeout_ms: int
    rate: float
    is_shuffled: bool
    thread_lag_us: int
    faults: tuple[str, ...]
    fault_interval_us: int
    downtime_us: int
    net: NetOptions
    node: Options

    def lines(self) -> list[str]:
        """Show them, one a line."""
        return [
            f"  {part}{field.name} = {getattr(owner, field.name)}"
            for part, owner in (("", self), ("net.", self.net), ("node.", self.node))
            for field in dataclasses.fields(owner)
            if field.name not in {"net", "node"}
        ]


def draw_service_options(rng: Random) -> ServiceOptions:
    """Draw one run's parameters; ``rng`` is used for nothing else."""
    size = rng.choice([1, 3, 3, 5])
    latency_us = rng.choice([200, 1000, 5_000, 20_000])
    election_ticks = rng.choice([8, 12, 20])
    node = dataclasses.replace(
        draw_options(rng, size),
        size=size,
        election_ticks=election_ticks,
        heartbeat_ticks=1,
        pre_vote=True,
        check_quorum=True,
        latency_us=latency_us,
        tail=rng.choice([0, 0, 0.02]),
        loss=rng.choice([0, 0, 0, 0.02, 0.1]),
        duplicate=rng.choice([0, 0, 0.1]),
        replay=0,
        write_us=rng.choice([200, 2_000, 10_000]),
        turn_lag_us=rng.choice([0, 0, 1_000]),
        drift_ppm=rng.choice([0, 10_000, 50_000]),
        changes=(),
        is_managed=True,
        faults=(),
    )
    options = ServiceOptions(
        size=size,
        clients=rng.choice([2, 3, 4, 6]),
        ttl_ms=rng.choice([1000, 2000, 5000]),
        timeout_ms=rng.choice([2000, 5000, 15_000]),
        rate=rng.choice([50, 100, 200]),
        is_shuffled=rng.random() < 0.5,
        thread_lag_us=rng.choice([0, 0, 500]),
        faults=tuple(fault for fault in FAULTS if rng.random() < 0.5),
        fault_interval_us=rng.choice([200_000, 1_000_000, 3_000_000]),
        downtime_us=rng.choice([100_000, 500_000, 2_000_000]),
        net=NetOptions(
            latency_us=rng.choice([200, 1000, 5_000, 20_000]),
            loss=rng.choice([0, 0, 0.02]),
            breaks=rng.choice([0, 0, 0.001, 0.01]),
            silent=rng.choice([0, 0.2]),
        ),
        node=node,
    )
    here = rng.choice([0, 0.5, 0.9])
    net = dataclasses.replace(
        options.net,
        cuts=rng.choice([0, 0.1, 0.5]),
        window_bytes=rng.choice([512, 4_096, 65_536]),
        high_water_bytes=rng.choice([64, 1_024, 65_536]),
        astray=rng.choice([0, 0, 0, 0.2]),
        old=rng.choice([0, 0, 0, 0.5, 1]),
    )
    return dataclasses.replace(
        options, net=net, node=dataclasses.replace(node, here=here)
    )
