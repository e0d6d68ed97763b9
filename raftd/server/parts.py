"""The parts of a node that are made of its settings and its data directory alone.

Source: DESIGN.md sections 4 to 6.
"""

from __future__ import annotations

import gc
import random
from importlib.metadata import version
from typing import Final

from raftd.consensus.config import Config
from raftd.consensus.core import Core
from raftd.consensus.state import Persisted
from raftd.consensus.types import Index, NodeId, Term
from raftd.node.backup import HeaderMaker, header_maker
from raftd.node.log_entries import LogEntries
from raftd.node.pace import Pace
from raftd.node.roster import Roster
from raftd.node.settings import ReplicaSettings
from raftd.node.state_loading import load_state
from raftd.server.clock import SystemClock
from raftd.server.config import Settings
from raftd.statemachine.machine import Machine, MachineLoading
from raftd.storage.directory import STATE_NAME
from raftd.storage.errors import BAD_ROWS, DamagedFiles
from raftd.storage.open import Stores

__all__ = ["load_machine", "make_backup_header", "make_core", "make_replica_settings"]

_TICKS_PER_HEARTBEAT: Final = 2
_SLICE_S: Final = 0.01
"""Of loading at start, when there is only the greeting of peers to be had besides."""


async def load_machine(settings: Settings, stores: Stores) -> Machine:
    """Load the state as of the newest checkpoint; peers are greeted meanwhile."""
    limits = settings.limits.of_apply()
    checkpoint = stores.recovery.checkpoint
    if checkpoint is None:
        return Machine(limits)
    loading = MachineLoading(
        limits, index=checkpoint.applied_index, digest=checkpoint.digest
    )
    pace = Pace(slice_s=_SLICE_S, rest_share=0.0)
    try:
        machine = await load_state(loading, stores.state.load(), pace)
    except BAD_ROWS as error:
        raise DamagedFiles(
            f"{settings.data_dir / STATE_NAME} holds rows that this raftd does not"
            f" understand: {error!r}."
        ) from error
    gc.freeze()  # it is there to stay
    return machine


def make_core(
    settings: Settings, stores: Stores, machine: Machine, roster: Roster
) -> Core:
    """Make the core as it was when the directory was closed, or left."""
    log = stores.recovery.log
    tick_ms = settings.heartbeat_ms // _TICKS_PER_HEARTBEAT
    return Core(
        Config(
            node_id=NodeId(settings.node_id),
            heartbeat_ticks=_TICKS_PER_HEARTBEAT,
            election_ticks=settings.election_ms // tick_ms,
        ),
        Persisted(
            membership=roster.membership,
            hard_state=log.hard_state,
            commit=log.commit,
            applied=Index(machine.applied_index),
            first_index=log.first_index,
            prev_term=log.previous_term,
            entries=log.tail,
            term_runs=[(run.first_index, Term(run.term)) for run in log.term_runs],
            reader=LogEntries(stores.log),
        ),
        random.Random(),  # spreads elections, guards nothing
    )


def make_backup_header(settings: Settings, cluster_id: bytes) -> HeaderMaker:
    """Make what says in a backup where it comes from."""
    return header_maker(
        cluster_name=settings.cluster,
        cluster_id=cluster_id,
        node_id=settings.node_id,
        release=version("raftd"),
        wall_ms=SystemClock().wall_ms,
    )


def make_replica_settings(settings: Settings) -> ReplicaSettings:
    """Tell a replica and its driver what of the settings is theirs."""
    return ReplicaSettings(
        tick_ms=settings.heartbeat_ms // _TICKS_PER_HEARTBEAT,
        heartbeat_ms=settings.heartbeat_ms,
        election_ms=settings.election_ms,
        mark_log_bytes=settings.checkpoint_log_bytes,
        mark_interval_ms=settings.checkpoint_interval_ms,
        log_keep_bytes=settings.log_keep_bytes,
    )
