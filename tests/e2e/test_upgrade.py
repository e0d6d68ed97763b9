"""A rolling upgrade from the release before: one node at a time, under load.

Each kind of node leads the other for a while. Members cannot be changed before all
nodes are of today, and can be afterwards; then there is no way back.

Source: RELIABILITY.md rule 54, section 5 (version mix); codes DET, DUR, XO.
"""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from raftclient import HandOver, MemberKind, PreconditionFailed, Unavailable, aio
from tests.e2e.busy import PATIENCE_S, Load, busy, tell
from tests.e2e.conftest import MakeNodes
from tests.e2e.mixed import MixedProcesses
from tests.e2e.tools import (
    eventually,
    eventually_asked,
    leader_of,
    status_of,
    told_by,
    wait_until_agreed,
    wait_until_serving,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_FLAGS = ("--checkpoint-interval-ms", "500", "--checkpoint-log-bytes", "262144")
_S = 30.0
_VALUE = b"v" * 65_536
_LARGE = 40
_TURNS = 8


class _Upgrade:
    """One upgrade of three nodes under load."""

    def __init__(self, nodes: MixedProcesses, load: Load, writes: int) -> None:
        self.nodes = nodes
        self.load = load
        self._writes = writes

    async def mix(self, leader: int) -> None:
        """Have a node lead the others for a while; all hold equal states.

        On a busy machine another may come to lead meanwhile; then all of it again.
        """
        nodes = self.nodes
        for _ in range(_TURNS):
            if await asyncio.to_thread(leader_of, nodes) != leader:
                await self._make_lead(leader)
            reign = await asyncio.to_thread(_reign, nodes, leader)
            await self.load.go_on(self._writes)
            await asyncio.to_thread(nodes.check_releases)
            await asyncio.to_thread(wait_until_agreed, nodes)
            if reign[1] and reign == await asyncio.to_thread(_reign, nodes, leader):
                self.load.lap()
                return
        pytest.fail(f"node {leader} never led for long")

    async def upgrade(self, node_id: int) -> None:
        """Upgrade a node."""
        await asyncio.to_thread(self.nodes.upgrade, node_id)
        await asyncio.to_thread(wait_until_serving, self.nodes)
        await self.load.go_on()
        self.load.lap()

    async def be_away(self, node_id: int) -> None:
        """Kill a node until much is written, start it again, and see it catch up.

        A node of the release before can take no snapshot: the log is kept for it.
        """
        nodes = self.nodes
        for _ in range(_TURNS):
            leader = await asyncio.to_thread(leader_of, nodes)
            reign = await asyncio.to_thread(_reign, nodes, leader)
            await self._miss_much(node_id, leader)
            # If another came to lead meanwhile, then all of it again.
            if reign[1] and reign == await asyncio.to_thread(_reign, nodes, leader):
                return
        pytest.fail("nobody led for long")

    async def _miss_much(self, node_id: int, leader: int) -> None:
        nodes = self.nodes
        await asyncio.to_thread(nodes.kill, node_id)
        async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
            for index in range(_LARGE):
                await client.put(f"large/{index}", _VALUE)
        await asyncio.to_thread(_wait_for_checkpoints, nodes, leader)
        nodes.start(node_id)
        await asyncio.to_thread(wait_until_serving, nodes)
        await asyncio.to_thread(wait_until_agreed, nodes)

    async def _make_lead(self, wanted: int) -> None:
        """Leave the one that is wanted with a voter whose log is behind."""
        nodes = self.nodes
        leader = await asyncio.to_thread(leader_of, nodes)
        third = next(n for n in nodes.ids if n not in (leader, wanted))
        nodes.kill(third)
        await self.load.go_on()
        nodes.kill(leader)
        nodes.start(third)
        await asyncio.to_thread(_eventually_leads, nodes, wanted)
        nodes.start(leader)
        await asyncio.to_thread(wait_until_serving, nodes)
        await asyncio.to_thread(leader_of, nodes)


def _reign(nodes: MixedProcesses, leader: int) -> tuple[int, bool]:
    """Ask a node for its term, and whether it leads."""
    status = told_by(nodes, leader)
    return status.term, status.leader == leader


def _eventually_leads(nodes: MixedProcesses, wanted: int) -> None:
    eventually(lambda: leader_of(nodes) == wanted, f"node {wanted} leads")


def _wait_for_checkpoints(nodes: MixedProcesses, node_id: int) -> None:
    """Wait until a node has made two of what it has now."""
    for _ in range(2):
        before = told_by(nodes, node_id)

        def look(index: int = before.last_index) -> bool:
            status = status_of(nodes, node_id)
            return status is not None and status.checkpoint_index >= index

        eventually(look, f"node {node_id} makes a checkpoint")


async def _add_a_fourth(endpoints: str) -> None:
    async with aio.connect(endpoints, timeout_s=_S) as client:
        await client.cluster.add("n4", "127.0.0.1:9", timeout_s=_S)


async def _check_no_changes(nodes: MixedProcesses, says: str) -> None:
    """Ask each node of today, and any: none changes the members."""
    current = [n for n in nodes.running if n not in nodes.previous]
    for endpoints in [*map(nodes.endpoint, current), nodes.endpoints]:
        await eventually_asked(
            partial(_is_refused, endpoints, says), f"it is refused in words: {says}"
        )


async def _is_refused(endpoints: str, says: str) -> bool:
    """Try to add a member; False while nobody leads, as for a moment may be."""
    with pytest.raises((PreconditionFailed, Unavailable)) as refused:
        await _add_a_fourth(endpoints)
    assert refused.value.applied == "no"
    assert says in str(refused.value) or isinstance(refused.value, Unavailable)
    return says in str(refused.value)


async def _check_changes(nodes: MixedProcesses) -> None:
    """Now a fourth member comes to vote."""
    number = nodes.add()
    async with aio.connect(nodes.endpoints, timeout_s=_S) as client:
        added = await client.cluster.add(f"n{number}", nodes.peer_address(number))
        nodes.start_joining(number, added.node_id)

        async def has_four() -> bool:
            members = await client.cluster.members()
            return [member.kind for member in members] == [MemberKind.VOTER] * 4

        await eventually_asked(has_four, "the fourth member votes")

        async def hand_over() -> HandOver | None:
            try:
                return await client.cluster.transfer(number)
            except PreconditionFailed as refusal:
                if "in time" not in str(refusal):
                    raise
                return None

        told = await eventually_asked(hand_over, "the fourth member takes over")
        assert told.leader == number


def _check_no_way_back(nodes: MixedProcesses, node_id: int) -> None:
    """A node that is started with the release before again ends with one sentence."""
    before = len(nodes.log(node_id))
    nodes.downgrade(node_id)
    assert nodes.wait(node_id) == 1
    errors = [
        line
        for line in nodes.log(node_id)[before:].splitlines()
        if line.startswith("error: ")
    ]
    assert len(errors) == 1
    assert "written by a later raftd" in errors[0]
    nodes.previous.remove(node_id)
    nodes.start(node_id)
    wait_until_serving(nodes)


@pytest.mark.parametrize(
    "writes",
    [
        200,
        pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(2400)]),
    ],
    ids=str,
)
async def test_a_rolling_upgrade_loses_nothing(
    make_nodes: MakeNodes, writes: int
) -> None:
    nodes = make_nodes(*_FLAGS, kind=MixedProcesses)
    assert isinstance(nodes, MixedProcesses)
    nodes.start()
    await asyncio.to_thread(wait_until_serving, nodes)
    last = await asyncio.to_thread(leader_of, nodes)
    first, second = (n for n in nodes.ids if n != last)
    async with busy(nodes.endpoints) as load:
        run = _Upgrade(nodes, load, writes)
        await run.mix(last)
        await run.upgrade(first)
        await run.mix(last)
        await _check_no_changes(nodes, "release")
        await run.mix(first)
        await _check_no_changes(nodes, "upgrade")
        await run.be_away(last)
        await run.upgrade(second)
        await run.mix(last)
        await run.mix(second)
        await _check_no_changes(nodes, "upgrade")
        await run.upgrade(last)
        await run.mix(first)
        await _check_changes(nodes)
        await load.go_on(writes)
        await asyncio.to_thread(_check_no_way_back, nodes, second)
        await load.go_on()
    await load.check(nodes.endpoints)
    await asyncio.to_thread(wait_until_agreed, nodes)
    tell("rolling upgrade", load)
