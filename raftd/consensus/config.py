"""The limits and timeouts of one core. All times are ticks: the core has no clock.

Source: rules 1, 4, 20, 21.
"""

from dataclasses import dataclass

from raftd.consensus.types import NodeId

__all__ = ["Config"]

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Config:
    """What a core is told at birth and never changes.

    Args:
        node_id: This node; positive.
        election_ticks: T. A follower campaigns after [T, 2T-1] ticks of silence; the
            vote lease, check-quorum, transfers and forwarded reads also last T.
            Ten heartbeats, so that one lost heartbeat costs nothing.
        heartbeat_ticks: Ticks between two heartbeats of a leader.
        append_bytes_max: Entry bytes in one append; one entry always passes. Large
            enough to keep a link busy, small enough not to delay a heartbeat.
        inflight_messages_max: Unacknowledged appends to one follower.
        inflight_bytes_max: Entry bytes in unacknowledged appends to one follower:
            what a slow follower may hold in socket buffers. One entry may exceed it.
        uncommitted_bytes_max: Payload bytes proposed and not committed; more is
            refused, so that a leader without a majority does not fill its memory.
        apply_bytes_max: Entry bytes handed out and not yet applied; one entry always
            passes. Bounds one turn of the event loop.
        cached_log_bytes_max: Entry bytes of the log kept in memory. Only entries that
            are durable and applied are dropped, so it may be exceeded for a while.
        pre_vote: Ask before raising the term, so that a node that was cut off does
            not depose a working leader.
        check_quorum: A leader that hears no majority for T steps down, and voters
            that hear a leader ignore campaigns.
    """

    node_id: NodeId
    election_ticks: int = 20
    heartbeat_ticks: int = 2
    append_bytes_max: int = 256 * _KIB
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 4 * _MIB
    uncommitted_bytes_max: int = 64 * _MIB
    apply_bytes_max: int = 1 * _MIB
    cached_log_bytes_max: int = 64 * _MIB
    pre_vote: bool = True
    check_quorum: bool = True

    def __post_init__(self) -> None:
        """Refuse what can only be a mistake.

        Raises:
            ValueError: A value is out of range; correct the configuration.
        """
        if self.node_id <= 0:
            raise ValueError(f"node_id must be positive, not {self.node_id}")
        if self.heartbeat_ticks < 1:
            raise ValueError("heartbeat_ticks must be at least 1")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError("election_ticks must be greater than heartbeat_ticks")
        for name in (
            "append_bytes_max",
            "inflight_messages_max",
            "inflight_bytes_max",
            "uncommitted_bytes_max",
            "apply_bytes_max",
            "cached_log_bytes_max",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
