"""What operators want, where nobody leads: refused in words, and in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftd.node.member_desk import Desk
from raftd.node.member_words import RemoveMember
from raftd.node.refusals import DEADLINE_NOT_PROPOSED
from raftd.statemachine.schema.base import Refusal
from tests.node.virtual_loop import in_virtual_time


class _Leaderless:
    """A member that waits for a leader in vain."""

    node_id = 1
    leader = 0
    may_lead = False
    trouble: Refusal | None = None

    async def leader_changed(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("timeout_s", [0.03, 0.25, 10.0])
@in_virtual_time
async def test_without_a_leader_it_is_said_in_time_that_nothing_happened(
    timeout_s: float,
) -> None:
    """Whoever asked gives up soon after, and would not know."""
    nobody: Any = None
    desk = Desk(_Leaderless(), nobody, nobody)
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    told = await desk.transfer_leadership(None, timeout_s)
    assert told == DEADLINE_NOT_PROPOSED
    assert told.details["applied"] == "no"
    assert await desk.change_members(RemoveMember(2), timeout_s) == told
    assert loop.time() - begin_s == pytest.approx(2 * timeout_s, abs=0.01)
