"""What a node keeps in memory stays bounded, and is gone when nobody waits any more.

Rules: a leader has no more on its way to a follower than it may; a session keeps no
more answers than it may. When all clients are done, nobody waits on any node: not for
an entry, a ticket or a read.

Source: RELIABILITY.md rule 20 and section 6, item 10.
"""

from __future__ import annotations

from typing import Final

from raftd.consensus.types import Role
from raftd.node.replica import Replica
from raftd.statemachine.limits import DEFAULT_LIMITS
from tests.sim.options import Options
from tests.sim.world import SimFailure

__all__ = ["check_bounds", "check_nobody_waits"]

_ENTRY_BYTES: Final = 1 << 20
"""One append may go over the bound by an entry."""


def check_bounds(replica: Replica, options: Options) -> None:
    """Check what is on its way, and what is kept to be answered again."""
    core = replica.core
    if core.role is Role.LEADER:
        state = core._s  # noqa: SLF001  # what is looked at has no door
        bytes_max = state.config.inflight_bytes_max + _ENTRY_BYTES
        for peer, progress in state.progress.items():
            count = progress.inflight_messages
            if count > options.inflight_messages_max:
                raise SimFailure(f"{count} appends are on their way to n{peer}")
            if progress.inflight_bytes > bytes_max:
                raise SimFailure(f"{progress.inflight_bytes} bytes go to n{peer}")
    sessions = replica.machine.sessions
    for lease in replica.machine.leases.ids():
        view = sessions.view(lease)
        if view is not None and view.answers > DEFAULT_LIMITS.window_answers_max:
            raise SimFailure(f"session {lease} keeps {view.answers} answers")


def check_nobody_waits(node_id: int, replica: Replica) -> None:
    """Check that a node has forgotten whom it has answered."""
    batches, reads = replica._batches, replica.reads  # noqa: SLF001  # as above
    core = replica.core
    left: dict[str, object] = {
        "entries": [
            each
            for hits in batches._proposed.values()  # noqa: SLF001  # as above
            for each in hits
            # A session that nobody renews ends with an entry of its own, maybe now.
            if each.targets or each.term != core.term or each.index <= core.commit_index
        ],
        "requests": batches._queue,  # noqa: SLF001  # as above
        "renewals": batches._renewed,  # noqa: SLF001  # as above
        "tickets": replica._delivery._waiting,  # noqa: SLF001  # as above
        "reads": [
            *reads._new,  # noqa: SLF001  # as above
            *reads._failed,  # noqa: SLF001  # as above
            *reads._asked,  # noqa: SLF001  # as above
            *reads._confirmed,  # noqa: SLF001  # as above
        ],
    }
    for what, waiting in left.items():
        if waiting:
            raise SimFailure(f"n{node_id} still keeps {what}: {waiting}")
