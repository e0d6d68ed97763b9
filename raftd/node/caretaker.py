"""Keeps a member whose own disk, loop or clock is in trouble from leading.

Each tick is judged (``fitness``). A leader in trouble hands leadership over, or steps
down; a follower in trouble asks for no votes; a full disk takes no more entries. A
lone voter goes on whatever happens: nobody else can.

Rules: a hand-over holds writes up until it is over, so one that came to nothing is
tried again only after some time, and with another follower if there is one.

Source: RELIABILITY.md rules 12, 14 and 51.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from raftd.consensus.messages import Append, Message
from raftd.consensus.types import NodeId, Role
from raftd.node.disk_guard import DiskGuard
from raftd.node.fitness import Advice, Fitness
from raftd.node.hand_over import best_voter
from raftd.node.ports import PeerPort
from raftd.node.refusals import DISK_FULL, HANDING_OVER, behind_for_lack_of_room
from raftd.node.replica import Replica
from raftd.node.settings import ReplicaSettings
from raftd.node.sync_times import SyncTimes
from raftd.node.write_queue import Pending, WriteQueue
from raftd.statemachine.schema.base import Refusal

__all__ = ["Caretaker"]

_logger = logging.getLogger(__name__)

_TRY_AGAIN_ELECTIONS: Final = 4


class Caretaker:
    """See the module's rules."""

    def __init__(
        self,
        replica: Replica,
        writes: WriteQueue,
        guard: DiskGuard,
        peers: PeerPort,
        settings: ReplicaSettings,
    ) -> None:
        self.lags: Final = SyncTimes()
        self.fitness: Final = Fitness(settings.election_ms)
        self._replica: Final = replica
        self._writes: Final = writes
        self._guard: Final = guard
        self._peers: Final = peers
        self._settings: Final = settings
        self._refusal: Refusal | None = None
        self._now_ms = 0
        self._try_again_ms = 0
        self._last_target: NodeId | None = None
        writes.on_full = guard.note_full
        writes.on_begin = self._on_begin

    @property
    def is_full(self) -> bool:
        """Whether entries are refused for lack of room."""
        return self._guard.is_full

    @property
    def _is_leader(self) -> bool:
        return self._replica.core.role is Role.LEADER

    @property
    def _is_alone(self) -> bool:
        membership = self._replica.core.membership
        return len(membership.voters) == 1 and not membership.outgoing

    # --- ticks ------------------------------------------------------------------

    def on_tick(self, now_ms: int, lag_s: float) -> None:
        """Judge what was measured since the last tick, and act on it.

        Args:
            now_ms: Monotonic.
            lag_s: How late the loop came to this tick.
        """
        self._now_ms = now_ms
        self.lags.add(lag_s)
        fitness, core = self.fitness, self._replica.core
        was_fit = fitness.is_fit
        advice = fitness.judge(
            now_ms,
            write_age_ms=self._writes.age_ms,
            lag_ms=int(lag_s * 1000),
            is_full=self._guard.is_full,
        )
        if fitness.is_fit != was_fit:
            _logger.warning("fitness is_fit=%s %s", fitness.is_fit, fitness.reason)
        core.unfit = not fitness.is_fit and not self._is_alone
        if self._is_leader and not self._is_alone:
            self._lead_no_more(advice)
        self._tell_refusal()
        if self.is_full and not self._is_leader:
            self._replica.refuse_reads(behind_for_lack_of_room(core.leader))

    def _lead_no_more(self, advice: Advice) -> None:
        replica = self._replica
        if advice is Advice.STEP_DOWN:
            _logger.warning("step_down reason=%s", self.fitness.reason)
            replica.core.step_down()
        elif advice is Advice.HAND_OVER:
            self._hand_over_at_times(self.fitness.reason)
        elif replica.may_propose and replica.is_clock_apart:
            self._hand_over_at_times("the clock is apart from the others'")

    # --- handing over -----------------------------------------------------------

    def _hand_over_at_times(self, reason: str) -> None:
        if self._now_ms < self._try_again_ms:
            return
        _logger.warning("unfit_to_lead reason=%s", reason)
        self.fitness.pace.forget()
        self.give_way()

    def give_way(self) -> bool:
        """Begin to give leadership to the follower that is furthest and in touch.

        Returns:
            Whether a hand-over is under way.
        """
        core = self._replica.core
        if core.transfer_target is not None:
            return True
        to = self._heir()
        wait_ms = _TRY_AGAIN_ELECTIONS * self._settings.election_ms
        self._try_again_ms = self._now_ms + wait_ms
        if to is None:
            return False
        self._last_target = to
        _logger.info("hand_over to=%d", to)
        return core.transfer(to)

    def _heir(self) -> NodeId | None:
        """Say who is to lead: not who just did not take over, if there is another."""
        core, is_up = self._replica.core, self._peers.is_up
        another = None
        if self._now_ms < self._try_again_ms:
            last = self._last_target
            another = best_voter(core, lambda peer: peer != last and is_up(peer))
        return another or best_voter(core, is_up)

    # --- a full disk --------------------------------------------------------------

    def on_disk_change(self) -> None:
        """The disk is full, or has room again: act at once."""
        if self.is_full and self._is_leader and not self._is_alone:
            self.give_way()
        self._tell_refusal()

    def _tell_refusal(self) -> None:
        refusal = None
        if self.is_full:
            is_moving = self._replica.core.transfer_target is not None
            refusal = HANDING_OVER if is_moving else DISK_FULL
        if refusal is not self._refusal:
            self._refusal = refusal
            self._replica.refuse(refusal)

    def admit(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Leave out the entries for which a full disk has no room.

        What is never taken in is never acknowledged; the leader sends it again. An
        entry without payload is let in: it fits where votes do, and without its own
        no new leader could answer a read.
        """
        if not self.is_full:
            return messages
        return [
            m
            for m in messages
            if not isinstance(m, Append) or not any(e.payload for e in m.entries)
        ]

    # --- the pace of writes -------------------------------------------------------

    def _on_begin(self, pending: Pending) -> None:
        if pending.write.entries and self._is_leader:
            last = pending.write.entries[-1]
            self.fitness.pace.begin(last.index, pending.since_s)

    def on_stored(self) -> None:
        """A write is durable here."""
        self.fitness.pace.end(time.perf_counter(), is_leader=self._is_leader)

    def on_turn(self) -> None:
        """Look how far the followers are, if a write under way wants to know."""
        pace, core = self.fitness.pace, self._replica.core
        if pace.is_asking and self._is_leader:
            matches = core.match_indexes()
            del matches[core.node_id]
            if matches:
                pace.follower_at(max(matches.values()), time.perf_counter())

    def on_role(self) -> None:
        """Another leads, or this member begins to: old comparisons say nothing."""
        self.fitness.pace.forget()
        self._last_target = None
