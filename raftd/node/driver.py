"""The asyncio shell of one replica: one loop, one writer, one tick.

Whatever comes in is handed to the replica at once and carried out in one turn per
round of the loop, so that everything that arrived together goes on together. An error
that is not an answer ends the node: ``failed`` carries the sentence. From then on
nothing goes out, heartbeats least of all.

Tasks: the writer (``write_queue``), the look at the disk (``disk_guard``), the tick (a
timer), and one checkpoint at a time (``checkpoints``).

Source: DESIGN.md section 3.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import SoftState, Write
from raftd.consensus.types import EntriesGone, NodeId, Role
from raftd.node.caretaker import Caretaker
from raftd.node.disk_guard import DiskGuard
from raftd.node.errors import NodeFailed
from raftd.node.owned import own
from raftd.node.ports import Clock, DiskPort, LogPort, PeerPort
from raftd.node.replica import Replica
from raftd.node.roster import Roster
from raftd.node.settings import ReplicaSettings
from raftd.node.sync_times import SyncTimes
from raftd.node.write_queue import WriteQueue
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.entry import MarkEntry
from raftd.storage.errors import StorageError

__all__ = ["Driver"]

_logger = logging.getLogger(__name__)


class Driver:
    """Carries out what a replica decides; see the module's rules."""

    def __init__(
        self,
        core: Core,
        machine: Machine,
        *,
        log: LogPort,
        disk: DiskPort,
        peers: PeerPort,
        clock: Clock,
        settings: ReplicaSettings,
    ) -> None:
        """Wire the parts; ``start`` sets them going on the running loop."""
        self.replica: Final = Replica(core, machine, self, settings)
        self._writes: Final = WriteQueue(log, self._on_stored, self.fail)
        self.guard: Final = DiskGuard(disk, self.fail)
        self.caretaker: Final = Caretaker(
            self.replica, self._writes, self.guard, peers, settings
        )
        self.guard.on_change = self._on_disk_change
        self._peers: Final = peers
        self._clock: Final = clock
        self._settings: Final = settings
        self._is_turn_due = False
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._tick: asyncio.TimerHandle | None = None
        self._tick_due_s = 0.0
        self._loop: Final = asyncio.get_running_loop()
        self.failed: Final[asyncio.Future[NodeFailed]] = self._loop.create_future()
        self.on_soft: Callable[[SoftState], None] = _ignore
        self.on_applied: Callable[[AppliedEntry], None] = _ignore
        self.on_mark: Callable[[int, MarkEntry], None] = _ignore_mark
        self.on_durable: Callable[[], None] = _nothing
        self.on_turn: Callable[[int], None] = _ignore
        self.on_snapshot_wanted: Callable[[NodeId], None] = _ignore
        self.on_roster: Callable[[Roster], None] = _ignore
        self.on_installed: Callable[[int], None] = _ignore

    @property
    def on_install(self) -> Callable[[Write], Awaitable[None]]:
        """Makes an installed state durable; awaited in the order of writes."""
        return self._writes.on_install

    @on_install.setter
    def on_install(self, install: Callable[[Write], Awaitable[None]]) -> None:
        self._writes.on_install = install

    @property
    def write_here(self) -> Callable[[Write], bool]:
        """Makes a write durable before it returns, or does nothing and says so."""
        return self._writes.write_here

    @write_here.setter
    def write_here(self, write_here: Callable[[Write], bool]) -> None:
        self._writes.write_here = write_here

    @property
    def sync_times(self) -> SyncTimes:
        """How long the newest log writes took."""
        return self._writes.sync_times

    # --- life -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick and to write."""
        self._tasks.append(own(self._writes.run(), "writing the log", self.fail))
        self._tasks.append(own(self.guard.run(), "guarding the disk", self.fail))
        self._tick_due_s = time.perf_counter()
        self._on_tick()

    async def stop(self) -> None:
        """End; what was not yet durable is lost as in a crash. May be called twice."""
        if self._tick is not None:
            self._tick.cancel()
        self._tick = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def fail(self, sentence: str, error: BaseException | None) -> None:
        """End the node: something happened that is no answer to anybody."""
        if error is not None and not isinstance(error, StorageError):
            _logger.error("node_failed reason=%s", sentence, exc_info=error)
        if not self.failed.done():
            failure = NodeFailed(sentence)
            failure.__cause__ = error
            self.failed.set_result(failure)

    # --- in ---------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn in the next round of the loop."""
        if not self._is_turn_due:
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    def receive(self, messages: Sequence[Message]) -> None:
        """Take in a peer's messages."""
        messages = self.caretaker.admit(messages)
        self._guard(partial(self.replica.step, messages), "a message of a peer")
        self.wake()

    def link_down(self, peer: NodeId, was_closed_by_peer: bool) -> None:
        """A link broke: nothing on it may be counted on."""
        core = self.replica.core
        core.unreachable(peer)
        if was_closed_by_peer and core.leader == peer:
            core.forget_leader()
        self.wake()

    def _on_tick(self) -> None:
        tick_s, now_s = self._settings.tick_ms / 1000, time.perf_counter()
        lag_s, self._tick_due_s = now_s - self._tick_due_s, now_s + tick_s
        self._tick = self._loop.call_later(tick_s, self._on_tick)
        self._guard(partial(self._pass_tick, max(0.0, lag_s)), "a tick")
        self.wake()

    def _pass_tick(self, lag_s: float) -> None:
        now_ms = self._clock.monotonic_ms()
        self.replica.tick(now_ms, self._clock.wall_ms())
        self.caretaker.on_tick(now_ms, lag_s)

    def _on_disk_change(self) -> None:
        self._guard(self.caretaker.on_disk_change, "what a full disk asks for")
        self.wake()

    def hand_over(self) -> None:
        """Give leadership to the follower that is furthest and in touch."""
        self._guard(self._begin_hand_over, "a hand-over")
        self.wake()

    def _begin_hand_over(self) -> None:
        self.caretaker.give_way()

    def _turn(self) -> None:
        self._is_turn_due = False
        self._guard(self._have_turn, "what was due")

    def _have_turn(self) -> None:
        self.replica.turn()
        self.caretaker.on_turn()
        self.on_turn(self.replica.monotonic_ms)

    def _guard(self, step: Callable[[], None], what: str) -> None:
        """Take a step; the node ends with what goes wrong, it guesses past nothing."""
        if self.failed.done():
            return
        try:
            step()
        except EntriesGone as error:
            self.fail(
                f"log.db has lost entries that this node had acknowledged ({error})."
                " Put the node in again as a new one: raftctl member replace.",
                None,
            )
        except Exception as error:  # any error here is a broken promise
            self.fail(f"{what} could not be carried out: {error!r}", error)

    # --- Effects ----------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        """Send, one write per peer."""
        if len(messages) == 1:
            self._peers.send(messages[0].dst, messages)
            return
        by_peer: dict[NodeId, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.dst, []).append(message)
        for peer, batch in by_peer.items():
            self._peers.send(peer, batch)

    def write(self, write: Write, send_after: Sequence[Message]) -> None:
        """Queue a write behind those under way."""
        self._writes.put(write, send_after)

    def changed(self, soft: SoftState) -> None:
        """Pass on who leads."""
        _logger.info(
            "role role=%s term=%d leader=%s", soft.role.value, soft.term, soft.leader
        )
        self.caretaker.on_role()
        self.on_soft(soft)

    def applied(self, entry: AppliedEntry) -> None:
        """Pass on what an entry did."""
        self.on_applied(entry)

    def marked(self, index: int, mark: MarkEntry) -> None:
        """Pass on that a checkpoint is due here."""
        self.on_mark(index, mark)

    @property
    def is_leader(self) -> bool:
        """Whether this member leads, whatever else is still to come."""
        return self.replica.core.role is Role.LEADER

    def snapshot_wanted(self, node: NodeId) -> None:
        """Pass on that a follower needs a snapshot."""
        self.on_snapshot_wanted(node)

    def roster_changed(self, roster: Roster) -> None:
        """Pass on who is a member now."""
        self.on_roster(roster)

    def installed(self, index: int) -> None:
        """Pass on that another's state took the place of this member's."""
        self.on_installed(index)

    def _on_stored(self, write: Write, send_after: Sequence[Message]) -> None:
        self._guard(partial(self._written, write, send_after), "a write's end")
        self._turn()

    def _written(self, write: Write, send_after: Sequence[Message]) -> None:
        if send_after:
            self.send(send_after)
        self.caretaker.on_stored()
        self.replica.stored(write.id)
        self.on_durable()


def _nothing() -> None:
    return


def _ignore(_: object) -> None:
    return


def _ignore_mark(_: int, __: MarkEntry) -> None:
    return
