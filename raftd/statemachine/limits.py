"""The limits that apply itself enforces, with their defaults.

They decide what an entry means, so they must be equal on every member. A limit that
only bounds a door (frames, streams, page sizes) does not belong here.

Source: SEMANTICS.md section 0 and the limits named in its later sections.
"""

import dataclasses

__all__ = ["DEFAULT_LIMITS", "Limits"]

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB
_MINUTE_MS = 60 * 1000
_HOUR_MS = 60 * _MINUTE_MS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What apply allows; every refusal over one names it and the size."""

    name_bytes_max: int = 256
    key_bytes_max: int = _KIB
    value_bytes_max: int = _MIB
    txn_ops_max: int = 128
    claimant_bytes_max: int = 256
    lease_attachments_max: int = 10_000
    range_delete_keys_max: int = 10_000
    waiters_max: int = 10_000
    """Waiters of one lock, candidates of one election."""
    claimant_waits_max: int = 100
    """Tickets of one claimant in one line; they are granted together."""
    holders_max: int = 10_000
    """Holders of one shared lock or semaphore."""
    wait_ms_max: int = 365 * 24 * _HOUR_MS
    lock_delay_ms_max: int = 24 * _HOUR_MS
    promotions_max: int = 1000
    """Waiters promoted by one command."""
    work_rows_max: int = 1000
    """Timers fired, and rows that background work may touch, in one entry."""
    state_bytes_max: int = 2 * _GIB
    ttl_ms_min: int = 1000
    ttl_ms_max: int = 24 * _HOUR_MS
    leases_max: int = 1_000_000
    """Leases and sessions together, closed sessions included."""
    queues_max: int = 100_000
    enqueue_jobs_max: int = 10_000
    """Jobs of one enqueue."""
    job_meta_bytes_max: int = 64 * _KIB
    job_parents_max: int = 100
    job_error_bytes_max: int = 4 * _KIB
    """What is kept of an error."""
    job_result_bytes_max: int = 64 * _KIB
    """What is kept of a result."""
    group_limit_max: int = 1000
    """Jobs of one group in workers' hands at once."""
    reserve_jobs_max: int = 100
    reserve_bytes_max: int = 4 * _MIB
    reserve_queues_max: int = 128
    reserve_types_max: int = 100
    redrive_jobs_max: int = 100_000
    done_kept_max: int = 100_000
    """DONE jobs of one queue."""
    dead_kept_max: int = 100_000
    """DEAD, CANCELLED and EXPIRED jobs of one queue together."""
    client_ids_max: int = 1_000_000
    """Client ids of jobs that are gone."""
    client_id_ms: int = _HOUR_MS
    """How long they are remembered."""
    window_answers_max: int = 4096
    window_bytes_max: int = _MIB
    dedup_ms: int = _HOUR_MS
    """How long a closed session's window answers re-sent numbers."""
    history_revisions_min: int = 10_000
    """Always kept, whatever their age and size."""
    history_ms_max: int = 5 * _MINUTE_MS
    history_bytes_max: int = 256 * _MIB


DEFAULT_LIMITS = Limits()
