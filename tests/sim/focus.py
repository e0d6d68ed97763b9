"""Where a rare event, or a planted bug, can show: the draws of a run, narrowed.

Where whole-range draws show something too seldom, some of them are fixed: the events
stay random, and so do the draws that are not named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from tests.sim.options import Options, draw_options
from tests.sim.world import World

__all__ = ["BUSY", "CHURN", "QUIET", "SHIPPING", "narrowed"]

BUSY: Final[dict[str, Any]] = {
    "size": 3,
    "election_ticks": 6,
    "heartbeat_ticks": 1,
    "check_quorum": False,
    "append_bytes_max": 1 << 18,
    "inflight_messages_max": 256,
    "apply_bytes_max": 1 << 20,
    "batch_requests_max": 1,
    "batches_in_flight_max": 16,
    "latency_us": 2000,
    "tail": 0,
    "is_stream": False,
    "loss": 0,
    "write_us": 2000,
    "turn_lag_us": 0,
    "clients": 4,
    "depth": 4,
    "op_interval_us": 5000,
    "ttl_ms": 10_000,
    "sleepy": 0,
    "mark_log_bytes": 1 << 30,
    "fault_interval_us": 300_000,
    "downtime_us": 600_000,
    "faults": ("partition",),
}
"""Many writes and few obstacles: what is wrong shows where leaders change."""

QUIET: Final[dict[str, Any]] = BUSY | {
    "clients": 3,
    "depth": 2,
    "op_interval_us": 40_000,
    "changes": (),
    "is_managed": False,
}
"""Few writes, so that there is time for many faults in as many events."""

CHURN: Final[dict[str, Any]] = BUSY | {
    "size": 4,
    "faults": ("crash", "partition", "transfer"),
    "changes": ("add", "promote", "remove", "replace"),
    "change_interval_us": 200_000,
    "mark_log_bytes": 2000,
    "log_keep_bytes": 0,
}
"""Members change as fast as they can."""

SHIPPING: Final[dict[str, Any]] = BUSY | {
    "changes": (),
    "chunk_bytes": 100,
    "log_keep_bytes": 0,
    "mark_log_bytes": 1000,
    "downtime_us": 1_500_000,
}
"""Who was away for a moment needs a snapshot."""


def narrowed(seed: int, draws: Mapping[str, Any]) -> Options:
    """Return what a seed draws, but for those draws that are given."""
    drawn = draw_options(World(seed).rng("options"))
    return dataclasses.replace(drawn, **draws)
