"""What waits for a change of the members, and what does not wait behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raftd.consensus.types import ConfigChange, NodeId
from raftd.node.member_sight import Shown
from raftd.node.members import CHANGES_MAX, PENDING, Members
from raftd.node.refusals import OVERLOADED
from raftd.node.service import UpdateMember
from raftd.node.settings import ReplicaSettings
from tests.node.lone import Lone

_OWN = Shown(b"i" * 16, 2, "h1:7401", "h1:7400", "n1")
_NEVER_MS = 3_600_000
_WISH = UpdateMember(9, name="nobody")
"""Of a member that there is not: cannot be done."""


class _Bench:
    """The care for a cluster of one; nobody looks again before something changes."""

    has_knocked = False

    def __init__(self) -> None:
        self.lone = Lone()
        self.lone.lead()
        self.news = asyncio.Event()
        self.members = Members(
            self.lone.replica,
            self,
            _OWN,
            ReplicaSettings(election_ms=_NEVER_MS),
            farewell=self,
            wake=lambda: None,
            changed=self._changed,
            fail=self._fail,
        )

    def is_up(self, peer: NodeId) -> bool:
        return True

    def shown(self, peer: NodeId) -> Shown | None:
        return None

    def tell(self, removed: Sequence[int]) -> None:
        raise AssertionError(removed)

    async def _changed(self) -> None:
        await self.news.wait()

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
    bench.news.set()
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
