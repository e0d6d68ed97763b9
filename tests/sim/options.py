"""What a seed draws before it begins: sizes, limits, rates, and which faults exist.

Random parameters find most bugs that random events alone do not: each run has its own
timeouts, batch sizes and fault rates, and each class of faults is off in every other
run.

Source: RELIABILITY.md section 0 finding 6 and section 6 (swarm).
"""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Final

from raftd.consensus.config import Config
from raftd.consensus.types import NodeId
from raftd.node.settings import ReplicaSettings

__all__ = ["TICK_MS", "Options", "draw_options"]

TICK_MS: Final = 50
_TICK_US: Final = TICK_MS * 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run's parameters; times in the unit of their name."""

    size: int
    election_ticks: int
    heartbeat_ticks: int
    pre_vote: bool
    check_quorum: bool
    append_bytes_max: int
    inflight_messages_max: int
    apply_bytes_max: int
    cached_log_bytes_max: int
    batch_requests_max: int
    batches_in_flight_max: int
    mark_log_bytes: int
    log_keep_bytes: int
    chunk_bytes: int
    latency_us: int
    tail: float
    is_stream: bool
    loss: float
    duplicate: float
    replay: float
    write_us: int
    turn_lag_us: int
    clients: int
    depth: int
    op_interval_us: int
    ttl_ms: int
    sleepy: float
    fault_interval_us: int
    downtime_us: int
    drift_ppm: int
    faults: tuple[str, ...]
    crash_points: float
    crash_at: str = ""
    """One node crashes at the first such point; see ``Files.on_point``."""
    change_interval_us: int
    changes: tuple[str, ...]
    bars_removed: bool
    is_managed: bool
    """The production manager plans changes, promotes, and says farewell."""
    shapes: tuple[str, ...] = ()
    """Of partitions; see ``shapes``."""
    replay_late_us: int = 0
    """So late at the most what is repeated comes again, beside what links take."""
    heal_drops: bool = False
    """What is on its way when all is well again is lost: it may be that of a leader
    who is gone, and last longer than those who believe in him may wait."""
    workers: int = 0
    candidates: int = 0
    lockers: int = 0
    goodbye: float = 0
    here: float = 0
    """How many of the small appends are made durable on the node's own loop."""
    upgrade_us: int = 0
    """All begin with the release before, and are upgraded so far apart; 0: none is.
    Only where the production manager plans changes."""
    files: str = "model"
    """``real``: the production stores on files."""

    @property
    def election_us(self) -> int:
        """T in microseconds."""
        return self.election_ticks * _TICK_US

    @property
    def heartbeat_ms(self) -> int:
        """Time between two heartbeats."""
        return self.heartbeat_ticks * TICK_MS

    def config(self, node_id: int) -> Config:
        """Return what a core is told."""
        return Config(
            node_id=NodeId(node_id),
            election_ticks=self.election_ticks,
            heartbeat_ticks=self.heartbeat_ticks,
            append_bytes_max=self.append_bytes_max,
            inflight_messages_max=self.inflight_messages_max,
            apply_bytes_max=self.apply_bytes_max,
            cached_log_bytes_max=self.cached_log_bytes_max,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
        )

    def settings(self) -> ReplicaSettings:
        """Return what a replica is told."""
        return ReplicaSettings(
            tick_ms=TICK_MS,
            heartbeat_ms=self.heartbeat_ms,
            election_ms=self.election_ticks * TICK_MS,
            batch_requests_max=self.batch_requests_max,
            batches_in_flight_max=self.batches_in_flight_max,
            mark_log_bytes=self.mark_log_bytes,
            log_keep_bytes=self.log_keep_bytes,
        )

    def lines(self) -> list[str]:
        """Show them, one a line."""
        return [
            f"  {field.name} = {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
        ]


_FAULTS: Final = (
    "bad-sync",
    "crash",
    "crash-all",
    "crash-receiver",
    "damage",
    "full-disk",
    "link-down",
    "partition",
    "pause",
    "restart",
    "stall",
    "transfer",
    "wall-step",
)

_CHANGES: Final = ("add", "promote", "remove", "replace", "update")


def draw_options(rng: Random, size: int | None = None) -> Options:
    """Draw one run's parameters.

    Args:
        rng: Used for nothing else.
        size: Number of nodes instead of a drawn one.
    """
    election_ticks = rng.choice([5, 8, 12, 20, 30])
    election_us = election_ticks * _TICK_US
    latency_us = rng.choice([500, 5_000, 20_000, election_us // 20, election_us // 5])
    drawn_size = rng.choice([1, 2, 3, 3, 3, 4, 5, 5])
    return Options(
        size=size or drawn_size,
        election_ticks=election_ticks,
        heartbeat_ticks=rng.choice([1, 2]),
        pre_vote=rng.random() < 0.6,
        check_quorum=rng.random() < 0.7,
        append_bytes_max=rng.choice([1, 300, 1 << 18]),
        inflight_messages_max=rng.choice([1, 2, 256]),
        apply_bytes_max=rng.choice([1, 300, 1 << 20]),
        cached_log_bytes_max=rng.choice([1, 1000, 1 << 26]),
        batch_requests_max=rng.choice([1, 3, 2000]),
        batches_in_flight_max=rng.choice([1, 3, 16]),
        mark_log_bytes=rng.choice([1, 500, 2000, 8000, 1 << 30]),
        log_keep_bytes=rng.choice([0, 0, 600, 100_000, 1 << 30]),
        chunk_bytes=rng.choice([100, 500, 1 << 16]),
        latency_us=latency_us,
        tail=rng.choice([0, 0, 0.02, 0.1]),
        is_stream=rng.random() < 0.5,
        loss=rng.choice([0, 0, 0.05, 0.2, 0.4]),
        duplicate=rng.choice([0, 0.1, 0.4]),
        replay=rng.choice([0, 0, 0.05, 0.2]),
        write_us=rng.choice([200, 5_000, 20_000, election_us // 20, election_us // 5]),
        turn_lag_us=rng.choice([0, 0, 1_000, 20_000]),
        clients=rng.choice([1, 3, 6]),
        depth=rng.choice([1, 4, 16]),
        op_interval_us=rng.choice([5_000, 20_000, 100_000]),
        ttl_ms=rng.choice([1000, 3000, 10_000]),
        sleepy=rng.choice([0, 0.005, 0.02]),
        fault_interval_us=rng.choice(
            [4 * _TICK_US, *(t * election_us for t in (1, 3, 8))]
        ),
        downtime_us=rng.choice([2 * _TICK_US, election_us, 3 * election_us]),
        drift_ppm=rng.choice([0, 10_000, 50_000]),
        faults=tuple(fault for fault in _FAULTS if rng.random() < 0.5),
        crash_points=rng.choice([0, 0, 0.002, 0.01]),
        change_interval_us=rng.choice([election_us, 3 * election_us]),
        changes=_draw_changes(rng),
        bars_removed=rng.random() < 0.5,
        is_managed=rng.random() < 0.5,
    )


def _draw_changes(rng: Random) -> tuple[str, ...]:
    """Draw which member changes there are: none in every other run."""
    if rng.random() < 0.5:
        return ()
    return tuple(change for change in _CHANGES if rng.random() < 0.7)
