"""The settings of a node: names, defaults, ranges, and what must hold between them.

Rules: a field here is the only place that knows a setting's name, default, range and
help; `config` reads them from a file, variables and flags.

Source: docs/ARCHITECTURE.md "Configuration".
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftd.server.option_kinds import (
    NODE_ID_MAX,
    Address,
    Addresses,
    Choice,
    Folder,
    HostPort,
    Kind,
    Member,
    Members,
    Text,
    Whole,
)
from raftd.statemachine.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from raftd.statemachine.limits import Limits as ApplyLimits

__all__ = ["ConfigError", "Limits", "Settings"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

ELECTION_HEARTBEATS_MIN: Final = 10


class ConfigError(Exception):
    """The configuration cannot be used; the text is one sentence for the operator."""


def _option(kind: Kind, text: str) -> dict[str, Any]:
    return {"kind": kind, "help": text}


def _count(default: int, high: int, text: str, low: int = 1) -> int:
    value: int = field(default=default, metadata=_option(Whole(low, high), text))
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of each thing is accepted; equal on every member of a cluster."""

    name_bytes_max: int = _count(
        DEFAULT_LIMITS.name_bytes_max, 4 * KIB, "name of a lock, election or queue"
    )
    key_bytes_max: int = _count(
        DEFAULT_LIMITS.key_bytes_max, 64 * KIB, "key of the key-value store"
    )
    value_bytes_max: int = _count(
        DEFAULT_LIMITS.value_bytes_max, 64 * MIB, "value, payload, result, savepoint"
    )
    request_bytes_max: int = _count(4 * MIB, 256 * MIB, "one request", KIB)
    txn_ops_max: int = _count(
        DEFAULT_LIMITS.txn_ops_max, 4096, "operations of one transaction"
    )
    lease_attachments_max: int = _count(
        DEFAULT_LIMITS.lease_attachments_max, 1_000_000, "what one lease holds"
    )
    range_delete_keys_max: int = _count(
        DEFAULT_LIMITS.range_delete_keys_max, 1_000_000, "keys of one range delete"
    )
    promotions_max: int = _count(
        DEFAULT_LIMITS.promotions_max, 100_000, "waiters promoted by one command"
    )
    state_bytes_max: int = _count(
        DEFAULT_LIMITS.state_bytes_max, 64 * GIB, "the whole state", MIB
    )

    def __post_init__(self) -> None:
        if self.value_bytes_max > self.request_bytes_max:
            raise ConfigError(
                f"limits.value_bytes_max ({self.value_bytes_max}) must not be more than"
                f" limits.request_bytes_max ({self.request_bytes_max})."
            )

    def of_apply(self) -> ApplyLimits:
        """Return the limits that the state machine enforces, these among them."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        del given["request_bytes_max"]  # bounds the doors; apply never sees a request
        return replace(DEFAULT_LIMITS, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a node is told at its start."""

    node_id: int = field(
        metadata=_option(Whole(1, NODE_ID_MAX), "which of the members this node is")
    )
    members: tuple[Member, ...] = field(
        metadata=_option(
            Members(), "the first members; later, addresses to try before any others"
        )
    )
    data_dir: Path = field(
        metadata=_option(Folder(), "folder of the node's two databases")
    )
    cluster: str = field(
        default="raftd", metadata=_option(Text(), "name of the cluster")
    )
    client_listen: Address = field(
        default=Address("127.0.0.1", 7400),
        metadata=_option(HostPort(0), "address for clients (gRPC and plain streams)"),
    )
    peer_listen: Address = field(
        default=Address("127.0.0.1", 7401),
        metadata=_option(HostPort(0), "address for the other members"),
    )
    http_listen: Address = field(
        default=Address("127.0.0.1", 7402),
        metadata=_option(HostPort(0), "address for health and metrics (HTTP)"),
    )
    advertise_client: Address | None = field(
        default=None,
        metadata=_option(HostPort(), "where clients reach this node, if not as listed"),
    )
    advertise_peer: Address | None = field(
        default=None,
        metadata=_option(
            HostPort(), "where the other members reach this node, if not as listed"
        ),
    )
    join: tuple[Address, ...] = field(
        default=(),
        metadata=_option(
            Addresses(), "peer addresses of a cluster that this node was added to"
        ),
    )
    heartbeat_ms: int = _count(100, 10_000, "interval of the leader's heartbeats", 10)
    election_ms: int = _count(1000, 100_000, "silence before an election", 100)
    checkpoint_log_bytes: int = _count(
        64 * MIB, 16 * GIB, "log written before a checkpoint", 64 * KIB
    )
    checkpoint_interval_ms: int = _count(
        60_000, 86_400_000, "time with writes before a checkpoint", 100
    )
    log_keep_bytes: int = _count(
        256 * MIB, 64 * GIB, "log kept for members that lag behind", 64 * KIB
    )
    ballast_bytes: int = _count(
        64 * MIB, 64 * GIB, "room kept for when the disk is full; 0 = none", 0
    )
    log_level: str = field(
        default="info",
        metadata=_option(
            Choice(("debug", "info", "warning", "error")), "what the logger shows"
        ),
    )
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        known = [member.id for member in self.members]
        if self.node_id not in known and not self.join:
            raise ConfigError(
                f"node_id {self.node_id} is not among the members {sorted(known)}."
            )
        if self.election_ms < ELECTION_HEARTBEATS_MIN * self.heartbeat_ms:
            raise ConfigError(
                f"election_ms ({self.election_ms}) must be at least"
                f" {ELECTION_HEARTBEATS_MIN} times heartbeat_ms ({self.heartbeat_ms})."
            )
        listened = (self.client_listen, self.peer_listen, self.http_listen)
        fixed = [str(address) for address in listened if address.port]
        if len(set(fixed)) < len(fixed):
            raise ConfigError(
                "client_listen, peer_listen and http_listen must differ, but are "
                + ", ".join(str(address) for address in listened)
                + "."
            )

    @property
    def listed(self) -> Member | None:
        """This node, as the list of members names it."""
        return next((m for m in self.members if m.id == self.node_id), None)

    @property
    def advertised_client(self) -> Address | None:
        """Where this node tells clients to find it; None if it cannot know."""
        listed = self.listed.client if self.listed else None
        return self.advertise_client or listed or _reachable(self.client_listen)

    @property
    def advertised_peer(self) -> Address | None:
        """Where this node tells the others to find it; None if it cannot know."""
        listed = self.listed.peer if self.listed else None
        return self.advertise_peer or listed or _reachable(self.peer_listen)


def _reachable(listen: Address) -> Address | None:
    """Return an address that others can dial, if what is listened on is one."""
    is_any = listen.host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not listened on
    return None if is_any or not listen.port else listen
