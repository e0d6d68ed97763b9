"""What waits for a change of the members, and what does not wait behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raftd.consensus.messages import Heartbeat
from raftd.consensus.types import ConfigChange, Index, NodeId, Term
from raftd.node.member_sight import Shown
from raftd.node.members import CHANGES_MAX, PENDING, Members
from raftd.node.refusals import OVERLOADED
from raftd.node.service import RemoveMember, UpdateMember
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.schema.base import Reason, Refusal
from tests.node.lone import Lone

_OWN = Shown(b"i" * 16, 2, "h1:7401", "h1:7400", "n1")
_NEVER_MS = 3_600_000
_TICK_MS = _NEVER_MS // 10
"""Ten in an election timeout, as the core has it."""

_WISH = UpdateMember(9, name="nobody")
"""Of a member that there is not: cannot be done."""


class _Bench:
    """The care of a leader; nobody looks again before something changes."""

    has_knocked = False

    def __init__(self, *others: int) -> None:
        """Lead alone, or beside others of whom only the first was heard."""
        self.lone = Lone(1, *others)
        if others:
            self.lone.win(others[0])
            self.lone.follow(others[0])
        else:
            self.lone.lead()
        assert self.lone.replica.may_propose
        self.news = asyncio.Event()
        self.members = Members(
            self.lone.replica,
            self,
            _OWN,
            ReplicaSettings(election_ms=_NEVER_MS, tick_ms=_TICK_MS),
            farewell=self,
            wake=lambda: None,
            changed=self._changed,
            fail=self._fail,
        )

    def is_up(self, peer: NodeId) -> bool:
        return True

    def shown(self, peer: NodeId) -> Shown | None:
        return Shown(
            bytes([peer]) * 16, 2, f"h{peer}:7401", f"h{peer}:7400", f"n{peer}"
        )

    def tell(self, removed: Sequence[int]) -> None:
        raise AssertionError(removed)

    async def _changed(self) -> None:
        await self.news.wait()

    def wake(self) -> None:
        """Have everybody look who waits for a change just now."""
        self.news.set()
        self.news = asyncio.Event()

    def _fail(self, sentence: str, error: BaseException | None) -> None:
        raise AssertionError(sentence) from error

    def begin_change(self) -> None:
        """Have a change under way."""
        self.lone.core.change(ConfigChange(()))
        assert self.lone.core.has_pending_change

    def end_change(self) -> None:
        """Carry it out; nobody is woken by that."""
        self.lone.settle()
        assert not self.lone.core.has_pending_change


async def _turns() -> None:
    """Let every task go on as far as it comes."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_so_many_changes_wait() -> None:
    bench = _Bench()
    bench.begin_change()
    waiting = [
        asyncio.create_task(bench.members.change(_WISH, _NEVER_MS))
        for _ in range(CHANGES_MAX)
    ]
    await _turns()
    assert await bench.members.change(_WISH, _NEVER_MS) == OVERLOADED
    bench.end_change()
    bench.wake()
    told = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert OVERLOADED not in told
    assert PENDING not in told
    assert await bench.members.change(_WISH, _NEVER_MS) != OVERLOADED, "all have left"


async def test_what_members_show_is_recorded_while_changes_wait() -> None:
    bench = _Bench()
    bench.begin_change()
    waiting = asyncio.create_task(bench.members.change(_WISH, _NEVER_MS))
    await _turns()
    bench.end_change()
    bench.members.start()
    try:
        await _turns()
        assert not waiting.done(), "it was not woken yet"
        bench.lone.settle()
        record = bench.members.roster.get(1)
        assert record is not None
        assert record.incarnation == _OWN.incarnation
    finally:
        await bench.members.stop()
        waiting.cancel()


async def test_a_new_leader_waits_for_who_has_had_no_time_to_be_heard() -> None:
    bench = _Bench(2, 3)
    change = asyncio.create_task(bench.members.change(RemoveMember(1), _NEVER_MS))
    hand_over = asyncio.create_task(bench.members.hand_over.transfer(3, _NEVER_MS))
    await _turns()
    assert not change.done(), "member 3 was judged before it could say anything"
    assert bench.lone.core.transfer_target is None
    bench.lone.follow(3)
    bench.wake()
    await _turns()
    assert bench.lone.core.has_pending_change
    assert bench.lone.core.transfer_target == 3
    change.cancel()
    hand_over.cancel()


async def test_after_an_election_timeout_who_is_silent_is_out_of_reach() -> None:
    bench = _Bench(2, 3)
    change = asyncio.create_task(bench.members.change(RemoveMember(1), _NEVER_MS))
    await _turns()
    for _ in range(10):
        bench.lone.tick()
        bench.lone.follow(2)
    bench.wake()
    told = await asyncio.wait_for(change, 10)
    assert isinstance(told, Refusal)
    assert "(3 cannot)" in told.sentence
    assert not bench.lone.core.has_pending_change


async def test_a_leader_that_ends_waits_for_nobody() -> None:
    bench = _Bench(2, 3)
    change = asyncio.create_task(bench.members.change(RemoveMember(3), _NEVER_MS))
    await _turns()
    assert not change.done()
    core = bench.lone.core
    bench.lone.hear(Heartbeat(NodeId(2), NodeId(1), Term(core.term + 1), Index(0)))
    bench.wake()
    told = await asyncio.wait_for(change, 10)
    assert isinstance(told, Refusal)
    assert told.reason is Reason.NOT_LEADER
