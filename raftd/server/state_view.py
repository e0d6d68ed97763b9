"""How this member does: gathered for status, health and metrics."""

from __future__ import annotations

import dataclasses
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

from raftd.node.checkpoints import Checkpoints
from raftd.node.digests import Digests
from raftd.node.node import Node
from raftd.node.roster import LEVEL
from raftd.node.service import MemberInfo, MemberState
from raftd.node.snapshots_out import SnapshotsOut
from raftd.server.config import Settings
from raftd.statemachine.schema.base import Reason

__all__ = ["StateView"]


class StateView:
    """Reads what a status tells; changes nothing."""

    def __init__(
        self,
        node: Node,
        checkpoints: Checkpoints,
        digests: Digests,
        settings: Settings,
        snapshots_out: SnapshotsOut,
    ) -> None:
        self._node: Final = node
        self._checkpoints: Final = checkpoints
        self._digests: Final = digests
        self._settings: Final = settings
        self._snapshots_out: Final = snapshots_out
        self._begin: Final = time.monotonic()
        self._version: Final = version("raftd")
        self._limits: Final = " ".join(
            f"{name}={value}"
            for name, value in sorted(
                dataclasses.asdict(settings.limits.of_apply()).items()
            )
        )

    def own_state(self) -> MemberState:
        """Return this member's own view of itself."""
        node = self._node
        core, machine = node.driver.replica.core, node.machine
        data_dir = self._settings.data_dir
        info = self._info()
        snapshot_to, snapshot_percent = self._snapshots_out.progress()
        return MemberState(
            info=info,
            kind=info.kind,
            level=LEVEL,
            cluster=self._settings.cluster,
            limits=self._limits,
            wall_ms=time.time_ns() // 1_000_000,
            is_reachable=True,
            role=core.role.value,
            term=core.term,
            leader=core.leader or 0,
            commit_index=core.commit_index,
            applied_index=machine.applied_index,
            last_index=core.last_index,
            first_index=core.first_index,
            revision=machine.revision,
            log_bytes=_file_bytes(data_dir, "log.db"),
            state_bytes=_file_bytes(data_dir, "state.db"),
            sync_p50_us=node.driver.sync_times.p50_us(),
            sync_max_us=node.driver.sync_times.max_us(),
            version=self._version,
            uptime_ms=int((time.monotonic() - self._begin) * 1000),
            sessions=machine.leases.count(),
            keys=machine.kv.count_all,
            checkpoint_index=self._checkpoints.checkpoint_index,
            compared_index=self._digests.compared_index,
            snapshot_to=snapshot_to,
            snapshot_percent=snapshot_percent,
            disk_free_bytes=node.driver.guard.free_bytes,
            disk_total_bytes=node.driver.guard.total_bytes,
            is_disk_full=node.driver.guard.is_full,
            loop_lag_max_us=node.driver.caretaker.lags.max_us(),
            compared_at_ms=self._digests.age_ms(),
            last_contact_ms=node.age_ms(),
            log_entries=max(0, core.last_index - core.first_index + 1),
            config_pending=core.has_pending_change,
            trouble=self._trouble(),
            trouble_reason=self._trouble_reason(),
        )

    def _info(self) -> MemberInfo:
        """Return this member as the list of members has it."""
        node = self._node
        for member in node.members:
            if member.node_id == node.node_id:
                return member
        return MemberInfo(node.node_id, f"n{node.node_id}", "", "", "removed")

    def _trouble_reason(self) -> str:
        node = self._node
        if node.trouble is not None:
            return node.trouble.reason.value
        return Reason.DISK_FULL.value if node.driver.guard.is_full else ""

    def _trouble(self) -> str:
        node = self._node
        if node.trouble is not None:
            return node.trouble.sentence
        replica = node.driver.replica
        if node.driver.guard.is_full:
            return "the disk is full: this member takes no entries until there is room"
        if replica.is_clock_apart:
            return "this machine's clock is more than 10 s off the other members'"
        if replica.core.leader is None:
            return "no leader is known"
        if replica.core.unfit:
            return f"not fit to lead: {node.driver.caretaker.fitness.reason}"
        return ""


def _file_bytes(data_dir: Path, name: str) -> int:
    """Return the size of a database with its write-ahead log."""
    total = 0
    for suffix in ("", "-wal"):
        path = data_dir / (name + suffix)
        if path.exists():
            total += os.stat(path).st_size  # noqa: PTH116  # a size, not a tree walk
    return total
