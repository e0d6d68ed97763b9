"""A client with one endpoint, of a cluster whose machines are all replaced meanwhile.

It is told of one member, which is the first to leave or the last, and never given
another address: all that it knows of the new members it has learnt on the way.

Source: docs/adr/0010; SEMANTICS.md section 7; RELIABILITY.md codes CFG, DUR, XO.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from cluster.processes import Processes
from raftclient import MemberKind, aio
from tests.e2e.tools import eventually_asked, eventually_async, leader_of

pytestmark = pytest.mark.e2e

_S = 60.0
_PAUSE_S = 0.1


class _Trickle:
    """A slow count, each step known to be applied before the next."""

    def __init__(self) -> None:
        self.count = 0
        self.is_over = False

    async def run(self, client: aio.Client) -> None:
        while not self.is_over:
            self.count += 1
            assert await client.incr("count", timeout_s=_S) == self.count
            await asyncio.sleep(_PAUSE_S)

    async def go_on(self) -> None:
        """Wait until more is counted."""
        until = self.count + 5
        await eventually_async(lambda: self.count >= until, "the count goes on", _S)


@contextlib.asynccontextmanager
async def _trickling(client: aio.Client) -> AsyncIterator[_Trickle]:
    trickle = _Trickle()
    async with asyncio.TaskGroup() as group:
        group.create_task(trickle.run(client))
        try:
            yield trickle
        finally:
            trickle.is_over = True


async def _replace(nodes: Processes, operator: aio.Client, old: int) -> int:
    """Bring a new machine in for an old one, whose process ends by itself."""
    new = nodes.add()
    added = await operator.cluster.replace(
        f"n{old}", f"n{new}", nodes.peer_address(new), timeout_s=_S
    )
    assert added.node_id == new
    nodes.start_joining(new, new)

    async def is_replaced() -> bool:
        members = await operator.cluster.members(timeout_s=_S)
        kinds = {member.node_id: member.kind for member in members}
        return kinds.get(new) is MemberKind.VOTER and old not in kinds

    await eventually_asked(is_replaced, f"{new} takes the place of {old}", 2 * _S)
    assert nodes.wait(old) == 1, "a removed member ends by itself"
    return new


async def test_a_client_follows_when_all_members_are_replaced(
    nodes: Processes,
) -> None:
    """The leader that it is connected to is the last of the old ones to leave."""
    leader = leader_of(nodes)
    async with aio.connect(nodes.endpoint(leader), timeout_s=_S) as client:
        async with _trickling(client) as trickle:
            await trickle.go_on()
            others = [node_id for node_id in (1, 2, 3) if node_id != leader]
            for old in (*others, leader):
                await _replace(nodes, client, old)
                await trickle.go_on()
        assert nodes.running == [4, 5, 6]
        found = await client.get("count")
        assert found is not None
        assert int(found.value) == trickle.count
        status = await client.status()
        assert {member.node_id for member in status.members} == {4, 5, 6}
    async with aio.connect(nodes.endpoint(4), timeout_s=_S) as fresh:
        found = await fresh.get("count")
        assert found is not None
        assert int(found.value) == trickle.count
