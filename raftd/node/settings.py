"""What a replica and its driver are told: times and bounds, with their units."""

from __future__ import annotations

import dataclasses

__all__ = ["ReplicaSettings"]

_MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Times and bounds of one node.

    Attributes:
        tick_ms: The core's unit of time.
        heartbeat_ms: Of the leader; two of them cap a tick of the lease clock.
        election_ms: Silence before an election; what is judged unfit is measured by
            it.
        batch_requests_max: Requests in one entry.
        batch_bytes_max: Encoded requests in one entry; one request always passes.
        batches_in_flight_max: Entries proposed and not applied. More than one keeps
            the followers busy while the leader gathers; many would make small ones.
        queued_requests_max: Requests waiting for a batch; more is OVERLOADED.
        queued_bytes_max: Their bytes.
        renewal_delay_ms: A renewal waits at most so long for company.
        mark_log_bytes: A checkpoint is due after so many bytes of log,
        mark_interval_ms: or so long after the last one, if anything was written.
        log_keep_bytes: So much of the log is kept for followers that lag.
    """

    tick_ms: int = 50
    heartbeat_ms: int = 100
    election_ms: int = 1000
    batch_requests_max: int = 2000
    batch_bytes_max: int = _MIB
    batches_in_flight_max: int = 3
    queued_requests_max: int = 100_000
    queued_bytes_max: int = 64 * _MIB
    renewal_delay_ms: int = 100
    mark_log_bytes: int = 64 * _MIB
    mark_interval_ms: int = 60_000
    log_keep_bytes: int = 256 * _MIB
