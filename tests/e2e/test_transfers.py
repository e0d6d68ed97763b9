"""Leadership is handed over again and again under load, also to who is not there.

Source: RELIABILITY.md rule 12, section 5 (transfer under load); codes DUR, XO, FEN.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal

import pytest

from cluster.processes import Processes
from raftclient import HandOver, PreconditionFailed, aio
from tests.e2e.busy import PATIENCE_S, Load, busy, tell
from tests.e2e.tools import eventually_asked, leader_of, wait_until_agreed

pytestmark = pytest.mark.e2e

_WRITES = 40
_TO_NOBODY_EACH = 5
"""One hand-over of so many is to a member whose process stands still."""

_REFUSED = "did not take over in time|cannot be reached"


class _Transfers:
    def __init__(self, nodes: Processes, client: aio.Client) -> None:
        self._nodes = nodes
        self._client = client
        self.told_ms: list[int] = []
        self.refused = 0
        self.again = 0

    async def to(self, target: int) -> None:
        """Hand over; afterwards the target leads.

        Who stood still a moment ago does not campaign, so it may take a second try.
        """

        async def ask() -> HandOver | None:
            try:
                return await self._client.cluster.transfer(target, timeout_s=PATIENCE_S)
            except PreconditionFailed as refusal:
                if not re.search(_REFUSED, str(refusal)):
                    raise
                self.again += 1
                return None

        told = await eventually_asked(ask, f"node {target} takes over", PATIENCE_S)
        assert told.leader == target
        self.told_ms.append(told.paused_ms)

    async def to_nobody(self, target: int) -> None:
        """Try to hand over to a process that stands still; then let it go on."""
        self._nodes.signal(target, signal.SIGSTOP)
        try:
            with pytest.raises(PreconditionFailed, match=_REFUSED):
                await self._client.cluster.transfer(target, timeout_s=PATIENCE_S)
        finally:
            self._nodes.signal(target, signal.SIGCONT)
        self.refused += 1


async def _hand_over(nodes: Processes, load: Load, rounds: int) -> _Transfers:
    chance = random.Random(rounds)
    async with aio.connect(nodes.endpoints) as client:
        transfers = _Transfers(nodes, client)
        for number in range(1, rounds + 1):
            leader = await asyncio.to_thread(leader_of, nodes)
            target = chance.choice([n for n in nodes.ids if n != leader])
            if number % _TO_NOBODY_EACH:
                await transfers.to(target)
            else:
                await transfers.to_nobody(target)
            await load.go_on(_WRITES)
            load.lap()
    return transfers


@pytest.mark.parametrize(
    "rounds",
    [10, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
async def test_transfers_under_load_lose_nothing(nodes: Processes, rounds: int) -> None:
    async with busy(nodes.endpoints) as load:
        transfers = await _hand_over(nodes, load, rounds)
    await load.check(nodes.endpoints)
    await asyncio.to_thread(wait_until_agreed, nodes)
    told_ms = sorted(transfers.told_ms)
    tell(
        f"{len(told_ms)} transfers, {transfers.refused} more to a stopped member,"
        f" {transfers.again} to one that had just been"
        f" (told {told_ms[len(told_ms) // 2]} ms, at most {told_ms[-1]} ms)",
        load,
    )
