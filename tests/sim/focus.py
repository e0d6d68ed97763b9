"""Where a planted bug, or a rare event, can show: the draws of a run, narrowed.

Where whole-range draws find a bug too seldom for a short test, some of them are fixed:
still random events, still a budget of seeds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from tests.sim.options import Options, draw_options
from tests.sim.world import World

__all__ = ["narrowed"]

_BUSY: Final[dict[str, Any]] = {
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

_CHURN: Final[dict[str, Any]] = _BUSY | {
    "size": 4,
    "faults": ("crash", "partition", "transfer"),
    "changes": ("add", "promote", "remove", "replace"),
    "change_interval_us": 200_000,
    "mark_log_bytes": 2000,
    "log_keep_bytes": 0,
}
"""Members change as fast as they can."""

_SHIPPING: Final[dict[str, Any]] = _BUSY | {
    "changes": (),
    "chunk_bytes": 100,
    "log_keep_bytes": 0,
    "mark_log_bytes": 1000,
    "downtime_us": 1_500_000,
}
"""Who was away for a moment needs a snapshot."""

_FOCUS: Final[dict[str, dict[str, Any]]] = {
    "change-before-the-no-op": _CHURN,
    "install-acked-early": _SHIPPING,
    "joint-half": _CHURN | {"changes": ("replace",)},
    "learner-counted": _CHURN | {"changes": ("add", "add", "remove")},
    "old-state-over-new": _SHIPPING
    | {"mark_log_bytes": 1, "downtime_us": 300_000, "faults": ("full-disk",)},
    "removed-counts-itself": _CHURN,
    "snapshot-without-sessions": _SHIPPING,
    "told-too-early": _CHURN
    | {
        "is_managed": True,
        "size": 2,
        "changes": ("remove", "replace"),
        "change_interval_us": 600_000,
        "downtime_us": 1_500_000,
    },
    "another's-answer": _BUSY,
    "commit-past-match": _BUSY,
    "crash-points": _SHIPPING | {"chunk_bytes": 500, "faults": ("partition",)},
    "dead-waiter": _BUSY | {"faults": (), "sleepy": 0.05, "ttl_ms": 1000, "clients": 6},
    "read-unconfirmed": _BUSY | {"faults": ("partition", "pause")},
    "vote-forgotten": _BUSY
    | {
        "size": 5,
        "faults": ("restart", "crash"),
        "fault_interval_us": 30_000,
        "latency_us": 20_000,
        "pre_vote": False,
        "clients": 1,
    },
}


def narrowed(name: str, seed: int) -> Options:
    """Return the options of a run that looks for one thing."""
    drawn = draw_options(World(seed).rng("options"))
    return dataclasses.replace(drawn, **_FOCUS.get(name, {}))
