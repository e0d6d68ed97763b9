"""Planted bugs of snapshots, checkpoints and the cutting of logs.

Source: RELIABILITY.md rules 25 to 32; section 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftd.consensus import installing
from raftd.consensus.following import acknowledge
from raftd.consensus.messages import AppendReply, InstallSnapshot
from raftd.consensus.progress import ProgressState
from raftd.consensus.proposals import advance_commit
from raftd.consensus.state import State
from raftd.consensus.types import Install, NodeId
from raftd.consensus.view import FollowerView
from raftd.node import snapshots_in
from raftd.node.checkpoints import Checkpoints
from raftd.node.log_cut import LogCut
from raftd.node.replica import Replica
from raftd.statemachine.answers import Answer
from raftd.statemachine.machine import MachineLoading
from raftd.statemachine.rows import Row
from raftd.statemachine.sessions import Sessions
from raftd.statemachine.tables import RowKey, Table
from raftd.statemachine.window import Window
from tests.mutants.bug import Bug
from tests.mutants.finders import Played, Simulated
from tests.mutants.plays import a_member_that_was_away_comes_back_under_load
from tests.sim.focus import BUSY, SHIPPING

__all__ = ["SNAPSHOTS"]

_on_install = installing.on_install
_choose = LogCut.choose
_install = Replica._install  # noqa: SLF001  # put back in its own place
_encode_session = Sessions.encode_row


def _acknowledge_first(s: State, m: InstallSnapshot) -> None:
    """Acknowledge a snapshot whose install is only begun."""
    is_news = m.index > s.commit
    _on_install(s, m)
    if is_news:
        s.out.now.append(AppendReply(s.id, m.src, s.term, True, m.index))


class _LoadingWithoutSessions(MachineLoading):
    """Leaves sessions and their windows out of a snapshot."""

    def feed(self, rows: Iterable[Row]) -> None:
        """Take in most rows."""
        super().feed(row for row in rows if row[0] != Table.SESSIONS)


def _keep_the_suffix(s: State, m: InstallSnapshot) -> None:
    """Take any entry at the snapshot's index for the snapshot's own."""
    if s.commit < m.index <= s.log.last_index:
        advance_commit(s, m.index)
        acknowledge(s, m.src, m.index)
    else:
        _on_install(s, m)


def _store_the_old_one(_: Checkpoints) -> None:
    """Go on with checkpoints of a state that was replaced."""


def _keep_the_roster(self: Replica, install: Install) -> None:
    """Take up the state, and not who its members are."""
    roster = self.roster
    _install(self, install)
    self.roster = roster


def _cut_under_the_snapshot(
    self: LogCut,
    own_index: int,
    state_index: int,
    followers: Mapping[NodeId, FollowerView],
) -> int:
    others = {
        node: seen
        for node, seen in followers.items()
        if seen.state is not ProgressState.SNAPSHOT
    }
    return _choose(self, own_index, state_index, others)


def _spare_nothing(_: LogCut, upto: int, __: Mapping[NodeId, FollowerView]) -> int:
    return upto


async def _cut_at_once(self: Checkpoints, upto: int) -> None:
    """Cut the log up to what is applied, not to what is stored."""
    assert upto >= 0
    await self._log.cut_prefix(self._core.applied_index)


def _store_nothing(_: Window) -> list[tuple[int, int, Answer]]:
    return []


def _forget_window(self: Sessions, table: int, key: RowKey) -> bytes | None:
    stored = Window.stored
    setattr(Window, "stored", _store_nothing)  # noqa: B010  # a method, for a moment
    try:
        return _encode_session(self, table, key)
    finally:
        setattr(Window, "stored", stored)  # noqa: B010  # and back


SNAPSHOTS: Final = (
    Bug(
        name="install-acked-early",
        does="a snapshot is acknowledged before it is on disk",
        breaks=("DUR",),
        repeats="ZOOKEEPER-3642, -3911 and -4785, scenario 24",
        patches=((installing, "on_install", _acknowledge_first),),
        finder=Simulated(SHIPPING),
    ),
    Bug(
        name="install-keeps-suffix",
        does="a log with another entry at the snapshot's index is kept",
        breaks=("SMS", "LM"),
        repeats="Raft paper section 7, scenario 25",
        patches=((installing, "on_install", _keep_the_suffix),),
        finder=Simulated(
            SHIPPING,
            mark_log_bytes=1,
            downtime_us=600_000,
            op_interval_us=30_000,
            clients=6,
            faults=("partition",),
            shapes=("isolate",),
        ),
    ),
    Bug(
        name="old-state-over-new",
        does="a checkpoint of the state before an install is stored over the new one",
        breaks=("DET", "DUR"),
        repeats="etcd#18055, scenario 26",
        patches=((Checkpoints, "replace", _store_the_old_one),),
        finder=Simulated(
            SHIPPING, mark_log_bytes=1, downtime_us=300_000, faults=("full-disk",)
        ),
    ),
    Bug(
        name="snapshot-without-sessions",
        does="a state from a leader has no sessions: a write sent again counts twice",
        breaks=("XO", "DET"),
        repeats="thesis 6.3, scenario 18",
        patches=((snapshots_in, "MachineLoading", _LoadingWithoutSessions),),
        finder=Simulated(SHIPPING),
    ),
    Bug(
        name="snapshot-without-members",
        does="a state from a leader does not say who the members are",
        breaks=("CFG",),
        repeats="rule 28, RedisRaft#43",
        patches=((Replica, "_install", _keep_the_roster),),
        finder=Simulated(SHIPPING, changes=("add", "promote", "remove", "update")),
    ),
    Bug(
        name="window-not-in-checkpoint",
        does="a restarted node has forgotten what it had answered",
        breaks=("XO", "DET"),
        repeats="rule 47, scenario 18",
        patches=((Sessions, "encode_row", _forget_window),),
        finder=Simulated(),
    ),
    Bug(
        name="cut-under-a-snapshot",
        does="the log is cut under a snapshot on its way, and the next one begins anew",
        breaks=("LIV",),
        repeats="RedisRaft#43, scenario 28, rule 31",
        patches=(
            (LogCut, "choose", _cut_under_the_snapshot),
            (LogCut, "spare", _spare_nothing),
        ),
        finder=Played(a_member_that_was_away_comes_back_under_load),
    ),
    Bug(
        name="log-cut-too-far",
        does="the log is cut beyond the stored state: a restart has neither",
        breaks=("DUR",),
        repeats="etcd#14370 and #10508, rule 25",
        patches=((Checkpoints, "_cut", _cut_at_once),),
        finder=Simulated(BUSY, mark_log_bytes=1000, log_keep_bytes=0),
    ),
)
